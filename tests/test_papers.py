"""The sources' rows beside sweeps: what is read, how a claim is judged, that every row names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sweep_folder import SweepFolder, append_rows

from harness import papers
from harness.config.plan import load_plan
from harness.config.schema import by_path
from harness.papers import Claim, Exhibit

ROOT = Path(__file__).resolve().parents[1]
CORESET, RANDOM, KMEANS = ({"selector.name": name} for name in ("coreset", "random", "kmeans"))
BETTER = Claim("CoreSet is better", CORESET, RANDOM)
LEVELS = (0.60, 0.61, 0.59, 0.605, 0.595)


def sweep(results: Path, gain: float, seeds: int = 5, name: str = "asked") -> Path:
    """CoreSet gains so much over random, by a thousandth more or less from seed to seed."""
    folder = SweepFolder(results / name, seeds=list(range(seeds)), reference=RANDOM)
    rows = []
    for seed, level in enumerate(LEVELS[:seeds]):
        wobble = 0.001 * (-1) ** seed
        for configuration, parameters, more in (("a", RANDOM, 0.0), ("b", CORESET, gain + wobble), ("c", KMEANS, 0.0)):
            rows += folder.records(configuration, seed, parameters, {100: level + more})
    append_rows(folder.path / "rows.jsonl", rows)
    return folder.path


def row(*claims: Claim, **settings) -> Exhibit:
    return Exhibit("A source", "table 1", "five words", "89.6", "asked", small=("asked",), claims=claims, **settings)


@pytest.mark.parametrize(
    ("gain", "seeds", "differs", "outcome"),
    [
        (0.05, 5, True, "reproduced"),
        (-0.05, 5, True, "contradicted"),
        (0.0, 5, True, "contradicted"),  # within one point, beyond doubt
        (0.01, 5, True, "reproduced"),
        (0.05, 4, True, "untested"),
        (0.0, 5, False, "reproduced"),
        (0.05, 5, False, "contradicted"),
    ],
)
def test_a_claim_is_judged_by_its_criteria(tmp_path, gain, seeds, differs, outcome):
    sweep(tmp_path, gain, seeds)
    claim = Claim("CoreSet is better", CORESET, RANDOM, differs=differs)
    table = papers.exhibits_table([row(claim)], tmp_path)
    assert f"CoreSet is better: **{outcome}**" in table
    assert f"n = {seeds}" in table


def test_a_claim_that_seeds_leave_open_is_not_resolved(tmp_path):
    folder = SweepFolder(tmp_path / "asked", seeds=[0, 1, 2, 3, 4], reference=RANDOM)
    rows = []
    for seed, gain in enumerate((0.1, -0.08, 0.05, -0.03, 0.02)):
        for configuration, parameters, more in (("a", RANDOM, 0.0), ("b", CORESET, gain)):
            rows += folder.records(configuration, seed, parameters, {100: 0.6 + more})
    append_rows(folder.path / "rows.jsonl", rows)
    assert "**not resolved**" in papers.exhibits_table([row(BETTER)], tmp_path)


def test_figures_stand_where_their_size_is(tmp_path):
    sweep(tmp_path / "papers", 0.05)
    (line,) = papers.lines([row(BETTER)], tmp_path)
    cells = dict(zip(papers.HEADER, line, strict=True))
    assert "coreset 64." in cells["ours, small"]
    assert "(n 5)" in cells["ours, small"]
    assert not cells["ours, paper's size"]
    (line,) = papers.lines([Exhibit("A", "t", "p", "1", "q", large=("asked",))], tmp_path)
    assert line[papers.HEADER.index("ours, small")] == "not run"
    assert "coreset" in line[papers.HEADER.index("ours, paper's size")]


def test_what_was_not_run_is_untested(tmp_path):
    (line,) = papers.lines([row(BETTER)], tmp_path)
    assert line[-3:] == ("not run", "", "CoreSet is better: **untested**.")


ROW = "source: A, what: t, protocol: p, paper: '1', question: q"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {source: A, what: t, protocol: p, paper: '1', question: q, claim: []}", r"\[0\].claim: no such key"),
        ("- {source: A, what: t, protocol: p, paper: '1'}", r"\[0\]: .*question"),
        (f"- {{{ROW}, claims: [{{says: x, than: {{}}}}]}}", r"claims\[0\]: .*better"),
        ("", r"expected a list of rows, `- source: ...`, not None"),
        ("{source: A}", r"expected a list of rows, .*, not {'source': 'A'}"),
        ("- 5", r"\[0\]: expected a mapping with keys source, what, .*, not 5"),
        ("[{: ", r"not valid YAML"),
        (f"- {{{ROW}, claims: 3}}", r"\[0\]\.claims: expected a mapping with keys says, better, .*, not 3"),
        (f"- {{{ROW}, claims: [x]}}", r"\[0\]\.claims\[0\]: expected a mapping with keys says, better, .*, not 'x'"),
        (
            f"- {{{ROW}, claims: [{{says: x, better: 5, than: {{a: 1}}}}]}}",
            r"claims\[0\]\.better: expected a mapping, not 5",
        ),
        (f"- {{{ROW}, small: augment_cifar10}}", r"\[0\]\.small: expected a list.*, not 'augment_cifar10'"),
        (f"- {{{ROW}, large: 7}}", r"\[0\]\.large: expected a list.*, not 7"),
        ("- {source: A, what: t, protocol: p, paper: '1', question: 5}", r"\[0\]\.question: expected a text, not 5"),
        ("- {source: A, what: t, protocol: p, paper: [1], question: q}", r"\[0\]\.paper: expected a text, not \[1\]"),
    ],
)
def test_a_wrong_row_is_one_line(tmp_path, capsys, text, words):
    file = tmp_path / "papers.yaml"
    file.write_text(text)
    assert papers.main(["--rows", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(file))
    assert re.search(words, line)


@pytest.mark.parametrize("name", ["", "latin.yaml", "gone.yaml"])
def test_what_is_no_file_of_rows_is_one_line(tmp_path, capsys, name):
    (tmp_path / "latin.yaml").write_bytes(b"- {source: caf\xe9}")
    assert papers.main(["--rows", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / name) in line


def test_folders_that_are_none_or_where_none_is_meant_are_one_line(tmp_path, capsys):
    file = tmp_path / "papers.yaml"
    file.write_text(f"- {{{ROW}}}")
    assert papers.main(["--rows", str(file), "--output", str(tmp_path)]) == 2
    assert papers.main(["--rows", str(file), "--results", str(tmp_path / "gone")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"--output {tmp_path}: is a folder", f"--results {tmp_path}/gone: no such folder"]


def test_a_claim_about_a_configuration_that_is_not_there_is_one_line(tmp_path, capsys):
    sweep(tmp_path, 0.05)
    file = tmp_path / "papers.yaml"
    claim = "{says: x, better: {selector.name: badge}, than: {selector.name: random}}"
    file.write_text(f"- {{source: A, what: t, protocol: p, paper: '1', question: asked, claims: [{claim}]}}")
    assert papers.main(["--rows", str(file)]) == 2
    assert 'no configurations with {"selector.name": "badge"}' in capsys.readouterr().err


EXHIBITS = papers.read_exhibits(ROOT / papers.EXHIBITS)


@pytest.mark.parametrize("one", EXHIBITS, ids=[f"{one.question}" for one in EXHIBITS])
def test_every_row_of_ours_asks_a_question_that_can_answer_its_claims(one):
    plan = load_plan(ROOT / f"search_spaces/{one.question}.yaml", {})
    known = [by_path(candidate.parameters) for candidate in plan.candidates]
    for claim in one.claims if known else ():
        for side in (claim.better, claim.than):
            fitting = [p for p in known if all(p.get(path) == value for path, value in by_path(side).items())]
            assert len(fitting) == 1, (one.question, side)
        assert len(plan.seeds) >= papers.FEWEST_SEEDS or one.large or "/" not in one.question, one.question


def test_every_question_of_the_papers_has_a_row_and_its_size_of_the_source():
    asked = {one.question for one in EXHIBITS}
    for file in (ROOT / "search_spaces/papers").glob("*.yaml"):
        if file.stem in (
            "simclr_ual_rate",
            "simclr_ual_table2_tuned",
            "typiclust_cifar10",
        ):  # no table of these sources
            continue
        assert f"papers/{file.stem}" in asked
        if "  paper:\n" in file.read_text(encoding="utf-8"):
            load_plan(file, {"trial.recipe": "paper"})
