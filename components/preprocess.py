"""Task `preprocess`: check one shard of the cases and bring them to the network's grid."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def preprocess(store: str, shard: str) -> None:
    from liverseg.steps import tasks

    tasks.preprocess(store, shard)
