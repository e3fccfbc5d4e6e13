"""The simulation of seeds that are added until resolved judges as a report does."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import statistics
from harness.report.compare import Scores, judge


@pytest.mark.parametrize(("gain", "collapses"), [(0.0, False), (0.01, True), (0.015, False)])
def test_a_simulated_family_is_that_of_a_report(gain, collapses):
    cell = statistics.Cell(3, 30, 0, 0.0, 0.0, "unequal", collapses)
    families = statistics.Families(cell, 4, np.random.Generator(np.random.SFC64(1)))
    scores, _ = families.draw(np.array([[0.0], [gain], [0.0], [-gain]]))
    differs, equivalent, trials, *_ = statistics.until_resolved(scores, None)
    for family, table in enumerate(scores):
        taken = dict.fromkeys("0123", 0)
        needed = set(taken)
        for size in statistics.PLANNED.sizes:
            taken |= dict.fromkeys(needed, size)
            known = {case: dict(enumerate(table[int(case), :n])) for case, n in taken.items()}
            columns = {0: Scores(known)}
            judged = judge(columns, "0", worth=statistics.WORTH, looks=statistics.PLANNED)[0]
            needed &= {case for case, one in judged.items() if not one.settled}
            needed |= {"0"} if needed else set()
        kinds = [judged[case].kind for case in "123"]
        small = ["by less than" in judged[case].verdict for case in "123"]
        assert [kind in ("better", "worse") for kind in kinds] == differs[family].tolist()
        assert [kind == "equivalent" for kind in kinds] == (equivalent[family] & ~np.array(small)).tolist()
        assert sum(taken.values()) / 120 == pytest.approx(trials[family])
