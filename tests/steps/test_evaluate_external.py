import csv
import io
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from liverseg.core.evaluation.overlap import dice
from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError, SettingsError
from liverseg.reporting import evaluation, evaluation_page
from liverseg.steps.results import evaluate_external
from liverseg.steps.results.case_discovery import Excluded, Patterns, find, one_case
from liverseg.steps.results.evaluate_external import Options
from tests.conftest import SHAPE, SPACING_MM, grid, tiny_volumes
from tests.volume_files import write

RATERS = {"R1": "tumor_R1.nii.gz", "R2": "tumor_R2.nii.gz"}
PATTERNS = Patterns(RATERS, {"A1": "pred.nii.gz"})


def valid(document: dict) -> dict:
    """The document as it is printed, checked against the schema of the package."""
    schema = json.loads(
        (resources.files("liverseg") / "schemas" / "evaluation-1.json").read_text("utf-8")
    )
    jsonschema.Draft202012Validator.check_schema(schema)
    printed = json.loads(json.dumps(document, allow_nan=False))
    jsonschema.Draft202012Validator(schema).validate(printed)
    return printed


def evaluate(folder: Path, patterns: Patterns = PATTERNS, jobs: int = 1, **options) -> dict:
    cases, excluded = find(patterns, folder)
    names = list(patterns.raters), list(patterns.algorithms)
    return valid(evaluate_external.run(cases, excluded, *names, Options(**options), jobs))


@pytest.fixture
def folder(tmp_path, write_case) -> Path:
    """Three cases with two raters and a prediction, which is what rater 1 drew."""
    for name in ("a", "b", "c"):
        write_case(tmp_path / name, replace={"pred": tiny_volumes()["tumor_R1"]})
    return tmp_path


def put(path: Path, voxels: np.ndarray, **geometry) -> Path:
    write(path, Volume(voxels, grid(shape=voxels.shape, **geometry)))
    return path


def test_a_folder_of_cases_gives_what_the_masks_say(folder) -> None:
    result = evaluate(folder)
    assert [case["case"] for case in result["cases"]] == ["a", "b", "c"]
    drawn = {name: tiny_volumes()[f"tumor_{name}"].voxels for name in RATERS}
    between = dice(drawn["R1"], drawn["R2"])
    values = result["cases"][0]["algorithms"]["A1"]
    assert values["dice"] == {"R1": 1, "R2": between, "mean": (1 + between) / 2}
    assert result["cases"][0]["rater_dice"] == {"R1-R2": between}
    assert result["cases"][0]["spacing_mm"] == list(SPACING_MM)
    assert result["summary"]["A1"]["dice.R1"]["n"] == 3
    assert result["excluded"] == []


@pytest.mark.slow
def test_processes_give_the_same_document(folder) -> None:
    assert evaluate(folder, jobs=2) == evaluate(folder)


def test_memory_for_one_case_runs_one_at_a_time(folder) -> None:
    cases, _ = find(PATTERNS, folder)
    assert evaluate_external._that_fit(cases, 1) == 1
    assert evaluate_external._that_fit(cases, 1000) == 6  # of 150 MB each; these masks are tiny


@pytest.mark.slow
def test_a_file_that_cannot_be_read_leaves_its_case_out_and_no_other(folder) -> None:
    path = folder / "b" / "pred.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    result = evaluate(folder, jobs=2)
    assert [case["case"] for case in result["cases"]] == ["a", "c"]
    (left_out,) = result["excluded"]
    assert left_out["case"] == "b"
    assert "'pred.nii.gz' is truncated" in left_out["reason"]
    assert any("Left out: b" in note for note in evaluation.notes(result))


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            MemoryError("Unable to allocate 9 GiB"),
            "does not fit into memory: Unable to allocate 9 GiB",
        ),
        (
            RuntimeError("sitk::ERROR: cannot\nread"),
            r"RuntimeError in .*\.py, line \d+: sitk::ERROR",
        ),
        (OSError(5, "Input/output error"), "Input/output error"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
            "UnicodeDecodeError in .*: 'utf-8' codec",
        ),
        (KeyError("dim"), "KeyError in .*: 'dim'"),
        (zlib.error("Error -3"), "Error -3"),
        (RecursionError(), "RecursionError in .*: no message"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_library_raises_is_the_error_of_its_case(
    folder, monkeypatch, raised, said
) -> None:
    """The library's part alone is replaced: opening the files of one case."""
    opened = Path.open

    def fails(path: Path, *arguments, **options):
        if path.parent.name == "b":
            raise raised
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", fails)
    cases, _ = find(PATTERNS, folder)
    results = {case.name: evaluate_external._attempt(case, Options()) for case in cases}
    assert [name for name, result in results.items() if isinstance(result, str)] == ["b"]
    assert re.search(said, results["b"])
    assert "\n" not in results["b"]


def test_missing_files_leave_a_case_out_but_a_missing_rater_is_absent(folder) -> None:
    (folder / "a" / "tumor_R2.nii.gz").unlink()
    (folder / "b" / "pred.nii.gz").unlink()
    for rater in RATERS.values():
        (folder / "c" / rater).unlink()
    result = evaluate(folder)
    (case,) = result["cases"]
    assert (case["case"], case["absent_raters"], case["rater_dice"]) == ("a", ["R2"], {})
    assert case["algorithms"]["A1"]["dice"] == {"R1": 1, "mean": 1}
    reasons = {one["case"]: one["reason"] for one in result["excluded"]}
    assert reasons["b"].startswith("no prediction: 'pred.nii.gz' (A1)")
    assert reasons["c"].startswith("no reference: 'tumor_R1.nii.gz' (R1), 'tumor_R2.nii.gz' (R2)")


@pytest.mark.parametrize("name", ["__MACOSX", ".hidden", "@eaDir", "lost+found"])
def test_folders_of_systems_are_no_cases(folder, name) -> None:
    (folder / name).mkdir()
    assert evaluate(folder)["excluded"] == []


def test_no_case_at_all_is_an_error_with_the_first_reason(folder) -> None:
    with pytest.raises(CaseError, match=r"a \(the first of 3 cases\): no prediction: 'other"):
        evaluate(folder, Patterns(RATERS, {"A1": "other.nii.gz"}))
    with pytest.raises(SettingsError, match="is not a folder"):
        find(PATTERNS, folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(CaseError, match="has no folder"):
        find(PATTERNS, folder / "empty")


def test_files_in_flat_folders_are_found_by_the_cases_name(tmp_path) -> None:
    lesion = tiny_volumes()["tumor_R1"].voxels
    for folder, names in (("labels", "ab"), ("results", "bc")):
        for name in names:
            put(tmp_path / folder / f"{name}.nii.gz", lesion)
    patterns = Patterns(
        {"R1": f"{tmp_path}/labels/{{case}}.nii.gz"}, {"A1": f"{tmp_path}/results/{{case}}.nii.gz"}
    )
    cases, excluded = find(patterns, None)
    assert [case.name for case in cases] == ["b"]
    assert [(one.case, one.reason.split(":")[0]) for one in excluded] == [
        ("a", "no prediction"), ("c", "no reference")
    ]  # fmt: skip
    with pytest.raises(SettingsError, match=r"'x.nii.gz' must have \{case\} once"):
        find(replace(patterns, algorithms={"A1": "x.nii.gz"}), None)


def touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


@pytest.mark.parametrize("suffix", ["_pred", "-net.v2", " result"])
@pytest.mark.parametrize("liver", [None, "{case}_liver.nii.gz"])
def test_what_a_pattern_names_for_a_case_is_no_case(tmp_path, suffix, liver) -> None:
    files = [f"{case}{end}.nii.gz" for case in ("c1", "c2") for end in ("", suffix, "_liver")]
    here = touch(tmp_path, *files)
    patterns = Patterns(
        {"R1": here + "/{case}.nii.gz"},
        {"A1": here + "/{case}" + suffix + ".nii.gz"},
        None if liver is None else f"{here}/{liver}",
    )
    cases, excluded = find(patterns, None)
    assert [case.name for case in cases] == ["c1", "c2"]
    assert cases[0].algorithms["A1"].name == f"c1{suffix}.nii.gz"
    # The liver is nobody's if no pattern names it.
    assert [one.case for one in excluded] == ([] if liver else ["c1_liver", "c2_liver"])


def test_what_is_missing_of_a_case_is_said_of_it_and_not_of_its_prediction(tmp_path) -> None:
    here = touch(tmp_path, "c1_pred.nii.gz", "c2.nii.gz", "c3.nii.gz", "c3_pred.nii.gz")
    patterns = Patterns({"R1": here + "/{case}.nii.gz"}, {"A1": here + "/{case}_pred.nii.gz"})
    cases, excluded = find(patterns, None)
    assert [case.name for case in cases] == ["c3"]
    assert [(one.case, one.reason) for one in excluded] == [
        ("c1", "no reference: 'c1.nii.gz' (R1) is not there"),
        ("c2", "no prediction: 'c2_pred.nii.gz' (A1) is not there"),
    ]


def test_a_file_beside_a_case_s_own_is_left_out_with_what_to_do(tmp_path) -> None:
    labels = touch(tmp_path / "labels", "c1.nii.gz", "c10.nii.gz")
    results = touch(tmp_path / "results", "c1.nii.gz", "c1_pred.nii.gz", "c10.nii.gz", "d.nii.gz")
    patterns = Patterns({"R1": labels + "/{case}.nii.gz"}, {"A1": results + "/{case}.nii.gz"})
    cases, excluded = find(patterns, None)
    assert [case.name for case in cases] == ["c1", "c10"]
    (one, other) = excluded
    assert one.case == "c1_pred"
    assert one.reason.startswith("no reference: 'c1_pred.nii.gz' (R1) is not there; if ")
    assert "belongs to the case 'c1', move it to another folder" in one.reason
    assert "name it with '{case}_pred' in a pattern" in one.reason
    assert other == Excluded("d", "no reference: 'd.nii.gz' (R1) is not there")


def test_a_folder_that_holds_the_prediction_of_another_case_is_no_case(tmp_path) -> None:
    data = touch(tmp_path, "c1/tumor_R1.nii.gz", "c1_pred/mask.nii.gz", "c2_pred/notes.txt")
    patterns = Patterns({"R1": "tumor_R1.nii.gz"}, {"A1": data + "/{case}_pred/mask.nii.gz"})
    cases, excluded = find(patterns, tmp_path)
    assert [case.name for case in cases] == ["c1"]
    assert [one.case for one in excluded] == ["c2_pred"]


@pytest.fixture
def evaluate_one(tmp_path) -> Callable[..., dict]:
    """Return a function that evaluates one case: rater 1 against a prediction, and options."""
    reference = put(tmp_path / "reference.nii.gz", tiny_volumes()["tumor_R1"].voxels)

    def run(prediction: Path, liver: Path | None = None, **options) -> dict:
        patterns = Patterns(
            {"R1": str(reference)}, {"A1": str(prediction)}, None if liver is None else str(liver)
        )
        case = one_case(patterns)
        return valid(evaluate_external.run([case], [], ["R1"], ["A1"], Options(**options)))

    return run


def test_probabilities_where_a_mask_is_expected_are_refused(evaluate_one, tmp_path) -> None:
    lesion = tiny_volumes()["tumor_R1"].voxels
    path = put(tmp_path / "p.nii.gz", (lesion * 0.75).astype(np.float32))
    with pytest.raises(CaseError, match=r"'p.nii.gz' has voxels such as 0.75: a probability map"):
        evaluate_one(path)
    # Whole numbers in a file of floats are a mask.
    path = put(tmp_path / "f.nii.gz", lesion.astype(np.float32))
    assert evaluate_one(path)["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 1


def test_files_with_more_than_one_label_need_a_label_to_be_named(evaluate_one, tmp_path) -> None:
    volumes = tiny_volumes()
    liver, lesion = volumes["liver"].voxels, volumes["tumor_R1"].voxels
    path = put(tmp_path / "l.nii.gz", (liver.astype(np.uint8) + lesion))
    with pytest.raises(
        CaseError, match=r"'l.nii.gz' has the labels 1, 2; say which .* --lesion-label"
    ):
        evaluate_one(path)
    result = evaluate_one(path, labels=(1, 2))
    assert result["settings"]["labels"] == [1, 2]
    values = result["cases"][0]["algorithms"]["A1"]
    assert values["dice"]["R1"] == pytest.approx(dice(liver, lesion))
    assert result["cases"][0]["label_absent"] == []
    # The reference is a plain mask of 1.
    result = evaluate_one(path, labels=(2,))
    assert result["settings"]["plain_masks"] == ["R1"]
    assert result["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 1
    assert result["cases"][0]["label_absent"] == []
    assert result["cases"][0]["labels"] == {"R1": [1], "A1": [1, 2]}
    note = "R1: no file has the label 2, so that its only label is taken as lesion."
    assert note in evaluation.notes(result)


def test_a_reference_that_may_be_the_liver_is_no_plain_mask(evaluate_one, tmp_path) -> None:
    volumes = tiny_volumes()
    liver, lesion = volumes["liver"].voxels, volumes["tumor_R1"].voxels
    prediction = put(tmp_path / "prediction.nii.gz", liver.astype(np.uint8) + lesion)
    put(tmp_path / "reference.nii.gz", liver.astype(np.uint8))
    with pytest.raises(CaseError, match=r"'reference.nii.gz' lacks the label 2, .* has .* ml"):
        evaluate_one(prediction, labels=(2,))
    # A lesion that the prediction has missed is a plain mask; so is one beside a mask of lesions.
    put(tmp_path / "reference.nii.gz", lesion.astype(np.uint8))
    put(prediction, liver.astype(np.uint8) + np.roll(lesion, 3, 2))
    assert evaluate_one(prediction, labels=(2,))["settings"]["plain_masks"] == ["R1"]
    put(prediction, 2 * lesion.astype(np.uint8))
    assert evaluate_one(prediction, labels=(2,))["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 1


def test_a_prediction_of_the_liver_alone_has_no_lesion(evaluate_one, tmp_path) -> None:
    volumes = tiny_volumes()
    liver, lesion = volumes["liver"].voxels, volumes["tumor_R1"].voxels
    put(tmp_path / "reference.nii.gz", liver.astype(np.uint8) + lesion)
    prediction = put(tmp_path / "prediction.nii.gz", liver.astype(np.uint8))
    result = evaluate_one(prediction, labels=(2,))
    assert result["cases"][0]["label_absent"] == ["A1"]
    assert result["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 0


def test_a_case_without_lesions_among_files_of_labels_has_none(folder) -> None:
    volumes = tiny_volumes()
    liver, lesion = volumes["liver"].voxels.astype(np.uint8), volumes["tumor_R1"].voxels
    for name in "abc":
        for file in (*RATERS.values(), "pred.nii.gz"):
            put(folder / name / file, liver if name == "b" else (liver + lesion).astype(np.uint8))
    result = evaluate(folder, labels=(2,))
    assert result["settings"]["plain_masks"] == []
    a, b, _ = result["cases"]
    assert a["algorithms"]["A1"]["dice"]["mean"] == 1
    assert b["label_absent"] == ["R1", "R2", "A1"]
    assert b["lesion_diameters_mm"] == {"R1": [], "R2": []}
    assert any("b: R1 has other labels only" in note for note in evaluation.notes(result))


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ([{"R1": [1], "A1": [1, 2]}], ("R1",)),
        ([{"R1": [1, 2], "A1": [255]}, {"R1": [1], "A1": []}], ()),  # A1 has found none
        ([{"R1": [1], "R2": [3], "A1": [2]}], ("R1", "R2")),
        ([{"R1": [1], "A1": [1]}], ()),  # nobody has the label
        ([{"R1": [1], "A1": [1, 2]}, {"R1": [2], "A1": [1, 2]}], ()),
        ([{"R1": [1, 3], "A1": [1, 2]}], ()),  # labels, of other things
        ([{"R1": [], "A1": [1, 2]}], ()),
        ([], ()),
    ],
)
def test_plain_masks_never_have_a_chosen_label_nor_two(cases, expected) -> None:
    assert evaluate_external.plain_masks(cases, ("R1", "R2"), (2,)) == expected
    assert evaluate_external.plain_masks(cases, ("R1", "R2"), ()) == ()


def test_another_grid_is_an_error_unless_it_may_be_resampled(evaluate_one, tmp_path) -> None:
    lesion = tiny_volumes()["tumor_R1"].voxels
    shifted = put(tmp_path / "s.nii.gz", lesion, origin_mm=(-10.0, 5.0, 46.0))
    with pytest.raises(CaseError, match=r"'s.nii.gz' has origin .*46.* has .*30.*--resample"):
        evaluate_one(shifted)
    result = evaluate_one(shifted, resample_prediction=True)
    assert result["settings"]["resample_prediction"] == "nearest"
    assert result["cases"][0]["resampled"] == ["A1"]
    moved = np.zeros_like(lesion)
    moved[1:] = lesion[:-1]  # one slice of 16 mm towards the head
    expected = dice(lesion, moved)
    assert result["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == pytest.approx(expected)
    fine = np.repeat(lesion, 2, axis=1)
    doubled = put(
        tmp_path / "d.nii.gz", fine, spacing_mm=(16.0, 0.625, 1.5), origin_mm=(-10.0, 4.6875, 30.0)
    )
    with pytest.raises(CaseError, match=r"\(6, 48, 20\) voxels"):
        evaluate_one(doubled)
    result = evaluate_one(doubled, resample_prediction=True)
    assert result["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 1


def test_what_lies_outside_the_reference_s_grid_is_counted(evaluate_one, tmp_path) -> None:
    # Two slices more on either side, of half the width; 3 and 5 voxels are beyond.
    lesion = tiny_volumes()["tumor_R1"].voxels
    larger = np.repeat(np.pad(lesion, ((2, 2), (0, 0), (0, 0))), 2, axis=2)
    larger[0, 5, :3] = larger[-1, 7, 4:9] = True
    path = put(
        tmp_path / "l.nii.gz",
        larger,
        spacing_mm=(16.0, 1.25, 0.75),
        origin_mm=(-10.0 - 0.375, 5.0, 30.0 - 2 * 16),
    )
    result = evaluate_one(path, resample_prediction=True)
    (case,) = result["cases"]
    assert case["outside_grid_voxels"] == {"A1": 8}
    assert case["algorithms"]["A1"]["dice"]["R1"] == 1  # as if they were not there
    said = "A1 has 8 lesion voxels outside the reference's grid, left out."
    assert any(note.endswith(said) for note in evaluation.notes(result))
    larger[0] = larger[-1] = False
    result = evaluate_one(
        put(
            tmp_path / "m.nii.gz",
            larger,
            spacing_mm=(16.0, 1.25, 0.75),
            origin_mm=(-10.375, 5.0, -2.0),
        ),
        resample_prediction=True,
    )
    assert result["cases"][0]["outside_grid_voxels"] == {"A1": 0}
    assert not any("outside the reference's grid" in note for note in evaluation.notes(result))


def test_another_orientation_is_the_same_mask_without_resampling(evaluate_one, tmp_path) -> None:
    volume = tiny_volumes()["tumor_R1"]
    path = tmp_path / "ras.nii.gz"
    write(path, Volume(volume.voxels, replace(volume.geometry, file_axes=(-1, -2, 3))))
    result = evaluate_one(path)
    assert result["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 1
    assert result["cases"][0]["resampled"] == []


def test_what_is_predicted_outside_the_liver_is_left_out_and_reported(
    evaluate_one, tmp_path
) -> None:
    volumes = tiny_volumes()
    lesion = volumes["tumor_R1"].voxels.copy()
    liver = put(tmp_path / "liver.nii.gz", volumes["liver"].voxels)
    lesion[0, 0, :3] = True
    prediction = put(tmp_path / "p.nii.gz", lesion)
    (case,) = evaluate_one(prediction, liver)["cases"]
    assert case["outside_liver_voxels"] == {"R1": 0, "A1": 3}
    assert case["outside_liver_dice_loss"] == {"R1": 0}
    assert case["algorithms"]["A1"]["dice"]["R1"] == 1
    empty = put(tmp_path / "empty.nii.gz", np.zeros(SHAPE, bool))
    with pytest.raises(CaseError, match=r"'empty.nii.gz' is empty: all its voxels are 0"):
        evaluate_one(prediction, empty)


def test_what_a_rater_has_outside_the_liver_is_reported_with_what_it_costs(
    evaluate_one, tmp_path
) -> None:
    # The liver reaches no further than the lesion's middle.
    lesion = tiny_volumes()["tumor_R1"].voxels
    half = tiny_volumes()["liver"].voxels.copy()
    half[:, :, 8:] = False
    inside = int((lesion & half).sum())
    liver = put(tmp_path / "liver.nii.gz", half)
    result = evaluate_one(put(tmp_path / "p.nii.gz", lesion), liver)
    (case,) = result["cases"]
    assert case["outside_liver_voxels"]["R1"] == lesion.sum() - inside > 0
    expected = 1 - 2 * inside / (inside + lesion.sum())
    assert case["outside_liver_dice_loss"] == {"R1": pytest.approx(expected)}
    # The prediction has all that it can have.
    assert case["algorithms"]["A1"]["dice"]["R1"] == pytest.approx(1 - expected)
    assert any(f"at most {expected:.3f} of its Dice" in n for n in evaluation.notes(result))


def test_a_liver_with_several_labels_needs_them_to_be_named(evaluate_one, tmp_path) -> None:
    volumes = tiny_volumes()
    liver, lesion = volumes["liver"].voxels, volumes["tumor_R1"].voxels
    path = put(tmp_path / "liver.nii.gz", (liver.astype(np.uint8) + lesion))
    prediction = put(tmp_path / "p.nii.gz", lesion)
    with pytest.raises(CaseError, match=r"'liver.nii.gz' has the labels 1, 2; .*--liver-label"):
        evaluate_one(prediction, path)
    result = evaluate_one(prediction, path, liver_labels=(1, 2))
    assert result["settings"]["liver_labels"] == [1, 2]
    assert result["cases"][0]["algorithms"]["A1"]["dice"]["R1"] == 1
    # Without its lesions a liver leaves all of them outside.
    (case,) = evaluate_one(prediction, path, liver_labels=(1,))["cases"]
    assert case["outside_liver_dice_loss"] == {"R1": 1}
    assert case["algorithms"]["A1"]["dice"]["R1"] == 0


@pytest.mark.parametrize("factor", [0.9999999, 1.00001526, 1.0009])
def test_labels_a_hair_off_whole_numbers_are_evaluated(evaluate_one, tmp_path, factor) -> None:
    lesion = tiny_volumes()["tumor_R1"].voxels
    (case,) = evaluate_one(put(tmp_path / "p.nii.gz", lesion * factor))["cases"]
    assert case["algorithms"]["A1"]["dice"]["R1"] == 1


def test_a_prediction_without_a_reference_lesion_and_the_reverse(folder) -> None:
    none = np.zeros(SHAPE, bool)
    put(folder / "a" / "pred.nii.gz", none)
    for rater in RATERS.values():
        put(folder / "b" / rater, none)
    result = evaluate(folder)
    missed, invented, _ = (c["algorithms"]["A1"] for c in result["cases"])
    assert missed["detection"]["lesion"]["R1"] == {
        "tp": 0, "fp": 0, "fn": 1, "recall": 0, "precision": 0, "f1": 0
    }  # fmt: skip
    assert invented["detection"]["lesion"]["R1"] == {
        "tp": 0, "fp": 1, "fn": 0, "recall": None, "precision": 0, "f1": 0
    }  # fmt: skip
    assert (missed["dice"]["mean"], invented["dice"]["mean"]) == (0, 0)
    assert result["summary"]["A1"]["hd95_mm.R1"]["n_nan"] == 2


@pytest.mark.slow
def test_tables_page_and_csv_show_the_same_numbers(folder) -> None:
    patterns = replace(PATTERNS, algorithms={"A1": "pred.nii.gz", "A2": "tumor_R2.nii.gz"})
    result = evaluate(folder, patterns)
    rows = list(csv.DictReader(io.StringIO(evaluation.csv_text(result))))
    assert [(r["case"], r["algorithm"]) for r in rows][:3] == [
        ("a", "A1"),
        ("a", "A2"),
        ("b", "A1"),
    ]
    expected = result["cases"][0]["algorithms"]["A2"]["dice"]["R1"]
    assert float(rows[1]["dice.R1"]) == expected
    page = evaluation_page.html(result)
    assert f"{expected:.3f} ± 0.000" in page
    assert "http:" not in page
    assert "https:" not in page
    assert page.count("src=") == page.count('src="data:image/png;base64,') == 1
    low, high = result["summary"]["A1"]["dice.mean"]["ci95"]
    assert f"{low:.3f} to {high:.3f}" in page
    titles = [table.title for table in evaluation.tables(result)]
    assert any(title.startswith("Paired tests") for title in titles)


def test_names_out_of_files_are_no_markup(folder) -> None:
    result = evaluate(folder)
    result["excluded"] = [{"case": "<script>alert(1)</script>", "reason": "x"}]
    assert "<script>" not in evaluation_page.html(result)


def test_excluded_cases_are_listed_by_name() -> None:
    with pytest.raises(CaseError, match=r"a \(the first of 2 cases\): one"):
        evaluate_external.run([], [Excluded("b", "two"), Excluded("a", "one")], [], [], Options())


@pytest.mark.real_data
@pytest.mark.slow
def test_real_mr_with_rater_2_as_the_prediction(real_data) -> None:
    patterns = Patterns(
        {"R1": "tumor_R1.nii.gz", "R3": "tumor_R3.nii.gz"}, {"R2": "tumor_R2.nii.gz"}
    )
    result = evaluate(real_data, patterns, jobs=2)
    assert len(result["cases"]) == 12
    assert 0.5 < result["summary"]["R2"]["dice.mean"]["mean"] < 1
    assert result["excluded"] == []
