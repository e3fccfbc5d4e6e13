"""A sweep's folder: never overwritten, one sweep at a time, no finished record lost."""

from __future__ import annotations

import base64
import json
import multiprocessing
import re
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import folder_worker
import pytest
import yaml
from disk import files_of_at_most
from filelock import FileLock

from harness import messages
from harness.config.plan import Plan, load_plan
from harness.config.schema import ConfigError, parse_overrides
from harness.config.search import Objective
from harness.files import no_space, replace_text
from harness.records import environment, rows
from harness.records import folder as folder_module
from harness.records.details import Details
from harness.records.folder import BESIDE, Recorder, TakenError, open_folder
from harness.report import read as read_module
from harness.sweep import preflight
from harness.tracking import tracker

QUESTION = """
method: random
run_cap: 2
confirm: {top: 1, seeds: [1]}
trial: {labels: {start: 20}}
cases: {a: {}, b: {selector: coreset}}
parameters: {pretrain.epochs: {values: [1, 2]}}
"""


def ask(tmp_path: Path, *overrides: str) -> Plan:
    (tmp_path / "question.yaml").write_text(QUESTION)
    return load_plan(tmp_path / "question.yaml", parse_overrides(list(overrides)))


# ---------------------------------------------------------------- opening


def test_a_new_folder_holds_the_question(tmp_path):
    plan = ask(tmp_path)
    with open_folder(tmp_path / "runs" / "sweep", plan, resume=False):
        kept = yaml.safe_load((tmp_path / "runs" / "sweep" / "space.yaml").read_text())
    assert kept == plan.as_dict()


def test_an_existing_sweep_is_not_overwritten(tmp_path):
    open_folder(tmp_path / "sweep", ask(tmp_path), resume=False).release()
    before = (tmp_path / "sweep" / "space.yaml").read_bytes()
    with pytest.raises(ConfigError, match="this sweep exists; continue it with --resume"):
        open_folder(tmp_path / "sweep", ask(tmp_path, "run_cap=3"), resume=False)
    assert (tmp_path / "sweep" / "space.yaml").read_bytes() == before
    open_folder(tmp_path / "sweep", ask(tmp_path), resume=True).release()  # a refusal leaves it free


def test_a_sweep_of_before_whose_reference_was_none_goes_on_with_one_that_is(tmp_path):
    open_folder(tmp_path / "sweep", ask(tmp_path), resume=False).release()
    file = tmp_path / "sweep" / "space.yaml"
    file.write_text(file.read_text().replace("reference: null", "reference: {case: x}"))
    named = ask(tmp_path, "reference.case=a", "confirm.references=[{case: a}]")
    open_folder(tmp_path / "sweep", named, resume=True).release()
    assert yaml.safe_load(file.read_text())["reference"] == {"case": "a"}


@pytest.mark.parametrize(
    ("change", "override"),
    [
        ('method: "random" -> "bayes"', "method=bayes"),
        ("seeds: [0] -> [7]", "seeds=[7]"),
        ("trial.labels.start: 20 -> 21", "trial.labels.start=21"),
    ],
)
def test_another_question_is_not_continued(tmp_path, change, override):
    open_folder(tmp_path / "sweep", ask(tmp_path), resume=False).release()
    before = (tmp_path / "sweep" / "space.yaml").read_bytes()
    with pytest.raises(ConfigError, match=rf"space.yaml: {re.escape(change)}; .*--set name=NEW"):
        open_folder(tmp_path / "sweep", ask(tmp_path, override), resume=True)
    assert (tmp_path / "sweep" / "space.yaml").read_bytes() == before


def test_more_of_the_same_may_be_continued(tmp_path, capsys):
    open_folder(tmp_path / "sweep", ask(tmp_path), resume=False).release()
    longer = ask(tmp_path, "run_cap=9", "confirm.top=2", "resources.cpus=2")
    open_folder(tmp_path / "sweep", longer, resume=True).release()
    assert "question grows: run_cap: 2 -> 9; confirm.top: 1 -> 2; what has ended stays" in capsys.readouterr().err
    assert yaml.safe_load((tmp_path / "sweep" / "space.yaml").read_text())["run_cap"] == 9


def test_a_folder_that_never_held_a_question_is_new(tmp_path):
    (tmp_path / "sweep").mkdir()
    open_folder(tmp_path / "sweep", ask(tmp_path), resume=False).release()
    assert (tmp_path / "sweep" / "space.yaml").exists()


def test_two_processes_do_not_share_a_folder(tmp_path):
    ask(tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    held, leave = context.Event(), context.Event()
    arguments = (tmp_path / "sweep", tmp_path / "question.yaml", held, leave)
    other = context.Process(target=folder_worker.hold, args=arguments, daemon=True)
    other.start()
    assert held.wait(120)
    for resume in (False, True):
        with pytest.raises(ConfigError, match="another sweep is running in this folder"):
            open_folder(tmp_path / "sweep", ask(tmp_path), resume=resume)
    leave.set()
    other.join(60)
    assert other.exitcode == 0
    open_folder(tmp_path / "sweep", ask(tmp_path), resume=True).release()


@pytest.mark.parametrize("resume", [False, True])
def test_of_two_that_begin_or_go_on_at_the_same_moment_one_is_refused(tmp_path, resume):
    plan, moment = ask(tmp_path), threading.Barrier(2)

    def begin(folder: Path) -> FileLock | str:
        moment.wait()
        try:
            return open_folder(folder, plan, resume=resume)
        except ConfigError as error:
            return str(error)

    with ThreadPoolExecutor(2) as both:
        for number in range(10):
            folder = tmp_path / str(number)
            if resume:
                open_folder(folder, plan, resume=False).release()
            outcomes = list(both.map(begin, [folder] * 2))
            (lock,) = (one for one in outcomes if isinstance(one, FileLock))
            (refusal,) = (one for one in outcomes if isinstance(one, str))
            assert refusal.startswith(f"{folder}: another sweep is running in this folder")
            lock.release()
            assert yaml.safe_load((folder / "space.yaml").read_text()) == plan.as_dict()


def test_a_text_is_replaced_whole(tmp_path):
    file = tmp_path / "a.json"
    replace_text(file, "old")
    replace_text(file, "né")
    assert file.read_text(encoding="utf-8") == "né"
    assert list(tmp_path.iterdir()) == [file]


# ---------------------------------------------------------------- records


class Folder:
    """Writes records with times that rise."""

    def __init__(self, path: Path):
        path.mkdir(exist_ok=True)
        self.path = path
        self.delivered: list[Any] = []
        self.recorder = Recorder(path, self.delivered.append)
        self.time = 0

    def write(
        self, trial: str, status: str, metrics: dict[str, float] | None = None, step: int = 0, **details: Any
    ) -> None:
        phase, configuration, seed = trial.split("-")
        self.time += 1
        self.recorder.write(
            {
                "trial": trial,
                "configuration": configuration,
                "phase": phase,
                "seed": int(seed[1:]),
                "status": status,
                "step_kind": "labels",
                "step": step,
                "time": self.time,
                "parameters": {"x": configuration},
                "metrics": metrics or {},
                **({"error": "ValueError: no"} if status == "failed" else {}),
            },
            Details(**details),
        )


def test_packed_records_go_on(tmp_path):
    Folder(tmp_path).write("search-a-s0", "finished", {"val/accuracy": 0.6}, 30)
    subprocess.run(["gzip", "rows.jsonl"], cwd=tmp_path, check=True)
    Folder(tmp_path).write("search-a-s1", "finished", {"val/accuracy": 0.7}, 30)
    read, _ = rows.read_rows(tmp_path)
    assert [row["trial"] for row in read] == ["search-a-s0", "search-a-s1"]
    assert not (tmp_path / "rows.jsonl.gz").exists()


def test_records_are_kept_and_delivered_at_once(tmp_path):
    folder = Folder(tmp_path)
    matrix = {"matrix": [[1]]}
    folder.write("search-a-s0", "running", config={"x": 1})
    folder.write("search-a-s0", "running", {"val/accuracy": 0.5}, 20, selected=[3, 1], confusion_matrix=matrix)
    later = {"class_counts": [4, 6], "pool_counts": [40, 60], "confusion_matrix": {"matrix": [[2]]}}
    folder.write("search-a-s0", "running", {"val/accuracy": 0.6}, 30, **later)
    folder.write("search-a-s0", "finished", {"val/accuracy": 0.6}, 30, portrait=base64.b64encode(b"a face").decode())
    read, unreadable = rows.read_rows(tmp_path)  # before the file is closed
    assert unreadable == 0
    assert read == folder.delivered
    trial = tmp_path / "trials" / "search-a-s0"
    assert yaml.safe_load((trial / "config.yaml").read_text()) == {"x": 1}
    assert json.loads((trial / "selected_20.json").read_text()) == [3, 1]
    assert json.loads((trial / "confusion_matrix_20.json").read_text()) == matrix
    assert json.loads((trial / "confusion_matrix_30.json").read_text()) == {"matrix": [[2]]}
    assert json.loads((trial / "class_counts_30.json").read_text()) == [4, 6]
    assert json.loads((trial / "class_counts_pool.json").read_text()) == [40, 60]
    assert (trial / "portrait.npz").read_bytes() == b"a face"
    assert not any("portrait" in record for record in read)


@pytest.mark.parametrize("change", [b'"val/accuracy": 0.9', b'"seed": 8', b'"step": 0', b'"status": "finished"'])
def test_a_changed_line_is_not_believed(tmp_path, change):
    folder = Folder(tmp_path)
    folder.write("search-a-s7", "stopped", {"val/accuracy": 0.5}, 20)
    folder.write("search-b-s7", "finished", {"val/accuracy": 0.5}, 20)
    folder.recorder.close()
    file = tmp_path / "rows.jsonl"
    key = change.partition(b": ")[0]
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(re.sub(re.escape(key) + rb": [^,}]+", change, first) + second)
    read, unreadable = rows.read_rows(tmp_path)
    assert [record["trial"] for record in read] == ["search-b-s7"]
    assert unreadable == 1
    assert not Recorder(tmp_path, print).ended("search-a-s7")


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_a_trial_that_lacks_a_record_is_run_again(tmp_path, damaged):
    folder = Folder(tmp_path)
    for step in (10, 20):
        folder.write("search-a-s7", "running", {"val/accuracy": 0.1}, step)
    folder.write("search-a-s7", "finished", {"val/accuracy": 0.5}, 20)
    folder.write("search-b-s7", "finished", {"val/accuracy": 0.5}, 20)
    folder.recorder.close()
    file = tmp_path / "rows.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[damaged] = b"?" + lines[damaged]
    file.write_bytes(b"".join(lines))
    again = Folder(tmp_path)
    again.time = 10
    assert not again.recorder.ended("search-a-s7")
    assert again.recorder.ended("search-b-s7")
    for step in (10, 20):
        again.write("search-a-s7", "running", {"val/accuracy": 0.1}, step)
    again.write("search-a-s7", "finished", {"val/accuracy": 0.5}, 20)
    read, unreadable = rows.read_rows(tmp_path)
    assert unreadable == 1
    history = rows.by_trial(read)["search-a-s7"]
    assert [(r["step"], r["status"], r["time"]) for r in history.values()] == [
        (10, "running", 11),
        (20, "running", 12),
        (20, "finished", 13),
    ]
    assert Recorder(tmp_path, print).ended("search-a-s7")


def test_an_ending_that_alone_is_left_of_a_trial_counts_for_nothing(tmp_path):
    folder = Folder(tmp_path)
    folder.write("search-a-s7", "running", {}, 10)
    folder.write("search-a-s7", "finished", {"val/accuracy": 0.5}, 20)
    read, _ = rows.read_rows(tmp_path)
    assert rows.by_trial(read[1:]) == {}


def test_lines_without_a_checksum_count_for_nothing(tmp_path):
    folder = Folder(tmp_path)
    folder.write("search-a-s0", "finished", {"val/accuracy": float("nan")})
    (line,) = (tmp_path / "rows.jsonl").read_text().splitlines()
    bare = {key: value for key, value in json.loads(line).items() if key != rows.CHECKSUM}
    (tmp_path / "rows.jsonl").write_text(line + "\n" + json.dumps(bare | {"trial": "b"}) + "\n")
    read, unreadable = rows.read_rows(tmp_path)
    assert [record["trial"] for record in read] == ["search-a-s0"]
    assert unreadable == 1


def test_an_ending_without_a_trail_is_none(tmp_path):
    folder = Folder(tmp_path)
    folder.write("search-a-s0", "running", {}, 10)
    folder.write("search-a-s0", "finished", {}, 20)
    read, _ = rows.read_rows(tmp_path)
    del read[-1][rows.TRAIL]
    assert [record["status"] for record in rows.by_trial(read)["search-a-s0"].values()] == ["running"]


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_takes_a_record_whole_or_not_at_all(tmp_path, room):
    folder = Folder(tmp_path)
    folder.write("search-a-s0", "finished")
    size = (tmp_path / "rows.jsonl").stat().st_size
    with files_of_at_most(size + room), pytest.raises(OSError) as caught:  # noqa: PT011
        folder.write("search-b-s0", "finished")
    assert no_space(caught.value)
    assert (tmp_path / "rows.jsonl").stat().st_size == size
    assert not folder.recorder.ended("search-b-s0")
    assert folder.recorder.failed() == {}
    folder.write("search-b-s0", "finished")
    folder.recorder.close()
    read, unreadable = rows.read_rows(tmp_path)
    assert [record["trial"] for record in read] == ["search-a-s0", "search-b-s0"]
    assert unreadable == 0


def deleted(file):
    file.unlink()


def replaced(file):
    """What an editor does that saves."""
    other = file.with_suffix(".new")
    other.write_bytes(file.read_bytes().replace(b"search-a-s0", b"search-x-s0"))
    other.replace(file)


def emptied(file):
    file.write_bytes(b"")


def wiped(file):
    shutil.rmtree(file.parent)


def overwritten(file, content):
    """The same file, as long as before, at another moment than its last write."""
    time.sleep(0.02)  # file systems tell no moments closer than a few ms
    with file.open("r+b") as there:
        there.write(content)


def one_byte(file):
    overwritten(file, b"[")


def zeroed(file):
    overwritten(file, bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [deleted, replaced, emptied, wiped, one_byte, zeroed])
def test_records_whose_file_is_changed_while_they_are_written_are_kept(tmp_path, capsys, damage):
    sweep = tmp_path / "sweep"
    open_folder(sweep, ask(tmp_path), resume=False).release()
    (sweep / "environment.json").write_text('{"sweep_id": "1"}')
    beside = {name: (sweep / name).read_bytes() for name in ("space.yaml", "environment.json")}
    folder = Folder(sweep)
    for number in range(3):
        folder.write(f"search-a-s{number}", "running", {}, 10)
        folder.write(f"search-a-s{number}", "finished", {"val/accuracy": 0.5}, 20)
    told = rows.by_trial(rows.read_rows(sweep)[0])
    damage(sweep / "rows.jsonl")
    folder.write("search-b-s0", "finished", {"val/accuracy": 0.6}, 20)
    folder.write("search-c-s0", "finished", {"val/accuracy": 0.7}, 20)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{sweep}/rows.jsonl was deleted or changed while the sweep runs; written anew, with 6 records"
    again, unreadable = rows.read_rows(sweep)
    assert unreadable == 0
    assert list(rows.by_trial(again)) == [*told, "search-b-s0", "search-c-s0"]
    assert all(rows.by_trial(again)[trial] == history for trial, history in told.items())
    assert {name: (sweep / name).read_bytes() for name in beside} == beside
    damage(sweep / "rows.jsonl")
    folder.recorder.hold()  # as before the report
    assert rows.by_trial(rows.read_rows(sweep)[0]) == rows.by_trial(again)


def wiped_with_its_lock(sweep):
    shutil.rmtree(sweep)


def without_its_lock(sweep):
    (sweep / "lock").unlink()


def with_another_lock(sweep):
    replaced(sweep / "lock")


@pytest.fixture(params=[wiped_with_its_lock, without_its_lock, with_another_lock])
def unlocked(tmp_path, request):
    """A sweep that runs, in whose folder its lock is not the one that it took."""
    lock = open_folder(tmp_path / "sweep", ask(tmp_path), resume=False)
    folder = Folder(tmp_path / "sweep")
    folder.write("search-a-s0", "finished", {"val/accuracy": 0.5}, 20)
    request.param(folder.path)
    yield folder
    folder.recorder.close()
    lock.release()
    open_folder(folder.path, ask(tmp_path), resume=True).release()  # whoever has ended keeps nobody out


def trials_in(sweep: Path) -> list[str]:
    return [record["trial"] for record in rows.read_rows(sweep)[0]]


def test_a_folder_whose_lock_is_gone_is_locked_again_at_the_next_record(tmp_path, unlocked):
    for seed in (1, 2):
        unlocked.write(f"search-a-s{seed}", "finished", {"val/accuracy": 0.6}, 20)
        with pytest.raises(ConfigError, match="another sweep is running in this folder"):
            open_folder(unlocked.path, ask(tmp_path), resume=True)
        (unlocked.path / "lock").unlink()  # and once more
    unlocked.write("search-a-s3", "finished", {"val/accuracy": 0.6}, 20)
    assert trials_in(unlocked.path) == [f"search-a-s{seed}" for seed in range(4)]


@pytest.mark.parametrize("ended", [False, True])
def test_a_sweep_that_came_in_while_the_lock_was_gone_keeps_its_records(tmp_path, unlocked, ended):
    lock = open_folder(unlocked.path, ask(tmp_path), resume=True)
    other = Folder(unlocked.path)
    for seed in range(3):
        other.write(f"search-b-s{seed}", "finished", {"val/accuracy": 0.6}, 20)
    if ended:
        lock.release()
    written = (unlocked.path / "rows.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(TakenError, match="another sweep"):
            unlocked.write("search-a-s1", "finished", {"val/accuracy": 0.6}, 20)
    assert (unlocked.path / "rows.jsonl").read_bytes() == written
    lock.release()


def test_a_sweep_that_came_in_and_left_no_record_ends_no_other(tmp_path, unlocked):
    open_folder(unlocked.path, ask(tmp_path), resume=True).release()
    unlocked.write("search-a-s1", "finished", {"val/accuracy": 0.6}, 20)
    assert trials_in(unlocked.path) == ["search-a-s0", "search-a-s1"]


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("damage", [deleted, replaced, emptied, one_byte, zeroed])
def test_what_lies_beside_the_records_stays_what_the_sweep_began_with(tmp_path, capsys, name, damage):
    sweep = tmp_path / "sweep"
    open_folder(sweep, ask(tmp_path), resume=False).release()
    (sweep / "environment.json").write_text('{"sweep_id": "search-a-s0"}')
    before = (sweep / name).read_bytes()
    folder = Folder(sweep)
    folder.write("search-a-s0", "finished", {"val/accuracy": 0.5}, 20)
    damage(sweep / name)
    if damage is replaced:
        (sweep / name).write_bytes(b"of another commit: 1")
    folder.write("search-b-s0", "finished", {"val/accuracy": 0.8}, 20)
    assert (sweep / name).read_bytes() == before
    said = f"{sweep / name} was deleted or changed while the sweep runs; written anew\n"
    assert capsys.readouterr().err == said
    folder.write("search-c-s0", "finished", {"val/accuracy": 0.8}, 20)
    assert capsys.readouterr().err == ""


def test_a_folder_that_nobody_touches_is_written_once(tmp_path, capsys, monkeypatch):
    folder = Folder(tmp_path)
    monkeypatch.setattr(folder_module, "replace", lambda file, content: pytest.fail(f"{file} was written anew"))
    for number in range(20):
        folder.write(f"search-a-s{number}", "finished", {"val/accuracy": 0.5}, 20)
        time.sleep(0.002)
    assert capsys.readouterr().err == ""


def test_a_full_disk_keeps_the_old_text(tmp_path):
    replace_text(tmp_path / "a.json", "old")
    with files_of_at_most(10), pytest.raises(OSError) as caught:  # noqa: PT011
        replace_text(tmp_path / "a.json", "new " * 100)
    assert no_space(caught.value)
    assert (tmp_path / "a.json").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["space.yaml", "environment.json"])
@pytest.mark.parametrize("content", [b"", b"a: [1", b"\xff\xfe", b"[1, 2]", b"a: \x00"])
def test_damaged_files_of_a_sweep_are_named(tmp_path, name, content):
    plan = ask(tmp_path)
    sweep = tmp_path / "sweep"
    open_folder(sweep, plan, resume=False).release()
    (sweep / "environment.json").write_text('{"sweep_id": "1"}')
    (sweep / "rows.jsonl").write_text("{}\n")
    (sweep / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name} is damaged: [^\n]*$"):
        open_folder(sweep, plan, resume=True)
    with pytest.raises(ValueError, match=rf"{name} is damaged: [^\n]*$"):
        read_module.read_report(sweep)
    with pytest.raises(ValueError, match=rf"{name} is damaged: [^\n]*$"):
        tracker.sync(sweep, f"sqlite:///{tmp_path}/mlflow.db")
    assert (sweep / name).read_bytes() == content


def test_what_has_ended_and_what_has_not(tmp_path):
    folder = Folder(tmp_path)
    folder.write("search-a-s0", "finished", {"val/accuracy": 0.5})
    folder.write("search-b-s0", "failed", error="Traceback ...")
    folder.write("search-c-s0", "stopped")
    folder.write("search-d-s0", "running", step=20)
    for recorder in (folder.recorder, Recorder(tmp_path, print)):  # also as a resumed sweep reads it
        assert [recorder.ended(f"search-{name}-s0") for name in "abcde"] == [True, False, True, False, False]
        assert recorder.ended("search-b-s0", retry_failed=False)
        found = recorder.unfinished([f"search-{name}-s0" for name in "eabcd"])
        assert found is not None
        assert found["trial"] == "search-d-s0"
        assert recorder.unfinished(["search-a-s0", "search-b-s0"]) is None
        assert recorder.failed() == {"search-b-s0": "ValueError: no"}
    assert (tmp_path / "trials" / "search-b-s0" / "error.txt").read_text() == "Traceback ..."


def test_half_a_last_line_loses_that_line_alone(tmp_path):
    folder = Folder(tmp_path)
    folder.write("search-a-s0", "finished")
    folder.write("search-b-s0", "finished")
    folder.recorder.close()
    file = tmp_path / "rows.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    again = Folder(tmp_path)
    assert again.recorder.ended("search-a-s0")
    assert not again.recorder.ended("search-b-s0")
    again.write("search-b-s0", "finished")
    again.recorder.close()
    read, unreadable = rows.read_rows(tmp_path)
    assert [record["trial"] for record in read] == ["search-a-s0", "search-b-s0"]
    assert unreadable == 1


def test_the_best_is_the_best_mean_over_seeds_of_finished_trials_of_the_search(tmp_path):
    folder = Folder(tmp_path)
    for trial, status, accuracy in [
        ("search-a-s0", "finished", 0.9),
        ("search-a-s1", "finished", 0.1),
        ("search-b-s0", "finished", 0.6),
        ("search-b-s1", "finished", 0.6),
        ("search-c-s0", "finished", 0.55),
        ("search-c-s1", "finished", 0.55),
        ("search-d-s0", "stopped", 1.0),
        ("search-e-s0", "failed", 1.0),
        ("search-f-s0", "running", 1.0),
        ("confirm-g-s0", "finished", 1.0),
    ]:
        folder.write(trial, status, {"val/accuracy": accuracy})
    metric = [Objective("val/accuracy")]
    assert folder.recorder.best(metric, 9) == [{"x": "b"}, {"x": "c"}, {"x": "a"}]
    assert folder.recorder.best(metric, 1) == [{"x": "b"}]
    assert folder.recorder.best([Objective("val/accuracy", "minimize")], 1) == [{"x": "a"}]
    assert Folder(tmp_path / "empty").recorder.best(metric, 3) == []


@pytest.mark.parametrize("lost", ["failed", "stopped", None])
def test_no_configuration_is_chosen_for_a_seed_that_it_lacks(tmp_path, lost):
    folder = Folder(tmp_path)
    for name, luck in (("solid", 0.0), ("worse", -0.1), ("lucky", 0.05), ("lame", 0.2)):
        for seed, accuracy in enumerate((0.8, 0.7, 0.6)):
            ends = seed < {"lucky": 1, "lame": 2}.get(name, 3)
            if ends or lost:
                metrics = {"val/accuracy": accuracy + luck, "time/total_seconds": 10 - luck} if ends else {}
                folder.write(f"search-{name}-s{seed}", "finished" if ends else lost, metrics)
    for metrics in (["val/accuracy"], ["val/accuracy", "time/total_seconds"]):
        found = folder.recorder.best([Objective(name) for name in metrics])
        assert [one["x"] for one in found] == ["solid", "worse", "lame", "lucky"]


def test_the_best_of_equals_does_not_depend_on_which_ended_first(tmp_path):
    for order in ("bca", "cab"):
        folder = Folder(tmp_path / order)
        for name in order:
            folder.write(f"search-{name}-s0", "finished", {"val/accuracy": 0.5})
        assert folder.recorder.best([Objective("val/accuracy")], 2) == [{"x": "a"}, {"x": "b"}]


def test_the_best_of_two_objectives_are_those_that_nothing_beats(tmp_path):
    folder = Folder(tmp_path)
    for name, accuracy, seconds in [
        ("dominated", 0.7, 9.0),  # worse than good in both
        ("good", 0.8, 5.0),
        ("best", 0.9, 20.0),
        ("quick", 0.5, 1.0),
        ("worst", 0.4, 30.0),
    ]:
        folder.write(f"search-{name}-s0", "finished", {"val/accuracy": accuracy, "time/total_seconds": seconds})
    both = [Objective("val/accuracy"), Objective("time/total_seconds")]
    found = [parameters["x"] for parameters in folder.recorder.best(both, 5)]
    assert found == ["best", "good", "quick", "dominated", "worst"]
    assert folder.recorder.best(both, 2) == [{"x": "best"}, {"x": "good"}]


# ---------------------------------------------------------------- environment


def test_the_environment_is_described_and_a_resumed_sweep_keeps_its_id(tmp_path):
    plan = ask(tmp_path)
    prepared = preflight.check_data(plan, tmp_path / "data")
    typed = "selbench sweep a.yaml --tracking-uri postgresql://me:secret@box/db"
    first = environment.describe_environment(tmp_path, prepared, 2, typed)
    (tmp_path / "environment.json").write_text(json.dumps(first))
    second = environment.describe_environment(tmp_path, prepared, 1, typed)
    assert (first["sweep_id"], first["started"]) == (second["sweep_id"], second["started"])
    assert (first["concurrent_trials"], second["concurrent_trials"]) == (2, 1)
    (data,) = first["datasets"]
    assert (data["name"], data["train"] + data["val"]) == ("digits", 1438)
    assert data["fingerprint"] == prepared[0][1].fingerprint
    assert first["packages"]["torch"]
    assert first["command"] == "selbench sweep a.yaml --tracking-uri postgresql://box/db"
    assert environment.describe_environment(tmp_path / "other", prepared, 1, typed)["sweep_id"] != first["sweep_id"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("--tracking-uri postgresql://me:pa/s@s@box/db --resume", "--tracking-uri postgresql://box/db --resume"),
        ("https://token@box:5000/a 'mysql://me:secret@box'", "https://box:5000/a 'mysql://box'"),
        (
            "s3://bucket/x@y http://box:5000/a@b sqlite:////a/b@c",
            "s3://bucket/x@y http://box:5000/a@b sqlite:////a/b@c",
        ),
    ],
)
def test_who_logs_in_is_not_shown(text, shown):
    assert messages.public(text) == shown
