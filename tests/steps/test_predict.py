import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from liverseg.core.volumes.volume import Volume
from liverseg.errors import CaseError, IntegrityError, SettingsError, StudyError
from liverseg.imaging.files import read, write
from liverseg.network.checkpoint import load_network
from liverseg.race.records import facts
from liverseg.steps.data.cases import load_case, load_probability
from liverseg.steps.results import predict
from liverseg.storage import bundle
from liverseg.storage.memory import MemoryStore
from tests.conftest import CaseWriter, grid
from tests.steps.tiny_study import SETTINGS, finished_study, study_in


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


def test_an_output_of_an_unknown_format_is_refused_before_any_work(case, model, tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"lesions.png': its suffix must be one of .nii.gz"):
        one(case / "nowhere", model, tmp_path / "lesions.png")
