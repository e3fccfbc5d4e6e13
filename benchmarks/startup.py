"""How long a person waits before a command says anything, against `import torch`, which most of them need.

    python -m benchmarks.startup [--runs 5] [NAME ...]

Whole processes, from `python` to its exit, one after another in every run: `import torch`, the help of each command,
the list of plugins, the dry run of a search space, or those that are named. A ratio is the command's time over that of
`import torch` in the same run; of several runs the median. The first run warms the disk's cache and does not count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
TORCH = ["-c", "import torch"]
COMMANDS = {
    **{
        f"help_{name}": ["-m", f"harness.{name}", "--help"]
        for name in ("sweep", "trial", "report", "plugins", "embed", "tracking")
    },
    "plugins": ["-m", "harness.plugins"],
    "dry_run": ["-m", "harness.sweep", "search_spaces/augment.yaml", "--dry-run", "--quiet"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("names", nargs="*", default=list(COMMANDS), choices=COMMANDS, metavar="NAME")
    asked = parser.parse_args()
    commands = {name: COMMANDS[name] for name in asked.names}
    for command in (TORCH, *commands.values()):
        _seconds(command)
    torch: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(asked.runs):
        torch.append(_seconds(TORCH))
        for name, command in commands.items():
            ratios[name].append(_seconds(command) / torch[-1])
    print(f"figure startup_torch_seconds {median(torch):.2f}")
    for name, found in ratios.items():
        print(f"figure startup_{name}_ratio {median(found):.3f}")


def _seconds(command: list[str]) -> float:
    """How long a Python process takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
