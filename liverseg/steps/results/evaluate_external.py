"""Evaluate segmentations that came from anywhere: files in, one JSON document out.

Knows nothing of a study. Cases run in processes of their own, as many as fit into the memory
that is given; a case that cannot be evaluated is left out and named.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from liverseg.core.evaluation.case import Values, evaluate_case, outside_liver
from liverseg.core.evaluation.delineation import Delineation
from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError, reason
from liverseg.imaging.files import check_same_grid, voxels_of
from liverseg.imaging.masks import LabelMask, read_mask
from liverseg.imaging.resampling import nearest, voxels_outside
from liverseg.platform.file_names import readable
from liverseg.platform.workers import Died, run_each
from liverseg.steps.results.case_discovery import CaseFiles, Excluded
from liverseg.steps.results.evaluation_document import document

BYTES_PER_VOXEL = 26
"""A file of float64 as it is read, turned to LPS, and cut: the most that is held at a time.

The distance transform of masks far apart comes later and takes half of it.
"""
LARGEST_PLAIN_SHARE = 0.5
"""A plain mask larger than this share of what a prediction has labelled may be the liver."""
PROCESS_MB = 150
"""Of a process before it reads anything: numpy, scipy and SimpleITK."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """How files are read."""

    labels: tuple[int, ...] = ()
    """Lesions, in files of labels; none: the only label that a file has."""
    liver_labels: tuple[int, ...] = ()
    """The liver, its lesions included; none: the only label of its file."""
    resample_prediction: bool = False
    """Bring a prediction on another grid to the raters', nearest neighbour; else an error."""
    plain_masks: tuple[str, ...] = ()
    """Raters and algorithms whose files are masks and no files of labels."""

    def labels_of(self, name: str) -> tuple[int, ...]:
        """Return which labels are lesion in a rater's or an algorithm's files."""
        return () if name in self.plain_masks else self.labels


def run(
    cases: Sequence[CaseFiles],
    excluded: Sequence[Excluded],
    raters: Sequence[str],
    algorithms: Sequence[str],
    options: Options,
    jobs: int = 1,
    memory_mb: int = 4096,
    progress: Progress = lambda what, done, total: None,
) -> Values:
    """Return the document of schemas/evaluation-1.json.

    Where labels are chosen, the cases are evaluated once more if some of the raters and algorithms
    turn out to have masks instead of labels (`plain_masks`).

    Raises CaseError where no case at all could be evaluated, with the first case's reason.
    """
    by_case: dict[str, Values] = {}
    left_out: list[Excluded] = []

    def evaluate(options: Options) -> None:
        by_case.clear()
        left_out[:] = excluded
        for number, (name, result) in enumerate(_results(cases, options, jobs, memory_mb), 1):
            progress(f"evaluate {name}", number, len(cases))
            if isinstance(result, str):
                left_out.append(Excluded(name, result))
            else:
                by_case[name] = result

    evaluate(options)
    if plain := plain_masks([case["labels"] for case in by_case.values()], raters, options.labels):
        options = replace(options, plain_masks=plain)
        evaluate(options)
    left_out.sort(key=lambda one: one.case)
    if not by_case:
        first = left_out[0]
        of = f" (the first of {len(left_out)} cases)" if len(left_out) > 1 else ""
        raise CaseError(f"{first.case}{of}: {first.reason}")
    ordered = [by_case[case.name] for case in cases if case.name in by_case]
    with_liver = any(case.liver is not None for case in cases)
    return document(
        ordered,
        raters,
        algorithms,
        excluded=[(one.case, one.reason) for one in left_out],
        labels=options.labels,
        liver=with_liver,
        liver_labels=options.liver_labels,
        plain_masks=options.plain_masks,
        resampled=options.resample_prediction,
    )


def plain_masks(
    labels_by_case: Sequence[Mapping[str, Sequence[int]]],
    raters: Sequence[str],
    chosen: Sequence[int],
) -> tuple[str, ...]:
    """Return the raters whose files are masks and no files of labels, sorted.

    In no case do they have a chosen label, and never more than one; others have a chosen one. An
    algorithm is never among them: where it has no chosen label it has found no lesion.

    Args:
        labels_by_case: Labels of the files, by rater and algorithm.
        raters: Their names.
        chosen: Which labels are lesion.
    """
    by_name: dict[str, list[set[int]]] = {}
    for labels in labels_by_case:
        for name, present in labels.items():
            by_name.setdefault(name, []).append(set(present))
    labelled = {n for n, files in by_name.items() if any(f & set(chosen) for f in files)}
    masks = {n for n, files in by_name.items() if any(files) and all(len(f) < 2 for f in files)}
    return tuple(sorted(masks & set(raters) - labelled)) if labelled else ()


def one(case: CaseFiles, options: Options) -> Values:
    """Return one case's entry; raises CaseError where a file cannot be used."""
    masks: dict[str, Delineation] = {}
    predicted: dict[str, Delineation] = {}
    outside_grid: dict[str, int] = {}
    plain: list[tuple[str, LabelMask]] = []
    label_absent = []
    labels: dict[str, list[int]] = {}
    first_name, first_path = next(iter(case.raters.items()))
    first = read_mask(first_path, options.labels_of(first_name))
    for name, path in {**case.raters, **case.algorithms}.items():
        read = first if name == first_name else read_mask(path, options.labels_of(name))
        volume: Volume = read
        labels[name] = list(read.labels)
        if name in options.plain_masks:
            plain.append((path.name, read))
        if read.labels and not read.voxels.any():
            label_absent.append(name)
        if name in case.raters:
            volume = check_same_grid(first, volume, path.name, f"the reference '{first_path.name}'")
            masks[name] = Delineation.of(volume.voxels, first.spacing_mm)
            continue
        for mask_name, mask in plain:
            _check_plain(mask, mask_name, read, path.name, options.labels)
        volume, outside = _prediction(volume, first, path.name, options)
        if outside is not None:
            outside_grid[name] = outside
        predicted[name] = Delineation.of(volume.voxels, first.spacing_mm)
    diagnostics: Values = {
        "resampled": list(outside_grid),
        "outside_grid_voxels": outside_grid,
        "absent_raters": list(case.absent_raters),
        "label_absent": label_absent,
        "labels": labels,
    }
    liver = _liver(case, options, first, f"the reference '{first_path.name}'")
    if liver is not None:
        diagnostics |= outside_liver(masks | predicted, masks, liver.voxels)
        predicted = {name: drawn.within(liver.voxels) for name, drawn in predicted.items()}
    return evaluate_case(case.name, masks, predicted) | diagnostics


def _check_plain(
    mask: LabelMask, mask_name: str, other: LabelMask, other_name: str, chosen: Sequence[int]
) -> None:
    """Refuse a mask that may be the liver of a case without lesions, not its lesions."""
    if len(other.labels) > 1 and mask.labelled_ml > LARGEST_PLAIN_SHARE * other.labelled_ml:
        raise CaseError(
            f"'{mask_name}' lacks the label {', '.join(map(str, chosen))}, and its label "
            f"{mask.labels[0]} has {mask.labelled_ml:.1f} ml, where all labels of '{other_name}' "
            f"have {other.labelled_ml:.1f} ml: it may be the liver. Give the lesions the chosen "
            "label; a case without lesions needs an empty mask"
        )


def _liver(case: CaseFiles, options: Options, first: Volume, first_name: str) -> Volume | None:
    if case.liver is None:
        return None
    mask = read_mask(case.liver, options.liver_labels, "liver")
    volume = check_same_grid(first, mask, case.liver.name, first_name)
    if not np.any(volume.voxels):
        raise CaseError(f"'{case.liver.name}' is empty: {mask.why_empty(options.liver_labels)}")
    return volume


def _prediction(
    volume: Volume, first: Volume, name: str, options: Options
) -> tuple[Volume, int | None]:
    """Return a prediction on the raters' grid, and how many of its voxels that does not reach.

    None where it lies on that grid already.
    """
    try:
        return check_same_grid(first, volume, name, "the first reference"), None
    except CaseError as error:
        if not options.resample_prediction:
            raise CaseError(
                f"{error}; --resample-prediction brings it there by its position in the patient"
            ) from error
        return nearest(volume, first.geometry), voxels_outside(volume, first.geometry)


def _results(
    cases: Sequence[CaseFiles], options: Options, jobs: int, memory_mb: int
) -> Iterator[tuple[str, Values | str]]:
    """Yield each case's entry, or why there is none, as they are done.

    Several cases are evaluated in other processes, even one at a time: one that is killed, as the
    system does where memory runs out, costs its case only.
    """
    attempt = partial(_attempt, options=options)
    if len(cases) == 1:
        yield cases[0].name, attempt(cases[0])
        return
    workers = min(jobs, _that_fit(cases, memory_mb))
    died = []
    for case, result in run_each(attempt, cases, workers):
        if isinstance(result, Died):
            died.append((case, result))
        else:
            yield case.name, result
    # It may have died for want of the memory that the others had.
    for case, first in died:
        for _, again in run_each(attempt, [case], 1) if workers > 1 else [(case, first)]:
            yield case.name, again.reason if isinstance(again, Died) else again


def _attempt(case: CaseFiles, options: Options) -> Values | str:
    try:
        return one(case, options)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is this case's error
        return readable(reason(error))


def _that_fit(cases: Sequence[CaseFiles], memory_mb: int) -> int:
    """Return how many of the largest case fit into the memory; one is always tried."""
    voxels = max((voxels_of(next(iter(case.raters.values()))) for case in cases), default=0)
    return max(1, int(memory_mb // (PROCESS_MB + voxels * BYTES_PER_VOXEL / 2**20)))
