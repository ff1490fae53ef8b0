"""The training pipeline: scan, preprocess, one task a rung, predict, postprocess, evaluate, report.

The same definition is compiled for a cluster and run on one machine.
"""

import json

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.evaluate import evaluate
from components.finish import finish
from components.postprocess import postprocess
from components.predict import predict
from components.preprocess import preprocess
from components.report import report
from components.rung import rung
from components.scan import scan
from components.single import single
from pipelines.cluster import Cluster, retried

NAME = "liverseg-training"
# 16 -> 8 -> 4 -> 2 -> 1. A schedule with fewer rungs leaves the later tasks nothing to do; one
# with more is run to its end by the last task.
RUNGS = 5


def define(cluster: Cluster | None) -> BaseComponent:
    """Return the pipeline for a cluster, or (None) for this machine.

    Here a task that fails ends the run at once, since nothing but its own error can be the cause.
    """
    # Trainers' Jobs get the same secret, tolerations and nodes as the tasks, unless the run's form
    # says otherwise.
    where = {
        "executor": "process" if cluster is None else "kubernetes",
        "trainer_image": "" if cluster is None else cluster.trainer_image,
    }
    same_pods = "{}" if cluster is None else json.dumps(cluster.trainer_pods())

    def placed(task: dsl.PipelineTask, *, cached: bool) -> dsl.PipelineTask:
        # A task that may be skipped has a word among its parameters that says whether what it
        # has made is still in the store (liverseg/steps/cache_token.py).
        task.set_caching_options(enable_caching=cached)
        if cluster is not None:
            cluster.place(task)
        return task

    def step(task: dsl.PipelineTask, *, cached: bool) -> dsl.PipelineTask:
        if cluster is not None:
            retried(task)
        return placed(task, cached=cached)

    @dsl.pipeline(
        name=NAME,
        description="Race sixteen 3D U-Nets to one that finds liver tumours in late-phase MRI "
        "(Hänsch et al. 2022). Research software, not a medical device.",
    )
    def training(
        data: str,
        store: str,
        preset: str = "paper",
        split: str = "",
        settings: str = "{}",
        gpus: int = 4,
        max_gpu_hours: float = 0.0,
        shards: int = 4,
        compare_baseline: bool = True,
        pods: str = same_pods,
    ) -> None:
        """Train, choose, apply and evaluate.

        Args:
            data: Folder with one folder per case (image, liver, tumor_R1 .. tumor_Rn, case.json),
                or the URL that `liverseg dataset push` has printed.
            store: Where prepared cases, checkpoints and results lie, such as file:///data/store.
            preset: Network, schedule and patch that belong together: paper, small or demo.
            split: JSON file that names test and validation cases, path or URL; empty for the
                data's own split.json, or else the rule on the patient.
            settings: JSON that overrides the preset, such as {"race": {"seeds": 8}}.
            gpus: Trainers at a time; on a machine without GPU, processes at a time.
            max_gpu_hours: Spent that much, nothing more is started and the run fails as stopped; a
                larger limit lets it go on. 0: no limit.
            shards: Parts in which the cases are prepared side by side; each costs two pods.
            compare_baseline: Also train one network straight to the end, as the paper's A2.
            pods: JSON that says how the trainers' pods look, such as {"queue": "liverseg",
                "memory": "32Gi"}; the keys are those of `liverseg study run --pods`.
        """
        ending = finish(store=store).set_display_name("where it stands")
        with dsl.ExitHandler(placed(ending, cached=False)):
            scanned = scan(
                data=data, store=store, preset=preset, split=split, settings=settings, shards=shards
            )
            # What lies in `data` may have changed since the last run: only looking tells.
            step(scanned, cached=False)
            study = scanned.outputs["study"]
            with dsl.ParallelFor(scanned.outputs["Output"]) as shard:
                before = step(preprocess(data=data, store=store, shard=shard), cached=True)
            for index in range(RUNGS):
                until = "end" if index == RUNGS - 1 else str(index)
                raced = rung(
                    store=store,
                    study=study,
                    until=until,
                    gpus=gpus,
                    max_gpu_hours=max_gpu_hours,
                    compare_baseline=compare_baseline,
                    pods=pods,
                    **where,
                )
                before = step(raced.set_display_name(f"rung {index}"), cached=False).after(before)
            straight = single(
                store=store,
                study=study,
                gpus=gpus,
                max_gpu_hours=max_gpu_hours,
                compare_baseline=compare_baseline,
                pods=pods,
                **where,
            )
            before = step(straight, cached=False).after(before)
            reuse = straight.output
            for component in (predict, postprocess, evaluate, report):
                following = component(store=store, study=study, reuse=reuse)
                before = step(following, cached=True).after(before)

    return training
