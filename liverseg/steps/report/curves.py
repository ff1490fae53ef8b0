"""The validations of a race, read with few requests."""

from typing import Any

from liverseg.race.records import facts
from liverseg.race.records.facts import CurvePoint
from liverseg.settings import BASELINE_SEED
from liverseg.steps.results.result_keys import packed_curves_prefix
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

Curves = dict[int, list[dict[str, Any]]]


def read_curves(store: ObjectStore, study: str, pack: int | None = None) -> Curves:
    """Return the validations of every seed of the race, as `CurvePoint`, in order of iteration.

    Those that a rung's page has read before are in one document per rung.

    Args:
        store: Where the study lies.
        study: Its id.
        pack: The rung whose document is written, with what no earlier one has.
    """
    keys = {s: k for s, k in facts.curve_keys(store, study).items() if s != BASELINE_SEED}
    points: dict[str, CurvePoint] = {}
    for document in store.keys(packed_curves_prefix(study)):
        points |= record.read(store, document, dict[str, CurvePoint])
    unpacked = [key for of_seed in keys.values() for key in of_seed if key not in points]
    new = {key: record.read(store, key, CurvePoint) for key in unpacked}
    if pack is not None:
        packed = {key: point.to_mapping() for key, point in new.items()}
        record.write_new(store, f"{packed_curves_prefix(study)}{pack}.json", packed)
    points |= new
    return {seed: [points[key].to_mapping() for key in keys[seed]] for seed in sorted(keys)}
