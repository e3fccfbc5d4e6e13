"""The report page as a reader meets it, in Chromium: nothing is loaded, cut off or too faint, and tables sort."""

from __future__ import annotations

import itertools
import shutil

import pytest
from sweep_folder import augmentation_sweep, selection_sweep

from harness.report import versus
from harness.report.write import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
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


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name -> file of three kinds of page."""
    folder = tmp_path_factory.mktemp("reports")
    pairs = augmentation_sweep(folder / "pairs").path
    gains = {"random": 0.0, "good": 0.06, "bad": -0.06}
    rounds = selection_sweep(folder / "rounds", gains, rounds=3, reference={"selector": "random"}).path
    reports = [write_report(pairs), write_report(rounds)]
    versus.write_comparison(reports, folder / "compare.html")
    return {"pairs": pairs / "report.html", "rounds": rounds / "report.html", "compare": folder / "compare.html"}


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, pages):
    """Opens a page by name; afterwards nothing may have been loaded beside it, nor complained of."""
    contexts, complaints, requests = [], [], []

    def open_page(name, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(pages[name].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) <= {file.as_uri() for file in pages.values()}


def column(table, number):
    return [row.strip() for row in table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()]


@pytest.mark.parametrize("name", ["pairs", "rounds", "compare"])
def test_every_picture_and_link_is_there(visit, name):
    page = visit(name)
    assert page.locator("figure svg").count() > (1 if name != "compare" else -1)
    for picture in page.locator("figure svg").all():
        assert picture.get_attribute("aria-label")
        assert picture.bounding_box()["height"] > 50
    levels = page.eval_on_selector_all("h1, h2, h3", "found => found.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    links = page.locator("nav a")
    assert links.count() > 1
    for link in links.all():
        link.click()
        anchor = link.get_attribute("href")
        assert page.url.endswith(anchor)
        assert page.locator(f"section{anchor} h2").count() == 1


def test_a_click_sorts_and_another_one_sorts_back(visit):
    page = visit("pairs")
    table = page.locator("#search table")
    names, before = column(table, 1), column(table, 2)
    button = table.get_by_role("button", name="val/accuracy")
    button.click()
    falling = [float(cell) for cell in column(table, 2) if cell != "–"]
    assert falling == sorted(falling, reverse=True)
    button.press("Enter")
    rising = column(table, 2)
    assert [float(cell) for cell in rising if cell != "–"] == sorted(falling)
    assert set(rising[len(falling) :]) == {"–"}
    assert rising != before
    assert sorted(column(table, 1)) == sorted(names)
    head = table.locator("thead th").nth(1)
    assert head.get_attribute("aria-sort") == "ascending"
    table.get_by_role("button", name="configuration").click()
    assert column(table, 1) != names
    assert head.get_attribute("aria-sort") is None


def test_every_column_of_every_table_can_be_clicked(visit):
    page = visit("pairs")
    for button in page.locator("th button").all():
        button.click()
    assert page.locator("th[aria-sort]").count() == page.locator("table:has(th button)").count() > 2


def test_complete_without_a_script(visit):
    page = visit("pairs", java_script_enabled=False)
    assert page.locator("th button").count() == 0
    assert page.locator("#search tbody tr").count() == 20
    assert page.locator("#leaderboard tbody tr").count() == 6
    assert page.get_by_text("ValueError: <script>alert(1)</script>").is_visible()


@pytest.mark.parametrize("name", ["pairs", "rounds", "compare"])
@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_sticks_out_of_the_window(visit, name, width):
    page = visit(name, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_sticks_out_of_the_paper(visit):
    page = visit("pairs", viewport={"width": 680, "height": 960})  # A4 between margins of 15 mm
    page.emulate_media(media="print")
    wide = page.eval_on_selector_all("table, svg", "found => found.filter(x => x.getBoundingClientRect().right > 681)")
    assert wide == []


CONTRAST = """
() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
  };
  const cells = ["rgb(17, 17, 17)", "rgb(255, 255, 255)"];  // numbers on the cells of a heat map
  const faint = [];
  let seen = 0;
  for (const element of document.querySelectorAll("body *")) {
    if (["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const text = element instanceof SVGElement ? style.fill : style.color;
    if (element instanceof SVGElement && cells.includes(text)) continue;
    const [a, b] = [light(parse(text)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (ratio < 4.5) faint.push(`${element.textContent.slice(0, 40)} ${text} ${ratio.toFixed(2)}`);
  }
  return [seen, faint];
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["pairs", "rounds", "compare"])
def test_text_stands_out(visit, name, scheme):
    """WCAG's contrast for text, 4.5 : 1, in the pictures too."""
    page = visit(name, color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) < 384) == (scheme == "dark")
    seen, faint = page.evaluate(CONTRAST)
    assert seen > 50
    assert faint == []
