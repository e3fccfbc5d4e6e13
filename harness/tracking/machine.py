"""The load of the machine that runs a sweep, as MLflow shows it."""

from __future__ import annotations

import time

SAMPLE_SECONDS = 10.0


class Machine:
    """What MLflow's own monitors say of this machine: CPU, memory, disk, network and GPUs, as they name it."""

    def __init__(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # Its thread is not started: what it would send itself is lost while the server is away.
        monitor = SystemMetricsMonitor("", sampling_interval=SAMPLE_SECONDS)
        self._monitors = monitor.monitors
        self._every = monitor.sampling_interval
        self.sample()  # loads are measured since the last sample

    def sample(self) -> dict[str, float]:
        """Values by name, such as `cpu_utilization_percentage`; `taken` now, the next one `due` then."""
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        self.taken = time.monotonic()
        self.due = self.taken + self._every
        return values
