"""`python -m harness.trial FILE [--seed N] [--set PATH=VALUE]`: runs one trial without Ray and MLflow.

FILE is a search space, of which the `trial:` part is used, or that part alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.files import CACHE, STAGES
from harness.messages import printable
from harness.progress import forgive_output, until_reader_leaves


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.trial") -> int:
    """The command line, as `prog`; returns the exit status."""
    options = _parser(prog).parse_args(arguments)
    forgive_output()

    import json

    from harness.config.schema import parse_overrides
    from harness.trial import alone, optimizers
    from harness.trial.memory import keep_freed_memory

    keep_freed_memory()
    try:
        trial = alone.run_trial(
            options.file,
            seed=options.seed,
            set=parse_overrides(options.set),
            test=options.test,
            stages=options.stages,
            cache=options.cache,
            portrait=options.portrait,
            show=lambda record: print(json.dumps(vars(record)), flush=True),
        )
    except optimizers.DivergedError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has left
        raise
    except (ValueError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    if trial.warning:
        print(printable(trial.warning), file=sys.stderr)
    return 0


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Runs one trial, without Ray.")
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
    parser.add_argument("--stages", type=Path, default=STAGES)
    parser.add_argument("--cache", type=Path, default=CACHE)
    return parser


if __name__ == "__main__":
    sys.exit(main())
