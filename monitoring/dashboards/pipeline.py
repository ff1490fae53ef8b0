"""Cases, the store, and the controller's own work."""

from monitoring.dashboards.panels import Dashboard, Panel, Query

NO_CONTROLLER = "no controller runs, or it is not scraped"
NO_ERRORS = "nothing has failed"

DASHBOARD = Dashboard(
    "pipeline",
    "pipeline",
    "Cases, from the facts; the store and reconciling, from running controllers.",
    (
        Panel(
            "Cases by step",
            "Processed and refused.",
            (
                Query(
                    'max by (study, step, outcome) (liverseg_step_cases{study=~"$study"})',
                    "{{step}} {{outcome}} {{study}}",
                ),
            ),
            kind="bargauge",
        ),
        Panel(
            "Latency of the store",
            "95th percentile by verb.",
            (
                Query(
                    "histogram_quantile(0.95, sum by (verb, le) "
                    "(rate(liverseg_store_request_duration_seconds_bucket[$__rate_interval])))",
                    "{{verb}}",
                    absent=NO_CONTROLLER,
                ),
            ),
            unit="s",
        ),
        Panel(
            "Errors of the store",
            "Failed requests per second, by verb; each is tried again.",
            (
                Query(
                    "sum by (verb) (rate(liverseg_store_errors_total[$__rate_interval]))",
                    "{{verb}}",
                    absent=NO_ERRORS,
                ),
            ),
            unit="reqps",
        ),
        Panel(
            "Duration of a reconcile",
            "Median and 95th percentile of all controllers.",
            tuple(
                Query(
                    f"histogram_quantile({quantile}, sum by (le) "
                    "(rate(liverseg_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    f"{100 * quantile:.0f} %",
                    absent=NO_CONTROLLER,
                )
                for quantile in (0.5, 0.95)
            ),
            unit="s",
        ),
        Panel(
            "Errors of reconciling",
            "Per second, by what did not answer.",
            (
                Query(
                    "sum by (what) (rate(liverseg_reconcile_errors_total[$__rate_interval]))",
                    "{{what}}",
                    absent=NO_ERRORS,
                ),
            ),
        ),
        Panel(
            "Scraped",
            "1: answers.",
            (Query('max by (job, instance) (up{job=~".*liverseg-.*"})', "{{job}} {{instance}}"),),
            kind="stat",
        ),
        Panel(
            "Studies that cannot be read",
            "1: the exporter could not read the facts of this study; others are served.",
            (
                Query(
                    'max by (study) (liverseg_exporter_scrape_errors{study=~"$study"}) > 0',
                    "{{study}}",
                    absent=NO_ERRORS,
                ),
            ),
            kind="stat",
        ),
    ),
)
