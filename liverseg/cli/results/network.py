"""Commands on the network: train, predict, postprocess."""

import sys
from pathlib import Path
from typing import Literal

import click

from liverseg.cli.console import console, print_json, progress_bar
from liverseg.cli.options import (
    example,
    json_option,
    label_option,
    store_option,
    study_option,
)
from liverseg.exit_codes import TRAINER_CODES, help_text
from liverseg.settings import BASELINE_SEED, SliceAxis


@click.command(
    epilog=example("liverseg train --store build/store --study 0123456789ab --seed 3 --rung 0")
    + "\n\n"
    + help_text(TRAINER_CODES)
)
@store_option
@click.option("--study", required=True, help="Id of an opened study.")
@click.option(
    "--nonce",
    default="",
    help="Of the study; ends with 76 where it was opened anew since the trainer was started.",
)
@click.option(
    "--seed",
    type=int,
    required=True,
    help=f"0 to seeds - 1, or {BASELINE_SEED} for the baseline.",
)
@click.option(
    "--rung",
    required=True,
    help="Index of the rung to reach, or 'baseline'.",
)
@click.option("--attempt", type=int, default=0, show_default=True, help="Part of every key.")
@click.option("--device-index", type=int, default=0, show_default=True, help="Chooses the GPU.")
@click.option(
    "--orphan-grace",
    type=float,
    default=1800.0,
    show_default=True,
    help="Seconds without a controller's heartbeat, or without the store, after which the trainer "
    "saves and ends.",
)
@click.option(
    "--clock-offset",
    type=float,
    hidden=True,
    help="Unix time minus the monotonic clock, as the executor on this machine has read both.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Serve the trainer's metrics to Prometheus here, at POD_IP in a pod; 0: do not.",
)
@click.option("--pod", default="", help="Its uid: another pod of the same attempt ends with 75.")
def train(
    store: str,
    study: str,
    nonce: str,
    seed: int,
    rung: str,
    attempt: int,
    orphan_grace: float,
    device_index: int,
    clock_offset: float | None,
    metrics_port: int,
    pod: str,
) -> None:
    """Train one seed of a study up to a rung, report, and end.

    The race starts these itself; by hand it is for looking at one seed. SIGTERM saves a
    checkpoint and ends with 75; the same command continues from there, bit for bit on the CPU.
    Writes checkpoints, learning curves and a report below STORE/studies/ID.
    """
    from liverseg.errors import SettingsError
    from liverseg.platform.clock import Clock
    from liverseg.steps.race.trainer_backend import metrics_address
    from liverseg.steps.training import train as step
    from liverseg.storage.open import open_store

    clock = Clock(clock_offset)
    opened = open_store(store, outage_seconds=step.STORE_OUTAGE_SECONDS)
    if rung != "baseline" and not rung.isdigit():
        raise SettingsError(f"--rung '{rung}' must be a number or 'baseline'")
    goal: int | Literal["baseline"] = "baseline" if rung == "baseline" else int(rung)
    with progress_bar() as report:
        code = step.run(
            opened,
            study,
            seed,
            goal,
            attempt,
            nonce=nonce,
            orphan_grace=orphan_grace,
            device_index=device_index,
            pod=pod,
            metrics_at=metrics_address(metrics_port),
            now=clock,
            progress=report,
        )
    sys.exit(code)


@click.command(
    epilog=example(
        "liverseg predict --image image.nii.gz --liver liver.nii.gz \\",
        "         --model build/store/studies/0123456789ab/model --out lesions.nii.gz",
    )
)
@click.option("--image", required=True, help="MR volume, file or URL.")
@click.option("--liver", required=True, help="Its liver mask, file or URL.")
@label_option("liver")
@click.option(
    "--slice-axis",
    type=click.Choice(["z", "y", "x"]),
    help="Axis of the patient along which the slices lie: z for axial, y for coronal, x for "
    "sagittal ones [default: as in the training].",
)
@click.option(
    "--model",
    required=True,
    help="Folder with model.safetensors and model.json, such as STORE/studies/ID/model, or its "
    "URL.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Lesion mask.")
@click.option("--probabilities", type=click.Path(path_type=Path), help="P(lesion), optional.")
@click.option(
    "--memory-mb",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Budget for one tile; a smaller one gives the same result more slowly.",
)
@json_option
def predict(
    image: str,
    liver: str,
    liver_labels: tuple[int, ...],
    slice_axis: SliceAxis | None,
    model: str,
    out: Path,
    probabilities: Path | None,
    memory_mb: int,
    as_json: bool,
) -> None:
    """Segment the lesions of one image, in its own grid and orientation.

    Needs no store: a trained network's folder, an image and its liver mask are all. Writes OUT, a
    mask of 0 and 1, in the format that its name ends with, and with --probabilities both files or
    neither. An output that would replace an input, or cannot be written, is refused before anything
    is read. What is unlikely about the input, such as spacings that the network was not trained on,
    is warned of on standard error.

    JSON keys: segmentation, lesion_voxels, lesion_ml, seed, weights_sha256, warnings.
    """
    from liverseg.steps.results import predict as step

    with progress_bar() as report:
        predicted = step.one(
            image,
            liver,
            model,
            out,
            probabilities,
            liver_labels=liver_labels,
            slice_axis=slice_axis,
            memory_mb=memory_mb,
            progress=report,
        )
    for warning in predicted["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json(predicted)
    else:
        voxels, ml = predicted["lesion_voxels"], predicted["lesion_ml"]
        console.print(f"{out}: {voxels} lesion voxels, {ml:.2f} ml", soft_wrap=True)


@click.command(epilog=example("liverseg postprocess --store build/store"))
@store_option
@study_option
def postprocess(store: str, study: str | None) -> None:
    """Predict and segment a study's test cases with every network that has been trained to its end.

    Removes what the opening with a 3x3 kernel takes from the liver's border, goes back to the
    original grid and writes segmentations/<weights>/<case>/segmentation.nii.gz into the store.
    """
    from liverseg.errors import StudyError
    from liverseg.race.records import facts
    from liverseg.race.records.study import load_study
    from liverseg.steps.results import disagreement
    from liverseg.steps.results import postprocess as step
    from liverseg.steps.results import predict as prediction
    from liverseg.steps.study.study_choice import latest_study
    from liverseg.storage.open import open_store

    opened = open_store(store)
    loaded = load_study(opened, study or latest_study(opened))
    arms = facts.ended_arms(opened, loaded.id)
    if not arms:
        raise StudyError(f"study {loaded.id} has no model yet; run the race to its end first")
    for arm, sha256 in arms.items():
        with progress_bar() as report:
            prediction.run(opened, loaded, arm, progress=report)
            result = step.run(opened, loaded, sha256, report)
        console.print(f"{arm}: {len(result.done)} cases segmented, {len(result.reused)} reused")
    if "multi" in arms:
        with progress_bar() as report:
            prediction.ensemble(opened, loaded, progress=report)
        why_not = disagreement.run(opened, loaded)["why_not"]
        console.print(f"ensemble: {'compared' if why_not is None else why_not}", soft_wrap=True)
