"""Task `report`: one self-contained HTML page of the whole study."""

from kfp import dsl

from components import CONTROLLER_IMAGE


@dsl.component(base_image=CONTROLLER_IMAGE, install_kfp_package=False)
def report(store: str, study: str, cache_token: str, report: dsl.Output[dsl.HTML]) -> None:
    from liverseg.steps import tasks

    tasks.report(store, study, cache_token, report.path)
