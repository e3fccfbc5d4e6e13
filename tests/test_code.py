"""The code that a stage runs: found by its imports, as it was loaded."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.code import code_of, load_module


@pytest.fixture
def place(tmp_path, monkeypatch) -> Any:
    """Writes modules of somebody's own below a folder in which Python looks; names are fresh for each test."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**texts: str) -> Path:
        for name, text in texts.items():
            file = tmp_path / f"{name.replace('__', '/').replace('/init', '/__init__')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        importlib.invalidate_caches()
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def modules_of(*roots: Any) -> set[str]:
    return {name for name in code_of(*roots).key["modules"] if not name.startswith(("harness", "baselines"))}


def test_imports_are_followed_wherever_they_are_and_whatever_their_form(place):
    place(
        c1_root="import c1_a\nfrom c1_b import value\ndef f():\n    import c1_c\n    from c1_pack import d, constant\n",
        c1_a="import torch",
        c1_b="class A:\n    from c1_deep.e import value\nvalue = 1",
        c1_c="import c1_root",
        c1_pack__init="constant = 1",
        c1_pack__d="from . import sibling\nfrom .further import value",
        c1_pack__sibling="",
        c1_pack__further="value = 1",
        c1_pack__unused="",
        c1_deep__e="value = 1",
    )
    assert modules_of("c1_root") == {
        "c1_root", "c1_a", "c1_b", "c1_c", "c1_pack", "c1_pack.d", "c1_pack.sibling", "c1_pack.further",
        "c1_deep", "c1_deep.e",
    }  # fmt: skip


def test_nothing_is_imported_to_find_it(place):
    place(c2_root="def f():\n    from c2_other import x", c2_other="raise RuntimeError('was run')")
    assert modules_of("c2_root") == {"c2_root", "c2_other"}
    assert not {"c2_root", "c2_other"} & set(sys.modules)


def test_what_is_for_type_checkers_alone_is_no_code(place):
    place(
        c3_root="import typing\nif typing.TYPE_CHECKING:\n    import c3_types\nelse:\n    import c3_other",
        c3_types="",
        c3_other="",
    )
    assert modules_of("c3_root") == {"c3_root", "c3_other"}


@pytest.mark.parametrize(
    ("test", "followed"),
    [
        ("TYPE_CHECKING", "orelse"),
        ("typing.TYPE_CHECKING", "orelse"),
        ("not TYPE_CHECKING", "body"),
        ("not typing.TYPE_CHECKING", "body"),
        ("TYPE_CHECKING or True", "both"),
        ("not (TYPE_CHECKING and True)", "both"),
    ],
)
def test_of_a_test_for_type_checkers_the_branch_counts_that_runs(place, test, followed):
    name = "c3b_" + "".join(filter(str.isalpha, test))
    place(**{name: f"if {test}:\n    import c3b_body\nelse:\n    import c3b_orelse"}, c3b_body="", c3b_orelse="")
    branches = {"c3b_body", "c3b_orelse"} if followed == "both" else {f"c3b_{followed}"}
    assert modules_of(name) == {name, *branches}


def test_names_that_are_relative_to_a_package_are_followed_too(place):
    place(
        c14_pack__init="import importlib\nimportlib.import_module('.first', __package__)",
        c14_pack__first="from importlib import import_module\nimport_module('.inner.a', package=__package__)",
        c14_pack__inner__init="",
        c14_pack__inner__a="import importlib as i\ni.import_module('..b', __package__)\ni.import_module('.c', 'c14_e')",
        c14_pack__b="import importlib\nimportlib.import_module('...far', __package__)\nfrom ... import far\n"
        "importlib.import_module(name='c14_d')",
        c14_e__init="",
        c14_e__c="",
        c14_d="",
    )
    assert modules_of("c14_pack") == {
        "c14_pack", "c14_pack.first", "c14_pack.inner", "c14_pack.inner.a", "c14_pack.b", "c14_e", "c14_e.c",
        "c14_d",
    }  # fmt: skip


def test_of_a_package_on_the_way_counts_what_its_import_runs(place):
    place(
        c4_pack__init="import c4_at_once\ndef api():\n    import c4_later",
        c4_pack__inner="",
        c4_at_once="",
        c4_later="",
    )
    assert modules_of("c4_pack.inner") == {"c4_pack", "c4_pack.inner", "c4_at_once"}
    assert modules_of("c4_pack") == {"c4_pack", "c4_at_once", "c4_later"}


def test_bases_count_even_if_their_modules_are_not_imported_by_name(place):
    place(c5_base="class Base: pass", c5_factory="import sys\ndef make():\n    return sys.modules['c5_base'].Base")
    load_module("c5_base")
    base = load_module("c5_factory").make()
    assert modules_of(type("Mine", (base,), {"__module__": "c5_factory"})) == {"c5_factory", "c5_base"}


def test_a_package_of_ones_own_counts_by_its_source_also_where_it_is_installed(place, monkeypatch):
    folder = place(lib__init="")
    site = folder / "lib/site-packages"
    site.mkdir()
    (site / "c6_mine.py").write_text("import c6_other\nclass Mine: pass")
    (site / "c6_other.py").write_text("")
    (site / "c6_pack").mkdir()
    (site / "c6_pack/__init__.py").write_text("")
    (site / "c6_pack/root.py").write_text("from c6_pack import part\nclass Mine: pass")
    (site / "c6_pack/part.py").write_text("from . import further")
    (site / "c6_pack/further.py").write_text("")
    monkeypatch.syspath_prepend(str(site))
    assert modules_of(load_module("c6_mine").Mine) == {"c6_mine"}
    inside = {"c6_pack", "c6_pack.root", "c6_pack.part", "c6_pack.further"}
    assert modules_of(load_module("c6_pack.root").Mine) == inside
    assert code_of("c6_mine").key["versions"]["c6_other"] is None  # of no distribution


def test_versions_are_those_of_the_libraries_and_of_what_they_require(place):
    place(c7_root="from sklearn.svm import SVC", c7_none="import json, c7_missing")
    versions = code_of("c7_root").key["versions"]
    assert {"scikit-learn", "scipy", "numpy"} <= versions.keys()
    assert all(versions.values())
    assert "torch" not in versions
    assert code_of("c7_none").key["versions"] == {"c7_missing": None}


EDITS = {
    "comment": ("x = 1  # here\n", True),
    "layout": ("x  =  1\n\n", True),
    "docstring": ('"""Of x."""\nx = 1\n"""x."""\n', True),
    "value": ("x = 2\n", False),
    "string that is used": ("x = 1\ny = '1'\n", False),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_after_loading_makes_the_code_unknown_unless_it_does_the_same(place, capsys, edit):
    name = f"c8_{edit.replace(' ', '_')}"
    folder = place(**{name: "x = 1\n"})
    load_module(name)
    before = code_of(name)
    assert before.is_current()
    text, same = EDITS[edit]
    (folder / f"{name}.py").write_text(text)
    assert before.is_current() == same
    assert (code_of(name).key == before.key) == same
    assert (code_of(name).key == code_of(name).key) == same, "nobody finds what is not known"
    assert capsys.readouterr().err.count("changed after") == (0 if same else 1)


def test_a_module_that_others_imported_is_known_only_if_its_file_is_older_than_the_process(place):
    place(c9_new="")
    importlib.import_module("c9_new")
    assert "unknown" in code_of("c9_new").key
    assert "unknown" not in code_of("harness.seeding").key


def test_an_edit_is_seen_also_of_a_file_that_was_compared_before(place):
    folder = place(c12_root="import c12_other", c12_other="x = 1")
    load_module("c12_root")
    old = time.time() - 3600
    for name in ("c12_root", "c12_other"):  # long ago by their own account; the system knows better
        os.utime(folder / f"{name}.py", (old, old))
    before = code_of("c12_root")
    assert before.is_current()
    assert before.is_current()
    (folder / "c12_other.py").write_text("x = 2")
    os.utime(folder / "c12_other.py", (old, old))
    assert not before.is_current()
    assert "unknown" in code_of("c12_root").key


def test_a_settled_file_is_read_once(place, monkeypatch):
    place(c13_root="")
    load_module("c13_root")
    reads: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: reads.append(file) or read_bytes(file))
    code = code_of("c13_root")
    assert code.is_current()
    assert code.is_current()
    assert len(reads) == 3, "another change may still have the same time"
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    assert code.is_current()
    assert code.is_current()
    assert len(reads) == 4


def test_what_was_missing_counts_once_it_is_there(place):
    place(c14_root="try:\n    import c14_missing\nexcept ImportError:\n    pass", c14_pack__init="")
    assert modules_of("c14_root") == {"c14_root"}
    assert code_of("c14_root").key["versions"] == {"c14_missing": None}
    place(c14_missing="")
    assert modules_of("c14_root") == {"c14_root", "c14_missing"}
    assert code_of("c14_root").key["versions"] == {}


def test_what_has_no_file_is_not_known(monkeypatch):
    module = type(os)("c10_typed")
    exec("class Mine: pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "c10_typed", module)
    assert "unknown" in code_of(module.Mine).key


def test_the_digest_of_a_module_does_not_depend_on_what_has_been_imported(place):
    place(c11_root="def f():\n    import c11_other", c11_other="import c11_third", c11_third="")
    before = code_of("c11_root").key
    load_module("c11_other")
    assert code_of("c11_root").key == before


def distribution(folder, name, version, *requires):
    """The metadata of a distribution, as an installer leaves them."""
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (place / "METADATA").write_text("\n".join(lines) + "\n")
    (place / "top_level.txt").write_text(f"{name}\n")


VERSIONS = """
import sys
import harness.code
sys.path[:0] = sys.argv[1:]
print(harness.code.code_of("c20_mine").key["versions"])
"""


def test_a_version_is_of_what_is_installed_and_required_here(tmp_path):
    """Not of what a library carries along in a folder of its own, as Ray does, nor of what another system needs."""
    installed = tmp_path / "site-packages"
    distribution(installed, "c20_library", "1.0", "c20_needed>=1", 'c20_windows; sys_platform == "nowhere"')
    distribution(installed, "c20_needed", "2.0")
    distribution(installed, "c20_windows", "3.0")
    distribution(installed / "c20_library" / "vendored", "c20_needed", "0.1")
    for name in ("c20_library", "c20_needed", "c20_windows"):
        (installed / f"{name}.py").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "c20_mine.py").write_text("import c20_library")
    orders = [[installed / "c20_library" / "vendored", installed], [installed]]
    printed = []
    for places in orders:
        command = [sys.executable, "-c", VERSIONS, *map(str, [*places, tmp_path / "mine"])]
        root = Path(__file__).parents[1]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout)
    assert printed[0] == printed[1] == "{'c20-needed': '2.0', 'c20_library': '1.0'}\n"
