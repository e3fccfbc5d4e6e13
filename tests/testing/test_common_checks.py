"""The checks of every kind are tried on plugins that break one promise, and checks run as they say."""

import re
import socket
from contextlib import suppress
from functools import partial

import pytest
import torch
from good_plugins import GoodAugmentation, GoodBackbone, GoodMethod, GoodSelector, assert_found, broken

from harness.testing.augmentations import check_augmentation
from harness.testing.common import COMMON_CHECKS, check_imports, global_states
from harness.testing.selectors import check_selector
from harness.testing.ssl_methods import check_ssl_method


class ManyKeywords(GoodSelector):
    """Takes anything."""

    def __init__(self, **settings):
        pass


class Positional(GoodSelector):
    """Takes its hyper-parameter by position."""

    def __init__(self, beta=1.0):
        self.beta = beta


class NoDefault(GoodMethod):
    """Has no default: see beta: here."""

    def __init__(self, backbone, *, beta):
        super().__init__(backbone)
        self.beta = beta


class Forgets(GoodSelector):
    """Keeps its hyper-parameter under another name."""

    def __init__(self, *, beta=1.0):
        self._beta = beta


class Changes(GoodSelector):
    """Keeps something else than it was given."""

    def __init__(self, *, beta=1.0):
        self.beta = 2 * beta


class Unexplained(GoodSelector):
    """Explains nothing."""

    def __init__(self, *, beta=1.0):
        self.beta = beta


class TwoLineSummary(GoodSelector):
    """A sentence that goes on
    in the second line.
    """


class NoDocstring(GoodSelector):
    pass


class OwnWeights(GoodBackbone):
    """Has a hyper-parameter of a name that is taken.

    Args:
        freeze: nothing.
    """

    def __init__(self, image_shape, *, freeze: bool = False):
        super().__init__(image_shape)
        self.freeze = freeze


class Pretender:
    """Has the method but not the contract."""

    supports_cold_start = True
    select = GoodSelector.select


def _connect(self):
    socket.create_connection(("localhost", 9))


def _try_to_connect(self):
    with suppress(OSError):
        socket.create_connection(("localhost", 9))


BROKEN = [
    ("selectors", "class_fits_its_kind", Pretender, "does not derive from Selector"),
    ("selectors", "class_fits_its_kind", broken(GoodSelector, __init__=_connect), "uses the network"),
    ("selectors", "class_fits_its_kind", broken(GoodSelector, __init__=_try_to_connect), "uses the network"),
    (
        "selectors",
        "class_fits_its_kind",
        broken(GoodSelector, __init__=lambda self: setattr(self, "shift", torch.rand(()))),
        "global generator of torch",
    ),
    ("selectors", "hyperparameters_are_keywords", ManyKeywords, "takes **settings"),
    ("selectors", "hyperparameters_are_keywords", Positional, "takes ['beta'] by position"),
    ("selectors", "hyperparameters_are_keywords", Forgets, "'beta' is not kept as an attribute"),
    ("selectors", "hyperparameters_are_keywords", Changes, "'beta' is 2.0, not the value it was given, 1.0"),
    ("selectors", "docstring_has_a_summary", NoDocstring, "no docstring"),
    ("selectors", "docstring_has_a_summary", TwoLineSummary, "not a summary: 'A sentence that goes on'"),
    ("selectors", "docstring_has_a_summary", Unexplained, "does not say what hyper-parameter 'beta' does"),
    ("backbones", "hyperparameters_are_keywords", OwnWeights, "'freeze' is a hyper-parameter that all backbones have"),
    ("ssl_methods", "hyperparameters_are_keywords", partial(NoDefault, beta=1.0), "'beta' has no default"),
]


@pytest.mark.parametrize(("kind", "name", "plugin", "words"), BROKEN)
def test_a_broken_promise_is_found(kind, name, plugin, words):
    assert_found(kind, name, plugin, words)


def test_every_check_is_tried_on_a_broken_plugin():
    assert {name for _, name, *_ in BROKEN} >= {check.__name__ for check in COMMON_CHECKS}


# --- how checks run ---


def test_the_sentence_names_plugin_and_check():
    with pytest.raises(AssertionError, match=r"^Unexplained, docstring_has_a_summary: the docstring does not say"):
        check_selector(Unexplained)


def test_an_exempted_check_may_fail():
    check_selector(Unexplained, exempt={"docstring_has_a_summary": "the test wants it so"})


def test_an_exemption_without_need_is_an_error():
    with pytest.raises(AssertionError, match="passes picks_are_valid, so it is no exception"):
        check_selector(GoodSelector, exempt={"picks_are_valid": "no reason at all"})


def test_an_exemption_from_an_unknown_check_is_an_error():
    with pytest.raises(AssertionError, match="no check 'picks_are_vald'; did you mean 'picks_are_valid'"):
        check_selector(GoodSelector, exempt={"picks_are_vald": "misspelt"})


def test_the_callers_random_states_survive_the_checks():
    before = global_states()
    check_selector(GoodSelector)
    check_augmentation(GoodAugmentation)
    check_ssl_method(GoodMethod)
    assert global_states() == before


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from harness.trial.pretrain import pretrain", "harness.trial.pretrain.pretrain"),
        ("import harness.data", "harness.data"),
        ("from harness import data", "harness.data"),
        ("def f():\n    import harness.data.oracle as o", "harness.data.oracle"),
        ("from harness import api, seeding", None),
        ("from harness.api import Pool\nimport harness_of_a_horse", None),
    ],
)
def test_imports_of_the_harness(tmp_path, monkeypatch, line, name):
    module = f"imports_{abs(hash(line))}"
    source = f"if False:\n    {line.replace(chr(10), chr(10) + '    ')}\n\nclass Plugin:\n    pass\n"
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    plugin = __import__(module).Plugin
    if name is None:
        check_imports(plugin)
    else:
        with pytest.raises(AssertionError, match=re.escape(f"imports {name};")):
            check_imports(plugin)
