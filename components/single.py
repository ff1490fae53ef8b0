"""Task `single`: train A2, the one long training that the paper compares with (seed 9999)."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def single(
    store: str,
    study: str,
    gpus: int,
    max_gpu_hours: float,
    compare_baseline: bool,
    executor: str,
    trainer_image: str,
    pods: str,
) -> str:
    from liverseg.steps import tasks

    return tasks.single(
        store,
        study,
        (gpus, max_gpu_hours, compare_baseline),
        (executor, trainer_image, pods),
    )
