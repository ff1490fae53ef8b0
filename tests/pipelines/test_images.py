"""The images are built from a base that cannot become another one overnight."""

import re
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "images"
NAMES = ("controller", "trainer")


def lines(name: str, word: str) -> list[str]:
    """The Dockerfile's instructions of that kind, without the word."""
    text = (IMAGES / name / "Dockerfile").read_text(encoding="utf-8")
    return re.findall(rf"^{word} (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_is_built_from_the_base_image_and_that_is_a_digest(name: str) -> None:
    assert lines(name, "FROM") == ["$BASE_IMAGE AS packages", "$BASE_IMAGE"]
    (base,) = [line for line in lines(name, "ARG") if line.startswith("BASE_IMAGE=")]
    assert re.fullmatch(r"BASE_IMAGE=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)


def test_both_images_have_the_same_base() -> None:
    controller, trainer = (lines(name, "ARG")[0] for name in NAMES)
    assert controller == trainer


@pytest.mark.parametrize("name", NAMES)
def test_no_file_in_the_working_directory_hides_a_module(name: str) -> None:
    """KFP starts a task with `python -m`, the working directory is /tmp."""
    text = (IMAGES / name / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^ENV (.*\\\n)*.*PYTHONSAFEPATH=1", text, re.MULTILINE)
