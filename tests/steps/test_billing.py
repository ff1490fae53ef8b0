"""What people say of the costs is checked before anything is started."""

from pathlib import Path

import pytest

from liverseg.errors import SettingsError
from liverseg.platform.current_user import current_user
from liverseg.steps.race.billing import Billing


@pytest.mark.parametrize(
    ("user", "price", "currency", "message"),
    [
        ("ada", 2.5, "euro", "currency 'euro' must be three capitals"),
        ("ada", -1.0, "EUR", r"gpu price \(-1.0\)"),
        ("ada", float("nan"), "EUR", r"gpu price \(nan\)"),
        ("ada\nliverseg_gpu 1", 0.0, "EUR", "must be one line"),
        ("a" * 101, 0.0, "EUR", "up to 100 characters"),
    ],
)
def test_what_is_no_price_and_no_name_is_refused(
    user: str, price: float, currency: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        Billing.chosen(user, price, currency)


def test_who_says_nothing_pays_and_knows_no_price() -> None:
    assert Billing.chosen("", 0.0, "EUR") == Billing(current_user(), None, "EUR")


def test_in_a_pod_the_namespace_pays(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    file.write_text("team-a\n")
    assert current_user(file) == "team-a"
    assert current_user(tmp_path / "none") not in ("", "team-a")
