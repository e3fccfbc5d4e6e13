"""A folder that holds trials of different data says so and compares nothing; of different code, it says so."""

import pytest
from sweep_folder import SweepFolder, selection_sweep

from harness.records.rows import line, read_rows
from harness.report import terminal
from harness.report.comparability import obstacles
from harness.report.mixture import mixed_code, mixed_data
from harness.report.read import read_report
from harness.report.write import write_report

RANDOM, CORESET = {"selector.name": "random"}, {"selector.name": "coreset"}


def folder(path, origins, parameters=(RANDOM, CORESET), **space):
    """Two configurations under three seeds; `origins` says of configuration and seed which data and code they are."""
    sweep = SweepFolder(path, **space)
    for name, chosen in zip("rc", parameters, strict=True):
        for seed in (1, 2, 3):
            rows = sweep.records(name, seed, chosen, {200: 0.5 + 0.01 * seed + (name == "c") * (0.1 + 0.001 * seed)})
            sweep.append([row | origins(name, seed) for row in rows])
    return path


def same(name, seed):
    return {"data": "a" * 12, "code": name * 12}


@pytest.mark.parametrize("origins", [same, lambda name, seed: {}], ids=["one", "none noted"])
def test_trials_of_one_data_set_are_compared(tmp_path, origins):
    report = read_report(folder(tmp_path / "s", origins))
    assert report.mixed == []
    assert [entry.verdict for entry in report.confirmed] == ["better", "reference"]


MIXED = {
    "one trial": lambda name, seed: same(name, seed) | ({"data": "b" * 12} if (name, seed) == ("c", 3) else {}),
    "a seed of all": lambda name, seed: same(name, seed) | ({"data": "b" * 12} if seed == 3 else {}),
    "a configuration": lambda name, seed: same(name, seed) | ({"data": "b" * 12} if name == "c" else {}),
}


@pytest.mark.parametrize("case", MIXED)
def test_trials_of_two_are_named_and_not_compared(tmp_path, case, capsys):
    report = write_report(folder(tmp_path / "s", MIXED[case]))
    (said,) = report.mixed
    assert "of different data" in said
    assert "bbbbbbbbbbbb in confirm-" in said
    assert "confirm-c-s3" in said
    assert report.answer == f"No answer. {said}"
    assert {entry.verdict for entry in report.confirmed} == {"reference", "not compared"}
    assert not any(entry.judgement for entry in report.confirmed)
    for name in ("summary.md", "report.html"):
        text = (tmp_path / "s" / name).read_text()
        assert said in text
        assert "not compared" in text
    terminal.print_report(report)
    assert " ".join(said.split()) in " ".join(capsys.readouterr().out.split())
    other = read_report(folder(tmp_path / "other", same))
    assert said in obstacles(report, other)


def test_trials_of_one_configuration_that_ran_other_code_are_named(tmp_path, capsys):
    other = lambda name, seed: same(name, seed) | ({"code": "b" * 12} if (name, seed) == ("c", 3) else {})  # noqa: E731
    report = write_report(folder(tmp_path / "s", other))
    said = "ran different code or packages: cccccccccccc in confirm-c-s1, confirm-c-s2; bbbbbbbbbbbb in confirm-c-s3."
    assert said in report.all_notes[0]
    for name in ("summary.md", "report.html"):
        assert said in (tmp_path / "s" / name).read_text()
    terminal.print_report(report)
    assert said in " ".join(capsys.readouterr().out.split())


DATA = {
    "a share": ({"data.fraction": 0.5}, {"data.fraction": 1.0}, {}),
    "another set": ({"dataset": "digits"}, {"dataset": {"name": "npz", "path": "x"}}, {}),
    "cases": ({"case": "one"}, {"case": "two"}, {"cases": {"one": {"data.val": 10}, "two": {"data.val": 20}}}),
    "recipes": (
        {"recipe": "one"}, {"recipe": "two"}, {"recipes": {"one": {"dataset": "digits"}, "two": {"dataset": "npz"}}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DATA)
def test_settings_that_ask_for_other_data_are_no_mixture(tmp_path, case):
    one, two, space = DATA[case]
    by_settings = lambda name, seed: {"data": name * 12, "code": name * 12}  # noqa: E731
    assert read_report(folder(tmp_path / "s", by_settings, (one, two), **space)).mixed == []
    by_seed = lambda name, seed: {"data": f"{name}{seed}" * 6, "code": name * 12}  # noqa: E731
    assert read_report(folder(tmp_path / "t", by_seed, (one, two), **space)).mixed != []


def test_trials_that_ran_otherwise_are_told(tmp_path):
    """On another device or in another precision, where the question did not ask for it."""

    def computed(name, seed):
        return same(name, seed) | {"compute": "cuda bfloat16" if name == "c" else "cpu float32"}

    report = read_report(folder(tmp_path / "s", computed))
    (said,) = [note for note in report.notes if "precisions" in note]
    assert "cpu float32 in confirm-r-s1" in said
    assert "cuda bfloat16 in confirm-c-s1" in said
    assert report.mixed == []
    asked = [RANDOM | {"compute.precision": "float32"}, CORESET | {"compute.precision": "bfloat16"}]
    assert not any("precisions" in note for note in read_report(folder(tmp_path / "t", computed, asked)).notes)
    assert not any("precisions" in note for note in read_report(folder(tmp_path / "u", same)).notes)


def test_splits_that_are_drawn_anew_for_each_seed_are_no_mixture(tmp_path):
    fresh = {"seeds": {"values": [1, 2, 3], "split": "fresh"}}
    by_seed = lambda name, seed: {"data": str(seed) * 12, "code": name * 12}  # noqa: E731
    assert read_report(folder(tmp_path / "s", by_seed, **fresh)).mixed == []
    other = lambda name, seed: by_seed(name, seed) | ({"data": "b" * 12} if (name, seed) == ("c", 3) else {})  # noqa: E731
    assert read_report(folder(tmp_path / "t", other, **fresh)).mixed


def test_cases_and_recipes_that_say_nothing_of_the_data_may_not_have_other_data(tmp_path):
    by_name = lambda name, seed: {"data": name * 12, "code": name * 12}  # noqa: E731
    cases = {"cases": {"one": {"pretrain.lr": 0.1}, "two": {"pretrain.lr": 0.2}}}
    assert read_report(folder(tmp_path / "s", by_name, ({"case": "one"}, {"case": "two"}), **cases)).mixed
    recipes = {"recipes": {"one": {"dataset": "digits", "pretrain": {}}, "two": {"dataset": "digits"}}}
    assert read_report(folder(tmp_path / "t", by_name, ({"recipe": "one"}, {"recipe": "two"}), **recipes)).mixed


def test_curves_over_rounds_are_not_compared_either(tmp_path):
    sweep = selection_sweep(tmp_path / "s", {"random": 0.0, "coreset": 0.05}, rounds=3)
    assert read_report(sweep.path).rounds is not None
    records, _ = read_rows(sweep.path)
    marked = [line(record | {"data": "ab"[number % 2] * 12}) for number, record in enumerate(records)]
    (sweep.path / "rows.jsonl").write_bytes(b"".join(marked))
    report = read_report(sweep.path)
    assert report.mixed
    assert report.rounds is None


def test_trials_that_failed_are_in_no_table():
    record = {"trial": "t", "configuration": "c", "parameters": {}, "step_kind": "labels", "step": 0, "metrics": {}}
    histories = [
        {("labels", 0, status): record | {"status": status, "data": digits, "code": digits}}
        for status, digits in [("finished", "a"), ("failed", "b"), ("running", "c")]
    ]
    assert mixed_data({}, histories) == mixed_code(histories) == []
