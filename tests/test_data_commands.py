"""What `scan`, `preprocess`, `dataset push`, `evaluate` and `predict` show of plausibility."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from liverseg.race.records import facts
from liverseg.storage import bundle
from tests.command_line import CommandLine
from tests.conftest import CaseWriter, tiny_volumes
from tests.steps.tiny_study import finished_study


@pytest.fixture
def liverseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.delenv("LIVERSEG_STORE", raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def data(tmp_path: Path, write_case: CaseWriter) -> Path:
    for seed, name in enumerate("abc"):
        write_case(tmp_path / "data" / name, seed=seed)
    (tmp_path / "data" / "split.json").write_text('{"test": ["c"], "validation": ["b"]}')
    return tmp_path / "data"


QUIET = ("--set", "plausibility.liver_ml=[20, 6000]")


def labelled(data: Path) -> None:
    """Liver 1 and tumour 2 in every mask."""
    volumes = tiny_volumes()
    voxels = volumes["liver"].voxels.astype(np.uint8) + volumes["tumor_R1"].voxels
    for path in data.glob("*/*.nii.gz"):
        if path.name != "image.nii.gz":
            old = sitk.ReadImage(str(path))
            image = sitk.GetImageFromArray(voxels)
            image.CopyInformation(old)
            sitk.WriteImage(image, str(path))


def test_scan_shows_warnings_beside_problems_and_ends_with_0_without_problems(
    liverseg: CommandLine, data: Path, tmp_path: Path
) -> None:
    words = ("scan", data, "--store", tmp_path / "store")
    shown = liverseg(*words)
    assert shown.code == 0
    assert "Warnings" in shown.out
    assert "What is wrong" not in shown.out
    assert shown.out.count("outside plausibility.liver_ml (300 to 6000 ml)") == 3
    values = json.loads(liverseg(*words, "--json").out)
    assert values["problems"] == []
    assert {w["case"] for w in values["warnings"]} == set("abc")
    assert values["warnings"][0].keys() == {"case", "file", "warning"}
    quiet = liverseg(*words, *QUIET)
    assert "Warnings" not in quiet.out
    assert values["dataset"] in quiet.out


def test_scan_shows_problems_last_and_ends_with_3(
    liverseg: CommandLine, data: Path, tmp_path: Path
) -> None:
    shutil.copy(data / "a" / "image.nii.gz", data / "a" / "tumor_R1.nii.gz")
    (data / "a" / "tumour_R3.nii.gz").touch()
    shown = liverseg("scan", data, "--store", tmp_path / "store")
    assert shown.code == 3
    assert 0 < shown.out.index("Warnings") < shown.out.index("What is wrong")
    assert "'tumour_R3.nii.gz' is not understood" in shown.out
    assert "has the voxels of 'image.nii.gz'" in shown.out
    assert not (tmp_path / "store").exists()


def test_preprocess_and_push_show_them_too(
    liverseg: CommandLine, data: Path, tmp_path: Path
) -> None:
    shutil.copy(data / "a" / "tumor_R1.nii.gz", data / "a" / "tumor_R2.nii.gz")
    done = liverseg("preprocess", "--data", data, "--store", tmp_path / "store", *QUIET)
    assert done.code == 0
    assert "identical to that of R1" in done.out
    push = ("dataset", "push", data, f"file://{tmp_path}/pushed", *QUIET)
    assert "identical to that of R1" in liverseg(*push).out
    (warning,) = json.loads(liverseg(*push, "--json").out)["warnings"]
    assert (warning["case"], warning["file"]) == ("a", "tumor_R2.nii.gz")
    (data / "b" / "tumor_R1.nii.gz").unlink()
    (data / "b" / "liver.nii.gz").unlink()
    done = liverseg("preprocess", "--data", data, "--store", tmp_path / "store", *QUIET)
    assert done.code == 3
    assert "there is no 'liver' file" in done.out


def test_labels_are_options_and_short_for_settings(
    liverseg: CommandLine, data: Path, tmp_path: Path
) -> None:
    labelled(data)
    words = ("scan", data, "--store", tmp_path / "store", "--json", *QUIET)
    refused = liverseg(*words)
    assert refused.code == 3
    assert "--lesion-label or data.lesion_labels" in refused.out
    assert "--liver-label or data.liver_labels" in refused.out
    options = ("--lesion-label", 2, "--liver-label", 2, "--liver-label", 1)
    chosen = liverseg(*words, *options)
    assert chosen.code == 0
    settings = ("--set", "data.lesion_labels=[2]", "--set", "data.liver_labels=[1, 2]")
    assert json.loads(liverseg(*words, *settings).out) == json.loads(chosen.out)
    assert liverseg(*words, "--lesion-label", 0).code == 2


@pytest.mark.parametrize("command", ["scan", "preprocess", "push"])
@pytest.mark.parametrize("kind", ["lesion", "liver"])
def test_other_labels_by_set_than_by_the_option_are_refused(
    liverseg: CommandLine, data: Path, tmp_path: Path, command: str, kind: str
) -> None:
    words: dict[str, tuple[object, ...]] = {
        "scan": ("scan", data, "--store", tmp_path / "store"),
        "preprocess": ("preprocess", "--data", data, "--store", tmp_path / "store"),
        "push": ("dataset", "push", data, f"file://{tmp_path}/pushed"),
    }
    option = f"--{kind}-label"
    for value in ("[2]", "[1, 2]", "[]", "1"):
        done = liverseg(*words[command], option, 1, "--set", f"data.{kind}_labels={value}")
        assert done.code == 2
        for part in (f"{option} 1 ", f"--set 'data.{kind}_labels={value}'", "give one of them"):
            assert part in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [data.name]


def test_the_same_labels_may_be_given_twice_and_a_settings_file_is_overridden(
    liverseg: CommandLine, data: Path, tmp_path: Path
) -> None:
    labelled(data)
    words = ("scan", data, "--store", tmp_path / "store", "--lesion-label", 2, *QUIET)
    words += ("--liver-label", 1, "--liver-label", 2, "--set", "data.liver_labels=[2, 1]")
    assert liverseg(*words).code == 0
    assert liverseg(*words, "--settings", '{"data": {"lesion_labels": [3]}}').code == 0


@pytest.mark.parametrize("spelling", ["--label", "--lesion-label"])
def test_evaluate_takes_both_spellings(liverseg: CommandLine, data: Path, spelling: str) -> None:
    labelled(data)
    mask = data / "a" / "tumor_R1.nii.gz"
    words = ("evaluate", "--reference", mask, "--prediction", mask, "--liver", mask, "--json")
    assert "--lesion-label" in liverseg(*words, "--liver-label", 1).err
    result = json.loads(liverseg(*words, spelling, 2, "--liver-label", 1, "--liver-label", 2).out)
    assert (result["settings"]["labels"], result["settings"]["liver_labels"]) == ([2], [1, 2])
    assert result["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 1


@pytest.mark.slow
def test_predict_warns_on_standard_error_and_in_json(
    liverseg: CommandLine, data: Path, tmp_path: Path
) -> None:
    store, study = finished_study()
    (tmp_path / "model").mkdir()
    for name, content in bundle.load(store, facts.model_prefix(study.id)).items():
        (tmp_path / "model" / name).write_bytes(content)
    case = data / "a"
    words = (
        "predict", "--image", case / "image.nii.gz", "--liver", case / "liver.nii.gz",
        "--model", tmp_path / "model", "--out", tmp_path / "o.nii.gz",
    )  # fmt: skip
    done = liverseg(*words, "--json")
    warnings = json.loads(done.out)["warnings"]
    assert len(warnings) == 2
    assert "plausibility.liver_ml" in warnings[0]
    assert "slice distance of 16 mm, the training cases have 4 mm" in warnings[1]
    lines = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert lines == [f"warning: {warning}" for warning in warnings]
    plain = liverseg(*words)
    assert "warning: " in plain.err
    assert "warning" not in plain.out
    labelled(data)
    assert "--liver-label" in liverseg(*words).err
    assert liverseg(*words, "--liver-label", 1, "--liver-label", 2).code == 0


@pytest.mark.parametrize("options", [(), ("--set", "race.seeds=4")])
def test_settings_files_may_begin_with_a_byte_order_mark(
    liverseg: CommandLine, data: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(b'\xef\xbb\xbf{"plausibility": {"liver_ml": [20, 6000]}}')
    words = ("scan", data, "--store", tmp_path / "store", "--settings", path, *options, "--json")
    done = liverseg(*words)
    assert done.code == 0
    assert json.loads(done.out)["warnings"] == []
