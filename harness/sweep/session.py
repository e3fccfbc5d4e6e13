"""A plan is run and reported: what the command line and a notebook share. Ray is imported with this module."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import progress
from harness.config.plan import Plan
from harness.config.schema import ConfigError
from harness.config.trial import TrialConfig
from harness.data.splits import Data
from harness.encoders import export
from harness.files import replace_text
from harness.messages import cause_of, public_command, shell_word, traceback_of
from harness.records import environment
from harness.records.folder import Recorder, TakenError, open_folder
from harness.records.mirror import Mirror, is_remote
from harness.records.rows import Record
from harness.sweep import cluster
from harness.sweep.connection import connected, nodes_for
from harness.sweep.driver import Sweep
from harness.sweep.interrupts import AbandonedError, Done, Interrupts, NoTimeError
from harness.sweep.options import Options
from harness.sweep.origins import check_origins
from harness.sweep.placement import Placement, place, this_machine
from harness.sweep.preflight import check_data, say_notes
from harness.sweep.screen import Display, Standing
from harness.sweep.servers import Servers
from harness.sweep.watch import tell_begun
from harness.tracking.loggers import Loggers
from harness.tracking.tracker import Tracker
from harness.trial.memory import can_watch_memory
from harness.trial.origin import code_behind

if TYPE_CHECKING:
    from harness.report.model import Report

SETTLED = 20.0
"""Seconds after which the first trials train, and the driver has time to import what the report needs."""

TO_DELIVER = 2.0
"""Seconds that the last records have on their way to MLflow where there is no time left."""

LATER_MODULES = ("harness.report.write", "harness.report.terminal", "harness.tracking.links")
"""What is needed after the last trial."""


@dataclass
class Outcome:
    """What became of a plan.

    Attributes:
        folder: of the sweep.
        tracking_uri: of its records in MLflow.
        ran: whether there is something to tell of: what comes later raises nothing.
        complete: whether every trial has an ending; false where the sweep was interrupted.
        failed: trial -> cause.
        error: what ended the sweep before its last trial, but for an interrupt.
        traceback: the file that tells where that came from; None where there is none.
        report: None where there is no record, or where it could not be made.
        experiment: its id in MLflow; None where it is not known.
        copy: URI of the copy of the folder; None where there is none or it is behind.
        problems: what could not be done after the last trial, a line each.
    """

    folder: Path
    tracking_uri: str
    ran: bool = False
    complete: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)
    error: Exception | None = None
    traceback: Path | None = None
    report: Report | None = None
    experiment: str | None = None
    copy: str | None = None
    problems: list[str] = field(default_factory=list)


def run_plan(plan: Plan, options: Options, interrupts: Interrupts | None = None) -> Outcome:
    """Runs a plan until every trial has an ending or it is interrupted, and reports what there is.

    Shows its progress on stderr, unless `options.quiet`.

    Args:
        plan: what is run.
        options: where and how.
        interrupts: those of the caller, which hold already; None: those of a process that is not the sweep's.

    Raises:
        ConfigError: something does not fit; nothing was run. What happens after the first record raises nothing.
        ValueError, OSError: likewise.
        KeyboardInterrupt: before the first trial; in a process that is not the sweep's also at a second Ctrl-C.
    """
    with progress.hushed(options.quiet), _held(interrupts) as guard:
        outcome = Outcome(*options.places_of(plan.name))
        prepared = _check(plan, options)
        mirror = Mirror(options.results, outcome.folder) if is_remote(options.results) else None
        if mirror:
            mirror.fetch()
        try:
            with connected(plan, options.address) as servers:
                guard.install()
                guard.at_once = servers.kill
                nodes, beyond = nodes_for(plan, options.address, options.folders, prepared)
                export.check_export(plan, beyond.get("shared_stages", True))
                placement = place(plan.resources, nodes, plan.name)
                check = functools.partial(check_origins, outcome.folder, plan, options.cache)
                lock = open_folder(outcome.folder, plan, resume=options.resume, check=check)
                try:
                    about = environment.describe_environment(
                        outcome.folder, prepared, placement.concurrent, options.command
                    )
                    about |= {"code": code_behind(candidate.trial for candidate in plan.some_candidates())} | beyond
                    _run_in_folder(plan, options, placement, about, mirror, guard, servers, outcome)
                finally:
                    lock.release()
        except Exception as error:
            if not outcome.ran:
                raise
            outcome.problems.append(f"not all was done after the trials: {cause_of(error)}; --resume goes on")
    return outcome


def _held(interrupts: Interrupts | None) -> AbstractContextManager[Interrupts]:
    return contextlib.nullcontext(interrupts) if interrupts else Interrupts()


def _check(plan: Plan, options: Options) -> list[tuple[TrialConfig, Data]]:
    """What can be known before Ray is started; a trial of each data set and split, with its data."""
    if options.address:
        cluster.check_address(options.address)
    else:
        place(plan.resources, [this_machine()], plan.name)
    if plan.resources.memory_gb is not None and not can_watch_memory():
        raise ConfigError([f"{plan.name}: resources.memory_gb: this system does not tell what a process holds"])
    prepared = check_data(plan, options.cache)
    say_notes(prepared)
    return prepared


def _run_in_folder(
    plan: Plan,
    options: Options,
    placement: Placement,
    about: dict[str, Any],
    mirror: Mirror | None,
    interrupts: Interrupts,
    servers: Servers,
    outcome: Outcome,
) -> None:
    """Runs the plan's trials in the sweep's folder, which is ours, and reports them, also after an interrupt."""
    replace_text(outcome.folder / "environment.json", json.dumps(about, indent=1))
    first = plan.metric[0]
    standing = Standing(first.name, first.direction == "maximize")
    broken: Exception | None = None
    with (
        _recording(plan, about, options.loggers, mirror, interrupts, outcome) as recorder,
        _report_imported_meanwhile(),
    ):
        try:
            with Display(standing, options.quiet) as display:
                shared = about.get("shared_stages", True)
                sweep = Sweep(plan, options.folders, placement, recorder, display, interrupts, shared_stages=shared)
                outcome.complete = interrupts.attend(sweep.run, servers.dead)
        except KeyboardInterrupt:
            pass
        except AbandonedError as error:
            servers.abandoned = interrupts.own_process  # a notebook goes on, and waits for Ray as long as that takes
            outcome.error = error if str(error) else None
        except Exception as error:
            if isinstance(error, TakenError) or not recorder.wrote:
                raise
            outcome.error = broken = error
        outcome.ran = True
        follow = functools.partial(_follow, interrupts, outcome)
        follow("records may be missing", recorder.hold, "--resume looks for them")
        if broken:
            outcome.traceback = _keep_traceback(outcome.folder, broken)
        with progress.working("writing the report"):
            write = functools.partial(_write_report, outcome.folder, servers)
            outcome.report = follow("no report", write, f"try again with: {_report_command(outcome)}", spare=2.0)
        if report := outcome.report:
            kept = plan.log_model if outcome.complete else "none"
            save = functools.partial(export.export_encoders, report, kept, options.folders)
            outcome.problems += follow("encoders were not kept", save, "--resume tries again") or ()
        outcome.failed = follow("it is not known which trials failed", recorder.failed, "the report tells") or {}


@contextlib.contextmanager
def _recording(
    plan: Plan,
    about: dict[str, Any],
    listening: Iterable[str],
    mirror: Mirror | None,
    interrupts: Interrupts,
    outcome: Outcome,
) -> Iterator[Recorder]:
    """A recorder whose records MLflow, loggers and the copy get; these are ended in turn, even if one of them fails.

    Where another sweep has taken the folder, what lies there is not sent as this sweep's, and the block ends with that.
    """
    follow = functools.partial(_follow, interrupts, outcome)
    tracker = Tracker(outcome.tracking_uri, plan.name, outcome.folder, about)
    loggers = Loggers(listening, outcome.folder)
    with contextlib.ExitStack() as ending:  # from the last to the first
        tracker.start()
        words = [str(outcome.folder), "--tracking-uri", outcome.tracking_uri]
        later = f"later: {public_command('python -m harness.tracking sync', words)}"
        finish = functools.partial(_finish_tracking, tracker, interrupts, outcome)
        ending.callback(follow, "MLflow does not have all", finish, later, least=TO_DELIVER)
        loggers.start()
        tell = functools.partial(_finish_loggers, loggers, interrupts, outcome)
        ending.callback(follow, "loggers were not told the end", tell, spare=1.0)

        def deliver(record: Record) -> None:
            tell_begun()
            tracker.record(record)
            loggers.record(record)

        recorder = Recorder(outcome.folder, deliver)
        if mirror:
            mirror.start()
            copy = functools.partial(_finish_copying, mirror, outcome)
            rest = f"{outcome.folder} is, and --resume copies the rest"
            ending.callback(follow, f"{mirror.uri} is not complete", copy, rest, spare=1.0)
        ending.callback(follow, "the file of the records was not closed", recorder.close)
        try:
            yield recorder
        except TakenError as error:
            outcome.error, outcome.complete, outcome.ran = error, False, True


def _keep_traceback(folder: Path, error: Exception) -> Path | None:
    """Keeps where an error came from in the sweep's folder, for whoever mends that; None if it cannot be written."""
    try:
        replace_text(file := folder / "error.txt", traceback_of(error))
    except OSError:
        return None
    return file


@contextlib.contextmanager
def _report_imported_meanwhile() -> Iterator[None]:
    """Imports what is needed later while trials run: the first does not wait for it, and a change of the harness's code
    in the meantime does not reach it.
    """

    def import_all() -> None:
        with contextlib.suppress(Exception):  # which is said when it is needed
            for module in LATER_MODULES:
                importlib.import_module(module)

    timer = threading.Timer(SETTLED, import_all)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _follow(
    interrupts: Interrupts,
    outcome: Outcome,
    undone: str,
    work: Callable[[], Done],
    remedy: str = "",
    **seconds: float,
) -> Done | None:
    """Does a piece of what follows the trials: where it fails, or there is no time for it, the outcome has a problem.

    Args:
        interrupts: which say when it is to be done.
        outcome: of the sweep.
        undone: what is said then, before the cause.
        work: the piece.
        remedy: and after it.
        seconds: see `Interrupts.finish`.
    """
    try:
        return interrupts.finish(work, **seconds)
    except TakenError:
        raise
    except Exception as error:  # the records are whole, and the rest is not to be lost with it
        cause = str(error) if isinstance(error, NoTimeError) else cause_of(error)
        outcome.problems.append(f"{undone}: {cause}{'; ' if remedy else ''}{remedy}")
        return None


def _report_command(outcome: Outcome) -> str:
    return f"python -m harness.report {shell_word(str(outcome.folder))}"


def _write_report(folder: Path, servers: Servers) -> Report | None:
    """The report; None where the sweep was interrupted before its first record, or Ray ends this process soon."""
    if servers.dead() or not (folder / "rows.jsonl").stat().st_size:
        return None
    from harness.report.write import write_report

    return write_report(folder)


def _finish_tracking(tracker: Tracker, interrupts: Interrupts, outcome: Outcome) -> None:
    if isinstance(outcome.error, TakenError):
        tracker.stop()
        return
    patient = outcome.complete and not interrupts.pressed  # else somebody waits; resuming delivers the rest
    with progress.working("sending the records to MLflow"):
        ending = "finished" if outcome.complete else "interrupted"
        tracker.finish(ending, timeout=interrupts.left(60.0 if patient else 20.0, TO_DELIVER), patient=patient)
    outcome.experiment = tracker.experiment


def _finish_loggers(loggers: Loggers, interrupts: Interrupts, outcome: Outcome) -> None:
    answer = outcome.report.answer if outcome.complete and outcome.report else None
    loggers.finish(answer, interrupts.left(60.0 if outcome.complete and not interrupts.pressed else 5.0))


def _finish_copying(mirror: Mirror, outcome: Outcome) -> None:
    if isinstance(outcome.error, TakenError):
        mirror.stop()
        return
    problem = mirror.close()
    if problem:
        outcome.problems.append(problem)
    else:
        outcome.copy = mirror.uri
