import json
import shutil
import subprocess
import sys

import pytest

from liverseg.core.race.rung_bootstrap import MINIMUM_CASES
from liverseg.errors import SettingsError, StoreError
from liverseg.settings import preset
from liverseg.steps.data import phantom, scan
from liverseg.storage.memory import MemoryStore


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.slow
def test_the_default_phantom_is_a_usable_data_set_of_synthetic_cases(tmp_path):
    folders = phantom.run(tmp_path / "phantom")
    store = MemoryStore()
    result = scan.run(
        tmp_path / "phantom", store, preset("demo"), tmp_path / "phantom" / "split.json"
    )
    assert result.findings == []
    assert len(folders) == len(result.dataset.cases) == 16
    assert all(case.synthetic for case in result.dataset.cases)
    sizes = {role: result.dataset.role(role) for role in ("training", "validation", "test")}
    assert [len(cases) for cases in sizes.values()] == [7, 5, 4]
    lesions = {case.name: case.lesion_ml for case in result.cases}
    assert [name for name, ml in lesions.items() if ml["R1"] == 0] == ["phantom_04"]
    assert [name for name, ml in lesions.items() if "R3" not in ml] == ["phantom_03"]
    assert sum(lesions[case.name]["R1"] > 0 for case in sizes["test"]) == 4
    assert len({case.patient for case in result.dataset.cases}) == 16


def test_a_second_run_touches_nothing(tmp_path):
    phantom.run(tmp_path, cases=2)
    before = contents(tmp_path)
    phantom.run(tmp_path, cases=2)
    assert contents(tmp_path) == before


def test_more_cases_leave_the_earlier_ones_as_they_are(tmp_path):
    phantom.run(tmp_path, cases=1)
    before = contents(tmp_path / "phantom_01")
    phantom.run(tmp_path, cases=2)
    assert contents(tmp_path / "phantom_01") == before
    split = json.loads((tmp_path / "split.json").read_text())
    assert split == {"test": [], "validation": ["phantom_02"]}


def test_more_cases_change_nobodys_role():
    few, many = phantom.split(16), phantom.split(40)
    for role, names in few.items():
        assert many[role][: len(names)] == names


def test_the_default_phantom_validates_on_enough_cases_to_say_how_sure_a_race_was():
    assert len(phantom.split(16)["validation"]) >= MINIMUM_CASES


def test_three_cases_have_one_of_each_role(tmp_path):
    assert phantom.split(3) == {"test": ["phantom_03"], "validation": ["phantom_02"]}


@pytest.mark.slow
def test_an_interrupted_run_is_finished_by_the_next(tmp_path):
    phantom.run(tmp_path, cases=2)
    whole = {name: data for name, (data, _) in contents(tmp_path).items()}
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    part = tmp_path / f".phantom_02.{gone.pid}.part"
    (tmp_path / "phantom_02").rename(part)
    (part / "image.nii.gz").write_bytes(b"half")
    phantom.run(tmp_path, cases=2)
    assert {name: data for name, (data, _) in contents(tmp_path).items()} == whole


def truncated(path):
    path.write_bytes(path.read_bytes()[:-30])


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "file", "said"),
    [
        (truncated, "image.nii.gz", "'image.nii.gz' is truncated"),
        (truncated, "tumor_R2.nii.gz", "'tumor_R2.nii.gz' is truncated"),
        (lambda path: path.write_bytes(b""), "liver.nii.gz", "'liver.nii.gz' is empty"),
        (lambda path: path.unlink(), "image.nii.gz", "there is no 'image'"),
        (lambda path: path.unlink(), "tumor_R3.nii.gz", "there is no 'R3'"),
        (lambda path: path.unlink(), "case.json", "another case.json"),
        (lambda path: path.write_bytes(b"{"), "case.json", "'case.json' cannot be read"),
        (replaced_by_a_folder, "tumor_R1.nii.gz", "is a folder"),
        (lambda path: shutil.rmtree(path.parent), "case.json", ""),
        (
            lambda path: shutil.copy(path, path.with_name("tumor_R4.nii.gz")),
            "tumor_R1.nii.gz",
            "it has other files",
        ),
    ],
)
def test_a_broken_case_is_refused_and_written_again_once_it_is_deleted(tmp_path, fault, file, said):
    phantom.run(tmp_path, cases=1)
    whole = {name: data for name, (data, _) in contents(tmp_path).items()}
    folder = tmp_path / "phantom_01"
    fault(folder / file)
    before = contents(tmp_path)
    if said:
        with pytest.raises(SettingsError) as refused:
            phantom.run(tmp_path, cases=1)
        for part in ("1 of the phantom's cases", str(folder), said, "delete these folders"):
            assert part in str(refused.value)
        assert contents(tmp_path) == before
        shutil.rmtree(folder)
    phantom.run(tmp_path, cases=1)
    assert {name: data for name, (data, _) in contents(tmp_path).items()} == whole


def test_an_empty_folder_and_a_file_in_a_case_s_place_are_refused_together(tmp_path):
    phantom.run(tmp_path, cases=1)
    shutil.rmtree(tmp_path / "phantom_01")
    (tmp_path / "phantom_01").mkdir()
    (tmp_path / "phantom_03").touch()
    with pytest.raises(SettingsError, match=r"2 of the phantom's .*phantom_01.*phantom_03"):
        phantom.run(tmp_path, cases=3)
    assert not (tmp_path / "phantom_02").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("cases", "seed"), [(1, 8), (1, 7)])
def test_a_folder_with_another_phantom_is_refused(tmp_path, cases, seed):
    phantom.run(tmp_path, cases=2, seed=7)
    with pytest.raises(SettingsError, match=r"choose another folder or empty it"):
        phantom.run(tmp_path, cases=cases, seed=seed)


def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path):
    (tmp_path / "thesis.txt").write_text("final version")
    with pytest.raises(SettingsError, match="holds other files"):
        phantom.run(tmp_path, cases=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_instead_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(SettingsError, match="is not a folder"):
        phantom.run(tmp_path / "out", cases=1)


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        phantom.run(tmp_path / "file" / "out", cases=1)


def test_no_case_is_no_phantom(tmp_path):
    with pytest.raises(SettingsError, match=r"cases \(0\)"):
        phantom.run(tmp_path, cases=0)
