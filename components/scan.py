"""Task `scan`: collect what was checked, tell all that is wrong, and open the study."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def scan(store: str, scan_id: str) -> str:
    from liverseg.steps import tasks

    return tasks.scan(store, scan_id)
