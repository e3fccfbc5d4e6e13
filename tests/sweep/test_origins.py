"""A sweep goes on with the data, the code and the packages that it began with, or not at all."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from trials import SMALL

from harness.config.plan import load_plan
from harness.config.schema import ConfigError
from harness.files import digest_of
from harness.records.environment import describe_environment
from harness.records.folder import claim, open_folder
from harness.records.rows import DIGITS, line, read_rows, sealed
from harness.sweep import origins
from harness.sweep.command import main
from harness.sweep.options import Options
from harness.sweep.origins import check_origins, look_at_folder
from harness.sweep.preflight import check_data
from harness.sweep.worker import record_of
from harness.trial.origin import code_behind, code_digest, origin_of

TRIAL = {**SMALL, "ssl_method": "none", "labels": {"start": 20, "budget": 10, "rounds": 1}}


def images(file: Path, count: int, seed: int = 0) -> dict:
    """A data set of so many images, as a trial's `dataset` and `data`."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    np.savez(file, x_train=pixels, y_train=np.arange(count) % 4, x_test=pixels[:40], y_test=np.arange(40) % 4)
    return {"dataset": {"name": "npz", "path": str(file)}, "data": {}}


def planned(trial=TRIAL, **space):
    return load_plan(
        {"name": "q", "trial": trial, "parameters": {"selector": {"values": ["random", "margin"]}}, **space}, {}
    )


class Ended:
    """The folder of a sweep of which some trials have ended."""

    def __init__(self, folder: Path, cache: Path, plan, status: str = "finished"):
        self.folder, self.cache = folder, cache
        open_folder(folder, plan, resume=False).release()
        self.tasks = {task.trial_id: task for task in plan.first_tasks()}
        about = describe_environment(folder, check_data(plan, cache), 1, "test")
        self.about = json.loads(json.dumps(about | {"code": code_behind(c.trial for c in plan.some_candidates())}))
        self.records = [
            record_of(task, "labels", 30, {}) | {"status": status} | origin_of(task.candidate.trial, cache).as_dict()
            for task in self.tasks.values()
        ]
        self.write()

    def write(self) -> None:
        (self.folder / "environment.json").write_text(json.dumps(self.about))
        (self.folder / "rows.jsonl").write_bytes(b"".join(line(sealed({}, record)) for record in self.records))

    def ran(self, change, of=lambda config: True) -> list[str]:
        """The trials of some configurations as if they had run other code, which `change` makes of what they run."""
        change(self.about["code"])
        changed = []
        for record in self.records:
            config = self.tasks[record["trial"]].candidate.trial
            if of(config):
                code = json.loads(json.dumps(code_behind([config])))
                change(code)
                record["code"] = digest_of(code)[:DIGITS]
                changed.append(record["trial"])
        self.write()
        return changed

    def check(self, plan) -> None:
        """As a sweep does that goes on."""
        check = lambda: check_origins(self.folder, plan, self.cache)  # noqa: E731
        open_folder(self.folder, plan, resume=True, check=check).release()


def test_what_did_not_change_goes_on(tmp_path, cache):
    ended = Ended(tmp_path / "q", cache, planned())
    ended.check(planned())
    ended.check(planned(seeds=[0, 1, 2]))


@pytest.mark.parametrize(("before", "after", "goes_on"), [
    ([0, 1], [0, 1, 2], True), ([0, 1], [0], False), ([0, 1], [1, 0], False), ([0], [1], False)])  # fmt: skip
@pytest.mark.parametrize("method", [{}, {"method": "random", "run_cap": 2}, {"method": "bayes", "run_cap": 2}], ids=str)
def test_seeds_may_be_added(tmp_path, before, after, goes_on, method):
    def open_it(seeds, resume):
        open_folder(tmp_path / "q", planned(seeds=seeds, **method), resume=resume).release()

    open_it(before, False)
    if goes_on:
        open_it(after, True)
    else:
        with pytest.raises(ConfigError, match=re.escape(f"seeds: {before} -> {after}; the trials that are here")):
            open_it(after, True)


@pytest.mark.parametrize("phase", [{}, {"confirm": {"top": 1, "seeds": [5]}}], ids=["grid", "search"])
def test_other_data_is_refused_with_its_numbers(tmp_path, phase):
    trial = TRIAL | images(tmp_path / "d.npz", 400)
    ended = Ended(tmp_path / "q", tmp_path / "data", planned(trial, **phase))
    then = ended.records[0]["data"]
    assert ended.records[0]["images"] == {"pool": 360, "val": 40, "test": 40, "doubled": 40}  # x_test is in x_train
    ended.check(planned(trial, **phase))
    before = (tmp_path / "q" / "space.yaml").read_bytes(), (tmp_path / "q" / "environment.json").read_bytes()
    images(tmp_path / "d.npz", 600)
    with pytest.raises(ConfigError) as caught:
        ended.check(planned(trial, **phase))
    (problem,) = caught.value.problems
    now = origin_of(planned(trial).candidates[0].trial, tmp_path / "data").data
    assert (
        f"the data changed since: npz: train 360 -> 540 images, val 40 -> 60 images, fingerprint {then} -> {now};"
        in problem
    )
    assert (
        f"of the former: {ended.records[0]['trial']}, {ended.records[1]['trial']} (2 of 2 trials that ended)" in problem
    )
    assert "--set name=NEW" in problem
    assert before == tuple((tmp_path / "q" / name).read_bytes() for name in ("space.yaml", "environment.json"))


def test_as_many_other_images_are_other_data_and_other_settings_are_not(tmp_path):
    trial = TRIAL | images(tmp_path / "d.npz", 400)
    fractions = {"parameters": {"data.fraction": {"values": [0.5, 1.0]}}}
    ended = Ended(tmp_path / "q", tmp_path / "data", planned(trial, **fractions))
    assert len({record["data"] for record in ended.records}) == 2
    ended.check(planned(trial, **fractions))
    images(tmp_path / "d.npz", 400, seed=1)
    with pytest.raises(ConfigError) as caught:
        ended.check(planned(trial, **fractions))
    assert [" images, fingerprint" in problem for problem in caught.value.problems] == [False, False]
    assert len({problem.partition("fingerprint")[2] for problem in caught.value.problems}) == 2


def test_a_selector_that_changed_concerns_the_trials_that_use_it(tmp_path, cache):
    ended = Ended(tmp_path / "q", cache, planned(seeds=[0, 1]))
    module = "baselines.selectors.margin"
    changed = ended.ran(
        lambda code: code["modules"].update({module: "0" * 24}), lambda config: config.selector.name == "margin"
    )
    assert len(changed) == 2
    with pytest.raises(ConfigError) as caught:
        ended.check(planned(seeds=[0, 1]))
    (problem,) = caught.value.problems
    assert (
        f"the code changed since: {module}; of the former: {', '.join(changed)} (2 of 4 trials that ended)" in problem
    )
    ended.records = [record for record in ended.records if record["trial"] not in changed]
    ended.write()
    ended.check(planned(seeds=[0, 1]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda code: code["versions"].update(torch="2.0"), f"torch 2.0 -> {torch.__version__.partition('+')[0]}"),
        (lambda code: code["versions"].pop("numpy"), f"numpy absent -> {np.__version__}"),
        (lambda code: code.update(python=[3, 1]), f"Python {sys.version_info[0]}.{sys.version_info[1]}"),
        (lambda code: code["modules"].update({"harness.trial.heads": "0"}), "harness.trial.heads"),
    ],
)
def test_other_packages_and_other_code_of_ours_are_named(tmp_path, cache, change, told):
    ended = Ended(tmp_path / "q", cache, planned())
    ended.ran(change)
    with pytest.raises(ConfigError, match=f"the code changed since: {told}"):
        ended.check(planned())


def test_weights_of_another_content_are_other_code(tmp_path, cache):
    from harness.trial.pretraining import untrained_encoder
    from harness.trial.run import load_data

    plan = planned()
    data, _ = load_data(plan.candidates[0].trial, cache, with_test=False)
    file = tmp_path / "weights.pt"
    for seed in (0, 1):
        torch.save(untrained_encoder(plan.candidates[0].trial, data, seed).state_dict(), file)
        loaded = planned(TRIAL | {"backbone": {**SMALL["backbone"], "weights": str(file)}})
        if seed == 0:
            ended = Ended(tmp_path / "q", cache, loaded)
            ended.check(loaded)
    with pytest.raises(ConfigError, match=rf"the code changed since: weights {file} of dcnn3"):
        ended.check(loaded)


@pytest.mark.parametrize("status", ["failed", "running"])
def test_trials_that_run_again_may_be_of_other_data(tmp_path, status):
    trial = TRIAL | images(tmp_path / "d.npz", 400)
    ended = Ended(tmp_path / "q", tmp_path / "data", planned(trial), status=status)
    images(tmp_path / "d.npz", 600)
    ended.check(planned(trial))


def test_a_dry_run_says_what_a_sweep_would_of_its_folder_and_changes_nothing(tmp_path, cache, capsys):
    ended = Ended(tmp_path / "runs/q", cache, planned())
    file = tmp_path / "q.yaml"
    file.write_text(yaml.safe_dump(planned().as_dict()))
    before = {path: path.read_bytes() for path in ended.folder.iterdir()}

    def dry(*words: str) -> tuple[int, str]:
        places = ["--results", str(tmp_path / "runs"), "--cache", str(cache), "--dry-run", *words]
        return main([str(file), *places]), capsys.readouterr().err

    capsys.readouterr()
    status, told = dry("--quiet")
    assert (status, told) == (0, "")
    status, told = dry()
    assert status == 0
    assert "this sweep exists; --resume continues it" in told
    assert dry("--resume")[0] == 0
    status, told = dry("--resume", "--quiet", "--set", "trial.labels.budget=5")
    assert status == 2
    assert "the trials that are here would be others" in told
    ended.ran(lambda code: code["modules"].update({"harness.trial.run": "another"}))
    before[ended.folder / "rows.jsonl"], before[ended.folder / "environment.json"] = (
        (ended.folder / name).read_bytes() for name in ("rows.jsonl", "environment.json")
    )
    for words in (["--resume"], ["--resume", "--quiet"]):
        status, told = dry(*words)
        assert status == 2
        assert "the code changed since: harness.trial.run" in told
    assert before == {path: path.read_bytes() for path in ended.folder.iterdir()}
    held = claim(ended.folder)
    status, told = dry("--resume")
    held.release()
    assert status == 2
    assert "another sweep is running in this folder" in told
    (ended.folder / "space.yaml").unlink()
    (ended.folder / "environment.json").write_text("{")
    status, told = dry("--resume")
    assert status == 2
    assert "environment.json" in told


def test_a_look_ahead_compares_the_code_also_where_data_may_have_to_be_downloaded(tmp_path, cache, monkeypatch, capsys):
    ended = Ended(tmp_path / "q", cache, planned())
    options = Options(results=str(tmp_path), cache=cache, resume=True)
    monkeypatch.setattr(origins, "may_download", lambda *_: True)
    monkeypatch.setattr(origins, "load_data", lambda *_, **__: pytest.fail("data were opened"))
    look_at_folder(ended.folder, planned(), options)
    assert "digits: whether its data changed is not known before they are here" in capsys.readouterr().err
    ended.ran(lambda code: code["modules"].update({"harness.trial.run": "another"}))
    with pytest.raises(ConfigError, match=r"the code changed since: harness\.trial\.run"):
        look_at_folder(ended.folder, planned(), options)


def test_records_that_say_nothing_of_it_are_refused(tmp_path, cache):
    ended = Ended(tmp_path / "q", cache, planned())
    for record in ended.records:
        del record["code"]
    ended.write()
    with pytest.raises(ConfigError, match="the records do not say of which data and code they are"):
        ended.check(planned())


def test_a_trial_depends_on_the_plugins_that_it_uses(cache):
    def digests(**labels):
        trial = TRIAL | {"labels": {"start": 20, **labels}}
        plans = [planned(trial | {"selector": name}, parameters={}) for name in ("random", "margin")]
        return [code_digest(plan.candidates[0].trial) for plan in plans]

    random, margin = digests(budget=10, rounds=1)
    assert random != margin
    assert len(set(digests())) == 1
    assert code_digest(planned().candidates[0].trial) == random


SELECTOR = '''"""Mine."""

from harness.api import Selector


class First(Selector):
    """The first images."""

    supports_cold_start = True

    def select(self, pool, budget, *, rng):
        """Picks."""
        return pool.unlabeled[:budget]
'''


@pytest.mark.slow
def test_a_sweep_that_goes_on_over_changed_files(tmp_path):
    """A comment is no change and seeds may be added; another selector or other images are refused before anything."""
    plugin, question = tmp_path / "mine.py", tmp_path / "q.yaml"
    plugin.write_text(SELECTOR)
    trial = TRIAL | images(tmp_path / "d.npz", 400)
    space = {"portrait": False, "trial": trial, "parameters": {"selector": {"values": ["random", "mine:First"]}}}
    question.write_text(yaml.safe_dump(space))
    rows = tmp_path / "r" / "q" / "rows.jsonl"

    def sweep(seeds, *more):
        places = [f"--{name}={tmp_path / name[0]}" for name in ("results", "stages", "cache")]
        command = [
            sys.executable,
            "-m",
            "harness.sweep",
            str(question),
            "--quiet",
            *places,
            f"--set=seeds={seeds}",
            *more,
        ]
        paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", str(Path(__file__).parents[2]))])
        return subprocess.run(
            command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, cwd=tmp_path
        )

    first = sweep("[0]")
    assert first.returncode == 0, first.stderr
    records, _ = read_rows(tmp_path / "r" / "q")
    assert {len(record[field]) for record in records for field in ("data", "code")} == {DIGITS}
    assert len({record["data"] for record in records}) == 1
    plugin.write_text(SELECTOR.replace("return", "# as they come\n        return"))
    more = sweep("[0,1]", "--resume")
    assert more.returncode == 0, more.stderr
    records, _ = read_rows(tmp_path / "r" / "q")
    assert len({(record["configuration"], record["data"], record["code"]) for record in records}) == 2
    before = rows.read_bytes()

    plugin.write_text(SELECTOR.replace("[:budget]", "[-budget:]"))
    refused = sweep("[0,1,2]", "--resume")
    assert (refused.returncode, rows.read_bytes()) == (2, before)
    assert "the code changed since: mine; of the former:" in refused.stderr
    assert "(2 of 4 trials that ended)" in refused.stderr
    plugin.write_text(SELECTOR)
    images(tmp_path / "d.npz", 500)
    refused = sweep("[0,1,2]", "--resume")
    assert (refused.returncode, rows.read_bytes()) == (2, before)
    assert "the data changed since: npz: train 360 -> 450 images" in refused.stderr
    assert "(4 of 4 trials that ended)" in refused.stderr
