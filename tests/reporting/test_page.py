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
}


def test_every_value_is_text_and_never_html() -> None:
    text = page.render("rung.html.jinja", VALUES)
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "<b>" not in text


def test_a_value_that_is_missing_is_an_error_and_not_a_hole() -> None:
    with pytest.raises(jinja2.UndefinedError, match="headline"):
        page.render("rung.html.jinja", {k: v for k, v in VALUES.items() if k != "headline"})
