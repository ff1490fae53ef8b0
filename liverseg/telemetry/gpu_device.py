"""Memory and utilisation of the GPU that a process computes on, as NVIDIA's driver tells them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class GpuCollector(Collector):
    """Collects a GPU, or a slice of one, by its UUID, with these labels on each series.

    What the driver does not tell is absent: without a driver all, of a slice of a GPU (MIG) the
    utilisation.
    """

    def __init__(self, uuid: str, labels: Mapping[str, str]) -> None:
        self._uuid, self._labels = uuid, dict(labels)

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering asks no driver."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what the driver tells now."""
        try:
            import pynvml
        except ModuleNotFoundError:
            return
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            try:
                device = self._device(pynvml)
                used = pynvml.nvmlDeviceGetMemoryInfo(device).used
                yield self._gauge(
                    "memory_bytes", "Memory in use on the GPU, by all processes.", used
                )
                busy = pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
                text = "Share of the last second in which the GPU computed, 0 to 1."
                yield self._gauge("utilization_ratio", text, busy)
            finally:
                pynvml.nvmlShutdown()

    def _device(self, driver: Any) -> Any:
        try:
            return driver.nvmlDeviceGetHandleByUUID(f"GPU-{self._uuid}")
        except driver.NVMLError:
            return driver.nvmlDeviceGetHandleByUUID(f"MIG-{self._uuid}")

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"liverseg_trainer_gpu_{name}", text, labels=list(self._labels))
        family.add_metric(list(self._labels.values()), value)
        return family
