"""`python -m harness.tracking sync FOLDER`: delivers what a server that was away has missed; `links FOLDER` says where
MLflow's UI shows the sweeps of a results folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.progress import forgive_output, until_reader_leaves


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.tracking") -> int:
    """The command line, as `prog`; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description="Delivers records to MLflow, or says where they are shown.")
    parser.add_argument("command", choices=["sync", "links"])
    parser.add_argument("folder", type=Path, help="a sweep's, such as results/runs/augment; of links, results/runs")
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else mlflow.db beside the folder")
    parser.add_argument("--experiment", help="default: the sweep's name")
    options = parser.parse_args(arguments)
    forgive_output()

    from harness import messages
    from harness.tracking.links import links_of_all
    from harness.tracking.refusals import told
    from harness.tracking.server import print_line, tracking_uri
    from harness.tracking.tracker import sync

    try:
        if options.command == "links":
            if not options.folder.is_dir():
                raise ValueError(f"{options.folder}: no such folder")
            uri = tracking_uri(options.tracking_uri, options.folder)
            print(messages.printable("\n".join(links_of_all(uri)) or f"no sweep in {messages.without_secrets(uri)}"))
            return 0
        uri = tracking_uri(options.tracking_uri, options.folder.resolve().parent)
        experiment = sync(options.folder, uri, options.experiment)
    except ValueError as error:
        print_line(messages.message_of(error))
        return 2
    except Exception as error:
        print_line(told(error))
        return 1
    print(messages.printable(f"delivered {options.folder} to {messages.without_secrets(uri)}, experiment {experiment}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
