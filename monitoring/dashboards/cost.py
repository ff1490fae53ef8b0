"""What the GPUs were used for, by whom, at what price, and whether the cluster agrees."""

from monitoring.dashboards.panels import Dashboard, Panel, Query

NO_PRICE = "the controller was started without --gpu-price"
NO_BUDGET = "the study has no budget"
NO_KUBE = "trainers are processes, or kube-state-metrics is not scraped"

DASHBOARD = Dashboard(
    "cost",
    "GPU-hours and cost",
    "GPU-hours by study, outcome and user; what pruning saved; what is still needed.",
    (
        Panel(
            "GPU-hours",
            "Used so far, the baseline included.",
            (
                Query(
                    'sum by (study) (study_outcome:liverseg_gpu_hours:sum{study=~"$study"})',
                    "{{study}}",
                ),
            ),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Cost",
            "At the price that the controller was started with.",
            (
                Query(
                    'sum by (study, currency) (study_outcome:liverseg_cost:sum{study=~"$study"})',
                    "{{study}} {{currency}}",
                    absent=NO_PRICE,
                ),
            ),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Saved by pruning",
            "GPU-hours that training every seed to the end would have used as well.",
            (
                Query(
                    'max by (study) (study:liverseg_saved_gpu_hours:max{study=~"$study"})',
                    "{{study}}",
                    absent="no rung is decided yet",
                ),
            ),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "Still needed",
            "GPU-hours to the end of the race, at its rate so far.",
            (
                Query(
                    'max by (study) (liverseg_remaining_gpu_seconds{study=~"$study"}) / 3600',
                    "{{study}}",
                    absent="the race is over, or no rate is known yet",
                ),
            ),
            kind="stat",
            width=6,
            height=5,
        ),
        Panel(
            "GPU-hours by outcome",
            "useful: covered by a report; repeated: done again after a failure; startup: starting, "
            "saving, and what no report covers yet; pruned: after the decision against the seed.",
            (
                Query(
                    'sum by (outcome) (study_outcome:liverseg_gpu_hours:sum{study=~"$study"})',
                    "{{outcome}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "GPU-hours by rung and outcome",
            "Where in the race they were used.",
            (
                Query(
                    "sum by (rung, outcome) "
                    '(study_rung_outcome:liverseg_gpu_seconds:max{study=~"$study"}) / 3600 > 0',
                    "rung {{rung}} {{outcome}}",
                ),
            ),
            kind="bargauge",
        ),
        Panel(
            "GPUs in use",
            "GPU-hours of the last hour, by study; they are recorded at validations.",
            (
                Query(
                    "sum by (study) ("
                    'study_outcome:liverseg_gpu_hours:sum{study=~"$study"} - '
                    'study_outcome:liverseg_gpu_hours:sum{study=~"$study"} offset 1h)',
                    "{{study}}",
                    absent="Prometheus has not scraped for an hour",
                ),
            ),
        ),
        Panel(
            "Budget used",
            "All GPU-hours of a study against --max-gpu-hours.",
            (
                Query(
                    'max by (study) (study:liverseg_budget_used:ratio{study=~"$study"})',
                    "{{study}}",
                    absent=NO_BUDGET,
                ),
            ),
            kind="bargauge",
            unit="percentunit",
            steps=((0.8, "orange"), (1.0, "red")),
        ),
        Panel(
            "GPU-hours by user",
            "Of all studies.",
            (Query("user:liverseg_gpu_hours:sum", "{{user}}"),),
            kind="bargauge",
            width=8,
        ),
        Panel(
            "Cost by user",
            "Of all studies with a price.",
            (Query("user:liverseg_cost:sum", "{{user}} {{currency}}", absent=NO_PRICE),),
            kind="bargauge",
            width=8,
        ),
        Panel(
            "GPU-hours per promoted seed",
            "Without the baseline.",
            (
                Query(
                    "max by (study) "
                    '(study:liverseg_gpu_hours_per_promotion:ratio{study=~"$study"})',
                    "{{study}}",
                    absent="nobody is promoted yet",
                ),
            ),
            kind="stat",
            width=8,
        ),
        Panel(
            "Ledger against kube-state-metrics",
            "Difference over the pods that both know and that have ended.",
            (
                Query(
                    'max by (study) (study:liverseg_kube_difference:ratio{study=~"$study"})',
                    "{{study}}",
                    absent=NO_KUBE,
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Difference by pod",
            "Of pods that have ended.",
            (
                Query(
                    'pod:liverseg_gpu_seconds:max{study=~"$study"}'
                    " / on (pod_uid) pod:kube_gpu_seconds:max - 1",
                    "seed {{seed}} rung {{rung}} attempt {{attempt}}",
                    absent=NO_KUBE,
                ),
            ),
            kind="bargauge",
            unit="percentunit",
        ),
        Panel(
            "Pods that only the ledger knows",
            "GPU seconds of pods that were deleted.",
            (
                Query(
                    'pod:liverseg_gpu_seconds_unknown_to_kube:max{study=~"$study"}',
                    absent=NO_KUBE + ", or no pod was deleted",
                ),
            ),
            kind="table",
        ),
    ),
)
