"""Task `scan`: look at all data before anything is computed, and open the study."""

from typing import NamedTuple

from kfp import dsl

from components import CONTROLLER_IMAGE


# kfp.local loops over an output only if it is called `Output`.
@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def scan(data: str, store: str, preset: str, split: str, settings: str, shards: int) -> NamedTuple(
    "Scanned", [("study", str), ("Output", list)]
):
    from liverseg.steps import tasks

    return tasks.scan(data, store, preset, split, settings, shards)
