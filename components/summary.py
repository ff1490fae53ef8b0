"""Exit task `summary`: log where the study stands, however the run ended."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def summary(store: str) -> None:
    from liverseg.steps import tasks

    tasks.summary(store)
