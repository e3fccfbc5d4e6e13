"""A sweep whose records are a large file: how long it takes to be reported, and to go on.

    python -m benchmarks.large_records [--megabytes 200] [--configurations 22] [--rounds 9]

A grid of so many configurations is planned, one trial of it is run, and its records are written for all others under as
many seeds as it takes, with accuracies of their own; but for the last one, which is left to run. Then the folder is
reported, and the sweep goes on with `--resume` until its last trial begins. Of each, in a process of its own, seconds,
processor seconds (Ray's servers and workers included) and the most memory of that process are told. The trials have
no files beside their records.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from harness.config.plan import Plan, load_plan
from harness.plain_yaml import to_yaml
from harness.records import rows as record_rows
from harness.sweep.command import main as sweep

TRIAL = {
    "dataset": "digits",
    "backbone": {"name": "dcnn3", "width": 4},
    "ssl_method": "none",
    "classifier": {"name": "linear", "epochs": 1},
}


def question(folder: Path, configurations: int, seeds: int, rounds: int) -> Path:
    """The file of a grid of so many trials."""
    rates = {"classifier.lr": {"values": [1e-3 + 1e-6 * number for number in range(configurations)]}}
    trial = TRIAL | {"labels": {"start": 20, "budget": 10, "rounds": rounds}}
    space = {"name": "large", "seeds": list(range(seeds)), "trial": trial, "parameters": rates, "portrait": False}
    file = folder / f"large_{configurations}_{seeds}.yaml"
    file.write_text(to_yaml(space), encoding="utf-8")
    return file


def options(folder: Path, results: str) -> list[str]:
    places = ["--results", f"{folder}/{results}", "--stages", f"{folder}/stages", "--cache", f"{folder}/data"]
    return [*places, "--quiet"]


def multiply(first: Path, sweep_folder: Path, plan: Plan) -> int:
    """Leaves the folder of a plan of which one trial has not begun, with the records of another one's only trial."""
    (history,) = record_rows.by_trial(record_rows.read_rows(first)[0]).values()
    told = list(history.values())
    sweep_folder.mkdir(parents=True)
    (sweep_folder / "space.yaml").write_text(plan.header + to_yaml(plan.as_dict()), encoding="utf-8")
    shutil.copy(first / "environment.json", sweep_folder)
    rng = np.random.default_rng(0)
    *tasks, _ = plan.first_tasks()
    with (sweep_folder / "rows.jsonl").open("wb") as file:
        for number, task in enumerate(tasks):
            name, own = task.trial_id, task.candidate.configuration
            about = {"trial": name, "configuration": own, "seed": task.seed}
            parameters = {"parameters": dict(task.candidate.parameters)}
            luck, history = 0.02 * float(rng.normal()), {}
            for record in told:
                metrics = {
                    metric: value + luck if metric.endswith("/accuracy") else value
                    for metric, value in record["metrics"].items()
                }
                record = record | about | parameters | {"metrics": metrics, "time": record["time"] + 7 * number}
                record.pop(record_rows.TRAIL, None)
                if record["status"] != "running":
                    record = record_rows.sealed(history, record)
                file.write(record_rows.line(record))
                record_rows.add(history, record)
    return len(tasks)


def measure(name: str, command: list[str], done: Path, *, until_more_than: int | None = None) -> None:
    """Runs a command until it ends, or until a file is larger than that, and prints what it took."""
    begun = time.perf_counter()
    output = Path(f"{done}.{name}.out")
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    watched, seconds, memory = psutil.Process(process.pid), 0.0, 0
    while process.poll() is None:
        try:
            family = [watched, *watched.children(recursive=True)]
            times = [one.cpu_times() for one in family]
            seconds = max(seconds, sum(one.user + one.system for one in times))
            memory = max(memory, _peak(process.pid))
        except psutil.NoSuchProcess:
            continue
        if until_more_than is not None and done.stat().st_size > until_more_than:
            break
        time.sleep(0.2)
    wall = time.perf_counter() - begun
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()
    else:
        assert process.returncode == 0, output.read_text(encoding="utf-8")
        assert until_more_than is None, output.read_text(encoding="utf-8")
    print(f"figure large_{name}_s {wall:.1f}")
    print(f"figure large_{name}_cpu_s {seconds:.1f}")
    print(f"figure large_{name}_mb {memory / 2**20:.0f}", flush=True)


def _peak(pid: int) -> int:
    """The most memory that a process has held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--configurations", type=int, default=22)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        one = question(folder, 1, 1, asked.rounds)
        assert sweep([str(one), *options(folder, "one")]) == 0
        size = (folder / "one/large/rows.jsonl").stat().st_size
        seeds = max(1, round(asked.megabytes * 1e6 / size / asked.configurations))
        file = question(folder, asked.configurations, seeds, asked.rounds)
        begun = time.process_time()
        plan = load_plan(file, {})
        print(f"figure large_planned_cpu_s {time.process_time() - begun:.1f}")
        target = folder / "runs/large"
        trials = multiply(folder / "one/large", target, plan)
        rows = target / "rows.jsonl"
        print(f"figure large_trials {trials}")
        print(f"figure large_rows_mb {rows.stat().st_size / 1e6:.0f}", flush=True)
        measure("report", [sys.executable, "-m", "harness.report", str(target)], rows)
        print(f"figure large_page_mb {(target / 'report.html').stat().st_size / 1e6:.1f}")
        command = [sys.executable, "-m", "harness.sweep", str(file), *options(folder, "runs"), "--resume"]
        measure("resume", command, rows, until_more_than=rows.stat().st_size)


if __name__ == "__main__":
    main()
