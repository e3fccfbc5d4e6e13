"""Errors on one line, as every message quotes them, and no secret in any."""

from __future__ import annotations

import random
import re
from urllib.parse import quote

import pytest

from harness import messages
from harness.messages import public, public_command, without_secrets


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


def uris_with(secret: str, host: str) -> list[str]:
    """Every place of a URI in which a secret is given, as it is and encoded."""
    encoded = quote(secret, safe="")
    return [
        f"postgresql+psycopg2://me:{secret}@{host}/mlflow",
        f"https://{encoded}@{host}",
        f"mysql://me:{encoded}@{host}/db?ssl_ca=x&token={encoded}",
        f"postgresql://{host}/db?user=me@x&PassWord={encoded}&sslmode=require",
        f"s3://KEY:{secret}@bucket/prefix?endpoint_override={host}",
        f"s3://bucket/prefix?secret_key={secret}&region=eu",
    ]


def test_no_secret_of_a_thousand_uris_is_shown():
    rng = random.Random(0)
    alphabet = "abcXYZ019_-.~%!$&'()*+,;=:@/?#[] \"|`^"
    number = 0
    while number < 1000:
        secret = "".join(rng.choice(alphabet) for _ in range(rng.randint(6, 16))).strip()
        if len(secret) < 6 or re.search(r"&[A-Za-z][\w.%-]+=", secret):  # which says that it ends there
            continue
        for uri in uris_with(secret, rng.choice(["box", "db.example.org:5432", "10.0.0.7:5000"])):
            number += 1
            shown = [without_secrets(uri), public_command("sweep", ["a b.yaml", f"--tracking-uri={uri}"])]
            shown += [public(f"cannot reach '{uri}': refused")] if "'" not in secret else []
            shown += [public(f"{uri} is away; ask me@x")] if not set(" '\"") & set(secret) else []
            pieces = {secret, quote(secret, safe=""), *(secret[at : at + 5] for at in range(len(secret) - 4))}
            assert not [text for text in shown for piece in pieces if piece in text], uri


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:5000",
        "https://box/path@x",
        "sqlite:////tmp/a@b/what? 2/mlflow.db",
        "postgresql://h:5432/db?sslmode=require&user=me",
        "s3://b/p?endpoint_override=http://127.0.0.1:9000&region=x",
        "http://[::1]:5000/#/experiments/3",
    ],
)
def test_a_uri_without_a_secret_is_shown_as_it_is(uri):
    assert without_secrets(uri) == uri
    assert public(f"at '{uri}'") == f"at '{uri}'"


def test_what_the_environment_keeps_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("HARMLESS", "wJalrXUtnFEMJ")
    assert public("denied: wJalrXUtnFEMI, wJalrXUtnFEMJ") == "denied: ***, wJalrXUtnFEMJ"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (95.4, "95 s"), (99.7, "2 min"), (2116, "35 min"), (5399, "90 min"), (9000, "2 h 30 min")],
)
def test_a_duration_is_said_no_finer_than_asked(seconds, text):
    assert messages.duration(seconds) == text
