"""Which slot did what when: by hand, and by counting seconds one by one."""

from __future__ import annotations

import itertools
import random

import pytest
from sweep_folder import START

from harness.report.sections.timeline import (
    MILLISECOND,
    PRETRAINED,
    ROUND,
    Work,
    in_slots,
    joined_bars,
    runs_of,
    shares_busy,
    without_pauses,
    work_of,
)


def history(*steps, **ending):
    """Of (kind, step, second); the last one is the ending."""
    records = {}
    for place, (kind, step, second) in enumerate(steps):
        status = "finished" if place == len(steps) - 1 else "running"
        metrics = {"pretrain/loss": 1.0} if kind == "epoch" else {}
        record = {"step_kind": kind, "step": step, "status": status, "time": START + 1000 * second, "node": "box"}
        records[kind, step, status] = record | {"metrics": metrics | (ending if status == "finished" else {})}
    return records


def seconds(work: Work) -> list[tuple[str, float, float]]:
    return [(what, start - START / 1000, end - START / 1000) for what, start, end in work.parts]


def test_what_a_trial_did_lies_between_its_records():
    done = work_of("t", history(("labels", 0, 0), ("epoch", 1, 10), ("epoch", 2, 20), ("labels", 100, 25)))
    assert seconds(done) == [(PRETRAINED, 0, 10), (PRETRAINED, 10, 20), (ROUND, 20, 25)]
    assert done.node == "box"
    assert work_of("t", history(("labels", 0, 0))) is None


def test_between_two_runs_a_trial_did_nothing():
    steps = ("labels", 0, 0), ("labels", 100, 10), ("labels", 200, 90_000)
    told = {"time/wall_seconds": 15.0, "time/portrait_seconds": 5.0}
    assert seconds(work_of("t", history(*steps, **told))) == [(ROUND, 0, 10), (ROUND, 89_980, 90_000)]


def test_pauses_are_taken_out():
    done = [Work("a", "", [(ROUND, 1000, 1010)]), Work("b", "", [(ROUND, 1005, 1020), (ROUND, 9000, 9010)])]
    moved, paused = without_pauses(done)
    assert paused == 9000 - 1020
    assert [work.parts for work in moved] == [[(ROUND, 0, 10)], [(ROUND, 5, 20), (ROUND, 20, 30)]]


def test_shares_against_counting_each_second():
    draw = random.Random(0)
    done = []
    for slot in range(3):
        at = 0
        for number in range(8):
            start, end = (at := at + draw.randint(0, 5)), (at := at + draw.randint(1, 9))
            done.append(Work(f"{slot}-{number}", "", [(ROUND, start, end)]))
    at_once = [sum(work.start <= second < work.end for work in done) for second in range(max(w.end for w in done))]
    at_once = at_once[min(work.start for work in done) :]
    assert shares_busy(done, 3) == pytest.approx(
        (sum(count == 3 for count in at_once) / len(at_once), sum(at_once) / len(at_once) / 3)
    )
    slots = in_slots(done)
    assert len(slots) == max(at_once)
    for slot in slots:
        assert all(one.end <= other.start for one, other in itertools.pairwise(slot))
    assert sorted(work.trial for slot in slots for work in slot) == sorted(work.trial for work in done)


def test_a_trial_goes_to_the_slot_that_has_been_free_for_the_shortest_time():
    """As the plain loop over all slots has it."""
    draw = random.Random(1)
    done = [Work(f"{k}", draw.choice("ab"), [(ROUND, at := draw.random(), at + draw.random() / 9)]) for k in range(300)]
    plain: list[list[Work]] = []
    for work in sorted(done, key=lambda work: work.start):
        free = [slot for slot in plain if slot[-1].node == work.node and slot[-1].end <= work.start + MILLISECOND]
        (max(free, key=lambda slot: slot[-1].end) if free else plain.append(slot := []) or slot).append(work)
    assert in_slots(done) == sorted(plain, key=lambda slot: (slot[0].node, slot[0].start))


def test_slots_of_two_nodes_are_apart():
    done = [Work("a", "one", [(ROUND, 0, 10)]), Work("b", "two", [(ROUND, 10, 20)])]
    assert [[work.trial for work in slot] for slot in in_slots(done)] == [["a"], ["b"]]


def test_a_trial_that_goes_on_later_holds_no_slot_in_between():
    first = [Work(f"{k}", "", [(ROUND, 10 * k, 10 * k + 10), (ROUND, 1000 + 10 * k, 1010 + 10 * k)]) for k in range(10)]
    runs = [run for work in first for run in runs_of(work)]
    assert len(runs) == 20
    (slot,) = in_slots(runs)
    assert [work.trial for work in slot] == [str(k) for k in range(10)] * 2
    assert len(runs_of(Work("a", "", [(PRETRAINED, 0, 1), (ROUND, 1, 5)]))) == 1


def test_thousands_of_bars_are_few_and_cover_the_same():
    spans = [(k, k + 0.9) for k in range(5000)]
    assert joined_bars(spans, 0.2) == [(0, 4999.9)]
    assert joined_bars([(0, 1), (3, 4)], 1) == [(0, 1), (3, 4)]
