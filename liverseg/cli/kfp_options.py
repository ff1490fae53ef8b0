"""Options of the commands that bring the pipeline to a cluster, and what becomes of them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from liverseg.cli.options import overrides
from liverseg.settings import from_mapping, preset

Function = TypeVar("Function", bound=Callable[..., Any])
# Where Kubernetes puts a token for KFP into a pod that asks for one (kfp's own default).
TOKEN_FILE = Path("/var/run/secrets/kubeflow/pipelines/token")


def _group(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


cluster_options = _group(
    click.option(
        "--controller-image",
        help="Image of all tasks that need no torch, best as NAME@sha256:... [default: the "
        "released one of this version]. KFP's cache goes by this name: behind a tag it cannot see "
        "that the image has changed.",
    ),
    click.option("--trainer-image", help="Image of `predict`, in the same form."),
    click.option(
        "--store-secret",
        default="liverseg-store",
        show_default=True,
        help="Kubernetes Secret in the run's namespace; its keys are AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and, where needed, AWS_ENDPOINT_URL, AWS_REGION, AWS_SESSION_TOKEN.",
    ),
    click.option(
        "--image-pull-policy",
        type=click.Choice(["IfNotPresent", "Always", "Never"]),
        default="IfNotPresent",
        show_default=True,
        help="Of every task's image.",
    ),
    click.option(
        "--image-pull-secret",
        default="",
        metavar="NAME",
        help="Kubernetes Secret with which tasks and trainers pull from a private registry.",
    ),
    click.option(
        "--ca-config-map",
        default="",
        metavar="NAME[:KEY]",
        help="ConfigMap with the certificates (PEM) that the store's certificate is checked with, "
        "if it is of a private authority. KEY is ca.crt by default; tasks and trainers get it as "
        "AWS_CA_BUNDLE.",
    ),
    click.option(
        "--toleration",
        "tolerations",
        multiple=True,
        metavar="KEY[=VALUE][:EFFECT]",
        help="A taint that the tasks' pods tolerate; can be given more than once.",
    ),
    click.option(
        "--node-selector",
        "node_selectors",
        multiple=True,
        metavar="LABEL=VALUE",
        help="A label that nodes of the tasks' pods have; can be given more than once.",
    ),
    click.option(
        "--task-cpu",
        default="1",
        show_default=True,
        help="Cores that every task requests but `predict`.",
    ),
    click.option(
        "--task-memory",
        default="4Gi",
        show_default=True,
        help="Memory of every task but `predict`, requested and at most.",
    ),
    click.option("--predict-cpu", default="4", show_default=True, help="Of `predict`."),
    click.option("--predict-memory", default="16Gi", show_default=True, help="Of `predict`."),
    click.option(
        "--predict-gpus",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="GPUs of `predict`; without one it runs on the CPU.",
    ),
)
server_options = _group(
    click.option(
        "--host",
        envvar="KF_PIPELINES_ENDPOINT",
        show_envvar=True,
        help="URL of the KFP API server or of the Kubeflow dashboard's /pipeline [default: what "
        "kfp.Client finds: the service inside the cluster, or through the kubeconfig].",
    ),
    click.option(
        "--existing-token",
        envvar="KFP_EXISTING_TOKEN",
        show_envvar=True,
        help="Bearer token; prefer the variable: other users of the machine can see command-line "
        "options. "
        "The other logins of kfp.Client work without an option: a service account's token "
        "(KF_PIPELINES_SA_TOKEN_PATH), Google's (KF_PIPELINES_IAP_OAUTH2_CLIENT_ID ...), and what "
        "~/.config/kfp/context.json says.",
    ),
    click.option(
        "--ssl-ca-cert",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Certificates to trust, PEM.",
    ),
    click.option(
        "--namespace",
        help="Your Kubeflow profile; only where the server has several users.",
    ),
)
run_options = _group(
    click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of the pipeline, such as store=s3://bucket/prefix; can be given "
        "more than once.",
    ),
    click.option(
        "--experiment",
        envvar="KF_PIPELINES_DEFAULT_EXPERIMENT_NAME",
        show_envvar=True,
        default="liverseg",
        show_default=True,
        help="Created if missing.",
    ),
    click.option(
        "--service-account",
        help="Of the run's pods [default: the server's, pipeline-runner or default-editor].",
    ),
)


def compiled(folder: Path, options: Mapping[str, Any], namespace: str | None = None) -> Any:
    """Compile into `folder` as `cluster_options` say; return a CompiledPipeline."""
    from pipelines.cluster import Cluster
    from pipelines.compile import compile_to
    from pipelines.pod_options import (
        Resources,
        parse_config_map_key,
        parse_node_selector,
        parse_toleration,
    )

    images = {name: options[name] for name in ("controller_image", "trainer_image")}
    cluster = Cluster(
        **{name: image for name, image in images.items() if image},
        secret=options["store_secret"],
        pull_policy=options["image_pull_policy"],
        image_pull_secret=options["image_pull_secret"],
        ca=parse_config_map_key(options["ca_config_map"]) if options["ca_config_map"] else None,
        tolerations=tuple(map(parse_toleration, options["tolerations"])),
        node_selector=tuple(map(parse_node_selector, options["node_selectors"])),
        task_resources=Resources(options["task_cpu"], options["task_memory"]),
        predict_resources=Resources(options["predict_cpu"], options["predict_memory"]),
        predict_gpus=options["predict_gpus"],
    )
    return compile_to(folder, cluster, namespace)


def server(options: Mapping[str, Any]) -> Any:
    """Return the pipelines.kfp_client.Server that `server_options` name."""
    from pipelines.kfp_client import KfpConnection, Server

    token = options["existing_token"]
    named = os.environ.get("KF_PIPELINES_SA_TOKEN_PATH")
    file = Path(named) if named else TOKEN_FILE
    return Server(
        KfpConnection(
            host=options["host"],
            namespace=options["namespace"],
            token=token,
            token_file=file if not token and (named or file.exists()) else None,
            ca_file=options["ssl_ca_cert"],
        )
    )


def parameters(compiled_pipeline: Any, params: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of --param of a CompiledPipeline; raises SettingsError."""
    from liverseg.platform.pod_settings import PodSettings
    from liverseg.steps.race.pod_overlay import overlaid
    from pipelines.parameters import parse

    definitions = compiled_pipeline.definitions
    values: dict[str, Any] = parse(definitions, params)
    # A wrong setting is better told now than by a pod.
    chosen = values.get("preset", definitions["preset"]["defaultValue"])
    from_mapping(overrides(values.get("settings", "{}"), ()), preset(chosen))
    PodSettings.from_json(overlaid(compiled_pipeline.cluster_pods, values.get("pods", "{}")))
    return values
