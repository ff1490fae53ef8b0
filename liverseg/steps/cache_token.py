"""When a pipeline server may skip a task because an earlier run has done it.

KFP skips a task whose image, command and parameters are those of an earlier one. The results of
our tasks lie in the store, of which it knows nothing: a digest of the inputs alone would skip them
even after the store was emptied. So these tasks also get a token that was drawn by chance and lies
beside the results. It stays the same as long as all that it stands for is there and made of the
same facts; otherwise it is drawn anew, and no earlier run can have had it. A run that ended
halfway finds something missing, and two runs at once leave one token, that of the later.
"""

import uuid
from hashlib import sha256

from liverseg.errors import NotFound
from liverseg.race.records import facts
from liverseg.race.records.study import Study
from liverseg.steps.data.cases import case_prefix, prediction_prefix, segmentation_prefix
from liverseg.steps.results.result_keys import disagreement_key, evaluation_key, report_page_key
from liverseg.storage import record
from liverseg.storage.bundle import MANIFEST
from liverseg.storage.port import ObjectStore

# What a report is made of, below a study's prefix; every one of these keys is written once.
FACTS = ("curves/", "results/", "rungs/")


def prepared_token(store: ObjectStore, study: Study) -> str:
    """Return the token for the study's prepared cases."""
    keys = frozenset(store.keys("cases/"))
    complete = all(case_prefix(c.key) + MANIFEST in keys for c in study.dataset.cases)
    # The study's id stands for all cases and for how they are prepared.
    return _token(
        store, facts.study_prefix(study.id) + "cache-tokens/prepared.json", study.id, complete
    )


def results_token(store: ObjectStore, study: Study) -> str:
    """Return the token for what follows a race, from the predictions to the report."""
    prefix = facts.study_prefix(study.id)
    keys = store.keys(prefix)
    fact_keys = "\n".join(k for k in keys if k.removeprefix(prefix).startswith(FACTS))
    arms = facts.ended_arms(store, study.id)
    digest = sha256((repr(sorted(arms.items())) + fact_keys).encode()).hexdigest()
    wanted = {key(study.id) for key in (disagreement_key, evaluation_key, report_page_key)}
    existing = set(keys)
    for weights in arms.values():
        for case in study.dataset.role("test"):
            for prefix_of in (prediction_prefix, segmentation_prefix):
                where = prefix_of(weights, case.key)
                wanted.add(where + MANIFEST)
                existing.update(store.keys(where))
    return _token(store, prefix + "cache-tokens/results.json", digest, wanted <= existing)


def _token(store: ObjectStore, key: str, inputs: str, complete: bool) -> str:
    try:
        issued = record.read(store, key)
    except NotFound:
        issued = {}
    if complete and issued.get("inputs") == inputs:
        return str(issued["token"])
    token = uuid.uuid4().hex
    record.write(store, key, {"inputs": inputs, "token": token})
    return token
