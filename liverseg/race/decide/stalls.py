"""Which running trainers have stalled: their process hangs, or their node does.

Time is the controller's own, between two sights of something new: a trainer's clock may differ by
any amount. It is not stored, so a new controller starts counting at zero.
"""

from collections.abc import Iterable, Mapping
from statistics import median

from liverseg.core.race.ledger import Span
from liverseg.race.records.job import Attempt

# Never given up before this, whatever the others do: a store or a network may be unavailable.
STALL_SECONDS = 1800.0
# Nor before as many times as long as validations are usually apart.
_INTERVALS = 10
# Before anybody has validated, nobody knows how long that takes.
_FIRST_SECONDS = 4 * 3600.0
# A controller that was asleep itself (a laptop, an unavailable store) has seen nothing new.
_LONGEST_LOOK = 600.0


class StallDetector:
    """Measures for how long each running trainer has written nothing new."""

    def __init__(self) -> None:
        self._heard: dict[Attempt, int] = {}
        self._unchanged: dict[Attempt, float] = {}
        self._looked = 0.0

    def look(
        self, now: float, running: Iterable[Attempt], spans: Mapping[Attempt, Span]
    ) -> frozenset[Attempt]:
        """Return the attempts among `running` to be given up; one that has not begun never is."""
        passed = max(0.0, min(now - self._looked, _LONGEST_LOOK))
        self._looked = now
        begun = {at: len(spans[at].samples) for at in running if at in spans}
        self._unchanged = {
            at: self._unchanged[at] + passed if self._heard.get(at) == samples else 0.0
            for at, samples in begun.items()
        }
        self._heard = begun
        if all(unchanged <= STALL_SECONDS for unchanged in self._unchanged.values()):
            return frozenset()
        gaps = [gap for span in spans.values() for _, gap in span.stretches if gap > 0]
        most = max(STALL_SECONDS, _INTERVALS * median(gaps)) if gaps else _FIRST_SECONDS
        return frozenset(at for at, unchanged in self._unchanged.items() if unchanged > most)
