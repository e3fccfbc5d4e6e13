"""Results of stages: computed once, believed only if whole, named by everything that determines them."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import stage_worker
import torch
from disk import files_of_at_most

from harness.files import checksum, digest_of, no_space, refusal
from harness.trial.stages import Checkpoint, StageCache

KEY = stage_worker.KEY


class Counting:
    """A computation that knows how often it ran."""

    def __init__(self, value: dict[str, Any] | None = None):
        self.value = value or {"weights": torch.randn(5, 3), "history": [{"loss": 0.5}], "name": "x", "none": None}
        self.times = 0

    def __call__(self, _: Checkpoint) -> dict[str, Any]:
        self.times += 1
        return self.value


def the_folder(root: Path) -> Path:
    (folder,) = (root / "pretrain").iterdir()
    return folder


def test_a_second_run_finds_the_same_value(tmp_path):
    compute = Counting()
    first = StageCache(tmp_path).run("pretrain", KEY, compute)
    second = StageCache(tmp_path).run("pretrain", KEY, compute)
    assert compute.times == 1
    assert (first.cached, second.cached) == (False, True)
    assert second.digest == first.digest
    assert torch.equal(second.value.pop("weights"), compute.value["weights"])
    assert second.value == {key: item for key, item in compute.value.items() if key != "weights"}


def test_the_seconds_of_the_first_computation_survive(tmp_path):
    def slow(_: Checkpoint) -> dict[str, Any]:
        time.sleep(0.2)
        return {}

    first = StageCache(tmp_path).run("select", {"a": 1}, slow)
    assert 0.2 <= first.seconds < 2
    assert StageCache(tmp_path).run("select", {"a": 1}, slow).seconds == first.seconds

    def killed(checkpoint: Checkpoint) -> dict[str, Any]:
        slow(checkpoint)
        checkpoint.save({"epoch": 1})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StageCache(tmp_path).run("pretrain", KEY, killed)
    resumed = StageCache(tmp_path).run("pretrain", KEY, lambda checkpoint: checkpoint.load() or {})
    assert resumed.value == {"epoch": 1}
    assert 0.2 <= resumed.seconds < 2


def test_the_order_of_keys_does_not_matter_but_everything_else_does(tmp_path):
    compute = Counting()
    cache = StageCache(tmp_path)
    cache.run("pretrain", {"seed": 1, "part": {"a": 1, "b": [1, 2]}}, compute)
    cache.run("pretrain", {"part": {"b": [1, 2], "a": 1}, "seed": 1}, compute)
    assert compute.times == 1
    for kind, key in [
        ("train", KEY),
        ("pretrain", KEY | {"seed": 2}),
        ("pretrain", KEY | {"seed": 1.0}),
        ("pretrain", KEY | {"seed": "1"}),
        ("pretrain", KEY | {"part": {"a": 1, "b": [2, 1]}}),
        ("pretrain", KEY | {"more": None}),
    ]:
        assert not cache.run(kind, key, compute).cached, (kind, key)
        assert cache.run(kind, key, compute).cached, (kind, key)


def test_a_computation_that_fails_leaves_nothing(tmp_path):
    def fail(_: Checkpoint) -> dict[str, Any]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        StageCache(tmp_path).run("pretrain", KEY, fail)
    assert not StageCache(tmp_path).run("pretrain", KEY, Counting()).cached


def truncate(folder: Path) -> None:
    content = (folder / "result.pt").read_bytes()
    (folder / "result.pt").write_bytes(content[: len(content) // 2])


def change_a_byte(folder: Path) -> None:
    content = bytearray((folder / "result.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "result.pt").write_bytes(content)


def change_the_seconds(folder: Path) -> None:
    text = (folder / "meta.json").read_text()
    meta = json.loads(text)
    (folder / "meta.json").write_text(json.dumps(meta | {"seconds": meta["seconds"] + 1}))


def break_meta(folder: Path) -> None:
    (folder / "meta.json").write_text('{"seconds": 1')


def empty_meta(folder: Path) -> None:
    (folder / "meta.json").write_text("[]")


def wrong_checksum(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"checksum": "0" * 24}))


def lose_own_checksum(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    del meta["own_checksum"]
    (folder / "meta.json").write_text(json.dumps(meta))


def lose_result(folder: Path) -> None:
    (folder / "result.pt").unlink()


def lose_meta(folder: Path) -> None:
    (folder / "meta.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        change_a_byte,
        change_the_seconds,
        break_meta,
        empty_meta,
        wrong_checksum,
        lose_own_checksum,
        lose_result,
        lose_meta,
    ],
)
def test_a_damaged_result_is_computed_again(tmp_path, damage):
    compute = Counting()
    StageCache(tmp_path).run("pretrain", KEY, compute)
    damage(the_folder(tmp_path))
    again = StageCache(tmp_path).run("pretrain", KEY, compute)
    assert compute.times == 2
    assert not again.cached
    assert StageCache(tmp_path).run("pretrain", KEY, compute).cached
    assert compute.times == 2


def test_a_result_with_code_in_it_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    StageCache(tmp_path).run("pretrain", KEY, Counting())
    folder = the_folder(tmp_path)
    torch.save({"weights": Bomb()}, folder / "result.pt")
    meta = json.loads((folder / "meta.json").read_text())
    meta["checksum"] = checksum(folder / "result.pt")
    (folder / "meta.json").write_text(json.dumps(meta))
    assert not StageCache(tmp_path).run("pretrain", KEY, Counting()).cached
    assert not (tmp_path / "exploded").exists()


def test_nothing_temporary_is_left(tmp_path):
    StageCache(tmp_path).run("pretrain", KEY, lambda checkpoint: checkpoint.save({"a": 1}) or {"b": 2})
    assert {file.name for file in the_folder(tmp_path).iterdir()} <= {"result.pt", "meta.json", "lock"}


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_due_after_its_interval_and_damage_counts_as_none(tmp_path, capsys):
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt", every_seconds=0.1)
    assert checkpoint.load() is None
    assert not checkpoint.due
    time.sleep(0.12)
    assert checkpoint.due
    checkpoint.save({"epoch": 3})
    assert not checkpoint.due
    assert checkpoint.load() == {"epoch": 3}
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    for damaged in (whole[:40], b"", whole[:-1], _with_one_bit_changed(whole)):
        (tmp_path / "checkpoint.pt").write_bytes(damaged)
        assert checkpoint.load() is None
        assert "damaged checkpoint" in capsys.readouterr().err


def _with_one_bit_changed(content: bytes) -> bytes:
    """In a tensor or a number, which the reader of torch does not notice."""
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("size", [0, 100, 5_000, 50_000])
def test_a_full_disk_leaves_nothing_and_is_named_as_one(tmp_path, size):
    value = {"weights": torch.randn(100, 500)}
    with files_of_at_most(size), pytest.raises(OSError, match=r"result.pt") as caught:
        StageCache(tmp_path).run("pretrain", KEY, lambda _: value)
    assert no_space(caught.value)
    assert [file.name for file in the_folder(tmp_path).iterdir()] == ["lock"]
    assert not StageCache(tmp_path).run("pretrain", KEY, lambda _: value).cached
    assert StageCache(tmp_path).run("pretrain", KEY, lambda _: value).cached


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint.pt")
    checkpoint.save({"epoch": 3, "weights": torch.ones(10)})
    with files_of_at_most(5_000), pytest.raises(OSError, match=r"checkpoint.pt"):
        checkpoint.save({"epoch": 4, "weights": torch.randn(100, 500)})
    state = checkpoint.load()
    assert state
    assert state["epoch"] == 3
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_stage_whose_folder_is_wiped_while_it_is_computed_is_kept(tmp_path):
    root = tmp_path / "stages"

    def compute(checkpoint: Checkpoint) -> dict[str, Any]:
        shutil.rmtree(root)
        checkpoint.save({"epoch": 1})
        assert checkpoint.load() == {"epoch": 1}
        shutil.rmtree(root)
        return {"weights": torch.ones(3)}

    assert not StageCache(root).run("pretrain", KEY, compute).cached
    assert StageCache(root).run("pretrain", KEY, compute).cached


def test_only_the_harness_own_places_end_a_sweep_when_they_are_closed(tmp_path):
    closed = OSError(errno.EROFS, "Read-only file system", str(tmp_path / "stages/pretrain/a/result.pt"))
    assert refusal(closed, tmp_path / "stages", tmp_path / "data") is closed
    assert refusal(closed, tmp_path / "data") is None  # a plugin's own file: its trial fails
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = closed
    assert refusal(wrapped, tmp_path) is closed
    full = OSError(errno.ENOSPC, "No space left on device")
    assert refusal(full) is full
    assert refusal(FileNotFoundError(errno.ENOENT, "none", str(tmp_path / "x")), tmp_path) is None
    assert refusal(None) is None


# ---------------------------------------------------------------- several processes


def processes() -> Any:
    """Processes of their own that import torch once, in the server they are forked from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    return context


def test_eight_processes_at_the_same_moment_compute_it_once(tmp_path):
    context = processes()
    log, barrier = tmp_path / "log", context.Barrier(8)
    workers = [
        context.Process(target=stage_worker.race, args=(tmp_path / "stages", log, barrier), daemon=True)
        for _ in range(8)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    lines = log.read_text().splitlines()
    assert lines.count("computed") == 1
    got = [line.split() for line in lines if line.startswith("got")]
    assert len(got) == 8
    assert len({(total, seconds) for _, total, seconds, _ in got}) == 1
    assert [cached for *_, cached in got].count("False") == 1


def test_a_killed_process_is_replaced_by_one_that_was_waiting(tmp_path):
    context = processes()
    started = context.Event()
    worker = context.Process(target=stage_worker.stall, args=(tmp_path, started), daemon=True)
    worker.start()
    assert started.wait(60)
    states: list[Any] = []

    go_on = stage_worker.goes_on(states)
    waiting = threading.Thread(target=lambda: states.append(StageCache(tmp_path).run("pretrain", KEY, go_on)))
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    assert not states, "the stage was computed beside the process that held it"
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    waiting.join(30)
    state, stage = states
    assert state["half"].tolist() == [1.0, 2.0]
    assert float(stage.value["whole"]) == 3.0
    assert not (the_folder(tmp_path) / "checkpoint.pt").exists()
    worker.join(10)


def test_digests_do_not_depend_on_the_process_or_the_text_encoding():
    assert digest_of({"b": 1, "a": "ä"}) == digest_of({"a": "ä", "b": 1}) == digest_of(json.loads('{"a":"ä","b":1}'))
    assert len(digest_of({})) == 24
