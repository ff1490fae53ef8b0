"""Commands that bring the pipeline to a cluster: compile, upload, submit, schedule."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from liverseg.cli.console import console, error_console, print_json
from liverseg.cli.kfp_options import (
    cluster_options,
    compiled,
    parameters,
    run_options,
    server,
    server_options,
)
from liverseg.cli.options import example, json_option
from liverseg.errors import StudyError


@click.command("compile", epilog=example("liverseg pipeline compile --out build"))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("build"),
    show_default=True,
    help="Folder for both files.",
)
@click.option("--namespace", help="For the Kubernetes objects [default: that of kubectl].")
@cluster_options
@json_option
def compile_(out: Path, namespace: str | None, as_json: bool, **options: Any) -> None:
    """Write the pipeline for a cluster, in both forms that Kubeflow Pipelines reads.

    training.yaml is to be uploaded in the UI or by `upload`; training-kubernetes.yaml is a
    Pipeline and a PipelineVersion for `kubectl apply`, where the server keeps pipelines in
    Kubernetes.

    JSON keys: ir, manifest (paths); version.
    """
    from liverseg.steps.outputs import Output, check_outputs
    from pipelines.compile import IR_FILE, MANIFEST_FILE

    check_outputs([Output("--out", out / name) for name in (IR_FILE, MANIFEST_FILE)], [])
    compiled_pipeline = compiled(out, options, namespace)
    if as_json:
        output = {
            "ir": compiled_pipeline.ir,
            "manifest": compiled_pipeline.manifest,
            "version": compiled_pipeline.version,
        }
        print_json({key: str(value) for key, value in output.items()})
        return
    for path in (compiled_pipeline.ir, compiled_pipeline.manifest):
        console.print(f"{path}", soft_wrap=True)


@click.command(epilog=example("liverseg pipeline upload --host http://localhost:8888"))
@server_options
@cluster_options
@json_option
def upload(as_json: bool, **options: Any) -> None:
    """Bring the pipeline to a KFP server, as a version named by its content.

    The same pipeline twice makes nothing new.

    JSON keys: pipeline, version (ids), name (of the version), created.
    """
    with TemporaryDirectory() as folder:
        compiled_pipeline = compiled(Path(folder), options)
        pipeline, version = server(options).upload(compiled_pipeline)
    if as_json:
        print_json(
            _uploaded(pipeline, version, compiled_pipeline.version) | {"created": version.created}
        )
        return
    console.print(_said("version", compiled_pipeline.version, version.created), soft_wrap=True)


@click.command(
    epilog=example(
        "liverseg pipeline submit --host http://localhost:8888 --wait \\",
        "         --param data=s3://bucket/data --param store=s3://bucket/store",
    )
)
@server_options
@cluster_options
@run_options
@click.option(
    "--run-name", help="Name of the run [default: made of the version and the parameters]."
)
@click.option("--wait", is_flag=True, help="Until the run is over; code 6 where it failed.")
@json_option
def submit(
    params: tuple[str, ...],
    experiment: str,
    service_account: str | None,
    run_name: str | None,
    wait: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Upload the pipeline where it is not there yet, and start a run.

    While a run of the same name is active, no second one is started: the command reports that
    one, and --wait waits for it. Interrupting the command does not stop the run.

    JSON keys: pipeline, version, run (ids), name (of the version), created (whether the run is
    new), link; with --wait state and tasks.
    """
    with TemporaryDirectory() as folder:
        compiled_pipeline = compiled(Path(folder), options)
        values = parameters(compiled_pipeline, params)
        client = server(options)
        pipeline, version = client.upload(compiled_pipeline)
    run = client.submit(pipeline, version, values, experiment, run_name, service_account)
    link = client.link("runs", run.id)
    output = _uploaded(pipeline, version, compiled_pipeline.version)
    output |= {"run": run.id, "created": run.created, "link": link}
    if not as_json:
        console.print(_said("run", run.id, run.created, "runs already"), soft_wrap=True)
        console.print(link, soft_wrap=True)
    if wait:
        output |= _wait(lambda: client.look(run.id, compiled_pipeline.tasks), link, as_json)
    if as_json:
        print_json(output)


@click.command(
    epilog=example(
        'liverseg pipeline schedule --host http://localhost:8888 --cron "0 0 2 * * *" \\',
        "         --param data=s3://bucket/data --param store=s3://bucket/store",
    )
)
@server_options
@cluster_options
@run_options
@click.option(
    "--cron",
    required=True,
    help='Six fields, seconds first, in the server\'s time zone: "0 0 2 * * *" is 2:00 each day.',
)
@click.option("--name", default="liverseg-training", show_default=True, help="Of the schedule.")
@json_option
def schedule(
    params: tuple[str, ...],
    experiment: str,
    service_account: str | None,
    cron: str,
    name: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Start runs on a schedule; never two at once, and none for times that were missed.

    There is one schedule of a name: given again with other options it is replaced, given again
    with the same options it is kept.

    JSON keys: pipeline, version, schedule (ids), name (of the version), created, link.
    """
    from pipelines.parameters import check_cron

    check_cron(cron)
    with TemporaryDirectory() as folder:
        compiled_pipeline = compiled(Path(folder), options)
        values = parameters(compiled_pipeline, params)
        client = server(options)
        pipeline, version = client.upload(compiled_pipeline)
    kept = client.schedule(pipeline, version, values, experiment, name, cron, service_account)
    link = client.link("recurringrun", kept.id)
    if as_json:
        output = _uploaded(pipeline, version, compiled_pipeline.version)
        print_json(output | {"schedule": kept.id, "created": kept.created, "link": link})
        return
    console.print(_said("schedule", f"{name} ({cron})", kept.created), soft_wrap=True)
    console.print(link, soft_wrap=True)


def _uploaded(pipeline: Any, version: Any, name: str) -> dict[str, Any]:
    return {"pipeline": pipeline.id, "version": version.id, "name": name}


def _said(what: str, name: str, created: bool, otherwise: str = "is there already") -> str:
    return f"{what} {name}" if created else f"{what} {name} {otherwise}"


def _wait(look: Callable[[], Any], link: str, as_json: bool) -> dict[str, Any]:
    from pipelines.waiting import follow

    out = error_console if as_json else console

    def tell(line: str) -> None:
        out.print(f"{time.strftime('%H:%M:%S')} {line}", soft_wrap=True)

    ended = follow(look, tell, time.sleep, time.monotonic)
    if ended.state not in ("SUCCEEDED", "SKIPPED"):
        failed = f" in {', '.join(ended.failed)}" if ended.failed else ""
        why = f": {ended.error}" if ended.error else ""
        raise StudyError(f"the run ended as {ended.state.lower()}{failed}{why}; see {link}")
    return {"state": ended.state, "tasks": dict(ended.tasks)}
