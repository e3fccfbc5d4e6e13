"""An installed wheel works without the checkout: its commands, its data, its demo, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from harness.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["confirm.top=1", "confirm.seeds=[1]", "trial.pretrain.epochs=1"]
SMALL += ["parameters.augmentation.first={values: [crop]}", "parameters.augmentation.second={values: [flip, blur]}"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of an environment in which the wheel is installed, its dependencies those of this one."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    build = [*pip, "wheel", *quiet, "--no-build-isolation", "--wheel-dir", str(folder), str(copied(folder / "source"))]
    subprocess.run(build, check=True, timeout=300)
    venv.create(folder / "env")
    (wheel,) = folder.glob("*.whl")
    python = str(folder / "env/bin/python")
    subprocess.run([*pip, "--python", python, "install", *quiet, str(wheel)], check=True, timeout=300)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not read
    return folder / "env/bin"


def copied(to: Path) -> Path:
    """The tracked and new files of the checkout, so that building leaves nothing in it."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    parts = ["harness", "baselines", "*.toml", "docs/package.md", "LICENSE"]
    files = subprocess.run([*listed, *parts], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for file in filter(None, files.split("\0")):
        (to / file).parent.mkdir(parents=True, exist_ok=True)
        (to / file).write_bytes((ROOT / file).read_bytes())
    return to


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_wheel_answers_its_question_in_an_empty_folder(installed, tmp_path):
    def run(*words: str) -> str:
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([installed / words[0], *words[1:]], cwd=tmp_path, env=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = run("python", "-c", "import harness; print(harness.__path__[0])").strip()
    assert Path(place).is_relative_to(installed.parent)
    assert (Path(place) / "py.typed").is_file()
    assert '"moco_v2"' in run("selbench", "plugins", "--json")
    (tmp_path / "mine.py").write_text("from baselines.selectors.random import Random as Mine\n")
    (tmp_path / "trial.yaml").write_text("{ssl_method: none, labels: {start: 9}, selector: 'mine:Mine'}")
    assert "val/accuracy" in run("selbench", "trial", "trial.yaml")
    run("selbench", "demo", "--quiet", *(word for setting in SMALL for word in ("--set", setting)))
    assert "augment" in run("selbench", "report", "results/runs/augment")
    assert "<svg" in (tmp_path / "results/runs/augment/report.html").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_under_its_name(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: selbench {name} ")


def test_a_command_that_is_none_is_told_the_nearest(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["swep"])
    assert "no command 'swep'; did you mean 'sweep'?" in capsys.readouterr().err
