"""Loggers of others hear of a sweep, and what goes wrong in one is its own affair."""

from __future__ import annotations

import struct
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from sweep_folder import SweepFolder

from harness.api import Logger
from harness.records.rows import read_rows
from harness.tracking import loggers
from harness.tracking.loggers import Loggers, find_logger

ROOT = Path(__file__).resolve().parents[2]


class Tiny(Logger):
    heard: list = []  # noqa: RUF012  emptied by each test

    def start(self, folder, question):
        self.heard.append((folder.name, question["name"]))

    def record(self, name, record):
        self.heard.append((name, record["step"], record["metrics"].get("val/accuracy")))

    def finish(self, answer):
        self.heard.append(answer)


class Failing(Tiny):
    def record(self, name, record):
        raise RuntimeError("no room")


@pytest.fixture
def sweep(tmp_path):
    sweep = SweepFolder(tmp_path / "selectors")
    sweep.trial("c1", 1, {"selector.name": "coreset"}, {100: 0.5, 200: 0.6})
    return sweep


@pytest.fixture(autouse=True)
def offered(monkeypatch):
    """A package that offers both."""
    module = types.ModuleType("of_others")
    module.Tiny, module.Failing = Tiny, Failing
    Tiny.heard.clear()
    monkeypatch.setitem(sys.modules, "of_others", module)
    points = [EntryPoint(name.lower(), f"of_others:{name}", loggers.GROUP) for name in ("Tiny", "Failing")]
    monkeypatch.setattr(loggers, "entry_points", lambda group: points if group == loggers.GROUP else [])


def tell(names, sweep):
    listening = Loggers(names, sweep.path)
    listening.start()
    for record in read_rows(sweep.path)[0]:
        listening.record(record)
    listening.finish("coreset is better", 30)


@pytest.mark.parametrize("name", ["tiny", "of_others:Tiny"])
def test_a_logger_hears_question_records_and_answer(sweep, name):
    tell([name], sweep)
    first, *records, last = Tiny.heard
    assert first == ("selectors", "selectors")
    assert last == "coreset is better"
    assert {record[0] for record in records} == {"coreset · seed 1"}
    assert [(step, value) for _, step, value in records if value] == [
        (record["step"], record["metrics"]["val/accuracy"])
        for record in read_rows(sweep.path)[0]
        if "val/accuracy" in record["metrics"]
    ]


def test_one_that_fails_is_named_once_and_the_others_go_on(sweep, capsys):
    tell(["failing", "tiny"], sweep)
    assert Tiny.heard[-1] == "coreset is better"
    assert capsys.readouterr().err == "tracking: logger failing hears no more of this sweep: RuntimeError: no room\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tini", "no logger 'tini'; did you mean 'tiny'?"),
        ("of_nobody:Tiny", "'of_nobody:Tiny' cannot be imported"),
        ("pathlib:Path", "'pathlib:Path' does not derive from harness.api.Logger"),
    ],
)
def test_what_is_no_logger_is_refused_in_a_line(name, said):
    with pytest.raises(ValueError, match="--logger") as refused:
        find_logger(name)
    assert said in str(refused.value)


def test_the_example_writes_what_tensorboard_reads(sweep, monkeypatch):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    monkeypatch.syspath_prepend(ROOT)
    tell(["examples.tensorboard_logger:TensorBoard"], sweep)
    (file,) = (sweep.path / "tensorboard" / "coreset · seed 1").iterdir()
    content, values, at = file.read_bytes(), {}, 0
    while at < len(content):  # a record: its length in 8 bytes, a checksum in 4, the event, another checksum
        (length,) = struct.unpack("<Q", content[at : at + 8])
        event = Event.FromString(content[at + 12 : at + 12 + length])
        values |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        at += length + 16
    assert values["val/accuracy", 200] == pytest.approx(0.6)
    assert len((ROOT / "examples/tensorboard_logger.py").read_text().splitlines()) < 60
