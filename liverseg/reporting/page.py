"""HTML pages from templates; every value is escaped, nothing is loaded from elsewhere."""

from collections.abc import Mapping
from typing import Any

import jinja2

# Table 1 of the paper and its threshold-free neighbours, shown as published beside one's own.
PUBLISHED = {
    "A1 multi-model": "0.738 ± 0.194",
    "A2 baseline": "0.700 ± 0.196",
    "between raters": "0.781 ± 0.121",
}


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return the page of `reporting/templates/<template>`; a missing value is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("liverseg.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = _score
    environment.filters["hours"] = _hours
    environment.filters["percent"] = _percent
    return environment.get_template(template).render(values)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _hours(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h"


def _percent(share: float) -> str:
    # Not 100 % where some did otherwise, nor 0 % where some did.
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"
