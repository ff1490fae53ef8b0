"""Task `postprocess`: from probabilities to segmentations on the images as they came."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def postprocess(store: str, study: str) -> None:
    from liverseg.steps import tasks

    tasks.postprocess(store, study)
