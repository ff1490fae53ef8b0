"""Task `predict`: lesion probabilities of the test cases, for the winner and the baseline."""

from kfp import dsl

from components import TRAINER_IMAGE


@dsl.component(base_image=TRAINER_IMAGE, install_kfp_package=False)
def predict(store: str, study: str, cache_token: str) -> None:
    from liverseg.steps import tasks

    tasks.predict(store, study, cache_token)
