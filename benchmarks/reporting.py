"""Whether records are lost where many trials report often: they share the cores, and each reports ten times a second.

    python -m benchmarks.reporting [--trials 64] [--seconds 60] [--every 0.1]

Through Ray Tune and the harness's callback into `rows.jsonl` and MLflow, with trials that do nothing but report.
A trial waits until its report is taken: where the driver cannot keep pace a trial takes longer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any


def report_often(config: dict[str, Any], number: int, every: float) -> None:
    """A trial that reports `number` records, one every `every` seconds."""
    from ray import tune

    from harness.records.details import Details
    from harness.sweep.worker import record_of, tasks_in

    (task,), started = tasks_in(config), time.time()
    for step in range(1, number + 1):
        time.sleep(max(0.0, started + step * every - time.time()))
        record = record_of(task, "epoch", step, {"pretrain/loss": 1 / step})
        tune.report({"sent": [record | {"status": "finished" if step == number else "running"}, Details()]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=0.1)
    options = parser.parse_args()
    number = round(options.seconds / options.every)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        taken, span, delivered = _sweep(folder, options.trials, number, options.every)
    expected = options.trials * number
    assert len(taken) == expected == len(set(taken)), f"{len(set(taken))} of {expected} records in rows.jsonl"
    assert delivered == expected, f"{delivered} of {expected} points in MLflow"
    print(f"figure reporting_records {expected}")
    print("figure reporting_records_lost 0")
    print(f"figure reporting_records_a_second {expected / span:.0f}")


def _sweep(folder: Path, trials: int, number: int, every: float) -> tuple[list[tuple[str, int]], float, int]:
    """Every record taken, as (trial, step); seconds from the first to the last; points in MLflow."""
    import ray
    from mlflow import MlflowClient
    from ray import tune

    from harness.config.tasks import Candidate, Task
    from harness.config.trial import TrialConfig
    from harness.records import rows
    from harness.records.folder import Recorder
    from harness.sweep.callback import RecordCallback
    from harness.sweep.connection import connected
    from harness.sweep.given import GivenTasks
    from harness.sweep.screen import Display, Standing
    from harness.tracking.tracker import Tracker

    metric = {"name": "val/accuracy", "goal": "maximize"}
    space = {"name": "reporting", "description": "", "method": "grid", "metric": [metric]}
    about = {"sweep_id": "reporting", "datasets": [{"name": "none", "fingerprint": "0"}]}
    (folder / "space.yaml").write_text(json.dumps(space), encoding="utf-8")
    uri = f"sqlite:///{folder}/mlflow.db"
    with connected():
        tracker = Tracker(uri, "reporting", folder, about)
        tracker.start()
        recorder = Recorder(folder, tracker.record)
        tasks = [Task(Candidate({}, TrialConfig()), seed, "search") for seed in range(trials)]
        share = ray.cluster_resources()["CPU"] / trials
        with Display(Standing("val/accuracy", True), quiet=True) as display:
            callback = RecordCallback(recorder, display, None, lambda: False)
            tune.Tuner(
                tune.with_resources(tune.with_parameters(report_often, number=number, every=every), {"cpu": share}),
                tune_config=tune.TuneConfig(search_alg=GivenTasks(tasks), num_samples=trials, reuse_actors=True),
                run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0, callbacks=[callback]),
            ).fit()
        recorder.close()
        assert tracker.finish("finished", timeout=300)
    found, unreadable = rows.read_rows(folder)
    assert unreadable == 0
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("reporting").experiment_id], max_results=1000)
    steps = {
        (run.info.run_id, point.step)
        for run in runs
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    }
    times = [record["time"] for record in found]
    return [(r["trial"], r["step"]) for r in found], (max(times) - min(times)) / 1000, len(steps)


if __name__ == "__main__":
    # as __main__, its functions would be sent to the workers by value
    from benchmarks.reporting import main as run_main

    run_main()
