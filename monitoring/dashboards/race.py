"""How the race stands: rungs, seeds, curves, pods, and what waits."""

from monitoring.dashboards.panels import Dashboard, Panel, Query

OVER = "the race is over"
PROCESSES = "no trainer runs, or trainers are not scraped"

DASHBOARD = Dashboard(
    "race",
    "race",
    "The bracket of rungs, what trains, and what waits.",
    (
        Panel(
            "State",
            "What each study does.",
            (
                Query(
                    'max by (study, state) (liverseg_study_state{study=~"$study"}) == 1',
                    "{{study}} {{state}}",
                ),
            ),
            kind="stat",
            width=8,
            height=5,
        ),
        Panel(
            "Rung",
            "Rungs that are decided, of all.",
            (
                Query('max by (study) (liverseg_rung{study=~"$study"})', "{{study}} decided"),
                Query('max by (study) (liverseg_rungs{study=~"$study"})', "{{study}} of"),
            ),
            kind="stat",
            width=8,
            height=5,
        ),
        Panel(
            "Expected end",
            "Of the race, at the rate of its trainers so far.",
            (
                Query(
                    "1000 * max by (study) "
                    '(liverseg_expected_end_timestamp_seconds{study=~"$study"})',
                    "{{study}}",
                    absent=OVER + ", or no rate is known yet",
                ),
                Query(
                    "1000 * max by (study, rung) "
                    '(liverseg_rung_expected_end_timestamp_seconds{study=~"$study"})',
                    "{{study}} rung {{rung}}",
                    absent=OVER + ", or no rate is known yet",
                ),
            ),
            kind="stat",
            unit="dateTimeFromNow",
            width=8,
            height=5,
        ),
        Panel(
            "Bracket",
            "Seeds that got to each rung.",
            (
                Query(
                    'max by (study, rung) (liverseg_rung_seeds{study=~"$study"})',
                    "{{study}} rung {{rung}}",
                ),
            ),
            kind="bargauge",
        ),
        Panel(
            "Seeds",
            "What each seed does.",
            (
                Query(
                    'sum by (state) (max by (study, state) (liverseg_seeds{study=~"$study"}))',
                    "{{state}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Validation Jaccard",
            "Of the trainers that run.",
            (
                Query(
                    'max by (study, seed) (liverseg_trainer_validation_jaccard{study=~"$study"})',
                    "seed {{seed}}",
                    absent=PROCESSES,
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Iterations per second",
            "Of each trainer.",
            (
                Query(
                    "sum by (study, seed) "
                    '(rate(liverseg_trainer_iterations_total{study=~"$study"}[$__rate_interval]))',
                    "seed {{seed}}",
                    absent=PROCESSES,
                ),
            ),
            unit="iops",
        ),
        Panel(
            "Trainers",
            "Running, and started but not running.",
            (
                Query(
                    'count by (study) (liverseg_trainer_iterations_total{study=~"$study"})',
                    "{{study}} running",
                    absent=PROCESSES,
                ),
                Query(
                    'max by (study) (liverseg_waiting_jobs{study=~"$study"})', "{{study}} waiting"
                ),
            ),
        ),
        Panel(
            "Since the last progress",
            "Of attempts that have begun and not ended; facts name validations only.",
            (
                Query(
                    "time() - max by (study, seed, rung, attempt) "
                    '(liverseg_attempt_last_progress_timestamp_seconds{study=~"$study"})',
                    "seed {{seed}} rung {{rung}} attempt {{attempt}}",
                    absent=OVER,
                ),
            ),
            unit="s",
        ),
        Panel(
            "Decisions and promotions",
            "Rungs decided, seeds promoted from each.",
            (
                Query(
                    'max by (study) (liverseg_decisions_total{study=~"$study"})',
                    "{{study}} decisions",
                ),
                Query(
                    'max by (study, rung) (liverseg_promotions_total{study=~"$study"})',
                    "{{study}} promoted from rung {{rung}}",
                ),
            ),
            kind="bargauge",
            width=8,
        ),
        Panel(
            "Attempts by how they ended",
            "An attempt is one start of a trainer.",
            (
                Query(
                    'max by (study, cause) (liverseg_attempts_total{study=~"$study"}) > 0',
                    "{{study}} {{cause}}",
                    absent="no attempt has ended",
                ),
            ),
            kind="bargauge",
            width=8,
        ),
        Panel(
            "Controllers",
            "How many there were, and how long ago one was heard of.",
            (
                Query(
                    'max by (study) (liverseg_lease_generation{study=~"$study"})',
                    "{{study}} controllers",
                ),
                Query(
                    "time() - max by (study) "
                    '(liverseg_heartbeat_timestamp_seconds{study=~"$study"})',
                    "{{study}} seconds since a heartbeat",
                ),
            ),
            kind="stat",
            width=8,
        ),
        Panel(
            "Alerts",
            "What fires now.",
            (
                Query(
                    'ALERTS{alertname=~"Liverseg.*", alertstate="firing"}',
                    absent="nothing is wrong",
                ),
            ),
            kind="table",
            width=24,
        ),
    ),
)
