import html

import jinja2
import pytest

from liverseg.reporting import page

VALUES = {
    "study": "<b>0123</b>",
    "synthetic": False,
    "rung": 0,
    "headline": "<script>alert(1)</script>",
    "rows": [],
    "curves": "data:,",
    "rung_bootstrap": {
        "rung": 0,
        "why_not": "<i>1</i> validation case",
        "metric": "best",
        "sure": 0.9,
    },
}


def test_every_value_is_text_and_never_html() -> None:
    text = page.render("rung.html.jinja", VALUES)
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_a_value_that_is_missing_is_an_error_and_not_a_hole() -> None:
    with pytest.raises(jinja2.UndefinedError, match="headline"):
        page.render("rung.html.jinja", {k: v for k, v in VALUES.items() if k != "headline"})


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0 %"), (0.004, "< 1 %"), (0.374, "37 %"), (0.9999, "> 99 %"), (1.0, "100 %")],
)
def test_a_share_is_only_all_or_nothing_where_it_is(share, shown) -> None:
    bootstrap = {
        "rung": 1,
        "why_not": None,
        "metric": "best",
        "sure": 0.9,
        "inside_noise": False,
        "repeated": share,
        "resamples": 1000,
        "cases": 5,
        "seeds": [
            {"seed": seed, "jaccard": 0.5, "promoted": True, "share": 0.5} for seed in (0, 1)
        ],
    }
    bootstrap["seeds"] = [row | {"inside_noise": False} for row in bootstrap["seeds"]]
    text = page.render("rung.html.jinja", VALUES | {"rung_bootstrap": bootstrap})
    assert f"{shown} of 1,000 resamples" in html.unescape(text)
