import json
from collections import Counter
from html.parser import HTMLParser

import pytest

from liverseg.errors import StoreError, StudyError
from liverseg.exit_codes import ExitCode
from liverseg.steps.race import race
from liverseg.steps.report import report, rung_page
from liverseg.steps.report.report_figures import by_rule
from liverseg.steps.results import disagreement, evaluate, result_keys
from liverseg.storage import record
from liverseg.storage.memory import MemoryStore
from tests.race.fault_script import Killed
from tests.race.rehearsal import Rehearsal
from tests.steps.tiny_study import finished_study, study_in

# The report is made with whichever test comes first.
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Rows of all tables, sources of all pictures, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [v or "" for k, v in attributes if k in ("src", "href", "srcset")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        (match,) = [r for r in self.rows if r[0] == first]
        return match


@pytest.fixture(scope="module")
def finished():
    store, study = finished_study()
    evaluate.run(store, study)
    return store, study


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory) -> Page:
    store, study = finished
    out = tmp_path_factory.mktemp("report") / "new folder" / "report.html"
    assert report.run(store, study.id, out) == out
    assert store.get(result_keys.report_page_key(study.id)) == out.read_bytes()
    return Page(out.read_text(encoding="utf-8"))


def test_the_page_needs_nothing_beside_it(page) -> None:
    # Curves, figures 2 and 5; one test case: chosen by rule, all its slices, the seeds' votes.
    assert len(page.sources) == 6
    kinds = Counter(source.partition(";base64,")[0] for source in page.sources)
    assert kinds == {"data:image/png": 3, "data:image/webp": 3}
    assert "@import" not in page.text
    assert "url(" not in page.text


def test_it_has_every_part_and_says_that_the_data_is_synthetic(page) -> None:
    parts = (
        "Result", "The race", "How sure was the race?", "Test cases", "Slices",
        "What several seeds are worth", "Time and iterations", "Data", "Methods", "Model card",
        "Settings",
    )  # fmt: skip
    assert [p for p in parts if f"\n{p}\n" not in page.text] == []
    assert "SYNTHETIC DATA" in page.text
    assert "test, synthetic, the slices with most lesion" in page.text
    assert "Figure 2, of synthetic test cases" in page.text
    assert "the data is synthetic" in page.text
    assert "not a medical device" in page.text


def test_the_model_card_says_what_was_missed_and_what_was_invented(finished, page) -> None:
    store, study = finished
    cases = evaluate.load_evaluation(store, study.id)["arms"]["multi"]["cases"].values()
    counts = [counts for case in cases for counts in case["detection"].values()]
    missed, detected, invented = (sum(c[k] for c in counts) for k in ("fn", "tp", "fp"))
    sentence = (
        f"it missed {missed} of {detected + missed} lesions and marked {invented} false lesions"
    )
    assert sentence in page.text


def test_the_results_stand_beside_the_published_ones(finished, page) -> None:
    store, study = finished
    evaluation = evaluate.load_evaluation(store, study.id)
    multi, baseline, threshold = (
        f"{evaluation['arms'][arm]['mean_dice']:.3f}" for arm in ("multi", "baseline", "threshold")
    )
    assert "published, other data" in page.text
    assert page.row("winner of the race (A1)")[1:] == [multi, "0.738 ± 0.194"]
    assert page.row("baseline: one training without rungs (A2)")[1:] == [baseline, "0.700 ± 0.196"]
    assert page.row("best single threshold inside the liver")[1:] == [threshold, ""]
    detection = evaluation["arms"]["multi"]["cases"]["test"]["detection"]["R1"]
    counts = [str(detection[k]) for k in ("tp", "fn", "fp")]
    (row,) = [r for r in page.rows if r[:2] == ["test", "R1"]]
    assert row[2:] == [multi, baseline, threshold, *counts]


def test_the_page_says_what_raters_have_outside_the_liver_and_what_it_costs(
    finished, page, tmp_path
) -> None:
    assert "No rater has contoured anything outside the liver." in page.text
    store, study = finished
    key = result_keys.evaluation_key(study.id)
    before = store.get(key)
    values = json.loads(before)
    (case,) = values["document"]["cases"]
    case["outside_liver_voxels"]["R1"], case["outside_liver_dice_loss"]["R1"] = 12, 0.0625
    record.write(store, key, values)
    try:
        text = report.run(store, study.id, tmp_path / "r.html").read_text(encoding="utf-8")
    finally:
        store.put(key, before)
    outside = Page(text)
    assert "No rater has contoured" not in outside.text
    assert ["test", "R1", "12", "0.062"] in outside.rows


def test_tables_figures_and_numbers_lie_beside_the_page_and_in_the_store(finished, tmp_path):
    store, study = finished
    report.run(store, study.id, tmp_path / "report.html")
    files = {p.name: p.read_bytes() for p in (tmp_path / "report-files").iterdir()}
    assert sorted(files) == [
        "evaluation.json", "figure-2.png", "figure-2.svg", "figure-3-best.png",
        "figure-3-best.svg", "figure-5.png", "figure-5.svg",
        "table-1.csv", "table-1.tex", "table-2-correspondence.csv", "table-2-correspondence.tex",
        "table-2.csv", "table-2.tex",
    ]  # fmt: skip
    kept = {name: store.get(result_keys.publication_key(study.id, name)) for name in files}
    assert kept == files
    document = evaluate.load_evaluation(store, study.id)["document"]
    assert json.loads(files["evaluation.json"]) == document
    first = files["table-1.csv"].decode().splitlines()[1].split(",")
    assert first[:2] == ["A1", f"{document['cases'][0]['algorithms']['A1']['dice']['R1']:.3f}"]
    report.run(store, study.id, tmp_path / "again" / "page.html")
    again = {p.name: p.read_bytes() for p in (tmp_path / "again" / "page-files").iterdir()}
    assert again == files


def test_the_methods_are_those_that_were_used(finished, page) -> None:
    _, study = finished
    assert "2 networks that differ in their random seed (0 to 1)" in page.text
    assert "After 3 iterations the better half by their best validation Jaccard" in page.text
    assert "A2 is one network" in page.text
    assert page.row("study")[1] == study.id
    assert "No p-value:" in page.text


def test_slices_are_chosen_by_rule() -> None:
    def document(*dice: float):
        return {
            "cases": [
                {"case": f"c{n}", "algorithms": {"A1": {"dice": {"mean": d}}}}
                for n, d in enumerate(dice)
            ]
        }

    assert by_rule(document(0.5, 0.9, 0.1, 0.7)) == {"best": "c1", "median": "c0", "worst": "c2"}
    assert by_rule(document(0.5, 0.9)) == {"best": "c1", "worst": "c0"}
    assert by_rule(document(0.5)) == {"best": "c0"}


def test_the_race_says_who_went_on_and_why(finished, page) -> None:
    store, study = finished
    status = race.status(store, study.id)
    first, winner = status["rungs"][0], status["winner"]
    better, worse = (r["jaccard"] for r in first["reports"])
    assert page.row("0")[1:] == [
        "3",
        "2",
        str(winner["seed"]),
        f"Jaccard {better:.4f} goes on, {worse:.4f} does not",
    ]
    assert winner["sha256"] in page.text
    assert f"Seed {winner['seed']} won" in page.text


def test_one_validation_case_says_nothing_of_how_sure_a_rung_was(page) -> None:
    sentence = "No rung is assessable (1 validation case, at least 5 are needed)."
    assert page.text.count(sentence) == 1


def test_where_the_seeds_differ_is_shown_in_numbers_and_without_a_correlation(
    finished, page
) -> None:
    store, study = finished
    values = disagreement.load(store, study.id)["cases"]["test"]
    winner = evaluate.load_evaluation(store, study.id)["arms"]["multi"]["mean_dice"]
    heading = page.rows.index(["case", "uncertainty", "mean Dice of the winner"])
    assert page.rows[heading + 1] == ["test", f"{values['uncertainty']:.3f}", f"{winner:.3f}"]
    lesions = page.rows[heading + 3 : heading + 3 + len(values["lesions"])]
    assert [row[-1] for row in lesions] == [f"{x['uncertainty']:.3f}" for x in values["lesions"]]
    assert "cannot be said from 1 test case (" in page.text


def test_a_report_says_why_the_seeds_were_not_compared(finished, tmp_path) -> None:
    store, study = MemoryStore(), finished[1]
    store.objects.update(finished[0].objects)
    store.delete(result_keys.disagreement_key(study.id))
    report.run(store, study.id, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Not shown: " in page.text
    assert "has not compared its seeds; run `liverseg postprocess` first" in page.text


def test_iterations_spent_and_saved_add_up(page) -> None:
    spent, without_a_race, saved = (
        int(page.row(name)[1].replace(",", ""))
        for name in ("spent by the race", "all seeds to the end (2 x 6)", "saved")
    )
    # Two seeds to 3 and one of them on to 6, instead of two to 6; without the baseline.
    assert (spent, without_a_race, saved) == (9, 12, 3)
    assert page.row("A2, in no total of the race")[1] == "6"


def test_settings_that_differ_from_the_paper_s_are_listed(page) -> None:
    assert page.row("race.seeds") == ["race.seeds", "2", "16"]
    assert page.row("training.patch")[2].replace("(", "[").replace(")", "]") == "[72, 236, 236]"
    assert not [r for r in page.rows if r[0] == "training.learning_rate"]


def test_a_study_without_a_winner_or_an_evaluation_is_refused(tmp_path) -> None:
    store = MemoryStore()
    study = study_in(store)
    with pytest.raises(StudyError, match="has no winner yet"):
        report.run(store, study.id, tmp_path / "report.html")
    rehearsal = Rehearsal()
    rehearsal.run()
    with pytest.raises(StudyError, match="run `liverseg evaluate` first"):
        report.run(rehearsal.store, rehearsal.study.id, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_where_the_page_cannot_be_written_the_store_gets_nothing(finished, tmp_path) -> None:
    store, study = finished
    written = result_keys.publication_key(study.id, ""), result_keys.report_page_key(study.id)
    for key in [key for key in store.keys("studies/") if key.startswith(written)]:
        store.delete(key)
    before = dict(store.objects)
    (tmp_path / "file").touch()
    (tmp_path / "in-the-way.html").mkdir()
    (tmp_path / "page-files").touch()
    for name in ("file/report.html", "in-the-way.html", "page.html"):
        with pytest.raises(StoreError, match="cannot write"):
            report.run(store, study.id, tmp_path / name)
        assert store.objects == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "file", "in-the-way.html", "page-files",
    ]  # fmt: skip


def test_a_store_that_refuses_the_report_does_not_cost_the_page(finished, tmp_path) -> None:
    store, study = finished

    def full(_number: int, _key: str) -> None:
        raise StoreError("disk full")

    store.before_write = full
    try:
        with pytest.raises(StoreError, match="disk full"):
            report.run(store, study.id, tmp_path / "report.html")
    finally:
        store.before_write = None
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).rows
    assert (tmp_path / "report-files" / "table-1.csv").exists()


def test_a_rung_s_page_shows_the_rungs_so_far_and_its_metrics_are_numbers(tmp_path) -> None:
    rehearsal = Rehearsal()
    rehearsal.run(until=1)
    status = race.status(rehearsal.store, rehearsal.study.id)
    assert rung_page.metrics(status, 0) == {
        "seeds": 4,
        "promoted": 2,
        "iterations_spent": status["ledger"]["spent_iterations"],
        "leader_seed": 3,
        "leader_jaccard": pytest.approx(0.32),
    }
    rung_page.write(rehearsal.store, rehearsal.study, status, 0, tmp_path / "rung.html")
    page = Page((tmp_path / "rung.html").read_text(encoding="utf-8"))
    assert "Rung 0: seed 3 leads" in page.text
    assert page.row("0")[3:] == ["3, 2", "Jaccard 0.2200 goes on, 0.1200 does not"]
    assert len(page.rows) == 3  # the heading and rungs 0 and 1
    assert "synthetic data" in page.text


def test_a_seed_whose_loss_was_nan_is_named_on_the_rung_s_page(tmp_path) -> None:
    fault = Killed(seed=3, rung=0, iteration=1, exit_code=ExitCode.NOT_FINITE, attempts=(0, 1, 2))
    rehearsal = Rehearsal(faults=[fault])
    rehearsal.run()
    status = race.status(rehearsal.store, rehearsal.study.id)
    rung_page.write(rehearsal.store, rehearsal.study, status, 0, tmp_path / "rung.html")
    page = Page((tmp_path / "rung.html").read_text(encoding="utf-8"))
    assert page.row("0")[3] == "2, 1failed: 3"
    assert rung_page.metrics(status, 0)["leader_seed"] == 2
