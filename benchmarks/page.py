"""`wakedream play` through a real browser: are moves obeyed, how many frames a second, how soon is there a picture?

    python benchmarks/page.py runs/dynamics --env crafter --contexts 48 --out page.json --pictures docs/images

Obedience is that of `wakedream evaluate` (evaluation/dynamics/control.py), with dreams that are dreamed by the page:
each context is a moment that the page offers, the command's key is held on the keyboard, the picture is read from the
canvas. Then the page runs for --seconds under keys that change. --pictures: of the page,
and a GIF of it under keys. Needs playwright and a Chromium.
"""

import argparse
import contextlib
import datetime
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import wakedream as wd
from wakedream.data.episode import Episode
from wakedream.data.writer import StoreWriter
from wakedream.environments.registry import BUILT_IN
from wakedream.evaluation.dynamics.branching import Branches, branches
from wakedream.evaluation.dynamics.control import control
from wakedream.play.keys import controls
from wakedream.runs import write_json

OFFERED = 12  # moments on a page
KEYS = 88  # pixels of the legend that a GIF shows: the rows with the arrows
SIZES = {"wide": (1440, 900), "laptop": (1024, 768), "phone": (360, 740)}
TIMES = """() => { window.times = []; new MutationObserver(() => window.times.push(performance.now()))
    .observe(document.getElementById('picture'), {attributes: true, attributeFilter: ['data-frame']}) }"""
PIXELS = """() => { const one = document.getElementById('picture')
    return Array.from(one.getContext('2d').getImageData(0, 0, one.width, one.height).data) }"""


@contextlib.contextmanager
def serving(run: Path, *options: object) -> Iterator[tuple[str, float]]:
    """Its address, and seconds until it was told."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "wakedream", "play", run, "--port", 0, *options]
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the server did not start"
        yield found[0], time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def until(page: Page, number: int) -> None:
    page.wait_for_function(f"document.getElementById('picture').dataset.frame == '{number}'", timeout=60_000)


def picture(page: Page, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 (h w c)."""
    return np.array(page.evaluate(PIXELS), np.uint8).reshape(*shape[:2], 4)[..., :shape[2]]


class Paged:
    """Dreams of some contexts under one command, frame by frame, in the page, which holds the command's key."""

    def __init__(self, page: Page, rows: slice, codes: list[str | None], made: Branches):
        self.page, self.rows, self.codes, self.branches = page, rows, codes, made
        self.shape, self.hold = made.contexts.shape[2:], made.outcomes.shape[2]
        self.frames: list[np.ndarray] | None = None

    def step(self, actions: dict[str, torch.Tensor]) -> torch.Tensor:
        if self.frames is None:
            code = self.codes[self._command(actions)]
            made = np.stack([self._played(row, code) for row in range(self.rows.stop - self.rows.start)])
            self.frames = list(made.swapaxes(0, 1))
        return torch.from_numpy(self.frames.pop(0)).permute(0, 3, 1, 2).float() / 255

    def _command(self, actions: dict[str, torch.Tensor]) -> int:
        held = self.branches.held
        return next(command for command in range(len(self.codes))
                    if all(np.array_equal(values[0].numpy(), held[name][command]) for name, values in actions.items()))

    def _played(self, row: int, code: str | None) -> np.ndarray:
        page, seen = self.page, []
        page.locator("#starts button").nth(row).click()
        until(page, 0)
        if code:
            page.keyboard.down(code)
        for number in range(self.hold):
            page.click("#single")
            until(page, number + 1)
            seen.append(picture(page, self.shape))
        if code:
            page.keyboard.up(code)
        return np.stack(seen)


def write(folder: Path, made: Branches, rows: slice, env: str, spec: Any) -> None:
    """The contexts as episodes, one frame longer than they are: as many moments as there are contexts."""
    with StoreWriter(folder, spec, frame_shape=made.contexts.shape[2:], held_out=0, info={"env": env}) as writer:
        for row in range(rows.start, rows.stop):
            video, known = made.contexts[row], made.has_action[row].copy()
            known[0] = False
            last = [np.concatenate([values[row], values[row][-1:]]) for values in made.actions.values()]
            writer.add(Episode(np.concatenate([video, video[-1:]]), dict(zip(made.actions, last, strict=True)),
                               np.append(known, False), np.zeros(len(video) + 1, np.float32), False, True))


def obeyed(browser: Browser, run: Path, options: argparse.Namespace) -> dict[str, Any]:
    world = wd.World.from_pretrained(run)
    spec = world.dynamics.actions
    made = branches(options.env, options.contexts, options.context, seed=options.seed,
                    size=world.tokenizer.config.frame_size)
    keys = controls(spec, BUILT_IN[options.env].names if options.env in BUILT_IN else None)
    codes = []
    for command in range(len(made.commands)):
        wanted = {name: values[command] for name, values in made.held.items()}
        fitting = [[], *([key.code] for key in keys.keys)]
        code = next(held for held in fitting
                    if all(np.array_equal(value, wanted[name]) for name, value in keys.actions(held).items()))
        codes.append(code[0] if code else None)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        pages: dict[int, Page] = {}

        def dream(frames: Any, actions: Any, has_action: Any, rows: slice) -> Any:
            """control asks for all contexts of a page under one command, then for those of the next page."""
            if rows.start not in pages:
                data = Path(folder) / str(rows.start)
                write(data, made, rows, options.env, spec)
                address, _ = stack.enter_context(serving(run, "--data", data, "--context", options.context,
                                                         "--sampling-steps", options.sampling_steps, "--fps", 1000))
                page = pages[rows.start] = browser.new_page(bypass_csp=True)
                page.goto(address)
                page.wait_for_selector("#starts button")
                page.click("#pause")
            return Paged(pages[rows.start], rows, codes, made)

        return control(dream, made, batch_size=OFFERED)


def speed(browser: Browser, run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What one visitor sees, at the server's own pace."""
    given = ["--data", options.data] if options.data else []
    with serving(run, *given, "--sampling-steps", options.sampling_steps, *options.play) as (address, told):
        began = time.perf_counter()
        page = browser.new_page(bypass_csp=True, viewport={"width": 1024, "height": 768})
        page.goto(address)
        page.wait_for_function("document.getElementById('picture').dataset.frame !== undefined", timeout=60_000)
        first = time.perf_counter() - began
        page.wait_for_timeout(2000)
        codes = page.evaluate("[...document.querySelectorAll('#touch button')].map((one) => one.dataset.code)")[:4]
        page.evaluate(TIMES)
        ends, turn = time.perf_counter() + options.seconds, 0
        while time.perf_counter() < ends:
            code = codes[turn % len(codes)]
            page.keyboard.down(code)
            page.wait_for_timeout(450)
            page.keyboard.up(code)
            turn += 1
        gaps = np.diff(np.array(page.evaluate("window.times")))
        said = page.inner_text("#numbers")
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            moving(page, options.pictures / "play.gif", codes, options.moment)
            shots(page, options.pictures)
        return {"seconds_until_the_address": round(told, 1), "seconds_from_there_to_a_picture": round(first, 2),
                "fps": round(1000 / float(gaps.mean()), 1), "ms_between_p50": round(float(np.median(gaps)), 1),
                "ms_between_p99": round(float(np.percentile(gaps, 99)), 1),
                "ms_from_key_to_picture": int(re.search(r"(\d+) ms from key", said)[1]), "page_says": said}


def shots(page: Page, folder: Path) -> None:
    """The page wide and narrow, light and dark, and with the agent at play where there is one."""
    for name, (width, height) in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"play-{name}.png")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 1024, "height": 768})
    if page.is_visible("#agent"):
        page.click("#agent")
        page.wait_for_timeout(3000)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=folder / "play-dark.png")


def moving(page: Page, file: Path, codes: list[str], moment: int, frames: int = 90) -> None:
    """The dream and the keys that are held, as they look in the page, as a GIF."""
    page.set_viewport_size({"width": 440, "height": 900})
    if (moments := page.locator("#starts button")).count() > moment + 1:  # the last begins from nothing
        moments.nth(moment).click()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(600)
    above, below = (page.locator(name).bounding_box() for name in ("#stage", "#touch"))
    assert above and below
    keys = min(below["height"], KEYS)
    clip = {"x": 0, "y": above["y"] - 8, "width": 440, "height": below["y"] + keys - above["y"] + 8}
    shots, times, held = list[Image.Image](), list[float](), None
    for number in range(frames):
        if number % 9 == 0:
            if held:
                page.keyboard.up(held)
            held = codes[(number // 9) % len(codes)]
            page.keyboard.down(held)
        times.append(time.perf_counter())
        shots.append(Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB"))
    if held:
        page.keyboard.up(held)
    lasted = np.diff([*times, time.perf_counter()]) * 1000
    # one palette, nothing dithered: what stays as it is costs nothing
    palette = Image.fromarray(np.concatenate([np.asarray(shot) for shot in shots[::9]])).quantize(128)
    first, *others = (shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots)
    first.save(file, save_all=True, append_images=others, duration=[round(ms) for ms in lasted], loop=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--env", help="whose moves are to be obeyed; none: speed alone")
    parser.add_argument("--data", type=Path, help="of what is played for speed; default: the world's own moments")
    parser.add_argument("--contexts", type=int, default=48)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--sampling-steps", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--play", nargs="*", default=[], help="further options of `wakedream play`, for speed")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of the page")
    parser.add_argument("--moment", type=int, default=0, help="with which of those offered the GIF begins")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        found: dict[str, Any] = {"command": "python benchmarks/page.py", "date": f"{datetime.date.today()}",
                                 "threads": torch.get_num_threads(), "sampling_steps": options.sampling_steps,
                                 "speed": speed(browser, options.run, options)}
        print(json.dumps(found["speed"], indent=1), flush=True)
        if options.env:
            found["control"] = obeyed(browser, options.run, options)
            print({name: found["control"][name] for name in ("obeyed", "chance", "counted", "by_command")})
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
