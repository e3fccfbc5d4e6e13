"""The records of a trial that was tried again, and half a line."""

from __future__ import annotations

import gzip
import json
import subprocess
import time
import zlib

import pytest

from harness.records.rows import AT_ONCE, add, by_trial, last, line, read_rows, rows_file, sealed, unpack_rows


def row(step, time, status="running", kind="epoch"):
    return {"trial": "t", "step_kind": kind, "step": step, "status": status, "time": time, "metrics": {}}


def test_a_repeated_step_voids_what_came_after_it():
    first = [row(1, 10), row(2, 20), row(3, 30), row(100, 40, kind="labels")]
    again = [row(2, 50), row(100, 60, "finished", kind="labels")]
    before = {}
    for record in first + first + again[:1]:
        add(before, record)
    again[1] = sealed(before, again[1])
    history = by_trial(first + first + again)["t"]
    assert [(record["step_kind"], record["step"], record["time"]) for record in history.values()] == [
        ("epoch", 1, 10),
        ("labels", 100, 40),
        ("epoch", 2, 50),
        ("labels", 100, 60),
    ]
    assert last(history)["status"] == "finished"


def test_an_ending_is_void_when_the_trial_goes_on():
    history = by_trial([row(1, 10), row(0, 20, "failed", kind="labels"), row(2, 30)])["t"]
    assert [record["time"] for record in history.values()] == [10, 30]
    assert last(history)["status"] == "running"


def test_a_clock_that_is_set_back_changes_nothing():
    """The order of records is that of their lines."""

    def told(times):
        history = {}
        for step, when in enumerate(times[:-1]):
            add(history, row(step, when, kind="labels"))
        ending = sealed(history, row(len(times) - 2, times[-1], "finished", kind="labels"))
        (after,) = by_trial([*history.values(), ending]).values()
        return list(after)

    assert told([10, 20, 5, 6]) == told([10, 20, 30, 40])


def test_packed_records_are_read_as_they_were(tmp_path):
    rows = [row(step, step) for step in range(AT_ONCE + 2)]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(map(line, rows)) + line(rows[0])[:30])
    plain = read_rows(tmp_path)
    subprocess.run(["gzip", "rows.jsonl"], cwd=tmp_path, check=True)
    assert rows_file(tmp_path).name == "rows.jsonl.gz"
    assert read_rows(tmp_path) == plain == (rows, 1)
    unpack_rows(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
    assert read_rows(tmp_path) == plain
    unpack_rows(tmp_path)  # and there is nothing to unpack
    assert read_rows(tmp_path) == plain


@pytest.mark.parametrize(
    "damage", [lambda packed: packed[:-9], lambda packed: packed[:20] + b"?" + packed[21:], lambda _: b"no"]
)
def test_damaged_packed_records_are_named_and_kept(tmp_path, damage):
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(damage(gzip.compress(b"".join(line(row(step, step)) for step in range(50)))))
    for read in (read_rows, unpack_rows):
        with pytest.raises(ValueError, match=r"rows\.jsonl\.gz is damaged: "):
            read(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl.gz"]


def test_half_a_line_is_skipped_and_counted(tmp_path):
    whole = line(row(1, 10))
    (tmp_path / "rows.jsonl").write_bytes(whole + whole[:30])
    assert read_rows(tmp_path) == ([row(1, 10)], 1)


def with_checksum(text: bytes) -> bytes:
    return text[:-1] + f', "crc32": "{zlib.crc32(text):08x}"}}\n'.encode()


def test_a_line_has_the_checksum_of_what_it_says():
    assert line(row(1, 10)) == with_checksum(json.dumps(row(1, 10)).encode())


@pytest.mark.parametrize(
    "strange",
    [b"", b"{}", b"[]", with_checksum(b"{}"), with_checksum(b"{no json}"), with_checksum(b"[" * 9999 + b"}"), b"\xff"],
)
def test_a_strange_line_among_many_costs_itself_alone(tmp_path, strange):
    rows = [row(number, number) for number in range(2 * AT_ONCE)]
    lines = list(map(line, rows))
    lines[AT_ONCE + 5 : AT_ONCE + 5] = [strange.rstrip(b"\n") + b"\n"]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))
    assert read_rows(tmp_path) == (rows, 1)


def test_two_records_in_one_line_are_none(tmp_path):
    two = b", ".join(line(row(number, number)).rstrip() for number in (1, 2))
    (tmp_path / "rows.jsonl").write_bytes(line(row(3, 3)) + with_checksum(two) + line(row(4, 4)))
    assert read_rows(tmp_path) == ([row(3, 3), row(4, 4)], 1)


def test_what_a_record_costs_does_not_grow_with_its_trial():
    history = {}
    begun = time.process_time()
    for step in range(20_000):
        add(history, row(step, step))
    assert time.process_time() - begun < 3
    assert len(history) == 20_000
