"""Task `postprocess`: from probabilities to segmentations on the images as they came."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def postprocess(store: str, study: str, cache_token: str) -> None:
    from liverseg.steps import tasks

    tasks.postprocess(store, study, cache_token)
