"""What only a controller's own process knows: how long it takes, and what does not answer it."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from liverseg.errors import Fenced, PlatformError, StoreError
from liverseg.race.controller import Controller
from liverseg.race.decide.reconcile import Until
from liverseg.storage.port import ObjectStore
from liverseg.telemetry.measured_store import MeasuredStore, StoreMetrics
from liverseg.telemetry.study_collector import StudyCollector

_BUCKETS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0)


class ControllerMetrics:
    """The metrics of a controller: of its study, from the facts, and of its own process."""

    def __init__(self, collector: StudyCollector) -> None:
        disable_created_metrics()
        self.registry = registry = CollectorRegistry()
        registry.register(collector)
        self._store = StoreMetrics(registry)
        self.reconcile = Histogram(
            "liverseg_reconcile_duration_seconds",
            "Seconds of a reconcile pass.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self.fenced = Counter(
            "liverseg_controller_fenced_total",
            "1 once another controller has taken the study over.",
            registry=registry,
        )
        errors = Counter(
            "liverseg_reconcile_errors_total",
            "Reconcile passes that failed since store or platform did not answer.",
            ["what"],
            registry=registry,
        )
        self.errors = {what: errors.labels(what=what) for what in ("store", "platform")}
        self.is_ready: Callable[[], bool] = lambda: False
        """Whether the controller holds its study."""

    def controller(self, store: ObjectStore, *args: Any, **options: Any) -> Controller:
        """Return a controller that notes here what it does, and its requests to the store."""
        controller = MeasuredController(MeasuredStore(store, self._store), *args, **options)
        controller.metrics = self
        self.is_ready = lambda: controller.lease.held
        return controller


class MeasuredController(Controller):
    """A controller that notes its passes in ControllerMetrics."""

    metrics: ControllerMetrics

    def run(self, until: Until, take_over: bool = False) -> None:
        """As Controller.run."""
        try:
            super().run(until, take_over)
        except Fenced:
            self.metrics.fenced.inc()
            raise

    def reconcile(self, until: Until) -> tuple[bool, bool]:
        """As Controller.reconcile."""
        start = perf_counter()
        try:
            return super().reconcile(until)
        except StoreError:
            self.metrics.errors["store"].inc()
            raise
        except PlatformError:
            self.metrics.errors["platform"].inc()
            raise
        finally:
            self.metrics.reconcile.observe(perf_counter() - start)
