"""What reads our metrics: rules for Prometheus, dashboards for Grafana. liverseg imports none."""
