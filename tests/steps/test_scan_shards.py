"""The tasks `find cases`, `preprocess` and `scan` of a pipeline, without KFP between them."""

import json
import shutil
from collections import Counter

import pytest

from liverseg.errors import IntegrityError, SettingsError, StoreError, StudyError
from liverseg.race.records.study import load_study
from liverseg.settings import from_mapping, preset
from liverseg.steps import tasks
from liverseg.steps.data import scan, scan_shards, transfer
from liverseg.steps.data.cases import require_prepared
from liverseg.storage.folder import FolderStore
from liverseg.storage.memory import MemoryStore
from liverseg.storage.open import open_store
from tests.file_opens import counted_opens

SETTINGS = preset("demo")
NAMES = ["a", "b", "c", "d", "e"]
SPLIT = {"test": ["d"], "validation": ["c"]}


@pytest.fixture
def data(tmp_path, write_case):
    for seed, name in enumerate(NAMES):
        write_case(tmp_path / "data" / name, seed=seed, description={"patient": f"P{seed}"})
    (tmp_path / "data" / "split.json").write_text(json.dumps(SPLIT))
    return tmp_path / "data"


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def scanned(data, store, shards=2):
    """Run the three tasks; return the study's id."""
    scan_id, names = tasks.find_cases(str(data), store.url, "demo", "", "{}", shards)
    for name in names:
        tasks.preprocess(store.url, name)
    return tasks.scan(store.url, scan_id)


def begun(data, store, shards=2):
    return scan_shards.begin(str(data), store, SETTINGS, None, shards)


def of_shards(store):
    """Bytes by key of what shards have recorded and prepared."""
    return {k: store.get(k) for k in store.keys("") if "/shards/" in k or k.startswith("cases/")}


def test_every_file_is_opened_once_by_all_tasks_together_and_so_in_the_next_run(data, store):
    every_file = {p.relative_to(data).as_posix(): 1 for p in data.rglob("*") if p.is_file()}
    for _ in range(2):
        with counted_opens(data) as opens:
            scanned(data, store)
        assert opens == every_file
    assert len(every_file) == 5 * 5 + 1


def test_shards_give_the_study_and_the_prepared_cases_of_a_scan_in_one_piece(data, store):
    study = load_study(store, scanned(data, store, 3))
    other = MemoryStore()
    result = scan.run(data, other, SETTINGS, keep_prepared=True)
    assert study.dataset == result.dataset
    assert study.settings == SETTINGS
    prepared = {key: store.get(key) for key in store.keys("cases/")}
    assert prepared == {k: v for k, v in other.objects.items() if k.startswith("cases/")}
    assert len(prepared) == 2 * len(NAMES)


def test_shards_share_out_all_cases(data, store):
    scan_id = begun(data, store, 3)
    names = [[c.name for c in scan_shards.check_shard(store, scan_id, n)] for n in range(3)]
    assert names == [["a", "d"], ["b", "e"], ["c"]]


def test_more_shards_than_cases_are_no_error(data, store):
    assert len(load_study(store, scanned(data, store, 7)).dataset.cases) == 5


def test_finding_the_cases_opens_none_of_their_files(data, store):
    with counted_opens(data) as opens:
        begun(data, store)
    assert opens == {"split.json": 1}


@pytest.mark.slow
def test_a_url_is_scanned_as_a_folder_is_and_every_object_is_fetched_once(
    data, store, tmp_path, monkeypatch
):
    expected = scanned(data, FolderStore(tmp_path / "other"))
    pushed = open_store(f"file://{tmp_path}/pushed")
    version = transfer.push(data, pushed, SETTINGS).version
    uses = Counter(f["sha256"] for f in json.loads(
        pushed.get(f"versions/{version}.json"))["files"].values())  # fmt: skip
    fetched = Counter()
    get_file = FolderStore.get_file

    def counting(self, key, path):
        fetched[key.removeprefix("blobs/")] += 1
        get_file(self, key, path)

    monkeypatch.setattr(FolderStore, "get_file", counting)
    scan_id, (first, second) = tasks.find_cases(pushed.url, store.url, "demo", "", "{}", 2)
    folder = pushed.work / "data" / version
    assert [path.name for path in folder.iterdir()] == ["split.json"]
    tasks.preprocess(store.url, first)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c", "e", "split.json"]
    tasks.preprocess(store.url, second)
    assert tasks.scan(store.url, scan_id) == expected
    assert fetched == uses
    assert sum(fetched.values()) == 5 * 5 + 1


@pytest.mark.slow
def test_what_is_pushed_while_a_scan_runs_is_left_to_the_next_run(data, store, tmp_path):
    expected = scanned(data, FolderStore(tmp_path / "other"))
    pushed = open_store(f"file://{tmp_path}/pushed")
    transfer.push(data, pushed, SETTINGS)
    scan_id, shards = tasks.find_cases(pushed.url, store.url, "demo", "", "{}", 2)
    swapped = (data / "a" / "image.nii.gz").read_bytes()
    (data / "b" / "image.nii.gz").write_bytes(swapped)
    transfer.push(data, pushed, SETTINGS)
    for shard in shards:
        tasks.preprocess(store.url, shard)
    assert tasks.scan(store.url, scan_id) == expected


def test_what_is_wrong_in_two_shards_is_reported_at_once_and_nothing_is_opened(data, store, capsys):
    (data / "a" / "liver.nii.gz").unlink()
    (data / "b" / "image.nii.gz").write_bytes(b"nothing")
    (data / "e" / "tumor_R1.nii.gz").unlink()
    (data / "d" / "image.nii.gz").write_bytes((data / "c" / "image.nii.gz").read_bytes())
    with pytest.raises(SystemExit) as ended:
        scanned(data, store)
    assert ended.value.code == 3
    output = capsys.readouterr().out
    assert "a liver: there is no 'liver' file" in output
    assert (
        "b image.nii.gz: 'image.nii.gz' is not gzip-compressed although its name ends with"
        in output
    )
    assert "e tumor_R1: there is no 'tumor_R1' file, which a training case needs" in output
    assert "d image: the image is a copy of 'c', which is validation" in output
    assert f"4 problems in '{data}'; no data set was written" in output
    # The usable ones stay prepared.
    assert {key.split("/")[0] for key in store.keys("")} == {"cases", "scans"}


@pytest.mark.slow
def test_a_shard_that_is_started_again_after_any_write_leaves_what_one_start_leaves(data):
    whole = MemoryStore()
    scan_id = begun(data, whole)
    started_with = dict(whole.objects)
    scan_shards.check_shard(whole, scan_id, 0)
    expected, writes = of_shards(whole), whole.writes - 1
    assert writes == 2 * 3 + 1
    for stop in range(writes):

        def crash(number, key, stop=stop):
            if number == stop:
                raise StoreError("gone")

        store = MemoryStore(before_write=crash)
        store.objects.update(started_with)
        with pytest.raises(StoreError, match="gone"):
            scan_shards.check_shard(store, scan_id, 0)
        with pytest.raises(StudyError, match=r"no record 'shards/0.json': .* start a new run"):
            scan_shards.collect_shards(store, scan_id, scan_shards.load(store, scan_id))
        store.before_write = None
        scan_shards.check_shard(store, scan_id, 0)
        again = of_shards(store)
        key = f"scans/{scan_id}/shards/0.json"
        # What the first start has prepared is called so; all else is the same.
        again[key] = again[key].replace(b'"prepared": true', b'"prepared": false')
        assert again == expected


def test_a_shard_that_is_started_again_records_what_lies_there_now(data, store):
    scan_id = begun(data, store)
    scan_shards.check_shard(store, scan_id, 1)
    first = scan_shards.check_shard(store, scan_id, 0)
    (data / "a" / "image.nii.gz").write_bytes((data / "b" / "image.nii.gz").read_bytes())
    second = scan_shards.check_shard(store, scan_id, 0)
    assert first[0].key != second[0].key
    dataset = scan_shards.collect_shards(store, scan_id, scan_shards.load(store, scan_id)).dataset
    assert dataset.cases[0].key == second[0].key
    require_prepared(store, dataset)


def test_a_scan_collects_no_other_scans_records(data, store):
    unfinished = begun(data, store)
    scan_shards.check_shard(store, unfinished, 0)
    other = begun(data, store)
    scan_shards.check_shard(store, other, 1)
    for scan_id, missing in ((unfinished, 1), (other, 0)):
        with pytest.raises(StudyError, match=f"scan {scan_id} has no record 'shards/{missing}"):
            scan_shards.collect_shards(store, scan_id, scan_shards.load(store, scan_id))
    scanned(data, store)


def test_a_changed_file_is_seen_by_the_next_run_and_no_shard_has_a_name_twice(data, store):
    arguments = (str(data), store.url, "demo", "", "{}", 2)
    _, names = tasks.find_cases(*arguments)
    _, others = tasks.find_cases(*arguments)
    # The name is the shard's only parameter beside the store: KFP's cache knows it by that.
    assert len({*names, *others}) == 4
    before = load_study(store, scanned(data, store))
    (data / "a" / "image.nii.gz").write_bytes((data / "b" / "image.nii.gz").read_bytes())
    after = load_study(store, scanned(data, store))
    keys = {case.name: case.key for case in before.dataset.cases}
    assert [c.name for c in after.dataset.cases if c.key != keys[c.name]] == ["a"]
    require_prepared(store, after.dataset)


def test_a_scan_that_is_repeated_since_its_pod_was_lost_gives_the_same_answer(data, store, capsys):
    scan_id, names = tasks.find_cases(str(data), store.url, "demo", "", "{}", 1)
    tasks.preprocess(store.url, names[0])
    study = tasks.scan(store.url, scan_id)
    assert tasks.scan(store.url, scan_id) == study
    assert {key.split("/")[1] for key in store.keys("studies/")} == {study}
    (data / "a" / "liver.nii.gz").unlink()
    scan_id, names = tasks.find_cases(str(data), store.url, "demo", "", "{}", 1)
    tasks.preprocess(store.url, names[0])
    for _ in range(2):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            tasks.scan(store.url, scan_id)
        assert ended.value.code == 3
        assert "there is no 'liver' file" in capsys.readouterr().out


def test_cases_can_be_excluded_and_are_named(data, store):
    (data / "a" / "liver.nii.gz").unlink()
    settings = json.dumps({"data": {"refused_cases": "exclude"}})
    scan_id, names = tasks.find_cases(str(data), store.url, "demo", "", settings, 2)
    for name in names:
        tasks.preprocess(store.url, name)
    dataset = load_study(store, tasks.scan(store.url, scan_id)).dataset
    assert dataset.excluded == (("a", "there is no 'liver' file"),)
    assert len(dataset.cases) == 4


def test_all_that_was_learned_survives_its_record(data, store):
    for number in range(3, 11):
        copy = (data / "a" / "tumor_R2.nii.gz").read_bytes()
        (data / "a" / f"tumor_R{number}.nii.gz").write_bytes(copy)
    (data / "b" / "image.nii.gz").write_bytes(b"nothing")
    scan_id = begun(data, store, 1)
    checked = scan_shards.check_shard(store, scan_id, 0)
    collected = scan_shards.collect_shards(store, scan_id, scan_shards.load(store, scan_id)).cases
    assert [c.raters for c in collected] == [c.raters for c in checked]
    assert collected[0].raters[-1] == "R10"
    for name in (
        "files",
        "sha256",
        "key",
        "problems",
        "shape",
        "spacing_mm",
        "lesion_ml",
        "warnings",
    ):
        assert [getattr(c, name) for c in collected] == [getattr(c, name) for c in checked]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("shape", [6, 24], r"field 'cases\[1\].shape' is \[6, 24\], expected `array` of length 3"),
        ("key", 7, r"field 'cases\[1\].key' is 7, expected `str`, got `int`"),
        ("role", "trains", r"field 'cases\[1\].role' is 'trains', invalid enum value 'trains'"),
        (
            "sha256",
            {"image": "7f"},
            r"field 'cases\[1\].sha256' is {'image': '7f'}, expected `str`",
        ),
    ],
)
def test_a_malformed_record_is_named(data, store, field, value, message):
    for name in NAMES[2:]:
        shutil.rmtree(data / name)
    scan_id = begun(data, store, 1)
    scan_shards.check_shard(store, scan_id, 0)
    key = f"scans/{scan_id}/shards/0.json"
    record = json.loads(store.get(key))
    record["cases"][1][field] = value
    store.put(key, json.dumps(record).encode())
    with pytest.raises(IntegrityError, match=f"'{key}' is damaged: .*{message}"):
        scan_shards.collect_shards(store, scan_id, scan_shards.load(store, scan_id))


def test_a_split_or_a_patch_that_cannot_be_used_is_refused_before_a_case_is_read(data, store):
    (data / "split.json").write_text("[]")
    with counted_opens(data) as opens, pytest.raises(SystemExit) as ended:
        scanned(data, store)
    assert (ended.value.code, opens) == (2, {"split.json": 1})
    (data / "split.json").write_text(json.dumps(SPLIT))
    odd = from_mapping({"training": {"patch": [7, 33, 31]}}, SETTINGS)
    with pytest.raises(SettingsError, match=r"training.patch \(7, 33, 31\) does not fit"):
        scan_shards.begin(str(data), store, odd, None, 1)
    assert store.keys("") == []
