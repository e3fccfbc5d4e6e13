"""A sweep that grows: what has ended stays, nothing runs twice, and the whole is what one run at once would be."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import yaml
from optuna.storages.journal import JournalFileBackend, JournalStorage
from sweep_folder import SweepFolder
from trials import SMALL

from harness.config.plan import Plan, load_plan
from harness.config.schema import parse_overrides
from harness.metrics import is_of_trial, varies_by_run
from harness.records.details import Details
from harness.records.folder import Recorder, open_folder
from harness.records.rows import FINAL, by_trial, last, read_rows
from harness.report.read import read_report
from harness.sweep import driver, worker
from harness.sweep.search import Study
from harness.sweep.worker import record_of, tasks_in, tune_config
from harness.trial.run import Folders

TRIAL = {
    **SMALL,
    "ssl_method": "none",
    "labels": {"start": 20, "budget": 10, "rounds": 1},
    "classifier": {"name": "ridge", "representation": "raw"},
}
GRID = {"seeds": [0], "parameters": {"selector": {"values": ["random"]}}}
RANDOM = {"method": "random", "run_cap": 1, "seeds": [0],
          "parameters": {"selector": {"values": ["random", "margin", "coreset"]},
                         "classifier.standardize": {"values": [True, False]}}}  # fmt: skip

GRID_STEPS = [
    "seeds=[0, 1]",
    "parameters.selector.values=[margin, random]",
    "trial.labels.rounds=2",
    "seeds=[0, 1, 2]",
    "trial.labels.rounds=3",
    "parameters.selector.values=[margin, random, coreset]",
    "worth=0.02",
    "trial.labels.rounds=5",
    "seeds=[0, 1, 2, 7]",
]
RANDOM_STEPS = ["run_cap=2", "seeds=[0, 4]", "trial.labels.rounds=2", "run_cap=3", "run_cap=4", "resources.cpus=2",
                "trial.labels.rounds=3", "seeds=[0, 4, 3]", "run_cap=5"]  # fmt: skip


class ByHand:
    """A sweep whose trials are run here, one after the other, in place of Ray and Tune."""

    def __init__(self, folder: Path, cache: Path, space: dict, monkeypatch):
        self.folder, self.space, self.overrides = folder / "runs", {"trial": TRIAL, **space, "name": "q"}, []
        self.job = worker.Job(("val/accuracy",), None, Folders(cache, folder / "stages"), 1, None, str(Path.cwd()))
        self.ran: list[str] = []
        context = SimpleNamespace(get_trial_id=lambda: "of_tune")
        monkeypatch.setattr(worker, "tune", SimpleNamespace(report=self.report, get_context=lambda: context))
        monkeypatch.setattr(worker, "limit_passed", lambda _: None)
        monkeypatch.setattr(worker, "ended_before", lambda *_: None)

    def report(self, told: dict) -> None:
        if "goes_on" in told:
            self.recorder.keep(told["goes_on"][0], 0, told["goes_on"][1])
        if "sent" in told:
            self.recorder.write(*told["sent"])
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    def run(self, *overrides: str, reports: int = -1) -> None:
        """Goes on with more overrides, until so many reports are written."""
        self.overrides += overrides
        self.left = reports
        plan = load_plan(json.loads(json.dumps(self.space)), parse_overrides(self.overrides))
        open_folder(self.folder, plan, resume=True).release()
        self.recorder = Recorder(self.folder, lambda record: None)
        tasks = self.recorder.left(plan.first_tasks())
        self.ran = [task.trial_id for task in tasks]
        try:
            for task in tasks:
                worker.run_in_worker(tune_config([task]), self.job)
        except KeyboardInterrupt:
            pass
        finally:
            self.recorder.close()

    def records(self) -> dict[str, list[dict]]:
        return {trial: list(history.values()) for trial, history in by_trial(read_rows(self.folder)[0]).items()}


def computed(records: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Records without times, and what depends on them."""

    def plain(record: dict) -> dict:
        metrics = {name: value for name, value in record["metrics"].items() if not varies_by_run(name)}
        return {key: value for key, value in record.items() if key not in ("time", "trail")} | {"metrics": metrics}

    return {trial: [plain(record) for record in history] for trial, history in sorted(records.items())}


def files_of(folder: Path) -> dict[str, bytes]:
    files = (file for file in (folder / "trials").rglob("*") if file.suffix in (".json", ".yaml"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def rounds_of(records: dict[str, list[dict]]) -> dict[str, list[dict]]:
    return {trial: [one for one in history if one["status"] not in FINAL] for trial, history in records.items()}


@pytest.mark.parametrize(
    ("space", "steps"),
    [
        pytest.param(GRID, GRID_STEPS, id="grid", marks=pytest.mark.slow),
        pytest.param(RANDOM, RANDOM_STEPS, id="random"),
    ],
)
def test_a_sweep_grown_in_ten_steps_is_that_of_one_run(tmp_path, cache, monkeypatch, space, steps):
    grown = ByHand(tmp_path / "grown", cache, space, monkeypatch)
    grown.run()
    for step in steps:
        before = grown.records()
        grown.run(step)
        after = grown.records()
        again = [trial for trial in grown.ran if trial in before]
        assert not again or step.startswith("trial.labels.rounds")
        assert all(after[trial] == history for trial, history in before.items() if trial not in again)
        told = rounds_of(before)
        assert all(rounds_of(after)[trial][: len(told[trial])] == told[trial] for trial in again)  # times, too
    at_once = ByHand(tmp_path / "at_once", cache, space, monkeypatch)
    at_once.run(*steps)
    assert computed(grown.records()) == computed(at_once.records())
    assert files_of(grown.folder) == files_of(at_once.folder)
    for name in ("rows.jsonl", "space.yaml"):
        assert (grown.folder / name).exists()
    assert (grown.folder / "space.yaml").read_bytes() == (at_once.folder / "space.yaml").read_bytes()


def test_more_rounds_that_are_interrupted_leave_the_old_ones_as_they_are(tmp_path, cache, monkeypatch):
    sweep = ByHand(tmp_path, cache, GRID, monkeypatch)
    sweep.run()
    (trial,), (told,) = zip(*rounds_of(sweep.records()).items(), strict=True)
    for reports in (1, 1, 2):  # the second and third go on within the rounds that were added
        sweep.run("trial.labels.rounds=6", reports=reports)
        assert rounds_of(sweep.records())[trial][: len(told)] == told
    sweep.run()
    assert last({0: sweep.records()[trial][-1]})["status"] == "finished"
    assert [record["step"] for record in sweep.records()[trial]] == [0, 20, 30, 40, 50, 60, 70, 80]
    assert rounds_of(sweep.records())[trial][: len(told)] == told
    assert yaml.safe_load((sweep.folder / "trials" / trial / "config.yaml").read_text())["labels"]["rounds"] == 6


def test_no_step_of_a_trial_that_finished_stands_twice_in_its_lines(tmp_path, cache, monkeypatch):
    sweep = ByHand(tmp_path, cache, GRID, monkeypatch)
    sweep.run()
    records = read_rows(sweep.folder)[0]
    assert [(record["step"], record["status"]) for record in records] == [
        (0, "running"),
        (20, "running"),
        (30, "finished"),
    ]
    told = records[-1]["metrics"]
    assert {"val/accuracy", "val/aubc", "time/round_select_seconds", "time/total_seconds"} <= told.keys()
    (trial,) = sweep.records()
    assert {"selected_30.json", "class_counts_30.json"} <= {f.name for f in (sweep.folder / "trials" / trial).iterdir()}
    sweep.run("trial.labels.rounds=2")
    rounds = rounds_of(sweep.records())[trial]
    assert [record["step"] for record in rounds] == [0, 20, 30]
    assert rounds[-1]["time"] == records[-1]["time"]
    assert rounds[-1]["metrics"].keys() == {name for name in told if not is_of_trial(name)}


def test_a_round_that_is_another_one_now_fails_its_trial_and_leaves_the_old_ones(tmp_path, cache, monkeypatch):
    sweep = ByHand(tmp_path, cache, GRID, monkeypatch)
    sweep.run()
    (trial,), (told,) = zip(*rounds_of(sweep.records()).items(), strict=True)
    run = worker.run

    def elsewhere(config, seed, folders, listener, **more):
        def tell(kind, step, metrics, details):
            listener(kind, step, {**metrics, "val/accuracy": metrics["val/accuracy"] + (step == 30) / 8}, details)

        return run(config, seed, folders, tell, **more)

    monkeypatch.setattr(worker, "run", elsewhere)
    sweep.run("trial.labels.rounds=2")
    *rounds, of_ending, ending = sweep.records()[trial]
    assert rounds == told
    assert (of_ending["step"], of_ending["status"]) == (30, "running")
    assert "no round can be added: at labels 30, val/accuracy was" in ending["error"]
    sweep.run()
    assert [record["step"] for record in sweep.records()[trial]] == [0, 20, 30, 40], "--resume runs it anew"


# ---------------------------------------------------------------- Bayesian searches


class Asked:
    """A Bayesian search without trainings: each trial ends with a value of its own."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.folder = folder

    def go_on(self, plan: Plan, number: int) -> list[str]:
        """Asks for so many configurations more, after what is open; the trials that were run."""
        study, recorder = Study(plan, self.folder / "optuna.log"), Recorder(self.folder, lambda record: None)
        tasks = recorder.left(study.open_tasks(recorder))
        ran = [self.end(task, recorder) for task in tasks]
        study.tell_endings(recorder)
        study.search()
        for _ in range(number):
            _, tasks = study.ask()
            ran += [self.end(task, recorder) for task in recorder.left(tasks)]
        study.tell_endings(recorder)
        recorder.close()
        return ran

    def end(self, task, recorder: Recorder) -> str:
        accuracy = task.seed / 100 + task.trial.labels.rounds / 10
        ending = record_of(task, "labels", task.trial.labels.total, {"val/accuracy": accuracy}) | {"status": "finished"}
        recorder.write(ending, Details())
        return task.trial_id

    def told(self) -> list[tuple[dict, float | None]]:
        storage = JournalStorage(JournalFileBackend(f"{self.folder}/optuna.log"))
        newest = storage.get_all_studies()[-1].study_name
        trials = optuna.load_study(study_name=newest, storage=storage).trials
        return [(trial.user_attrs["parameters"], trial.value) for trial in trials]


def test_the_study_of_a_bayesian_search_goes_on(tmp_path):
    def plan(*overrides: str) -> Plan:
        parameters = {"ssl_method": {"values": ["simclr", "byol"]}, "pretrain.lr": {"min": 0.1, "max": 0.2}}
        trial = {**SMALL, "ssl_method": "simclr", "augmentation": "simclr"}
        space = {"name": "q", "method": "bayes", "run_cap": 9, "trial": trial, "parameters": parameters}
        return load_plan(space, parse_overrides(list(overrides)))

    search = Asked(tmp_path / "q")
    first = search.go_on(plan(), 3)
    before = search.told()
    assert [value for _, value in before] == [0.2] * 3
    assert len(search.go_on(plan("run_cap=20"), 1)) == 1
    assert search.told()[:3] == before

    more = ["run_cap=20", "parameters.ssl_method.values=[moco_v2, simclr, byol]", "parameters.pretrain.lr.max=0.9"]
    ran = search.go_on(plan(*more), 8)
    assert len(ran) == 8
    assert search.told()[:3] == before
    assert max(parameters["pretrain.lr"] for parameters, _ in search.told()) > 0.2

    ran = search.go_on(plan(*more, "seeds=[0, 4]"), 0)
    assert len(ran) == 12
    assert all(trial.endswith("-s4") for trial in ran)
    assert [value for _, value in search.told()] == pytest.approx([0.22] * 12)
    asked = [parameters for parameters, _ in search.told()]

    ran = search.go_on(plan(*more, "seeds=[0, 4]", "trial.labels.rounds=3"), 0)
    assert len(ran) == 24
    assert set(first) < set(ran), "the same trials go on"
    assert search.told() == [(parameters, pytest.approx(0.32)) for parameters in asked]


# ---------------------------------------------------------------- seeds until resolved


class OneByOne:
    """In place of Tune: each trial that is handed out tells the accuracies of a made-up one, and ends."""

    def __init__(self, monkeypatch):
        parts = dict.fromkeys(("with_parameters", "with_resources"), lambda work, *_, **__: work)
        configs = dict.fromkeys(("TuneConfig", "RunConfig", "FailureConfig"), lambda **settings: settings)
        monkeypatch.setattr(driver, "tune", SimpleNamespace(**parts, **configs, Tuner=self.tuner))
        monkeypatch.setattr(driver, "ConcurrencyLimiter", lambda search, _: search)

    def run(self, plan: Plan, folder: Path) -> None:
        (folder / "space.yaml").write_text(yaml.safe_dump(plan.as_dict()))
        self.recorder = Recorder(folder, lambda record: None)
        display = SimpleNamespace(begin=lambda *_: None, waits=lambda *_: None)
        placement, interrupts = SimpleNamespace(resources={}, concurrent=1), SimpleNamespace(pressed=0)
        assert driver.Sweep(plan, Folders(folder, folder), placement, self.recorder, display, interrupts).run()
        self.recorder.close()

    def tuner(self, work, *, tune_config, run_config):
        return SimpleNamespace(
            fit=lambda: [self.end(tune_config["search_alg"]) for _ in range(tune_config["num_samples"])]
        )

    def end(self, search) -> None:
        (task,) = tasks_in(search.suggest("of_tune"))
        better = task.candidate.parameters["selector"] == "margin"
        for labels in range(20, task.trial.labels.total + 1, 20):
            luck = random.Random(f"{better}{task.seed}{labels}").gauss(0, 0.02 if labels <= 40 else 0.003)
            accuracy = 0.6 + better * max(0, labels - 40) / 500 + luck
            record = record_of(task, "labels", labels, {"test/accuracy": accuracy, "labels/used": labels})
            status = "finished" if labels == task.trial.labels.total else "running"
            self.recorder.write(record | {"status": status}, Details())
        search.on_trial_complete("of_tune")


def test_seeds_that_were_added_get_the_rounds_by_which_a_question_grows(tmp_path, monkeypatch):
    space = {"seeds": {"max": 9, "until": "resolved", "block": 3}, "reference": {"selector": "random"}, "trial": TRIAL,
             "parameters": {"selector": {"values": ["random", "margin"]}}}  # fmt: skip
    sweep, folder = OneByOne(monkeypatch), SweepFolder(tmp_path / "q").path
    for rounds in (1, 3):
        labels = {"start": 20, "budget": 20, "rounds": rounds}
        sweep.run(load_plan(space | {"trial": {**TRIAL, "labels": labels}}, {}), folder)
        used = [set(entry.values["labels/used"].items()) for entry in read_report(folder).confirmed]
        assert used == [{(seed, 20 + 20 * rounds) for seed in range(6)}] * 2  # a second block was needed


# ---------------------------------------------------------------- with Ray, and killed


def _statuses(sweep: Path) -> Counter:
    return Counter(last(history)["status"] for history in by_trial(read_rows(sweep)[0]).values())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_while_a_sweep_grows_lose_nothing(tmp_path, cache, monkeypatch):
    from small_sweep import start

    rng = random.Random(0)
    grown: list[str] = []
    sweep = tmp_path / "runs/q"
    file = tmp_path / "q.yaml"
    file.write_text(yaml.safe_dump({"name": "q", "portrait": False, "trial": TRIAL, **GRID}))

    def command(*more: str):
        sets = [argument for override in grown for argument in ("--set", override)]
        return start(tmp_path, file, *sets, *(["--resume"] if (sweep / "space.yaml").exists() else []), *more)

    kept: dict[str, dict] = {}
    for step in [*GRID_STEPS, "seeds=[0, 1, 2, 7, 8]"]:
        process = command()
        before, wanted = len(read_rows(sweep)[0]), rng.randint(1, 12)
        deadline = time.monotonic() + 180
        while len(read_rows(sweep)[0]) < before + wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        records = by_trial(read_rows(sweep)[0])
        told = {trial: list(rounds_of({trial: list(one.values())})[trial]) for trial, one in records.items()}
        assert all(told[trial][: len(history)] == history for trial, history in kept.items())
        kept = {trial: told[trial] for trial, one in records.items() if last(one)["status"] == "finished"} | {
            trial: history for trial, history in kept.items() if last(records[trial])["status"] != "finished"
        }
        grown.append(step)
    out, errors = command().communicate(timeout=600)
    assert _statuses(sweep) == {"finished": 15}, out + errors
    monkeypatch.setenv("PYTHONPATH", "")
    at_once = ByHand(tmp_path / "at_once", cache, GRID, monkeypatch)
    at_once.run(*grown)
    ours = {trial: list(history.values()) for trial, history in by_trial(read_rows(sweep)[0]).items()}
    without_node = lambda records: {  # noqa: E731
        trial: [{key: value for key, value in one.items() if key != "node"} for one in history]
        for trial, history in computed(records).items()
    }
    assert without_node(ours) == without_node(at_once.records())


@pytest.mark.slow
def test_seeds_are_added_until_all_is_resolved(tmp_path, capfd):
    from small_sweep import endings, run, write

    seeds = {"max": 9, "until": "resolved", "block": 3}
    parameters = {"classifier.class_weight": {"values": ["none", "balanced"]}, "labels.start": {"values": [20, 100]}}
    reference = {"classifier.class_weight": "none", "labels.start": 20}
    trial = {**TRIAL, "labels": {"start": 20}, "classifier": {"name": "logistic", "representation": "raw"}}
    file = write(tmp_path, name="until", trial=trial, seeds=seeds, reference=reference, parameters=parameters)
    assert run(tmp_path, file) == 0
    sweep = tmp_path / "runs/until"
    report = read_report(sweep)
    sizes = {entry.label: len(entry.seeds) for entry in report.confirmed}
    kinds = {entry.label: entry.kind for entry in report.confirmed}
    more_labels = [label for label in sizes if "100" in label]
    assert {kinds[label] for label in more_labels} == {"better"}
    assert set(sizes.values()) <= {3, 6, 9}
    assert max(sizes[label] for label in more_labels) < 9, "five times the labels are told apart early"
    assert sizes[report.reference.label] == max(sizes.values())
    assert "looked at" in capfd.readouterr().out + (sweep / "summary.md").read_text()
    before = read_rows(sweep)[0]
    assert run(tmp_path, file, "--resume") == 0
    assert read_rows(sweep)[0] == before
    assert set(endings(sweep)) == {"finished"}
