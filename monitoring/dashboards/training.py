"""What trainers do while they run: loss, data, checkpoints, GPU."""

from monitoring.dashboards.panels import Dashboard, Panel, Query

NOT_RUNNING = "no trainer runs, or trainers are not scraped"
NO_GPU = NOT_RUNNING + ", or there is no NVIDIA GPU"


def _each(title: str, description: str, expr: str, unit: str = "short", absent: str = "") -> Panel:
    """Return a panel with a line per seed."""
    return Panel(
        title,
        description,
        (Query(f"max by (study, seed) ({expr})", "seed {{seed}}", absent or NOT_RUNNING),),
        unit=unit,
    )


DASHBOARD = Dashboard(
    "training",
    "training",
    "Of trainers that run and are scraped; what has ended is in the race's facts.",
    (
        _each(
            "Training loss",
            "Of the last iterations.",
            'liverseg_trainer_loss{study=~"$study"}',
        ),
        _each(
            "Validation Jaccard",
            "Of the last validation.",
            'liverseg_trainer_validation_jaccard{study=~"$study"}',
            "percentunit",
        ),
        _each(
            "Progress to the rung",
            "Iterations since the training began, of those that the rung asks for.",
            'liverseg_trainer_reached_iterations{study=~"$study"}'
            ' / liverseg_trainer_target_iterations{study=~"$study"}',
            "percentunit",
        ),
        Panel(
            "Seconds per iteration",
            "Median and 95th percentile.",
            tuple(
                Query(
                    f"histogram_quantile({quantile}, sum by (study, le) (rate("
                    'liverseg_trainer_iteration_seconds_bucket{study=~"$study"}'
                    "[$__rate_interval])))",
                    f"{{{{study}}}} {100 * quantile:.0f} %",
                    NOT_RUNNING,
                )
                for quantile in (0.5, 0.95)
            ),
            unit="s",
        ),
        _each(
            "Time spent waiting for data",
            "A trainer above 20 % needs more cores.",
            'rate(liverseg_trainer_data_wait_seconds_total{study=~"$study"}[$__rate_interval])',
            "percentunit",
        ),
        _each(
            "Age of the newest checkpoint",
            "What is lost if the pod ends now.",
            'time() - liverseg_trainer_last_checkpoint_timestamp_seconds{study=~"$study"}',
            "s",
        ),
        Panel(
            "Checkpoints",
            "Bytes written per second, and the mean time to save one.",
            (
                Query(
                    "sum by (study) (rate("
                    'liverseg_trainer_checkpoint_bytes_total{study=~"$study"}[$__rate_interval]))',
                    "{{study}} bytes per second",
                    NOT_RUNNING,
                ),
                Query(
                    "sum by (study) "
                    '(liverseg_trainer_checkpoint_seconds_sum{study=~"$study"}) / '
                    "(sum by (study) "
                    '(liverseg_trainer_checkpoint_seconds_count{study=~"$study"}) > 0)',
                    "{{study}} seconds",
                    NOT_RUNNING,
                ),
            ),
        ),
        _each(
            "GPU memory",
            "Of the trainer's device.",
            'liverseg_trainer_gpu_memory_bytes{study=~"$study"}',
            "bytes",
            NO_GPU,
        ),
        _each(
            "GPU utilisation",
            "As NVML tells it: the share of time in which a kernel ran.",
            'liverseg_trainer_gpu_utilization_ratio{study=~"$study"}',
            "percentunit",
            NO_GPU,
        ),
        Panel(
            "GPU utilisation as DCGM tells it",
            "Of the pods of our trainers; blind under time slicing, see docs/monitoring.md.",
            (
                Query(
                    'max by (pod) (label_replace(DCGM_FI_DEV_GPU_UTIL, "pod", "$1", '
                    '"exported_pod", "(.+)")) / 100 and on (pod) '
                    'max by (pod) (liverseg_trainer_iterations_total{study=~"$study"})',
                    "{{pod}}",
                    "no DCGM exporter is scraped",
                ),
            ),
            unit="percentunit",
        ),
    ),
)
