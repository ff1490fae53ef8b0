"""What holds for every KFP API server that pipelines/kfp_client.py talks to."""

import dataclasses
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_server_api
import pytest
import yaml

from liverseg.errors import SettingsError
from pipelines.cluster import Cluster
from pipelines.compile import CompiledPipeline, compile_to
from pipelines.kfp_client import KfpConnection, Made, Server, run_name
from pipelines.parameters import parse

VALUES = ("data=s3://bucket/data", "store=s3://bucket/store", "gpus=3", "max_gpu_hours=1.5")
CRON = "0 0 2 * * *"


class Asked:
    """A server as we use it, beside the generated client that sees what is really there."""

    def __init__(self, connection: KfpConnection) -> None:
        self.connection, self.ours = connection, Server(connection)
        configuration = kfp_server_api.Configuration(host=connection.host)
        if connection.token:
            configuration.api_key["authorization"] = connection.token
            configuration.api_key_prefix["authorization"] = "Bearer"
        client = kfp_server_api.ApiClient(configuration)
        self.pipelines = kfp_server_api.PipelineServiceApi(client)
        self.runs = kfp_server_api.RunServiceApi(client)
        self.recurring = kfp_server_api.RecurringRunServiceApi(client)
        self.experiments = kfp_server_api.ExperimentServiceApi(client)

    def versions(self, pipeline: Made) -> dict[str, Any]:
        """Return all versions of a pipeline by their names."""
        by_name, token = {}, ""
        while True:
            page = self.pipelines.pipeline_service_list_pipeline_versions(
                pipeline.id, page_size=50, page_token=token
            )
            by_name |= {v.display_name: v for v in page.pipeline_versions or []}
            token = page.next_page_token
            if not token:
                return by_name

    def schedules(self, experiment: str) -> list[Any]:
        """Return the recurring runs of an experiment."""
        page = self.recurring.recurring_run_service_list_recurring_runs(experiment_id=experiment)
        return page.recurring_runs or []


def same_numbers(value: Any) -> Any:
    """Return JSON in which 4.0 and 4 are the same."""
    return json.loads(json.dumps(value), parse_int=float)


class KfpContract:
    """Subclasses give the fixture `connection`."""

    @pytest.fixture
    def asked(self, connection: KfpConnection) -> Asked:
        return Asked(connection)

    @pytest.fixture
    def compiled_pipeline(self, tmp_path: Path) -> CompiledPipeline:
        # A name of its own, so that a server that others use has no such version yet.
        image = f"example.org/controller@sha256:{uuid.uuid4().hex * 2}"
        return compile_to(tmp_path, Cluster(controller_image=image))

    @pytest.fixture
    def values(self, compiled_pipeline: CompiledPipeline) -> dict[str, Any]:
        return parse(compiled_pipeline.definitions, VALUES)

    @pytest.fixture
    def experiment(self, asked: Asked) -> Iterator[str]:
        """The name of an experiment; what a test makes in it does not stay behind."""
        name = f"liverseg-test-{uuid.uuid4().hex[:8]}"
        yield name
        page = asked.experiments.experiment_service_list_experiments(
            page_size=200, **({"namespace": n} if (n := asked.connection.namespace) else {})
        )
        for existing in page.experiments or []:
            if existing.display_name == name:
                self._clear(asked, existing.experiment_id)

    def _clear(self, asked: Asked, experiment: str) -> None:
        for kept in asked.schedules(experiment):
            asked.recurring.recurring_run_service_delete_recurring_run(kept.recurring_run_id)
        runs = asked.runs.run_service_list_runs(experiment_id=experiment, page_size=200)
        for run in runs.runs or []:
            asked.runs.run_service_terminate_run(run.run_id)

    def test_the_same_pipeline_twice_is_one_version_and_arrives_whole(
        self, asked: Asked, compiled_pipeline: CompiledPipeline
    ) -> None:
        pipeline, version = asked.ours.upload(compiled_pipeline)
        assert version.created
        again = Server(asked.connection).upload(compiled_pipeline)
        assert again == (Made(pipeline.id, False), Made(version.id, False))
        held = asked.versions(pipeline)[compiled_pipeline.version]
        assert held.pipeline_version_id == version.id
        spec, platform = yaml.safe_load_all(compiled_pipeline.ir.read_text(encoding="utf-8"))
        expected = {"pipeline_spec": spec, "platform_spec": platform}
        assert same_numbers(held.pipeline_spec) == same_numbers(expected)

    @pytest.mark.slow
    def test_another_image_is_another_version_of_the_same_pipeline(
        self, asked: Asked, compiled_pipeline: CompiledPipeline, tmp_path: Path
    ) -> None:
        first = asked.ours.upload(compiled_pipeline)
        image = f"example.org/trainer@sha256:{uuid.uuid4().hex * 2}"
        other = compile_to(tmp_path / "other", Cluster(trainer_image=image))
        second = asked.ours.upload(other)
        assert first[0].id == second[0].id
        assert second[1].created
        assert {compiled_pipeline.version, other.version} <= set(asked.versions(first[0]))

    def test_a_run_has_its_parameters_and_is_not_started_twice_while_it_goes_on(
        self,
        asked: Asked,
        compiled_pipeline: CompiledPipeline,
        values: dict[str, Any],
        experiment: str,
    ) -> None:
        uploaded = asked.ours.upload(compiled_pipeline)
        first = asked.ours.submit(*uploaded, values, experiment)
        assert first.created
        again = Server(asked.connection).submit(*uploaded, values, experiment)
        assert again == Made(first.id, False)
        run = asked.runs.run_service_get_run(first.id)
        assert run.display_name == run_name(uploaded[1].id, values)
        assert run.runtime_config.parameters == values
        assert run.pipeline_version_reference.pipeline_version_id == uploaded[1].id
        other = asked.ours.submit(*uploaded, values | {"gpus": 4}, experiment)
        assert other.created
        assert not asked.ours.look(first.id, compiled_pipeline.tasks).over

    def test_a_schedule_is_kept_once_and_replaced_when_it_changes(
        self,
        asked: Asked,
        compiled_pipeline: CompiledPipeline,
        values: dict[str, Any],
        experiment: str,
    ) -> None:
        uploaded = asked.ours.upload(compiled_pipeline)

        def schedule(cron: str, changed: dict[str, Any]) -> Made:
            return asked.ours.schedule(*uploaded, values | changed, experiment, "nightly", cron)

        first = schedule(CRON, {})
        assert first.created
        assert schedule(CRON, {}) == Made(first.id, False)
        for cron, changed in (("0 30 3 * * *", {}), ("0 30 3 * * *", {"gpus": 8})):
            made = schedule(cron, changed)
            assert made.created
            recurring_run = asked.recurring.recurring_run_service_get_recurring_run(made.id)
            (kept,) = asked.schedules(recurring_run.experiment_id)
            assert kept.recurring_run_id == made.id
            assert kept.trigger.cron_schedule.cron == cron
            assert kept.runtime_config.parameters == values | changed
            assert (int(kept.max_concurrency), kept.no_catchup) == (1, True)
            assert kept.mode == "ENABLE"

    def test_a_time_that_does_not_exist_is_refused_in_the_servers_words(
        self,
        asked: Asked,
        compiled_pipeline: CompiledPipeline,
        values: dict[str, Any],
        experiment: str,
    ) -> None:
        uploaded = asked.ours.upload(compiled_pipeline)
        with pytest.raises(SettingsError, match="cron"):
            asked.ours.schedule(*uploaded, values, experiment, "never", "0 0 99 * * *")

    def test_the_version_of_a_compiled_pipeline_is_made_of_its_content(
        self, asked: Asked, compiled_pipeline: CompiledPipeline, tmp_path: Path
    ) -> None:
        renamed = dataclasses.replace(compiled_pipeline, version=f"{compiled_pipeline.version}-x")
        assert asked.ours.upload(renamed)[1].id != asked.ours.upload(compiled_pipeline)[1].id
