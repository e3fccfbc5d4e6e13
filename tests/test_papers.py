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
from harness.report.read import read_report

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


def test_a_claim_is_judged_by_the_first_sweep_that_tests_it(tmp_path):
    """Three seeds at the source's size, or trials of others there, leave the word to five at the small one."""
    sweep(tmp_path, 0.05)
    sweep(tmp_path, -0.05, seeds=3, name="few")
    other = SweepFolder(tmp_path / "other", reference=RANDOM)
    for seed in range(5):
        other.trial("k", seed, KMEANS, {100: 0.6})
    for large in ("few", "other"):
        (line,) = papers.lines([row(BETTER, large=(large,))], tmp_path)
        assert re.search(r"\*\*reproduced\*\* \(.5.0 ± .*, n = 5, small size\)", line[-1]), large
    sweep(tmp_path, -0.05, name="whole")
    (line,) = papers.lines([row(BETTER, large=("whole",))], tmp_path)
    assert "**contradicted**" in line[-1]
    assert "n = 5, large size)" in line[-1]
    (line,) = papers.lines([row(BETTER, large=("gone",))], tmp_path)
    assert line[-1].endswith("n = 5).")


def test_a_claimed_configuration_that_failed_everywhere_is_untested_and_the_others_are_listed(tmp_path):
    folder = SweepFolder(tmp_path / "asked", reference=RANDOM)
    for seed in range(5):
        folder.trial("a", seed, RANDOM, {100: 0.6})
        folder.trial("b", seed, CORESET, {}, status="failed", error="NaN")
        for k in range(papers.MOST_SHOWN + 1):
            folder.trial(f"k{k}", seed, {**KMEANS, "selector.n_init": k}, {100: 0.5})
    (line,) = papers.lines([row(BETTER)], tmp_path)
    assert line[-1] == "CoreSet is better: **untested** (n = 0)."
    assert "random 59.0" in line[papers.HEADER.index("ours, small")]


def test_configurations_of_one_method_on_two_grounds_can_be_claimed_about(tmp_path):
    parameters = {"backbone.width": {"values": [8, 32]}, "selector.name": {"values": ["random", "coreset"]}}
    folder = SweepFolder(tmp_path / "asked", parameters=parameters)
    for seed, level in enumerate(LEVELS):
        for width in (8, 32):
            for selector in (RANDOM, CORESET):
                value = level + width / 1000 + 0.001 * (-1) ** seed * (width > 8)
                folder.trial(
                    f"{selector}{width}".replace("'", ""), seed, {"backbone.width": width, **selector}, {100: value}
                )
    wide, narrow = ({"backbone.width": width, **RANDOM} for width in (32, 8))
    claims = [Claim("Wider is better", wide, narrow), Claim("Narrower is better", narrow, wide)]
    (line,) = papers.lines([row(*claims)], tmp_path)
    assert re.search(r"Wider is better: \*\*reproduced\*\* .* Narrower is better: \*\*contradicted\*\*", line[-1])


@pytest.mark.parametrize("until", [False, True])
def test_a_claim_is_judged_as_the_report_of_its_sweep_judges(tmp_path, until):
    """At the level of its looks, and as an indication where both sides failed under a seed."""
    seeds = {"max": 30, "until": "resolved", "block": 5, "split": "same"} if until else list(range(6))
    folder = SweepFolder(tmp_path / "asked", seeds=seeds, reference=RANDOM)
    for seed, wobble in enumerate((0.011, -0.011, 0.0055, -0.0055, 0.0)):
        for name, parameters, lead in (("a", RANDOM, 0.0), ("b", CORESET, 0.0125 + wobble)):
            folder.trial(name, seed, parameters, {100: 0.6 + (lead if until else 4 * (lead - wobble) + wobble)})
    for name, parameters in (("a", RANDOM), ("b", CORESET), ("c", KMEANS)) if not until else ():
        folder.trial(
            name, 5, parameters, {} if name < "c" else {100: 0.6}, status="failed" if name < "c" else "finished"
        )
    report = read_report(folder.path)
    (kind,) = [one.kind for one in report.confirmed if one.id == "b"]
    assert kind == ("none" if until else "indication")
    assert papers.verdict(BETTER, report)[0] == "not resolved"


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
