"""The facts of one study that its metrics are computed from."""

from dataclasses import dataclass

from liverseg.race.records.decisions import Failure
from liverseg.race.records.facts import ControllerStart, Heartbeat
from liverseg.race.records.snapshot import Snapshot
from liverseg.race.records.study import Study

# Longer than any trainer works without a controller.
QUIET_SECONDS = 3600.0


@dataclass(frozen=True)
class StudyFacts:
    """What the store has said of a study at one moment."""

    study: Study
    snapshot: Snapshot
    heartbeat: Heartbeat | None
    failures: tuple[Failure, ...]
    """Of all rungs, decided ones included."""
    controller: ControllerStart | None
    """What the newest controller said of itself; None before the first."""

    def rests(self, now: float) -> bool:
        """Return whether nothing is to be expected of the study until somebody runs it.

        That is before its first controller, once the last one has ended and all trainers with it,
        and where nothing was heard of it for an hour before unix time `now`.
        """
        if self.heartbeat is None:
            return True
        spans = self.snapshot.spans.values()
        if self.heartbeat.released and all(span.ended for span in spans):
            return True
        heard = max((span.samples[-1].time for span in spans), default=0.0)
        return now - max(heard, self.heartbeat.time) > QUIET_SECONDS
