"""The code that computes something, as a part of its result's name: from its roots on, all that it imports.

A module of somebody's own, this project's or a user's, counts with its source, in which a comment or a docstring is
nothing; a module of a library counts with the version of its distribution. Nobody lists modules: they are found by the
imports, also those inside functions. What is not found: a module whose name is put together at run time.

A source counts as it was when its module was loaded. Where the file is another one by now, nobody can name what runs,
so the key is one that no other has, and `Code.is_current` says that a result should not be kept.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import re
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import metadata
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement

STARTED = time.time()
"""A file that was written later is not sure to be what a module was loaded from, unless `load_module` has loaded it."""

TABLE_OF_CONTENTS = "baselines"
"""Left out: its table grows with every method, and the class that a name leads to counts by itself."""

Root = Callable[..., Any] | str
"""Where code begins: a function, a class, a callable, or a module by its name."""


@dataclass(frozen=True)
class Code:
    """The code that some roots run.

    Attributes:
        key: JSON values, for a reader too: the `python`, own `modules` with the digests of their sources, `versions`
            of libraries; where the code is not known, something `unknown` that nobody has seen before.
        libraries: the version of each distribution that the modules import themselves, not of what these require.
    """

    key: Mapping[str, Any]
    libraries: Mapping[str, str]
    _modules: tuple[_Module, ...] = field(repr=False)

    def is_current(self) -> bool:
        """Whether every file is still the one that was loaded; if not, says so on stderr, once for each file."""
        stale = [module for module in self._modules if not module.is_current()]
        for module in stale:
            _warn(module.name, str(module.file))
        return not stale


@cache
def _warn(name: str, file: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more
        print(
            f"{file}: changed after {name} had been loaded; what runs it is computed with the code that was loaded, "
            "and not kept for others. Start again to use the new code",
            file=sys.stderr,
            flush=True,
        )


def code_of(*roots: Root) -> Code:
    """The code that these roots run: their modules, all modules that these import, and versions of libraries."""
    starts = frozenset(name for root in roots for name in _modules_of(root))
    top_names = frozenset(_modules_of(root)[0].partition(".")[0] for root in roots)
    closure = _followed.get((starts, top_names))
    if closure is None or any(_is_there(name) for name in closure.missing):
        closure = _followed[starts, top_names] = _closure(starts, top_names)
    code = Code(closure.key, closure.distributions, tuple(closure.modules.values()))
    return code if code.is_current() else replace(code, key={**closure.key, "unknown": uuid.uuid4().hex})


def load_module(name: str) -> ModuleType:
    """Imports a module, and remembers its source and those of what it imports, as they are at this moment."""
    if name in sys.modules:
        return importlib.import_module(name)
    before = set(sys.modules)
    module = importlib.import_module(name)
    for new in sys.modules.keys() - before:
        if new not in _seen and _is_own(new):
            _seen[new] = _look(new, certain=True)
    return module


# ------------------------------------------------------------ modules


@dataclass(frozen=True)
class _Module:
    """A module of somebody's own, as this process has loaded it or will load it.

    Attributes:
        name: in imports.
        file: None where there is none: a package of folders alone, or what is typed in a notebook.
        content: of the file.
        certain: whether the module was loaded from that content, or from no file at all.
        is_package: whether it is one.
    """

    name: str
    file: Path | None
    content: bytes
    certain: bool
    is_package: bool

    @cached_property
    def digest(self) -> str:
        return _digest(self._tree, self.content)

    @cached_property
    def _tree(self) -> ast.Module | None:
        return _parsed(self.content) if self.file and self.file.suffix == ".py" else None

    @cached_property
    def imports(self) -> tuple[frozenset[str], frozenset[str]]:
        """The modules that are imported when this one is, and those that its functions import."""
        if self._tree is None:
            return frozenset(), frozenset()
        package = self.name if self.is_package else self.name.rpartition(".")[0]
        names: tuple[set[str], set[str]] = set(), set()
        for node, in_function in _imports(self._tree):
            names[in_function].update(_imported(node, package))
        return frozenset(names[False]), frozenset(names[True])

    def is_current(self) -> bool:
        """Whether the file still says what was loaded; comments may differ."""
        if not self.certain or self.file is None:
            return self.certain
        try:
            stamp = _stamp(self.file)
            if stamp == _compared.get(self.name):
                return True
            content = self.file.read_bytes()
        except OSError:
            return False
        if content == self.content:
            if time.time() - stamp[0] / 1e9 > GRAIN:
                _compared[self.name] = stamp
            return True
        return self._tree is not None and _digest(_parsed(content), content) == self.digest


Stamp = tuple[int, int, int, int]
"""Of a file: when it was changed, in nanoseconds, and when by its own account, its size, and its number on the disk."""

GRAIN = 2.0
"""Seconds after which a further change of a file has another time, whatever the grain of the clock that files have."""

_compared: dict[str, Stamp] = {}
"""The modules whose files held what was loaded when they were read last, and how these files were then."""


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino


_seen: dict[str, _Module] = {}
"""The modules of somebody's own as they were when this process first saw them."""


def _module(name: str) -> _Module | None:
    if name not in _seen:
        if not _is_there(name):
            return None
        _seen[name] = _look(name)
    return _seen[name]


def _look(name: str, certain: bool = False) -> _Module:
    spec, module = _spec(name), sys.modules.get(name)
    origin = spec.origin if spec else getattr(module, "__file__", None)
    is_package = bool(spec and spec.submodule_search_locations is not None)
    if origin is None and is_package:
        return _Module(name, None, b"", True, is_package)
    try:
        file = Path(origin or "")
        content, changed = file.read_bytes(), file.stat().st_ctime
    except OSError:
        return _Module(name, None, b"", False, is_package)
    return _Module(name, file, content, certain or module is None or changed < STARTED, is_package)


def _is_there(name: str) -> bool:
    """Whether a module is loaded, or could be."""
    return name in sys.modules or _spec(name) is not None


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is; imports nothing."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    above, _, _ = name.rpartition(".")
    try:
        if not above:
            return importlib.util.find_spec(name)
        package = _spec(above)
        places = package.submodule_search_locations if package else None
        return None if places is None else PathFinder.find_spec(name, places)
    except (ImportError, ValueError):
        return None


def _is_own(name: str, top_names: Collection[str] = ()) -> bool:
    """Whether a module is neither Python's nor a library's; `top_names` are own wherever they are installed."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    if top in top_names:
        return True
    spec, module = _spec(top), sys.modules.get(top)
    if spec is None:
        return module is not None and top == "__main__"
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    return bool(places) and not any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places)


# ------------------------------------------------------------ imports


def _modules_of(root: Root) -> list[str]:
    """The modules that define a root: its own first, then those of its bases."""
    if isinstance(root, str):
        return [root]
    if isinstance(root, functools.partial):
        return _modules_of(root.func)
    if not isinstance(root, type) and not hasattr(root, "__qualname__"):  # an object that can be called
        root = type(root)
    return [base.__module__ for base in root.__mro__] if isinstance(root, type) else [root.__module__]


@dataclass(frozen=True)
class _Closure:
    """What is reached from some modules by imports.

    Attributes:
        modules: own ones, by name.
        libraries: the top names of all others but Python's.
        missing: names that are imported and not there; once they are, what is reached is something else.
    """

    modules: Mapping[str, _Module]
    libraries: frozenset[str]
    missing: frozenset[str]

    @cached_property
    def key(self) -> dict[str, Any]:
        """See `Code.key`."""
        return {
            "python": list(sys.version_info[:2]),
            "modules": {name: module.digest for name, module in sorted(self.modules.items())},
            "versions": dict(sorted(_versions(self.libraries).items())),
        }

    @cached_property
    def distributions(self) -> dict[str, str]:
        """See `Code.libraries`."""
        offered = sorted({name for library in self.libraries for name in _distributions().get(library, ())})
        return {name: version for name in offered if (version := _distribution(name)[0])}


_followed: dict[tuple[frozenset[str], frozenset[str]], _Closure] = {}
"""(modules, own top names) -> what is reached from them. Sources count as they were first seen, so it stays."""


def _closure(starts: Collection[str], top_names: Collection[str]) -> _Closure:
    """Follows the imports of some modules; `top_names` are own wherever they are installed.

    Of a package that is only on the way to a module, what its functions import does not count.
    """
    modules: dict[str, _Module] = {}
    libraries: set[str] = set()
    missing: set[str] = set()
    whole: set[str] = set()
    todo = [(name, True) for name in starts]
    while todo:
        name, is_meant = todo.pop()
        if name == TABLE_OF_CONTENTS or name in whole or (name in modules and not is_meant):
            continue
        if not _is_own(name, top_names):
            libraries.add(name.partition(".")[0])
            continue
        module = _module(name)
        if module is None:  # an attribute of the package above, or something optional that is not there
            missing.add(name)
            continue
        modules[name] = module
        at_once, later = module.imports
        todo += [(other, True) for other in at_once]
        if is_meant:
            whole.add(name)
            todo += [(other, True) for other in later]
        above = name.rpartition(".")[0]
        if above:
            todo.append((above, False))
    libraries -= sys.stdlib_module_names
    missing.update(name for name in libraries if not _is_there(name))
    return _Closure(modules, frozenset(libraries), frozenset(missing))


Import = ast.Import | ast.ImportFrom | ast.Call


def _imports(tree: ast.Module) -> Iterator[tuple[Import, bool]]:
    """The imports of a source and whether each is inside a function; not those for a type checker alone."""
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, in_function = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            yield node, in_function
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        todo += [(child, inside) for child in _that_run(node)]


def _that_run(node: ast.AST) -> Iterable[ast.AST]:
    """What is in a node, but for a branch that type checkers alone read."""
    if isinstance(node, ast.If):
        if _is_type_checking(node.test):
            return node.orelse
        negated = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not) and node.test.operand
        if negated and _is_type_checking(negated):
            return node.body
    return ast.iter_child_nodes(node)


def _is_type_checking(test: ast.AST) -> bool:
    """Whether a test is `TYPE_CHECKING` itself; with something beside it, it may be true."""
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _imported(node: Import, package: str) -> Iterator[str]:
    """The modules that an import names: for `from a import b`, a.b where there is such a module, else a."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _resolved("." * node.level + (node.module or ""), package)
        for alias in node.names if base else ():
            within = f"{base}.{alias.name}"
            yield within if _spec(within) else base
    elif getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__"):
        given = dict(zip(("name", "package"), node.args, strict=False)) | {one.arg: one.value for one in node.keywords}
        name, of = (_literal(given.get(key)) for key in ("name", "package"))
        if name and (resolved := _resolved(name, of or package)):
            yield resolved


def _literal(node: ast.AST | None) -> str:
    """The text that stands there; empty where none does."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _resolved(name: str, package: str) -> str:
    """The whole name of a module; empty where it is relative and leads out of the package, which fails if it is run."""
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return ""


# ------------------------------------------------------------ digests


def _parsed(content: bytes) -> ast.Module | None:
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):
        return None


def _digest(tree: ast.Module | None, content: bytes) -> str:
    """Of what a source does: without positions, comments and texts that stand alone; of a file that is none, all."""
    if tree is not None:
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
        content = ast.dump(tree).encode(errors="surrogatepass")
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _is_text(line: ast.AST) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)


@cache
def _distributions() -> dict[str, list[str]]:
    """Import name -> the distributions that offer it."""
    return {name: list(offered) for name, offered in metadata.packages_distributions().items()}


def _versions(libraries: Collection[str]) -> dict[str, str | None]:
    """The version of each library and of all that it requires; None for one that is not installed."""
    versions: dict[str, str | None] = {name: None for name in libraries if name not in _distributions()}
    todo = [distribution for name in libraries for distribution in _distributions().get(name, [])]
    while todo:
        name = todo.pop()
        if name in versions:
            continue
        versions[name], required = _distribution(name)
        todo += [other for other in required if _distribution(other)[0] is not None]
    return versions


@cache
def _distribution(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The version of a distribution, and what it requires on this machine by itself, without its extras.

    What a library carries along in a folder of its own, as Ray does once it is imported, is not installed.
    """
    places = [place for place in sys.path if not {"site-packages", "dist-packages"} & set(Path(place).parts[:-1])]
    installed = next(iter(metadata.distributions(name=name, path=places)), None)
    if installed is None:
        return None, ()
    required = [Requirement(line) for line in installed.requires or ()]
    here = [item.name for item in required if item.marker is None or item.marker.evaluate({"extra": ""})]
    return installed.version, tuple(re.sub(r"[-_.]+", "-", name).lower() for name in here)
