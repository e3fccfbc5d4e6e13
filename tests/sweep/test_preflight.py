"""What a sweep finds out about its data before the first trial: once, whatever else varies, and in few lines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from baselines.datasets.image_folder import ImageFolder
from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.records.environment import describe_environment
from harness.sweep.command import main as sweep_command
from harness.sweep.options import check_places
from harness.sweep.preflight import check_data, say_notes


@pytest.fixture
def folder(tmp_path):
    """Two classes of 15 images, and so many test images, of which three are training images."""
    for split, count in (("train", 15), ("test", 6)):
        for label, name in enumerate("ab"):
            (tmp_path / f"images/{split}/{name}").mkdir(parents=True)
            for number in range(count):
                seed = number if split == "train" or (name == "a" and number < 3) else 1000 + number
                pixels = np.random.default_rng([seed, label]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / f"images/{split}/{name}/{number}.png")
    return tmp_path / "images"


def plan_of(folder, parameters="pretrain.lr: {values: [0.1, 0.2, 0.3, 0.4]}", data="{val: 6}"):
    file = folder.parent / "q.yaml"
    file.write_text(f"""
name: q
method: grid
trial:
  dataset: {{name: image_folder, path: {folder}, size: 8}}
  data: {data}
  pretrain: {{batch_size: 8}}
  labels: {{start: 4}}
parameters: {{{parameters}}}
""")
    return load_plan(file, {})


@pytest.fixture
def opened(monkeypatch):
    """Counts how often a folder is opened for decoding."""
    times = []
    theirs = ImageFolder.open
    monkeypatch.setattr(ImageFolder, "open", lambda self: times.append(1) or theirs(self))
    return times


def problems(plan, cache):
    with pytest.raises(ConfigError) as caught:
        check_data(plan, cache)
    return caught.value.problems


def test_broken_images_cost_one_attempt_and_one_line(folder, opened, tmp_path):
    for name in ("train/a/3.png", "train/b/14.png", "test/b/0.png"):
        (folder / name).write_bytes(b"oops")
    (line,) = problems(plan_of(folder), tmp_path / "cache")
    assert len(opened) == 1
    assert line.startswith("q: trial: data set image_folder: 3 broken images: ")
    assert all(name in line for name in ("train/a/3.png", "train/b/14.png", "test/b/0.png"))
    (line,) = problems(
        plan_of(folder, "pretrain.lr: {values: [0.1, 0.2]}, data.fraction: {values: [0.5, 1.0]}"), tmp_path / "cache"
    )
    assert len(opened) == 2


def test_whatever_is_wrong_with_the_data_is_said_once(folder, opened, tmp_path):
    (line,) = problems(plan_of(folder, data="{val: 999}"), tmp_path / "cache")
    assert line.startswith("q: trial: data.val: 999 sets aside")
    lines = problems(
        plan_of(folder, "data.val: {values: [6, 998, 999]}, pretrain.lr: {values: [0.1, 0.2]}"), tmp_path / "cache"
    )
    assert [line.partition(": data.val")[0] for line in lines] == ["q: trial (val 998)", "q: trial (val 999)"]
    assert len(opened) == 1


def test_a_mistake_of_one_configuration_is_still_said_of_it_alone(folder, tmp_path):
    (line,) = problems(plan_of(folder, "pretrain.batch_size: {values: [8, 999]}"), tmp_path / "cache")
    assert line.startswith("q: trial (batch_size 999): pretrain.batch_size: 999 is more than")


def test_duplicates_are_said_and_stay_with_the_data(folder, tmp_path, capsys):
    prepared = check_data(plan_of(folder), tmp_path / "cache")
    say_notes(prepared)
    ((_, data),) = prepared
    counts = [int(note.split()[1]) for note in data.notes if "of 12 test images" in note]
    assert sum(counts) == 3
    said = capsys.readouterr().err
    assert all(f"{note}\n" in said for note in data.notes)
    assert f"{folder}/test/a/0.png = {folder}/train/a/0.png" in said
    about = describe_environment(tmp_path, check_data(plan_of(folder), tmp_path / "cache"), 1, "")["datasets"][0]
    assert about["notes"] == list(data.notes)
    assert about["tally"] == {"doubled": 3}


def test_skipping_goes_on_with_the_rest_and_says_how_many(folder, tmp_path):
    for name in ("train/a/3.png", "test/b/0.png"):
        (folder / name).write_bytes(b"oops")
    ((_, data),) = check_data(plan_of(folder, data="{val: 6, on_broken: skip}"), tmp_path / "cache")
    assert data.counts == {"pool": 23, "val": 6, "test": 11}
    assert sum("skipped 1 broken image" in note for note in data.notes) == 2
    assert data.tally == {"skipped": 2, "doubled": 3}


MEASURED = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, used = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps([process.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""A command's exit status, processor seconds and most MiB held, in a line."""


@pytest.mark.slow
def test_five_thousand_trials_are_planned_in_seconds_and_in_a_gigabyte(tmp_path):
    """In a dry run, imports included, by the processor's time."""
    file = tmp_path / "many.yaml"
    rates = [1e-3 + 1e-6 * number for number in range(50)]
    trial = {"dataset": "digits", "backbone": {"name": "dcnn3", "width": 4}, "ssl_method": "none"}
    many = {"name": "many", "seeds": list(range(100)), "parameters": {"classifier.lr": {"values": rates}}}
    trial |= {"classifier": "linear", "labels": {"start": 20}}
    file.write_text(yaml.safe_dump({**many, "trial": trial}))
    folders = [f"--{name}={tmp_path / name}" for name in ("results", "stages", "cache")]
    command = [sys.executable, "-m", "harness.sweep", str(file), *folders, "--dry-run"]
    with (tmp_path / "said").open("w+") as said:
        # By way of a small process: Linux counts what a process held before it began its program, as these tests do.
        measured = subprocess.run(
            [sys.executable, "-c", MEASURED, *command], stdout=subprocess.PIPE, stderr=said, text=True
        )
    status, seconds, mebibytes = json.loads(measured.stdout)
    text = (tmp_path / "said").read_text()
    print(f"{seconds:.1f} s, {mebibytes:.0f} MiB; {text[-500:]}")
    assert status == 0
    assert re.search(r"\b5,?000\b", text), text
    assert seconds < 30
    assert mebibytes < 1024


@pytest.mark.parametrize("option", ["--results", "--stages", "--cache"])
@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_file_where_a_folder_should_be_is_refused(tmp_path, option, below):
    (tmp_path / "file").touch()
    places = {name: tmp_path / name[2:] for name in ("--results", "--stages", "--cache")}
    places[option] = tmp_path / "file" / below
    with pytest.raises(ConfigError, match="is a file, not a folder") as caught:
        check_places(places["--results"] / "mine", places["--stages"], places["--cache"])
    assert str(caught.value).startswith(option)


@pytest.mark.parametrize("look", [["--dry-run"], ["--dry-run", "--quiet"], ["--show", "views.png"], []])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--logger", "nonesuch"], "--logger: no logger 'nonesuch'"),
        (["--tracking-uri", "postgres://box/db"], "did you mean 'postgresql://box/db'?"),
        (["--results", "ftp://box/here"], "--results ftp://box/here: expected a folder, s3://"),
        (["--results", "s3:///here"], "--results s3:///here: expected a folder, s3://"),
        (["--results", "s3:/box/here"], "--results s3:/box/here: expected a folder, s3://"),
        (["--address", "nonesuch"], "--address nonesuch: expected auto or HOST:PORT"),
        (["--stages", "there/tiny/stages", "--results", "there"], "is the sweep's own folder"),
    ],
)
def test_options_are_looked_at_in_a_look_ahead_too(look, option, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trial = {"dataset": "digits", "backbone": {"name": "dcnn3", "width": 4}, "ssl_method": "none"}
    Path("tiny.yaml").write_text(yaml.safe_dump({"name": "tiny", "trial": trial, "parameters": {}}))
    assert sweep_command(["tiny.yaml", *look, *option]) == 2
    out, errors = capsys.readouterr()
    assert said in errors
    assert errors.count("\n") == 1
    assert not out
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.yaml"]
