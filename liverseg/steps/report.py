"""The HTML report of a study: one page that needs nothing beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from liverseg.core.dataset import CaseRecord
from liverseg.errors import StudyError
from liverseg.imaging.resampling import in_plane
from liverseg.race import facts
from liverseg.race.snapshot import SnapshotReader
from liverseg.race.study import Study, load_study
from liverseg.reporting import figures, page
from liverseg.settings import Settings, to_mapping
from liverseg.steps import certainty, race, rung_page, several
from liverseg.steps.cases import load_case
from liverseg.steps.evaluate import load_evaluation, load_segmentation
from liverseg.storage.port import ObjectStore

NAMES = {
    "multi": ("winner of the race (A1)", "A1 multi-model"),
    "single": ("one training straight to the end (A2)", "A2 single"),
    "threshold": ("best single threshold inside the liver", None),
}


def run(store: ObjectStore, study_id: str, out: Path) -> Path:
    """Write the page to `out` and to studies/<id>/report.html; return `out`.

    Raises StudyError where the study has no winner or has not been evaluated.
    """
    study, status = load_study(store, study_id), race.status(store, study_id)
    if status["winner"] is None:
        raise StudyError(f"study {study_id} has no winner yet; run the race to its end first")
    evaluation = load_evaluation(store, study_id)
    text = page.render("report.html.jinja", _values(store, study, status, evaluation))
    store.put(facts.report_page_key(study_id), text.encode())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    return out


def _values(
    store: ObjectStore, study: Study, status: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    winner, curves = status["winner"], rung_page.read_curves(store, study)
    return {
        "study": study.id,
        "synthetic": evaluation["synthetic"],
        "winner": winner,
        "means": _means(evaluation),
        "threshold": evaluation["threshold"],
        "test_evaluations": evaluation["test_evaluations"],
        "rows": [rung_page.row(r) for r in status["rungs"]],
        "failures": SnapshotReader(store, study.id).read().failures,
        "curves": figures.learning_curves(
            curves, [r.iterations for r in study.rungs], winner["seed"]
        ),
        "certainty": certainty.of_race(study, status, curves),
        "test_rows": list(_test_rows(evaluation)),
        "pictures": [_picture(store, c, evaluation) for c in study.dataset.role("test")],
        "several": several.section(store, study, evaluation),
        "costs": _costs(status["ledger"], study.settings),
        "cases": [
            {
                "name": c.name,
                "role": c.role,
                "shape": c.shape,
                "spacing": " x ".join(f"{s:.3g}" for s in c.spacing_mm),
                "raters": c.raters,
                "synthetic": c.synthetic,
            }
            for c in study.dataset.cases
        ],
        "preset": study.settings.preset,
        "differences": list(_differences(study.settings)),
    }


def _means(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for arm, (name, published) in NAMES.items():
        if arm in evaluation["arms"]:
            dice = evaluation["arms"][arm]["mean_dice"]
            told = page.PUBLISHED[published] if published else ""
            rows.append({"name": name, "dice": dice, "published": told})
    return rows


def _test_rows(evaluation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    arms = evaluation["arms"]
    for case, values in arms["multi"]["cases"].items():
        for rater, counts in values["detection"].items():
            dice = {
                arm: arms[arm]["cases"][case]["dice"][rater] if arm in arms else None
                for arm in NAMES
            }
            yield {"case": case, "rater": rater, **dice, **counts}


def _picture(
    store: ObjectStore, record: CaseRecord, evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    """Draw a test case on its original grid: what the raters saw, not what the network saw."""
    case = load_case(store, record.key)
    spacing = case.original_geometry.spacing_mm
    _, height, width = case.original_geometry.shape
    image = in_plane(case.image, case.spacing_mm[1:], (height, width), spacing[1:], "linear")
    values = evaluation["arms"]["multi"]
    mask = load_segmentation(store, values["weights_sha256"], record.key)
    dice = list(values["cases"][record.name]["dice"].values())
    return {
        "name": record.name,
        "synthetic": record.synthetic,
        "dice": sum(dice) / len(dice),
        "picture": figures.slices(image, case.original_liver, case.original_raters, mask, spacing),
    }


def _costs(ledger: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    names = {
        "useful": "useful",
        "repeated": "repeated after a crash",
        "pruned": "after the decision against a seed",
        "startup": "starting, saving, stopping",
    }
    rows = [{"name": name, **ledger[outcome]} for outcome, name in names.items()]
    rows.append({"name": "A2, in no total of the race", **_total(ledger["single"])})
    race_settings = settings.race
    spent, straight = ledger["spent_iterations"], ledger["straight_iterations"]
    plain = f"{race_settings.seeds} x {race_settings.maximum_iterations:,}"
    return [
        {"name": "spent by the race", "iterations": spent, "seconds": ledger["seconds"]},
        *rows,
        {"name": f"all seeds to the end ({plain})", "iterations": straight, "seconds": None},
        {"name": "saved", "iterations": straight - spent, "seconds": None},
    ]


def _total(account: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        "iterations": int(sum(v["iterations"] for v in account.values())),
        "seconds": sum(v["seconds"] for v in account.values()),
    }


def _differences(settings: Settings) -> Iterator[dict[str, Any]]:
    here, paper = to_mapping(settings), to_mapping(Settings())
    for topic, values in here.items():
        if isinstance(values, dict):
            for name, value in values.items():
                if value != paper[topic][name]:
                    yield {"name": f"{topic}.{name}", "here": value, "paper": paper[topic][name]}
