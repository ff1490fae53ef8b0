"""How far two masks cover each other: Dice and Jaccard (science.md section 7)."""

from liverseg.core.volume import Mask


def dice(first: Mask, second: Mask) -> float:
    """Return 2 |A and B| / (|A| + |B|); 1 if both masks are empty."""
    _same_shape(first, second)
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def jaccard(first: Mask, second: Mask) -> float:
    """Return |A and B| / |A or B|; 1 if both masks are empty."""
    _same_shape(first, second)
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def _same_shape(first: Mask, second: Mask) -> None:
    if first.shape != second.shape:
        raise ValueError(f"masks have different shapes: {first.shape} and {second.shape}")
