"""The command that serves the metrics of a store, or prints them once."""

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from liverseg.cli.console import console
from liverseg.cli.options import example, store_option
from liverseg.errors import SettingsError
from liverseg.platform.pod_settings import METRICS_PORT

if TYPE_CHECKING:
    from liverseg.telemetry.study_collector import StudyCollector

# Prometheus waits for a scrape for 10 s: no request is repeated for longer.
STORE_OUTAGE_SECONDS = 5.0


@click.command(
    epilog=example(
        "liverseg metrics --store build/store",
        "liverseg metrics --store build/store --once | grep gpu_seconds",
    )
)
@store_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=METRICS_PORT,
    show_default=True,
    help="Where Prometheus scrapes; 0: any port that is free, which is printed.",
)
@click.option(
    "--host",
    envvar="POD_IP",
    show_envvar=True,
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at. 127.0.0.1 is this machine alone; there is no login, so that any "
    "other address needs a firewall or a NetworkPolicy.",
)
@click.option("--once", is_flag=True, help="Print the metrics as OpenMetrics text, and end.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the metrics to a file as OpenMetrics text, and end.",
)
def metrics(store: str, port: int, host: str, once: bool, out: Path | None) -> None:
    """Serve the GPU-hours of every study in a store to Prometheus.

    It only reads, and needs no race that runs: what is counted is computed from the facts in the
    store, so that nothing is lost or counted twice, however often this command or a controller is
    started. It runs until it is interrupted; http://127.0.0.1:9464/metrics shows what Prometheus
    gets, /healthz says that it lives, /readyz that it can read the store.

    liverseg_gpu_seconds has the GPU seconds by study, rung and outcome (useful, repeated,
    startup, pruned); divide by 3600 for GPU-hours.
    """
    from liverseg.steps.outputs import Output, check_outputs, check_outside
    from liverseg.storage.files import write_files
    from liverseg.storage.open import open_store
    from liverseg.telemetry.study_collector import StudyCollector, openmetrics

    opened = open_store(store, outage_seconds=STORE_OUTAGE_SECONDS)
    if out is not None:
        outputs = [Output("--out", out)]
        check_outside(opened, outputs)
        check_outputs(outputs, [])
        write_files({out: openmetrics(opened)})
        console.print(f"metrics: {out}", soft_wrap=True)
    elif once:
        click.echo(openmetrics(opened), nl=False)
    else:
        _serve(StudyCollector(opened), host, port, store)


def _serve(collector: "StudyCollector", host: str, port: int, store: str) -> None:
    from liverseg.telemetry.metrics_server import MetricsServer

    try:
        server = MetricsServer(collector, host, port, lambda: collector.ready)
    except OSError as error:
        raise SettingsError(
            f"cannot listen at port {port} of {host}: {error.strerror or error}; choose another "
            "--port or --host"
        ) from error
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with server:
        console.print(f"metrics of {store}: {server.url} (Ctrl-C ends)", soft_wrap=True)
        ended.wait()
