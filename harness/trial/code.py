"""The code that a stage runs, as a part of its name."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch

from harness.files import digest_of


def code_digest(*sources: ModuleType | type) -> str:
    """A hash of torch's version, of the source files of these modules or classes, and of what those import from
    their own package or from the baselines.

    A changed method makes its stages new; a change elsewhere leaves them valid.
    """
    files: set[str] = set()
    for source in sources:
        _collect_sources(source.__name__ if isinstance(source, ModuleType) else source.__module__, files)
    return digest_of({"torch": torch.__version__, "files": sorted(_file_digest(file) for file in files)})


def _collect_sources(module: str, files: set[str]) -> None:
    spec = _spec(module)
    if spec is None or spec.origin in files:
        return
    assert spec.origin
    files.add(spec.origin)
    own = module.partition(".")[0]
    if own == "harness":  # the harness names the modules of its own that matter
        return
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    for name in _imports(spec.origin, package):
        if name.partition(".")[0] in (own, "baselines"):
            _collect_sources(name, files)


@cache
def _spec(module: str) -> ModuleSpec | None:
    """Where a module's source is, whether it has been imported yet or not; None for what has no source file."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return spec if spec and spec.origin and Path(spec.origin).suffix == ".py" else None


@cache
def _imports(file: str, package: str) -> tuple[str, ...]:
    """The modules that a source file names in its imports, anywhere in it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(Path(file).read_bytes())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found.append(base)
            within = _spec(base) if base.partition(".")[0] in (package.partition(".")[0], "baselines") else None
            if within and within.submodule_search_locations is not None:  # `from package import module`
                found += [f"{base}.{alias.name}" for alias in node.names]
    return tuple(found)


@cache
def _file_digest(file: str) -> str:
    return hashlib.blake2b(Path(file).read_bytes(), digest_size=12).hexdigest()
