"""Task `find cases`: list the cases and share them out, before any of their files is read."""

from typing import NamedTuple

from kfp import dsl

from components import CONTROLLER_IMAGE


# kfp.local loops over an output only if it is called `Output`.
@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def find_cases(
    data: str, store: str, preset: str, split: str, settings: str, shards: int
) -> NamedTuple("Found", [("scan_id", str), ("Output", list)]):
    from liverseg.steps import tasks

    return tasks.find_cases(data, store, preset, split, settings, shards)
