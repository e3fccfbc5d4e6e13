"""`python -m harness.sweep FILE`: runs a search space with Ray Tune. The only module that imports Ray and Optuna.

Grid and random searches are lists that are known before the first trial; bayes asks Optuna. A trial that ends is
written to `rows.jsonl` at once, and everything that a trial computes lies in the stage cache; so a sweep that was
interrupted, however brutally, is continued by running what has no ending yet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import environment, export, report, trial
from harness.folder import Recorder, open_folder, replace_text
from harness.live import Progress
from harness.memory import keep_freed_memory
from harness.metrics import WATCHED
from harness.placement import Node, Placement, place
from harness.plan import Plan, Task, goal_of, load
from harness.preflight import check_data, preview
from harness.remote import Mirror, is_remote, local_folder
from harness.schema import ConfigError, as_dict
from harness.seeding import derive
from harness.space import Suggester
from harness.tracking import Tracker, tracking_uri

FINISHED, SOME_FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses."""

STATUS_SECONDS = 60.0
"""How long a log, where there is no terminal to draw on, may stay without a line."""

os.environ.update(
    {
        "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no output of Ray's own
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in workers
        "RAY_memory_monitor_refresh_ms": "0",  # it would end the whole sweep, not the trial that needs too much
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",  # the default of 15 would let any other process distort the times
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "600",  # resuming reads our own records, not Ray's snapshots
    }
)

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from harness import cluster

# ---------------------------------------------------------------- in a worker


def run_in_worker(config: dict[str, Any], job: Job) -> None:
    """One Tune trial: one configuration, under each of its seeds in turn."""
    import torch

    keep_freed_memory()
    cluster.enter(job.cwd)
    torch.set_num_threads(job.threads)
    config = config.get("task", config)
    candidate = job.plan.candidate(config["parameters"])
    if config.get("only_portrait"):
        _portray(Task(candidate, config["seeds"][0], config["phase"]), job)
        return
    objectives: list[list[float]] = []
    for seed in config["seeds"]:
        task = Task(candidate, seed, config["phase"])
        totals = _run_task(task, job)
        objectives.append([totals.get(m.name, math.nan) for m in job.plan.metric])
    means = [sum(values) / len(values) for values in zip(*objectives, strict=True)]
    failed = any(math.isnan(value) for value in means)
    tune.report(_objectives([0.0] * len(means) if failed else means) | {"failed": failed})


def _run_task(task: Task, job: Job) -> dict[str, float]:
    """Runs a trial and reports each record; a trial that fails reports its cause and lets the sweep go on."""

    def send(step_kind: str, step: int, metrics: Mapping[str, float], details: Mapping[str, Any], **more: Any) -> None:
        record = {
            "trial": task.trial_id,
            "configuration": task.candidate.configuration,
            "phase": task.phase,
            "seed": task.seed,
            "status": "running",
            "step_kind": step_kind,
            "step": step,
            "time": int(time.time() * 1000),
            "node": socket.gethostname(),
            "parameters": task.candidate.parameters,
            "metrics": dict(metrics),
            **more,
        }
        watch = next((metrics[name] for name in WATCHED if name in metrics), None)
        watched = {"epoch": step, "watch": watch} if step_kind == "epoch" and watch is not None else {}
        # an early-stopped trial counts for the search with what was seen of it
        proxies = [watch if m.name.startswith("val/") and watch is not None else 0.0 for m in job.plan.metric]
        tune.report({"record": record, "details": dict(details), **watched, **_objectives(proxies)})

    send("labels", 0, {}, {"config": as_dict(task.candidate.trial)})
    portrait: dict[str, Any] = {}
    try:
        totals = trial.run(
            task.candidate.trial,
            task.seed,
            job.folders,
            send,
            with_test=task.phase == "confirm",
            deliver=portrait.update if job.plan.portrays(task) else None,
        )
        for metric in job.plan.metric:
            if not math.isfinite(totals.get(metric.name, math.nan)):
                raise ValueError(f"{metric.name} is {totals.get(metric.name, 'not measured in this trial')}")
    except Exception as error:
        import traceback

        cause = " ".join(f"{type(error).__name__}: {error}".split())
        send("labels", 0, {}, {"error": traceback.format_exc()}, status="failed", error=cause)
        return {}
    warning = {"warning": portrait.pop("warning")} if "warning" in portrait else {}
    send("labels", int(totals["labels/used"]), totals, portrait, status="finished", **warning)
    return totals


def _portray(task: Task, job: Job) -> None:
    """Takes a trial that has ended from the stage cache once more, for its encoder's portrait alone."""
    nothing = _objectives([0.0] * len(job.plan.metric))

    def send(found: Mapping[str, Any]) -> None:
        tune.report({"portrait_of": task.trial_id, **found, **nothing})

    trial.run(task.candidate.trial, task.seed, job.folders, lambda *_: None, with_test=False, deliver=send)
    tune.report(nothing)


def _objectives(values: list[float]) -> dict[str, float]:
    return {f"objective_{number}": value for number, value in enumerate(values)}


class Job:
    """What every trial of a sweep needs, sent to the workers once.

    Attributes:
        plan: the sweep.
        folders: caches, absolute.
        threads: of a trial.
        cwd: the driver's working folder, to which relative paths refer.
    """

    def __init__(self, plan: Plan, folders: trial.Folders, threads: int):
        self.plan = plan
        self.folders = folders
        self.threads = threads
        self.cwd = os.getcwd()


# ---------------------------------------------------------------- in the driver


class RecordCallback(tune.Callback):
    """Writes what trials report, and the endings that a trial cannot report itself."""

    def __init__(self, recorder: Recorder, display: Display):
        self._recorder = recorder
        self._display = display

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune's snapshots are not used to resume, and a terminal cannot be pickled

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A report of a trial."""
        if "record" in result:
            self._write(result["record"], result.get("details", {}))
        elif "portrait" in result:
            self._recorder.keep_portrait(result["portrait_of"], result["portrait"])
        elif "warning" in result:
            print(f"{result['portrait_of']}: {result['warning']}", file=sys.stderr)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial that ended without saying so was stopped early."""
        self._close(trial, "stopped")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker died, and its retries are used up."""
        self._close(trial, "failed", error=_cause(trial))

    def _close(self, trial: Any, status: str, **more: Any) -> None:
        last = self._recorder.unfinished(_trial_ids(trial.config))
        if last:
            ending = {**last, "status": status, "step_kind": "labels", "step": 0, "time": int(time.time() * 1000)}
            self._write(ending | more, {})

    def _write(self, record: dict[str, Any], details: Mapping[str, Any]) -> None:
        self._recorder.write(record, details)
        self._display.add(record, details)


def _trial_ids(config: Mapping[str, Any]) -> list[str]:
    return config.get("task", config)["trial_ids"]


def _cause(trial: Any) -> str:
    error = trial.get_error()
    text = str(error).strip().splitlines() if error else []
    return next((line.strip() for line in text if line.strip()), "the worker died")


class Display:
    """The live view on a terminal; elsewhere a line per ended trial, and one a minute in between."""

    def __init__(self, progress: Progress, quiet: bool):
        from rich.console import Console
        from rich.live import Live

        self.progress = progress
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self._render, transient=True)
        self._interactive = self._console.is_terminal and not self._console.is_dumb_terminal and not quiet
        self._said = time.monotonic()

    def __enter__(self) -> Display:
        if self._interactive:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._interactive:
            self._live.stop()

    def _render(self) -> Any:
        return self.progress.render(self._console.width)

    def add(self, record: dict[str, Any], details: Mapping[str, Any]) -> None:
        """Shows a record."""
        line = self.progress.add(record, details)
        if self._interactive or self._quiet:
            return
        if line is None and time.monotonic() - self._said >= STATUS_SECONDS:
            line = self.progress.status()
        if line:
            self._said = time.monotonic()
            print(line, file=sys.stderr, flush=True)


class SuggestAssignments:
    """Optuna's define-by-run function; a class because Tune pickles it."""

    def __init__(self, plan: Plan, seeds: list[int]):
        self._plan = plan
        self._seeds = seeds

    def __call__(self, suggester: Suggester) -> dict[str, Any]:
        """A Tune configuration for what Optuna suggests."""
        assignment = self._plan.space.suggest(suggester)
        candidate = self._plan.candidate(assignment)
        return _tune_config([Task(candidate, seed, "search") for seed in self._seeds])


class AssignmentSearch(OptunaSearch):
    """Optuna's search; a trial that failed is told as failed, not with a made-up value."""

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Tells Optuna how a trial ended."""
        failed = bool(result and result.get("failed"))
        super().on_trial_complete(trial_id, None if failed else result, error or failed)


def _tune_config(tasks: list[Task]) -> dict[str, Any]:
    """One configuration under one or several seeds, as Tune hands it to a worker."""
    return {
        "parameters": tasks[0].candidate.parameters,
        "seeds": [task.seed for task in tasks],
        "phase": tasks[0].phase,
        "trial_ids": [task.trial_id for task in tasks],
    }


class Sweep:
    """One run of a plan, from its first trial to its report."""

    def __init__(self, plan: Plan, folders: trial.Folders, placement: Placement, recorder: Recorder, display: Display):
        self.plan = plan
        self.recorder = recorder
        self.display = display
        self.path = recorder.folder
        self.concurrent, self.resources = placement.concurrent, dict(placement.resources)
        self.job = Job(plan, folders, plan.resources.cpus)

    def run(self) -> bool:
        """Both phases; whether every trial has an ending."""
        complete = self._bayes() if self.plan.method == "bayes" else self._list(self.plan.first_tasks())
        if complete and self.plan.confirm:
            best = self.recorder.best(self.plan.metric, self.plan.confirm.top)
            complete = self._list(self.plan.confirm_tasks(best))
        elif complete and self.plan.searches and self.plan.portrait:
            self._portray_best()
        return complete

    def _portray_best(self) -> None:
        """Leaves a portrait of the best of a search that nothing confirms."""
        for assignment in self.recorder.best(self.plan.metric, 1):
            task = Task(self.plan.candidate(assignment), self.plan.seeds[0], "search")
            if not (self.path / "trials" / task.trial_id / "portrait.npz").exists():
                config = _tune_config([task]) | {"only_portrait": True}
                self._fit({"task": tune.grid_search([config])}, BasicVariantGenerator(), num_samples=1)

    def _list(self, tasks: list[Task]) -> bool:
        """Runs those of the tasks that have no ending yet."""
        open_tasks = [task for task in tasks if not self.recorder.ended(task.trial_id)]
        if not tasks:
            return True
        self.display.progress.begin(tasks[0].phase, len(tasks), len(tasks) - len(open_tasks))
        if open_tasks:
            configs = [_tune_config([task]) for task in open_tasks]
            generator = BasicVariantGenerator(max_concurrent=self.concurrent)
            self._fit({"task": tune.grid_search(configs)}, generator, num_samples=1)
        return all(self.recorder.ended(task.trial_id, retry_failed=False) for task in tasks)

    def _bayes(self) -> bool:
        """Asks Optuna for what is left of run_cap; its study lies in the sweep's folder."""
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalStorage

        assert self.plan.run_cap is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group` and `constant_liar`
        storage = JournalStorage(JournalFileBackend(str(self.path / "optuna.log")))
        metrics = [f"objective_{number}" for number in range(len(self.plan.metric))]
        modes = [goal_of(metric)[:3] for metric in self.plan.metric]
        single = len(metrics) == 1
        done = _told(storage)
        sampler = optuna.samplers.TPESampler(
            seed=derive(self.plan.seeds[0], f"search/{done}") % 2**32,
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=max(5, min(10, self.plan.run_cap // 3)),
        )
        search = AssignmentSearch(
            SuggestAssignments(self.plan, list(self.plan.seeds)),
            metric=metrics[0] if single else metrics,
            mode=modes[0] if single else modes,
            sampler=sampler,
            study_name="search",
            storage=storage,
        )
        seeds = len(self.plan.seeds)
        self.display.progress.begin("search", self.plan.run_cap * seeds, done * seeds)
        left = self.plan.run_cap - done
        if left > 0:
            self._fit({}, ConcurrencyLimiter(search, self.concurrent), num_samples=left)
        return _told(storage) >= self.plan.run_cap

    def _fit(self, space: dict[str, Any], search: Any, num_samples: int) -> None:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_in_worker, job=self.job), self.resources),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=search,
                scheduler=_scheduler(self.plan) if self._is_search() else None,
                num_samples=num_samples,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"{self.display.progress.phase}-{int(time.time())}",
                storage_path=str((self.path / "ray").resolve()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
                callbacks=[RecordCallback(self.recorder, self.display)],
            ),
        )
        tuner.fit()

    def _is_search(self) -> bool:
        return self.display.progress.phase == "search"


def _scheduler(plan: Plan) -> TrialScheduler | None:
    """Early stopping on the validation accuracy after an epoch; reports without it are left alone."""
    about = plan.early_terminate
    shared = {"time_attr": "epoch", "metric": "watch", "mode": "max", "grace_period": about.min_iter}
    if about.type == "asha":
        longest = 10_000  # longer than any pre-training: rungs are eta apart from min_iter on
        return AsyncHyperBandScheduler(
            **shared, max_t=longest, reduction_factor=about.eta, brackets=1, stop_last_trials=False
        )
    return MedianStoppingRule(**shared) if about.type == "median" else None


def _told(storage: Any) -> int:
    """How many configurations of the study have ended; those that an interrupted run left open are given up."""
    import optuna
    from optuna.trial import TrialState

    try:
        study = optuna.load_study(study_name="search", storage=storage)
    except KeyError:
        return 0
    for left in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(left.number, state=TrialState.PRUNED)
    return len(study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL]))


def _this_machine(cpus: float, gpus: float) -> Node:
    import torch

    sizes = [torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count())]
    return Node(socket.gethostname(), {"CPU": cpus, "GPU": gpus}, min(sizes, default=0))


def _before_ray() -> list[Node]:
    """This machine, before Ray is asked."""
    import torch

    return [_this_machine(os.cpu_count() or 1, torch.cuda.device_count())]


def _nodes(plan: Plan, options: argparse.Namespace, prepared: Sequence[Any]) -> tuple[list[Node], dict[str, Any]]:
    """What there is to run trials on, and what `environment.json` says of it beyond this machine."""
    if not options.address:
        there = ray.cluster_resources()
        return [_this_machine(there.get("CPU", 0), there.get("GPU", 0))], {}
    nodes = cluster.look(plan, prepared, _folders(options))
    for note in nodes.notes:
        print(note, file=sys.stderr)
    gpus = sorted({gpu for about in nodes.about for gpu in about["gpus"]})
    return nodes.all, {**nodes.compute, "gpus": gpus, "nodes": nodes.about, "shared_stages": nodes.shared_stages}


def _folders(options: argparse.Namespace) -> trial.Folders:
    return trial.Folders(options.cache.resolve(), options.stages.resolve())


@contextlib.contextmanager
def ray_session(plan: Plan, address: str | None) -> Iterator[None]:
    """A private Ray on this machine, gone afterwards, or a cluster, left afterwards."""
    if address:
        cluster.join(address, plan)
    else:
        ray.init(
            address="local",
            include_dashboard=False,
            configure_logging=True,
            logging_level="ERROR",
            log_to_driver=False,
            num_gpus=None,
        )
    # after ray.init, which has a handler of its own; SIGINT also where a shell started us with it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        ray.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    options = _parser().parse_args(arguments)
    options.given = sys.argv[1:] if arguments is None else arguments
    try:
        plan = load(options.file, options.set)
        if options.dry_run:
            print(preview(plan))
            return FINISHED
        return _run(plan, options)
    except (ConfigError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(plan: Plan, options: argparse.Namespace) -> int:
    results = local_folder(options.results)
    path = results / plan.name
    uri = tracking_uri(options.tracking_uri, results)
    if options.address:
        cluster.check_address(options.address)
    else:
        place(plan.resources, _before_ray(), plan.name)
    prepared = check_data(plan, options.cache)
    mirror = Mirror(options.results, path) if is_remote(options.results) else None
    progress = Progress(plan.metric[0].name, goal_of(plan.metric[0]) == "maximize")
    complete, uncopied = False, None
    problems: list[str] = []
    with ray_session(plan, options.address):
        nodes, beyond = _nodes(plan, options, prepared)
        placement = place(plan.resources, nodes, plan.name)
        if mirror:
            mirror.fetch()
        lock = open_folder(path, plan, resume=options.resume)
        about = environment.describe(path, prepared, concurrent=placement.concurrent) | beyond
        replace_text(path / "environment.json", json.dumps(about, indent=1))
        tracker = Tracker(uri, plan.name, path, about)
        tracker.start()
        recorder = Recorder(path, tracker.record)
        if mirror:
            mirror.start()
        try:
            with Display(progress, options.quiet) as display:
                complete = Sweep(plan, _folders(options), placement, recorder, display).run()
        except KeyboardInterrupt:
            complete = False
        finally:
            recorder.close()
            found = report.write(path)
            problems = export.write(found, plan.log_model if complete else "none", _folders(options))
            uncopied = mirror.close() if mirror else None
            models = len(list(path.glob("models/*/model.json")))
            tracker.finish("finished" if complete else "interrupted", timeout=60.0 * (1 + models))
            lock.release()
    for problem in problems:
        print(problem, file=sys.stderr)
    if complete and not options.quiet:
        report.show(found)
    status = _farewell(path, uri, recorder, complete, options)
    if mirror:
        print(uncopied or f"copy:      {mirror.uri}", file=sys.stderr if uncopied else sys.stdout)
    return SOME_FAILED if (problems or uncopied) and status == FINISHED else status


def _farewell(path: Path, uri: str, recorder: Recorder, complete: bool, options: argparse.Namespace) -> int:
    if not complete:
        again = shlex.join([*(given for given in options.given if given != "--resume"), "--resume"])
        print(f"interrupted; go on with: python -m harness.sweep {again}", file=sys.stderr)
        return INTERRUPTED
    print(f"\nreport:    python -m harness.report {path}\nMLflow UI: mlflow ui --backend-store-uri {uri}")
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


if __name__ == "__main__":
    # as __main__, classes of this module could not be pickled for the workers
    from harness.sweep import main as run_main

    sys.exit(run_main())
