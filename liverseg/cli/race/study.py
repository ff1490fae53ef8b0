"""Commands on a study: run the race, show its status, forecast its cost."""

import click

from liverseg.cli.console import print_json, shown_log
from liverseg.cli.options import (
    backend_options,
    billing_options,
    budget_option,
    chosen_settings,
    example,
    gpus_option,
    json_option,
    settings_options,
    store_option,
    take_over_option,
)
from liverseg.cli.race.control import resume, stop
from liverseg.cli.race.plan import plan
from liverseg.cli.race.replay import replay
from liverseg.cli.race.retention import delete, extend, prune_checkpoints
from liverseg.cli.race.status import show, status
from liverseg.errors import SettingsError
from liverseg.platform.pod_settings import METRICS_PORT


@click.group()
def study() -> None:
    """One race: run it, look at it, plan it."""


study.add_command(delete)
study.add_command(replay)
study.add_command(extend)
study.add_command(plan)
study.add_command(prune_checkpoints)
study.add_command(resume)
study.add_command(status)
study.add_command(stop)


@study.command(
    epilog=example(
        "liverseg study run --store build/store --dataset DIGEST --preset small --gpus 2",
        "liverseg study run --store s3://liverseg/store --study 0123456789ab --gpus 4 \\",
        "         --executor kubernetes --trainer-image NAME@sha256:...",
    )
)
@store_option
@click.option("--dataset", help="Digest that `preprocess` printed: open a study on it.")
@click.option(
    "--study", "study_id", help="Id of an existing study, such as one opened by `extend`."
)
@settings_options
@gpus_option()
@budget_option
@billing_options
@backend_options
@click.option(
    "--compare-baseline/--no-compare-baseline", default=True, help="Also train the baseline."
)
@take_over_option
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve the metrics of the race to Prometheus here; 0: do not [default: "
    f"{METRICS_PORT} in a pod, else 0]. `liverseg metrics` serves all studies of a store.",
)
@json_option
def run(
    store: str,
    dataset: str | None,
    study_id: str | None,
    preset_name: str,
    settings_text: str,
    assignments: tuple[str, ...],
    gpus: int,
    max_gpu_hours: float | None,
    user: str,
    gpu_price: float,
    currency: str,
    executor: str,
    trainer_image: str,
    pods: str,
    compare_baseline: bool,
    take_over: bool,
    metrics_port: int | None,
    as_json: bool,
) -> None:
    """Race the seeds of a scanned and preprocessed data set to one.

    Started again, it continues where it was: nothing is trained twice but what was lost since the
    last checkpoint. Where another controller runs the study already, that one is waited for.
    Writes STORE/studies/ID, with the winner's network in `model`.

    JSON: what `liverseg study status --json` gives, and `started`, how many trainers were.
    """
    from liverseg.race.decide.reconcile import Capacity, Until
    from liverseg.race.records.study import load_study, open_study
    from liverseg.steps.data.cases import load_dataset
    from liverseg.steps.race.billing import Billing
    from liverseg.steps.race.logged_race import open_race_store, race_to
    from liverseg.steps.race.trainer_backend import TrainerBackend

    billing = Billing.chosen(user, gpu_price, currency)
    backend = TrainerBackend.chosen(executor, trainer_image, pods)
    opened = open_race_store(store)
    if (dataset is None) == (study_id is None):
        raise SettingsError("give either --dataset, to open a study, or --study, to continue one")
    if study_id is not None:
        opened_study = load_study(opened, study_id)
    elif dataset is not None:
        settings = chosen_settings(preset_name, settings_text, assignments)
        opened_study = open_study(opened, settings, load_dataset(opened, dataset))
    capacity = Capacity(gpus, compare_baseline, max_gpu_hours)
    with shown_log(as_json):
        # One lease for both: in between, another controller would have taken the study.
        until: Until = "baseline" if compare_baseline else "end"
        outcome = race_to(
            opened, opened_study, until, capacity, backend, take_over, billing, metrics_port
        )
    if as_json:
        print_json(outcome)
    else:
        show(outcome)
