"""What a paper would say of a study, from the settings that were actually used."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from liverseg import __version__
from liverseg.core.data.dataset import Dataset
from liverseg.core.race.halving import Rung
from liverseg.settings import BASELINE_SEED, Settings

_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "kfp", "matplotlib")


def paragraph(settings: Settings, dataset: Dataset, rungs: Sequence[Rung], baseline: bool) -> str:
    """Return the methods paragraph; `baseline`: whether it was trained as well."""
    p, n, t, r = settings.preparation, settings.network, settings.training, settings.race
    counts = ", ".join(f"{len(dataset.role(x))} {x}" for x in ("training", "validation", "test"))
    raters = sorted({rater for case in dataset.cases for rater in case.raters})
    synthetic = sum(case.synthetic for case in dataset.cases)
    interpolation = {"linear": "linear", "bspline": "B-spline"}[p.interpolation]
    stops = ", ".join(f"{rung.iterations:,}" for rung in rungs[:-1])
    metric = {"best": "their best validation Jaccard so far", "last": "their last validation"}
    share = {2: "the better half"}.get(r.eta, f"the best one in {r.eta}")
    raced = (
        f"After {stops} iterations {share} by {metric[r.rung_metric]} went on; the last one "
        f"trained for {r.maximum_iterations:,} iterations."
        if len(rungs) > 1
        else f"Each trained for {r.maximum_iterations:,} iterations and the best was kept."
    )
    sentences = [
        f"{len(dataset.cases)} cases ({counts}; no patient on two sides) with contours of "
        f"{', '.join(raters)} were used"
        + (f"; {synthetic} of them are synthetic." if synthetic else "."),
        f"Images were resampled in-plane to {p.in_plane_mm:g} mm ({interpolation}); grey values "
        f"were scaled so that percentiles {p.lower_percentile:g} and {p.upper_percentile:g} "
        "inside the liver are 0 and 1.",
        f"An anisotropic 3D U-Net with {'-'.join(map(str, n.features))} features was trained with "
        f"Adam (learning rate {t.learning_rate:g}) on batches of {t.batch_size} patches of "
        f"{' x '.join(map(str, t.patch))} voxels (z, y, x), {t.lesion_fraction:.0%} of them with a "
        f"lesion of {settings.data.training_rater}, with the Dice loss inside the liver dilated by "
        f"{p.loss_dilation_mm:g} mm, random flips, contrast ({t.contrast[0]:g} to "
        f"{t.contrast[1]:g}) and brightness (SD {t.brightness_sd:g}).",
        f"{r.seeds} networks that differ in their random seed (0 to {r.seeds - 1}) were trained at "
        f"once. {raced} The winner is A1.",
        f"A2 is one network (seed {BASELINE_SEED}) trained to {r.maximum_iterations:,} iterations "
        "in one go."
        if baseline
        else "",
        "Segmentations were compared on the original grid by Dice, Jaccard, Hausdorff and average "
        "surface distance and by the N:M matching of lesions (26-connected components, Dice above "
        "0.2); A1 and A2 by two-sided Wilcoxon signed-rank tests with Benjamini-Hochberg's "
        "correction at a false discovery rate of 0.05; intervals are bootstraps of 10,000 "
        "resamples.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def versions() -> Mapping[str, str]:
    """Return the versions of what wrote the report; the trainers' may differ (their image)."""
    versions = {"liverseg": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
