"""What README.md and docs/ tell people holds: commands run, YAML plans, Python executes, links lead somewhere.

A command that would take minutes, or a machine of its own, runs as a quick equivalent out of `EQUIVALENTS`; one that is
not named there runs as it stands.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from harness import metrics
from harness.__main__ import main as selbench
from harness.config import parsing, plan, recipes, trial
from harness.config.schema import Problems, setting
from harness.data import splits
from harness.sweep import preflight

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "docs"))
import generate  # noqa: E402

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"sh", "yaml", "python", "text", "toml"}
PROGRAMS = r"(?:make|python|selbench|mlflow|git|pip|cd|\.|ray|docker|ssh|kubectl|tmux|export) "

SMALL = (
    "--set trial.dataset=digits --set trial.data.fraction=0.3 --set trial.backbone='{name: dcnn3, width: 4}' "
    "--set trial.pretrain='{epochs: 1, batch_size: 64}' --set trial.classifier='{name: linear, epochs: 3}' "
)
EQUIVALENTS = [
    # what is written, what runs in its place, and why; each line is applied to what the lines above have made of it
    (r"(.*)<name>(.*)", r"\1augment\2", "a placeholder"),
    (r"(.*) FILE( .*)?", r"\1 search_spaces/ssl_methods.yaml\2", "a placeholder"),
    (r"(.*) FOLDER( .*)?", r"\1 results/runs/augment\2", "a placeholder"),
    (r"(.*) --tracking-uri (?:URI|http://HOST:5000)", r"\1", "a server that is not here"),
    (r"python -m harness\.report", "python -m harness.report results/runs/augment", "named in passing"),
    (
        r"(python -m harness\.report) results/runs/one results/runs/other (.*)",
        r"\1 results/ssl_methods results/ssl_methods_longer \2",
        "two sweeps that there are",
    ),
    (r"selbench report --serve .*", "", "it ends when it is told to; test_serve.py"),
    (r"(python -m harness\.report results/runs/augment) --figures pdf", r"\1", "test_page.py draws them"),
    (r"python -m benchmarks\..*", "", "minutes: it measures"),
    (r"python -m harness\.(sweep|trial)", r"python -m harness.\1 --help", "named in passing"),
    (r"python -m examples\.foreign_layouts .*", "", "test_foreign_layouts.py lays some out"),
    (r"python -m harness\.embed .*", "python -m harness.embed --help", "test_embed.py embeds with encoders of sweeps"),
    (
        r"(?:selbench |python -m harness\.)pick.*",
        "python -m harness.pick --help",
        "test_pick.py picks with sweeps and encoders",
    ),
    (
        r"(ray|kubectl|docker|sbatch|export) .*",
        "",
        "needs machines; test_cluster.py and test_deploy.py try what can be tried",
    ),
    (
        r"((?:python -m harness\.|selbench )sweep (?:my_question|own_folder|search_spaces/start/\w+)\.yaml --dry-run)",
        r"\1 --quiet",
        "looks at images that the reader has; test_own_material.py makes some and looks",
    ),
    (r"selbench demo", "selbench demo --dry-run --quiet", "minutes; test_wheel.py runs it as installed"),
    (r"make (.*)", r"make -n \1", "sets up an environment of its own; commands of the harness that it prints are run"),
    (r"\. \.venv/bin/activate", "", "the tests run inside an environment already"),
    (
        r"python -m harness\.sweep (?:my_question|search_spaces/start/\w+)\.yaml (--show .*)",
        r"python -m harness.sweep search_spaces/augment.yaml \1",
        "the same of images that are there",
    ),
    (
        r"(python -m harness\.sweep (?!search_spaces/augment\.yaml$)(?!.*--dry-run)(?!.*--show).*?)( --resume)?",
        r"\1 --dry-run --quiet",
        "minutes; the slow test below runs those of the tutorial as written, and test_sweep.py resumes a sweep",
    ),
    (
        r"(python -m harness\.sweep search_spaces/augment\.yaml)",
        rf"\1 --quiet {SMALL} --set confirm.seeds=[1] --set confirm.top=1 --set resources.max_concurrent=1 "
        "--set parameters.augmentation.first='{values: [crop]}' "
        "--set parameters.augmentation.second='{values: [flip, blur]}'",
        "the same sweep, minutes shorter",
    ),
    (
        r"(python -m harness\.trial .*)",
        rf"\1 {SMALL} --set trial.labels='{{start: 20, budget: 5, rounds: 1}}'",
        "the same trial, minutes shorter",
    ),
]
REFUSED = {"python -m harness.sweep my_question.yaml --set trial.backbone=resnet8"}
"""Commands that show an error message; they exit with 2."""


def equivalent(command: str, used: set[str] | None = None) -> str:
    """What runs in a test instead of a command; `used` collects the patterns that were needed."""
    for pattern, replacement, _ in EQUIVALENTS:
        if re.fullmatch(pattern, command):
            command = re.sub(f"^(?:{pattern})$", replacement, command)
            (used if used is not None else set()).add(pattern)
    return command


QUICK_SWEEP = equivalent("python -m harness.sweep search_spaces/augment.yaml")


# Reading the pages --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A piece of code of a page, and the name of the file that the page gives it."""

    page: Path
    line: int
    language: str
    text: str
    file: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Every fenced and indented block, and what looks like a command in running text."""
    found, before, text = [], "", page.read_text(encoding="utf-8")
    for token in MarkdownIt("commonmark", {"html": False}).enable("table").parse(text):
        line = (token.map or [0])[0] + 1
        if token.type == "inline":
            before = token.content
            spans = [child.content for child in token.children or [] if child.type == "code_inline"]
            found += [
                Block(page, line, "sh", span) for span in spans if re.match(r"(make|python -m|selbench) \w", span)
            ]
        elif token.type == "code_block":
            commands = [row for row in token.content.splitlines() if re.match(PROGRAMS, row)]
            found += [Block(page, line, "sh", "\n".join(commands))] if commands else []
        elif token.type == "fence":
            found += _fenced(page, line, token.info.strip(), token.content, before)
    return found


def _fenced(page: Path, line: int, info: str, content: str, before: str) -> list[Block]:
    named = re.search(r"`(?:[\w/]+/)?([\w.]+\.(?:yaml|py))`:$", before)
    file = named[1] if named else ""
    if info.startswith("{code-block}"):
        options, _, content = content.partition("\n\n")
        file = re.search(r":caption: (\S+)", options)[1]  # type: ignore[index]
        info = info.split()[1]
    return [] if info.startswith("{") else [Block(page, line, info, content, file)]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def commands() -> list[tuple[Block, str]]:
    """Every command once for each page."""
    found = {}
    for block in of("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            command = shlex.join(shlex.split(line, comments=True))
            if command:
                found.setdefault((block.page, command), block)
    return [(block, command) for (_, command), block in found.items()]


# Running them -------------------------------------------------------------------------------------------------------


class Desk:
    """A folder that looks like the checkout to the commands, with nothing in it that they could harm."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("search_spaces", "Makefile", "pyproject.toml", "constraints.txt", "docs", "README.md", "tests"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "results").mkdir()
        for kept in (ROOT / "results").glob("*/space.yaml"):
            shutil.copytree(kept.parent, folder / "results" / kept.parent.name)
        (folder / "results/papers.yaml").symlink_to(ROOT / "results/papers.yaml")
        self._swept = False

    def write_files(self, page: Path) -> None:
        """The files that a page tells its reader to write; a page without uses those of the tutorial."""
        named = [block for block in BLOCKS if block.file]
        shared = [block for block in named if block.page.name == "tutorial.md" or block.language == "python"]
        for block in [*shared, *(block for block in named if block.page == page)]:
            (self.folder / block.file).write_text(block.text)

    def sweep(self) -> None:
        """The sweep that others look at, once."""
        if not self._swept:
            self._swept = True
            assert self.call(QUICK_SWEEP) == 0

    def run(self, command: str) -> int:
        """Runs a command as it would be typed here; returns its exit status."""
        if "results/runs/augment" in command:
            self.sweep()
        if command != QUICK_SWEEP:
            return self.call(command)
        self.sweep()
        return 0

    def call(self, command: str) -> int:
        words = shlex.split(command)
        if not words:
            return 0
        if words[0] == "selbench" or (words[:2] == ["python", "-m"] and words[2].startswith("harness.")):
            main, arguments = (selbench, words[1:]) if words[0] == "selbench" else (main_of(words[2]), words[3:])
            try:
                return main(arguments)
            except SystemExit as exit:
                return int(exit.code or 0)
        if words[:2] == ["make", "-n"]:
            return self._make(words)
        pytest.fail(f"nobody knows how to run `{command}` in a test: give it an equivalent in EQUIVALENTS")

    def _make(self, words: list[str]) -> int:
        try:
            harness = harness_commands(words, self.folder)
        except subprocess.CalledProcessError as error:
            return error.returncode
        return max((self.run(equivalent(command)) for command in harness), default=0)


def main_of(module: str) -> Callable[[list[str]], int]:
    """What `python -m module` calls with its arguments."""
    command = importlib.import_module(module)
    return (importlib.import_module(f"{module}.__main__") if hasattr(command, "__path__") else command).main


def harness_commands(make: list[str], folder: Path) -> list[str]:
    """The commands of the harness that `make -n ...` would run."""
    printed = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=True)
    return [f"python {command}" for command in re.findall(r"python (-m harness\.\w+ .*\S)", printed.stdout)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return Desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def at_desk(desk, monkeypatch):
    """The desk as the current folder, from which modules can be imported."""
    monkeypatch.chdir(desk.folder)
    monkeypatch.syspath_prepend(desk.folder)
    return desk


def name_of(argument: object) -> str:
    return str(argument)


@pytest.mark.parametrize(("block", "command"), commands(), ids=name_of)
def test_command_runs(at_desk, block, command):
    at_desk.write_files(block.page)
    assert at_desk.run(equivalent(command)) == (2 if command in REFUSED else 0), f"{block}: {command}"


def test_a_wrong_command_is_noticed(at_desk):
    assert at_desk.run(equivalent("python -m harness.sweep search_spaces/agument.yaml")) == 2
    assert at_desk.run(equivalent("make swep")) != 0
    with pytest.raises(pytest.fail.Exception, match="EQUIVALENTS"):
        at_desk.run(equivalent("git push selbench"))


def test_every_equivalent_is_needed():
    used: set[str] = set()
    written = [command for _, command in commands()]
    for command in written:
        equivalent(command, used)
    assert [pattern for pattern, *_ in EQUIVALENTS if pattern not in used] == []
    assert set(written) >= REFUSED


@pytest.mark.parametrize("block", of("yaml"), ids=name_of)
def test_yaml_is_a_question_that_can_be_asked(at_desk, block):
    at_desk.write_files(block.page)
    file = at_desk.folder / "block.yaml"
    file.write_text(block.text)
    if "deviations" in yaml.safe_load(block.text):
        recipe = recipes.load_recipe(file)
        problems = Problems()
        for variant in (None, *(recipe.variants or {})):  # whose method is that of the page
            parsing.parse_trial(recipe.tree(variant) | {"ssl_method": "simclr"}, "trial", problems)
        problems.raise_any()
    else:
        assert preflight.preview(plan.load_plan(file, {}))


@pytest.mark.parametrize("block", of("python"), ids=name_of)
def test_python_runs(at_desk, block):
    code = compile(block.text, str(block), "exec")
    if "results/runs/augment" in block.text:
        at_desk.sweep()
    if not re.search(r"<[\w ]+>", block.text):  # such as <run id>: only the reader knows it
        exec(code, {"__name__": "snippet"})
    if "data/my_images" in block.text:
        assert len(list((at_desk.folder / "data/my_images").glob("*/*.png"))) == 1797


def test_every_block_says_what_it_is():
    assert {str(block) for block in BLOCKS if block.language not in LANGUAGES} == set()
    assert len(of("sh")) > 20
    assert len(of("yaml")) > 15


def test_messages_that_the_docs_quote_are_those_of_the_code(at_desk, capsys):
    at_desk.write_files(ROOT / "docs/tutorial.md")
    assert at_desk.call("python -m harness.sweep my_question.yaml --set trial.backbone=resnet8") == 2
    assert capsys.readouterr().err in (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    code = "".join(
        file.read_text("utf-8") for folder in ("harness", "baselines") for file in (ROOT / folder).rglob("*.py")
    )
    trouble = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\*\*`(?!make |No module )([^`]+)`", trouble, re.MULTILINE)
    pieces = [piece for message in quoted for piece in re.split(r"\.\.\.;? ?", message) if piece.strip()]
    assert len(pieces) >= 4
    assert [piece for piece in pieces if piece.strip() not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    here = [target for target in targets if target and not target.startswith("generated/")]
    assert [target for target in here if not (page.parent / target).exists()] == []


def test_links_of_what_a_package_index_shows_need_no_checkout():
    shown = ROOT / tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["readme"]
    tokens = MarkdownIt("commonmark").parse(shown.read_text(encoding="utf-8"))
    leads = [child.attrs.get("href") or child.attrs.get("src") for token in tokens for child in token.children or []]
    assert [lead for lead in leads if lead and not re.match(r"https?://|#", str(lead))] == []


def test_words_are_explained_where_they_are_first_used():
    explained = set()
    for page in sorted((ROOT / "docs").glob("*.md")):
        code = r"^```.*?^```|^    [^\n]*$|^[#|][^\n]*$|`[^`\n]*`|\*\*[^*]*\*\*"  # and what stands as a title
        text = re.sub(code, lambda piece: " " * len(piece[0]), page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for link in re.finditer(r"\[([^\]]+)\]\(glossary\.md#([\w-]+)\)", text):
            word, before = re.escape(link[1].strip("`")), text[: link.start()]
            assert not re.search(rf"(?<![\w-]){word}(?![\w-])", before), f"{page.name}: {link[1]} is used before"
            explained.add(link[2])
    defined = {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))
        for title in re.findall(r"^### (.+)$", (ROOT / "docs/glossary.md").read_text("utf-8"), re.MULTILINE)
    }
    assert explained <= defined
    assert {"pool", "oracle", "aubc", "selector", "views", "start-pool", "stage", "headroom", "worth"} <= explained


def test_the_five_questions_to_begin_with_are_the_ones_that_the_page_leads_to():
    page = (ROOT / "docs/which_question.md").read_text(encoding="utf-8")
    files = {file.name for file in (ROOT / "search_spaces/start").glob("*.yaml")}
    assert set(re.findall(r"harness\.sweep search_spaces/start/(\w+\.yaml) --dry-run", page)) == files
    assert len(files) == 5


def test_tests_that_the_docs_name_exist():
    named = {(page.name, name) for page in PAGES for name in re.findall(r"\w+/test_\w+\.py", page.read_text("utf-8"))}
    assert len(named) > 10
    assert [item for item in sorted(named) if not (ROOT / "tests" / item[1].removeprefix("tests/")).exists()] == []


# What is generated --------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of MyST-Parser about Sphinx's interfaces
def test_the_pages_build_without_a_warning(tmp_path):
    from sphinx.cmd.build import build_main

    html = tmp_path / "html"
    assert build_main(["-W", "-q", "-b", "html", "-d", f"{tmp_path}/trees", f"{ROOT}/docs", str(html)]) == 0
    page = (html / "search_spaces.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in ("the-file", "trial-pretrain", "trial-classifier"))
    fetched = re.findall(r'(?:src|href)="(https?:[^"]+\.(?:js|css|woff2?))"', page)
    assert fetched == []  # readable without a network


def test_every_key_has_its_row():
    written = generate.keys()
    for section in (plan.SweepSettings, plan.Confirm, trial.TrialConfig, trial.PretrainConfig, splits.Step):
        for item in dataclasses.fields(section):
            assert re.search(rf"^\| `{item.name}` \|", written, re.MULTILINE), f"{section.__name__}.{item.name}"
    assert all(f"| `{key}` |" in written for key in plan.QUESTION_KEYS)
    assert "| `fraction` | number | `1.0` | > 0, ≤ 1 |" in written
    assert "| `keep` | whole number | required | ≥ 1 |" in written
    assert "[selector](#plugins-selectors)" in written


def test_a_key_without_a_meaning_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Section:
        told: int = setting(1, "what it is")
        untold: int = 1

    with pytest.raises(ValueError, match="untold"):
        generate.section_table(Section)


def test_metrics_and_plugins_come_from_the_code(monkeypatch):
    new = metrics.Metric("val/luck", "nats", -float("inf"), 3, "minimize", "a|b")
    monkeypatch.setitem(metrics.METRICS, "val/luck", new)
    assert "| `val/luck` | nats | −∞ … 3 | lower | labels | a\\|b |" in generate.metrics()
    reference = generate.plugin_pages()
    assert "## `coreset`" in reference["selectors"]
    assert "| [`coreset`](#coreset) | CoreSet, Sener & Savarese 2018" in reference["selectors"]
    assert "| `queue_size` | `4096` | Q, negatives for each view, >= 1. |" in reference["ssl_methods"]
    assert "## Recipe `moco_v2`" in reference["recipes"]
    assert all(f"(plugins-{kind})=" in page for kind, page in reference.items())


def test_prose_keeps_its_code_and_links():
    assert generate.text("a_b `c_d` [1] (https://x.org/a_b).") == r"a\_b `c_d` \[1\] (<https://x.org/a_b>)."


def test_every_search_space_states_its_question_and_its_command():
    for file in sorted((ROOT / "search_spaces").rglob("*.yaml")):
        header = generate.header_of(file)
        assert header["Question"].endswith("?"), file
        assert header["Run"] == f"python -m harness.sweep {file.relative_to(ROOT)}"


# As a new user ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_tutorial_as_written(tmp_path, monkeypatch):
    """Everything of the tutorial in order, and the sweep with a selector of one's own; of make, what it would run."""
    desk = Desk(tmp_path)
    monkeypatch.chdir(tmp_path)
    for page in (ROOT / "docs/tutorial.md", ROOT / "docs/adding_a_selector.md"):
        desk.write_files(page)
        for block in blocks(page):
            if block.language == "python":
                exec(compile(block.text, str(block), "exec"), {"__name__": "snippet"})
            elif block.language == "sh":
                for command in block.text.splitlines():
                    _run_as_written(tmp_path, command)
    answer = (tmp_path / "results/runs/is_it_any_good/summary.md").read_text(encoding="utf-8")
    assert "nearest_to_mean:NearestToMean" in answer


def _run_as_written(folder: Path, command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        for made in harness_commands(["make", "-n", *words[1:]], folder):
            _run_as_written(folder, made)
    if words[0] != "python":
        return
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == (2 if command in REFUSED else 0), f"{command}: {done.stderr}"
