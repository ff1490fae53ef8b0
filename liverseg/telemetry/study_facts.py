"""The facts of one study that its metrics are computed from."""

from dataclasses import dataclass

from liverseg.race.records.decisions import Failure
from liverseg.race.records.facts import ControllerStart, Heartbeat
from liverseg.race.records.snapshot import Snapshot
from liverseg.race.records.study import Study


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

    @property
    def rests(self) -> bool:
        """Whether nothing is written any more until somebody starts a controller."""
        beat = self.heartbeat
        ended = "multi" in self.snapshot.results and not self.snapshot.unknown
        return ended and beat is not None and beat.released
