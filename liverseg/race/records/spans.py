"""When each attempt had its GPU, as its trainer and the controller recorded it.

An event is a key below `rungs/<rung>/attempts/<seed>-a<attempt>-<nonce>/`; its name says all of it,
so that a LIST reads the spans of a whole race. What a trainer writes that was started before its
store was emptied has another nonce, and is nobody's. The events:

    start_<time>_<device>_<pod>.json          trainer: its process begins; pod is a uid, or empty
    sample_<iteration>_<time>.json            trainer: where it resumed, then each validation
    end_<iteration>_<time>_<code>.json        trainer: its process is about to end
    closed_<started>_<ended>_<code>.json      controller: the same as the platform saw it

Times are unix seconds; what is not known is `none`.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from msgspec import defstruct

from liverseg.core.race.ledger import RungName, Sample, Span
from liverseg.errors import IntegrityError
from liverseg.race.records import facts
from liverseg.race.records.decisions import ProcessExitCode
from liverseg.race.records.job import Attempt
from liverseg.race.records.key_forms import EVENT, named
from liverseg.race.records.study import Study
from liverseg.storage import record
from liverseg.storage.port import ObjectStore
from liverseg.storage.record import Count, Time

_NONE = "none"


def attempts_prefix(study: str, rung: RungName, seed: int) -> str:
    """Return what the keys of all attempts of a seed at a rung begin with."""
    return f"{facts.rungs_prefix(study)}{rung}/attempts/{seed:04d}-a"


def start(time: float, device: str, pod: str = "") -> str:
    """Return the event of a process that begins; `device`: the machine and what computes there."""
    quoted = (quote(text, safe="").replace("_", "%5F") for text in (device, pod))
    return "_".join(("start", _shown(time), *quoted))


def sample(iteration: int, time: float) -> str:
    """Return the event of an iteration that was reached."""
    return f"sample_{iteration}_{_shown(time)}"


def end(iteration: int, time: float, code: int) -> str:
    """Return the event of a process that is about to end with an exit code."""
    return f"end_{iteration}_{_shown(time)}_{code}"


def closed(started: float | None, ended: float | None, code: int | None) -> str:
    """Return the event of a job that has ended, as its platform tells it."""
    return f"closed_{_shown(started)}_{_shown(ended)}_{_NONE if code is None else code}"


def write(store: ObjectStore, study: Study, attempt: Attempt, event: str) -> None:
    """Record an event."""
    record.write_new(store, f"{_prefix(study, attempt)}{event}.json", {})


def events(store: ObjectStore, study: Study, attempt: Attempt) -> list[str]:
    """Return the keys of an attempt's events."""
    return store.keys(_prefix(study, attempt))


def pods(keys: Iterable[str]) -> list[str]:
    """Return the uids of the pods that have begun, in order of their start."""
    return [event.pod for kind, event in map(_event, sorted(keys)) if kind == "start"]


# What the name of an event says, in this order.
_EVENTS = {
    "start": defstruct("Start", [("time", Time), ("device", str), ("pod", str)]),
    "sample": defstruct("Sample", [("iteration", Count), ("time", Time)]),
    "end": defstruct("End", [("iteration", Count), ("time", Time), ("exit_code", ProcessExitCode)]),
    "closed": defstruct(
        "Closed",
        [("started", Time | None), ("ended", Time | None), ("exit_code", ProcessExitCode | None)],
    ),
}


def parse(key: str) -> tuple[str, Any]:
    """Return the kind of the event that a key is, and its values; IntegrityError for no event."""
    named(key, EVENT)
    return _event(key)


def _event(key: str) -> tuple[str, Any]:
    kind, *texts = key.rpartition("/")[2].removesuffix(".json").split("_")
    names = _EVENTS[kind].__struct_fields__ if kind in _EVENTS else ()
    if len(texts) != len(names) or not names:
        kinds = ", ".join(_EVENTS)
        raise IntegrityError(f"'{key}' is not a valid event ({kinds}, and their values); delete it")
    values = [None if text == _NONE else unquote(text) for text in texts]
    return kind, record.from_name(dict(zip(names, values, strict=True)), key, _EVENTS[kind])


def span_of(attempt: Attempt, keys: Iterable[str]) -> Span | None:
    """Return the span that the events of an attempt make up; None before it has begun.

    Its time begins and ends with what the platform says of it, as far as that is known: a
    process tells nothing of itself before Python has started, and nothing once it was killed.
    """
    # Of several of a kind the first counts: a second pod of one attempt does not train, and two
    # controllers may both have closed it.
    events: dict[str, list[Any]] = {kind: [] for kind in _EVENTS}
    for kind, event in map(_event, sorted(keys)):
        events[kind].append(event)
    begun = min(events["start"], key=lambda start: start.time, default=None)
    ended, seen = (next(iter(events[kind]), None) for kind in ("end", "closed"))
    samples = [Sample(0, begun.time)] if begun else []
    samples += [Sample(*at) for at in sorted((e.iteration, e.time) for e in events["sample"])]
    samples += [Sample(ended.iteration, ended.time)] if ended else []
    if seen:
        samples = _framed(samples, seen.started, seen.ended, ended is not None)
    if not samples:
        return None
    rung, seed, number = attempt
    last = ended or seen
    code, (device, pod) = (
        last.exit_code if last else None,
        (begun.device, begun.pod) if begun else ("", ""),
    )
    return Span(seed, rung, number, tuple(samples), last is not None, code, device, pod)


def _framed(
    samples: list[Sample], started: float | None, ended: float | None, has_end: bool
) -> list[Sample]:
    """Extend what a process said of itself to when it occupied a GPU, as far as that is known."""
    if not samples:
        return [Sample(0, started), Sample(0, ended)] if started and ended else []
    first, last = samples[0], samples[-1]
    if started is not None:
        samples[0] = Sample(first.iteration, min(started, first.time))
    if not has_end:
        # A process that was given up may have gone on: it lived until its last event.
        samples.append(last)
    if ended is not None:
        samples[-1] = Sample(last.iteration, max(ended, last.time))
    return samples


def _prefix(study: Study, attempt: Attempt) -> str:
    prefix = attempts_prefix(study.id, attempt.rung, attempt.seed)
    return f"{prefix}{attempt.attempt}-{study.nonce}/"


def _shown(time: float | None) -> str:
    return _NONE if time is None else f"{time:.3f}"
