"""Words for people: the nearest valid value, an error on one line, a count with its noun, no passwords."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import traceback
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

LISTED = 20
"""Valid values that are listed where none is near; of more, the first and how many there are."""


def closest(name: object, known: Iterable[object], *, unlisted: Iterable[str] = ()) -> str:
    """A sentence fragment that names the valid value nearest to `name`, or the first of all if none is near.

    Args:
        name: what was given.
        known: the valid values.
        unlisted: more of them, too many to be listed.
    """
    names = [str(item) for item in known]
    near = difflib.get_close_matches(str(name), [*names, *unlisted], n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if not names:
        return "none is known"
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    return f"known: {', '.join(sorted(names)[:LISTED])}{more}"


UNSHOWN = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
"""What is no sign but a command, but for the tab and the end of a line; or half of a pair, as which a byte of a path
stands that is no UTF-8."""

CODE = r"`[^`]+`"
"""What is set as code in a text that may have some."""

MARKUP = (
    r"\\(?=[!-/:-@\[-`{-~]|$)|(?<!\w)_|_(?!\w)|[*$|`~]|<(?=[A-Za-z/!?])|[\[\]](?=[(\[:\]])|&(?=#?\w+;)"
    r"|^(?:[#>]|[-+](?=[-\s]|$)|\d+[.)](?=\s|$))|(?<!\S)#+$"
)
"""What means something in Markdown where it stands so, the last sign of it; `moco_v2` and `p < 0.05` do not."""


def has_commands(name: str) -> bool:
    """Whether a name holds what is no letter or sign: a line's end or another command, or half of a pair (UTF-16)."""
    return any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in name)


def one_line(text: str) -> str:
    """The text without line breaks and runs of spaces."""
    return " ".join(text.split())


def printable(text: str) -> str:
    """The text with signs in place of what a terminal or a browser obeys and does not show: escapes, directions."""
    return re.sub(UNSHOWN, lambda match: _as_bytes(match[0]), text)


def _as_bytes(sign: str) -> str:
    r"""A sign as bash's quotes with a dollar take it: `\x1b`."""
    halves = "surrogateescape" if "\udc80" <= sign <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in sign.encode("utf-8", halves))


def as_markdown(text: str, *, code: bool = False) -> str:
    """Text on one line of Markdown (CommonMark and GitHub's) that is shown as it is, whatever signs names in it have.

    Args:
        text: plain.
        code: whether what stands in backquotes is set as code.
    """

    def shown(match: re.Match[str]) -> str:
        signs = match[0]
        return signs if re.fullmatch(CODE, signs) else f"{signs[:-1]}\\{signs[-1]}"

    # In one pass over all of it: what a sign means depends on what follows.
    return re.sub(rf"{CODE}|{MARKUP}" if code else MARKUP, shown, printable(one_line(text)))


def message_of(error: BaseException, length: int | None = None) -> str:
    """What an error says, `public`, on one line, cut to `length`; its type where it says nothing."""
    return cut(_said(error) or type(error).__name__, length)


def cause_of(error: BaseException, length: int | None = None) -> str:
    """An error's type and what it says, `public`, on one line, cut to `length`: `OutOfMemoryError: 3 GiB`."""
    name, said = type(error).__name__, _said(error)
    return cut(f"{name}: {said}" if said else name, length)


def _said(error: BaseException) -> str:
    return printable(one_line(public(str(error))))


def traceback_of(error: BaseException) -> str:
    """Where an error came from, `public`."""
    return public("".join(traceback.format_exception(error)))


def count(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def in_bytes(number: float) -> str:
    """`412 bytes`, `1.2 GB`: to two digits, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "bytes" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def duration(seconds: float) -> str:
    """`40 s`, `35 min`, `3 h 20 min`: no finer than a person asks."""
    if round(seconds) < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes <= 90 else f"{minutes // 60:,} h {minutes % 60} min"


SCHEME = r"[A-Za-z][\w+.-]{0,40}:"  # with a bound, as are those below: a text of letters alone costs no minutes

WITHOUT_SLASHES = rf"{SCHEME}(?=[^\s/:@'\"]{{1,200}}:[^\n]{{0,2000}}@)"
"""The beginning of a URI with user and password that somebody forgot the slashes of."""


NEXT_PARAMETER = r"&[A-Za-z][\w.%-]+="
"""Where a secret that may have an ampersand ends in a URI."""


def without_secrets(uri: str) -> str:
    """A URI without user, password, and the parameters that are secret: all that is said or kept of a URI is this.

    Where it cannot be told what belongs to a password, as `/`, `@`, `?`, `&` and blanks may stand in one as they are,
    more than the password goes.
    """
    beginnings = (rf"(?:[^/?#@]*=)?{WITHOUT_SLASHES}", r"[^/?#@]*:/{1,2}|(?:[^/?#@]*=)?//", ".*?://")
    split = next(filter(None, (re.match(f"({begins})(.*)", uri, re.DOTALL) for begins in beginnings)), None)
    if not split:
        return uri
    base, *parts = re.split("(?=[?&;#])", _without_login(*split.groups()))
    secret = False
    for part in parts:
        name, named, value = part[1:].partition("=")
        if named and (not secret or re.match(NEXT_PARAMETER, part)):  # else it may belong to the one before it
            secret = _is_secret_parameter(name, value)
        if not secret:
            base += part if "?" in base else re.sub("^&", "?", part)
    return base


def _without_login(scheme: str, rest: str) -> str:
    """A URI, and each that stands in it, without user and password."""
    shown = ""
    while scheme:
        port = (
            r"(?!\d*[/?#])" if re.search("https?://$", scheme) else ""
        )  # else a password may begin so: SQLAlchemy takes `/`
        slashes = "" if re.search("(sqlite|file)[^:]*:/*$", scheme) else "/*"  # of a file the path begins with one
        login = re.match(rf"{slashes}[^/?#:@\[]*(?::|%3A){port}", rest, re.IGNORECASE)
        if re.search("@|%40", rest if login else re.split("[/?#]", rest)[0]):
            *login_parts, rest = re.split("(@|%40)", rest)
            last = re.search("[?&;]([^?&;=]+)=([^?&;]*)$", "".join(login_parts[:-1]))
            if last and _is_secret_parameter(*last.groups()):  # the sign was one of a secret parameter's value
                rest = re.sub(rf".*?(?={NEXT_PARAMETER}|$)", "", rest, count=1, flags=re.DOTALL)
        before, slashes, rest = rest.partition("://")
        shown, scheme = shown + scheme + ("" if slashes else before), before + slashes if slashes else ""
    return shown


def _decoded(text: str) -> str:
    """Without percent signs, however often it was encoded."""
    while (once := unquote(text)) != text:
        text = once
    return text


def _is_secret(name: str) -> bool:
    """Whether a parameter, variable or header of that name has a value that nobody is to see.

    An author, a tokenizer, a number of tokens, a keymap and a compass are none, nor is how somebody logs in, nor a
    token that a network learns.
    """
    learnt = "(?<![a-z])(cls|class|mask|pad|register|dist)_tokens?"
    if re.search(f"(mode|type|method|enabled|{learnt})$", name, re.IGNORECASE):  # as RAY_AUTH_MODE, which Ray sets
        return False
    parts = r"pass(w|phrase|code)|pwd|secret(?!ar)|token(?!iz|s(?![a-z]))|credential|signature|cookie|bearer"
    ends = r"((?<!com)(?<!by)(?<!^ask)(?<![^a-z]ask)pass|(?<!mon)keys?|(?<!un)auth(?!or(?!i[sz]))[a-z]*)(?![a-z])"
    words = r"(?<![a-z])(pw|pat|jwt|sas|sig|access)(?![a-z])"
    spaced = re.sub("(?<=[a-z])(?=[A-Z])", "_", name)
    return re.search(f"{parts}|{ends}|{words}", f"{name} {spaced}", re.IGNORECASE) is not None


def _holds_secret(value: str) -> bool:
    """Whether there is a password within the value of a parameter: another URI's, or that of a connection string."""
    return bool(re.search("//.*@", value)) or any(map(_is_secret, re.findall(r"([^\s=;&?#]+)\s*=", value)))


SHORTEST_SECRET = 6
"""Signs of a secret variable of the environment from which on its value is hidden: a shorter one stands in words."""


def _is_secret_parameter(name: str, value: str) -> bool:
    return _is_secret(_decoded(name)) or _holds_secret(_decoded(value))


def _secrets_of_environment() -> list[str]:
    """The values of secret variables, also encoded, the longest first; folders and files, such as PWD, are none."""
    values = {value.strip() for name, value in os.environ.items() if _is_secret(name)}
    secrets = [value for value in values if not (os.path.isabs(value) and os.path.exists(value))]
    forms = {form for value in secrets for form in _forms(value)}
    return sorted((form for form in forms if len(form) >= SHORTEST_SECRET), key=len, reverse=True)


def _forms(value: str) -> list[str]:
    """The value as it is, and as URIs, Python and JSON encode it."""
    code = os.fsencode(value)
    in_uris = [quote(code), quote(code, safe=""), quote_plus(code)]
    return [value, *in_uris, repr(value)[1:-1], ascii(value)[1:-1], json.dumps(value)[1:-1]]


def public(text: str) -> str:
    """The text with its URIs `without_secrets`, and without other passwords and the environment's secret variables.

    A URI in quotes ends with them, another one at a blank, or with the password that has one.
    """
    for value in _secrets_of_environment():
        text = text.replace(value, "***")
    uri = rf"(?:{SCHEME}/{{1,2}}|(?<![\w:/])//)"
    login = rf"{uri}[^\s/:@'\"]*:(?!\d*[/\s]|//)(?:(?!://)[^\n'\"])*@\S*|(?<![\w/.+-]){WITHOUT_SLASHES}\S*@\S*"
    begins = f"(?:{uri}|{WITHOUT_SLASHES})"
    pattern = rf"(?<=')({begins}[^'\n]*)(?=')|(?<=\")({begins}[^\"\n]*)(?=\")|({login})|({uri}\S*)"
    text = re.sub(pattern, lambda match: without_secrets(match[0]), text)
    return _without_secret_values(re.sub(PRIVATE_KEY, r"\1***", text, flags=re.DOTALL))


PRIVATE_KEY = r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)(?:(?!-----).)*"


NAME_BEFORE_VALUE = re.compile(
    r"""(?P<name>\.?(?<![\w-])[\w-]+)(?:\\*["'])?\]?[ \t]*(?:=>|[=:]+)[ \t]*"""
    r"""|(?<![\w-])(?P<option>--[\w-]+)(?:\\*["'],)?[ \t]+"""
    r"""|\(b?(?P<open>\\*["'])(?P<first>[\w-]+)(?P=open),[ \t]*(?=[a-z]?\\*["'])"""
    r"""|\b(?:[Bb]earer +(?!token|auth)|[Bb]asic +(?=[\w+/]{6})(?=\S*[\dA-Z]))"""
)
"""A name with the sign after which its value comes, an option, the first of a pair, or how a header logs in."""

VALUE = re.compile(
    r"""(?:[a-z]{0,2}(?P<quote>\\*["'])(?:(?!(?<!\\)(?P=quote)).)*(?P=quote))+|[a-z]{0,2}\\*["'].*|\{(?:[^}\n]|\}\})*\}"""
    r"""|[\w.]*[(\[](?:[^'"()\[\]\n]|(?P<sign>["'])(?:(?!(?P=sign)).)*(?P=sign))*[)\]][.:]*"""
    r"""(?=[;&,)}\]'"\\]*(?:\s|$)|[;&,)}\]'"\\]+[\w-]+["']?[=:](?!=))|[\w.]*[(\[].*"""
    r"""|(?:(?:Bearer|Basic|Digest|Token|Negotiate|NTLM|OAuth|ApiKey|Kerberos|GSSAPI|JWT|Hawk|DPoP|GNAP|HOBA|Mutual"""
    r"""|PrivateToken|(?:AWS4-)?HMAC(?:-SHA\d+)?|SCRAM-SHA-\d+|vapid) +)?"""
    r"""(?:[^\s;&,)}\]'"\\]|[;&,)}\]'"\\]+(?=[^\s;&,)}\]'"\\])(?!["']?[\w-]+["']?[=:](?!=)))+""",
    re.IGNORECASE,
)
"""A value in quotes, which may not be closed, or brackets; else to a blank, or a sign that ends it and is not in it."""

NO_SECRET = re.compile(
    r"""(?:true|false|none|null|expected|copying|(?P<number>-?\d{1,4}(?:\.\d{1,4})?))[,;:.)\]}'"]*""", re.IGNORECASE
)
"""What is the whole value after a name that only sounds like a secret's: `token: expected 3`, `token_dim=192`."""

PASSWORD = re.compile(
    r"pass\w|(?<!ward_)pass[^\s:]|(?<!ward)[\w.-]pass|pwd|secret|(?<!en)(?<!de)code(?![a-z])|(?<![a-z])pw",
    re.IGNORECASE,
)
"""In names, with the sign after them, of what may be a short number; `forward pass: 12 ms` is none."""


def _without_secret_values(text: str) -> str:
    """The text without what stands after the names of secrets: `password='x'`, `"api_key": "x"`, `Bearer x`.

    A `key` alone is one of a dictionary or a function that sorts, an error has a cause.
    """
    shown, at = "", 0
    for named in NAME_BEFORE_VALUE.finditer(text):
        given = named["name"] or named["option"] or named["first"]
        name = re.sub("^[-_.0-9]*keys?(?![a-z])", "", given or "", flags=re.IGNORECASE)
        hides = given is None or (_is_secret(name) and not re.search("(Error|Exception|Warning)$", name))
        value = VALUE.match(text, named.end()) if hides and named.end() >= at else None
        innocent = value and NO_SECRET.fullmatch(value[0])
        if innocent and innocent["number"] and PASSWORD.search(named[0]):
            innocent = None
        if value and not innocent:
            shown += text[at : named.end()] + "***"
            at = value.end()
    return shown + text[at:]


def shell_word(text: str) -> str:
    """Text to be pasted into bash as one word, without what a terminal obeys and what ends code in Markdown."""
    signs = rf"{UNSHOWN}|[\t\n`]"
    if not re.search(signs, text):
        return shlex.quote(text)
    escaped = re.sub(rf"{signs}|([\\'])", lambda match: f"\\{match[1]}" if match[1] else _as_bytes(match[0]), text)
    return f"$'{escaped}'"


def public_command(prog: str, arguments: Iterable[str]) -> str:
    """A command to be pasted into a shell, its arguments `without_secrets`; files and folders are found as they are."""
    return " ".join([prog, *(shell_word(_public_argument(argument)) for argument in arguments)])


def _public_argument(argument: str) -> str:
    path = argument.partition("=")[2] if argument.startswith("--") else argument
    is_path = os.path.exists(path) and not re.match(r"[A-Za-z][\w+.-]*://", path)
    return argument if is_path else public(without_secrets(argument))


CUT = " ...[cut]"


def cut(text: str, length: int | None) -> str:
    """The text, its end replaced by `CUT` where it is longer."""
    return text if length is None or len(text) <= length else text[: length - len(CUT)] + CUT
