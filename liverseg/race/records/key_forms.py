"""What the keys of a race say: those that are read are written and read by these forms.

Rung, seed, iteration and attempt are numbers (a rung may be "baseline"), all else is text without
"_" and "/"; a Jaccard of "none" is None.
"""

import functools
import math
import re
from typing import Any

from liverseg.errors import IntegrityError

CHECKPOINT = "checkpoints/<seed>/<iteration>-a<attempt>/<file>"
CONTROLLER = "controllers/<generation>.json"
CURVE = "curves/<seed>/<iteration>-a<attempt>_<jaccard>.json"
DECISION = "rungs/<rung>/decision.json"
EVENT = "rungs/<rung>/attempts/<seed>-a<attempt>-<nonce>/<event>.json"
FAILURE = "rungs/<rung>/failures/<seed>-a<attempt>.json"
PROMOTION = "rungs/<rung>/promotions/<seed>.json"
REPORT = (
    "rungs/<rung>/reports/"
    "<seed>-a<attempt>_<best_jaccard>_<best_iteration>_<last_jaccard>_<sha256>.json"
)

# A second spelling of a key would be a second fact; and int() refuses thousands of digits.
_NUMBER = r"0|[1-9]\d{0,15}"
_NUMBERS = {"rung": _NUMBER + "|baseline", "seed": r"\d{4}"}
_NUMBERS |= {"iteration": _NUMBER, "attempt": _NUMBER, "generation": _NUMBER}
_PARTS = _NUMBERS | {"jaccard": r"none|\d+(?:\.\d+)?(?:e-\d+)?", "event": "[^/]+"}


def key_of(form: str, study: str, **values: Any) -> str:
    """Return the key of a form; `values` may be more than it names. A NaN is none, as in JSON."""

    def text(part: re.Match[str]) -> str:
        value = values[part[1]]
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return "none"
        return f"{value:04d}" if part[1] == "seed" else str(value)

    return f"studies/{study}/" + re.sub("<(.+?)>", text, form)


def named(key: str, form: str) -> dict[str, Any]:
    """Return what a key says; IntegrityError for one that nobody of a race writes."""
    match = pattern(form).fullmatch(key)
    if match is None:
        raise IntegrityError(
            f"'{key}' is not a valid key of a race (expected studies/<study>/{form}); delete it "
            "(see docs/store.md)"
        )
    said: dict[str, Any] = match.groupdict()
    numbers = {part: int(said[part]) for part in _NUMBERS.keys() & said if said[part].isdecimal()}
    return said | {p: None for p in said if "jaccard" in p and said[p] == "none"} | numbers


@functools.cache
def pattern(form: str) -> re.Pattern[str]:
    """Return the regular expression that a form stands for."""
    parts = re.sub("<(.+?)>", lambda m: f"(?P<{m[1]}>{_PARTS.get(m[1], '[^/_]*')})", form)
    return re.compile("studies/[^/]+/" + parts.replace(".json", r"\.json"), re.ASCII)
