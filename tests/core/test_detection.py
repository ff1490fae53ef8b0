import itertools
import time

import numpy as np
import pytest
from hypothesis import assume, given

from liverseg.core.evaluation import lesion_cluster
from liverseg.core.evaluation.delineation import Delineation, Lesions
from liverseg.core.evaluation.detection import Counts, Detection, match
from liverseg.core.evaluation.lesion_cluster import SUBSET_CAP
from tests.core import dense_matcher
from tests.core.masks import flips, pairs


def row(*spans: tuple[int, int]) -> np.ndarray:
    """A mask of one line of voxels, True from the first number of a span up to the second."""
    mask = np.zeros((1, 1, 60), bool)
    for start, stop in spans:
        mask[0, 0, start:stop] = True
    return mask


def detect(predicted: np.ndarray, reference: np.ndarray) -> Detection:
    """Match the lesions of two masks of one shape."""
    spacing_mm = (1.0, 1.0, 1.0)
    return match(*(Delineation.of(mask, spacing_mm).lesions for mask in (predicted, reference)))


def counts(predicted: np.ndarray, reference: np.ndarray) -> tuple[tuple[int, ...], ...]:
    detection = detect(predicted, reference)
    return tuple((c.tp, c.fp, c.fn) for c in (detection.lesion, detection.correspondence))


@pytest.mark.parametrize(
    ("predicted", "reference", "lesion", "correspondence"),
    [
        pytest.param([(0, 5)], [(0, 5)], (1, 0, 0), (1, 0, 0), id="the same"),
        pytest.param([], [(0, 5)], (0, 0, 1), (0, 0, 1), id="nothing predicted"),
        pytest.param([(0, 5)], [], (0, 1, 0), (0, 1, 0), id="nothing to find"),
        pytest.param([], [], (0, 0, 0), (0, 0, 0), id="neither"),
        pytest.param([(0, 5)], [(9, 14)], (0, 1, 1), (0, 1, 1), id="side by side"),
        pytest.param([(0, 11)], [(0, 5), (6, 11)], (2, 0, 0), (1, 0, 0), id="one finds two"),
        pytest.param([(0, 5), (6, 11)], [(0, 11)], (1, 0, 0), (1, 0, 0), id="two find one"),
        # 2 * 1 / (5 + 5) is 0.2 exactly, which is not enough; 2 * 1 / (5 + 4) is.
        pytest.param([(0, 5)], [(4, 9)], (0, 1, 1), (0, 1, 1), id="Dice of 0.2"),
        pytest.param([(0, 5)], [(4, 8)], (1, 0, 0), (1, 0, 0), id="Dice above 0.2"),
        # Both small references weigh little: the best subset is the large one alone.
        pytest.param(
            [(0, 20)], [(0, 18), (19, 49)], (1, 0, 1), (1, 0, 1), id="a subset of the references"
        ),
        # The last prediction is visited first, fails with the reference, and takes its whole
        # closure with it: the first prediction, which would have matched, is counted false.
        pytest.param(
            [(0, 1), (2, 3), (4, 5)],
            [(0, 30)],
            (0, 3, 1),
            (0, 1, 1),
            id="a rejected closure takes every prediction with it",
        ),
    ],
)
def test_counts_by_hand(predicted, reference, lesion, correspondence) -> None:
    assert counts(row(*predicted), row(*reference)) == (lesion, correspondence)


def test_predictions_are_visited_from_the_last_to_the_first() -> None:
    # The short one matches the reference and takes it; the long one is left without any.
    predicted, reference = row((0, 30), (31, 36)), row((29, 36))
    assert counts(predicted, reference) == ((1, 1, 0), (1, 1, 0))
    # Turned around, the long one comes first and matches only together with the short one.
    assert counts(predicted[..., ::-1], reference[..., ::-1]) == ((1, 0, 0), (1, 0, 0))


def test_lesions_touch_over_corners_but_not_over_gaps() -> None:
    predicted = np.zeros((2, 2, 2), bool)
    predicted[0, 0, 0] = predicted[1, 1, 1] = True
    assert counts(predicted, np.zeros_like(predicted)) == ((0, 1, 0), (0, 1, 0))
    assert counts(row((0, 1), (2, 3)), row()) == ((0, 2, 0), (0, 2, 0))


def test_above_the_cap_all_and_all_but_one_are_tried_and_that_is_reported() -> None:
    spans = [(3 * n, 3 * n + 2) for n in range(SUBSET_CAP + 1)]
    whole = row((0, 60))
    detection = detect(whole, row(*spans))
    assert detection.capped
    assert detection.lesion == Counts(SUBSET_CAP + 1, 0, 0)
    assert not detect(whole, row(*spans[1:])).capped
    # One large reference that hardly overlaps is the one that is left out.
    detection = detect(row((0, 38)), row(*spans[:12], (37, 60)))
    assert (detection.capped, detection.lesion) == (True, Counts(12, 0, 1))


@pytest.mark.parametrize(
    ("numbers", "recall", "precision", "f1"),
    [
        ((2, 1, 2), 1 / 2, 2 / 3, 4 / 7),
        ((0, 0, 3), 0.0, 0.0, 0.0),
        ((0, 2, 0), None, 0.0, 0.0),
        ((0, 0, 0), None, None, None),
    ],
)
def test_scores_where_there_is_nothing(numbers, recall, precision, f1) -> None:
    count = Counts(*numbers)
    assert (count.recall, count.precision, count.f1) == pytest.approx((recall, precision, f1))


def components(mask: np.ndarray) -> list[frozenset[tuple[int, ...]]]:
    """26-connected components as sets of voxels, in scan order; written out, without scipy."""
    left = {tuple(v) for v in np.argwhere(mask).tolist()}
    steps = [s for s in itertools.product((-1, 0, 1), repeat=3) if any(s)]
    groups = []
    for start in sorted(left):
        if start not in left:
            continue
        group, todo = set(), [start]
        left.remove(start)
        while todo:
            voxel = todo.pop()
            group.add(voxel)
            for step in steps:
                near = tuple(a + b for a, b in zip(voxel, step, strict=True))
                if near in left:
                    left.remove(near)
                    todo.append(near)
        groups.append(frozenset(group))
    return groups


def touching(these, those):
    union = frozenset().union(*those)
    return [one for one in these if one & union]


def union_dice(these, those) -> float:
    first, second = frozenset().union(*these), frozenset().union(*those)
    return 2 * len(first & second) / (len(first) + len(second))


def by_the_letter(predicted: np.ndarray, reference: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """docs/method.md section 13, on sets of voxels, without numbers, sizes or overlap tables."""
    predictions, references = components(predicted), components(reference)
    total = len(references)
    tp = fp = accepted = false_clusters = missed_clusters = 0
    in_rejected = set()
    for p in predictions[::-1]:
        if p not in predictions:
            continue
        t, s = [p], touching(references, [p])
        if not s:
            predictions.remove(p)
            fp, false_clusters = fp + 1, false_clusters + 1
            continue
        candidates = []
        while True:
            subsets = [c for n in range(1, len(s) + 1) for c in itertools.combinations(s, n)]
            candidates += [(t, list(subset)) for subset in subsets]
            grown = touching(predictions, s)
            if len(grown) > len(t):
                t = grown
                candidates += [(t, list(subset)) for subset in subsets]
            wider = touching(references, t)
            if len(wider) == len(s):
                break
            s = wider
        scores = [union_dice(*candidate) for candidate in candidates]
        best_t, best_s = candidates[scores.index(max(scores))]
        if max(scores) > 0.2:
            tp, accepted = tp + len(best_s), accepted + 1
            predictions = [one for one in predictions if one not in best_t]
            references = [one for one in references if one not in best_s]
        else:
            fp += len(t)
            false_clusters, missed_clusters = false_clusters + 1, missed_clusters + 1
            predictions = [one for one in predictions if one not in t]
            in_rejected |= set(s)
    unmatched = [one for one in references if one not in in_rejected]
    missed = missed_clusters + len(unmatched)
    return (tp, fp, total - tp), (accepted, false_clusters, missed)


def test_it_counts_what_the_rule_spells_out() -> None:
    rng = np.random.default_rng(7)
    seen = set()
    for _ in range(400):
        shape = tuple(rng.integers(1, (4, 8, 8), endpoint=True))
        masks = [rng.random(shape) < rng.choice([0.05, 0.12, 0.2, 0.3]) for _ in range(2)]
        if max(len(components(m)) for m in masks) > 10:
            continue
        expected = by_the_letter(*masks)
        assert counts(*masks) == expected
        seen.add(expected)
    assert len(seen) > 50  # the masks were of many kinds


def test_lines_of_lesions_that_chain_into_each_other() -> None:
    """Random spans on a line overlap in long chains, where growing and subsets matter."""
    rng = np.random.default_rng(11)
    both_units_differ = 0
    for _ in range(300):
        masks = []
        for _ in range(2):
            cuts = np.sort(rng.choice(60, 12, replace=False))
            masks.append(row(*zip(cuts[::2], cuts[1::2], strict=True)))
        expected = by_the_letter(*masks)
        assert counts(*masks) == expected
        both_units_differ += expected[0] != expected[1]
    assert both_units_differ > 100


@given(pairs)
def test_counts_stay_in_their_bounds_and_every_accepted_cluster_is_above_the_limit(masks) -> None:
    predicted, reference = masks
    predictions, references = components(predicted), components(reference)
    detection = detect(predicted, reference)
    assert 0 <= detection.lesion.tp <= len(references)
    assert 0 <= detection.lesion.fp <= len(predictions)
    assert detection.lesion.tp + detection.lesion.fn == len(references) == len(detection.matched)
    assert sum(detection.matched) == detection.lesion.tp
    assert len(detection.clusters) == detection.correspondence.tp
    matched = []
    for these, those in detection.clusters:
        dice = union_dice([predictions[n] for n in these], [references[n] for n in those])
        assert dice > 0.2
        matched += those
    assert sorted(matched) == [n for n, hit in enumerate(detection.matched) if hit]


@given(pairs)
def test_it_counts_what_the_rule_spells_out_for_any_small_masks(masks) -> None:
    assume(max(len(components(m)) for m in masks) <= 8)
    assert counts(*masks) == by_the_letter(*masks)


@given(pairs, flips)
def test_lesions_that_touch_one_at_most_are_counted_alike_however_they_are_turned(
    masks, axes
) -> None:
    """Where no cluster is larger than a pair, the visiting order cannot matter."""
    predictions, references = (components(m) for m in masks)
    assume(all(len(touching(references, [p])) <= 1 for p in predictions))
    assume(all(len(touching(predictions, [r])) <= 1 for r in references))
    hits = sum(union_dice([p], [r]) > 0.2 for p in predictions for r in references)
    expected = hits, len(predictions) - hits, len(references) - hits
    assert counts(*(np.flip(m, axes) for m in masks))[0] == expected


def chain(count: int, wide: int, start: int) -> np.ndarray:
    """Rods along y, alternating between two columns, so that a shifted one bridges neighbours."""
    mask = np.zeros((80, 512, 512), bool)
    for number in range(count):
        z, x = divmod(number, 20)
        left = start + 20 * x
        mask[8 * z : 8 * z + 4, 200:260, left : left + wide] = True
    return mask


@pytest.mark.parametrize(
    ("wide", "start"),
    [(14, 27), (19, 21), (16, 33)],
    ids=["every one bridges two", "nearly touching", "rather alone"],
)
@pytest.mark.slow
def test_200_lesions_each_in_a_large_volume_take_no_longer_than_2_seconds(wide, start) -> None:
    predicted, reference = chain(200, wide, start), chain(200, 14, 20)
    began = time.process_time()
    detection = detect(predicted, reference)
    seconds = time.process_time() - began
    assert detection.lesion.tp + detection.lesion.fn == 200
    assert seconds < 2


def lesions(mask: np.ndarray) -> Lesions:
    return Delineation.of(mask, (1.0, 1.0, 1.0)).lesions


def noise(rng: np.random.Generator) -> list[np.ndarray]:
    """Two masks of noise, more or less alike; clusters from pairs to hundreds of lesions."""
    shape = tuple(rng.integers((1, 1, 4), (6, 24, 60)))
    first = rng.random(shape) < rng.choice([0.02, 0.06, 0.1, 0.2, 0.35])
    second = rng.random(shape) < rng.choice([0.02, 0.06, 0.1, 0.2, 0.35])
    return [first, np.where(rng.random(shape) < rng.choice([0.0, 0.3, 0.8]), first, second)]


def spans(rng: np.random.Generator) -> list[np.ndarray]:
    """Lines of spans that chain into each other; beside long ones lie many short ones."""
    masks = np.zeros((2, 1, 1, 400), bool)
    for mask in masks:
        start = 0
        longest = int(rng.choice([3, 8, 40, 200]))
        while start < 400:
            stop = start + int(rng.integers(1, longest, endpoint=True))
            mask[0, 0, start:stop] = True
            start = stop + int(rng.integers(1, 4))
    return list(masks)


@pytest.mark.parametrize("kind", [noise, spans])
def test_it_matches_what_the_matcher_with_all_pairs_matches(kind) -> None:
    rng = np.random.default_rng(3)
    capped = large = 0
    for _ in range(300):
        predicted, reference = (lesions(mask) for mask in kind(rng))
        expected = dense_matcher.match(predicted, reference)
        assert match(predicted, reference) == expected
        capped += expected.capped
        large += max((len(c[1]) for c in expected.clusters), default=0) > SUBSET_CAP
    assert capped > 20
    assert large > 10  # clusters of which all references but one are tried


MANY = 100_000


def one_each() -> tuple[np.ndarray, np.ndarray]:
    """Lesions of one voxel, three in ten of them not predicted."""
    reference = np.zeros((100, 141, 141), bool)
    reference[::2, ::3, ::3] = True
    predicted = reference & (np.random.default_rng(0).random(reference.shape) > 0.3)
    return predicted, reference


def one_over_all() -> tuple[np.ndarray, np.ndarray]:
    """One prediction over all references."""
    predicted, reference = one_each()
    return np.ones_like(predicted), reference


def one_chain() -> tuple[np.ndarray, np.ndarray]:
    """A line of lesions; each of one side touches two of the other, so that all are one cluster."""
    masks = np.zeros((2, 1, 1, 4 * MANY + 4), bool)
    for mask, start in zip(masks, (0, 2), strict=True):
        for shift in range(3):
            mask[..., start + shift : 4 * MANY + 2 : 4] = True
    return masks[0], masks[1]


def noises() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first, second = (rng.random((80, 256, 256)) < 0.05 for _ in range(2))
    return first, second


@pytest.mark.slow
@pytest.mark.parametrize("scene", [one_each, one_over_all, one_chain, noises])
def test_100_000_lesions_a_side_take_seconds(scene) -> None:
    predicted, reference = (lesions(mask) for mask in scene())
    assert max(len(predicted), len(reference)) > 0.99 * MANY
    began = time.process_time()
    detection = match(predicted, reference)
    seconds = time.process_time() - began
    assert len(detection.matched) == len(reference)
    assert seconds < 10


def test_of_references_whose_absence_gives_the_same_dice_the_first_is_left_out() -> None:
    leave_one_out = lesion_cluster._LeaveOneOut()
    sizes, shared = [0, 0, 0, 12, 0, 8], {5: 1, 3: 2}
    leave_one_out.add([5, 3], sizes, shared)
    # 2 (9 - 1) / (40 - 8) and 2 (9 - 2) / (40 - 12)
    assert leave_one_out.best(shared, 9, 40) == (0.5, 3)
