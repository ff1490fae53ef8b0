"""When each attempt had its GPU, as its trainer and the controller recorded it.

An event is a key below `rungs/<rung>/attempts/<seed>-a<attempt>/`; its name says all of it, so that
a LIST reads the spans of a whole race:

    start_<time>_<device>_<pod>.json          trainer: its process begins; pod is a uid, or empty
    sample_<iteration>_<time>.json            trainer: where it resumed, then each validation
    end_<iteration>_<time>_<code>.json        trainer: its process is about to end
    closed_<started>_<ended>_<code>.json      controller: the same as the platform saw it

Times are unix seconds; what is not known is `none`.
"""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote

from liverseg.core.race.ledger import RungName, Sample, Span
from liverseg.errors import IntegrityError
from liverseg.race.records import facts
from liverseg.race.records.job_name import JobName
from liverseg.storage import record
from liverseg.storage.port import ObjectStore

_NONE = "none"


class Attempt(NamedTuple):
    """One attempt of one seed to reach one rung."""

    rung: RungName
    seed: int
    attempt: int


def attempt_of(job: JobName) -> Attempt:
    """Return the attempt that a job is."""
    return Attempt(job.rung, job.seed, job.attempt)


def attempts_prefix(study: str, rung: RungName, seed: int) -> str:
    """Return what the keys of all attempts of a seed at a rung begin with."""
    return f"{facts.rung_prefix(study, rung)}attempts/{seed:04d}-a"


def span_prefix(study: str, attempt: Attempt) -> str:
    """Return where the events of an attempt are stored."""
    return f"{attempts_prefix(study, attempt.rung, attempt.seed)}{attempt.attempt}/"


def start(time: float, device: str, pod: str = "") -> str:
    """Return the event of a process that begins; `device`: the machine and what computes there."""
    return f"start_{_shown(time)}_{_quoted(device)}_{_quoted(pod)}"


def sample(iteration: int, time: float) -> str:
    """Return the event of an iteration that was reached."""
    return f"sample_{iteration}_{_shown(time)}"


def end(iteration: int, time: float, code: int) -> str:
    """Return the event of a process that is about to end with an exit code."""
    return f"end_{iteration}_{_shown(time)}_{code}"


def closed(started: float | None, ended: float | None, code: int | None) -> str:
    """Return the event of a job that has ended, as its platform tells it."""
    return f"closed_{_shown(started)}_{_shown(ended)}_{_NONE if code is None else code}"


def write(store: ObjectStore, study: str, attempt: Attempt, event: str) -> None:
    """Record an event."""
    record.write_new(store, f"{span_prefix(study, attempt)}{event}.json", {})


def events(store: ObjectStore, study: str, attempt: Attempt) -> list[str]:
    """Return the events of an attempt."""
    prefix = span_prefix(study, attempt)
    return [key.removeprefix(prefix).removesuffix(".json") for key in store.keys(prefix)]


def pods(names: Iterable[str]) -> list[str]:
    """Return the uids of the pods that have begun, in order of their start."""
    begun = sorted(name for name in names if name.startswith("start_"))
    return [unquote(name.split("_")[3]) for name in begun]


def parse_attempt(rung: str, name: str) -> Attempt:
    """Return the attempt of a folder `name` below a rung's `attempts/`."""
    seed, number = name.split("-a")
    return Attempt("baseline" if rung == "baseline" else int(rung), int(seed), int(number))


def span_of(attempt: Attempt, names: Iterable[str]) -> Span | None:
    """Return the span that the events of an attempt make up; None before it has begun.

    Its time begins and ends with what the platform says of it, as far as that is known: a
    process tells nothing of itself before Python has started, and nothing once it was killed.
    """
    by_kind: dict[str, list[list[str]]] = {}
    for name in names:
        kind, *values = name.split("_")
        by_kind.setdefault(kind, []).append(values)
    try:
        return _span(attempt, by_kind)
    except (ValueError, IndexError) as error:
        raise IntegrityError(
            f"attempt {attempt.attempt} of seed {attempt.seed} at rung {attempt.rung} has an event "
            f"that nobody writes, among {sorted(names)}; delete it"
        ) from error


def _span(attempt: Attempt, events: dict[str, list[list[str]]]) -> Span | None:
    begun = min(((float(v[0]), v) for v in events.get("start", ())), default=None)
    # A second pod of one attempt does not train; two controllers may both have closed it.
    ended = min(events.get("end", ()), default=None)
    seen = min(events.get("closed", ()), default=None)
    middle = sorted((int(v[0]), float(v[1])) for v in events.get("sample", ()))
    samples = [Sample(0, begun[0])] if begun else []
    samples += [Sample(iteration, time) for iteration, time in middle]
    if ended is not None:
        samples.append(Sample(int(ended[0]), float(ended[1])))
    if seen is not None:
        samples = _framed(samples, _value(seen[0]), _value(seen[1]), ended is not None)
    if not samples:
        return None
    code = None
    if ended is not None:
        code = int(ended[2])
    elif seen is not None and seen[2] != _NONE:
        code = int(seen[2])
    device = unquote(begun[1][1]) if begun else ""
    over = ended is not None or seen is not None
    return Span(attempt.seed, attempt.rung, attempt.attempt, tuple(samples), over, code, device)


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


def _quoted(text: str) -> str:
    return quote(text, safe="").replace("_", "%5F")


def _shown(time: float | None) -> str:
    return _NONE if time is None else f"{time:.3f}"


def _value(text: str) -> float | None:
    return None if text == _NONE else float(text)
