"""Writes the parts of the documentation that the code itself knows into `generated/`, which git ignores.

`conf.py` calls `write` at the start of every build, so that no table can tell of a key, metric, plugin, option or
result that is not there any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import io
import math
import os
import re
import shutil
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import yaml

import baselines
from harness import api, papers
from harness.__main__ import COMMANDS
from harness.config import parsing, plan, recipes, space, trial
from harness.config.schema import as_dict
from harness.metrics import METRICS, Metric, step_kind
from harness.plugins import registry
from harness.plugins.registry import PluginSpec
from harness.plugins.shared import PREPARATIONS

ROOT = Path(__file__).resolve().parents[1]


def write(folder: Path) -> None:
    """Writes every generated file into `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in pages().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for picture in (ROOT / "results").glob("*/*.[ps][nv]g"):
        place = folder / "results" / picture.parent.name / picture.name
        if place.parent.is_dir():
            shutil.copy(picture, place)


def pages() -> dict[str, str]:
    """Path below `generated` -> Markdown."""
    return {
        "keys.md": keys(),
        "parameter_keys.md": table(
            ("key", "meaning"), [(code(key), text(about)) for key, about in space.PARAMETER_KEYS.items()]
        ),
        "distributions.md": table(
            ("distribution", "how values are drawn"),
            [(code(name), text(about)) for name, about in space.DISTRIBUTIONS.items()],
        ),
        "recipe_keys.md": section_table(recipes.Recipe) + "\n\nOf a variant:\n\n" + section_table(recipes.Variant),
        "metrics.md": metrics(),
        **{f"plugins/{kind}.md": page for kind, page in plugin_pages().items()},
        "command_line.md": command_line(),
        "pool.md": pool(),
        "questions.md": questions(),
        "papers.md": papers.exhibits_table(papers.read_exhibits(ROOT / papers.EXHIBITS), ROOT / "results"),
        "results/index.md": results(),
        **{f"results/{name}.md": content for name, content in summaries().items()},
    }


# Markdown ----------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; line breaks and bars in cells are made harmless."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in line) + " |" for line in lines)


def code(value: object) -> str:
    """As code."""
    return f"`{value}`"


def text(prose: str) -> str:
    """Prose of a docstring or a `help` as Markdown: code stays code, links become links, all else is literal."""

    def mark(found: re.Match[str]) -> str:
        if found[0].startswith("`"):
            return found[0]
        return f"<{found[0]}>" if found[0].startswith("http") else f"\\{found[0]}"

    return re.sub(r"`[^`]+`|https?://[^\s,;)]*[^\s,;).:]|[\\*_<\[\]$#~]", mark, prose)


# Keys of a search space --------------------------------------------------------------------------------------------


def keys() -> str:
    """A table for every section of a search-space file, the whole file first."""
    blocks = [
        "## The file",
        section_table(plan.SweepSettings, further=plan.QUESTION_SECTIONS),
        *below(plan.SweepSettings, ""),
    ]
    blocks += ["## `trial`", doc(trial.TrialConfig), section_table(trial.TrialConfig, further={
        parsing.RECIPE: "a paper's settings, or a file's, under those written here; see [recipes](#a-papers-settings)"
    }), *below(trial.TrialConfig, "trial")]  # fmt: skip
    return "\n\n".join(blocks)


def below(section: type, path: str) -> list[str]:
    """Headings and tables of the sections that a section's keys hold, depth first; each dataclass once."""
    blocks: list[str] = []
    hints = typing.get_type_hints(section)
    for item in dataclasses.fields(section):
        place = f"{path}.{item.name}" if path else item.name
        for inner in nested(hints[item.name]):
            if inner is trial.ClassifierConfig and item.name == "beside":
                continue  # the classifier's table stands there already
            kind = typing.get_type_hints(inner).get("kind")
            title = f"### `{place}`" + (f", kind {typing.get_args(kind)[0]}" if kind else "")
            blocks += [title, doc(inner), section_table(inner), *below(inner, place)]
    return blocks


def doc(section: type) -> str:
    """What a dataclass says of itself, the part about its attributes left out."""
    return text(inspect.cleandoc(section.__doc__ or "").partition("\n\nAttributes:")[0].replace("\n\n", "\0")).replace(
        "\0", "\n\n"
    )


def nested(hint: Any) -> list[type]:
    """The dataclasses in an annotation, other than plugins."""
    if dataclasses.is_dataclass(hint):
        return [] if hint is PluginSpec else [typing.cast(type, hint)]
    return [found for inner in typing.get_args(hint) for found in nested(inner)]


def section_table(section: type, *, further: dict[str, str] | None = None) -> str:
    """Key, type, default, range and meaning of a dataclass's fields."""
    hints = typing.get_type_hints(section)
    rows = []
    for item in dataclasses.fields(section):
        rows.append(
            (
                code(item.name),
                words(hints[item.name], item),
                default(item),
                limits(item),
                meaning(item, hints[item.name]),
            )
        )
    rows += [(code(key), "", "", "", about) for key, about in (further or {}).items()]
    return table(("key", "type", "default", "range", "meaning"), rows)


def meaning(item: dataclasses.Field, hint: Any) -> str:
    """The field's `help`, else the first sentence of the section that it holds."""
    if item.metadata.get("help"):
        return text(item.metadata["help"])
    sections = nested(hint)
    if sections:
        return text(inspect.cleandoc(sections[0].__doc__ or "").partition("\n")[0])
    if item.name == "kind":
        return "which of the kinds this is"
    raise ValueError(f"{item.name} of {item!r} has no help: give it `setting(..., help)`")


def words(hint: Any, item: dataclasses.Field | None = None) -> str:
    """An annotation for people who write YAML."""
    if hint is PluginSpec:
        kind = item.metadata["kind"] if item else ""
        return f"[{kind[:-1].replace('_', ' ')}](#plugins-{kind})"
    if dataclasses.is_dataclass(hint):
        return "section"
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(code(choice) for choice in inner)
    if origin in (tuple, list):
        return f"list: {words(inner[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(words(option) for option in inner))
    plain = {int: "whole number", float: "number", bool: "true or false", str: "text", dict: "mapping", Path: "path"}
    plain |= {type(None): "null"}
    if hint not in plain:
        raise ValueError(f"{item.name if item else hint}: no words for the type {hint}; add them to docs/generate.py")
    return plain[hint]


def default(item: dataclasses.Field) -> str:
    """The default as YAML."""
    value = item.default if item.default is not dataclasses.MISSING else ...
    if value is ...:
        return "required"
    if isinstance(value, PluginSpec):
        return code(value.name)
    if dataclasses.is_dataclass(value):
        return ""
    plain = as_dict(value)
    if isinstance(plain, list) and any(isinstance(entry, dict) for entry in plain):
        plain = [{key: inner for key, inner in entry.items() if inner is not None} for entry in plain]
    shown = yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
    return code('""' if plain == "" else shown)


def limits(item: dataclasses.Field) -> str:
    """The range of a number."""
    signs = {"low": "≥", "above": ">", "high": "≤"}
    return ", ".join(
        f"{sign} {item.metadata[key]:g}" for key, sign in signs.items() if item.metadata.get(key) is not None
    )


# Metrics -----------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """A table for each group of metrics."""
    blocks = []
    for group in dict.fromkeys(name.partition("/")[0] for name in METRICS):
        rows = [metric_row(metric) for name, metric in METRICS.items() if name.partition("/")[0] == group]
        blocks += [f"## `{group}/`", table(("metric", "unit", "range", "better", "by", "meaning"), rows)]
    return "\n\n".join(blocks)


def metric_row(metric: Metric) -> tuple[str, ...]:
    """One line of the table."""
    better = {"maximize": "higher", "minimize": "lower", None: ""}[metric.goal]
    low, high = ("−∞" if metric.low == -math.inf else f"{metric.low:g}"), f"{metric.high:g}".replace("inf", "∞")
    numbers = f"{low} … {high}"
    return (code(metric.name), metric.unit, numbers, better, step_kind(metric.name), text(metric.description))


# Plugins -----------------------------------------------------------------------------------------------------------


def plugin_pages() -> dict[str, str]:
    """Kind -> the page of its plugins: all of them in a table, then one by one; the recipes last."""
    listed = registry.describe_plugins()
    pages = {}
    for kind in registry.CONTRACTS:
        of_kind = [entry for entry in listed if entry["kind"] == kind and entry["provider"] == "selbench"]
        shared = registry.shared(registry.CONTRACTS[kind])
        blocks = [f"(plugins-{kind})=\n# {title_of(kind)}", contents(of_kind)]
        if shared:
            about = arguments_of(PREPARATIONS[registry.CONTRACTS[kind]])
            blocks += [f"Every {kind[:-1].replace('_', ' ')} also takes", argument_table(shared, about)]
        pages[kind] = "\n\n".join([*blocks, *(plugin_section(entry, shared) for entry in of_kind)])
    described = recipes.describe_recipes()
    whole = [entry for entry in described if "/" not in entry["name"]]
    blocks = ["(plugins-recipes)=\n# Recipes", contents(whole, "recipe-"), *map(recipe_section, described)]
    return pages | {"recipes": "\n\n".join(blocks)}


def contents(entries: Sequence[dict[str, Any]], before: str = "") -> str:
    """Names that lead to their sections, each with what it is in a sentence."""
    rows = []
    for entry in entries:
        anchor = before + re.sub(r"[^\w-]", "", entry["name"].lower())
        rows.append((f"[`{entry['name']}`](#{anchor})", text(entry.get("summary") or "")))
    return table(("name", "what it is"), rows)


def title_of(kind: str) -> str:
    """The heading of a kind."""
    return {"ssl_methods": "SSL methods", "datasets": "Data sets"}.get(kind, kind.capitalize())


def plugin_section(entry: dict[str, Any], shared: dict[str, Any]) -> str:
    """A plugin's name, docstring, hyper-parameters (those `shared` by its kind where its default is another), file."""
    if "error" in entry:
        raise ValueError(f"{entry['name']}: {entry['error']}")
    kind, name = entry["kind"], entry["name"]
    prefix = name.removesuffix("<name>")
    target = api_class(kind, prefix)
    summary, _, rest = inspect.cleandoc(target.__doc__ or "").partition("\n")
    prose = re.split(r"\n*^(?:Args|Raises|Attributes):$", rest, maxsplit=1, flags=re.MULTILINE)[0].strip()
    own = {key: value for key, value in entry["hyperparameters"].items() if value != shared.get(key, ...)}
    file = Path(inspect.getfile(target)).relative_to(ROOT)
    parts = [f"## `{name}`", text(summary), *(text(part) for part in prose.split("\n\n") if part)]
    if own:
        about = dict.fromkeys(own.keys() & shared, "as above, with a default of its own")
        parts.append(argument_table(own, about | arguments_of(target)))
    return "\n\n".join([*parts, f"Code: `{file}`"])


def api_class(kind: str, name: str) -> type:
    """The class of a plugin, or of the family whose prefix this is."""
    module, _, class_name = baselines.BUILTINS[kind][name].partition(":")
    return getattr(importlib.import_module(module), class_name)


def arguments_of(documented: Any) -> dict[str, str]:
    """Name -> meaning from the section `Args:` of a Google docstring, of a class and of those it derives from."""
    about: dict[str, str] = {}
    for source in reversed(inspect.getmro(documented) if inspect.isclass(documented) else (documented,)):
        found = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(source.__doc__ or ""), re.DOTALL | re.MULTILINE)
        entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", found[1], re.MULTILINE) if found else []
        about |= {name: " ".join(meaning.split()) for name, meaning in entries}
    return about


def argument_table(values: dict[str, Any], about: dict[str, str]) -> str:
    """Hyper-parameters with defaults and meanings."""
    rows = [(code(name), code(shown(value)), text(about[name])) for name, value in values.items()]
    return table(("hyper-parameter", "default", "meaning"), rows)


def shown(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, list | dict):
        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000).strip()
    return {None: "null", True: "true", False: "false"}.get(value, value)


def recipe_section(entry: dict[str, Any]) -> str:
    """A recipe: what it is, where it comes from, and where it deviates."""
    if "error" in entry:
        raise ValueError(f"{entry['name']}: {entry['error']}")
    name, _, variant = entry["name"].partition("/")
    if variant:
        return f"`{entry['name']}`: {text(entry['summary'])}"
    parts = [f"## Recipe `{name}`", text(entry["summary"]), f"Source: {text(entry['source'])}."]
    parts.append("Deviations:\n\n" + "\n".join(f"- {text(item)}" for item in entry["deviations"]))
    return "\n\n".join([*parts, f"File: `baselines/recipes/{name}.yaml`"])


def pool() -> str:
    """What a selector may read of a pool."""
    about = dict(re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", inspect.getdoc(api.Pool) or "", re.MULTILINE))
    rows = [(code(f"pool.{name}"), text(meaning)) for name, meaning in about.items() if name != "model"]
    for name, member in vars(api.Pool).items():
        function = getattr(member, "func", member)
        if not name.startswith("_") and name not in about and callable(function):
            call = "" if function is not member else f"({', '.join([*inspect.signature(function).parameters][1:])})"
            rows.append((code(f"pool.{name}{call}"), text((inspect.getdoc(function) or "").partition("\n")[0])))
    return table(("part", "what it is"), rows)


# The command line --------------------------------------------------------------------------------------------------


RUN = ("harness.embed", "harness.papers")
"""The modules that are commands themselves, not by a `__main__` beside them."""


def command_line() -> str:
    """The help of `selbench` and of each of its commands, with its other name where there is one."""
    blocks = [_command("selbench", "harness.__main__", ())]
    for name, (module, _) in COMMANDS.items():
        module_run = module.removesuffix(".__main__").removesuffix(".command")
        runs = module in RUN or (ROOT / module_run.replace(".", "/") / "__main__.py").is_file()
        also = f"`python -m {module_run}` is the same.\n\n" if runs else ""
        blocks.append(_command(f"selbench {name}", module, (f"selbench {name}",), also))
    return "\n\n".join(blocks)


def _command(name: str, module: str, more: tuple[str, ...], also: str = "") -> str:
    """A command with what it prints for `--help`."""
    printed = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS="100"),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        importlib.import_module(module).main(["--help"], *more)
    return f"## `{name}`\n\n{also}```text\n{printed.getvalue().strip()}\n```"


# Questions and results ---------------------------------------------------------------------------------------------


def questions() -> str:
    """Every search space with its question, its source and its command."""
    blocks = []
    for title, pattern in (
        ("Tables of the sources", "papers/*.yaml"),
        ("Questions of our own", "*.yaml"),
        ("Questions to begin with", "start/*.yaml"),
    ):
        blocks.append(f"## {title}")
        for file in sorted((ROOT / "search_spaces").glob(pattern)):
            header = header_of(file)
            about = [text(header["Question"][0].upper() + header["Question"][1:])]
            about += [f"{key}: {text(header[key])}" for key in ("Source", "Data") if key in header]
            command = f"```sh\n{header['Run']}\n```"
            blocks += [f"### `{file.relative_to(ROOT)}`", *about, command]
            blocks += (
                [f"What came out: [{file.stem}](generated/results/{file.stem}/summary.md)."]
                if has_result(file.stem)
                else []
            )
    return "\n\n".join(blocks)


def has_result(name: str) -> bool:
    """Whether a finished sweep of that name is kept."""
    return (ROOT / "results" / name / "summary.md").is_file()


def header_of(file: Path) -> dict[str, str]:
    """The opening comment of a search space by its keywords: `Question`, `Source`, `Run`, `Data`, ..."""
    comment = [line.removeprefix("#").rstrip() for line in plan.opening_comment(file).splitlines()]
    header: dict[str, str] = {}
    key = "Question"
    for line in comment:
        keyword = re.match(r" ([A-Z]\w*):\s+(.*)", line)
        if keyword:
            key = keyword[1]
        elif not line.startswith("  ") and header.get(key, "") and key != "Question":
            key = "Remarks"
        header[key] = f"{header.get(key, '')} {keyword[2] if keyword else line.strip()}".strip()
    return header


def results() -> str:
    """`results/README.md`, whose links lead to the copies of the summaries, with these as its sub-pages."""
    readme = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    contents = "\n".join(summaries())
    return f"{readme}\n```{{toctree}}\n:hidden:\n\n{contents}\n```\n"


def summaries() -> dict[str, str]:
    """Page below the results, such as `selectors/summary` -> its text: of each kept sweep, and what is told of one."""
    files = sorted([*(ROOT / "results").glob("*/summary.md"), *(ROOT / "results").glob("*/README.md")])
    return {f"{file.parent.name}/{file.stem}": file.read_text(encoding="utf-8") for file in files}
