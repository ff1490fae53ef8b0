"""The HTML report of a study: one page that needs nothing beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from liverseg.errors import StudyError
from liverseg.race.records.snapshot import SnapshotReader, read_failures
from liverseg.race.records.study import Study, load_study
from liverseg.reporting import figures, methods, page, tables
from liverseg.reporting.evaluation import outside_rows
from liverseg.reporting.evaluation_page import figure_2
from liverseg.settings import Settings, to_mapping
from liverseg.steps.race import race
from liverseg.steps.report import ensemble_report, report_figures, rung_bootstrap, rung_page
from liverseg.steps.report.curves import read_curves
from liverseg.steps.results import result_keys
from liverseg.steps.results.evaluate import load_evaluation
from liverseg.storage.files import write_files
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import encode

NAMES = {
    "multi": ("winner of the race (A1)", "A1 multi-model"),
    "baseline": ("baseline: one training without rungs (A2)", "A2 baseline"),
    "threshold": ("best single threshold inside the liver", None),
}


def run(store: ObjectStore, study_id: str, out: Path) -> Path:
    """Write the page to `out` and to studies/<id>/report.html; return `out`.

    Beside it, in a folder `<out>-files` and in the store: tables 1 and 2 as CSV and LaTeX, figures
    2, 3 and 5 as SVG and PNG, and all measures as schemas/evaluation-1.json describes them. These
    files are written all or none, and before those in the store.

    Raises StudyError where the study has no winner or has not been evaluated, and StoreError where
    a file cannot be written.
    """
    study, status = load_study(store, study_id), race.status(store, study_id)
    if status["winner"] is None:
        raise StudyError(f"study {study_id} has no winner yet; run the race to its end first")
    evaluation = load_evaluation(store, study_id)
    curves = read_curves(store, study_id)
    document = evaluation["document"]
    data = ("synthetic " if evaluation["synthetic"] else "") + "test cases"
    shown = [
        tables.segmentation(document, data),
        tables.detection(document, data),
        tables.detection(document, data, "correspondence"),
    ]
    spans = list(SnapshotReader(store, study_id).read().spans.values())
    drawn = {
        "figure-2": figure_2(document, [n for n in document["algorithms"] if n in ("A1", "A2")]),
        "figure-5": report_figures.figure_5(spans, curves),
    }
    values = _values(store, study, status, evaluation, curves)
    pictures, chosen = values["pictures"], report_figures.by_rule(document)
    sliced = {f"figure-3-{rule}": pictures[name]["figure"] for rule, name in chosen.items()}
    uris = {name: figures.data_uri(figure) for name, figure in drawn.items()}
    uris |= {name: figures.slices_uri(figure) for name, figure in sliced.items()}
    values |= {"tables": shown, "data": data, "by_rule": chosen, "figures": uris}
    text = page.render("report.html.jinja", values).encode()
    publication = _publication(shown, drawn | sliced, document)
    beside = out.parent / f"{out.stem}-files"
    # First, since it is what was asked for: where it cannot be written the store gets nothing.
    write_files({beside / name: content for name, content in publication.items()} | {out: text})
    for name, content in publication.items():
        store.put(result_keys.publication_key(study_id, name), content)
    store.put(result_keys.report_page_key(study_id), text)
    return out


def _publication(
    shown: Sequence[tables.PaperTable], drawn: Mapping[str, Figure], document: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the tables as CSV and LaTeX, the figures as SVG and PNG, and all numbers as JSON."""
    names = ("table-1", "table-2", "table-2-correspondence")
    files = {"evaluation.json": encode(document)}
    for name, table in zip(names, shown, strict=True):
        files[f"{name}.csv"] = tables.as_csv(table).encode()
        files[f"{name}.tex"] = tables.as_latex(table).encode()
    for name, figure in drawn.items():
        files[f"{name}.png"] = figures.drawn(figure, "png")
        files[f"{name}.svg"] = figures.drawn(figure, "svg")
    return files


def _values(
    store: ObjectStore,
    study: Study,
    status: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    curves: report_figures.Curves,
) -> dict[str, Any]:
    winner = status["winner"]
    tested, slice_axis = study.dataset.role("test"), study.settings.preparation.slice_axis
    return {
        "study": study.id,
        "synthetic": evaluation["synthetic"],
        "winner": winner,
        "means": _means(evaluation),
        "threshold": evaluation["threshold"],
        "test_evaluations": evaluation["test_evaluations"],
        "rows": [rung_page.row(r) for r in status["rungs"]],
        "failures": read_failures(store, study.id),
        "curves": figures.learning_curves(
            curves, [r.iterations for r in study.rungs], winner["seed"]
        ),
        "rung_bootstrap": rung_bootstrap.of_race(study, status, curves),
        "test_rows": list(_test_rows(evaluation)),
        "outside_liver": [
            row for case in evaluation["document"]["cases"] for row in outside_rows(case)
        ],
        "pictures": {
            c.name: report_figures.pictures(store, c, evaluation, slice_axis) for c in tested
        },
        "excluded": study.dataset.excluded,
        "methods": methods.paragraph(
            study.settings, study.dataset, study.rungs, "baseline" in evaluation["arms"]
        ),
        "versions": methods.versions(),
        "digests": {
            "study": study.id,
            "data set": study.dataset.digest,
            **{
                f"weights of {NAMES[arm][0]}": sha256
                for arm, sha256 in evaluation["weights"].items()
            },
        },
        "ensemble": ensemble_report.section(store, study, evaluation),
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
            published_dice = page.PUBLISHED[published] if published else ""
            rows.append({"name": name, "dice": dice, "published": published_dice})
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


def _costs(ledger: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    names = {
        "useful": "useful",
        "repeated": "repeated after a crash",
        "pruned": "after the decision against a seed",
        "startup": "starting, saving, stopping",
    }
    rows = [{"name": name, **ledger[outcome]} for outcome, name in names.items()]
    rows.append({"name": "A2, in no total of the race", **_total(ledger["baseline"])})
    race_settings = settings.race
    spent, unpruned = ledger["spent_iterations"], ledger["unpruned_iterations"]
    plain = f"{race_settings.seeds} x {race_settings.maximum_iterations:,}"
    return [
        {"name": "spent by the race", "iterations": spent, "seconds": ledger["seconds"]},
        *rows,
        {"name": f"all seeds to the end ({plain})", "iterations": unpruned, "seconds": None},
        {"name": "saved", "iterations": unpruned - spent, "seconds": None},
    ]


def _total(cost: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        "iterations": int(sum(v["iterations"] for v in cost.values())),
        "seconds": sum(v["seconds"] for v in cost.values()),
    }


def _differences(settings: Settings) -> Iterator[dict[str, Any]]:
    here, paper = to_mapping(settings), to_mapping(Settings())
    for topic, values in here.items():
        if isinstance(values, dict):
            for name, value in values.items():
                if value != paper[topic][name]:
                    yield {"name": f"{topic}.{name}", "here": value, "paper": paper[topic][name]}
