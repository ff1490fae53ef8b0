"""Every page in a real Chromium: nothing missing, nothing fetched, nothing complained of."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from liverseg.steps.data import phantom
from liverseg.steps.race import race
from liverseg.steps.report import report, rung_page
from liverseg.steps.results import evaluate
from tests.steps.tiny_study import finished_study

# The browser starts, and the pages are made, with whichever test comes first.
pytestmark = pytest.mark.slow
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        # Without one of the system's, that of `playwright install chromium`; root needs the flag.
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    phantom.run(folder / "cases", 3, 0)
    words = ["--reference", "tumor_R1.nii.gz", "--reference", "tumor_R3.nii.gz"]
    words += ["--prediction", "tumor_R2.nii.gz", "--html", str(folder / "evaluation.html")]
    command = [sys.executable, "-m", "liverseg.cli", "evaluate", "--cases", str(folder / "cases")]
    subprocess.run([*command, *words], check=True)
    store, study = finished_study()
    evaluate.run(store, study)
    status = race.status(store, study.id)
    report.run(store, study.id, folder / "report.html")
    rung_page.write(store, study, status, 0, folder / "rung.html")
    return {path.stem: path for path in folder.glob("*.html")}


@pytest.mark.parametrize("name", ["report", "rung", "evaluation"])
def test_a_page_is_whole_without_any_request(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    opened = browser.new_page()
    messages: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(pages[name].as_uri())
    # Pictures in closed details are loaded too.
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    sizes = opened.evaluate(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert sizes
    assert all(size > 100 for size in sizes)
    assert messages == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    # Nothing is wider than the window.
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    opened.close()


def test_the_report_prints(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    opened = browser.new_page()
    opened.goto(pages["report"].as_uri())
    assert opened.pdf(path=tmp_path / "report.pdf", format="A4").startswith(b"%PDF")
    opened.close()
