"""Grafana's dashboards as code; `python -m monitoring` writes them."""

from monitoring.dashboards import cost, pipeline, race, training

DASHBOARDS = (race.DASHBOARD, cost.DASHBOARD, pipeline.DASHBOARD, training.DASHBOARD)
