"""Which contours teach, and who validates and tests."""

from dataclasses import dataclass
from typing import Literal

from liverseg.settings.rules import Rule, within


@dataclass(frozen=True)
class DataSettings:
    """Which contours teach, and what happens to a case that cannot be used."""

    training_rater: str = "R1"
    """The rater whose contours train, validate and fit the threshold baseline."""
    refused_cases: Literal["stop", "exclude"] = "stop"
    """Stop when a case is refused, or continue without it."""
    validation_fraction: float = 0.06
    """Share of patients that validate where there is no split file (5 of 82 in the paper)."""
    test_fraction: float = 0.23
    """Share of patients that test where there is no split file (19 of 82 in the paper)."""
    lesion_labels: tuple[int, ...] = ()
    """Labels that count as lesion in the raters' files; if empty, a file may have only one."""
    liver_labels: tuple[int, ...] = ()
    """Labels that count as liver, including those of lesions inside it; if empty, as above."""

    @property
    def labels(self) -> dict[str, tuple[int, ...]]:
        """Which labels count, sorted, by "lesion" and "liver"; only what is set."""
        chosen = {"lesion": self.lesion_labels, "liver": self.liver_labels}
        return {kind: tuple(sorted(set(labels))) for kind, labels in chosen.items() if labels}

    def rules(self) -> list[Rule]:
        """Return what a training needs of these values."""
        largest_label = 2**24  # float32 has every whole number up to it
        ranges = {
            "validation_fraction": (0, 1),
            "test_fraction": (0, 1),
            "lesion_labels": (1, largest_label),
            "liver_labels": (1, largest_label),
        }
        return [
            *within("data", self, ranges),
            (
                self.validation_fraction + self.test_fraction < 1,
                f"data.validation_fraction ({self.validation_fraction}) and data.test_fraction "
                f"({self.test_fraction}) must leave some cases to train",
            ),
        ]
