"""Reads the source of a package as a house: rooms, arrows between them, sizes and names.

A module is a file; a room is a direct child of the package, with all that is in it. What people start (`__main__`) and
the package's own `__init__` stand above all rooms, as one named `__main__`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Arrow = tuple[str, str]
TOP = "__main__"


@dataclass(frozen=True)
class House:
    """The modules of a package, by their source alone: nothing is imported.

    Attributes:
        root: the folder that the package lies in.
        package: its name.
    """

    root: Path
    package: str = "harness"

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """The source of every module by its dotted name; a package's `__init__` by that of the package."""
        files = sorted((self.root / self.package).rglob("*.py"))
        names = [".".join(file.relative_to(self.root).with_suffix("").parts) for file in files]
        return {name.removesuffix(".__init__"): file.read_text() for name, file in zip(names, files, strict=True)}

    @cached_property
    def modules(self) -> Mapping[str, ast.Module]:
        """The parsed source of every module."""
        return {name: ast.parse(text) for name, text in self.texts.items()}

    @cached_property
    def arrows(self) -> set[Arrow]:
        """Who imports whom, at any place in a file: in functions and for type checkers too."""
        arrows = set()
        for name, tree in self.modules.items():
            is_package = (self.root / name.replace(".", "/")).is_dir()
            for _, imported in imports(tree, name if is_package else name.rpartition(".")[0]):
                target = self.owner(imported)
                if target and target != name:
                    arrows.add((name, target))
        return arrows

    def owner(self, dotted: str) -> str | None:
        """The module that `a.b.c` is, or is a name of; None outside of the house."""
        while dotted and dotted not in self.modules:
            dotted = dotted.rpartition(".")[0]
        return dotted or None

    def room(self, module: str) -> str:
        """The room of a module: `trial` of `harness.trial.run`, `TOP` of what people start."""
        _, _, inside = module.partition(".")
        return TOP if not inside or module.endswith(f".{TOP}") else inside.partition(".")[0]

    @cached_property
    def room_arrows(self) -> dict[Arrow, list[str]]:
        """The arrows between rooms, each with the files that it comes from, as `a -> b`."""
        between: dict[Arrow, list[str]] = defaultdict(list)
        for a, b in sorted(self.arrows):
            if self.room(a) != self.room(b):
                between[self.room(a), self.room(b)].append(f"{a} -> {b}")
        return dict(between)

    # --- violations, each a line, sorted ---

    def file_circles(self) -> list[str]:
        """Modules that import each other."""
        return circles(self.arrows)

    def room_circles(self) -> list[str]:
        """Rooms that import each other."""
        return circles(self.room_arrows)

    def arrows_against(self, floors: Mapping[str, int]) -> list[str]:
        """Rooms without a floor, and imports that do not lead to a lower one.

        Args:
            floors: room -> its floor.
        """
        rooms = sorted({self.room(module) for module in self.modules} - {TOP})
        floors = {TOP: max(floors.values(), default=0) + 1, **floors}
        lines = [f"{room} has no floor" for room in rooms if room not in floors]
        lines += [f"{room} is no room" for room in floors if room != TOP and room not in rooms]
        for (a, b), files in self.room_arrows.items():
            if a in floors and b in floors and floors[a] <= floors[b]:
                lines += [f"{files_of} (floor {floors[a]} -> {floors[b]})" for files_of in files]
        return sorted(lines)

    def long_modules(self, most: int) -> list[str]:
        """Modules of more lines than that."""
        lengths = {name: len(text.splitlines()) for name, text in self.texts.items()}
        return [f"{name} has {length} lines" for name, length in sorted(lengths.items()) if length > most]

    def long_functions(self, most: int) -> list[str]:
        """Functions of more lines than that, from `def` to the end, docstring included."""
        return sorted(
            f"{module}.{node.name} has {length} lines"
            for module, node in self._nodes(ast.FunctionDef, ast.AsyncFunctionDef)
            if (length := node.end_lineno - node.lineno + 1) > most
        )

    def namesakes(self, allowed: Iterable[str] = ()) -> list[str]:
        """Public names that modules give to a class, a function, a type or a constant, and that another gives too.

        Every `__main__` has its `main`, and type variables are of one letter.

        Args:
            allowed: names that may be shared.
        """
        homes: dict[str, list[str]] = defaultdict(list)
        for module, tree in self.modules.items():
            for name in _definitions(tree):
                if len(name) > 1 and name[0] != "_" and name not in {"main", "program", *allowed}:
                    homes[name].append(module)
        return sorted(f"{name}: {', '.join(sorted(of))}" for name, of in homes.items() if len(of) > 1)

    def dangling(self, texts: Mapping[str, str]) -> list[str]:
        """What texts name as `harness.a.b` or `harness/a/b.py`, and what is not there.

        Args:
            texts: where it stands -> the text.
        """
        lines = []
        for place, text in texts.items():
            for name in re.findall(rf"\b{self.package}(?:\.[a-z]\w*)+", text):
                if not name.endswith(".py") and not self._is_there(name):
                    lines.append(f"{place}: {name}")
            for name in re.findall(rf"\b{self.package}/[\w/]+\.\w+", text):
                if not (self.root / name).exists():
                    lines.append(f"{place}: {name}")
        return sorted(lines)

    def _is_there(self, dotted: str) -> bool:
        """Whether it is a module, or a name that stands in the module before it."""
        module = self.owner(dotted)
        return module == dotted or dotted.removeprefix(f"{module}.").partition(".")[0] in self._names(module)

    def _names(self, module: str) -> set[str]:
        """All that is defined or imported in a module, and words that it quotes: it may import late, by name."""
        names = set()
        for node in ast.walk(self.modules[module]):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.alias):
                names.add((node.asname or node.name).rpartition(".")[2])
            elif isinstance(node, ast.Constant):
                names.add(node.value)
        return names

    def variables(self, name: str) -> list[str]:
        """Where a variable or an argument has that name."""
        lines = [(m, n.lineno) for m, n in self._nodes(ast.Name) if n.id == name and isinstance(n.ctx, ast.Store)]
        lines += [(m, n.lineno) for m, n in self._nodes(ast.arg) if n.arg == name]
        return [f"{module}:{line}" for module, line in sorted(lines)]

    def _nodes(self, *kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
        for name, tree in self.modules.items():
            for node in ast.walk(tree):
                if isinstance(node, kinds):
                    yield name, node


def _definitions(tree: ast.Module) -> Iterator[str]:
    """What a module defines at its top."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id


def imports(tree: ast.AST, home: str = "") -> Iterator[tuple[str, str]]:
    """What a module imports, anywhere in it: the name that it has here, and its whole name.

    Args:
        tree: the module.
        home: the package that relative imports start from.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                yield alias.asname or top, alias.name
        elif isinstance(node, ast.ImportFrom):
            parts = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            base = [*parts, node.module] if node.module else parts
            for alias in node.names:
                yield alias.asname or alias.name, ".".join([*base, alias.name])


def circles(arrows: Iterable[Arrow]) -> list[str]:
    """For each knot of things that reach each other, one of the shortest ways round: `a -> b -> a`."""
    following: dict[str, set[str]] = defaultdict(set)
    for a, b in arrows:
        following[a].add(b)
    told, knotted = [], set()
    for start in sorted(following):
        way = _way_back(start, following)
        if way and start not in knotted:
            knotted |= {other for other in _reached(start, following) if start in _reached(other, following)}
            told.append(" -> ".join(way))
    return told


def _way_back(start: str, following: Mapping[str, set[str]]) -> list[str] | None:
    ways, seen = [[start]], set()
    for way in ways:  # grows: breadth first
        for there in sorted(following.get(way[-1], ())):
            if there == start:
                return [*way, start]
            if there not in seen:
                seen.add(there)
                ways.append([*way, there])
    return None


def _reached(start: str, following: Mapping[str, set[str]]) -> set[str]:
    reached, left = set(), [start]
    while left:
        new = following.get(left.pop(), set()) - reached
        reached |= new
        left += new
    return reached


def floors(guide: str) -> dict[str, int]:
    """Room -> floor, of the table whose rows are `| 3 | `config`, `testing` | ...`."""
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+`(?:, )?)+) \|", guide, re.MULTILINE)
    return {room: int(floor) for floor, rooms in rows for room in re.findall(r"\w+", rooms)}


def without_encoding(tree: ast.AST) -> Iterator[int]:
    """The lines in which a file or another process is read or written as text in the encoding of whoever runs it."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        place = {"read_text": 0, "write_text": 1}.get(name, -1)  # of the encoding, where it has no name
        text = len(call.args) <= place or isinstance(getattr(named.get("text"), "value", None), bool)
        if name in ("open", "fdopen", "TemporaryFile", "NamedTemporaryFile"):
            is_function = isinstance(call.func, ast.Name) or name == "fdopen"
            mode = named.get("mode", next(iter(call.args[is_function:]), None))
            kind = str(mode.value) if isinstance(mode, ast.Constant) else ""
            text = bool(re.fullmatch("[rwax]t?[+]?", kind)) or (name == "open" and is_function and mode is None)
        if text and "encoding" not in named:
            yield call.lineno


def private_uses(file: Path, package: str) -> list[str]:
    """Where a test imports or reaches for a private name of a package, also in the code and the names that it quotes.

    Seen are `from package.m import _x`, `m._x` of what was imported from there, `setattr(m, "_x", ...)` and
    "package.m._x" in a string; not `_x` of a value that came by another way.
    """
    return sorted(f"{file.name}:{line}: {name}" for line, name in _private(ast.parse(file.read_text()), package))


def _private(tree: ast.Module, package: str) -> set[tuple[int, str]]:
    known = {here: whole for here, whole in imports(tree) if whole.partition(".")[0] == package}
    known |= {package: package} if package in known else {}  # `import a.b` binds `a`
    uses = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            uses |= {(node.lineno, whole) for _, whole in imports(node) if _is_private(whole, package)}
        elif isinstance(node, ast.Attribute):
            uses.add((node.lineno, _whole_name(node, known)))
        elif isinstance(node, ast.Call) and len(node.args) >= 2 and isinstance(node.args[1], ast.Constant):
            uses.add((node.lineno, f"{_whole_name(node.args[0], known)}.{node.args[1].value}"))
        elif isinstance(node, ast.JoinedStr | ast.Constant):
            uses |= {(node.lineno, name) for name in _quoted(node, package)}
    return {(line, name) for line, name in uses if _is_private(name, package)}


def _whole_name(node: ast.AST, known: Mapping[str, str]) -> str:
    """The name of `run._x` as it is after its import; empty for what is not a name of the package."""
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    if isinstance(node, ast.Attribute) and (before := _whole_name(node.value, known)):
        return f"{before}.{node.attr}"
    return ""


def _is_private(name: str, package: str) -> bool:
    top, *parts = name.split(".")
    return top == package and any(re.match(r"_(?!_)\w", part) for part in parts)


def _quoted(node: ast.JoinedStr | ast.Constant, package: str) -> Iterator[str]:
    """The names of the package in a string, and in the code that it may be."""
    if isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
    elif isinstance(node.value, str):
        text = node.value
    else:
        return
    if package not in text:
        return
    yield from re.findall(rf"\b{package}(?:\.\w+)+", text)
    try:
        yield from (name for _, name in _private(ast.parse(text), package))
    except SyntaxError:
        return
