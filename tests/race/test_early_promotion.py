"""Who is promoted before a rung is decided: whoever is sure of it, whatever is still to come."""

from collections.abc import Mapping
from typing import Any

from liverseg.race.audit.replay import replay
from liverseg.settings import from_mapping
from tests.race.fault_script import Fault, Killed, SlowStart
from tests.race.rehearsal import SETTINGS, Rehearsal, rising

SIXTEEN = from_mapping({"race": {"seeds": 16, "maximum_iterations": 32}}, SETTINGS)


def promoted_before(late: SlowStart, *others: Fault) -> set[tuple[int, int]]:
    """Return the (rung, seed) promoted before the rung of the late one is decided.

    At every promotion the race, as far as it has got, has to stand its audit.
    """
    promoted: list[tuple[int, int]] = []
    decided: list[int] = []

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == "decided":
            decided.append(event["rung"])
        if event["event"] == "promoted" and late.rung not in decided:
            promoted.append((event["rung"], event["seed"]))
            assert replay(rehearsal.store, rehearsal.study.id).findings == ()

    rehearsal = Rehearsal(
        settings=SIXTEEN,
        score=lambda seed, iteration: rising(seed, iteration) / 10,
        gpus=16,
        faults=[late, *others],
    )
    rehearsal.controller(listener=listen).run("end")
    return set(promoted)


def test_to_the_next_rung_come_no_more_than_it_has_room_for() -> None:
    """Rungs of 16, 8, 4, 2 and 1: of the 8 at rung 1 only the one for the late seed is open."""
    promoted = promoted_before(SlowStart(0, 0, 60.0))
    assert {(0, seed) for seed in range(9, 16)} <= promoted
    assert {(1, seed) for seed in (13, 14, 15)} <= promoted
    assert (1, 12) not in promoted


def test_seeds_that_failed_for_good_are_not_waited_for_at_later_rungs() -> None:
    """Three seeds live; rung 2 has room for four of them, and two of those are promoted."""
    nan = [Killed(seed, 0, 1, exit_code=78) for seed in range(13)]
    assert promoted_before(SlowStart(13, 1, 60.0), *nan) == {(1, 14), (1, 15), (2, 15)}
