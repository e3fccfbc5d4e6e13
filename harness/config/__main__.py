"""`python -m harness.config`: writes the JSON schema of search spaces, with which editors complete and check them."""

from __future__ import annotations

import argparse
import sys

from harness.progress import until_reader_leaves


@until_reader_leaves
def main(arguments: list[str] | None = None, prog: str = "python -m harness.config") -> int:
    """The command line, as `prog`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Writes the JSON schema of search spaces to stdout. A file that opens with "
        "`# yaml-language-server: $schema=schema.json` is completed and checked by editors that speak it.",
    )
    parser.parse_args(arguments)

    import json

    from harness.config.json_schema import schema

    print(json.dumps(schema(), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
