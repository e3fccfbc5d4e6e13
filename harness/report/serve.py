"""`selbench report --serve FOLDER`: sweeps in a browser on this machine; pages renew themselves while trials run.

A page is served as it lies in the sweep's folder. Where there are newer records it is written anew by a process of its
own, and meanwhile the old one is shown: to open a page never waits for a report.
"""

from __future__ import annotations

import json
import mimetypes
import os
import re
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.parse import quote, unquote, urlsplit

from harness import messages
from harness.files import CHECKSUM_LENGTH, STAGES, TAKEN, digest
from harness.plain_yaml import parse_yaml
from harness.records.mirror import MIRROR_SCHEMES
from harness.records.rows import rows_file
from harness.report.cells import Cell, Count, Text
from harness.report.page import document
from harness.report.page.document import PageHead, render
from harness.report.section import Section, Table

DEEP = 3
"""Folders below the given one in which sweeps are looked for."""

REST, SHARE = 5.0, 4.0
"""Seconds between two reports of a sweep, and how many times as long as the last took: trials need the cores."""

OF_RESULTS = {*TAKEN} - {*MIRROR_SCHEMES}
"""What lies beside sweeps and holds none; those of an object store lie in a folder of its name."""

READ_HERE = (".yaml", ".json", ".jsonl", ".csv", ".md", ".txt")
"""Files that a browser shows instead of saving them."""

HOSTS = ("127.0.0.1", "localhost")
"""Names under which a browser may ask; under another one somebody else's page would read along."""


class ServedSweep:
    """A sweep's folder and its page, which is written anew where records are newer."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = Lock()
        self._writer: subprocess.Popen[str] | None = None
        self._started, self._rest, self._tried, self._said = 0.0, 0.0, 0, ""

    @property
    def written(self) -> int:
        """When its page was written, in ns; 0 without one."""
        return _time(self.folder / "report.html")

    def renew(self) -> None:
        """Begins to write the page anew where that is due; returns at once."""
        with self._lock:
            self._reap()
            records, now = _time(rows_file(self.folder)), time.monotonic()
            # A page that is newer than the records may still lack those that came while it was made.
            up_to_date = records in (0, self._tried) or (not self._tried and records <= self.written)
            if self._writer or up_to_date or now < self._rest:
                return
            command = [sys.executable, "-m", "harness.report", str(self.folder)]
            self._tried, self._started = records, now
            self._writer = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                encoding="utf-8", errors="replace",
            )  # fmt: skip

    def _reap(self) -> None:
        if self._writer and self._writer.poll() is not None:
            _, complaint = self._writer.communicate()
            self._said = (complaint.strip().splitlines() or [""])[-1] if self._writer.returncode else ""
            now = time.monotonic()
            self._rest = now + max(REST, SHARE * (now - self._started))
            self._writer = None

    def close(self) -> None:
        """Ends what is being written."""
        with self._lock:
            if self._writer:
                self._writer.terminate()
                self._writer.communicate()
                self._writer = None

    def state(self) -> dict[str, str]:
        """What a page asks every other second: it is loaded anew when `state` is another one."""
        self.renew()
        with self._lock:
            writing, said = self._writer is not None, self._said
        when = datetime.fromtimestamp(self.written / 1e9).strftime("%H:%M:%S") if self.written else "no page yet"
        more = f"; {said}" if said else "; newer records, a page of them is being written" if writing else ""
        return {"state": str(self.written), "said": f"live: {when}{more}"}

    def page(self) -> str:
        """The page as it lies there, or one that waits for it."""
        state = self.state()
        file = self.folder / "report.html"
        if file.is_file():
            return live(file.read_text(encoding="utf-8"), state)
        head = PageHead(self.folder.name, "selbench report", self.question, ["The page is being written."])
        return live(render(head, [], self.folder), state)

    @property
    def question(self) -> str:
        """What was asked; empty where that cannot be read."""
        try:
            asked = parse_yaml((self.folder / "space.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return messages.one_line(str(asked.get("description") or "")) if isinstance(asked, dict) else ""

    @property
    def answer(self) -> str:
        """Its answer, from the summary; empty without one."""
        try:
            with (self.folder / "summary.md").open(encoding="utf-8") as file:
                lines = (line for _, line in zip(range(10), file, strict=False))
                return next((line for line in lines if line.startswith("**Answer.** ")), "")[12:].strip()
        except OSError:
            return ""


class Library:
    """All sweeps below a folder, or the one that it is."""

    def __init__(self, root: Path):
        self.root = root.resolve()
        self._known: dict[str, ServedSweep] = {}

    def sweeps(self) -> dict[str, ServedSweep]:
        """Path below the folder -> sweep, the newest first."""
        places = [self.root] if is_sweep(self.root) else list(_below(self.root, DEEP))
        for place in places:
            name = self.root.name if place == self.root else place.relative_to(self.root).as_posix()
            self._known.setdefault(name, ServedSweep(place))
        current = set(places)
        there = {name: sweep for name, sweep in self._known.items() if sweep.folder in current}
        return dict(sorted(there.items(), key=lambda item: -_time(rows_file(item[1].folder))))

    def state(self) -> dict[str, str]:
        """Of the list, see `ServedSweep.state`."""
        sweeps = self.sweeps()
        known = [(name, _time(rows_file(sweep.folder)), sweep.written) for name, sweep in sweeps.items()]
        return {"state": digest(repr(known).encode()), "said": f"live: {messages.count(len(sweeps), 'sweep')}"}

    def page(self) -> str:
        """The list of sweeps."""
        rows: list[list[Cell]] = []
        for name, sweep in self.sweeps().items():
            trials = sum(1 for _ in (sweep.folder / "trials").iterdir()) if (sweep.folder / "trials").is_dir() else 0
            newest = datetime.fromtimestamp(_time(rows_file(sweep.folder)) / 1e9).strftime("%Y-%m-%d %H:%M")
            link = Text(name, link=f"/{quote(name)}/")
            rows.append([link, Text(sweep.question), Text(sweep.answer), Count(trials), Text(newest)])
        titles = ["sweep", "question", "answer", "trials", "last record"]
        listed = [Section("Sweeps", "sweeps", [Table.of_rows(titles, rows, name="Sweeps")])] if rows else []
        head = PageHead(self.root.name, "selbench report", answer=[] if rows else ["There is no sweep here yet."])
        return live(render(head, listed, self.root), self.state())

    def close(self) -> None:
        """Ends what is being written."""
        for sweep in self._known.values():
            sweep.close()


class Server(ThreadingHTTPServer):
    """Answers on this machine alone."""

    daemon_threads = True

    def __init__(self, library: Library, port: int):
        self.library = library
        super().__init__(("127.0.0.1", port), partial(_Handler, library))

    def server_close(self) -> None:
        """Also ends reports that are being written."""
        super().server_close()
        self.library.close()


def open_server(folder: Path, port: int) -> Server:
    """Listens at a port, 0 for any that is free; `serve_forever` answers.

    Raises:
        ValueError: there is no such folder, or no such port.
        OSError: the port is taken.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    if not 0 <= port < 65536:
        raise ValueError(f"--port {port} is none; use 1024 to 65535, or 0 for any that is free")
    try:
        return Server(Library(folder), port)
    except OSError as error:
        raise OSError(f"--port {port}: {error.strerror}; --port 0 takes any that is free") from None


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, library: Library, *args: object):
        self._library = library
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """A page, its state, or a file of a sweep."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        if host not in HOSTS:
            self.send_error(HTTPStatus.FORBIDDEN, "ask 127.0.0.1")
            return
        path = unquote(urlsplit(self.path).path)
        owners: dict[str, Library | ServedSweep] = {"": self._library, **self._library.sweeps()}
        for name, owner in owners.items():
            base = f"/{name}/" if name else "/"
            if path == base:
                self._send(owner.page().encode(), "text/html")
                return
            if path == f"{base}state":
                self._send(json.dumps(owner.state()).encode(), "application/json")
                return
            if name and path == f"/{name}":
                self._lead(base)
                return
            if isinstance(owner, ServedSweep) and path.startswith(base):
                self._send_file(owner.folder, path[len(base) :])
                return
        self.send_error(HTTPStatus.NOT_FOUND)

    def _lead(self, base: str) -> None:
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        self.send_header("Location", quote(base))
        self.end_headers()

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def _send_file(self, folder: Path, path: str) -> None:
        """A file of the sweep, or what a folder of it holds; nothing that lies elsewhere."""
        file = (folder / path).resolve()
        if not file.is_relative_to(folder.resolve()) or not file.exists():
            self.send_error(HTTPStatus.NOT_FOUND)
        elif file.is_dir():
            names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in file.iterdir())
            items = "".join(f'<li><a href="{quote(name)}">{escape(name)}</a></li>' for name in names)
            self._send(f"<!doctype html><title>{escape(path)}</title><ul>{items}</ul>".encode(), "text/html")
        else:
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._send(file.read_bytes(), "text/plain" if file.suffix in READ_HERE else kind)

    def log_message(self, *args: object) -> None:
        """Nothing: a page asks every other second."""


def live(page: str, state: dict[str, str]) -> str:
    """A page that renews itself: it may ask where it came from, and nobody else."""
    script = (Path(document.__file__).parent / "live.js").read_text(encoding="utf-8")
    bar = f'<p class="live" role="status" data-state="{escape(state["state"])}">{escape(state["said"])}</p>'
    page = page.replace("default-src 'none';", "default-src 'none'; connect-src 'self';", 1)
    head, _, rest = page.rpartition("</body>")
    return f"{head}{bar}\n<script>\n{script}</script>\n</body>{rest}"


def is_sweep(folder: Path) -> bool:
    """Whether a sweep left its records here."""
    return (folder / "space.yaml").is_file() and rows_file(folder).is_file()


def _below(folder: Path, deep: int) -> list[Path]:
    """The sweeps in a folder; none are in a sweep, nor among stages and decoded data, of which there are thousands."""
    try:
        inside = [one for one in folder.iterdir() if not one.name.startswith(".")]
    except OSError:  # not to be read, or gone
        return []
    folders = [one for one in inside if one.is_dir() and not one.is_symlink()]
    places = [one for one in folders if is_sweep(one)]
    are_results = bool(places) or (folder / "mlflow.db").is_file()
    for one in folders if deep > 1 else ():
        if one not in places and not (are_results and one.name in OF_RESULTS) and not _keeps_stages(one):
            places += _below(one, deep - 1)
    return places


def _keeps_stages(folder: Path) -> bool:
    """Whether results of stages are kept here: `KIND/DIGEST`; looks at one of each kind at most."""
    if folder.name != STAGES.name:
        return False
    try:
        for kind in (one for one in folder.iterdir() if one.is_dir()):
            with os.scandir(kind) as entries:
                first = next(entries, None)
            if first and re.fullmatch(rf"[0-9a-f]{{{CHECKSUM_LENGTH}}}", first.name):
                return True
    except OSError:
        pass
    return False


def _time(file: Path) -> int:
    """When a file was last written, in ns; 0 without it."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
