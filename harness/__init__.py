"""selbench: a benchmark harness for self-supervised learning and label selection.

    import harness

    report = harness.run_sweep("search_spaces/augment.yaml", set={"run_cap": 10})
    report.answer
    harness.run_trial({"dataset": "digits", "selector": "coreset"}, seed=0).totals
    harness.load_report("results/runs/augment")

Importing it costs nothing: torch, Ray and MLflow are imported by what needs them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.config.schema import ConfigError as ConfigError
    from harness.notebook import load_report as load_report
    from harness.notebook import run_sweep as run_sweep
    from harness.trial.alone import run_trial as run_trial

HOMES = {
    "ConfigError": "harness.config.schema",
    "load_report": "harness.notebook",
    "run_sweep": "harness.notebook",
    "run_trial": "harness.trial.alone",
}
"""What Python programs use, and the module that has it."""


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
