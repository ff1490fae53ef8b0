"""Task `evaluate`: the segmentations against every rater, and against one threshold."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def evaluate(store: str, study: str, cache_token: str, metrics: dsl.Output[dsl.Metrics]) -> None:
    from liverseg.steps import tasks

    metrics.metadata.update(tasks.evaluate(store, study, cache_token))
