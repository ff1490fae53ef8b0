"""`pause: suspend` on the real Job controller."""

from collections.abc import Callable
from typing import Any

from liverseg.race import accounts
from liverseg.race.carriers import PAUSED
from liverseg.race.snapshot import SnapshotReader
from tests.cluster.cluster import FOUR, Race

TRAINERS = "app.kubernetes.io/component=trainer"


def test_suspended_seeds_have_no_pod_and_go_on_where_they_were(
    race_of: Callable[..., Race], four: tuple[list[list[int]], str]
) -> None:
    race = race_of(FOUR, pause="suspend")
    pods_of: dict[str, set[str]] = {}
    held: set[str] = set()

    def look() -> bool:
        jobs = race.cluster.get("jobs", race.namespace, TRAINERS)
        suspended = {job["metadata"]["name"]: job for job in jobs if is_suspended(job)}
        for pod in race.cluster.get("pods", race.namespace, TRAINERS):
            name = pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]
            pods_of.setdefault(name, set()).add(pod["metadata"]["uid"])
            if "deletionTimestamp" not in pod["metadata"]:
                suspended.pop(name, None)
        held.update(suspended)
        assert all(PAUSED in job["metadata"]["annotations"] for job in suspended.values())
        return race.ended()

    race.start()
    race.wait(look)
    status = race.finish()
    assert [len(rung["seeds"]) for rung in status["rungs"]] == [4, 2, 1]
    race.check(four)
    assert race.watch.wrong == []
    # One Job a seed; the two and then the one that went on had a pod a rung.
    assert sorted(pods_of) == [f"lv-{race.study.id}-s{seed:04d}-c0" for seed in range(4)]
    assert sorted(len(pods) for pods in pods_of.values()) == [1, 1, 2, 3]
    gone_on = {name for name, pods in pods_of.items() if len(pods) > 1}
    assert gone_on <= held
    assert race.attempts() == 4 + 2 + 1
    snapshot = SnapshotReader(race.store, race.study.id).read()
    assert accounts.ledger(race.store, race.study, snapshot)["repeated"]["seconds"] == 0
    # Nothing waits for a rung that never comes.
    race.wait(lambda: not race.cluster.get("jobs", race.namespace, TRAINERS), 60)


def is_suspended(job: dict[str, Any]) -> bool:
    conditions = job["status"].get("conditions", [])
    return any(c["type"] == "Suspended" and c["status"] == "True" for c in conditions)
