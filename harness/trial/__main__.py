"""`python -m harness.trial FILE [--seed N] [--set PATH=VALUE]`: runs one trial without Ray and MLflow.

FILE is a search space, of which the `trial:` part is used, or that part alone.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.config.parsing import read_trial
from harness.config.schema import ConfigError
from harness.trial import optimizers
from harness.trial.memory import keep_freed_memory
from harness.trial.run import Folders, run


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m harness.trial", description="Runs one trial, without Ray.")
    parser.add_argument("file", type=Path, help="a search space, or a trial alone, as YAML")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="read the test set")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="override a leaf, such as trial.pretrain.epochs=5",
    )
    parser.add_argument("--portrait", type=Path, metavar="FILE", help="also write a portrait of the encoder (.npz)")
    parser.add_argument("--stages", type=Path, default=Path("results/runs/stages"))
    parser.add_argument("--cache", type=Path, default=Path("results/runs/data"))
    options = parser.parse_args(arguments)

    def show(step_kind: str, step: int, found: Mapping[str, float], details: Mapping[str, Any]) -> None:
        print(json.dumps({"step_kind": step_kind, "step": step, "metrics": dict(found)}), flush=True)

    def keep(found: Mapping[str, Any]) -> None:
        if "warning" in found:
            print(found["warning"], file=sys.stderr)
        else:
            options.portrait.write_bytes(base64.b64decode(found["portrait"]))

    keep_freed_memory()
    try:
        config = read_trial(options.file, options.set)
        folders, deliver = Folders(options.cache, options.stages), keep if options.portrait else None
        totals = run(config, options.seed, folders, show, with_test=options.test, deliver=deliver)
    except (ConfigError, ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    except optimizers.DivergedError as error:
        print(error, file=sys.stderr)
        return 1
    show("labels", int(totals["labels/used"]), totals, {})
    return 0


if __name__ == "__main__":
    sys.exit(main())
