"""The load of the machine that runs a sweep, as MLflow shows it."""

from __future__ import annotations

import time

SAMPLE_SECONDS = 10.0


class MachineLoad:
    """What MLflow's own monitors say of this machine: CPU, memory, disk, network and GPUs, as they name it."""

    def __init__(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # Its thread is not started: what it would send itself is lost while the server is away.
        monitor = SystemMetricsMonitor("", sampling_interval=SAMPLE_SECONDS)
        self._monitors = monitor.monitors
        self._every = monitor.sampling_interval
        self.sample()  # loads are measured since the last sample

    def is_due(self, last: bool = False) -> bool:
        """Whether it is time for a sample; for the `last` after a second: a load over no time is none."""
        return time.monotonic() >= self._taken + (1 if last else self._every)

    def sample(self) -> dict[str, float]:
        """Values since the last sample, by name, such as `cpu_utilization_percentage`."""
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        self._taken = time.monotonic()
        return values
