"""What a sweep costs beside its trials: trials that do nothing.

    python -m benchmarks.sweep_overhead [--trials 20]

A trial's stages all come from the cache, so that what remains is the harness: Ray, records, MLflow, the report.
From 200 trials on it also tells whether the cost grows: seconds a trial and the driver's memory for every hundred,
and how many trials MLflow was behind.

    python -m benchmarks.sweep_overhead --simulated 10000

What is the driver's own of so many trials, each with an encoder of its own, in processor seconds: the question is
planned, tasks are handed out, records kept. Without Ray, its workers and MLflow, so that it takes a minute. The cost of
a trial in the last tenth over that in the first tells whether it grows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

SPACE = """
name: {name}
method: grid
seeds: {seeds}
trial:
  dataset: digits
  backbone: {{name: dcnn3, width: 4}}
  ssl_method: none
  labels: {{start: 100}}
  classifier: {{name: knn}}
"""

POLL_SECONDS = 1.0


@dataclass
class Sample:
    """The state of a running sweep: seconds since its start, the driver's memory, trials ended and delivered."""

    seconds: float
    driver_bytes: int
    ended: int
    delivered: int


@dataclass
class Run:
    """One sweep.

    Attributes:
        total: seconds of the process.
        ends: seconds from its start to each trial's end, in order.
        samples: taken while it ran.
    """

    total: float
    ends: list[float]
    samples: list[Sample] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--simulated", type=int, metavar="TRIALS", help="the driver's part of so many, without Ray")
    options = parser.parse_args()
    if options.simulated:
        _simulate(options.simulated)
        return
    trials = options.trials
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _sweep(folder, "warm_up", 1)
        run = _sweep(folder, "measured", trials)
    if trials >= 200:
        _print_hundreds(run)
    print(f"figure sweep_seconds_to_first_trial {run.ends[0]:.2f}")
    print(f"figure sweep_seconds_per_trial {(run.ends[-1] - run.ends[0]) / (trials - 1):.3f}")
    print(f"figure sweep_seconds_after_last_trial {run.total - run.ends[-1]:.2f}")
    print(f"figure sweep_seconds_in_all {run.total:.2f}")


def _simulate(trials: int) -> None:
    from harness.config.plan import load_plan
    from harness.config.schema import as_dict
    from harness.records.details import Details, Training
    from harness.records.folder import Recorder
    from harness.sweep.given import GivenTasks
    from harness.sweep.worker import record_of, tasks_in

    temperatures = {"ssl_method.temperature": {"values": [0.1 + 1e-5 * number for number in range(trials)]}}
    asked = {"name": "simulated", "seeds": [0], "trial": {"labels": {"start": 20}}, "parameters": temperatures}
    begun = time.process_time()
    tasks = load_plan(asked, {}).first_tasks()
    planned = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder), lambda record: None)
        given = GivenTasks(recorder.left(tasks))
        times = [time.process_time()]
        for number in map(str, range(trials)):
            (task,) = tasks_in(given.suggest(number) or {})
            recorder.write(record_of(task, "labels", 0, {}), Details(config=as_dict(task.trial)))
            epoch = record_of(task, "epoch", 1, {"pretrain/loss": 1.0})
            given.on_trial_result(number, {"sent": [epoch, Details(training=Training("pretrain", 1, 1))]})
            recorder.write(epoch, Details())
            recorder.write(record_of(task, "labels", 20, {"val/accuracy": 0.5}) | {"status": "finished"}, Details())
            given.on_trial_complete(number)
            times.append(time.process_time())
        recorder.close()
    tenth = max(1, trials // 10)
    first, last = (times[tenth] - times[0]) / tenth, (times[-1] - times[-1 - tenth]) / tenth
    print(f"figure sweep_simulated_planning_milliseconds_per_trial {1000 * (planned - begun) / trials:.3f}")
    print(f"figure sweep_simulated_schedule_milliseconds_per_trial {1000 * (times[0] - planned) / trials:.3f}")
    print(f"figure sweep_simulated_milliseconds_per_trial_first_tenth {1000 * first:.3f}")
    print(f"figure sweep_simulated_milliseconds_per_trial_last_tenth {1000 * last:.3f}")
    print(f"figure sweep_simulated_last_over_first {last / first:.2f}")
    print(f"figure sweep_simulated_megabytes {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def _sweep(folder: Path, name: str, trials: int) -> Run:
    file = folder / f"{name}.yaml"
    file.write_text(SPACE.format(name=name, seeds=list(range(trials))), encoding="utf-8")
    started, clock = time.time(), time.perf_counter()
    options = ["--results", f"{folder}/runs", "--stages", f"{folder}/stages", "--cache", f"{folder}/data", "--quiet"]
    command = [sys.executable, "-m", "harness.sweep", str(file), *options]
    samples = []
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            samples.append(_sample(folder / "runs", name, process.pid, time.perf_counter() - clock))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
    total = time.perf_counter() - clock
    assert process.returncode == 0, (folder / f"{name}.out").read_text(encoding="utf-8")
    rows = [
        json.loads(line) for line in (folder / "runs" / name / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    ends = sorted(row["time"] / 1000 - started for row in rows if row["status"] == "finished")
    assert len(ends) == trials
    if trials > 1:
        final = _sample(folder / "runs", name, process.pid, total)
        assert final.delivered == trials, f"{final.delivered} of {trials} trials are in MLflow"
    return Run(total, ends, samples)


def _sample(runs: Path, name: str, pid: int, seconds: float) -> Sample:
    memory = 0
    with contextlib.suppress(OSError, StopIteration, ValueError):
        driver = int(
            Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
        )  # of the process that watches it
        lines = Path(f"/proc/{driver}/status").read_text(encoding="utf-8").splitlines()
        memory = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    rows = runs / name / "rows.jsonl"
    ended = rows.read_bytes().count(b'"status": "finished"') if rows.exists() else 0
    query = (
        "SELECT count(*) FROM runs JOIN tags ON runs.run_uuid = tags.run_uuid JOIN experiments USING (experiment_id) "
        "WHERE tags.key = 'trial_id' AND runs.status = 'FINISHED' AND experiments.name = ?"
    )
    delivered = 0
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{runs}/mlflow.db?mode=ro", uri=True)) as database,
    ):
        delivered = database.execute(query, (name,)).fetchone()[0]
    return Sample(seconds, memory, ended, delivered)


def _print_hundreds(run: Run) -> None:
    """The cost of every hundred trials, and figures of the first against the last."""
    costs, memories = [], []
    for last in range(100, len(run.ends) + 1, 100):
        costs.append((run.ends[last - 1] - run.ends[last - 100]) / 99)
        there = next(sample for sample in [*run.samples[::-1]] if sample.ended <= last and sample.driver_bytes)
        memories.append(there.driver_bytes / 2**20)
        behind = there.ended - there.delivered
        print(
            f"trials {last - 99:5} .. {last:5}: {costs[-1]:.3f} s each, {memories[-1]:.0f} MB, MLflow {behind} behind"
        )
    live = [sample for sample in run.samples if sample.ended < len(run.ends)]
    print(f"figure sweep_seconds_per_trial_first_hundred {costs[0]:.3f}")
    print(f"figure sweep_seconds_per_trial_last_hundred {costs[-1]:.3f}")
    print(f"figure sweep_driver_megabytes_after_first_hundred {memories[0]:.0f}")
    print(f"figure sweep_driver_megabytes_after_last_hundred {memories[-1]:.0f}")
    print(
        f"figure sweep_trials_that_mlflow_is_behind_at_most {max(sample.ended - sample.delivered for sample in live)}"
    )


if __name__ == "__main__":
    main()
