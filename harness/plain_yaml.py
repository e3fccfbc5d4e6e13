"""YAML as it is read and written here: plain values, no key twice, and numbers as people write them.

PyYAML follows YAML 1.1, in which `1e-3` is a text, `0010` is 8, and of a repeated key the last one wins silently. Here
the first is a number, the second a text, such as the name of a class, and the third an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from harness.messages import message_of

MAX_NODES = 100_000
"""Of a YAML document with its aliases written out, which a few lines of aliases can make endless."""

FLOAT = "tag:yaml.org,2002:float"
WITH_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
"""The numbers of YAML 1.2's core schema that are texts in YAML 1.1."""

INTEGER = "tag:yaml.org,2002:int"
WHOLE = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
"""YAML 1.1's whole numbers, but for those to the base of 8 (0010 is 8) and of 60 (1:30 is 90), which nobody means."""


class _Loader(yaml.SafeLoader):
    """Reads text as `_Dumper` writes it."""


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Quotes what `_Loader` would take for a number; in C where PyYAML has it, as every trial writes YAML."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != INTEGER]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(INTEGER, WHOLE, list("-+0123456789"))
for _resolver in (_Loader, _Dumper):
    _resolver.add_implicit_resolver(FLOAT, WITH_EXPONENT, list("-+.0123456789"))


def _of_program(dumper: Any, value: Any) -> yaml.Node:
    """What a program has in the place of a plain value: a path, a mapping of another type, a number of numpy's."""
    if isinstance(value, PurePath):
        return dumper.represent_data(str(value))
    if isinstance(value, Mapping):
        return dumper.represent_data(dict(value))
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return dumper.represent_data(value.item())
    return dumper.represent_undefined(value)


_Dumper.add_multi_representer(object, _of_program)


def to_yaml(value: Any) -> str:
    """Plain values as a YAML document, keys in their order; paths are texts, and numpy's numbers are numbers.

    Raises:
        ValueError: there is something else in them.
    """
    try:
        return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    except yaml.representer.RepresenterError as error:
        raise ValueError(f"{error.args[-1]!r}: neither a text, a number, true, false, null nor a list") from None


def parse_yaml(text: str) -> Any:
    """The content of a YAML document: mappings with text keys, lists, texts, numbers, true, false and null.

    Raises:
        ValueError: not valid YAML, not plain, too large, or a mapping has a key twice.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            repeated = _repeated_keys(node)
            content = loader.construct_document(node) if node and not repeated else None
        finally:
            loader.dispose()
    except Exception as error:  # PyYAML's constructors raise many types for a value such as 2020-13-45
        raise ValueError(f"not valid YAML: {message_of(error)}") from None
    if repeated:
        raise ValueError("; ".join(repeated))
    _check_plain(content)
    return content


def _repeated_keys(root: yaml.Node | None) -> list[str]:
    """What to say of the keys that stand twice in one mapping; what `<<` merges into it may be there again."""
    problems: list[str] = []
    waiting: list[yaml.Node | None] = [root]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))  # an alias is the node that it names
        if isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    problems.append(f"line {line}: the key {key.value!r} is there already, in line {lines[name]}")
                lines[name] = line
        waiting += [item for pair in reversed(node.value) for item in reversed(pair)]
    return problems


def _check_plain(content: Any) -> None:
    waiting, seen = [content], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES:,} values with all aliases written out, or an alias inside itself")
        if isinstance(item, dict):
            odd = [key for key in item if not isinstance(key, str)]
            if odd:
                raise ValueError(f"the key {odd[0]!r} is not a text; put it in quotes")
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif not isinstance(item, str | int | float | None):
            raise ValueError(f"the value {item!s} is read as a {type(item).__name__}; put it in quotes")
