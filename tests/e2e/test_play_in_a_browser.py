"""The page in a real browser: keys, the agent, two visitors, a phone, the dark, the keyboard alone.

Needs playwright and a Chromium (`pip install playwright && playwright install chromium`, or the system's).
"""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
from agent.conftest import known  # noqa: F401

from wakedream.agent.agent import AgentModel
from wakedream.world.policy import Agent

pytestmark = pytest.mark.slow
api = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def address(known, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("agent") / "agent"
    Agent(known[1], AgentModel.from_pretrained(known[3])).save_pretrained(folder)
    process = subprocess.Popen([sys.executable, "-m", "wakedream", "play", folder, "--data", known[0].path, "--port",
                                "0", "--context", "4", "--sampling-steps", "2", "--fps", "20"],
                               stdout=subprocess.PIPE, text=True)
    yield re.search(r"http://\S+", process.stdout.readline())[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium: {error}")
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Pages that may not fail in silence."""
    opened, wrong = [], []

    def make(**options):
        page = browser.new_page(**options)
        opened.append(page)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.goto(address)
        wait(page, lambda: frame(page) > 2)
        return page

    yield make
    for page in opened:
        page.close()
    assert not wrong


def wait(page, holds):
    for _ in range(400):
        if holds():
            return
        page.wait_for_timeout(25)
    raise AssertionError(page.inner_text("main"))


def frame(page):
    return int(page.evaluate("document.getElementById('picture').dataset.frame ?? -1"))


def action(page):
    return json.loads(page.evaluate("document.getElementById('picture').dataset.action ?? '{}'")).get("move")


def test_keys_are_followed_and_let_go(open_page):
    page = open_page()
    assert page.locator("#touch button").count() == 4
    for key, choice in (("1", 0), ("2", 1), ("3", 2)):
        page.keyboard.down(key)
        wait(page, lambda choice=choice: action(page) == choice)
        page.keyboard.up(key)
    wait(page, lambda: action(page) == 0)
    assert re.search(r"\d ms from key to picture", page.inner_text("#numbers"))
    button = page.locator("#touch button").nth(3).bounding_box()
    page.mouse.move(button["x"] + 5, button["y"] + 5)
    page.mouse.down()  # as a finger would
    wait(page, lambda: action(page) == 3)
    page.mouse.up()
    wait(page, lambda: action(page) == 0)


def test_the_agent_plays_and_hands_back(open_page):
    page = open_page()
    page.click("#agent")
    seen = set()
    wait(page, lambda: seen.add(action(page)) or len(seen) >= 3)
    assert "value" in page.inner_text("#judged") and page.inner_text("#agent") == "Take over"
    page.click("#agent")
    wait(page, lambda: action(page) == 0)
    page.keyboard.down("2")
    wait(page, lambda: action(page) == 1)


def test_pause_one_frame_rewind_and_begin_anew(open_page):
    page = open_page()
    page.click("#pause")
    page.wait_for_timeout(300)
    stands = frame(page)
    page.wait_for_timeout(300)
    assert frame(page) == stands
    page.click("#single")
    wait(page, lambda: frame(page) == stands + 1)
    page.click("#rewind")
    wait(page, lambda: frame(page) <= stands)
    page.click("#pause")
    page.locator("#starts button").nth(2).click()
    wait(page, lambda: 0 < frame(page) < stands + 20)


def test_two_visitors_dream_apart_and_a_fork_goes_on_from_one(open_page, browser):
    one, two = open_page(), open_page()
    one.keyboard.down("2")
    two.keyboard.down("3")
    wait(one, lambda: action(one) == 1 and action(two) == 2)
    with one.context.expect_page() as forked:
        one.click("#fork")
    wait(forked.value, lambda: frame(forked.value) > 5)
    forked.value.close()


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_nothing_is_cut_off(open_page, width):
    page = open_page(viewport={"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#picture").bounding_box()
    assert box["width"] / 16 == round(box["width"] / 16) >= 8  # whole pixels


def test_light_and_dark(open_page):
    colours = {open_page(color_scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
               for scheme in ("light", "dark")}
    assert len(colours) == 2


def test_the_keyboard_reaches_everything(open_page):
    page = open_page()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"pause", "single", "rewind", "again", "agent", "fork", "speed", "seed", "mp4", "gif", "own"} <= reached
    page.focus("#pause")
    page.keyboard.press("Enter")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
