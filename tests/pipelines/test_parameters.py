from typing import Any

import pytest

from liverseg.errors import SettingsError
from pipelines.parameters import check_cron, parse

DEFINITIONS: dict[str, dict[str, Any]] = {
    "data": {"parameterType": "STRING"},
    "gpus": {"parameterType": "NUMBER_INTEGER", "isOptional": True},
    "hours": {"parameterType": "NUMBER_DOUBLE", "isOptional": True},
    "compare": {"parameterType": "BOOLEAN", "isOptional": True},
    "labels": {"parameterType": "STRUCT", "isOptional": True},
    "taints": {"parameterType": "LIST", "isOptional": True},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data=a=b c", "a=b c"),
        ("data=4", "4"),
        ("gpus=4", 4),
        ("hours=4", 4.0),
        ("hours=1e2", 100.0),
        ("compare=True", True),
        ("compare=false", False),
        ('labels={"a": 1}', {"a": 1}),
        ("taints=[]", []),
    ],
)
def test_a_value_has_the_type_of_its_parameter(text: str, value: object) -> None:
    name = text.partition("=")[0]
    given = parse(DEFINITIONS, [text] if name == "data" else ["data=x", text])[name]
    assert (given, type(given)) == (value, type(value))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["data=x", "gpu=4"], "no parameter 'gpu'; it has data, gpus, hours"),
        (["data"], "write NAME=VALUE"),
        (["data=x", "data=y"], "'data' is given twice"),
        (["gpus=4"], "no value for data; give --param data="),
        (["data=x", "gpus=4.5"], "'gpus' must be a whole number, not '4.5'"),
        (["data=x", "gpus="], "'gpus' must be a whole number, not ''"),
        (["data=x", "hours=long"], "'hours' must be a number, not 'long'"),
        (["data=x", "compare=yes"], "'compare' must be true or false, not 'yes'"),
        (["data=x", "labels=[1]"], "'labels' must be a JSON object"),
        (["data=x", "taints={"], "'taints' must be a JSON list"),
    ],
)
def test_what_is_wrong_is_named(texts: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("{", r"\{").replace("[", r"\[")):
        parse(DEFINITIONS, texts)


def test_nan_and_infinity_are_no_numbers_that_can_be_sent() -> None:
    for text in ("hours=nan", "hours=inf"):
        with pytest.raises(SettingsError, match="must be a number"):
            parse(DEFINITIONS, ["data=x", text])


def test_cron_has_six_fields() -> None:
    check_cron("0 0 2 * * *")
    for cron in ("0 2 * * *", "", "0 0 2 * * * 2030"):
        with pytest.raises(SettingsError, match=f"has {len(cron.split())} fields"):
            check_cron(cron)
