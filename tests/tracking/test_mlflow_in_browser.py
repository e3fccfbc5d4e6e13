"""MLflow's UI on what a sweep delivers, as a user meets it, in Chromium."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sweep_folder import SweepFolder

from harness.cores import usable_cores
from harness.report.read import read_report
from harness.tracking import tracker
from harness.tracking.links import links

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: make test-browser installs it"),
]
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
OWN = ("users/current", "ResizeObserver loop")  # what MLflow's page complains of by itself, without any run
GROUP_BY = "[data-component-id$='runsgroupbyselector.tsx_306']"
CARD = "experiment-view-compare-runs-card"
EXPANDER = "[data-component-id$='runnamecellrenderer.tsx_46']"
PATIENCE = 120_000  # milliseconds; the page is large, and the machine may be busy


SWEEPS = ("selectors", "which_selector")


def deliver(folder: Path, name: str, uri: str, selectors: Sequence[str], seeds: Iterable[int], above: float) -> None:
    """Delivers a sweep of so many selectors under so many seeds."""
    sweep = SweepFolder(folder / name, name=name)
    about = sweep.environment | {"sweep_id": name}
    (sweep.path / "environment.json").write_text(json.dumps(about))
    rows = []
    for seed, (number, selector) in itertools.product(seeds, enumerate(selectors)):
        curve = {100 * k: 0.5 + 0.1 * k + 0.02 * number + 0.001 * seed + above for k in range(1, 4)}
        rows += sweep.records(selector, seed, {"selector.name": selector}, curve, epochs=5)
    sweep.append(rows)
    tracker.sync(sweep.path, uri)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Two delivered sweeps, each of two selectors under two seeds."""
    folder = tmp_path_factory.mktemp("ui")
    uri = f"sqlite:///{folder}/mlflow.db"
    for place, name in enumerate(SWEEPS):
        deliver(folder, name, uri, ("random", "coreset"), (1, 2), 0.05 * place)
    return uri


@pytest.fixture(scope="module")
def address(database, tmp_path_factory):
    """Of a running UI."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", database, "--port", str(port)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = (tmp_path_factory.mktemp("server") / "log").open("w+")
    with subprocess.Popen([*command, "--workers", "1"], env=environment, stdout=log, stderr=log) as server:
        deadline = time.monotonic() + 300
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, log.seek(0) or log.read()
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture
def page(address):
    """A page that may not complain."""
    complaints = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=address)
        page.set_default_timeout(PATIENCE)
        page.on(
            "console",
            lambda message: message.type == "error" and complaints.append(f"{message.text} {message.location}"),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        browser.close()
    assert [text for text in complaints if not any(own in text for own in OWN)] == []


@pytest.fixture(scope="module")
def experiment(database):
    return MlflowClient(database).get_experiment_by_name("selectors").experiment_id


def test_the_runs_are_listed_by_what_differs(page, address, experiment):
    """The first comparison of the README: its link, and one click."""
    page.goto(links(address, experiment)["runs"])
    page.locator(EXPANDER).first.click()
    for name in ("selectors", "random · seed 1", "random · seed 2", "coreset · seed 1", "coreset · seed 2"):
        page.get_by_text(name, exact=True).first.wait_for()


def test_charts_are_learning_curves(page, address, experiment):
    """The second comparison: its link, which groups, and no click."""
    page.goto(links(address, experiment)["charts"])
    for name in ("coreset", "random"):
        page.get_by_text(f"Group: {name}", exact=True).first.wait_for()
    _shows_curves(page)
    shown = " ".join(page.get_by_test_id(CARD).all_inner_texts())
    assert set(re.findall(r"[\w/]*accuracy", shown)) == {"val/accuracy", "test/accuracy"}


def test_two_sweeps_are_compared(page, address):
    """The third comparison: tick, Compare, chart view, group by sweep and what differs."""
    page.goto(f"{address}/#/experiments")
    for name in SWEEPS:
        row = page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))
        row.get_by_role("checkbox").first.click(force=True)
    page.get_by_test_id("compare-experiment-button").click()
    page.locator("[name='runs-view-mode'][value='CHART']").locator("xpath=ancestor::label[1]").click()
    for tag in ("sweep", "differs"):
        page.locator(GROUP_BY).click()
        page.get_by_role("menuitemcheckbox", name=tag, exact=True).first.click()
        page.keyboard.press("Escape")
    page.get_by_placeholder("Search metric charts").fill("^test/accuracy$")
    for sweep, name in itertools.product(SWEEPS, ("coreset", "random")):
        page.get_by_text(f"Group: sweep: {sweep}, differs: {name}", exact=True).first.wait_for()
    _shows_curves(page)


def _shows_curves(page):
    page.locator(".js-plotly-plot .xtick text", has_text=re.compile("^200$")).first.wait_for()  # labels, not epochs
    assert page.locator(".js-plotly-plot .lines path").count() >= 2


def test_the_sweeps_run_shows_question_answer_and_report(page, database, experiment):
    (run,) = MlflowClient(database).search_runs([experiment], "tags.kind = 'sweep'")
    page.goto(f"/#/experiments/{experiment}/runs/{run.info.run_id}")
    page.get_by_text("Which selector finds the better 200 labels?").first.wait_for()
    answer = read_report(Path(database.removeprefix("sqlite:///")).parent / "selectors").answer
    page.get_by_text(answer.partition(",")[0]).first.wait_for()
    page.goto(f"/#/experiments/{experiment}/runs/{run.info.run_id}/artifacts")
    page.get_by_text("space.yaml").first.wait_for()


LARGE = 20, 50
"""Selectors and seeds of a sweep of 1,000 runs."""

RUNS_SECONDS = 3.0
"""In which the table of so many runs is there, on a machine that nothing else keeps busy."""


@pytest.mark.timeout(1800)
def test_a_thousand_runs_are_listed_in_seconds(page, address, database):
    """By the link to the runs; the second time, for the first one loads MLflow's own page."""
    selectors = [f"selector{number}" for number in range(LARGE[0])]
    deliver(Path(database.removeprefix("sqlite:///")).parent, "large", database, selectors, range(LARGE[1]), 0)
    number = MlflowClient(database).get_experiment_by_name("large").experiment_id
    taken = []
    for _ in range(3):
        page.goto("about:blank")
        begun = time.monotonic()
        page.goto(links(address, number)["runs"])
        page.locator(EXPANDER).first.wait_for()
        taken.append(time.monotonic() - begun)
    busy = os.getloadavg()[0] / usable_cores()
    print(f"{LARGE[0] * LARGE[1]} runs: {taken} s, {busy:.1f} times as much work as cores")
    assert min(taken[1:]) < RUNS_SECONDS * max(1.0, busy)
