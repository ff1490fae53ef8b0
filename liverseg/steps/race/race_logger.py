"""What a task says while it runs: one line each, those of the race with the time that remains."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from liverseg.core.race.halving import Rung
from liverseg.exit_codes import ExitCode
from liverseg.platform.output_encoding import print_every_character

log = logging.getLogger("liverseg")
# Tells our lines from what kfp writes into the same stream.
LOG_PREFIX = "liverseg | "


def start_log() -> None:
    """Send our lines to standard output, where pods and kfp.local look for them."""
    print_every_character()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(LOG_PREFIX + "%(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)


class RaceLogger:
    """Logs what the controller tells; the remaining time is that of the iterations not yet run.

    Args:
        rungs: The schedule.
        clock: Seconds; only differences count.
    """

    def __init__(self, rungs: Sequence[Rung], clock: Callable[[], float] = time.monotonic) -> None:
        self._rungs, self._clock, self._began = rungs, clock, clock()
        self._total = sum(r.size * self._length(k) for k, r in enumerate(rungs))
        self._before = self._done = 0
        self._started: set[tuple[int, int]] = set()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Log one event of race/controller.py."""
        kind, rung, seed = event["event"], event.get("rung"), event.get("seed")
        if kind == "decided":
            on = ", ".join(str(s) for s in event["promoted"])
            log.info("rung %s decided: seed %s %s", rung, on, self._next(event))
        elif kind == "reported":
            jaccard = event["jaccard"]
            value = "no Jaccard" if jaccard is None else f"Jaccard {jaccard:.4f}"
            log.info("rung %s: seed %s reports %s%s", rung, seed, value, self._progress(event))
        elif kind == "failed":
            asked = event["exit_code"] in (ExitCode.INTERRUPTED, ExitCode.ORPHANED)
            how = "was interrupted, its checkpoint is kept" if asked else "failed"
            log.info("rung %s: seed %s %s: %s", rung, seed, how, event["reason"])
        elif kind == "started":
            if isinstance(rung, int) and isinstance(seed, int):
                self._started.add((rung, seed))
            log.info("rung %s: seed %s trains to %s iterations", rung, seed, event["iterations"])
        elif kind == "cancelled":
            log.info("rung %s: seed %s is being stopped", rung, seed)
        elif kind == "waits":
            log.info("rung %s: seed %s not running yet: %s", rung, seed, event["reason"])
        elif kind == "held":
            owner, minutes = event["owner"], _minutes(event["seconds"])
            log.info("another controller runs the study: waiting up to %s for %s", minutes, owner)
        elif kind in ("away", "back") and event["what"] == "store":
            pass  # it has said so itself (storage/outage_log.py)
        elif kind == "away":
            reason = event["reason"]
            log.info("the platform that runs the trainers does not answer; waiting: %s", reason)
        elif kind == "back":
            log.info("the platform answers again after %s", _minutes(event["seconds"]))

    def _next(self, event: Mapping[str, Any]) -> str:
        if event["rung"] == len(self._rungs) - 1:
            return "wins"
        return "goes on" if len(event["promoted"]) == 1 else "go on"

    def _length(self, rung: int) -> int:
        before = self._rungs[rung - 1].iterations if rung else 0
        return self._rungs[rung].iterations - before

    def _progress(self, event: Mapping[str, Any]) -> str:
        """Return share, rate and remaining time; nothing for the baseline, which is not in it."""
        rung, seed = event["rung"], event["seed"]
        if not isinstance(rung, int):
            return ""
        # A later task of the same race has not heard the rungs before its own.
        earlier = sum(r.size * self._length(k) for k, r in enumerate(self._rungs[:rung]))
        self._done = max(self._done, earlier) + self._length(rung)
        share = min(1.0, self._done / self._total)
        if (rung, seed) not in self._started:
            return f" ({share:.0%} of the race)"
        self._before += self._length(rung)
        rate = self._before / max(self._clock() - self._began, 1e-9)
        left = (1 - share) * self._total / rate
        return f" ({share:.0%} of the race, {rate:.1f} iterations/s, about {_minutes(left)} left)"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
