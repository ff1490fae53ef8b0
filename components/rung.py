"""Task `rung`: race until one rung is decided; its page shows who leads and how they learned."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def rung(
    store: str,
    study: str,
    until: str,
    gpus: int,
    max_gpu_hours: float,
    compare_baseline: bool,
    take_over: bool,
    user: str,
    gpu_price: float,
    currency: str,
    executor: str,
    trainer_image: str,
    cluster_pods: str,
    pods: str,
    metrics: dsl.Output[dsl.Metrics],
    rung_report: dsl.Output[dsl.HTML],
) -> None:
    from liverseg.steps import tasks

    metrics.metadata.update(
        tasks.rung(
            store,
            study,
            until,
            (gpus, max_gpu_hours, compare_baseline, take_over),
            (executor, trainer_image, cluster_pods, pods),
            (user, gpu_price, currency),
            rung_report.path,
        )
    )
