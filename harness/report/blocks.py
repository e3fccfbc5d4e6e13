"""Of which grounds a sweep's configurations are: a data set, an encoder, a budget; only on one ground are two compared.

A sweep that varies such a thing beside something else asks the second on every value of the first: which selector, on
each of three data sets. What `reference` names is compared and makes no ground.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.config.schema import by_path
from harness.records.names import EXACT, name_configurations, show_value
from harness.report.model import Entry

GROUNDS = ("dataset", "data", "backbone", "labels")
"""The sections of a trial that may make grounds."""


def assign_blocks(entries: Sequence[Entry], space: Mapping[str, Any]) -> None:
    """Sets `block` and `method` of each configuration; nothing where all are of one ground.

    Grounds are told apart only where the reference stands on each of them, beside something to compare it with.

    Args:
        entries: of one phase.
        space: content of `space.yaml`.
    """
    grounds = _ground_paths(entries, space)
    blocks: dict[str, dict[str, Entry]] = {}
    about_block: dict[str, dict[str, Any]] = {}
    about_method: dict[str, dict[str, Any]] = {}
    for entry in entries:
        of_block, of_method = (
            {p: v for p, v in entry.parameters.items() if (p in grounds) == own} for own in (True, False)
        )
        block, method = _key(of_block), _key(of_method)
        blocks.setdefault(block, {})[method] = entry
        about_block[block], about_method[method] = of_block, of_method
    everywhere = [method for method in about_method if all(method in of for of in blocks.values())]
    wanted = _reference(space).items()
    if len(blocks) < 2 or not any(wanted <= about_method[method].items() for method in everywhere):
        return
    if min(map(len, blocks.values())) < 2:
        return
    names, labels = name_configurations(about_block), name_configurations(about_method)
    for name, of in blocks.items():
        for key, entry in of.items():
            entry.block, entry.method = names[name], labels[key]


def _reference(space: Mapping[str, Any]) -> dict[str, Any]:
    confirm = space.get("confirm") or {}
    return by_path(space.get("reference") or next(iter(confirm.get("references") or []), None) or {})


def _ground_paths(entries: Sequence[Entry], space: Mapping[str, Any]) -> set[str]:
    """The parameters that vary and make grounds; none where nothing else varies."""
    paths = {path for entry in entries for path in entry.parameters}
    varied = {p for p in paths if len({show_value(entry.parameters.get(p, ""), EXACT) for entry in entries}) > 1}
    cases = (space.get("cases") or {}).values()
    of_case = {path.partition(".")[0] for case in cases for path in case}
    grounds = {path for path in varied if path.partition(".")[0] in GROUNDS}
    if "case" in varied and of_case and of_case <= set(GROUNDS):
        grounds.add("case")
    grounds -= _reference(space).keys()
    return grounds if varied - grounds else set()


def _key(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True, default=str)
