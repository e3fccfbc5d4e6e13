"""A plan is run and reported: what the command line and a notebook share. Ray is imported with this module."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
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
from harness.messages import cause_of, shell_word, traceback_of
from harness.records import environment
from harness.records.folder import Recorder, TakenError, open_folder
from harness.records.mirror import Mirror, is_remote
from harness.records.rows import Record
from harness.sweep import cluster
from harness.sweep.connection import connected, nodes_for
from harness.sweep.driver import Sweep
from harness.sweep.interrupts import AbandonedError, Interrupts
from harness.sweep.options import Options
from harness.sweep.origins import check_origins
from harness.sweep.placement import Placement, place, this_machine
from harness.sweep.preflight import check_data, say_notes
from harness.sweep.screen import Display, Standing
from harness.sweep.servers import Servers
from harness.tracking.loggers import Loggers
from harness.tracking.tracker import Tracker
from harness.trial.memory import can_watch_memory
from harness.trial.origin import code_behind

if TYPE_CHECKING:
    from harness.report.model import Report

REPORTING = "report"
"""The thread that writes a report for which there may be no time."""

SETTLED = 20.0
"""Seconds after which the first trials train, and the driver has time to import what the report needs."""


@dataclass
class Outcome:
    """What became of a plan.

    Attributes:
        folder: of the sweep.
        tracking_uri: of its records in MLflow.
        complete: whether every trial has an ending; false where the sweep was interrupted.
        failed: trial -> cause.
        error: what ended the sweep before its last trial, but for an interrupt.
        report: None where there is no record, or where it could not be made.
        experiment: its id in MLflow; None where it is not known.
        copy: URI of the copy of the folder; None where there is none or it is behind.
        problems: what could not be done after the last trial, a line each.
    """

    folder: Path
    tracking_uri: str
    complete: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)
    error: Exception | None = None
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
        KeyboardInterrupt: before the first trial, or after the last one.
    """
    with progress.hushed(options.quiet), _held(interrupts) as guard:
        outcome = Outcome(*options.places_of(plan.name))
        prepared = _check(plan, options)
        mirror = Mirror(options.results, outcome.folder) if is_remote(options.results) else None
        if mirror:
            mirror.fetch()
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
        except TakenError as error:  # the records, the report and its error.txt are another's
            outcome.error = error
            return
        except Exception as error:
            if not recorder.wrote:
                raise
            outcome.error = error
            _keep_traceback(outcome.folder, error)
        try:
            recorder.hold()
        except OSError as error:
            outcome.problems.append(f"records were lost from {outcome.folder}: {cause_of(error)}")
        with progress.working("writing the report"):
            outcome.report = None if servers.dead() else _report_by(interrupts.deadline, outcome)
        if outcome.report:
            kept = plan.log_model if outcome.complete else "none"
            outcome.problems += export.export_encoders(outcome.report, kept, options.folders)
        outcome.failed = recorder.failed()


@contextlib.contextmanager
def _recording(
    plan: Plan,
    about: dict[str, Any],
    listening: Iterable[str],
    mirror: Mirror | None,
    interrupts: Interrupts,
    outcome: Outcome,
) -> Iterator[Recorder]:
    """A recorder whose records MLflow, loggers and the copy get; these are ended in turn, even if one of them fails."""
    tracker = Tracker(outcome.tracking_uri, plan.name, outcome.folder, about)
    loggers = Loggers(listening, outcome.folder)
    with contextlib.ExitStack() as ending:  # from the last to the first
        tracker.start()
        ending.callback(_finish_tracking, tracker, interrupts, outcome)
        loggers.start()
        ending.callback(_finish_loggers, loggers, interrupts, outcome)

        def deliver(record: Record) -> None:
            tracker.record(record)
            loggers.record(record)

        recorder = Recorder(outcome.folder, deliver)
        if mirror:
            mirror.start()
            ending.callback(_finish_copying, mirror, outcome)
        ending.callback(recorder.close)
        yield recorder


def _keep_traceback(folder: Path, error: Exception) -> None:
    """Keeps where an error came from in the sweep's folder, if it can be written, for whoever mends that."""
    with contextlib.suppress(OSError):
        replace_text(folder / "error.txt", traceback_of(error))


@contextlib.contextmanager
def _report_imported_meanwhile() -> Iterator[None]:
    """Imports what the report needs while trials run: the first does not wait for it, and the report finds it there."""
    timer = threading.Timer(SETTLED, importlib.import_module, ["harness.report.write"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _report_by(deadline: float, outcome: Outcome) -> Report | None:
    """The report; None where it is not there by then, in monotonic time, or cannot be made."""
    if deadline == math.inf:
        return _write_report(outcome)
    report: Future[Report | None] = Future()
    threading.Thread(target=lambda: report.set_result(_write_report(outcome)), name=REPORTING, daemon=True).start()
    try:
        return report.result(max(1.0, deadline - time.monotonic()))
    except TimeoutError:
        outcome.problems.append(f"no time for the report, which this writes: {_report_command(outcome)}")
        return None


def _report_command(outcome: Outcome) -> str:
    return f"python -m harness.report {shell_word(str(outcome.folder))}"


def _write_report(outcome: Outcome) -> Report | None:
    """The report; None where the sweep was interrupted before its first record, or where it cannot be made."""
    try:
        if not (outcome.folder / "rows.jsonl").stat().st_size:
            return None
        from harness.report.write import write_report

        return write_report(outcome.folder)
    except Exception as error:  # the records are whole, and what follows the report is not to be lost with it
        cause = cause_of(error)
        outcome.problems.append(f"no report: {cause}; try again with: {_report_command(outcome)}")
        return None


def _finish_tracking(tracker: Tracker, interrupts: Interrupts, outcome: Outcome) -> None:
    with progress.working("sending the records to MLflow"):
        if outcome.complete:
            tracker.finish("finished", timeout=60.0, patient=True)
        else:
            left = max(2.0, interrupts.deadline - time.monotonic())
            tracker.finish("interrupted", timeout=min(20.0, left))  # somebody waits; resuming delivers the rest
    outcome.experiment = tracker.experiment


def _finish_loggers(loggers: Loggers, interrupts: Interrupts, outcome: Outcome) -> None:
    answer = outcome.report.answer if outcome.complete and outcome.report else None
    loggers.finish(answer, 60.0 if outcome.complete else min(5.0, max(1.0, interrupts.deadline - time.monotonic())))


def _finish_copying(mirror: Mirror, outcome: Outcome) -> None:
    problem = mirror.close()
    if problem:
        outcome.problems.append(problem)
    else:
        outcome.copy = mirror.uri
