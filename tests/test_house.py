"""The house holds: one-way arrows over the floors of CONTRIBUTING.md, modules and functions of a size, plain names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from house import House, floors, private_uses, without_encoding

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HARNESS, BASELINES = House(ROOT), House(ROOT, "baselines")
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 500, 60
NAMESAKES = {
    "SimCLR",  # Chen et al. 2020 describe a method and an augmentation, and both are called so in a YAML
}


def none(violations: list[str]) -> None:
    assert not violations, "\n" + "\n".join(violations)


# --- the house ---


def test_no_modules_import_each_other():
    none(HARNESS.file_circles())
    none(BASELINES.file_circles())


def test_no_rooms_import_each_other():
    none(HARNESS.room_circles())


def test_imports_lead_to_a_lower_floor():
    none(HARNESS.arrows_against(floors(GUIDE)))


def test_modules_have_a_size():
    none(HARNESS.long_modules(MOST_LINES) + BASELINES.long_modules(MOST_LINES))


def test_functions_fit_on_a_screen():
    none(HARNESS.long_functions(MOST_LINES_OF_A_FUNCTION) + BASELINES.long_functions(MOST_LINES_OF_A_FUNCTION))


def test_no_two_things_have_one_name():
    none(HARNESS.namesakes() + BASELINES.namesakes(NAMESAKES))


def test_what_is_found_has_a_noun():
    none(HARNESS.variables("found") + BASELINES.variables("found"))


def test_text_has_one_encoding_everywhere():
    files = [
        file for folder in ("harness", "baselines", "benchmarks", "examples") for file in ROOT.glob(f"{folder}/**/*.py")
    ]
    trees = {file.relative_to(ROOT): ast.parse(file.read_text(encoding="utf-8")) for file in files}
    none([f"{file}:{line}" for file, tree in trees.items() for line in without_encoding(tree)])


def test_modules_that_are_named_are_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("*.py")]
    texts = {page.name: page.read_text(encoding="utf-8") for page in pages}
    none(HARNESS.dangling({**HARNESS.texts, **BASELINES.texts, **texts}))


def test_tests_use_no_private_name_of_the_harness():
    none(sorted(use for file in (ROOT / "tests").rglob("*.py") for use in private_uses(file, "harness")))


# --- each check, on a house that breaks it ---


@pytest.fixture
def built(tmp_path):
    """built(files): a package `harness` of these sources; `__init__.py` of rooms need not be named."""

    def build(files: dict[str, str]) -> House:
        for name, text in files.items():
            file = tmp_path / "harness" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            (file.parent / "__init__.py").touch()
            file.write_text(text)
        (tmp_path / "harness" / "__init__.py").touch()
        return House(tmp_path)

    return build


WAYS_TO_IMPORT = {
    "from the module": "from harness.two.b import thing",
    "the module by its whole name": "import harness.two.b as b",
    "the module from its package": "from harness.two import b",
    "relative": "from ..two.b import thing",
    "relative, the module": "from ..two import b",
    "in a function": "def late():\n    from harness.two.b import thing",
    "for type checkers": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from harness.two.b import Thing",
}


@pytest.mark.parametrize("way", WAYS_TO_IMPORT)
def test_circles_are_seen_however_they_are_imported(built, way):
    house = built(
        {"one/a.py": WAYS_TO_IMPORT[way], "two/b.py": "from harness.one.a import x\nimport json, harness.one"}
    )
    assert house.file_circles() == ["harness.one.a -> harness.two.b -> harness.one.a"]
    assert house.room_circles() == ["one -> two -> one"]


def test_rooms_may_lie_on_a_circle_where_files_do_not(built):
    house = built({"one/a.py": "from harness.two import b", "two/b.py": "", "two/c.py": "from harness.one import a"})
    assert house.file_circles() == []
    assert house.room_circles() == ["one -> two -> one"]


def test_every_knot_is_told_once_and_shortly(built):
    sources = {"a": "b", "b": "c", "c": "a, b", "d": "e", "e": "d", "f": "a, d"}
    house = built({f"{name}.py": f"from harness import {others}" for name, others in sources.items()})
    assert house.file_circles() == [
        "harness.a -> harness.b -> harness.c -> harness.a",
        "harness.d -> harness.e -> harness.d",
    ]


def test_a_line_of_imports_is_no_circle(built):
    house = built(
        {
            "a.py": "",
            "one/b.py": "from harness import a",
            "two/c.py": "from harness import a\nfrom harness.one import b",
        }
    )
    assert house.file_circles() == house.room_circles() == []
    assert house.arrows == {
        ("harness.one.b", "harness.a"),
        ("harness.two.c", "harness.a"),
        ("harness.two.c", "harness.one.b"),
    }


def test_arrows_against_the_floors_are_seen(built):
    house = built(
        {
            "low.py": "",
            "one/a.py": "from harness import low",
            "one/__main__.py": "from harness.top.c import x",
            "two/b.py": "from harness.one import a",
            "top/c.py": "from harness.one import __main__\nfrom harness import low",
            "new.py": "from harness import low",
        }
    )
    table = "| floor | rooms |\n|---|---|\n| 1 | `low`, `gone` | x |\n| 2 | `one`, `two` | y |\n| 3 | `top` | `a` |\n"
    assert floors(table) == {"low": 1, "gone": 1, "one": 2, "two": 2, "top": 3}
    assert house.arrows_against(floors(table)) == [
        "gone is no room",
        "harness.top.c -> harness.one.__main__ (floor 3 -> 4)",
        "harness.two.b -> harness.one.a (floor 2 -> 2)",
        "new has no floor",
    ]


def test_sizes_are_seen(built):
    body = '    """One line."""\n' + "    x = 1\n" * 3
    house = built({"a.py": f"def short():\n{body}\n\nclass A:\n    def long(self):\n" + "        x = 1\n" * 5})
    assert house.long_functions(5) == ["harness.a.long has 6 lines"]
    assert house.long_functions(6) == []
    assert house.long_modules(14) == []
    assert house.long_modules(13) == ["harness.a has 14 lines"]


def test_namesakes_are_seen(built):
    house = built(
        {
            "a.py": "class Ape: ...\nclass _Bee: ...\nclass Cat: ...\nMOST = 1\nT = TypeVar('T')\ndef main(): ...",
            "b.py": "class Ape: ...\nclass _Bee: ...\nMOST: int = 2\nT = TypeVar('T')\ndef main(): ...",
            "c.py": "Cat = int\ndef read(): ...",
            "d.py": "def read(): ...\nclass Dog:\n    def read(self): ...\n    MOST = 3",
        }
    )
    assert house.namesakes() == [
        "Ape: harness.a, harness.b",
        "Cat: harness.a, harness.c",
        "MOST: harness.a, harness.b",
        "read: harness.c, harness.d",
    ]
    assert house.namesakes({"Ape", "Cat", "MOST", "read"}) == []


def test_modules_that_are_not_there_are_seen(built):
    house = built({"a.py": "x = 1", "one/b.py": "__all__ = ['late']"})
    text = "`harness.a` harness.a.x `harness.one.b` `harness/one/b.py`, harness.one.b.late, harness.__file__"
    text += "; `harness.b`, harness.a.y, harness/b.py, harness.c.x"
    assert house.dangling({"page": text}) == [
        "page: harness.a.y",
        "page: harness.b",
        "page: harness.c.x",
        "page: harness/b.py",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "def f(found): ...",
        "[found for found in x]",
        "if found := f(): ...",
        "with f() as found: ...",
        "for a, found in x: ...",
    ],
)
def test_variables_are_seen(built, source):
    assert built({"a.py": f"\n{source}\nproblems.found\nf(found=1)"}).variables("found") == ["harness.a:2"]


@pytest.mark.parametrize(
    ("source", "is_seen"),
    [
        ("path.read_text()", True),
        ("(folder / name).write_text(text)", True),
        ("open(path)", True),
        ("path.open('w')", True),
        ("os.fdopen(number, 'r+')", True),
        ("run(command, text=True)", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(text, 'utf-8')", False),
        ("archive.open('a.npy', 'w')", False),
        ("open(path, 'rb')", False),
        ("path.open('w', encoding='utf-8')", False),
        ("Image.open(path)", False),
        ("os.open(path, flags)", False),
    ],
)
def test_text_without_an_encoding_is_seen(source, is_seen):
    assert list(without_encoding(ast.parse(source))) == [1] * is_seen


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from shed.a.b import _c, d", ["shed.a.b._c"]),
        ("import shed.a._b", ["shed.a._b"]),
        ("from shed.a import b\nb._c()", ["shed.a.b._c"]),
        ("from shed.a.b import C as D\nD._e = 1", ["shed.a.b.C._e"]),
        ("import shed.a.b\nshed.a.b._c", ["shed.a.b._c"]),
        ("from shed.a import b\nmonkeypatch.setattr(b, '_c', 1)", ["shed.a.b._c"]),
        ("monkeypatch.setattr('shed.a._b', 1)", ["shed.a._b"]),
        ("run('from shed.a import b as c; c._d()')", ["shed.a.b._d"]),
        ("run(f'from shed.a import b; b._c({path!r})')", ["shed.a.b._c"]),
        ("from shed.a import b\nb.c\nb.__name__\nself._d\nfrom other import _e", []),
    ],
)
def test_private_names_are_seen(tmp_path, source, names):
    file = tmp_path / "test_a.py"
    file.write_text(f"{source}\n")
    assert [use.rpartition(" ")[2] for use in private_uses(file, "shed")] == names
