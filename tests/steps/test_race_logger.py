import logging

from liverseg.core.race.halving import schedule
from liverseg.settings import BASELINE_SEED, from_mapping
from liverseg.steps.race.race_logger import RaceLogger, log
from tests.race.fault_script import ApiAway, NodeLost
from tests.race.rehearsal import SETTINGS, Rehearsal

RUNGS = schedule(4, 10, 40, 2)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_share_rate_and_remaining_time_are_those_of_the_iterations() -> None:
    clock, heard = Clock(), Heard()
    logger = RaceLogger(RUNGS, clock)
    with heard:
        logger({"event": "started", "rung": 0, "seed": 0, "iterations": 10})
        clock.time = 5.0
        logger({"event": "reported", "rung": 0, "seed": 0, "jaccard": 0.25})
    # 4 x 10 + 2 x 10 + 1 x 20 = 80 iterations; 10 of them in 5 s.
    assert heard.lines == [
        "rung 0: seed 0 trains to 10 iterations",
        "rung 0: seed 0 reports Jaccard 0.2500 (12% of the race, 2.0 iterations/s, "
        "about 35 s left)",
    ]


def test_a_later_task_counts_the_rungs_before_it() -> None:
    clock, heard = Clock(), Heard()
    logger = RaceLogger(RUNGS, clock)
    with heard:
        logger({"event": "started", "rung": 2, "seed": 3, "iterations": 40})
        clock.time = 10.0
        logger({"event": "reported", "rung": 2, "seed": 3, "jaccard": None})
        logger({"event": "decided", "rung": 2, "promoted": (3,)})
    assert "no Jaccard (100% of the race, 2.0 iterations/s" in heard.lines[1]
    assert heard.lines[2] == "rung 2 decided: seed 3 wins"


def test_the_baseline_is_in_no_share_of_the_race() -> None:
    heard = Heard()
    with heard:
        report = {"event": "reported", "rung": "baseline", "seed": BASELINE_SEED, "jaccard": 0.5}
        RaceLogger(RUNGS)(report)
    assert heard.lines == [f"rung baseline: seed {BASELINE_SEED} reports Jaccard 0.5000"]


def test_a_wish_to_end_is_no_failure_and_one_seed_goes_on() -> None:
    heard = Heard()
    with heard:
        logger = RaceLogger(RUNGS)
        failed = {"event": "failed", "rung": 1, "seed": 3}
        logger(failed | {"exit_code": 75, "reason": "exit code 75; its job is gone"})
        logger(failed | {"exit_code": 1, "reason": "exit code 1"})
        logger({"event": "waits", "rung": 1, "seed": 3, "reason": "no GPU is free"})
        logger({"event": "decided", "rung": 1, "promoted": (3,)})
    assert heard.lines == [
        "rung 1: seed 3 was interrupted, its checkpoint is kept: exit code 75; its job is gone",
        "rung 1: seed 3 failed: exit code 1",
        "rung 1: seed 3 not running yet: no GPU is free",
        "rung 1 decided: seed 3 goes on",
    ]


class Heard(logging.Handler):
    """Collects what is logged while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def __enter__(self) -> "Heard":
        log.addHandler(self)
        log.setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self)


def test_what_a_disturbed_race_tells_names_the_seed_and_each_cause_once() -> None:
    heard = Heard()
    # Attempt 0 of seed 3 is cut off and replaced; its report makes the replacement superfluous.
    faults = [ApiAway(2.5, seconds=5), NodeLost(seed=3, rung=2, iteration=6)]
    longer = from_mapping({"race": {"maximum_iterations": 16}}, SETTINGS)
    rehearsal = Rehearsal(settings=longer, faults=faults)
    with heard:
        rehearsal.controller(listener=RaceLogger(rehearsal.study.rungs)).run("end")
    assert not [line for line in heard.lines if "None" in line]
    away = [line for line in heard.lines if "does not answer" in line]
    back = [line for line in heard.lines if "answers again" in line]
    stopped = [line for line in heard.lines if "being stopped" in line]
    assert (len(away), len(back)) == (1, 1)
    assert stopped == ["rung 2: seed 3 is being stopped"]
