"""What a sweep costs beside its trials: 20 trials that do nothing.

    python -m benchmarks.sweep_overhead [--trials 20]

A trial's stages all come from the cache, so that what remains is the harness: Ray, records, MLflow, the report.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    trials = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _sweep(folder, "warm_up", 1)
        total, first, last = _sweep(folder, "measured", trials)
    print(f"figure sweep_seconds_to_first_trial {first:.2f}")
    print(f"figure sweep_seconds_per_trial {(last - first) / (trials - 1):.3f}")
    print(f"figure sweep_seconds_after_last_trial {total - last:.2f}")
    print(f"figure sweep_seconds_in_all {total:.2f}")


def _sweep(folder: Path, name: str, trials: int) -> tuple[float, float, float]:
    """Seconds from the start of the process: in all, to the first trial's end, to the last one's."""
    file = folder / f"{name}.yaml"
    file.write_text(SPACE.format(name=name, seeds=list(range(trials))))
    started, clock = time.time(), time.perf_counter()
    options = ["--results", f"{folder}/runs", "--stages", f"{folder}/stages", "--cache", f"{folder}/data", "--quiet"]
    subprocess.run([sys.executable, "-m", "harness.sweep", str(file), *options], check=True, capture_output=True)
    total = time.perf_counter() - clock
    rows = [json.loads(line) for line in (folder / "runs" / name / "rows.jsonl").read_text().splitlines()]
    ends = [row["time"] / 1000 - started for row in rows if row["status"] == "finished"]
    assert len(ends) == trials
    return total, min(ends), max(ends)


if __name__ == "__main__":
    main()
