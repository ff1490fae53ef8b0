"""The pod settings of one run, laid over those of the cluster that a pipeline is compiled for."""

import json
from collections.abc import Mapping


def overlaid(cluster: str, run: str) -> str:
    """Return the JSON of `cluster` with what `run` gives laid over it.

    Objects such as labels or node_selector are merged key by key, and the run's keys win; every
    other value, lists such as tolerations included, is replaced as a whole. A `run` that is no
    JSON object is returned as it is: PodSettings.from_json says what is wrong with it.

    Args:
        cluster: JSON object of pod settings.
        run: The same; empty is the same as {}.
    """
    try:
        given = json.loads(run or "{}")
    except ValueError:
        return run
    if not isinstance(given, Mapping):
        return run
    merged = dict(json.loads(cluster))
    for name, value in given.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = {**before, **value}
        merged[name] = value
    return json.dumps(merged)
