"""The training pipeline, from `find cases` to `report`, with one task per rung.

The same definition is compiled for a cluster and run on one machine.
"""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from components.baseline import baseline
from components.evaluate import evaluate
from components.find_cases import find_cases
from components.postprocess import postprocess
from components.predict import predict
from components.preprocess import preprocess
from components.report import report
from components.rung import rung
from components.scan import scan
from components.summary import summary
from pipelines.cluster import Cluster

NAME = "liverseg-training"
# 16 -> 8 -> 4 -> 2 -> 1. A schedule with fewer rungs leaves the later tasks nothing to do; one
# with more is run to its end by the last task.
RUNGS = 5


def define(cluster: Cluster | None) -> BaseComponent:
    """Return the pipeline for a cluster, or (None) for this machine."""
    # The trainers' Jobs get the tasks' Secret, nodes and tolerations. They are constants: a
    # default of `pods` would be lost as soon as the run's form says anything else there.
    trainers = {
        "executor": "process" if cluster is None else "kubernetes",
        "trainer_image": "" if cluster is None else cluster.trainer_image,
        "cluster_pods": "{}" if cluster is None else cluster.trainer_pods(),
    }

    def configured(task: dsl.PipelineTask, *, cached: bool) -> dsl.PipelineTask:
        # A task that may be skipped has a token among its parameters that says whether what it
        # has made is still in the store (liverseg/steps/cache_token.py).
        task.set_caching_options(enable_caching=cached)
        # No set_retry. KFP makes an Argo retryStrategy of it that we cannot give what we need:
        # - Its policy is OnFailure: a task that ended itself with an error is run again, a
        #   controller that another one has fenced among them, and a pod that was deleted is not.
        #   KFP's launcher exits with 1 whatever our exit code was, so no code tells them apart.
        # - backoff_max_duration (an hour at most) counts from the first attempt's start: whoever
        #   has run longer is not retried, and a retry is killed at that moment.
        # KFP's installation (2.17) retries lost pods, policy OnError: see docs/cluster.md. It runs
        # nothing twice that has ended with an error of its own.
        if cluster is not None:
            cluster.configure(task)
        return task

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
        take_over: bool = False,
        user: str = "",
        gpu_price: float = 0.0,
        currency: str = "EUR",
        pods: str = "{}",
    ) -> None:
        """Train, choose, apply and evaluate.

        Args:
            data: URL that `liverseg dataset push` has printed, such as s3://bucket/data. On one
                machine also a folder with one folder per case (image, liver, tumor_R1 ..
                tumor_Rn, case.json).
            store: URL under which prepared cases, checkpoints and results lie, such as
                s3://bucket/store.
            preset: Network, schedule and patch that belong together: paper, small or demo.
            split: JSON file that names test and validation cases, path or URL; empty for the
                data's own split.json, or else the rule on the patient.
            settings: JSON that overrides the preset, such as {"race": {"seeds": 8}}.
            gpus: Trainers at a time; on a machine without GPU, processes at a time.
            max_gpu_hours: Spent that much, nothing more is started and the run fails as stopped; a
                larger limit lets it continue. 0: no limit.
            shards: Parts in which the cases are checked and prepared in parallel; each costs two
                pods.
            compare_baseline: Also train the baseline, one network without a race.
            take_over: Take the study from a controller that still holds it, instead of waiting for
                it. What that one does then fails.
            user: Who pays, as the metrics of GPU-hours name it; empty for the namespace of the
                pods, or on one machine the login name.
            gpu_price: Price of a GPU-hour, for the metrics; 0: not known.
            currency: Its currency, as in ISO 4217.
            pods: JSON of settings of the trainers' pods, such as {"queue": "liverseg",
                "memory": "32Gi"}, laid over those that the pipeline was compiled with; the keys
                are those of `liverseg study run --pods`.
        """
        last = configured(summary(store=store), cached=False)
        with dsl.ExitHandler(last, name="study"):
            # What lies in `data` may have changed since the last run: only looking tells, so that
            # no task up to `scan` is skipped.
            cases = find_cases(
                data=data, store=store, preset=preset, split=split, settings=settings, shards=shards
            ).set_display_name("find cases")
            configured(cases, cached=False)
            with dsl.ParallelFor(cases.outputs["Output"], name="preprocess") as shard:
                prepared = configured(preprocess(store=store, shard=shard), cached=False)
            scanned = scan(store=store, scan_id=cases.outputs["scan_id"])
            before = configured(scanned, cached=False).after(prepared)
            study = scanned.output
            race = {
                "store": store,
                "study": study,
                "gpus": gpus,
                "max_gpu_hours": max_gpu_hours,
                "compare_baseline": compare_baseline,
                "take_over": take_over,
                "user": user,
                "gpu_price": gpu_price,
                "currency": currency,
                "pods": pods,
                **trainers,
            }
            for index in range(RUNGS):
                until = "end" if index == RUNGS - 1 else str(index)
                raced = rung(until=until, **race).set_display_name(f"rung {index}")
                before = configured(raced, cached=False).after(before)
            compared = baseline(**race)
            before = configured(compared, cached=False).after(before)
            cache_token = compared.output
            for component in (predict, postprocess, evaluate, report):
                following = component(store=store, study=study, cache_token=cache_token)
                before = configured(following, cached=True).after(before)

    return training
