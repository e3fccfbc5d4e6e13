"""Which MLflow server, how its client is set up, and what it takes: names, lengths, entities."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from harness import messages
from harness.progress import say_anyway

SERVER_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")

DATABASES = ("postgresql", "mysql", "mssql")
"""Of these, those for which MLflow needs a package that it does not bring along."""

DRIVERS = {
    "postgresql+psycopg2": "psycopg2",
    "postgresql+psycopg": "psycopg",
    "mysql+pymysql": "pymysql",
    "mysql+mysqldb": "MySQLdb",
    "mssql+pyodbc": "pyodbc",
    "mssql+pymssql": "pymssql",
}
"""Scheme -> the module that speaks to such a database."""

MAX_NAME_LENGTH = 250  # this and the following are limits of MLflow's
MAX_TAG_LENGTH = 5000


def tracking_uri(argument: str | None, results: Path) -> str:
    """Where runs go: the argument, else MLFLOW_TRACKING_URI, else a SQLite file in the results folder.

    Raises:
        ValueError: the URI has a scheme that MLflow has no database or server for, needs a package that is not here, or
            cannot be read.
    """
    uri = argument or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(results.resolve() / "mlflow.db")
    scheme = re.split(r"[:+]", uri)[0]
    if scheme not in SERVER_SCHEMES:
        if re.match(r"(?!\.{0,2}/|~\w*/|[\w+.-]+://).*:.*@", unquote(uri)):  # no path, but somebody's login
            raise _unreadable("http")
        uri = messages.without_secrets(uri)
        close = difflib.get_close_matches(scheme, SERVER_SCHEMES, 1) if "://" in uri else []
        folder = Path(uri.removeprefix("file:")).resolve()
        nearest = close[0] + uri.removeprefix(scheme) if close else sqlite_uri(folder / "mlflow.db")
        raise ValueError(f"tracking URI {uri!r} is not one of {', '.join(SERVER_SCHEMES)}; did you mean {nearest!r}?")
    if scheme in DATABASES:
        _check_driver(uri)
    if scheme in ("http", "https"):
        _check_address(uri)
    return uri


def _check_driver(uri: str) -> None:
    """Whether what speaks to a database of this URI is installed: which package that is depends on its version."""
    from sqlalchemy import exc
    from sqlalchemy.engine import make_url

    scheme, shown = re.split(r"[:+]", uri)[0], messages.without_secrets(uri)
    try:
        make_url(uri).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        drivers = [name for name, module in DRIVERS.items() if module != error.name and find_spec(module)]
        same = next((name for name in drivers if name.partition("+")[0] == scheme), None)
        near = f"; did you mean {same + shown[shown.index(':') :]!r}, which is?" if same else ""
        lacks = f"needs the package {error.name}, which is not installed"
        raise ValueError(f"tracking URI {shown!r} {lacks}{near}") from None
    except ImportError as error:
        raise ValueError(
            f"tracking URI {shown!r}: its driver cannot be loaded ({messages.message_of(error, 120)})"
        ) from None
    except exc.NoSuchModuleError:
        raise ValueError(f"tracking URI {shown!r}: no driver of that name; known: {', '.join(DRIVERS)}") from None
    except (exc.ArgumentError, ValueError):  # the latter of a port that is no number
        raise _unreadable(uri, "/DATABASE") from None


def _check_address(uri: str) -> None:
    """Whether a server's address can be read."""
    try:
        parts = urlsplit(uri)
        there = parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        there = None
    if not there:
        raise _unreadable(uri)


def _unreadable(uri: str, path: str = "") -> ValueError:
    """Does not show it: where its password stands is not known."""
    scheme = re.split(r"[:+]", uri)[0]
    return ValueError(f"the tracking URI is none; expected {scheme}://HOST{path}, or USER:PASSWORD@ before HOST")


def sqlite_uri(database: Path) -> str:
    """Of an absolute path; what would end the path in a URI, or be taken for a sign of its own, is encoded."""
    return f"sqlite:///{quote(str(database), safe='/ ()[],;=@&+!~')}"


def database_of(uri: str) -> Path | None:
    """The file of a SQLite database; None for all else."""
    return Path(unquote(uri.removeprefix("sqlite:///"))) if uri.startswith("sqlite:///") else None


def check_there(uri: str) -> None:
    """That there is a database to look something up in: MLflow makes one where there is none.

    Raises:
        ValueError: there is none.
    """
    database = database_of(uri)
    if database and not (database.is_file() and database.stat().st_size):
        above = database.parent.parent
        near = f"; did you mean {above}?" if (above / database.name).is_file() else ""
        raise ValueError(f"{database.parent} has no {database.name}, and so no sweep of MLflow{near}")


def print_line(text: str) -> None:
    """One line on stderr that says who speaks."""
    say_anyway(f"tracking: {text}")


def import_mlflow() -> Any:
    """MLflow, imported when first needed (it takes seconds), and quiet."""
    quiet = {
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # The tracker itself tries again, after a look at what is there: MLflow would send a lost request twice.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    import mlflow
    import mlflow.entities

    for name in ("mlflow", "alembic"):  # another library may have imported MLflow before the variables were set
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow.store.db import utils

    # It prints errors of the database with a traceback, and raises them, too; and it would ask a database that is away
    # for two minutes.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    utils.MAX_RETRY_COUNT = 1
    return mlflow


def valid_name(name: str) -> str:
    """The name of a metric, parameter or tag with what MLflow does not allow in names replaced."""
    return re.sub(r"[^\w.\- :/]", "_", name)[:MAX_NAME_LENGTH]


def valid_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as MLflow takes them; those whose value is None are left out."""
    return {
        valid_name(name): messages.cut(messages.printable(str(value)), MAX_TAG_LENGTH)
        for name, value in tags.items()
        if value is not None
    }
