"""`python -m harness.tracking sync FOLDER`: delivers what a server that was away has missed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.progress import forgive_output


def main(arguments: list[str] | None = None, prog: str = "python -m harness.tracking") -> int:
    """The command line, as `prog`; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Delivers records to MLflow.")
    parser.add_argument("command", choices=["sync"])
    parser.add_argument("folder", type=Path, help="a sweep's folder, such as results/runs/augment")
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else mlflow.db beside the folder")
    parser.add_argument("--experiment", help="default: the sweep's name")
    options = parser.parse_args(arguments)
    forgive_output()

    from harness import messages
    from harness.tracking.server import print_line, tracking_uri
    from harness.tracking.tracker import sync

    try:
        uri = tracking_uri(options.tracking_uri, options.folder.resolve().parent)
        experiment = sync(options.folder, uri, options.experiment)
    except ValueError as error:
        print_line(str(error))
        return 2
    except Exception as error:
        print_line(messages.public(messages.cause_of(error)))
        return 1
    print(f"delivered {options.folder} to {messages.public(uri)}, experiment {experiment}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
