"""Task `report`: one self-contained HTML page of the whole study."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(store: str, study: str, page: dsl.Output[dsl.HTML]) -> None:
    from liverseg.steps import tasks

    tasks.report(store, study, page.path)
