"""Names to classes: built-ins, entry points, module:Class, and the sentences for what goes wrong."""

import json
import re
from importlib.metadata import Distribution, EntryPoint
from typing import Any

import pytest

from baselines import BUILTINS
from baselines.augmentations.color_jitter import ColorJitter
from baselines.augmentations.crop import Crop
from baselines.augmentations.flip import Flip
from baselines.augmentations.pair import Pair
from baselines.backbones.dcnn3 import DCNN3
from baselines.selectors.random import Random
from baselines.ssl_methods.simclr import SimCLR
from harness import messages
from harness.api import Backbone, Family, Selector
from harness.config.json_schema import schema
from harness.config.schema import Problems, parse_plugin
from harness.plugins import registry
from harness.plugins.__main__ import main
from harness.plugins.registry import (
    PluginSpec,
    as_spec,
    build,
    classes,
    defaults,
    describe_plugins,
    find_plugin,
    plugin_names,
    providers,
)

OF_BACKBONES = {"weights": None, "freeze": False, "input_size": "auto", "normalize": "auto"}
KINDS = ["datasets", "augmentations", "backbones", "ssl_methods", "selectors"]


class FakeDistribution(Distribution):
    """An installed package of which nothing but the name is known."""

    def __init__(self, name):
        self._name = name

    @property
    def name(self):
        return self._name

    def read_text(self, filename):
        return None

    def locate_file(self, path):
        raise NotImplementedError


@pytest.fixture
def install(monkeypatch):
    """install(package, kind, name, target) as if a package offered a plugin."""
    offered = []

    def entry_points(*, group):
        return [point for point in offered if point.group == group]

    def install(package, kind, name, target):
        offered.append(EntryPoint(name, target, f"selbench.{kind}")._for(FakeDistribution(package)))
        registry.installed.cache_clear()

    monkeypatch.setattr(registry, "entry_points", entry_points)
    registry.installed.cache_clear()
    yield install
    registry.installed.cache_clear()


def refused(message):
    return pytest.raises(ValueError, match=re.escape(message))


# --- names ---


@pytest.mark.parametrize("kind", KINDS)
def test_built_ins_are_found(kind):
    single = {name: target for name, target in BUILTINS[kind].items() if name[-1] != "/"}
    assert set(plugin_names(kind)) >= set(single)
    for name, target in single.items():
        plugin = find_plugin(kind, name)
        assert f"{plugin.__module__}:{plugin.__name__}" == target
        assert plugin.__module__.rpartition(".")[0] == f"baselines.{kind}"
        assert providers(kind, name)[0] == "selbench"


def test_kinds_of_the_contracts_and_of_the_built_ins_agree():
    assert list(registry.CONTRACTS) == KINDS == list(BUILTINS)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("selectors", "corset", "no selector 'corset'; did you mean 'coreset'?"),
        ("ssl_methods", "simclear", "no ssl_method 'simclear'; did you mean 'simclr'?"),
        ("backbones", "zzz", "no backbone 'zzz'; known: "),
        ("selectors", "Random", "no selector 'Random'; did you mean 'random'?"),
        ("selectors", "", "no selector ''; known: "),
    ],
)
def test_an_unknown_name_is_met_with_the_nearest(kind, name, message):
    with refused(message):
        find_plugin(kind, name)


def test_closest_of_nothing():
    assert messages.closest("a", []) == "none is known"


def test_a_class_can_be_named_by_its_module():
    assert find_plugin("selectors", "baselines.selectors.random:Random") is Random
    assert build(PluginSpec("augmentations", "baselines.augmentations.flip:Flip")).__class__ is Flip


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("./my_plugin.py:Mine", "did you mean 'my_plugin:Mine'?"),
        ("here/my_plugin.py:Mine", "did you mean 'here.my_plugin:Mine'?"),
        ("my_plugin.py:Mine", "did you mean 'my_plugin:Mine'?"),
        ("no_such_module:Class", "cannot be imported from 'no_such_module:Class': ModuleNotFoundError"),
        ("baselines.selectors.random:Rando", "AttributeError"),
        ("baselines.selectors.random:", "cannot be imported"),
        (":Random", "cannot be imported"),
        (
            "baselines.backbones.dcnn3:DCNN3",
            "selector 'baselines.backbones.dcnn3:DCNN3': baselines.backbones.dcnn3:DCNN3 does not derive from "
            "harness.api.Selector",
        ),
        ("math:pi", "math:pi does not derive from harness.api.Selector"),
    ],
)
def test_a_class_that_is_none_is_refused(target, message):
    with refused(message):
        find_plugin("selectors", target)


@pytest.mark.parametrize("text", ["class Selector(:", "1 / 0", "raise RuntimeError('broken')", "import not_installed"])
def test_a_module_that_fails_is_a_users_mistake(tmp_path, monkeypatch, install, text):
    module = f"fails_{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    install("faulty", "selectors", "faulty", f"{module}:Mine")
    with refused(f"selector 'faulty' cannot be imported from '{module}:Mine'"):
        find_plugin("selectors", "faulty")
    (entry,) = (item for item in describe_plugins() if item["name"] == "faulty")
    assert entry["provider"] == f"faulty ({module}:Mine)"
    assert "cannot be imported" in entry["error"]


# --- entry points ---


def test_an_installed_plugin_is_found_under_its_name(install):
    install("somebodys-package", "selectors", "theirs", "baselines.selectors.random:Random")
    assert "theirs" in plugin_names("selectors")
    assert find_plugin("selectors", "theirs") is Random
    assert providers("selectors", "theirs") == ["somebodys-package (baselines.selectors.random:Random)"]
    with refused("no backbone 'theirs'"):
        find_plugin("backbones", "theirs")


def test_a_name_offered_twice_is_an_error_when_it_is_used(install):
    install("one", "selectors", "twice", "a:A")
    install("two", "selectors", "twice", "b:B")
    assert plugin_names("selectors").count("twice") == 1
    with refused("selector 'twice' is offered by one (a:A) and by two (b:B); use module:Class"):
        find_plugin("selectors", "twice")


def test_an_installed_plugin_cannot_replace_a_built_in(install):
    install("sneaky", "selectors", "random", "sneaky:Random")
    with refused("selector 'random' is offered by selbench and by sneaky (sneaky:Random); use module:Class"):
        find_plugin("selectors", "random")
    assert find_plugin("selectors", "coreset").__name__ == "CoreSet"


# --- hyper-parameters ---


def test_hyperparameters_are_the_keyword_only_arguments():
    assert defaults(SimCLR) == {
        "temperature": 0.5,
        "hidden_dim": 512,
        "projection_dim": 128,
        "depth": 2,
        "batch_norm": True,
        "output_norm": False,
        "output_relu": False,
        "init": "torch",
    }
    assert registry.hints(SimCLR)["temperature"] is float
    assert defaults(DCNN3) == {"width": 32, "dropout": 0.0, "init": "torch", **OF_BACKBONES}
    assert defaults(Random) == {"pool_subset": None, "normalize": None}


def test_build_sets_hyperparameters():
    backbone = build(PluginSpec("backbones", "dcnn3", {"width": 5}), (3, 16, 16))
    assert backbone.feature_dim == 4 * 5 * 2 * 2
    method = build(as_spec("ssl_methods", {"name": "simclr", "temperature": 0.07}), backbone)
    assert (method.temperature, method.depth) == (0.07, 2)


def test_an_unknown_hyperparameter_is_met_with_the_nearest():
    with refused("simclr has no hyper-parameter 'temprature'; did you mean 'temperature'?"):
        build(PluginSpec("ssl_methods", "simclr", {"temprature": 1.0}), None)
    with refused("random has no hyper-parameter 'seed'; known: normalize, pool_subset"):
        build(PluginSpec("selectors", "random", {"seed": 1}))


def test_a_refused_value_names_the_plugin():
    with refused("backbone 'dcnn3': width = 0 is not >= 1"):
        build(PluginSpec("backbones", "dcnn3", {"width": 0}), (3, 32, 32))


@pytest.mark.parametrize("value", [{}, {"beta": 1}, {"name": 3}, 3, None, ["random"]])
def test_a_plugin_needs_a_name(value):
    with refused(f"{value!r} names no selector; known: "):
        as_spec("selectors", value)


def test_spec_of_a_spec_is_itself():
    spec = PluginSpec("selectors", "random")
    assert as_spec("selectors", spec) is spec
    assert as_spec("selectors", "random") == as_spec("selectors", {"name": "random"}) == spec


def test_as_spec_leaves_its_argument_alone():
    value = {"name": "dcnn3", "width": 3}
    assert as_spec("backbones", value) == PluginSpec("backbones", "dcnn3", {"width": 3})
    assert value == {"name": "dcnn3", "width": 3}


class ForCheckers(Random):
    """Names a type that type checkers alone import."""

    def __init__(self, *, weights: "Sequence[float]" = (1.0, 2.0), depth: int = 3):  # noqa: F821
        self.weights, self.depth = weights, depth


def test_a_type_that_only_type_checkers_know_takes_any_value():
    assert registry.hints(ForCheckers) == {**registry.hints(Random), "weights": Any, "depth": int}
    problems = Problems()
    spec = parse_plugin("selectors", {"name": f"{__name__}:ForCheckers", "weights": [3], "depth": "x"}, "s", problems)
    assert problems.found == ["s.depth: expected a whole number, not 'x'"]
    assert spec.hyperparameters["weights"] == [3]
    assert build(PluginSpec("selectors", f"{__name__}:ForCheckers", {"weights": [3]})).weights == [3]


class NoDefault(Random):
    """Cannot be built from its name."""

    def __init__(self, *, beta: float):
        self.beta = beta


class ByPosition(Random):
    """Has a hyper-parameter that no configuration reaches."""

    def __init__(self, beta: float = 1.0):
        self.beta = beta


class NoShape(DCNN3):
    """Takes no image shape."""

    def __init__(self, *, width: int = 3):
        super().__init__((3, 8, 8), width=width)


@pytest.mark.parametrize(
    ("kind", "plugin", "words"),
    [
        ("selectors", NoDefault, "hyper-parameter 'beta' has no default; give it one"),
        ("selectors", ByPosition, "takes ['beta'] by position, 0 expected; hyper-parameters are keyword-only"),
        ("backbones", NoShape, "takes [] by position, 1 expected"),
    ],
)
def test_a_constructor_whose_settings_cannot_be_set_is_refused(install, kind, plugin, words):
    target = f"{__name__}:{plugin.__name__}"
    with refused(words):
        find_plugin(kind, target)
    install("theirs", kind, "unusable", target)
    (entry,) = (item for item in describe_plugins() if item["name"] == "unusable")
    assert words in entry["error"]
    assert not entry["hyperparameters"]


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"needs": frozenset({"probability"})}, "needs has 'probability'; did you mean 'probabilities'?"),
        ({"reads": frozenset({"imgs"})}, "reads has 'imgs'; did you mean 'images'?"),
        ({"reads": "images"}, "reads is 'images', not a frozenset"),
        ({"needs": {"probabilities"}}, "needs is {'probabilities'}, not a frozenset"),
    ],
)
def test_a_selector_that_declares_what_there_is_not_is_refused(monkeypatch, declared, words):
    monkeypatch.setattr("baselines.selectors.random.Random", type("Odd", (Random,), declared))
    with refused(f"selector 'random': {words}"):
        build(PluginSpec("selectors", "random"))


# --- what every plugin of a kind has ---


class Freezes(Backbone):
    """Remembers what is frozen of it."""

    def __init__(self, image_shape, *, width: int = 3):
        super().__init__()
        self.feature_dim = width

    def forward(self, images):
        return images.flatten(1)[:, : self.feature_dim]

    def freeze(self, depth):
        self.depth = depth


class NoContract(Flip):
    """Has a method that happens to be called as another contract's."""

    def freeze(self, *, speed: float = 1.0):
        raise AssertionError


def test_every_backbone_has_the_settings_of_the_contract(monkeypatch):
    monkeypatch.setattr("baselines.backbones.dcnn3.DCNN3", Freezes)
    assert registry.shared(Freezes) == OF_BACKBONES
    assert defaults(Freezes) == {"width": 3, **OF_BACKBONES}
    hints = registry.hints(Freezes)
    assert hints.keys() == {"width", *OF_BACKBONES}
    assert (hints["width"], hints["weights"], hints["freeze"]) == (int, str | None, bool | int)
    built = build(PluginSpec("backbones", "dcnn3", {"freeze": 2, "width": 5}), (3, 8, 8))
    assert (built.feature_dim, built.depth) == (5, 2)


def test_a_method_that_is_called_as_a_contracts_is_left_alone(monkeypatch):
    monkeypatch.setattr("baselines.augmentations.flip.Flip", NoContract)
    assert registry.shared(NoContract) == {}
    assert isinstance(build(PluginSpec("augmentations", "flip")), NoContract)


def test_settings_of_the_kind_are_checked_like_hyperparameters():
    problems = Problems()
    parse_plugin("backbones", {"name": "dcnn3", "freeze": "all", "wieghts": "x.pt"}, "backbone", problems)
    assert problems.found == [
        "backbone.freeze: expected true or false or a whole number, not 'all'",
        "backbone.wieghts: dcnn3 has no hyper-parameter 'wieghts'; did you mean 'weights'?",
    ]
    with refused("backbone 'dcnn3': freeze = 4 is neither true nor false nor in 1 .. 3, its stages"):
        build(PluginSpec("backbones", "dcnn3", {"freeze": 4}), (3, 32, 32))


# --- families ---


class Many(Family, Selector):
    """One of many.

    Args:
        beta: of all of them.
    """

    def __init__(self, *, beta: float = 1.0):
        self.beta = beta

    def select(self, pool, budget, *, rng):
        return pool.unlabeled[:budget]

    @classmethod
    def members(cls):
        return ["Margin", "Entropy"]

    @classmethod
    def member(cls, name):
        return type(name, (cls,), {"__doc__": f"{name} of many.", "__module__": cls.__module__})


class Absent(Many):
    """A family whose library is not installed."""

    @classmethod
    def members(cls):
        return []

    @classmethod
    def member(cls, name):
        raise ValueError("its library is not installed: pip install many")


@pytest.fixture
def families(monkeypatch):
    monkeypatch.setitem(BUILTINS["selectors"], "many/", f"{__name__}:Many")
    monkeypatch.setitem(BUILTINS["selectors"], "absent/", f"{__name__}:Absent")


@pytest.mark.usefixtures("families")
def test_members_of_a_family_are_plugins():
    found = find_plugin("selectors", "many/Margin")
    assert issubclass(found, Many)
    assert found.__name__ == "Margin"
    assert providers("selectors", "many/Margin") == ["selbench"]
    spec = as_spec("selectors", {"name": "many/Entropy", "beta": 2.0})
    assert build(spec).beta == 2.0
    assert spec.as_dict() == {"name": "many/Entropy", "beta": 2.0, "pool_subset": None, "normalize": None}
    assert registry.members("selectors")[-2:] == ["many/Margin", "many/Entropy"]


@pytest.mark.usefixtures("families")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("many/Margn", "no selector 'many/Margn'; did you mean 'many/Margin'?"),
        ("many/", "no selector 'many/'; did you mean 'many/Margin'?"),
        ("Entropy_", "no selector 'Entropy_'; did you mean 'entropy'?"),
        ("any/Entropy", "no selector 'any/Entropy'; did you mean 'many/Entropy'?"),
        ("absent/Margin", "selector 'absent/Margin': its library is not installed: pip install many"),
    ],
)
def test_an_unknown_member_is_met_with_the_nearest(name, message):
    with refused(message):
        find_plugin("selectors", name)


@pytest.mark.usefixtures("families")
def test_a_family_is_one_entry_of_a_list(capsys):
    assert {"many/<name>", "absent/<name>"} <= set(plugin_names("selectors"))
    entries = {entry["name"]: entry for entry in describe_plugins()}
    assert entries["many/<name>"] == {
        "kind": "selectors",
        "name": "many/<name>",
        "provider": "selbench",
        "summary": "One of many.",
        "hyperparameters": {"beta": 1.0, "pool_subset": None, "normalize": None},
    }
    assert "error" not in entries["absent/<name>"]
    assert "many/Margin" not in entries
    assert main(["--json"]) == 0
    assert [e for e in json.loads(capsys.readouterr().out) if e["name"] == "many/<name>"] == [entries["many/<name>"]]


def test_a_package_may_offer_a_family(install):
    install("theirs", "selectors", "lots/", f"{__name__}:Many")
    assert "lots/<name>" in plugin_names("selectors")
    assert issubclass(find_plugin("selectors", "lots/Margin"), Many)
    assert providers("selectors", "lots/Entropy") == [f"theirs ({__name__}:Many)"]
    assert "lots/Entropy" in registry.members("selectors")
    with refused("no selector 'lots/Margn'; did you mean 'lots/Margin'?"):
        find_plugin("selectors", "lots/Margn")


def test_a_family_must_be_one(install):
    install("theirs", "selectors", "random/", "baselines.selectors.random:Random")
    with refused("selector 'random/': baselines.selectors.random:Random does not derive from harness.api.Family"):
        find_plugin("selectors", "random/x")
    with refused("no selector 'corset'; did you mean 'coreset'?"):  # which looks at the members of all families
        find_plugin("selectors", "corset")
    (entry,) = (item for item in describe_plugins() if item["name"] == "random/<name>")
    assert "does not derive from harness.api.Family" in entry["error"]


def test_a_family_that_forgets_a_method_makes_no_members():
    class Half(Family, Selector):
        @classmethod
        def members(cls):
            return []

    with pytest.raises(TypeError, match="abstract"):
        Half()


@pytest.mark.usefixtures("families")
def test_an_installed_plugin_cannot_replace_a_member(install):
    install("sneaky", "selectors", "many/Margin", "sneaky:Margin")
    with refused("selector 'many/Margin' is offered by selbench and by sneaky (sneaky:Margin); use module:Class"):
        find_plugin("selectors", "many/Margin")


# --- plugins in plugins ---


def test_nested_plugins_are_built_from_names_mappings_and_specs():
    mapping = {"name": "crop", "scale": [0.5, 1.0]}
    for first in (mapping, PluginSpec("augmentations", "crop", {"scale": [0.5, 1.0]})):
        pair = build(as_spec("augmentations", {"name": "pair", "first": first, "second": "flip"}))
        assert [type(pair), type(pair.first), type(pair.second)] == [Pair, Crop, Flip]
        assert tuple(pair.first.scale) == (0.5, 1.0)
    default = build(PluginSpec("augmentations", "pair"))
    assert [type(default.first), type(default.second)] == [Crop, ColorJitter]
    given = build(PluginSpec("augmentations", "pair", {"first": pair, "second": "flip"}))
    assert given.first is pair


def test_lists_of_plugins_are_built_from_names_mappings_specs_and_plugins():
    flip = build(as_spec("augmentations", "flip"))
    views = ["crop", {"name": "pair", "first": "flip"}, PluginSpec("augmentations", "crop"), flip]
    spec = as_spec("augmentations", {"name": "by_view", "views": views})
    built = build(spec)
    assert [type(view) for view in built.views[:3]] == [Crop, Pair, Crop]
    assert built.views[3] is flip
    short = PluginSpec("augmentations", "by_view", {"views": ["crop", {"name": "pair", "first": "flip"}]})
    canonical = short.as_dict()["views"]
    assert [view["name"] for view in canonical] == ["crop", "pair"]
    assert canonical[0] == PluginSpec("augmentations", "crop").as_dict()
    assert canonical[1]["second"]["name"] == "color_jitter"
    assert {cls.__name__ for cls in registry.classes(short)} == {"ByView", "Crop", "Pair", "Flip", "ColorJitter"}


def test_mistakes_in_nested_plugins_are_named():
    with refused("no augmentation 'crap'; did you mean 'crop'?"):
        build(as_spec("augmentations", {"name": "pair", "first": "crap"}))
    with refused("crop has no hyper-parameter 'scael'; did you mean 'scale'?"):
        build(as_spec("augmentations", {"name": "pair", "first": {"name": "crop", "scael": 1}}))
    with refused("augmentation 'crop': scale"):
        build(as_spec("augmentations", {"name": "pair", "first": {"name": "crop", "scale": [0.0, 2.0]}}))


def test_canonical_mapping_fills_defaults_in_at_every_depth():
    crop = {"name": "crop", **{key: list(v) if isinstance(v, tuple) else v for key, v in defaults(Crop).items()}}
    spelled = PluginSpec("augmentations", "pair", {"first": PluginSpec("augmentations", "crop"), "second": "flip"})
    short = PluginSpec("augmentations", "pair", {"second": {"name": "flip"}})
    assert spelled.as_dict() == short.as_dict()
    assert short.as_dict()["first"] == crop
    assert short.as_dict()["second"]["name"] == "flip"
    assert PluginSpec("backbones", "dcnn3").as_dict() == {
        "name": "dcnn3",
        "width": 32,
        "dropout": 0.0,
        "init": "torch",
        "weights": None,
        "freeze": False,
        "input_size": "auto",
        "normalize": "auto",
    }


def test_the_code_of_a_plugin_includes_that_of_its_plugins():
    inner = {"name": "pair", "first": "flip", "second": "crop"}
    assert classes(as_spec("augmentations", {"name": "pair", "first": inner})) == [Pair, Pair, Flip, Crop, ColorJitter]
    assert classes(PluginSpec("selectors", "random")) == [Random]


# --- the command line ---


def test_the_schema_leaves_out_what_cannot_be_used(install):
    whole = schema()
    install("broken-package", "selectors", "their_selector", "not_there:Theirs")
    install("sneaky", "selectors", "random", "sneaky:Random")
    install("odd", "selectors", "odd", f"{__name__}:NoDefault")
    install("odd", "backbones", "odd/", "not_there:Family")
    install("typed", "selectors", "typed", f"{__name__}:ForCheckers")
    known, names = (set(made["definitions"]["selectors"]["anyOf"][0]["enum"]) for made in (whole, schema()))
    assert names == known - {"random"} | {"typed"}


def test_json_lists_every_plugin(capsys, install):
    install("broken-package", "selectors", "their_selector", "not_there:Theirs")
    assert main(["--json"]) == 0
    listed = [entry for entry in json.loads(capsys.readouterr().out) if entry["kind"] != "recipes"]
    assert {(entry["kind"], entry["name"]) for entry in listed} == {
        (kind, name) for kind in KINDS for name in plugin_names(kind)
    }
    by_name = {(entry["kind"], entry["name"]): entry for entry in listed}
    assert by_name["backbones", "dcnn3"] == {
        "kind": "backbones",
        "name": "dcnn3",
        "provider": "selbench",
        "summary": DCNN3.__doc__.splitlines()[0],
        "hyperparameters": {"width": 32, "dropout": 0.0, "init": "torch", **OF_BACKBONES},
    }
    assert "not_there" in by_name["selectors", "their_selector"]["error"]
    built_in = [entry for entry in listed if entry["provider"] == "selbench"]
    assert len(built_in) == sum(map(len, BUILTINS.values()))
    assert all(entry["summary"] and "error" not in entry for entry in built_in)


def test_table_lists_every_plugin(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    assert main([]) == 0
    printed = capsys.readouterr().out
    for kind in KINDS:
        assert kind.replace("_", " ") in printed
        assert all(name in printed for name in plugin_names(kind))
