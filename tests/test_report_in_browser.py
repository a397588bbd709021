"""The page in a real browser: layout, pictures, colors, keyboard, print. Skipped without one."""

import shutil
from importlib.util import find_spec

import pytest
from made_results import write_results

from bench import report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="no playwright: the extra 'test'"),
]

WIDTHS, SCHEMES = (400, 1400), ("light", "dark")
views = pytest.mark.parametrize("view", [(w, s) for w in WIDTHS for s in SCHEMES], ids=str)

# The ratio of contrast by WCAG 2.2 of every element that has text of its own.
CONTRASTS = """() => {
  const channel = (value) =>
    value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([red, green, blue]) =>
    [red, green, blue].map((value) => channel(value / 255))
      .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((element) => !["SCRIPT", "STYLE"].includes(element.tagName))
    .filter((element) => [...element.childNodes].some(
      (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()))
    .map((element) => {
      const style = getComputedStyle(element);
      const color = parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
      const [low, high] = [luminance(color), luminance(ground(element))].sort((a, b) => a - b);
      return [(high + 0.05) / (low + 0.05), `${element.tagName} ${element.textContent.trim()}`];
    });
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_results(folder)
    report.write_report(folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update"]  # fmt: skip
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.fixture
def visit(browser, address):
    """Open the page; at the end, nothing may have been logged or fetched."""
    opened, wrong = [], []

    def open_page(width, scheme, **settings):
        size = {"width": width, "height": 900}
        page = browser.new_page(viewport=size, color_scheme=scheme, **settings)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.extend({request.url} - {address}))
        page.goto(address)
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.close()
    # Pictures inside of pictures are data, which is a request too.
    assert [each for each in wrong if not each.startswith("data:")] == []


def open_details(page):
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


@views
def test_nothing_has_to_be_scrolled_sideways(visit, view):
    page = visit(*view)
    open_details(page)
    scrolled, inner = page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert scrolled <= inner == view[0]
    # What is wider scrolls in a box of its own, which a keyboard reaches and a reader is told of.
    for box in page.locator(".scroll").all():
        assert box.get_attribute("tabindex") == "0"
        assert box.get_attribute("role") == "region"
    outside = page.evaluate("""() => [...document.querySelectorAll("main *")]
      .filter((each) => !each.closest(".scroll") && !each.closest("svg, #summary > h2, caption"))
      .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
      .map((each) => each.outerHTML.slice(0, 80))""")
    assert outside == []


@views
def test_every_picture_is_drawn(visit, view):
    page = visit(*view)
    pictures = page.locator("svg[role=img]").all()
    assert len(pictures) > 15
    for picture in pictures:
        box = picture.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 90
        marks = picture.evaluate("""(each) => [...each.querySelectorAll("path, image, text")]
          .filter((mark) => mark.getBoundingClientRect().width > 0).length""")
        assert marks > 10
        size = picture.evaluate("(each) => each.viewBox.baseVal.width")
        # Nine points of a picture's own size stay readable.
        assert 9 * box["width"] / size > 7.5


@views
def test_text_stands_out_from_its_ground(visit, view):
    page = visit(*view)
    open_details(page)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 500
    weak = [(round(ratio, 2), text[:60]) for ratio, text in contrasts if ratio < 4.5]
    assert weak == []


def test_the_dark_page_is_dark_and_its_pictures_with_it(visit):
    shown = {}
    for scheme in SCHEMES:
        page = visit(1400, scheme)
        shown[scheme] = page.evaluate("""() => [
          getComputedStyle(document.body).backgroundColor,
          getComputedStyle(document.body).color,
          getComputedStyle(document.querySelector("svg[role=img] text")).fill,
        ]""")
    light, dark = shown["light"], shown["dark"]
    assert all(one != other for one, other in zip(light, dark, strict=True))
    assert light[1] == light[2], "text in a picture is as the page's"
    assert dark[1] == dark[2]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_summary_fits_one_screen(visit, width):
    box = visit(width, "light").locator("#summary").bounding_box()
    assert box["y"] + box["height"] <= 900


def column(page, table, index):
    return [row.locator("th, td").nth(index) for row in page.locator(f"#{table} tbody tr").all()]


def test_a_table_is_sorted_from_the_keyboard(visit):
    page = visit(1400, "light")
    heading = page.locator("#table-epochs thead th").nth(2)
    heading.locator("button").focus()

    def keys():
        return [cell.get_attribute("data-key") for cell in column(page, "table-epochs", 2)]

    before = keys()
    for key, state, sign in (("Enter", "ascending", 1), ("Space", "descending", -1)):
        page.keyboard.press(key)
        assert heading.get_attribute("aria-sort") == state
        *numbers, last = keys()
        assert last is None, "what has no number comes last"
        assert numbers == sorted(numbers, key=lambda each: sign * float(each))
        assert keys() != before
    assert page.locator("#table-epochs [aria-sort]").count() == 1

    other = page.locator("#table-epochs thead th").nth(0)
    other.locator("button").click()
    names = [cell.inner_text() for cell in column(page, "table-epochs", 0)]
    assert names == sorted(names)
    assert other.get_attribute("aria-sort") == "ascending"
    assert heading.get_attribute("aria-sort") is None


def test_the_first_tab_skips_to_the_results(visit):
    page = visit(400, "light")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


def test_the_page_reads_without_scripts(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("#table-epochs thead th").first.inner_text() == "recipe"
    context.close()


def test_it_prints_light_and_nothing_is_cut_off(visit, tmp_path):
    page = visit(1400, "dark")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 960})  # A4 within its margins
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)"
    assert not page.locator("nav").is_visible()
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").stat().st_size > 50_000
