"""When a pipeline server may skip a task because an earlier run has done it.

KFP skips a task whose image, command and parameters are those of an earlier one. The results of
our tasks lie in the store, of which it knows nothing: a digest of the inputs alone would skip them
even after the store was emptied. So these tasks also get a token that was drawn by chance and lies
beside the results. It stays the same as long as all that it stands for is there and made of the
same facts; otherwise it is drawn anew, and no earlier run can have had it. A run that ended
halfway finds something missing, and two runs at once leave one token, that of the later.
"""

import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256

from liverseg.errors import IntegrityError
from liverseg.race.records import facts
from liverseg.race.records.study import Study
from liverseg.steps.data.cases import prediction_prefix, segmentation_prefix
from liverseg.steps.results.result_keys import disagreement_key, evaluation_key, report_page_key
from liverseg.storage import record
from liverseg.storage.bundle import MANIFEST
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Sha256

# What a report is made of, below a study's prefix; every one of these keys is written once.
FACTS = ("curves/", "results/", "rungs/")


@dataclass(frozen=True)
class IssuedToken:
    """The token that was drawn last."""

    inputs: Sha256
    """Of the facts that the results were made of."""
    token: str


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
    token_key = prefix + "cache-tokens/results.json"
    issued = None
    with suppress(IntegrityError):  # of a damaged one the tasks are only repeated
        issued = record.find(store, token_key, IssuedToken)
    if wanted <= existing and issued is not None and issued.inputs == digest:
        return issued.token
    drawn = IssuedToken(digest, uuid.uuid4().hex)
    record.write(store, token_key, asdict(drawn))
    return drawn.token
