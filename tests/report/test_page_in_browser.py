"""The report page as a reader meets it, in Chromium: nothing is loaded, cut off or too faint, and tables sort."""

from __future__ import annotations

import itertools
import re
import shutil
import threading

import numpy as np
import pytest
from sweep_folder import augmentation_sweep, selection_sweep

from harness.records.album import Album, pack_album, sheet_of
from harness.records.portrait import Portrait, pack
from harness.report import versus
from harness.report.page.write import write_page
from harness.report.read import read_report
from harness.report.serve import open_server
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
    files = {"pairs": pairs / "report.html", "rounds": rounds / "report.html", "compare": folder / "compare.html"}
    with_album(rounds)
    write_page(read_report(rounds))
    return files


def with_album(sweep):
    """Gives two selectors a portrait of one encoder, with 60 images, 20 picks each and 5 others in their albums."""
    rng = np.random.default_rng(0)
    classes = np.arange(60) % 3
    points = 10 * np.eye(3)[classes][:, :2] + rng.normal(size=(60, 2))
    for number, name in enumerate(("good", "random")):
        noise = lambda *shape: rng.integers(0, 256, (*shape, 8, 8, 3)).astype(np.uint8)  # noqa: E731
        portrait = Portrait(
            ("cat", "dog", "<owl>"), "t-SNE", points, classes, classes, 0.8, np.array([0, 10, 10]),
            rng.normal(size=(20, 2)), 1 + np.arange(20) // 10, np.arange(20) % 3, np.zeros((2, 3), int), noise(2, 3),
            (), noise(0, 1),
        )  # fmt: skip
        predicted = np.concatenate([classes, np.arange(20) % 3, np.zeros(5, int)])
        predicted[:4] = 2 - predicted[:4]
        album = Album(
            rng.normal(size=(5, 2)), np.arange(20) % 10, np.zeros(25, int), predicted,
            np.linspace(0.99, 0.5, 85, dtype=np.float32), np.where(np.arange(60) == 0, 2, -1),
            tuple(f"/photos/{number}/<{k}>.png" for k in range(85)), np.arange(85), 8, 8, sheet_of(noise(85)),
        )  # fmt: skip
        folder = next((sweep / "trials").glob(f"confirm-{name}-s1"))
        (folder / "portrait.npz").write_bytes(pack(portrait))
        (folder / "album.npz").write_bytes(pack_album(album))


def open_all(page):
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


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
    open_all(page)
    for picture in page.locator("figure svg").all():
        assert picture.get_attribute("aria-label")
        assert picture.bounding_box()["height"] > 50
    open_all(page)
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
    open_all(page)
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
    open_all(page)
    page.locator(".lead .all input").check()
    for button in page.locator("th button").all():
        button.click()
    assert page.locator("th[aria-sort]").count() == page.locator("table:has(th button)").count() > 2


def test_complete_without_a_script(visit):
    page = visit("pairs", java_script_enabled=False)
    assert page.locator("th button").count() == 0
    assert page.locator("#search tbody tr").count() == 20
    assert page.locator("#leaderboard tbody tr").count() == 6
    assert not page.get_by_text("ValueError: <script>alert(1)</script>").is_visible()
    page.locator("#failed summary").first.click()
    assert page.get_by_text("ValueError: <script>alert(1)</script>").is_visible()
    page.locator("#leaderboard .lead .all input").check()
    assert page.get_by_role("columnheader", name="smallest").first.is_visible()


@pytest.mark.parametrize("name", ["pairs", "rounds", "compare"])
@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_sticks_out_of_the_window(visit, name, width):
    page = visit(name, viewport={"width": width, "height": 800})
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["pairs", "rounds"])
def test_nothing_sticks_out_of_the_paper(visit, name):
    page = visit(name, viewport={"width": 680, "height": 960})  # A4 between margins of 15 mm
    page.emulate_media(media="print")
    assert page.locator("#trials table").is_visible()  # closed on the screen, open on paper
    assert not any(label.is_visible() for label in page.locator("label.all").all())
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
    open_all(page)
    seen, faint = page.evaluate(CONTRAST)
    assert seen > 50
    assert faint == []


# Pointing at things --------------------------------------------------------------------------------------------------


def tip(page):
    return page.locator(".tip").inner_text()


@pytest.mark.parametrize("touch", [False, True])
def test_a_point_of_a_curve_tells_its_value(visit, touch):
    page = visit("rounds", has_touch=touch, viewport={"width": 1280, "height": 900})
    picture = page.locator(".lead figure svg")
    told = page.evaluate("JSON.parse(document.querySelector('.lead script.told').textContent)")
    assert {one["name"] for one in told} == {"random", "good", "bad"}
    x, y, text = told[0]["at"][-1]
    box, wide = picture.bounding_box(), page.evaluate("document.querySelector('.lead svg').viewBox.baseVal.width")
    at = (box["x"] + x * box["width"] / wide, box["y"] + y * box["width"] / wide)
    if touch:
        page.touchscreen.tap(*at)
    else:
        page.mouse.move(*at)
    first, *others = tip(page).splitlines()
    assert first in {"random", "good", "bad"}
    assert others[-1] == text.splitlines()[-1] == "800 labels"
    assert page.locator(".lead .mark polyline").count() == 2  # one in each panel
    page.mouse.move(2, 2)
    assert touch or not page.locator(".tip").is_visible()


def test_a_line_of_the_parallel_coordinates_leads_to_its_trial(visit):
    page = visit("pairs", viewport={"width": 1280, "height": 900})
    open_all(page)
    picture = page.locator("figure svg[aria-label^='Parallel']")
    picture.scroll_into_view_if_needed()
    script = "svg => JSON.parse(svg.nextElementSibling.textContent)"
    first = picture.evaluate(script)[0]
    assert "temperature" in first["at"][0][2]
    x, y, _ = first["at"][0]
    box, wide = picture.bounding_box(), picture.evaluate("svg => svg.viewBox.baseVal.width")
    page.mouse.click(box["x"] + x * box["width"] / wide, box["y"] + y * box["width"] / wide)
    anchor = page.evaluate("location.hash").removeprefix("#")
    assert re.fullmatch(r"search-s\d+-s0", anchor)
    assert page.locator(f"tr[id='{anchor}']").is_visible()


def test_a_row_leads_to_its_trial(visit):
    page = visit("pairs")
    assert not page.locator("#trials table").is_visible()
    page.locator("#leaderboard tbody th a").first.click()
    anchor = page.evaluate("location.hash").removeprefix("#")
    row = page.locator(f"tr[id='{anchor}']")
    assert row.is_visible()
    assert row.locator("a").get_attribute("href") == f"trials/{anchor}/"


def test_the_map_tells_colours_and_lists_what_a_lasso_holds(visit):
    page = visit("rounds", viewport={"width": 1280, "height": 900})
    open_all(page)
    canvas = page.locator(".map > canvas")
    canvas.scroll_into_view_if_needed()
    assert page.locator(".map .legend button").all_inner_texts() == [
        "class unknown (5)", "cat (27)", "dog (27)", "<owl> (26)"
    ]  # fmt: skip
    assert max(filled(canvas)) > 0.9  # of its width or its height
    for by, words in (("cluster", "cluster 1"), ("pick", "round 2 (10)"), ("error", "wrong")):
        page.locator(".map [name=by]").select_option(by)
        assert any(one.startswith(words) for one in page.locator(".map .legend button").all_inner_texts())
    box = canvas.bounding_box()
    corners = [(4, 4), (box["width"] - 4, 4), (box["width"] - 4, box["height"] - 4), (4, box["height"] - 4)]
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y)
    page.mouse.up()
    assert page.locator(".chosen p").inner_text().startswith("85 in the lasso: ")
    assert page.locator(".chosen li canvas").count() == 60
    names = page.locator(".chosen textarea").input_value().splitlines()
    assert len(names) == 85
    assert names[0] == "/photos/0/<0>.png"
    said = set()
    for row, column in itertools.product(range(16), range(16)):  # somewhere there is an image
        page.mouse.move(box["x"] + box["width"] * (row + 0.5) / 16, box["y"] + box["height"] * (column + 0.5) / 16)
        if not said and page.locator(".tip").is_visible():
            said.add(tip(page))
            assert page.locator(".tip canvas").count() == 1
    assert any(".png" in one for one in said)


def filled(canvas):
    """Which share of a canvas's width and of its height lies between what is drawn."""
    return canvas.evaluate("""canvas => {
      const {width, height} = canvas, ink = canvas.getContext("2d").getImageData(0, 0, width, height).data;
      let [left, right, top, bottom] = [width, 0, height, 0];
      for (let at = 0; at < width * height; at++) {
        if (!ink[4 * at + 3]) continue;
        const x = at % width, y = Math.floor(at / width);
        [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
      }
      return [(right - left) / width, (bottom - top) / height];
    }""")


def test_first_picks_errors_and_doubtful_labels_have_names(visit):
    page = visit("rounds")
    open_all(page)
    text = page.locator("#images").inner_text()
    for words in ("What was picked first", "The most confident errors", "Labels to check", "1 of 60 validation images",
                  "is cat", "taken for <owl> (99\u00a0%)", "<0>.png", "cat taken for <owl>: 2 of 20"):  # fmt: skip
        assert words in text, words
    shown = page.locator("#images .thumbs img")
    assert shown.count() == 10 + 10 + 3 + 1 + 3
    assert all(shown.nth(k).evaluate("image => image.naturalWidth") == 8 for k in range(5))


def test_on_a_phone_the_column_to_judge_by_is_seen(visit):
    for name, column in (("rounds", "vs random"), ("pairs", "difference")):
        page = visit(name, viewport={"width": 390, "height": 844})
        box = page.locator(".lead").get_by_role("columnheader", name=column).first.bounding_box()
        assert box["x"] + box["width"] <= 390
        more = page.locator(".lead th.more").first
        assert not more.is_visible()
        page.locator(".lead .all input").check()
        assert more.is_visible()


def test_on_a_desk_the_leaderboard_needs_no_scrolling(visit):
    page = visit("rounds", viewport={"width": 1280, "height": 900})
    open_all(page)
    wide, seen = page.locator("#leaderboard .scroll:has(table)").evaluate("one => [one.scrollWidth, one.clientWidth]")
    assert wide <= seen


def test_one_screen_holds_the_answer_a_table_and_a_picture(visit):
    for name in ("rounds", "pairs"):
        page = visit(name, viewport={"width": 1280, "height": 900})
        for part in ("#answer .answer", ".lead table", ".lead svg"):
            box = page.locator(part).first.bounding_box()
            assert box["y"] + box["height"] <= 900, part


def test_paper_has_a_header_and_page_numbers_and_few_empty_halves(visit, tmp_path):
    """As many pages as the page is long, and no more."""
    page = visit("pairs", viewport={"width": 680, "height": 960})
    page.emulate_media(media="print")
    high = page.evaluate("document.documentElement.scrollHeight")
    pdf = page.pdf(path=tmp_path / "page.pdf", format="A4", prefer_css_page_size=True)
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    usable = (297 - 38) / 25.4 * 96
    assert high / usable - 1 <= pages <= 1.35 * high / usable + 1


# Served ---------------------------------------------------------------------------------------------------------------


def test_a_served_page_renews_itself_where_the_reader_was(chromium, tmp_path):
    sweep = augmentation_sweep(tmp_path / "runs" / "pairs")
    write_report(sweep.path)
    server = open_server(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    page = chromium.new_context().new_page()
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        page.get_by_role("link", name="runs/pairs").click()
        page.locator("#failed summary").first.click()
        assert page.locator(".live").is_visible()
        file = sweep.path / "report.html"
        file.write_text(file.read_text().replace("Which two augmentations", "RENEWED"))
        page.get_by_text("RENEWED").wait_for(timeout=20_000)
        assert page.locator("#failed table").is_visible()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert complaints == []
