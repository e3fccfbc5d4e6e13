"""MLflow's UI on what a sweep delivers, as a user meets it, in Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from mlflow import MlflowClient
from sweep_folder import SweepFolder

from harness.tracking import tracker

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
EXPANDER = "[data-component-id$='runnamecellrenderer.tsx_46']"
PATIENCE = 60_000  # milliseconds; the page is large, and the machine may be busy


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A delivered sweep of two selectors under two seeds."""
    folder = tmp_path_factory.mktemp("ui")
    sweep = SweepFolder(folder / "selectors")
    for seed in (1, 2):
        for number, selector in enumerate(("random", "coreset")):
            curve = {100 * k: 0.5 + 0.1 * k + 0.02 * number + 0.001 * seed for k in range(1, 4)}
            sweep.trial(selector, seed, {"selector.name": selector}, curve, epochs=5)
    uri = f"sqlite:///{folder}/mlflow.db"
    tracker.sync(sweep.path, uri)
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
        deadline = time.monotonic() + 120
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


def test_the_runs_are_listed_by_what_differs(page, experiment):
    page.goto(f"/#/experiments/{experiment}/runs")
    page.locator(EXPANDER).first.click()
    for name in ("selectors", "random · seed 1", "random · seed 2", "coreset · seed 1", "coreset · seed 2"):
        page.get_by_text(name, exact=True).first.wait_for()


def test_charts_are_learning_curves(page, experiment):
    page.goto(f"/#/experiments/{experiment}/runs?compareRunsMode=CHART")
    page.get_by_placeholder("Search metric charts").fill("val/accuracy$")
    page.get_by_text("Group by").first.click()
    page.get_by_role("menuitemcheckbox", name="selector", exact=True).first.click()
    page.keyboard.press("Escape")
    page.get_by_text("Group: coreset").first.wait_for()
    page.locator(".js-plotly-plot .xtick").first.wait_for()
    ticks = page.locator(".js-plotly-plot .xtick text").all_text_contents()
    assert "200" in ticks, ticks  # labels, not epochs
    assert page.locator(".js-plotly-plot .lines path").count() >= 2


def test_the_sweeps_run_shows_question_answer_and_report(page, database, experiment):
    (run,) = MlflowClient(database).search_runs([experiment], "tags.kind = 'sweep'")
    page.goto(f"/#/experiments/{experiment}/runs/{run.info.run_id}")
    page.get_by_text("Which selector finds the better 200 labels?").first.wait_for()
    page.get_by_text("coreset was the best of 2").first.wait_for()
    page.goto(f"/#/experiments/{experiment}/runs/{run.info.run_id}/artifacts")
    page.get_by_text("space.yaml").first.wait_for()
