"""The command line of a sweep: from a file and its options to an exit status."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import CACHE, RESULTS, STAGES, give_home, no_space
from harness.garbage import nothing_collected
from harness.messages import cause_of, printable, public, public_command, shell_word, without_secrets
from harness.progress import drop_output, forgive_output, hushed, say, until_reader_leaves
from harness.sweep.interrupts import AFTERWARDS, AbandonedError, Interrupts, NoSpaceError
from harness.sweep.watch import INTERRUPTED, leave, tell_status, watch

if TYPE_CHECKING:
    from harness.config.plan import Plan
    from harness.sweep.options import Options
    from harness.sweep.session import Outcome

FINISHED, SOME_FAILED, WRONG = 0, 1, 2
"""Exit statuses, beside `INTERRUPTED`."""


def main(
    arguments: list[str] | None = None,
    prog: str = "python -m harness.sweep",
    question: Path | None = None,
    *,
    watched: bool = False,
) -> int:
    """The command line, as `prog`; returns the exit status.

    Args:
        arguments: those of this process if left out.
        prog: what was typed before them.
        question: the search space, where the arguments name none.
        watched: whether this process is the sweep's alone: it runs in a child of it, which then tells what ends that
            one without a word, and whatever is left at its end, or at Ctrl-C, ends with it.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(prog, question).parse_args(arguments)
    forgive_output()
    runs = not (options.show or options.dry_run)
    typed = public_command(prog, arguments)
    resume = resume_command(prog, arguments) if runs else typed
    if watched and runs and (ended := watch(resume)) is not None:
        return ended
    with Interrupts(resume if watched else None, begun=not watched) as guard:
        try:
            status = _run(options, typed, resume, guard) if runs else _look_ahead(options, guard)
            if guard.pressed and not runs:  # and a library has made away with the exception
                raise KeyboardInterrupt
        except (Exception, KeyboardInterrupt) as error:  # before the first record: what comes later is in the outcome
            status = _nothing_ran(error, resume, interrupted=guard.pressed)
        tell_status(status)
    return status


def _nothing_ran(error: BaseException, resume: str, *, interrupted: bool) -> int:
    """Says why, and how to go on; returns the exit status.

    Args:
        error: what was raised.
        resume: the command that was given, to be given again.
        interrupted: whether that is what an interrupt became in the libraries that it hit.
    """
    if interrupted or isinstance(error, KeyboardInterrupt):
        said, status = f"interrupted; go on with: {resume}", INTERRUPTED
    elif no_space(error):
        said, status = _last_words(error, None, resume), INTERRUPTED
    else:
        lines = public(str(error)) if isinstance(error, ValueError | OSError) else cause_of(error, 400)
        said, status = lines, WRONG
    print(printable(said), file=sys.stderr)
    return status


def _plan_of(options: argparse.Namespace) -> Plan:
    with nothing_collected():
        from harness.config.plan import load_plan
        from harness.config.schema import parse_overrides

    return load_plan(options.file, parse_overrides(options.set))


def resume_command(prog: str, arguments: list[str]) -> str:
    """The command that was given, with --resume and without the password of a URI."""
    given = [argument for argument in arguments if argument != "--resume"]
    options = given.index("--") if "--" in given else len(given)
    return public_command(prog, [*given[:options], "--resume", *given[options:]])


@until_reader_leaves
def _look_ahead(options: argparse.Namespace, guard: Interrupts) -> int:
    """What `--show` and `--dry-run` ask for."""
    plan = _plan_of(options)

    from harness.records.mirror import is_remote
    from harness.sweep.origins import look_at_folder
    from harness.sweep.preflight import preview

    guard.begun = True
    asked = _asked(options, command="")
    folder, _ = asked.places_of(plan.name)
    if options.dry_run:
        with hushed(options.quiet):
            if not is_remote(asked.results):
                look_at_folder(folder, plan, asked)
            elif options.resume:
                say(f"{public(asked.results)}: whether a sweep there goes on is not looked at before it runs")
    if options.show:
        from harness.sweep.show import show_views

        for line in show_views(plan, options.cache, options.show):
            print(printable(line))
    if options.dry_run:
        print(printable(preview(plan)), flush=True)
        if not options.quiet:
            from harness.sweep.costs import expected_costs

            print(printable(expected_costs(plan, options.cache)))
    return FINISHED


def _run(options: argparse.Namespace, typed: str, resume: str, guard: Interrupts) -> int:
    plan = _plan_of(options)
    with nothing_collected():
        give_home()
        import ray

        from harness.sweep.session import run_plan

    guard.begun = True
    outcome = run_plan(plan, _asked(options, typed), guard)
    guard.status = status_of(outcome)
    try:
        all_told = _tell(outcome, resume, quiet=options.quiet)
        sys.stdout.flush()
    except OSError:  # nobody reads it any more: `| head`, a terminal that is closed
        all_told = True
        drop_output()
    guard.status = guard.status if all_told else max(guard.status, SOME_FAILED)
    left = ray.is_initialized() or any(thread.name == AFTERWARDS for thread in threading.enumerate())
    if left and guard.own_process:
        leave(guard.status)  # what could not be ended in time would keep this process, or break it as it goes
    return guard.status


def _tell(outcome: Outcome, resume: str, *, quiet: bool) -> bool:
    """Tells what was found, where it is and how to go on, each also where another cannot be told; whether all could."""
    answered = outcome.report if outcome.complete else None

    def show_tables() -> None:
        if answered and not quiet:
            from harness.report import terminal

            terminal.print_tables(answered)

    def show_answer() -> None:
        if answered:
            from harness.report import terminal

            terminal.print_answer(answered)

    all_told = True
    for tell in (show_tables, lambda: farewell(outcome, resume), show_answer):
        try:
            tell()
        except OSError:
            raise
        except Exception as error:
            all_told = False
            said = f"not all could be shown: {cause_of(error, 400)}; what was found is in {outcome.folder}"
            print(printable(f"{said}; go on with: {resume}"), file=sys.stderr)
    return all_told


def _asked(options: argparse.Namespace, command: str) -> Options:
    from harness.sweep.options import Options

    return Options(
        results=options.results,
        stages=options.stages,
        cache=options.cache,
        resume=options.resume,
        quiet=options.quiet,
        address=options.address,
        tracking_uri=options.tracking_uri,
        command=command,
        loggers=tuple(options.logger),
    )


def status_of(outcome: Outcome) -> int:
    """The exit status of a sweep that has begun."""
    if not outcome.complete:
        return INTERRUPTED
    return SOME_FAILED if outcome.failed or outcome.problems else FINISHED


def farewell(outcome: Outcome, resume: str) -> None:
    """Says where the results are, what failed and how to go on."""
    from harness.tracking.links import links
    from harness.tracking.server import database_of

    if outcome.complete:
        file = database_of(outcome.tracking_uri)  # which has no password, and may have any name
        uri = outcome.tracking_uri if file and file.exists() else without_secrets(outcome.tracking_uri)
        served = uri.startswith(("http://", "https://"))
        print(f"\nreport:    python -m harness.report {shell_word(str(outcome.folder))}")
        print(f"MLflow UI: {uri if served else f'mlflow ui --backend-store-uri {shell_word(uri)}'}")
        shown = links(uri, outcome.experiment) if outcome.experiment else {}
        for what, address in shown.items():
            print(f"  {what + ':':8} {address}")
    elif isinstance(outcome.error, AbandonedError):
        pass  # as was said when it happened
    elif outcome.error:
        print(_last_words(outcome.error, outcome.traceback, resume), file=sys.stderr)
    else:
        print(f"interrupted; go on with: {resume}", file=sys.stderr)
    if outcome.copy:
        print(printable(f"copy:      {outcome.copy}"))
    causes = [f"failed: {trial}: {cause}" for trial, cause in outcome.failed.items()] if outcome.complete else []
    for line in (*causes, *outcome.problems):
        print(printable(line), file=sys.stderr)


def _last_words(error: BaseException, traceback: Path | None, resume: str) -> str:
    """What ended a sweep early and how it goes on."""
    if isinstance(error, NoSpaceError) or no_space(error):
        full = error if isinstance(error, NoSpaceError) else NoSpaceError(error)
        return f"{full}\nmake room and go on with: {resume}"
    from harness.records.folder import TakenError

    if isinstance(error, TakenError):
        return f"stopped: {error}; to go on there, once it has ended: {resume}"
    see = f" (see {shell_word(str(traceback))})" if traceback else ""
    return f"stopped: {cause_of(error, 400)}{see}; nothing that finished is lost; go on with: {resume}"


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
    parser.add_argument(
        "--logger", action="append", default=[], metavar="NAME", help="what listens beside MLflow; or MODULE:CLASS"
    )
    return parser
