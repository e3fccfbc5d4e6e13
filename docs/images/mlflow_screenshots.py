"""Takes the pictures of README's section on the MLflow UI: `python mlflow_screenshots.py ADDRESS FIRST SECOND`.

ADDRESS is that of a running `mlflow ui`, such as http://127.0.0.1:5000; FIRST and SECOND are the ids of the experiments
of two sweeps over selectors.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
AREA = {"x": 190, "y": 60, "width": 1080, "height": 540}
EXPANDER = "[data-component-id$='runnamecellrenderer.tsx_46']"
CHARTS = "compareRunsMode=CHART"


def shoot(page: Page, name: str) -> None:
    """Writes the picture once what moves has come to rest."""
    page.mouse.move(5, 5)
    page.wait_for_timeout(4000)
    page.screenshot(path=HERE / f"{name}.png", clip=AREA)  # type: ignore[arg-type]


def group_by(page: Page, *tags: str) -> None:
    """Groups the runs by tags."""
    for tag in tags:
        page.get_by_text("Group by").first.click()
        page.get_by_role("menuitemcheckbox", name=tag, exact=True).first.click()
        page.keyboard.press("Escape")


def main(address: str, first: str, second: str) -> None:
    """The three comparisons that people make."""
    with sync_playwright() as playwright:
        switches = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=switches)
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(60_000)
        page.goto(f"{address}/#/experiments/{first}/runs")
        page.locator("[data-component-id='mlflow.assistant.chat_panel.close']").click()
        page.locator(EXPANDER).first.click()
        shoot(page, "mlflow_trials")
        page.goto(f"{address}/#/experiments/{first}/runs?{CHARTS}")
        page.get_by_placeholder("Search metric charts").fill("(val|test)/accuracy$")
        group_by(page, "selector")
        shoot(page, "mlflow_selectors")
        page.goto(f'{address}/#/compare-experiments/s?experiments=["{first}","{second}"]&{CHARTS}')
        page.reload()
        page.get_by_placeholder("Search metric charts").fill("test/accuracy$")
        group_by(page, "sweep", "selector")
        shoot(page, "mlflow_sweeps")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
