"""The report in a real browser, as a file on this machine."""

import dataclasses
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from verl_socio.report.make import make

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"

GAP = "Primary  School"
# HTML takes the break in it for a shorter one and leaves the last letter out.
ODD = "Bus\r\nStop\x00"


@pytest.fixture(scope="module")
def browser():
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        reason = "needs chromium and chromedriver: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    # Tests run as root, and in containers without a large /dev/shm.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(write_evaluation, tmp_path_factory):
    """A report of 200 samples: sample 5 failed, sample 7 has no picture, sample 8 speaks HTML.

    Schools have a gap, and some zoos are odd.
    """

    def change(row):
        if row.index == 5:
            return dataclasses.replace(row, failure=f"out of memory {HOSTILE}", stages=())
        if row.index == 8:
            stages = [
                dataclasses.replace(stage, text=HOSTILE, thinking=HOSTILE, reason=HOSTILE) for stage in row.stages
            ]
            return dataclasses.replace(row, question=HOSTILE, stages=tuple(stages))
        renamed = {"School": GAP, "Zoo": ODD if row.index % 2 else "Zoo"}
        return dataclasses.replace(row, question=renamed.get(row.question, row.question))

    folder = write_evaluation(tmp_path_factory.mktemp("report") / "e", 200, change=change)
    (folder / "pictures" / "small" / "00007_sample_7.jpg").unlink()
    return make(folder)


@pytest.fixture
def page(browser, report):
    """The page, opened anew, and its cards' texts on demand."""
    browser.get("about:blank")
    browser.get(report.as_uri())
    return browser


def cards(page):
    return page.find_elements(By.CSS_SELECTOR, ".card")


def numbers(page):
    return [int(card.get_attribute("data-index")) for card in cards(page)]


def choose(page, name, value):
    Select(page.find_element(By.ID, name)).select_by_visible_text(value)


def opened(page):
    return page.find_element(By.CSS_SELECTOR, "dialog[open]").text


def test_it_opens_shows_images_and_holds_back_what_is_not_seen(page):
    assert page.title == "tiny on city, split test"
    first = page.find_element(By.CSS_SELECTOR, ".card img")
    page.execute_script("arguments[0].scrollIntoView()", first)
    WebDriverWait(page, 20).until(lambda _: first.get_property("naturalWidth") > 0)
    assert first.get_property("naturalWidth") == 6 * 40
    assert len(page.find_elements(By.CSS_SELECTOR, ".charts svg")) == 5
    assert len(cards(page)) < 200, "the rest comes when it is scrolled to"
    page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    WebDriverWait(page, 20).until(lambda _: len(cards(page)) > 60)
    assert page.get_log("browser") == []


def test_filters_leave_what_holds_and_reset_brings_all_back(page):
    choose(page, "level", "class")
    choose(page, "kind", "good")
    shown = page.execute_script("return chosen.map((sample) => [sample.level, sample.kind])")
    assert shown and {tuple(each) for each in shown} == {("class", "good")}
    assert page.find_element(By.ID, "count").text == f"{len(shown)} of 200"
    page.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    WebDriverWait(page, 20).until(lambda _: page.find_element(By.ID, "count").text == "200 of 200")
    page.find_element(By.ID, "words").send_keys("LOOK place 131.")
    assert numbers(page) == [131], "the words of its thinking"


@pytest.mark.parametrize(("shown", "name"), [("Zoo", "Zoo"), ("Primary School", GAP), ("Bus Stop", ODD)])
def test_a_class_is_chosen_by_its_name(page, shown, name):
    choose(page, "asked", shown)
    assert set(page.execute_script("return chosen.map((sample) => sample.question)")) == {name}


def test_at_the_end_of_the_page_another_order_goes_on_as_well(page):
    def scrolled_to_all(_):
        page.execute_script("window.scrollTo(0, document.body.scrollHeight)")
        return len(cards(page)) == 200

    WebDriverWait(page, 60).until(scrolled_to_all)
    choose(page, "order", "worst first")
    WebDriverWait(page, 20).until(lambda _: len(cards(page)) > 60)
    WebDriverWait(page, 60).until(scrolled_to_all)


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("best first", lambda each: -each["iou"]),
        ("worst first", lambda each: each["iou"]),
        ("most changed", lambda each: -abs(each["change"] or 0)),
        ("most hurt", lambda each: 2 if each["change"] is None else each["change"]),
    ],
)
def test_the_order_is_the_one_asked_for(page, order, key):
    choose(page, "order", order)
    shown = page.execute_script("return chosen.map((sample) => ({iou: sample.iou, change: sample.change}))")
    assert len(shown) == 200 and shown == sorted(shown, key=key) and shown[0] != shown[-1]


def test_a_card_opens_with_tiles_thinking_and_answer_and_arrows_go_on(page):
    choose(page, "level", "name")
    choose(page, "order", "worst first")
    order = numbers(page)
    page.find_element(By.CSS_SELECTOR, f".card[data-index='{order[0]}']").click()
    text = opened(page)
    assert f"I look at place {order[0]}." in text and "localise: IoU" in text and "shown to refine" in text
    tiles = page.find_elements(By.CSS_SELECTOR, ".tilesheet img")
    WebDriverWait(page, 20).until(lambda _: all(tile.get_property("naturalWidth") > 0 for tile in tiles))
    assert len(tiles) == 6
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    assert f"I look at place {order[1]}." in opened(page)
    page.find_element(By.TAG_NAME, "body").send_keys(Keys.ESCAPE)
    WebDriverWait(page, 20).until(lambda _: not page.find_elements(By.CSS_SELECTOR, "dialog[open]"))


def focused(page):
    return page.switch_to.active_element


def test_by_keyboard_the_button_that_was_pressed_keeps_the_focus(page):
    first, second, third = numbers(page)[:3]
    cards(page)[0].send_keys(Keys.ENTER)
    dialog = page.find_element(By.CSS_SELECTOR, "dialog[open]")
    assert dialog.accessible_name == "Place 0"
    names = [button.accessible_name for button in dialog.find_elements(By.TAG_NAME, "button")]
    assert names == ["previous sample", "next sample", "close"]
    arrow = dialog.find_element(By.ID, "next")
    arrow.send_keys(Keys.ENTER)
    assert f"sample_{second} " in opened(page)
    focused = page.switch_to.active_element
    assert focused == arrow and focused.value_of_css_property("outline-style") == "solid"
    focused.send_keys(Keys.ENTER)
    assert f"sample_{third} " in opened(page)
    dialog.find_element(By.ID, "previous").send_keys(Keys.ENTER, Keys.ENTER)
    assert f"sample_{first} " in opened(page)


def test_the_tab_key_passes_the_charts_over(page):
    stops = page.execute_script(
        "return [...document.querySelectorAll('.charts *')].filter((each) => each.tabIndex >= 0).length"
    )
    assert stops == 0


def test_a_point_of_the_scatter_opens_its_sample(page):
    link = page.find_element(By.CSS_SELECTOR, "#chart-refinement a")
    number = page.execute_script("return arguments[0].href.baseVal", link)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    link.find_element(By.TAG_NAME, "use").click()
    WebDriverWait(page, 20).until(lambda _: page.find_elements(By.CSS_SELECTOR, "dialog[open]"))
    assert f"sample_{number.removeprefix('#s=')} " in opened(page)


def test_a_failure_and_a_sample_without_pictures_are_told_and_sketched(page):
    choose(page, "kind", "failed")
    [card] = cards(page)
    assert "out of memory" in card.text
    card.click()
    assert "out of memory" in opened(page)
    page.get(page.current_url.split("#")[0] + "#s=7")
    page.refresh()
    assert len(page.find_elements(By.CSS_SELECTOR, "dialog[open] svg.sketch rect")) == 2


def test_html_in_answers_is_shown_and_never_run(page):
    page.find_element(By.ID, "words").send_keys("onerror sample_8")
    [card] = cards(page)
    assert HOSTILE in card.text
    card.click()
    page.find_element(By.CSS_SELECTOR, "dialog[open] summary").click()
    assert opened(page).count(HOSTILE) >= 3
    assert page.title == "tiny on city, split test"
    assert page.execute_script("return document.querySelectorAll('img[onerror]').length") == 0
