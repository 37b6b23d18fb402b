"""`wakedream play` as a visitor meets it: a real process, a real socket."""

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from agent.known_world import BROKEN, LEVELS

from wakedream.data.actions import ActionComponent, ActionSpec
from wakedream.dynamics.config import DynamicsConfig
from wakedream.dynamics.dynamics import Dynamics
from wakedream.tokenizer.config import TokenizerConfig
from wakedream.tokenizer.tokenizer import Tokenizer
from wakedream.world.model import World

aiohttp = pytest.importorskip("aiohttp")
from PIL import Image  # noqa: E402

SEATS, TESTS = 2, str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address, process, and where its environments say that they are closed. Untrained: what is dreamed is noise, but a
    seed repeats it."""
    folder = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    tokenizer = Tokenizer(TokenizerConfig(height=16, width=16, patch_size=8, dim=16, encoder_depth=2, decoder_depth=2,
                                          heads=2, mlp_dim=16, num_latents=4, latent_dim=4, pattern=("space", "time")))
    spec = ActionSpec((ActionComponent("move", "categorical", 4, labels=("noop", "left", "right", "do")),))
    dynamics = Dynamics(DynamicsConfig(num_latents=4, latent_dim=4, dim=32, depth=2, heads=2, mlp_dim=64,
                                       pattern=("space", "time"), window=8, finest_steps=8), spec)
    torch.nn.init.normal_(dynamics.to_latent.weight, std=0.1)
    World(tokenizer, dynamics).save_pretrained(folder / "world")
    process = subprocess.Popen([sys.executable, "-m", "wakedream", "play", folder / "world", "--port", "0",
                                "--visitors", str(SEATS), "--fps", "60", "--sampling-steps", "1", "--env",
                                "agent.known_world:Known-v0"], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": TESTS, "KNOWN_CLOSED": str(folder / "closed")})
    line = process.stdout.readline()
    yield re.search(r"http://\S+", line)[0], process, folder / "closed"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


class Visit:
    """A visitor; frames and messages as they come."""

    def __init__(self, socket):
        self.socket = socket

    async def say(self, do, **what):
        await self.socket.send_str(json.dumps({"do": do, **what}))

    async def message(self, key, patience=20):
        """The next one that has this key; frames before it are left."""
        async with asyncio.timeout(patience):
            async for one in self.socket:
                if one.type == aiohttp.WSMsgType.TEXT and key in (said := json.loads(one.data)):
                    return said
        raise AssertionError(f"the socket closed ({self.socket.close_code}) before '{key}' came")

    async def frame(self, patience=20):
        async with asyncio.timeout(patience):
            async for one in self.socket:
                if one.type == aiohttp.WSMsgType.BINARY:
                    (length,) = struct.unpack("<I", one.data[:4])
                    await self.say("seen")
                    about, rest = json.loads(one.data[4:4 + length]), one.data[4 + length:]
                    self.beside = rest[about["bytes"]:]
                    return about, rest[:about["bytes"]]
        raise AssertionError(f"the socket closed ({self.socket.close_code})")


@contextlib.asynccontextmanager
async def visit(address, **options):
    async with aiohttp.ClientSession() as session, session.ws_connect(address + "/socket", **options) as socket:
        yield Visit(socket)


def run(coroutine):
    return asyncio.run(coroutine)


def test_the_page_is_there_for_those_who_open_it_by_its_own_address(server):
    async def look():
        async with aiohttp.ClientSession() as session:
            found = {}
            for path, headers in (("/", {}), ("/app.js", {}), ("/nothing.js", {}), ("/", {"Host": "evil.example"}),
                                  ("/socket", {"Origin": "http://evil.example"})):
                async with session.get(server[0] + path, headers=headers) as answer:
                    found[path, *headers] = answer.status
            return found

    assert run(look()) == {("/",): 200, ("/app.js",): 200, ("/nothing.js",): 404, ("/", "Host"): 403,
                           ("/socket", "Origin"): 403}


def test_frames_follow_the_keys_that_are_held(server):
    async def go():
        async with visit(server[0]) as own:
            hello = await own.message("hello")
            assert hello["size"] == [16, 16] and not hello["agent"]
            code = {key["label"]: key["code"] for key in hello["keys"]}
            assert code["left"] == "ArrowLeft" and set(code) == {"left", "right", "do"}
            about, picture = await own.frame()
            assert about["frame"] == 0 and Image.open(io.BytesIO(picture)).size == (16, 16)
            await own.say("keys", held=[code["left"], code["right"]], stamp=12.5)
            for _ in range(20):
                about, _ = await own.frame()
            assert about["action"] == {"move": 2} and about["stamp"] == 12.5
            await own.say("keys", held=[])
            for _ in range(5):
                about, _ = await own.frame()
            assert about["action"] == {"move": 0}

    run(go())


def test_who_does_not_look_gets_two_frames_at_most(server):
    async def go():
        async with visit(server[0]) as own:
            await own.message("hello")
            count = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    async for one in own.socket:
                        count += one.type == aiohttp.WSMsgType.BINARY
            return count

    assert run(go()) == 2


def test_a_seed_and_the_same_actions_repeat_a_dream_one_frame_at_a_time(server):
    async def dream(own, seed):
        await own.say("begin", start=None, seed=seed)
        pictures = []
        for _ in range(4):
            while True:
                about, picture = await own.frame()
                if (about["seed"], about["frame"]) == (seed, len(pictures)):
                    break
            pictures.append(picture)
            await own.say("single")
        return pictures

    async def go():
        async with visit(server[0]) as own:
            await own.message("hello")
            await own.say("pause", on=True)
            first, again, other = [await dream(own, seed) for seed in (5, 5, 6)]
            assert first == again and first[1:] != other[1:] and len(set(first)) == 4
            await own.say("rewind")
            about, picture = await own.frame()
            while about["frame"] != 0:
                about, picture = await own.frame()
            assert picture == other[0]

    run(go())


def test_a_fork_goes_on_from_where_the_other_dream_stands(server):
    async def go():
        async with visit(server[0]) as own:
            token = (await own.message("hello"))["token"]
            await own.say("pause", on=True)
            about, picture = await own.frame()
            await own.say("single")
            while about["frame"] != 1:
                about, picture = await own.frame()
            async with aiohttp.ClientSession() as session, session.ws_connect(f"{server[0]}/socket?fork={token}") as it:
                other = Visit(it)
                await other.message("hello")
                there, shown = await other.frame()
                assert (there["frame"], there["seed"], shown) == (1, about["seed"], picture)

    run(go())


def test_the_real_environment_plays_beside_the_dream(server):
    """The known world: frames of one colour, that of the move that led into them."""
    async def go():
        async with visit(server[0]) as own:
            hello = await own.message("hello")
            code = {key["label"]: key["code"] for key in hello["keys"]}
            await own.frame()
            assert hello["real"] and not own.beside
            await own.say("keys", held=[code["right"]])
            await own.say("begin", start="real", seed=5)
            about, _ = await own.frame()
            while not own.beside or about["action"] != {"move": 2}:
                about, _ = await own.frame()
            assert Image.open(io.BytesIO(own.beside)).getpixel((3, 3)) == (int(LEVELS[2]),) * 3
            while not about["over"]:
                about, _ = await own.frame()
            assert about["frame"] == 23  # its 24th frame is its last
            await own.frame()
            await own.say("begin", start=None, seed=1)
            while about["seed"] != 1:
                about, _ = await own.frame()
            assert not own.beside

    run(go())


def test_a_real_environment_that_fails_is_told_and_the_dream_goes_on(server):
    async def go():
        async with visit(server[0]) as own:
            await own.message("hello")
            await own.say("begin", start="real", seed=BROKEN)
            about, _ = await own.frame()
            while "error" not in about:
                about, _ = await own.frame()
            assert "it broke" in about["error"]
            for _ in range(3):
                about, _ = await own.frame()
            assert about["frame"] > 1 and not own.beside

    run(go())


async def post(address, body):
    async with aiohttp.ClientSession() as session, session.post(address, data=body) as answer:
        return answer.status, await answer.text()


def test_a_dream_begins_with_a_visitors_own_picture(server):
    """Any size; what is no picture, or none's, is told. Again with `own`: the same first frame."""
    async def go():
        file = io.BytesIO()
        Image.effect_noise((40, 20), 90).save(file, "PNG")
        async with visit(server[0]) as own:
            hello = await own.message("hello")
            await own.say("pause", on=True)
            await own.say("begin", start="own")
            assert "after a picture" in (await own.message("error"))["error"]
            address = f"{server[0]}/picture/{hello['token']}"
            assert (await post(address, file.getvalue()))[0] == 204
            about, picture = await own.frame()
            while about["seed"] != 0:
                about, picture = await own.frame()
            await own.say("begin", start="own", seed=3)
            about, again = await own.frame()
            assert about["seed"] == 3 and again == picture
            status, told = await post(address, b"no picture")
            assert status == 400 and "give a PNG" in told
            assert (await post(f"{server[0]}/picture/nobody", file.getvalue()))[0] == 404
            assert (await post(address, bytes(2**23)))[0] == 413

    run(go())


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_the_last_seconds_are_saved_as_a_film(server, kind):
    async def go():
        async with visit(server[0]) as own, aiohttp.ClientSession() as session:
            token = (await own.message("hello"))["token"]
            for _ in range(6):
                await own.frame()
            async with session.get(f"{server[0]}/clip/{token}.{kind}") as answer:
                assert answer.status == 200 and "attachment" in answer.headers["Content-Disposition"]
                body = await answer.read()
            async with session.get(f"{server[0]}/clip/nobody.{kind}") as answer:
                assert answer.status == 404
            return body

    body = run(go())
    if kind == "gif":
        film = Image.open(io.BytesIO(body))
        assert film.n_frames >= 4 and film.size == (256, 256)
    else:
        assert body[4:8] == b"ftyp"


@pytest.mark.parametrize(("text", "told"), [
    ("{", "expected JSON"), ("[]", "expected an object"), ('{"do": "fly"}', "unknown: fly"),
    ('{"do": "keys", "held": 3}', "expected held"), ('{"do": "keys"}', "keys: 'held'"),
    ('{"do": "speed", "times": NaN}', "finite"), ('{"do": "begin", "start": 7}', "start is 7"),
    ('{"do": "begin", "seed": -1}', "seed"), ('{"do": "agent", "on": true}', "no agent"),
    ('{"do": "__init__"}', "unknown")])
def test_what_makes_no_sense_is_told_and_the_dream_goes_on(server, text, told):
    async def go():
        async with visit(server[0]) as own:
            await own.message("hello")
            await own.socket.send_str(text)
            assert told in (await own.message("error"))["error"]
            await own.socket.send_bytes(b"\0")
            assert "expected text" in (await own.message("error"))["error"]
            await own.frame()

    run(go())


@pytest.mark.parametrize("what", ["large", "often"])
def test_who_sends_too_much_is_sent_away(server, what):
    async def go():
        async with visit(server[0]) as own:
            await own.message("hello")
            with contextlib.suppress(ConnectionError):
                for _ in range(1 if what == "large" else 1000):
                    await own.socket.send_str("x" * 10_000 if what == "large" else '{"do": "seen"}')
            async with asyncio.timeout(20):
                async for _ in own.socket:
                    pass
            return own.socket.close_code

    assert run(go()) == (1009 if what == "large" else 1008)


def test_who_finds_no_seat_waits_for_one(server):
    async def go():
        async with visit(server[0]) as last:
            async with contextlib.AsyncExitStack() as stack:
                seated = [last, await stack.enter_async_context(visit(server[0]))]
                for own in seated:
                    await own.message("hello")
                third = await stack.enter_async_context(visit(server[0]))
                assert (await third.message("queue"))["queue"] == 1
                fourth = await stack.enter_async_context(visit(server[0]))
                assert (await fourth.message("queue"))["queue"] == 2
                await third.say("pause", on=True)
                assert "wait for a seat" in (await third.message("error"))["error"]
                await seated[1].socket.close()
                assert (await third.message("hello"))["seats"] == SEATS
                assert (await fourth.message("queue"))["queue"] == 1
                await third.frame()
            await last.frame()

    run(go())


@pytest.mark.skipif(not Path("/proc").exists(), reason="counts open files in /proc")
def test_visitors_who_vanish_leave_nothing_behind(server):
    def files():
        return len(list(Path(f"/proc/{server[1].pid}/fd").iterdir()))

    async def vanish(count):
        async with aiohttp.ClientSession() as session:
            for _ in range(count):
                socket = await session.ws_connect(server[0] + "/socket")
                socket._response.connection.transport.abort()

    async def stay():
        async with visit(server[0]) as own:
            await own.message("hello")
            return (await own.frame())[0]

    async def play_beside(count):
        for _ in range(count):
            async with visit(server[0]) as own:
                await own.message("hello")
                await own.say("begin", start="real", seed=5)
                await own.frame()
                while not own.beside:
                    await own.frame()

    run(vanish(20))
    run(stay())
    before, closed = files(), len(server[2].read_text().splitlines())
    run(play_beside(3))
    run(vanish(100))
    assert run(stay())["frame"] == 0
    assert files() <= before + 4
    assert len(server[2].read_text().splitlines()) == closed + 3  # their environments
