"""How far two masks cover each other: Dice and Jaccard (docs/method.md section 13)."""

from liverseg.core.volumes.volume import Mask


def dice(first: Mask, second: Mask) -> float:
    """Return 2 |A and B| / (|A| + |B|); 1 if both masks are empty."""
    _same_shape(first, second)
    return dice_of_counts(int((first & second).sum()), int(first.sum()), int(second.sum()))


def jaccard(first: Mask, second: Mask) -> float:
    """Return |A and B| / |A or B|; 1 if both masks are empty."""
    _same_shape(first, second)
    return jaccard_of_counts(int((first & second).sum()), int(first.sum()), int(second.sum()))


def dice_of_counts(both: int, first: int, second: int) -> float:
    """Return Dice from the voxels of both masks together and of each."""
    return 2 * both / (first + second) if first + second else 1.0


def jaccard_of_counts(both: int, first: int, second: int) -> float:
    """Return Jaccard from the voxels of both masks together and of each."""
    union = first + second - both
    return both / union if union else 1.0


def _same_shape(first: Mask, second: Mask) -> None:
    if first.shape != second.shape:
        raise ValueError(f"masks have different shapes: {first.shape} and {second.shape}")
