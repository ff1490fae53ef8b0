import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from liverseg.errors import CaseError, IntegrityError, SettingsError, StoreError
from liverseg.settings import Settings
from liverseg.steps.data import scan, transfer
from liverseg.storage.memory import MemoryStore
from liverseg.storage.open import open_store

SETTINGS = Settings()
SPLIT = {"test": ["c"], "validation": ["b"]}


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def data(tmp_path, write_case):
    for seed, name in enumerate("abc"):
        write_case(tmp_path / "data" / name, seed=seed)
    (tmp_path / "data" / "split.json").write_text(json.dumps(SPLIT))
    (tmp_path / "data" / "notes.txt").write_text("stays here")
    (tmp_path / "data" / "a" / "notes.txt").write_text("stays here")
    return tmp_path / "data"


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes()
            for p in folder.rglob("*") if p.is_file()}  # fmt: skip


def test_what_is_pulled_is_what_was_pushed_but_for_other_peoples_files(data, store, tmp_path):
    pushed = transfer.push(data, store, SETTINGS)
    fetched, files = transfer.pull(store, tmp_path / "back")
    assert fetched == files == pushed.files == 13
    assert pushed.sent == len(set(contents(data).values()) - {b"stays here"})
    expected = {n: b for n, b in contents(data).items() if not n.endswith("notes.txt")}
    assert contents(tmp_path / "back") == expected
    assert scan.run(tmp_path / "back", store, SETTINGS).dataset == scan.run(
        data, store, SETTINGS
    ).dataset  # fmt: skip


def test_every_blob_is_called_as_its_bytes_hash(data, store):
    transfer.push(data, store, SETTINGS)
    blobs = {k: v for k, v in store.objects.items() if k.startswith("blobs/")}
    assert {k: f"blobs/{sha256(v).hexdigest()}" for k, v in blobs.items()} == {k: k for k in blobs}


def test_no_key_holds_a_folders_name_or_a_pseudonym(tmp_path, store, write_case):
    for seed, name in enumerate(("Mustermann", "Musterfrau", "Doe")):
        write_case(tmp_path / name, seed=seed)
    transfer.push(tmp_path, store, SETTINGS)
    names = ("mustermann", "musterfrau", "doe")
    assert [k for k in store.objects if any(n in k.lower() for n in names)] == []


def test_a_second_push_sends_nothing_and_one_changed_file_is_one_file(data, store, write_case):
    first = transfer.push(data, store, SETTINGS)
    again = transfer.push(data, store, SETTINGS)
    assert (again.version, again.sent, again.sent_bytes) == (first.version, 0, 0)
    (data / "split.json").write_text(json.dumps({"test": ["b"], "validation": ["c"]}))
    third = transfer.push(data, store, SETTINGS)
    assert third.version != first.version
    assert third.sent == 1


@pytest.mark.slow
def test_a_push_cut_short_at_any_write_is_seen_by_nobody_and_goes_on(data):
    whole = MemoryStore()
    transfer.push(data, whole, SETTINGS)
    for stop in range(whole.writes):

        def cut(number, key, stop=stop):
            if number == stop:
                raise StoreError("gone")

        sent = []
        store = MemoryStore(before_write=cut, after_write=lambda _n, key, s=sent: s.append(key))
        with pytest.raises(StoreError, match="gone"):
            transfer.push(data, store, SETTINGS)
        with pytest.raises(SettingsError, match="no data set at this URL"):
            transfer.version_of(store)
        store.before_write = None
        transfer.push(data, store, SETTINGS)
        assert store.objects == whole.objects
        blobs = [key for key in sent if key.startswith("blobs/")]
        assert len(blobs) == len(set(blobs)), "a file was sent twice"


def test_a_data_set_with_a_bad_case_is_not_sent_and_all_that_is_wrong_is_reported(data, store):
    (data / "a" / "liver.nii.gz").unlink()
    (data / "b" / "image.nii.gz").write_bytes(b"nothing")
    pushed = transfer.push(data, store, SETTINGS)
    assert {f.case for f in pushed.findings} == {"a", "b"}
    assert pushed.version == ""
    assert store.objects == {}


def test_an_older_version_stays_what_it_was(data, store, tmp_path, write_case):
    first = transfer.push(data, store, SETTINGS)
    before = contents(data)
    write_case(data / "d", seed=9)
    second = transfer.push(data, store, SETTINGS)
    assert transfer.version_of(store) == second.version
    transfer.pull(store, tmp_path / "first", first.version[:8])
    pulled = contents(tmp_path / "first")
    assert pulled == {n: b for n, b in before.items() if not n.endswith("notes.txt")}
    with pytest.raises(SettingsError, match="names 0 of"):
        transfer.version_of(store, "f" * 64)


def test_a_pull_goes_on_where_it_was_cut_short(data, store, tmp_path):
    transfer.push(data, store, SETTINGS)
    transfer.pull(store, tmp_path / "back", names=["a"])
    assert [p.name for p in (tmp_path / "back").iterdir()] == ["a"]
    fetched, files = transfer.pull(store, tmp_path / "back")
    assert 0 < fetched < files
    assert transfer.pull(store, tmp_path / "back") == (0, files)


def test_another_file_in_the_way_is_not_overwritten(data, store, tmp_path):
    transfer.push(data, store, SETTINGS)
    mine = tmp_path / "back" / "a" / "image.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(SettingsError, match="is another file"):
        transfer.pull(store, tmp_path / "back")
    assert contents(tmp_path / "back") == {"a/image.nii.gz": b"mine"}


def test_everything_that_is_in_the_way_is_named_before_anything_is_fetched(data, store, tmp_path):
    transfer.push(data, store, SETTINGS)
    back = tmp_path / "back"
    (back / "a" / "image.nii.gz").mkdir(parents=True)
    (back / "a" / "liver.nii.gz").write_bytes(b"mine")
    (back / "a" / "tumor_R1.nii.gz").symlink_to(tmp_path / "nowhere")
    (back / "b").write_bytes(b"mine too")
    before = sorted(back.rglob("*"))
    with pytest.raises(SettingsError) as refused:
        transfer.pull(store, back)
    said = str(refused.value)
    assert said.startswith("4 in the way of the data set: ")
    assert f"'{back / 'a' / 'image.nii.gz'}' is no file" in said
    assert f"'{back / 'a' / 'liver.nii.gz'}' is another file (SHA-256 " in said
    assert f"'{back / 'a' / 'tumor_R1.nii.gz'}' is no file" in said
    assert f"'{back / 'b'}' is no folder" in said
    assert sorted(back.rglob("*")) == before
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("damaged", ["image", "tumor_R2"])
def test_a_damaged_blob_is_named_and_leaves_nothing_of_its_case(data, store, tmp_path, damaged):
    pushed = transfer.push(data, store, SETTINGS)
    bytes_of_it = (data / "b" / f"{damaged}.nii.gz").read_bytes()
    key = f"blobs/{sha256(bytes_of_it).hexdigest()}"
    whole = store.objects[key]
    store.objects[key] = b"damaged"
    with pytest.raises(IntegrityError, match=key):
        transfer.pull(store, tmp_path / "back", names=["b"])
    assert not (tmp_path / "back").exists()
    transfer.pull(store, tmp_path / "back", names=["split.json"])
    with pytest.raises(IntegrityError, match=key):
        transfer.pull(store, tmp_path / "back", names=["b"])
    assert [path.name for path in (tmp_path / "back").rglob("*")] == ["split.json"]
    store.objects[key] = whole
    assert transfer.pull(store, tmp_path / "back") == (pushed.files - 1, pushed.files)


def test_files_that_a_case_has_survive_a_damaged_blob(data, store, tmp_path):
    transfer.push(data, store, SETTINGS)
    transfer.pull(store, tmp_path / "back")
    (tmp_path / "back" / "b" / "image.nii.gz").unlink()
    before = contents(tmp_path / "back")
    store.objects[f"blobs/{sha256((data / 'b' / 'image.nii.gz').read_bytes()).hexdigest()}"] = b""
    with pytest.raises(IntegrityError, match="is damaged"):
        transfer.pull(store, tmp_path / "back")
    assert contents(tmp_path / "back") == before


def test_voxels_beside_a_header_travel_with_it(tmp_path, store, tiny_case, write_case):
    import SimpleITK as sitk

    write_case(tmp_path / "data" / "a")
    image = sitk.ReadImage(tmp_path / "data" / "a" / "image.nii.gz")
    (tmp_path / "data" / "a" / "image.nii.gz").unlink()
    sitk.WriteImage(image, tmp_path / "data" / "a" / "image.nhdr")
    (tmp_path / "data" / "a" / "image.nhdr").rename(tmp_path / "data" / "a" / "image.nrrd")
    pushed = transfer.push(tmp_path / "data", store, SETTINGS)
    assert pushed.findings == []
    transfer.pull(store, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "data")


@pytest.mark.parametrize("elsewhere", ["../", "{elsewhere}/"])
def test_voxels_outside_the_cases_folder_are_refused(tmp_path, store, write_case, elsewhere):
    import SimpleITK as sitk

    folder = tmp_path / "data" / "a"
    write_case(folder)
    image = sitk.ReadImage(folder / "image.nii.gz")
    (folder / "image.nii.gz").unlink()
    sitk.WriteImage(image, folder / "image.nhdr")
    header = (folder / "image.nhdr").read_text()
    voxels = next(p for p in folder.iterdir() if p.name.startswith("image.raw"))
    elsewhere = elsewhere.format(elsewhere=tmp_path)
    voxels.rename(folder / elsewhere / voxels.name)
    (folder / "image.nhdr").unlink()
    (folder / "image.nrrd").write_text(header.replace(voxels.name, elsewhere + voxels.name))
    with pytest.raises(CaseError, match="outside its case's folder"):
        transfer.push(tmp_path / "data", store, SETTINGS)
    assert store.objects == {}


def test_a_url_is_a_folder_to_every_step(data, tmp_path):
    store = open_store(f"file://{tmp_path}/pushed")
    version = transfer.push(data, store, SETTINGS).version
    folder = transfer.local_folder(f"{store.url}@{version}", ["a", "split.json"])
    assert sorted(p.name for p in folder.iterdir()) == ["a", "split.json"]
    assert sorted(p.name for p in transfer.local_folder(store.url).iterdir()) == [
        "a", "b", "c", "split.json",
    ]  # fmt: skip
    assert transfer.local_folder(str(data)) == data


def test_a_split_may_lie_in_a_store(tmp_path):
    (tmp_path / "store" / "lists").mkdir(parents=True)
    (tmp_path / "store" / "lists" / "mine.json").write_text(json.dumps(SPLIT))
    path = transfer.local_file(f"file://{tmp_path}/store/lists/mine.json")
    assert scan.read_split(path) == scan.Split("mine.json", SPLIT)


@pytest.mark.parametrize("name", ["list.json", "a list.json", "Größe?#.json"])
def test_what_a_file_url_names_is_read_where_it_lies(tmp_path, name):
    """A copy of a patient's image would stay for ever."""
    (tmp_path / "st ore").mkdir()
    (tmp_path / "st ore" / name).write_text("{}")
    url = (tmp_path / "st ore" / name).as_uri()
    assert transfer.local_file(url) == tmp_path / "st ore" / name
    folder = transfer.local_bundle((tmp_path / "st ore").as_uri())
    assert folder == tmp_path / "st ore"
    assert [p.name for p in folder.iterdir()] == [name]


def test_a_file_url_names_any_file_of_the_machine():
    assert transfer.local_file("file:///image.nii") == Path("/image.nii")
    assert transfer.local_file("file:///data/%FF.nii") == Path(os.fsdecode(b"/data/\xff.nii"))
    assert transfer.local_bundle("file:///") == Path("/")
    for url in ("file://image.nii", "file://host/image.nii", "file://", "file:///a%00b"):
        with pytest.raises(SettingsError, match=f"'{url}': "):
            transfer.local_file(url)


def test_the_datas_own_split_is_taken_unless_another_is_given(data, store, tmp_path):
    roles = {c.name: c.role for c in scan.run(data, store, SETTINGS).dataset.cases}
    assert roles == {"a": "training", "b": "validation", "c": "test"}
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"test": ["a"], "validation": ["b"]}))
    assert scan.run(data, store, SETTINGS, other).dataset.role("test")[0].name == "a"


def test_the_cases_at_a_url_are_named_without_fetching_one(data, tmp_path):
    store = open_store(f"file://{tmp_path}/pushed")
    version = transfer.push(data, store, SETTINGS).version
    at_version = f"{store.url}@{version}"
    assert transfer.cases_at(store.url) == (at_version, ["a", "b", "c"])
    assert transfer.cases_at(at_version) == (at_version, ["a", "b", "c"])
    assert transfer.cases_at(str(data)) == (str(data), ["a", "b", "c"])
    assert not (store.work / "data").exists()


def test_what_lies_below_a_url_is_a_folder(tmp_path):
    store = open_store(f"file://{tmp_path}/store")
    store.put("studies/1/model/model.json", b"{}")
    store.put("studies/1/other.json", b"{}")
    folder = transfer.local_bundle(f"{store.url}/studies/1/model")
    assert contents(folder) == {"model.json": b"{}"}
    assert transfer.local_bundle(str(tmp_path)) == tmp_path
    nothing = tmp_path / "store" / "studies" / "2"  # what is not there is told where it is read
    assert transfer.local_bundle(f"{store.url}/studies/2") == nothing


@pytest.mark.parametrize("damaged", [b"{}", b'{"version": 3}', b'{"version": ""}', b"["])
def test_a_damaged_record_of_the_current_version_is_named(data, store, tmp_path, damaged):
    transfer.push(data, store, SETTINGS)
    store.objects[transfer.CURRENT] = damaged
    with pytest.raises(IntegrityError, match=r"'current\.json' is damaged"):
        transfer.pull(store, tmp_path / "back")


@pytest.mark.parametrize("damaged", [b"{}", b'{"files": []}', b'{"files": {"a/b": {}}}', b"["])
def test_a_damaged_version_is_named(data, store, tmp_path, damaged):
    key = f"versions/{transfer.push(data, store, SETTINGS).version}.json"
    store.objects[key] = damaged
    with pytest.raises(IntegrityError, match=f"'{key}' is damaged"):
        transfer.pull(store, tmp_path / "back")
