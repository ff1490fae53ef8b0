"""Task `baseline`: the one long training without a race that the paper compares with (A2)."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def baseline(
    store: str,
    study: str,
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
) -> str:
    from liverseg.steps import tasks

    return tasks.baseline(
        store,
        study,
        (gpus, max_gpu_hours, compare_baseline, take_over),
        (executor, trainer_image, cluster_pods, pods),
        (user, gpu_price, currency),
    )
