"""The command line of a sweep: from a file and its options to an exit status."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import CACHE, RESULTS, STAGES, no_space
from harness.messages import public
from harness.progress import forgive_output

if TYPE_CHECKING:
    from harness.config.plan import Plan
    from harness.sweep.session import Outcome

FINISHED, SOME_FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses."""


def main(
    arguments: list[str] | None = None, prog: str = "python -m harness.sweep", question: Path | None = None
) -> int:
    """The command line, as `prog`; returns the exit status.

    Args:
        arguments: those of this process if left out.
        prog: what was typed before them.
        question: the search space, where the arguments name none.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(prog, question).parse_args(arguments)
    forgive_output()
    typed = f"{prog} {shlex.join(arguments)}"
    resume = public(typed) if options.dry_run else resume_command(prog, arguments)

    from harness.config.plan import load_plan
    from harness.config.schema import parse_overrides
    from harness.sweep.interrupts import NoSpaceError
    from harness.sweep.preflight import preview

    try:
        plan = load_plan(options.file, parse_overrides(options.set))
        if options.show:
            from harness.sweep.show import show_views

            for line in show_views(plan, options.cache, options.show):
                print(line)
            if not options.dry_run:
                return FINISHED
        if options.dry_run:
            print(preview(plan), flush=True)
            if not options.quiet:
                from harness.sweep.costs import expected_costs

                print(expected_costs(plan, options.cache))
            return FINISHED
        return _run(plan, options, typed, resume)
    except (ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        print(error, file=sys.stderr)
        return WRONG
    except OSError as error:
        if not no_space(error):
            raise
        print(error if isinstance(error, NoSpaceError) else NoSpaceError(error), file=sys.stderr)
        print(f"make room and go on with: {resume}", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"interrupted; go on with: {resume}", file=sys.stderr)
        return INTERRUPTED


def resume_command(prog: str, arguments: list[str]) -> str:
    """The command that was given, with --resume and without the password of a URI."""
    given = [argument for argument in arguments if argument != "--resume"]
    return public(f"{prog} {shlex.join([*given, '--resume'])}")


def _run(plan: Plan, options: argparse.Namespace, typed: str, resume: str) -> int:
    from harness.sweep.interrupts import Interrupts
    from harness.sweep.session import Options, run_plan  # and with it Ray

    asked = Options(
        results=options.results,
        stages=options.stages,
        cache=options.cache,
        resume=options.resume,
        quiet=options.quiet,
        address=options.address,
        tracking_uri=options.tracking_uri,
        command=typed,
    )
    outcome = run_plan(plan, asked, Interrupts(resume))
    from harness.report import terminal

    answered = outcome.report if outcome.complete else None
    if answered and not options.quiet:
        terminal.print_tables(answered)
    status = farewell(outcome, resume)
    if answered:
        terminal.print_answer(answered)
    return status


def farewell(outcome: Outcome, resume: str) -> int:
    """Says where the results are, what failed and how to go on; the exit status."""
    from harness.tracking.links import links

    if outcome.complete:
        uri = public(outcome.tracking_uri)
        served = uri.startswith(("http://", "https://"))
        print(f"\nreport:    python -m harness.report {shlex.quote(str(outcome.folder))}")
        print(f"MLflow UI: {uri if served else f'mlflow ui --backend-store-uri {shlex.quote(uri)}'}")
        shown = links(uri, outcome.experiment) if outcome.experiment else {}
        for what, address in shown.items():
            print(f"  {what + ':':8} {address}")
    else:
        print(f"interrupted; go on with: {resume}", file=sys.stderr)
    if outcome.copy:
        print(f"copy:      {outcome.copy}")
    causes = [f"failed: {trial}: {cause}" for trial, cause in outcome.failed.items()] if outcome.complete else []
    for line in (*causes, *outcome.problems):
        print(line, file=sys.stderr)
    if not outcome.complete:
        return INTERRUPTED
    return SOME_FAILED if causes or outcome.problems else FINISHED


def _parser(prog: str, question: Path | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Runs a search space.")
    parser.set_defaults(file=question)
    if question is None:
        parser.add_argument("file", type=Path, help="a search space, as YAML")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a leaf")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show the trials, the stages they share, their data, which are decoded for that, and what they will cost",
    )
    parser.add_argument(
        "--show",
        type=Path,
        metavar="FILE",
        help="write pictures of what the augmentations do to the images, as .png or .svg, and run nothing",
    )
    parser.add_argument("--resume", action="store_true", help="continue a sweep, interrupted or with a larger question")
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print nothing but errors, the farewell and the answer; of a dry run, the trials alone, without a look at "
        "their data",
    )
    parser.add_argument("--results", default=str(RESULTS), metavar="DIR", help="or s3://BUCKET/PREFIX, gs://...")
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster to run on: auto, or HOST:PORT")
    parser.add_argument("--stages", type=Path, default=STAGES, metavar="DIR")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="decoded data")
    parser.add_argument("--tracking-uri", metavar="URI", help="of MLflow; default: a SQLite file in the results")
    return parser
