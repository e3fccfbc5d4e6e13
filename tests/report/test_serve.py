"""Sweeps that are served: pages renew themselves, files stay within their folder, nobody else reads along."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from sweep_folder import SweepFolder

from harness.files import TAKEN, digest
from harness.records.mirror import MIRROR_SCHEMES
from harness.report import serve
from harness.report.read import read_report
from harness.report.serve import Library, open_server
from harness.report.summary import summary


class Site:
    """A server over a folder, asked as a browser does."""

    def __init__(self, folder):
        self.server = open_server(folder, 0)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def get(self, path, host="127.0.0.1:1"):
        connection = http.client.HTTPConnection(*self.server.server_address, timeout=10)
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def results(tmp_path):
    """Two sweeps in a folder of results, one with a page."""
    for name in ("old", "new <b>"):
        sweep = SweepFolder(tmp_path / "runs" / name, name=name)
        sweep.trial("random", 1, {"selector.name": "random"}, {200: 0.7})
    (tmp_path / "runs" / "old" / "report.html").write_text("<html><body>old page</body></html>")
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


@pytest.fixture
def site(results, monkeypatch):
    monkeypatch.setattr(serve.ServedSweep, "renew", lambda self: None)  # the report's own process has a test of its own
    site = Site(results)
    yield site
    site.close()


def test_all_sweeps_of_a_folder_are_listed(site, results):
    status, text = site.get("/")
    assert status == 200
    assert '<a href="/runs/old/">' in text
    assert '<a href="/runs/new%20%3Cb%3E/">' in text
    assert "<b>" not in text
    assert "live.js" not in text
    assert 'class="live"' in text
    before = json.loads(site.get("/state")[1])["state"]
    SweepFolder(results / "runs" / "third").trial("random", 1, {"selector.name": "random"}, {200: 0.7})
    assert json.loads(site.get("/state")[1])["state"] != before
    assert '<a href="/runs/third/">' in site.get("/")[1]


def test_a_sweep_with_packed_records_is_listed_and_read(site, results):
    folder = results / "runs" / "old"
    before = read_report(folder)
    subprocess.run(["gzip", "rows.jsonl"], cwd=folder, check=True)
    assert '<a href="/runs/old/">' in site.get("/")[1]
    assert summary(read_report(folder)) == summary(before)


def test_a_page_is_served_as_it_lies_there_and_may_ask_for_its_state(site, results):
    assert site.get("/runs/old")[0] == 301
    status, text = site.get("/runs/old/")
    assert (status, "old page" in text) == (200, True)
    state = json.loads(site.get("/runs/old/state")[1])
    assert f'data-state="{state["state"]}"' in text
    page = results / "runs" / "old" / "report.html"
    os.utime(page, ns=(1, 1))
    assert json.loads(site.get("/runs/old/state")[1])["state"] == "1"


def test_a_sweep_without_a_page_has_one_that_waits(site):
    status, text = site.get("/runs/new%20%3Cb%3E/")
    assert status == 200
    assert "The page is being written." in text
    assert "Which selector finds the better 200 labels?" in text
    assert "connect-src 'self'" in text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/runs/old/space.yaml", 200, "name: old"),
        ("/runs/old/trials/", 200, "confirm-random-s1/"),
        ("/runs/old/trials/confirm-random-s1/config.yaml", 200, "digits"),
        ("/runs/old/../../secret.txt", 404, ""),
        ("/runs/old/%2e%2e/%2e%2e/secret.txt", 404, ""),
        ("/secret.txt", 404, ""),
        ("/runs/none/", 404, ""),
    ],
)
def test_files_of_a_sweep_and_no_others(site, path, status, words):
    answered, text = site.get(path)
    assert answered == status
    assert words in text
    assert "secret" not in text.replace("secret.txt", "")


def test_a_link_that_leads_out_of_the_sweep_is_not_followed(site, results):
    (results / "runs" / "old" / "out.txt").symlink_to(results / "secret.txt")
    assert site.get("/runs/old/out.txt")[0] == 404


def test_another_name_of_this_machine_gets_nothing(site):
    assert site.get("/", host="evil.example:80")[0] == 403
    assert site.get("/", host="localhost:80")[0] == 200


def test_a_sweep_alone_is_listed_too(tmp_path):
    SweepFolder(tmp_path / "s").trial("random", 1, {"selector.name": "random"}, {200: 0.7})
    assert list(Library(tmp_path / "s").sweeps()) == ["s"]


@pytest.mark.parametrize("name", TAKEN)
def test_a_sweep_is_listed_below_any_folder_of_a_user(tmp_path, name):
    SweepFolder(tmp_path / name / "results" / "q").trial("random", 1, {"selector.name": "random"}, {200: 0.7})
    assert list(Library(tmp_path).sweeps()) == [f"{name}/results/q"]


@pytest.mark.parametrize("kind", MIRROR_SCHEMES)
def test_sweeps_of_an_object_store_are_listed_beside_others(results, kind):
    SweepFolder(results / "runs" / kind / "q").trial("random", 1, {"selector.name": "random"}, {200: 0.7})
    assert set(Library(results).sweeps()) == {"runs/old", "runs/new <b>", f"runs/{kind}/q"}


def folders_looked_into(monkeypatch):
    """Names of folders whose content was listed."""
    names, listed = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: names.append(folder.name) or listed(folder))
    return names


def test_among_stages_and_decoded_data_no_sweep_is_looked_for(results, monkeypatch):
    for name in set(TAKEN) - set(MIRROR_SCHEMES):
        (results / "runs" / name / "pretrain" / "0f").mkdir(parents=True)
    looked_into = folders_looked_into(monkeypatch)
    assert set(Library(results).sweeps()) == {"runs/old", "runs/new <b>"}
    assert looked_into == [results.name, "runs"]


def test_stages_that_lie_apart_from_sweeps_are_known_by_their_names(results, monkeypatch):
    for number in range(20):
        (results / "elsewhere" / "stages" / "pretrain" / digest(b"%d" % number)).mkdir(parents=True)
    looked_into = folders_looked_into(monkeypatch)
    assert set(Library(results).sweeps()) == {"runs/old", "runs/new <b>"}
    assert sorted(looked_into) == sorted([results.name, "runs", "elsewhere", "stages"])


def test_newer_records_are_reported_once_at_a_time(tmp_path, monkeypatch):
    started = []

    class Writer:
        returncode = 0

        def __init__(self, command, **_):
            started.append(command[-1])
            self.ended = False

        def poll(self):
            return 0 if self.ended else None

        def communicate(self):
            return "", ""

        def terminate(self):
            self.ended = True

    writers = []
    monkeypatch.setattr(serve.subprocess, "Popen", lambda *a, **k: writers.append(Writer(*a, **k)) or writers[-1])
    monkeypatch.setattr(serve, "REST", 0.0)
    monkeypatch.setattr(serve, "SHARE", 0.0)
    folder = SweepFolder(tmp_path / "s")
    folder.trial("random", 1, {"selector.name": "random"}, {200: 0.7})
    sweep = serve.ServedSweep(folder.path)
    assert "being written" in sweep.state()["said"]
    sweep.renew()
    assert len(started) == 1  # while one is under way no other begins
    (folder.path / "report.html").write_text("<body></body>")
    writers[0].ended = True
    assert sweep.state()["said"].startswith("live: ")
    assert len(started) == 1  # the page is newer than the records
    later = time.time_ns() + 10**10
    os.utime(folder.path / "rows.jsonl", ns=(later, later))
    sweep.state()
    assert len(started) == 2
    sweep.close()
    assert writers[1].ended


def test_why_there_is_no_page_is_said(tmp_path, monkeypatch):
    folder = SweepFolder(tmp_path / "s")
    (folder.path / "rows.jsonl").write_text("nothing\n")
    sweep = serve.ServedSweep(folder.path)
    sweep.renew()
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and "holds no records" not in sweep.state()["said"]:
        time.sleep(0.2)
    assert "holds no records yet" in sweep.state()["said"]
    sweep.close()
