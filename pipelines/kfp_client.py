"""A KFP server, through the kfp client: upload, submit, schedule, look.

Everything has a name, and what has it already is not made again: two that upload the same pipeline
end with one version, and whoever submits the same run while it runs is told of that one.
"""

import io
import json
import logging
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

import kfp
import kfp_server_api
import urllib3
from kfp.client import ServiceAccountTokenVolumeCredentials

from liverseg.errors import PlatformError, SettingsError
from liverseg.platform.proxies import proxy_for
from pipelines.compile import CompiledPipeline
from pipelines.training import NAME
from pipelines.waiting import OVER, RunState

# kfp's client itself waits for ever.
ANSWER_SECONDS = 60.0
PAGE = 100


@dataclass(frozen=True)
class KfpConnection:
    """Where the server is and who asks; what is None is looked for where kfp.Client looks.

    Args:
        host: URL; None: the service inside the cluster, or what the kubeconfig leads to.
        namespace: Of a multi-user server; None on a single-user one.
        token: A bearer token; its repr shows none.
        token_file: A projected service account token, read anew for every request.
        ca_file: Certificates to trust, PEM.
    """

    host: str | None = None
    namespace: str | None = None
    token: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None

    def __repr__(self) -> str:
        return f"KfpConnection(host={self.host!r}, namespace={self.namespace!r})"


@dataclass(frozen=True)
class Made:
    """Something on the server.

    Args:
        id: The server's own name for it.
        created: False where it was there before.
    """

    id: str
    created: bool


class _Client(kfp.Client):  # type: ignore[misc]
    """kfp's own tries five times and logs a traceback each; ours says at once what is wrong.

    It asks through the environment's proxy as well, which kfp's own ignores. The service inside a
    cluster that kfp finds by itself is asked directly.
    """

    def _load_config(self, host: str | None, client_id: Any, namespace: str, *others: Any) -> Any:
        config = super()._load_config(host, client_id, namespace, *others)
        if config.host != self._IN_CLUSTER_DNS_NAME.format(namespace):
            proxy = proxy_for(config.host, getproxies_environment())
            if proxy is not None:
                config.proxy = proxy.url
                credentials = proxy.credentials or None
                config.proxy_headers = urllib3.make_headers(proxy_basic_auth=credentials)
        return config

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:  # noqa: ARG002
        return self.healthzs.healthz_service_get_healthz()


class Server:
    """A KFP API server.

    Every method raises PlatformError where it does not answer or refuses, and SettingsError where
    what it was given is wrong.
    """

    def __init__(self, connection: KfpConnection) -> None:
        self._namespace = connection.namespace
        self._url = connection.host or "the server that kfp finds"
        # kfp adds the same where there is no scheme.
        host = self._url if "://" in self._url else f"https://{self._url}"
        proxy = proxy_for(host, getproxies_environment()) if connection.host else None
        self._url += f" through {proxy}" if proxy else ""
        credentials = connection.token_file and ServiceAccountTokenVolumeCredentials(
            str(connection.token_file)
        )
        with self._asking("connect"):
            self._client = _Client(
                host=connection.host,
                namespace=connection.namespace or "kubeflow",
                existing_token=connection.token,
                credentials=credentials,
                ssl_ca_cert=str(connection.ca_file) if connection.ca_file else None,
            )
            # kfp asks for it only in some cases; a wrong host is better told now.
            health = self._client.get_kfp_healthz()
        if health.multi_user and not self._client.get_user_namespace():
            raise SettingsError(f"{self._url} is multi-user; give --namespace")

    def upload(self, compiled_pipeline: CompiledPipeline) -> tuple[Made, Made]:
        """Return the pipeline and this version of it, made where they were not there."""
        with self._asking("upload"):
            known = self._named(self._client.list_pipelines, "pipelines", NAME, scoped=True)
            pipeline = Made(known[0].pipeline_id, False) if known else self._create_pipeline()
            version = self._version(pipeline.id, compiled_pipeline.version)
            if version is not None:
                return pipeline, version
            try:
                made = self._client.upload_pipeline_version(
                    str(compiled_pipeline.ir), compiled_pipeline.version, pipeline_id=pipeline.id
                )
            except kfp_server_api.ApiException as error:
                # Somebody else uploads the same at the same moment.
                version = self._version(pipeline.id, compiled_pipeline.version)
                if error.status != 409 or version is None:
                    raise
                return pipeline, version
            return pipeline, Made(made.pipeline_version_id, True)

    def submit(
        self,
        pipeline: Made,
        version: Made,
        parameters: Mapping[str, Any],
        experiment: str,
        name: str | None = None,
        service_account: str | None = None,
    ) -> Made:
        """Start a run; one with that name that is not over yet is returned instead.

        `name` is by default made of version and parameters: the same twice is the same run.
        """
        chosen = name or run_name(version.id, parameters)
        with self._asking("submit"):
            experiment_id = self._experiment(experiment)
            runs = self._named(self._client.list_runs, "runs", chosen, experiment_id=experiment_id)
            for run in runs:
                if run.state not in OVER:
                    return Made(run.run_id, False)
            made = self._client.run_pipeline(
                experiment_id,
                chosen,
                params=dict(parameters),
                pipeline_id=pipeline.id,
                version_id=version.id,
                service_account=service_account,
            )
            return Made(made.run_id, True)

    def schedule(
        self,
        pipeline: Made,
        version: Made,
        parameters: Mapping[str, Any],
        experiment: str,
        name: str,
        cron: str,
        service_account: str | None = None,
    ) -> Made:
        """Keep exactly one recurring run of that name in the experiment, as described."""
        wanted = {
            "version": version.id,
            "cron": cron,
            "parameters": dict(parameters),
            "max_concurrency": 1,
            "no_catchup": True,
            "enabled": True,
        }
        with self._asking("schedule"):
            experiment_id = self._experiment(experiment)
            schedules = self._named(
                self._client.list_recurring_runs,
                "recurring_runs",
                name,
                experiment_id=experiment_id,
            )
            same = [
                r
                for r in schedules
                if _described(r) == wanted and service_account in (None, r.service_account)
            ]
            if same:
                kept = Made(same[0].recurring_run_id, False)
            else:
                made = self._client.create_recurring_run(
                    experiment_id,
                    name,
                    cron_expression=cron,
                    max_concurrency=1,
                    no_catchup=True,
                    params=dict(parameters),
                    pipeline_id=pipeline.id,
                    version_id=version.id,
                    service_account=service_account,
                )
                kept = Made(made.recurring_run_id, True)
            # Only now: killed in between, the old one still runs and the next call clears up.
            for old in schedules:
                if old.recurring_run_id != kept.id:
                    self._client.delete_recurring_run(old.recurring_run_id)
            return kept

    def look(self, run_id: str, names: Mapping[str, str]) -> RunState:
        """Return where a run stands; `names` are the tasks of ours and what the UI calls them."""
        with self._asking("look at the run"):
            run = self._client.get_run(run_id)
        details = (run.run_details and run.run_details.task_details) or []
        tasks = {
            names[d.display_name]: d.state or "PENDING" for d in details if d.display_name in names
        }
        error = run.error.message if run.error and run.error.message else ""
        return RunState(run.state or "PENDING", tasks, error)

    def link(self, kind: str, identity: str) -> str:
        """Return where a person sees a run ("runs") or a schedule ("recurringrun") in the UI."""
        return f"{self._client._get_url_prefix()}/#/{kind}/details/{identity}"

    def _create_pipeline(self) -> Made:
        body = kfp_server_api.V2beta1Pipeline(display_name=NAME, namespace=self._namespace)
        try:
            made = self._client.pipelines.pipeline_service_create_pipeline(body)
        except kfp_server_api.ApiException as error:
            known = self._named(self._client.list_pipelines, "pipelines", NAME, scoped=True)
            if error.status != 409 or not known:
                raise
            return Made(known[0].pipeline_id, False)
        return Made(made.pipeline_id, True)

    def _version(self, pipeline_id: str, name: str) -> Made | None:
        versions = self._named(
            self._client.list_pipeline_versions, "pipeline_versions", name, pipeline_id=pipeline_id
        )
        return Made(versions[0].pipeline_version_id, False) if versions else None

    def _experiment(self, name: str) -> str:
        made = self._client.create_experiment(name, namespace=self._namespace)
        return str(made.experiment_id)

    def _named(
        self,
        method: Callable[..., Any],
        what: str,
        name: str,
        *,
        scoped: bool = False,
        **where: Any,
    ) -> list[Any]:
        """Return everything with that name, of all pages."""
        condition = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
        where["filter"] = json.dumps({"predicates": [condition]})
        if scoped:
            where["namespace"] = self._namespace
        entries: list[Any] = []
        token = ""
        while True:
            page = method(page_token=token, page_size=PAGE, **where)
            entries += getattr(page, what) or []
            token = page.next_page_token
            if not token:
                return entries

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn what the client raises into one line, and keep what it prints to itself."""
        before, level = socket.getdefaulttimeout(), logging.root.manager.disable
        socket.setdefaulttimeout(ANSWER_SECONDS)
        logging.disable(logging.CRITICAL)
        try:
            with redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except kfp_server_api.ApiException as error:
            kind = SettingsError if error.status == 400 else PlatformError
            raise kind(f"{self._url} did not {what}: {_message(error)}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise PlatformError(f"no KFP server answers at {self._url}: {reason}") from error
        finally:
            logging.disable(level)
            socket.setdefaulttimeout(before)


def run_name(version: str, parameters: Mapping[str, Any]) -> str:
    """Return a name that says which version runs with which parameters."""
    text = json.dumps([version, dict(parameters)], sort_keys=True)
    return f"{NAME}-{sha256(text.encode()).hexdigest()[:12]}"


def _described(run: Any) -> dict[str, Any]:
    """Return what a recurring run does, as `schedule` wants it."""
    return {
        "version": run.pipeline_version_reference.pipeline_version_id,
        "cron": run.trigger.cron_schedule.cron if run.trigger.cron_schedule else None,
        "parameters": run.runtime_config.parameters or {},
        "max_concurrency": int(run.max_concurrency),
        "no_catchup": bool(run.no_catchup),
        "enabled": run.mode == "ENABLE",
    }


def _message(error: kfp_server_api.ApiException) -> str:
    """Return the server's own words, without headers and stack."""
    try:
        answer = json.loads(error.body)
        message = answer["details"][0]["message"] if answer.get("details") else answer["message"]
    except (TypeError, ValueError, KeyError, AttributeError):
        message = error.reason
    hint = "; give --existing-token or another login that kfp knows" if error.status == 401 else ""
    return f"{error.status} {str(message).strip()}{hint}"
