"""The command line of a sweep: from a file and its options to an exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from harness import messages, progress
from harness.config.plan import Plan, goal_of, load
from harness.config.schema import ConfigError
from harness.encoders import export
from harness.files import no_space, replace_text
from harness.records import environment
from harness.records.folder import Recorder, open_folder
from harness.records.mirror import Mirror, is_remote, local_folder
from harness.report import model, terminal
from harness.report import write as report
from harness.sweep import cluster
from harness.sweep.driver import Sweep, folders_of, nodes_of, ray_session, this_machine_before_ray
from harness.sweep.interrupts import FINISHED, INTERRUPTED, SOME_FAILED, WRONG, Interrupts, NoSpaceError
from harness.sweep.placement import Placement, place
from harness.sweep.preflight import check_data, preview
from harness.sweep.screen import Display, Progress
from harness.tracking.server import tracking_uri
from harness.tracking.tracker import Tracker
from harness.trial.memory_limit import can_watch_memory


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    with progress.hushed(options.quiet), Interrupts(_resume_command(arguments)) as interrupts:
        try:
            plan = load(options.file, options.set)
            if options.dry_run:
                print(preview(plan))
                return FINISHED
            return _run(plan, options, interrupts)
        except (ConfigError, ValueError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
            print(error, file=sys.stderr)
            return WRONG
        except OSError as error:
            if not no_space(error):
                raise
            print(error if isinstance(error, NoSpaceError) else NoSpaceError(error), file=sys.stderr)
            print(f"make room and go on with: {interrupts.resume}", file=sys.stderr)
            return INTERRUPTED
        except KeyboardInterrupt:
            print(f"interrupted; go on with: {interrupts.resume}", file=sys.stderr)
            return INTERRUPTED


def _resume_command(arguments: list[str] | None) -> str:
    """The command that was given, with --resume and without the password of a URI."""
    given = [argument for argument in (sys.argv[1:] if arguments is None else arguments) if argument != "--resume"]
    return messages.public(shlex.join(["python", "-m", "harness.sweep", *given, "--resume"]))


def _run(plan: Plan, options: argparse.Namespace, interrupts: Interrupts) -> int:
    results = local_folder(options.results)
    path = results / plan.name
    uri = tracking_uri(options.tracking_uri, results)
    if options.address:
        cluster.check_address(options.address)
    else:
        place(plan.resources, this_machine_before_ray(), plan.name)
    if plan.resources.memory_gb is not None and not can_watch_memory():
        raise ConfigError([f"{plan.name}: resources.memory_gb: this system does not tell what a process holds"])
    prepared = check_data(plan, options.cache)
    mirror = Mirror(options.results, path) if is_remote(options.results) else None
    if mirror:
        mirror.fetch()
    with ray_session(plan, options.address):
        interrupts.install()
        nodes, beyond = nodes_of(plan, options, prepared)
        export.check(plan, beyond.get("shared_stages", True))
        placement = place(plan.resources, nodes, plan.name)
        lock = open_folder(path, plan, resume=options.resume)
        try:
            about = environment.describe(path, prepared, concurrent=placement.concurrent) | beyond
            return _run_in_folder(path, uri, plan, about, placement, mirror, options, interrupts)
        finally:
            lock.release()


def _run_in_folder(
    path: Path,
    uri: str,
    plan: Plan,
    about: dict[str, Any],
    placement: Placement,
    mirror: Mirror | None,
    options: argparse.Namespace,
    interrupts: Interrupts,
) -> int:
    shown = Progress(plan.metric[0].name, goal_of(plan.metric[0]) == "maximize")
    complete, found = False, None
    problems: list[str] = []
    uncopied: list[str | None] = []
    replace_text(path / "environment.json", json.dumps(about, indent=1))
    tracker = Tracker(uri, plan.name, path, about)
    tracker.start()
    recorder = Recorder(path, tracker.record)
    if mirror:
        mirror.start()
    try:
        with Display(shown, options.quiet) as display:
            complete = Sweep(plan, folders_of(options), placement, recorder, display, interrupts).run()
    except KeyboardInterrupt:
        complete = False
    finally:
        with contextlib.ExitStack() as ending:  # from the last to the first, even if one of them fails
            ending.callback(_finish_tracking, tracker, complete, path)
            if mirror:
                ending.callback(lambda: uncopied.append(mirror.close()))
            ending.callback(recorder.close)
            with progress.working("writing the report"):
                found = _write_report(path, problems)
            if found:
                problems = export.write(found, plan.log_model if complete else "none", folders_of(options))
    if complete and found and not options.quiet:
        terminal.show(found)
    status = _farewell(path, uri, recorder, complete, interrupts)
    if mirror and not any(uncopied):
        print(f"copy:      {mirror.uri}")
    problems += [problem for problem in uncopied if problem]
    for problem in problems:
        print(problem, file=sys.stderr)
    return SOME_FAILED if problems and status == FINISHED else status


def _write_report(path: Path, problems: list[str]) -> model.Report | None:
    """The report; None where the sweep was interrupted before its first record, or where it cannot be made."""
    if not (path / "rows.jsonl").stat().st_size:
        return None
    try:
        return report.write_report(path)
    except Exception as error:  # the records are whole, and what follows the report is not to be lost with it
        if no_space(error):
            raise
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        problems.append(f"no report: {cause}; try again with: python -m harness.report {path}")
        return None


def _finish_tracking(tracker: Tracker, complete: bool, path: Path) -> None:
    with progress.working("sending the records to MLflow"):
        if complete:
            tracker.finish("finished", timeout=60.0, patient=True)
        else:
            tracker.finish("interrupted", timeout=20.0)  # a person waits, and the rest is delivered on resuming


def _farewell(path: Path, uri: str, recorder: Recorder, complete: bool, interrupts: Interrupts) -> int:
    if not complete:
        print(f"interrupted; go on with: {interrupts.resume}", file=sys.stderr)
        return INTERRUPTED
    shown = messages.public(uri)
    served = uri.startswith(("http://", "https://"))
    print(f"\nreport:    python -m harness.report {path}")
    print(f"MLflow UI: {shown if served else f'mlflow ui --backend-store-uri {shown}'}")
    failed = recorder.failed()
    for name, cause in failed.items():
        print(f"failed: {name}: {cause}", file=sys.stderr)
    return SOME_FAILED if failed else FINISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.sweep", description="Runs a search space.")
    parser.add_argument("file", type=Path, help="a search space, as YAML")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a leaf")
    parser.add_argument("--dry-run", action="store_true", help="show the trials and how many stages they share")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted sweep")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors and the farewell")
    parser.add_argument("--results", default="results/runs", metavar="DIR", help="or s3://BUCKET/PREFIX, gs://...")
    parser.add_argument("--address", metavar="ADDRESS", help="of a Ray cluster to run on: auto, or HOST:PORT")
    parser.add_argument("--stages", type=Path, default=Path("results/runs/stages"), metavar="DIR")
    parser.add_argument("--cache", type=Path, default=Path("results/runs/data"), metavar="DIR", help="decoded data")
    parser.add_argument("--tracking-uri", metavar="URI", help="of MLflow; default: a SQLite file in the results")
    return parser
