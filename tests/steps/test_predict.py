import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError, IntegrityError, PlatformError, SettingsError, StudyError
from liverseg.imaging.files import read
from liverseg.network.checkpoint import load_network
from liverseg.race.records import facts
from liverseg.steps.data.cases import load_case, load_probability
from liverseg.steps.results import predict
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore
from tests.conftest import CaseWriter, grid
from tests.steps.tiny_study import SETTINGS, finished_study, study_in
from tests.volume_files import write


@pytest.fixture(scope="module")
def finished():
    return finished_study()


@pytest.fixture
def model(finished, tmp_path) -> Path:
    """The winner's folder, as it lies in a store."""
    store, study = finished
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in bundle.load(store, facts.model_prefix(study.id)).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def case(tmp_path, write_case: CaseWriter) -> Path:
    return write_case(tmp_path / "case")


def one(case: Path, model: Path, out: Path, **changes: object) -> dict[str, object]:
    values = {"image": case / "image.nii.gz", "liver": case / "liver.nii.gz", "model": model}
    return predict.one(**values | {"out": out} | changes)


def test_the_probability_of_a_study_is_that_of_its_network_in_plain_torch(finished) -> None:
    store, study = finished
    (test,) = study.dataset.role("test")
    sha256 = facts.ended_arms(store, study.id)["multi"]
    probability = load_probability(store, sha256, test.key)
    case = load_case(store, test.key)
    weights = bundle.load(store, facts.model_prefix(study.id))[predict.WEIGHTS]
    network = load_network(SETTINGS.network, weights)
    size = network.grid.next_output(case.image.shape)
    around = [
        (halo, halo + whole - given)
        for halo, whole, given in zip(network.grid.halo, size, case.image.shape, strict=True)
    ]
    padded = torch.from_numpy(np.pad(case.image, around, mode="reflect"))[None, None]
    with torch.inference_mode():
        plain = torch.softmax(network(padded), dim=1)[0, 1].numpy()
    plain = plain[tuple(slice(n) for n in case.image.shape)]
    np.testing.assert_allclose(probability, np.where(case.liver, plain, 0), atol=1e-5, rtol=0)


def test_a_second_run_predicts_nothing(finished) -> None:
    store, study = finished
    assert predict.run(store, study, "multi") == []


def test_an_arm_that_has_not_ended_is_refused() -> None:
    store = MemoryStore()
    with pytest.raises(StudyError, match="has no multi model yet"):
        predict.run(store, study_in(store), "multi")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_one_image_is_segmented_on_its_own_grid(case, model, tmp_path, suffix) -> None:
    out, soft = tmp_path / f"lesions{suffix}", tmp_path / f"soft{suffix}"
    result = one(case, model, out, probabilities=soft)
    mask, image = sitk.ReadImage(str(out)), sitk.ReadImage(str(case / "image.nii.gz"))
    assert mask.GetSize() == image.GetSize()
    assert mask.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert mask.GetSpacing() == pytest.approx(image.GetSpacing(), abs=1e-4)
    assert mask.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-3)
    voxels = sitk.GetArrayFromImage(mask)
    assert result["lesion_voxels"] == voxels.sum()
    assert result["lesion_ml"] == pytest.approx(voxels.sum() * np.prod(image.GetSpacing()) / 1000)
    assert json.loads(json.dumps(result)) == result
    # Post-processing only ever takes voxels away.
    assert (read(soft).voxels[voxels > 0] > 0.5).all()


def test_names_with_spaces_and_umlauts_work(model, tmp_path, write_case: CaseWriter) -> None:
    case = write_case(tmp_path / "Fall Müller 1")
    out = tmp_path / "Läsionen von Müller.nii.gz"
    one(case, model, out)
    assert out.exists()


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return apply


def described(**changes: object) -> Callable[[Path], None]:
    def change(data: bytes) -> bytes:
        values = json.loads(data) | changes
        return json.dumps({k: v for k, v in values.items() if v is not None}).encode()

    return changed("model.json", change)


def mirrored(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (changed("model.safetensors", mirrored), IntegrityError, r"has SHA-256 .* says .*copy"),
        (changed("model.safetensors", lambda d: d[:100]), IntegrityError, "has SHA-256"),
        (changed("model.json", lambda d: d[:50]), IntegrityError, "is damaged"),
        (changed("model.json", lambda _: b"null"), IntegrityError, "is damaged"),
        (changed("model.json", lambda _: b"[" * 100_000), IntegrityError, "is damaged"),
        (described(settings=5), IntegrityError, "is damaged"),
        (described(settings=None), IntegrityError, "lacks settings"),
        (described(settings={"sedes": 3}), SettingsError, "'sedes' is unknown"),
        (described(settings={}), IntegrityError, "do not fit the network's settings"),
        (lambda folder: (folder / "model.safetensors").unlink(), SettingsError, "is no model"),
    ],
)
def test_a_damaged_model_is_refused_and_nothing_is_written(
    case, model, tmp_path, damage, error, message
) -> None:
    damage(model)
    with pytest.raises(error, match=message):
        one(case, model, tmp_path / "out" / "lesions.nii.gz")
    assert not (tmp_path / "out").exists()


def replaced(name: str, volume: Volume) -> Callable[[Path], None]:
    return lambda case: write(case / f"{name}.nii.gz", volume)


def truncated(case: Path) -> None:
    path = case / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])


def flat(case: Path) -> None:
    image = sitk.GetImageFromArray(np.ones((24, 20), np.float32))
    sitk.WriteImage(image, str(case / "image.nii.gz"))


def not_a_number(case: Path) -> None:
    image = read(case / "image.nii.gz")
    image.voxels[2, 3, 4] = np.nan
    write(case / "image.nii.gz", image)


SHAPE = grid().shape


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (replaced("liver", Volume(np.zeros(SHAPE, bool), grid())), ["liver mask is empty"]),
        (
            replaced("liver", Volume(np.ones(SHAPE, bool), grid(spacing_mm=(4.0, 1.25, 2.0)))),
            ["liver.nii.gz", "spacing", "1.5", "2"],
        ),
        (
            replaced("liver", Volume(np.ones((6, 24, 21), bool), grid(shape=(6, 24, 21)))),
            ["liver.nii.gz", "(6, 24, 20)", "(6, 24, 21)"],
        ),
        (
            replaced("image", Volume(np.ones(SHAPE, np.float32), grid())),
            ["image.nii.gz", "constant inside the liver"],
        ),
        (truncated, ["image.nii.gz", "truncated"]),
        (flat, ["image.nii.gz", "2"]),
        (not_a_number, ["image.nii.gz", "1 voxels that are NaN"]),
        (lambda case: (case / "image.nii.gz").unlink(), ["image.nii.gz"]),
    ],
)
def test_a_bad_image_is_refused_by_name_and_nothing_is_written(
    case, model, tmp_path, damage, words
) -> None:
    damage(case)
    with pytest.raises(CaseError) as refused:
        one(case, model, tmp_path / "out" / "lesions.nii.gz")
    assert [word for word in words if word not in str(refused.value)] == []
    assert not (tmp_path / "out").exists()


def test_a_case_like_the_training_s_is_not_warned_of(case, model, tmp_path) -> None:
    quieten(model)
    assert one(case, model, tmp_path / "o.nii.gz")["warnings"] == []


def quieten(model: Path, **settings: object) -> None:
    """Let the tiny liver pass, and the slices 16 mm apart: the tiny study has 4 mm."""
    path = model / "model.json"
    values = json.loads(path.read_text())
    values["settings"]["plausibility"] |= {"liver_ml": [20, 6000], "spacing_factor": 4}
    for topic, changed in settings.items():
        values["settings"][topic] |= changed
    path.write_text(json.dumps(values))


def resaved(case: Path, change: Callable[[Volume], Volume]) -> None:
    for path in case.iterdir():
        write(path, change(read(path)))


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ((17.0, 1.25, 1.5), ["slice distance of 17 mm, the training cases have 4 mm"]),
        ((16.0, 4.5, 1.5), ["in-plane spacing of 1.5 to 4.5 mm, the training cases have 1 mm"]),
        ((16.0, 0.24, 4.1), ["in-plane spacing of 0.24 to 4.1 mm"]),
        ((90.0, 5.0, 5.0), ["slice distance of 90 mm", "in-plane spacing of 5 mm"]),
    ],
)
def test_a_spacing_far_from_the_training_s_is_warned_of(
    case, model, tmp_path, spacing, words
) -> None:
    quieten(model, plausibility={"smallest_liver_ml": 0, "liver_ml": [0, 6000]})
    resaved(case, lambda v: Volume(v.voxels, grid(spacing_mm=spacing)))
    result = one(case, model, tmp_path / "o.nii.gz")
    assert len(result["warnings"]) == len(words)
    for warning, part in zip(result["warnings"], words, strict=True):
        assert part in warning
        assert f"'{case / 'image.nii.gz'}'" in warning
    assert (tmp_path / "o.nii.gz").exists()


def test_a_model_that_does_not_say_what_it_was_trained_on_warns_of_no_spacing(
    case, model, tmp_path
) -> None:
    quieten(model)
    described(training_spacing_mm=None)(model)
    resaved(case, lambda v: Volume(v.voxels, grid(spacing_mm=(99.0, 1.25, 1.5))))
    assert one(case, model, tmp_path / "o.nii.gz")["warnings"] == []


@pytest.mark.parametrize("value", [3, {"in_plane": [1, 2]}, {"between_slices": [1], "in_plane": 2}])
def test_a_damaged_training_spacing_is_refused(case, model, tmp_path, value) -> None:
    described(training_spacing_mm=value)(model)
    with pytest.raises(IntegrityError, match=r"model\.json' is damaged: training_spacing_mm is"):
        one(case, model, tmp_path / "o.nii.gz")


def test_the_model_s_description_has_the_training_cases_spacing(model) -> None:
    values = json.loads((model / "model.json").read_text())
    assert values["training_spacing_mm"] == {"between_slices": [4, 4], "in_plane": [1, 1]}


def coronal(case: Path) -> None:
    resaved(case, lambda v: Volume(v.voxels, grid(spacing_mm=(1.5, 16.0, 1.25))))


def image_as_liver(case: Path) -> None:
    (case / "liver.nii.gz").write_bytes((case / "image.nii.gz").read_bytes())


def two_labels(case: Path) -> None:
    labels = read(case / "liver.nii.gz")
    labels.voxels[2, 11, 9] = 2
    write(case / "liver.nii.gz", labels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (coronal, "its slices are coronal, along y"),
        (image_as_liver, "'liver.nii.gz' has voxels such as .* grey values of an image"),
        (two_labels, "'liver.nii.gz' has the labels 1, 2; say which of them are liver with --liv"),
    ],
)
def test_a_wrong_input_is_refused_and_nothing_is_written(
    case, model, tmp_path, damage, message
) -> None:
    damage(case)
    with pytest.raises(CaseError, match=message):
        one(case, model, tmp_path / "out" / "lesions.nii.gz")
    assert not (tmp_path / "out").exists()


def test_a_part_of_a_liver_is_segmented_with_a_warning(case, model, tmp_path) -> None:
    part = np.zeros((6, 24, 20), bool)
    part[2, 8:14, 6:12] = True
    replaced("liver", Volume(part, grid()))(case)
    warnings = one(case, model, tmp_path / "o.nii.gz")["warnings"]
    assert any("plausibility.smallest_liver_ml" in warning for warning in warnings)
    assert (tmp_path / "o.nii.gz").exists()


def test_an_input_that_is_named_by_its_url_is_no_output(case, model) -> None:
    image, liver = case / "image.nii.gz", case / "liver.nii.gz"
    before = image.read_bytes(), liver.read_bytes()
    for out in (image, liver):
        with pytest.raises(SettingsError, match="is the same file as"):
            predict.one(f"file://{image}", f"file://{liver}", model, out)
    assert (image.read_bytes(), liver.read_bytes()) == before


def test_inputs_that_are_named_by_their_urls_leave_no_copy(case, model, tmp_path) -> None:
    (case / "image.nii.gz").rename(case / "an image.nii.gz")
    image, liver = case / "an image.nii.gz", case / "liver.nii.gz"
    before = sorted((*case.iterdir(), *model.iterdir()))
    with pytest.raises(SettingsError, match="is the same file as"):
        predict.one(image.as_uri(), liver.as_uri(), model.as_uri(), image)
    predict.one(image.as_uri(), liver.as_uri(), model.as_uri(), tmp_path / "o.nii.gz")
    assert sorted((*case.iterdir(), *model.iterdir())) == before


FAILURES: dict[str, tuple[Exception, type[Exception], str]] = {
    "a library": (
        RuntimeError("mkldnn says no\nand more"),
        CaseError,
        "RuntimeError in .*: mkldnn",
    ),
    "memory": (MemoryError(), PlatformError, "out of memory"),
    "memory of torch": (RuntimeError("CUDA out of memory."), PlatformError, "out of memory: CUDA"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_what_a_library_raises_at_an_image_names_it(
    case, model, tmp_path, monkeypatch, kind
) -> None:
    error, ours, message = FAILURES[kind]
    for owner, name in ((torch.nn.Conv3d, "forward"), (sitk.ResampleImageFilter, "Execute")):
        with monkeypatch.context() as planted:
            planted.setattr(owner, name, failing(error))
            with pytest.raises(ours, match=f"'.*image.nii.gz' cannot be used: {message}"):
                one(case, model, tmp_path / "out" / "lesions.nii.gz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", FAILURES)
def test_what_a_library_raises_at_a_case_costs_no_other_case(finished, monkeypatch, kind) -> None:
    store, study = finished
    cases = tuple(replace(record, role="test") for record in study.dataset.cases)
    study = replace(study, dataset=replace(study.dataset, cases=cases))
    copied = MemoryStore()
    copied.objects.update(store.objects)
    error, _, message = FAILURES[kind]
    with monkeypatch.context() as planted:
        whole = torch.nn.Conv3d.forward
        planted.setattr(torch.nn.Conv3d, "forward", failing(error, once_before=whole))
        with pytest.raises(CaseError, match=f"1 case cannot be predicted: training: {message}"):
            predict.run(copied, study, "multi")
    assert predict.run(copied, study, "multi") == ["training"]


def failing(
    error: Exception, once_before: Callable[..., object] | None = None
) -> Callable[..., object]:
    """Return a function that raises, each time or before it does once what another does."""
    left = [error]

    def fail(*arguments: object, **others: object) -> object:
        if once_before is None or left:
            left.clear()
            raise error
        return once_before(*arguments, **others)

    return fail


def test_an_option_says_how_the_slices_of_an_image_lie(case, model, tmp_path) -> None:
    quieten(model)
    coronal(case)
    with pytest.raises(CaseError, match="--slice-axis"):
        one(case, model, tmp_path / "o.nii.gz")
    for axis in ("y", "z"):
        one(case, model, tmp_path / f"{axis}.nii.gz", slice_axis=axis)
        written, image = (
            sitk.ReadImage(path) for path in (tmp_path / f"{axis}.nii.gz", case / "image.nii.gz")
        )
        assert written.GetSize() == image.GetSize()
        assert written.GetDirection() == image.GetDirection()


def test_the_labels_of_the_liver_are_those_given_or_else_the_training_s(
    case, model, tmp_path
) -> None:
    quieten(model)
    plain = one(case, model, tmp_path / "a.nii.gz")["lesion_voxels"]
    two_labels(case)
    chosen = one(case, model, tmp_path / "b.nii.gz", liver_labels=(1, 2))
    assert chosen["lesion_voxels"] == plain
    quieten(model, data={"liver_labels": [1, 2]})
    assert one(case, model, tmp_path / "c.nii.gz")["lesion_voxels"] == plain
    assert (tmp_path / "c.nii.gz").read_bytes() == (tmp_path / "a.nii.gz").read_bytes()


def test_coronal_slices_are_segmented_as_axial_ones_where_the_model_takes_them(
    case, model, tmp_path
) -> None:
    """The same voxels, called slices along y: the network sees the same, and so does the file."""
    quieten(model)
    one(case, model, tmp_path / "axial.nii.gz", probabilities=tmp_path / "soft.nii.gz")
    axial = read(tmp_path / "soft.nii.gz").voxels
    # LIP: array axis 0 (slices) along y, 1 (rows) downwards, 2 to the left.
    direction = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)
    resaved(case, lambda v: Volume(v.voxels, grid(direction=direction)))
    quieten(model, preparation={"slice_axis": "y"})
    one(case, model, tmp_path / "coronal.nii.gz", probabilities=tmp_path / "soft2.nii.gz")
    image = sitk.ReadImage(str(case / "image.nii.gz"))
    mask = sitk.ReadImage(str(tmp_path / "coronal.nii.gz"))
    assert mask.GetDirection() == pytest.approx(image.GetDirection())
    assert mask.GetSize() == image.GetSize()
    soft = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "soft2.nii.gz")))
    np.testing.assert_array_equal(soft, axial)
    assert axial.max() > 0


def test_an_output_of_an_unknown_format_is_refused_before_any_work(case, model, tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"lesions.png' must end with one of .nii.gz"):
        one(case / "nowhere", model, tmp_path / "lesions.png")
