"""What a tracking server or its database refuses, and would again: told from one that is away, with what helps."""

from __future__ import annotations

import re

from harness.messages import cause_of

WRONG_LOGIN, MAY_NOT = 401, 403
"""Answers of a server."""

CURES = {
    r"password authentication failed|access denied for user|login failed for user|no pg_hba\.conf entry"
    r"|no password supplied|is not permitted to log in": "mend the user or the password in the URI",
    r"""(database|role) (\S+|"[^"]*") does not exist|unknown database|cannot open database""": (
        "create it, or mend its name in the URI"
    ),
    r"unable to locate credentials|partial credentials found|invalidaccesskeyid|signaturedoesnotmatch|expiredtoken": (
        "let AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials, be what the store of artifacts knows"
    ),
    r"nosuchbucket": "create the bucket of the experiment's artifacts, or deliver with --experiment NEW",
    r"accessdenied": "let this user read and write the experiment's artifacts",
    r"permission denied|command denied to user|readonly database|read-only|must be owner of": (
        "let this user write there"
    ),
    r"disk is full|no space left on device|could not extend file|table '[^']*' is full|disk quota exceeded": (
        "make room there"
    ),
    r"out-of-date database schema": "back it up and bring it up to date by: mlflow db upgrade, with its URI",
    r"certificate_verify_failed|certificate verify failed": (
        "let MLFLOW_TRACKING_SERVER_CERT_PATH, or REQUESTS_CA_BUNDLE, name the certificate of who vouches for it"
    ),
}
"""What databases, stores of artifacts and connections say, in any case, and what helps; the first counts."""


class RefusedError(RuntimeError):
    """What a server is asked for it does not do, however often it is asked.

    Args:
        cause: why.
        cure: what helps.
    """

    def __init__(self, cause: str, cure: str):
        super().__init__(cause)
        self.cure = cure


def cure_of(error: Exception) -> str | None:
    """What helps against an error that waiting does not help against; None where the server may yet do as asked."""
    if isinstance(error, RefusedError):
        return error.cure
    answer = error.get_http_status_code() if hasattr(error, "get_http_status_code") else 0
    if answer == WRONG_LOGIN:
        return "let MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, be what it knows"
    if answer == MAY_NOT:
        return "let whoever keeps the server allow it"
    said = str(error).lower()
    return next((cure for words, cure in CURES.items() if re.search(words, said)), None)


def told(error: Exception) -> str:
    """An error in a line, without secrets and with what helps, if that is known."""
    cure = cure_of(error)
    return cause_of(error, 300) + (f"; {cure}" if cure else "")
