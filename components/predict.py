"""Task `predict`: lesion probabilities of the test cases, for the winner and for A2."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(store: str, study: str) -> None:
    from liverseg.steps import tasks

    tasks.predict(store, study)
