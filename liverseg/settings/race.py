"""How many seeds are raced, and for how long."""

from dataclasses import dataclass
from typing import Literal

from liverseg.settings.rules import Rule

# The seed of the baseline (docs/method.md section 10); no race uses it.
BASELINE_SEED = 9999


@dataclass(frozen=True)
class RaceSettings:
    """The multi-model schedule (docs/method.md section 9)."""

    seeds: int = 16
    """Trainings at the start; they differ only in their seed, 0 to seeds - 1."""
    minimum_iterations: int = 5_000
    """Iterations at the first rung."""
    maximum_iterations: int = 80_000
    """Iterations at the last."""
    eta: int = 2
    """One in eta is promoted."""
    rung_metric: Literal["best", "last"] = "best"
    """Rank by the best validation Jaccard so far, or by the one at the rung."""

    def rules(self) -> list[Rule]:
        """Return what a schedule needs of these values."""
        return [
            (self.seeds >= 1, f"race.seeds ({self.seeds}) must be at least 1"),
            (self.seeds <= BASELINE_SEED, f"race.seeds ({self.seeds}) must be <= {BASELINE_SEED}"),
            (self.eta >= 2, f"race.eta ({self.eta}) must be at least 2"),
            (
                1 <= self.minimum_iterations <= self.maximum_iterations,
                f"race.minimum_iterations ({self.minimum_iterations}) must be between 1 and "
                f"race.maximum_iterations ({self.maximum_iterations})",
            ),
        ]
