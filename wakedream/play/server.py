"""`wakedream play`: a page and a websocket on one port."""

import asyncio
import base64
import json
import secrets
import signal
import struct
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch

from wakedream.device import pick_device
from wakedream.environments.registry import BUILT_IN
from wakedream.errors import ConfigError, RunError, require
from wakedream.evaluation.config import AGENT, TOKENIZER
from wakedream.evaluation.kinds import kind_of
from wakedream.play.config import LOCAL, PlayConfig
from wakedream.play.export import moments_of
from wakedream.play.hall import Context, Hall, Seat
from wakedream.play.keys import Controls, controls
from wakedream.play.pictures import encoded, film, read
from wakedream.play.twin import Twin
from wakedream.play.wishes import OFTEN, Visitor, Wishes
from wakedream.world.model import World
from wakedream.world.policy import Agent
from wakedream.world.rows import DreamRows
from wakedream.world.starts import Starts

VERSION = 1  # of what page and server say to each other
LARGEST, PICTURE = 4096, 2**22  # bytes of a message, of a visitor's picture
OFFERED = 12  # moments of the data set
WAITING = 64  # visitors in the queue
PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


def play(config: PlayConfig) -> None:
    """Serve until Ctrl-C. ConfigError where the run is none to play in, RunError where the port is taken."""
    require("aiohttp", "play")
    if (kind := kind_of(config.run)) == TOKENIZER:
        raise ConfigError(f"{config.run} is a tokenizer, which dreams nothing: give the run of a dynamics model or of "
                          "an agent")
    device, threads = pick_device(config.device), max(1, torch.get_num_threads() - 1)  # one is the browser's
    torch.set_num_threads(1)  # here; see Hall
    world: World | Agent = (Agent if kind == AGENT else World).from_pretrained(config.run).to(device)
    rows = DreamRows(world, config.visitors, sampling_steps=config.sampling_steps)
    starts, pictures, env = _starts(rows.world, config)
    if config.env is not None:
        Twin(config.env, rows.world).close()  # or say now that it does not fit
    env = config.env or env
    made = controls(rows.world.dynamics.actions, BUILT_IN[env].names if env in BUILT_IN else None)
    with Hall(rows, made, config.fps, threads) as hall:
        asyncio.run(Server(hall, made, starts, pictures, config).run())


def _starts(world: World, config: PlayConfig) -> tuple[list[Context], list[bytes], str]:
    """Moments of the data set, their pictures, and the environment that it was recorded from."""
    data = config.data or moments_of(config.run)
    if data is None:
        return [], [], ""
    source, rng = Starts(world, data, config.context), np.random.default_rng(config.seed)
    moments = source.some(OFFERED, rng)
    return ([source.seen([moment]) for moment in moments], [encoded(moment.video[-1]) for moment in moments],
            str(source.store.manifest.header.info.get("env", "")))


class Server:
    def __init__(self, hall: Hall, made: Controls, starts: list[Context], pictures: list[bytes], config: PlayConfig):
        self.hall, self.controls, self.config = hall, made, config
        self.starts, self.pictures, self.wishes = starts, pictures, Wishes(hall, starts, config.env)
        self.queue = list[Visitor]()
        self.visitors = set[Visitor]()
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self.stop = asyncio.Event()

    async def run(self) -> None:
        from aiohttp import web

        self.loop = asyncio.get_running_loop()

        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            return await self._guard(request, handler)

        app = web.Application(client_max_size=PICTURE, middlewares=[guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/socket", self._socket)
        app.router.add_post("/picture/{token}", self._picture)
        app.router.add_get("/clip/{token}.{kind:mp4|gif}", self._clip)
        app.router.add_get("/{name:[a-z]+\\.(?:js|css)}", self._page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.config.host, self.config.port)
            try:
                await site.start()
            except OSError as error:
                raise RunError(f"cannot listen on {self.config.host}:{self.config.port} ({error.strerror}): choose "
                               "another --port or --host") from error
            port = runner.addresses[0][1]
            print(f"Open http://{self.config.host}:{port} in a browser. Ctrl-C ends.", flush=True)
            for number in (signal.SIGINT, signal.SIGTERM):
                self.loop.add_signal_handler(number, self.stop.set)
            watch = asyncio.create_task(self._watch())
            await self.stop.wait()
            watch.cancel()
        finally:
            for visitor in list(self.visitors):
                await visitor.socket.close(code=1001, message=b"the server ends")
            await runner.cleanup()
        if self.hall.failed is not None:
            raise self.hall.failed

    async def _watch(self) -> None:
        while self.hall.failed is None:
            await asyncio.sleep(0.2)
        self.stop.set()

    async def _guard(self, request: Any, handler: Any) -> Any:
        """A page of another site may neither read nor steer: its name is not ours, or it says where it comes from."""
        from aiohttp import web

        name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
        local = self.config.host in LOCAL
        origin = request.headers.get("Origin")
        if (local and name not in LOCAL) or (origin and urlsplit(origin).netloc != request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="this page is for those who open it by its own address\n")
        answer = await handler(request)
        if not answer.prepared:
            answer.headers["Content-Security-Policy"] = "default-src 'self'; img-src 'self' data: blob:"
            answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    async def _page(self, request: Any) -> Any:
        from aiohttp import web

        file = PAGE / request.match_info.get("name", "index.html")
        if not file.exists():
            raise web.HTTPNotFound
        return web.Response(body=file.read_bytes(), content_type=KINDS[file.suffix], charset="utf-8",
                            headers={"Cache-Control": "no-cache"})

    async def _socket(self, request: Any) -> Any:
        from aiohttp import WSMsgType, web

        socket = web.WebSocketResponse(max_msg_size=LARGEST, heartbeat=20, compress=False)
        await socket.prepare(request)
        visitor = Visitor(socket)
        visitor.fork = request.query.get("fork", "")
        self.visitors.add(visitor)
        sender = asyncio.create_task(self._send(visitor))
        try:
            self._arrive(visitor)
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    self._tell(visitor, error="expected text: JSON")
                    continue
                now = time.monotonic()
                if len(visitor.times) == OFTEN and now - visitor.times[0] < 1:
                    await socket.close(code=1008, message=b"too many messages")
                    break
                visitor.times.append(now)
                if (wrong := self.wishes.hear(visitor, message.data)) is not None:
                    self._tell(visitor, error=wrong)
        finally:
            self._leave(visitor)
            visitor.out.put_nowait(None)
            sender.cancel()
        return socket

    def _arrive(self, visitor: Visitor) -> None:
        seat = self.hall.sit(lambda about, picture: self._deliver(visitor, about, picture))
        if seat is not None:
            self._seated(visitor, seat)
        elif len(self.queue) < WAITING:
            self.queue.append(visitor)
            self._tell(visitor, queue=len(self.queue), seats=self.hall.size)
        else:
            self._tell(visitor, full=True, seats=self.hall.size)

    def _seated(self, visitor: Visitor, seat: Seat) -> None:
        visitor.seat = seat
        frame = self.hall.rows.world.tokenizer.config
        self._tell(visitor, hello=VERSION, fps=self.config.fps, sampling_steps=self.config.sampling_steps,
                   size=[frame.height, frame.width], agent=self.hall.rows.agent is not None, seats=self.hall.size,
                   keys=[{"code": key.code, "label": key.label} for key in self.controls.keys],
                   starts=[base64.b64encode(picture).decode() for picture in self.pictures],
                   names=self._names(), token=visitor.token, real=self.config.env is not None)
        context, seed = self.starts[0] if self.starts else None, int(torch.randint(2**31, ()))
        if (other := self._by(visitor.fork)) is not None and other.seat is not None:
            before = other.seat
            self.hall.order(seat, lambda: self.hall.fork(seat, before))
        else:
            self.hall.order(seat, lambda: self.hall.begin(seat, context, seed))

    def _by(self, token: str) -> Visitor | None:
        return next((one for one in self.visitors if token and secrets.compare_digest(one.token, token)), None)

    async def _picture(self, request: Any) -> Any:
        """A visitor's own picture, which the dream then begins with."""
        from aiohttp import web

        visitor = self._by(request.match_info["token"])
        if visitor is None or visitor.seat is None:
            raise web.HTTPNotFound(text="no dream of this name: reload the page\n")
        frame = self.hall.rows.world.tokenizer.config
        try:
            picture = read(await request.read(), frame.frame_size, frame.channels)
        except (OSError, ValueError, SyntaxError) as error:
            raise web.HTTPBadRequest(text=f"this is no picture that can be read ({error}): give a PNG or a JPEG\n"
                                     ) from error
        seat = visitor.seat

        def start() -> None:
            visitor.own = self.hall.context_of(picture)
            self.hall.begin(seat, visitor.own, 0)

        self.hall.order(seat, start)
        return web.Response(status=204)

    async def _clip(self, request: Any) -> Any:
        """The last seconds as a film."""
        from aiohttp import web

        visitor, kind = self._by(request.match_info["token"]), request.match_info["kind"]
        if visitor is None or visitor.seat is None or not visitor.seat.film:
            raise web.HTTPNotFound(text="no dream of this name: reload the page\n")
        frames, fps = list(visitor.seat.film), self.config.fps
        body = await asyncio.to_thread(film, frames, fps, kind)
        return web.Response(body=body, content_type="video/mp4" if kind == "mp4" else "image/gif",
                            headers={"Content-Disposition": f'attachment; filename="dream.{kind}"'})

    def _names(self) -> dict[str, dict[str, str]]:
        """Of choices, by component and number."""
        named: dict[str, dict[str, str]] = {}
        kinds = {c.name: c.kind for c in self.controls.spec.components}
        for key in self.controls.keys:
            if kinds[key.component] == "categorical":
                named.setdefault(key.component, {})[str(int(key.value))] = key.label
        return named

    def _leave(self, visitor: Visitor) -> None:
        self.visitors.discard(visitor)
        if visitor in self.queue:
            self.queue.remove(visitor)
        if visitor.seat is not None:
            self.hall.leave(visitor.seat)
            visitor.seat = None
            if visitor.twin is not None:
                self.hall.makers.submit(visitor.twin.close)
            if self.queue:
                self._arrive(self.queue.pop(0))
        for place, other in enumerate(self.queue):
            self._tell(other, queue=place + 1, seats=self.hall.size)

    def _deliver(self, visitor: Visitor, about: dict[str, Any], picture: bytes) -> None:
        """From the hall's threads."""
        head = json.dumps(about).encode()
        packed = struct.pack("<I", len(head)) + head + picture
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(visitor.out.put_nowait, packed)

    def _tell(self, visitor: Visitor, **what: Any) -> None:
        visitor.out.put_nowait(json.dumps(what))

    async def _send(self, visitor: Visitor) -> None:
        """A slow visitor has at most UNSEEN frames here; it holds up nobody."""
        while (item := await visitor.out.get()) is not None:
            try:
                await (visitor.socket.send_str(item) if isinstance(item, str) else visitor.socket.send_bytes(item))
            except (ConnectionError, RuntimeError):
                return
