"""Promotions and decisions, each derived once more from what it rests on."""

from collections import Counter
from collections.abc import Iterable

from liverseg.core.race.halving import decide, guaranteed, promotion_slots
from liverseg.exit_codes import ExitCode
from liverseg.race.audit.recorded import Testimony
from liverseg.race.decide.state import failed_for_good
from liverseg.race.records import facts
from liverseg.race.records.decisions import Decision, Failure, Input, Promotion
from liverseg.race.records.facts import Report
from liverseg.settings import BASELINE_SEED
from liverseg.storage.record import shown


def check_claims(told: Testimony) -> None:
    """Note every promotion, decision, report and failure that the others do not bear out."""
    claims = _Claims(told)
    for key, promotion in told.promotions.items():
        if promotion.fact is not None:
            claims.check_promotion(key, promotion.fact)
    for key, decision in told.decisions.items():
        if decision.fact is not None:
            claims.check_decision(key, decision.fact)
    for key, report in told.reports.items():
        if report.fact is not None:
            claims.check_report(key, report.fact)
    for key, failure in told.failures.items():
        if failure.fact is not None:
            claims.check_failure(key, failure.fact)


class _Claims:
    """Checks claim by claim; remembers what the first one said of a seed."""

    def __init__(self, told: Testimony) -> None:
        self._told, self._audit, self._study = told, told.audit, told.study
        self._rungs = told.rungs
        self._named: dict[tuple[int, int], tuple[str, float | None]] = {}

    def check_promotion(self, key: str, promotion: Promotion) -> None:
        """Accepted where its inputs alone make the seed certain, and the decision agrees."""
        index, seed = promotion.rung, promotion.seed
        if not 0 <= index < len(self._rungs) - 1:
            self._audit.note(key, f"says rung {index}; nobody is promoted early from there")
            return
        self._check_inputs(key, index, promotion.inputs)
        scores = {entry.seed: entry.jaccard for entry in promotion.inputs}
        awaited = max(0, self._told.expected(index) - len(scores))
        certain = guaranteed(scores, awaited, promotion_slots(self._rungs, index))
        if seed not in certain:
            self._audit.note(
                key,
                f"promotes seed {seed}; with {awaited} seeds still to come its inputs make "
                f"{_seeds(certain)} certain",
            )
        entrants = self._told.entrants(index)
        strangers = sorted(scores.keys() - entrants) if entrants is not None else []
        if strangers:
            self._audit.note(key, f"rests on {_seeds(strangers)}, not promoted to rung {index}")
        decision = self._told.decision(index)
        if decision is not None and seed not in decision.promoted:
            where = facts.decision_key(self._study, index)
            self._audit.note(
                key, f"promotes seed {seed}, '{where}' promotes {_seeds(decision.promoted)}"
            )

    def check_decision(self, key: str, decision: Decision) -> None:
        """Accepted where it rests on everybody at the rung and ranks them as they are ranked."""
        index = decision.rung
        if not 0 <= index < len(self._rungs):
            self._audit.note(key, f"says rung {index} of {len(self._rungs)}")
            return
        rung = self._rungs[index]
        if decision.iterations != rung.iterations:
            self._audit.note(
                key, f"says {decision.iterations} iterations, the schedule {rung.iterations}"
            )
        before = facts.decision_key(self._study, index - 1)
        if index and before not in self._told.decisions:
            self._audit.note(before, f"is missing, though '{key}' is there")
        self._check_inputs(key, index, decision.inputs)
        scores = {entry.seed: entry.jaccard for entry in decision.inputs}
        entrants = self._told.entrants(index)
        if entrants is not None and scores.keys() != entrants:
            self._audit.note(
                key,
                f"rests on {_seeds(sorted(scores))}, at the rung are {_seeds(sorted(entrants))}",
            )
        follows = decide(scores, promotion_slots(self._rungs, index))
        for name, said, due in (
            ("promoted", decision.promoted, follows.promoted),
            ("pruned", decision.pruned, follows.pruned),
        ):
            if said != due:
                self._audit.note(
                    key, f"says {name}: {_seeds(said)}; its inputs make it {_seeds(due)}"
                )

    def check_report(self, key: str, report: Report) -> None:
        """Where a report belongs: its rung, its target, and that the seed had got there."""
        last = len(self._rungs) - 1
        index = last if report.rung == "baseline" else report.rung
        if not 0 <= index <= last or (report.rung == "baseline") != (report.seed == BASELINE_SEED):
            self._audit.note(key, f"says seed {report.seed}, rung {report.rung}: there is no such")
            return
        target = self._rungs[index].iterations
        if report.iterations != target or not 0 <= report.best_iteration <= target:
            self._audit.note(
                key,
                f"says {report.iterations} iterations, the best at {report.best_iteration}; "
                f"the rung is at {target}",
            )
        entrants = self._told.entrants(index)
        strange = report.rung != "baseline" and entrants is not None and report.seed not in entrants
        if strange and not self._taken_over(report):
            self._audit.note(key, f"seed {report.seed} was not promoted to rung {index}")

    def _taken_over(self, report: Report) -> bool:
        """Whether it is a report of the study that this one extends: there the seed got so far."""
        prefixes = (facts.study_prefix(ancestor) for ancestor in self._told.lineage[1:])
        return any(report.checkpoint.startswith(prefix) for prefix in prefixes)

    def check_failure(self, key: str, failure: Failure) -> None:
        """A failure's kind, on which further attempts depend, follows from its exit code."""
        kind = "model" if failure.exit_code == ExitCode.NOT_FINITE else "infrastructure"
        # A straggler is ended while it runs: it has no exit code yet.
        moved = failure.kind == "straggler" and failure.exit_code is None
        if failure.kind != kind and not moved:
            self._audit.note(
                key, f"says kind '{failure.kind}', exit code {failure.exit_code} makes '{kind}'"
            )

    def _check_inputs(self, key: str, rung: int, inputs: tuple[Input, ...]) -> None:
        """Compare what a claim says of its seeds with their reports and failures."""
        for seed, times in Counter(entry.seed for entry in inputs).items():
            if times > 1:
                self._audit.note(key, f"names seed {seed} {times} times")
        for entry in inputs:
            if entry.sha256 is None or entry.attempt is None:
                self._check_failed(key, rung, entry)
            else:
                self._check_reported(key, rung, entry, entry.attempt)
            self._check_agreement(key, rung, entry)

    def _check_reported(self, key: str, rung: int, entry: Input, attempt: int) -> None:
        where = facts.report_key(self._study, rung, entry.seed, attempt)
        found = self._told.reports.get(where)
        if found is None:
            self._audit.note(key, f"rests on '{where}', which is not there")
            return
        score = found.fact.score(self._told.race.rung_metric) if found.fact else None
        if found.sha256 != entry.sha256:
            problem = f"its SHA-256 is {found.sha256}, '{key}' names {shown(entry.sha256)}"
            if found.fact and score != entry.jaccard:
                problem += f"; it says Jaccard {shown(score)}, there it is {shown(entry.jaccard)}"
            self._audit.note(where, problem)
        elif found.fact and score != entry.jaccard:
            self._audit.note(
                key,
                f"says Jaccard {shown(entry.jaccard)} of seed {entry.seed}, '{where}' says "
                f"{shown(score)}",
            )

    def _check_failed(self, key: str, rung: int, entry: Input) -> None:
        if (entry.attempt, entry.jaccard, entry.sha256) != (None, None, None):
            self._audit.note(key, f"says half of what belongs to a report of seed {entry.seed}")
        known = self._told.failures_of(rung, entry.seed)
        before = self._rungs[rung - 1].iterations if rung else 0
        # Under which controller and after which failure it was given up, the claim does not say.
        generations = {failure.generation for failure in known}
        given_up = any(
            failed_for_good(known[:end], before, generation)
            for end in range(1, len(known) + 1)
            for generation in generations
        )
        if not given_up:
            self._audit.note(
                key,
                f"takes seed {entry.seed} for failed for good; it has {len(known)} failures at "
                "the rung, which do not make it so",
            )

    def _check_agreement(self, key: str, rung: int, entry: Input) -> None:
        """What one claim says of a seed holds for every other claim of the rung."""
        where, jaccard = self._named.setdefault((rung, entry.seed), (key, entry.jaccard))
        if jaccard != entry.jaccard:
            self._audit.note(
                key,
                f"says Jaccard {shown(entry.jaccard)} of seed {entry.seed}, '{where}' says "
                f"{shown(jaccard)}",
            )


def _seeds(seeds: Iterable[int]) -> str:
    text = ", ".join(map(str, seeds))
    return f"seeds {text}" if text else "no seed"
