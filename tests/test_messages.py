"""Errors on one line, as every message quotes them."""

from __future__ import annotations

import pytest

from harness import messages


@pytest.mark.parametrize(
    ("error", "message", "cause"),
    [
        (ValueError("no such\n  file"), "no such file", "ValueError: no such file"),
        (MemoryError(), "MemoryError", "MemoryError:"),
        (KeyError("name"), "'name'", "KeyError: 'name'"),
    ],
)
def test_an_error_is_quoted_on_one_line(error, message, cause):
    assert messages.message_of(error) == message
    assert messages.cause_of(error) == cause


def test_a_long_error_is_cut_with_a_mark():
    error = ValueError("no " * 1000)
    assert len(messages.message_of(error)) == 2999
    for text in (messages.message_of(error, 100), messages.cause_of(error, 100)):
        assert len(text) == 100
        assert text.endswith(messages.CUT)
