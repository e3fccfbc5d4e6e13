"""Errors on one line, as every message quotes them, and no secret in any."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shlex
import subprocess
import time
from urllib.parse import quote, quote_plus

import pytest

from harness import messages
from harness.messages import public, public_command, without_secrets


@pytest.mark.parametrize(
    ("error", "message", "cause"),
    [
        (ValueError("no such\n  file"), "no such file", "ValueError: no such file"),
        (MemoryError(), "MemoryError", "MemoryError"),
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
        f"//me:{secret}@{host}/mlflow",
        f"postgresql:/me:{secret}@{host}/mlflow",
        f"postgresql+psycopg2:me:{secret}@{host}/mlflow",
        f"https:me:{encoded}@{host}",
        f"http://{host}/?proxy=http://me:{encoded}@{host}/&x=1",
        f"http://{host}/?proxy={quote(f'http://me:{encoded}@{host}', safe='')}",
        f"mssql+pyodbc:///?odbc_connect={quote(f'DRIVER=X;SERVER={host};UID=me;PWD={secret}', safe='')}",
        f"postgresql://{host}/db?options={quote(f'-c password={secret}', safe='')}",
    ]


NAMES = (
    "password",
    "passwd",
    "pwd",
    "pw",
    "token",
    "access_token",
    "api-key",
    "key",
    "pat",
    "jwt",
    "sas",
    "access",
    "sig",
)
"""Of parameters whose values are secret."""


def disguised(name: str, rng: random.Random) -> str:
    """The name in a form that is the same to whoever reads it: letters encoded, once or twice, or something around."""
    for _ in range(rng.randint(0, 2)):
        name = "".join(f"%{ord(sign):02x}" if rng.random() < 0.3 else sign for sign in name)
    return rng.choice(["{}", "_{}", "1_{}", "x[{}]", "-{}", "x.{}", "{}_"]).format(name)


def test_no_secret_of_a_thousand_uris_is_shown():
    rng = random.Random(0)
    alphabet = "abcXYZ019_-.~%!$&'()*+,;=:@/?#[] \"|`^"
    number = 0
    while number < 1000:
        secret = "".join(rng.choice(alphabet) for _ in range(rng.randint(6, 16))).strip()
        if len(secret) < 6 or re.search(r"&[A-Za-z][\w.%-]+=", secret):  # which says that it ends there
            continue
        host = rng.choice(["box", "db.example.org:5432", "10.0.0.7:5000"])
        name, encoded = disguised(rng.choice(NAMES), rng), quote(secret, safe="")
        for uri in [
            *uris_with(secret, host),
            f"http://{host}/x?{name}={encoded}",
            f"s3://{host}/x?a=b&{name}={encoded}",
        ]:
            number += 1
            shown = [without_secrets(uri), public_command("sweep", ["a b.yaml", f"--tracking-uri={uri}"])]
            shown += [public(f"cannot reach '{uri}': refused")] if "'" not in secret else []
            if not set(" '\"") & set(secret):
                error = OSError(f"{uri} is away; ask me@x")
                shown += [messages.cause_of(error), messages.message_of(error), messages.traceback_of(error)]
            pieces = {secret, quote(secret, safe=""), *(secret[at : at + 5] for at in range(len(secret) - 4))}
            assert not [text for text in shown for piece in pieces if piece in text], uri


VARIABLES = (
    "password", "PGPASSWORD", "sslpassword", "passphrase", "Pwd", "token", "hf_token", "api_key", "secret_key",
    "apiKey", "AccessKey", "client-secret", "X-Api-Key", "DB_PASS", "authorization", "credentials", "MYSQL_PWD",
    "_token", "pw",
)  # fmt: skip
"""Names of what is secret in texts, where a `key` alone is one of a dictionary."""


def texts_with(name: str, secret: str) -> list[str]:
    """What errors say of a secret: as Python, JSON, a shell, a header or a connection string shows it."""
    held, code = {"user": "me", name: secret, "host": "box"}, base64.b64encode(f"me:{secret}".encode()).decode()
    texts = [repr(held), json.dumps(held), repr(json.dumps(held)), repr(repr(held)), f"connect({name}={secret!r}, x=1)"]
    texts += [f"cannot run: {name}={shlex.quote(secret)} psql -h box", f"os.environ[{name!r}] = {secret!r}"]
    texts += [f"{name}: Basic {code}", f"Basic {code}", repr({"Authorization": f"Basic {code}", "x": 1})]
    if re.fullmatch(r"[^\s'\"\\].*[^\s;&,)}\]'\"\\]", secret) and not re.search(r"[\s'\"]|^\{|[\w-][=:]", secret):
        texts += [f"{name}={secret} host=box", f"{name}: {secret}", f"{name} = {secret}", f"--set=a.{name}={secret}"]
        texts += [f"UID=me;{name}={secret};HOST=x", f"f(x, {name}={secret}, y)", f"Authorization: Bearer {secret}"]
        texts += [f"the header 'Bearer {secret}' is none"]
    return texts


def test_no_secret_of_a_thousand_texts_is_shown():
    rng = random.Random(1)
    alphabet = "abcXYZ019_-.~%!$&'()*+,;=:@/?#[]{} \"|`^\\"
    number = 0
    while number < 1000:
        secret = "Q" + "".join(rng.choice(alphabet) for _ in range(rng.randint(6, 16))).strip()
        for text in texts_with(rng.choice(VARIABLES), secret):
            number += 1
            code = base64.b64encode(f"me:{secret}".encode()).decode()
            error = OSError(f"{text}\nwhile away")
            for shown in (public(text), messages.message_of(error), messages.traceback_of(error)):
                assert secret[:5] not in shown, text
                assert code[:8] not in shown, text


def test_no_secret_of_random_bytes_is_shown():
    rng = random.Random(2)
    for number in range(600):
        secret = base64.b64encode(rng.randbytes(64)).decode()
        begin = rng.choice(["", "3/", "42+", "-0.5/", "1234=", "12:", "123,", "None/", "true+", "4711@"])
        name = rng.choice([name for name in VARIABLES if name != "X-Api-Key" or begin != "123,"])
        for text in (f"AccountKey={begin}{secret};x", f"{name}: {begin}{secret}", f"f({name}={begin}{secret}, y)"):
            shown = public(text)
            assert not [at for at in range(0, 80, 4) if secret[at : at + 5] in shown], (number, text)


@pytest.mark.parametrize(
    "text",
    [
        "Command '['mysql', '--password', 'hunter2']' returned non-zero exit status 1.",
        "mysql --password hunter2 -h box",
        "[('X-Api-Key', 'hunter2'), ('Host', 'box')]",
        'requests.get(url, auth=("me", "hunter2"))',
        "auth=('me', 'a)b hunter2'), timeout=3",
        "DRIVER=X;PWD={a}}b;hunter2};UID=me",
        "Authorization: Negotiate hunter2",
        "Authorization: ApiKey hunter2",
        "key: |\n  -----BEGIN RSA PRIVATE KEY-----\n  hunter2\n  -----END RSA PRIVATE KEY-----",
        "http:///me:hunter2@box:5000",
        "postgresql:///me:hunter2@box/db",
        "AccountKey=3/hunter2Xq9==;x",
        "api_key: 42+hunter2Xq9",
        "password=None/hunter2Xq9",
        "token=12:hunter2Xq9",
        "token=123,hunter2Xq9",
        "api_key=1234=hunter2Xq9",
        "taskpass=hunter2",
        "[(b'x-api-key', b'hunter2'), (b'host', b'box')]",
        "auth=HTTPBasicAuth('me', 'hunter2')",
        "auth=(('me', 'hunter2'), 3)",
        "auth=[['me'], 'hunter2']",
        r"auth=('it\'s', 'hunter2')",
        r"auth=('it\'s', 'a)hunter2\'s')",
        "password=ab(c)hunter2",
        "PW=None//password: hunter2",
        "--token --password hunter2",
    ],
)
def test_a_secret_is_found_wherever_its_name_stands(text):
    for shown in (public(text), messages.message_of(OSError(text)), messages.traceback_of(OSError(text))):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    "scheme",
    [
        "Kerberos", "GSSAPI", "JWT", "HMAC", "HMAC-SHA256", "Hawk", "DPoP", "GNAP", "HOBA", "Mutual", "PrivateToken",
        "SCRAM-SHA-1", "SCRAM-SHA-256", "vapid",
    ],
)  # fmt: skip
def test_a_header_is_shown_without_what_somebody_logs_in_with(scheme):
    assert public(f"Proxy-Authorization: {scheme} hunter2, x") == "Proxy-Authorization: ***, x"


@pytest.mark.parametrize(
    "text",
    [
        "MYSQL_PASS=4711",
        "SMTP_PASS=4711 x",
        "PW=4711",
        "db.pass: 4711",
        "ACCESS_CODE=4711",
        "user=me pass=4711",
        "--pass 4711",
        "{'pass': 4711}",
        "dbPass: 4711",
        "password: 4711",
    ],
)
def test_a_short_number_that_is_a_password_is_not_shown(text):
    assert "4711" not in public(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("connect(auth=HTTPBasicAuth('me', 'x'), timeout=3)", "connect(auth=***, timeout=3)"),
        ("auth=Auth('x'): refused", "auth=*** refused"),
        ('{"auth":["me","x"],"host":"box"}', '{"auth":***,"host":"box"}'),
    ],
)
def test_what_stands_after_a_secret_in_brackets_is_shown(text, shown):
    assert public(text) == shown


@pytest.mark.parametrize(
    "piece", ["token=(", "token=('", "auth=f(x)", "token=1,", "pass: 1 ", "token=[''", "a.", "('key', "]
)
def test_a_long_text_is_read_at_once(piece):
    start = time.process_time()
    public(piece * (40_000 // len(piece)))
    assert time.process_time() - start < 2  # seconds of the processor, which a quadratic pattern takes many times over


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'name'",
        "size mismatch for cls_token: copying a param with shape torch.Size([1, 1, 192]) from checkpoint",
        "trial.backbone.token: expected a whole number, got 'x'",
        "vit(class_token=True, pass_token=false), password=None",
        "--set trial.backbone.token_dim=192 --set x.sig=-0.5 keys: 8",
        "forward pass: 12 ms, backward pass: 3.25 s",
        "forward_pass=12, backward_pass: 3.25, encoder_tokens=196, codebook_tokens=512",
        "f(token_dim=192,depth=3) and a={token_dim:192,x:2}",
        """{"token_dim":192,"x":2} and ['--set', 'x.token_dim=192']: x.sig=0.5.""",
        "('class_token', 'mean'), ('cls_token', 'mask_token'), {'register_tokens': 'four', 'register_token': 'x'}",
        "vit.dist_token: shape (1, 2), pad_token='[PAD]'",
        "SSH_ASKPASS=/usr/bin/x GIT_ASKPASS=echo askpass=x",
        "the columns ('name', 'text') and --cache /x",
        "unknown key: 'nme'; known: name",
        "NoCredentialsError: Unable to locate credentials",
        "401 Unauthorized: me",
        "expected 197 tokens: got tokens=196",
        "attention.key.weight: size (3, 4)",
        "Basic usage of a basic block, and the bearer token",
        "SSH_ASKPASS_REQUIRE=prefer",
        "author=me, keyword: x, monkey: y, compass=n, bypass: z, tokenizer='bpe', secretary: s",
        "password authentication failed for user 'me'",
    ],
)
def test_what_is_no_secret_is_shown_as_it_is(text):
    assert public(text) == text


@pytest.mark.parametrize("name", ["PWD=old/q.yaml", "a:/b?key=1/q.yaml", "x:me:y@z.yaml", "what?token=1 2.yaml"])
def test_a_file_is_found_by_the_command_that_is_shown(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_TOKEN", tmp_path.name)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    for path in (name, str(tmp_path / name)):
        assert shlex.split(public_command("sweep", [path, f"--results={path}"])) == ["sweep", path, f"--results={path}"]


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


@pytest.mark.parametrize(
    "text",
    ["/data/a:b@c/x", "--cache=/data/me:x@y", "a // b: c@d", "sorted(x, key=len)", "no such file: me@x", os.getcwd()],
)
def test_what_is_no_uri_is_shown_as_it_is(text, monkeypatch):
    monkeypatch.setenv("PWD", os.getcwd())
    assert without_secrets(text) == public(text) == text


def test_a_connection_string_is_shown_without_its_password():
    text = "cannot log in: DRIVER=X;PWD={a;b c};UID=me host=box password=hunter2 dbname=x"
    assert public(text) == "cannot log in: DRIVER=X;PWD=***;UID=me host=box password=*** dbname=x"


def test_what_the_environment_keeps_secret_is_not_shown(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("HARMLESS", "wJalrXUtnFEMJ")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "denied")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("SHORT_TOKEN", "and")
    monkeypatch.setenv("PGPASSFILE_TOKEN", "hunter2-the-longer\n")
    monkeypatch.setenv("DB_PASSWORD", "p@ss/w 1\u00e9")
    monkeypatch.setenv("SIGNING_KEY", "-----BEGIN\nMIIE\nMIIF")
    assert public("at hunter2-the-longer") == "at ***"
    value = os.environ["DB_PASSWORD"]
    for form in (quote(value), quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], ascii(value)[1:-1]):
        assert public(f"http://box/{form}/x") == "http://box/***/x"
    assert public(repr(["-----BEGIN\nMIIE\nMIIF"])) == "['***']"
    text = "denied: wJalrXUtnFEMI, wJalrXUtnFEMJ and hunter2"
    assert public(text) == "denied: ***, wJalrXUtnFEMJ and ***"


def test_a_secret_of_the_environment_that_is_no_text_is_not_shown(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", "hunter2\udcff")
    assert public("at hunter2%FF and hunter2\udcff") == "at *** and ***"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (95.4, "95 s"), (99.7, "2 min"), (2116, "35 min"), (5399, "90 min"), (9000, "2 h 30 min")],
)
def test_a_duration_is_said_no_finer_than_asked(seconds, text):
    assert messages.duration(seconds) == text


@pytest.mark.parametrize(
    "text", ["a b", "it's", "\x1b[31mred\\", "a`b`", "\n\t", "\u202e学", "\udcff'\\x", "$(ls)", ""]
)
def test_a_word_for_the_shell_is_what_it_was_and_is_no_command_to_the_terminal(text):
    word = messages.shell_word(text)
    assert messages.printable(word) == word
    assert not set("\n\t`") & set(word)
    told = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert os.fsdecode(told) == text
    assert public_command("x", [text]) == f"x {word}"
