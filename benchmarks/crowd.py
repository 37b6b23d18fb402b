"""What visitors of `wakedream play` see, and what a crowd does to it.

    python benchmarks/crowd.py runs/dynamics --data data/crafter --visitors 4 --out crowd.json

Starts the server, then: one visitor alone for --seconds (time to the first frame, frames a second, time between frames,
from keys to the frame that used them); as many as there are seats; 50 visitors at once, of whom most wait; 1,000 who
vanish; messages that make no sense, are too large, or too many. Memory and open files of the server after each, and
whether it still dreams.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import numpy as np

from wakedream.bench.machine import device_name
from wakedream.device import pick_device

PATIENCE = 60.0  # seconds for a first frame


async def watch(address: str, seconds: float) -> dict[str, float] | None:
    """A visitor who looks at every frame for so long after the first and changes keys twice a second; None for one who
    is still in the queue then."""
    times, lags, sent, turn, came, keys, began = [], [], {}, 0, time.perf_counter(), None, None
    async with aiohttp.ClientSession() as session, session.ws_connect(address + "/socket") as socket:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE) as limit:
                async for one in socket:
                    now = time.perf_counter()
                    if began is None and (one.type == aiohttp.WSMsgType.BINARY or '"queue"' in one.data):
                        began = now
                        limit.reschedule(asyncio.get_running_loop().time() + seconds)
                    if one.type == aiohttp.WSMsgType.TEXT:
                        keys = json.loads(one.data).get("keys", keys)
                    elif one.type == aiohttp.WSMsgType.BINARY:
                        (length,) = struct.unpack("<I", one.data[:4])
                        about = json.loads(one.data[4:4 + length])
                        times.append(now)
                        lags += [now - sent.pop(about["stamp"])] if about["stamp"] in sent else []
                        await socket.send_str('{"do": "seen"}')
                        if keys and now > began + turn / 2:
                            turn += 1
                            sent[float(turn)] = time.perf_counter()
                            held = [keys[turn % len(keys)]["code"]]
                            await socket.send_str(json.dumps({"do": "keys", "held": held, "stamp": float(turn)}))
    if len(times) < 3:
        return None
    gaps = np.diff(times[1:]) * 1000
    found = {"s_to_first": times[0] - came, "fps": 1000 / gaps.mean(), "ms_between_p50": np.median(gaps),
             "ms_between_p99": np.percentile(gaps, 99)}
    if lags:
        found |= {"ms_from_key_p50": 1000 * np.median(lags), "ms_from_key_p99": 1000 * np.percentile(lags, 99)}
    return {name: round(float(value), 2) for name, value in found.items()}


async def together(address: str, count: int, seconds: float) -> dict[str, object]:
    found = [one for one in await asyncio.gather(*(watch(address, seconds) for _ in range(count))) if one]
    return {"came": count, "dreamed": len(found),
            **({name: {"mean": round(float(np.mean([one[name] for one in found if name in one])), 1),
                       "worst": max(one[name] for one in found if name in one)} for name in found[0]} if found else {})}


async def vanish(address: str, count: int) -> dict[str, object]:
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            socket = await session.ws_connect(address + "/socket")
            socket._response.connection.transport.abort()
    return {"vanished": count}


async def annoy(address: str) -> dict[str, object]:
    """What is said to those who say nonsense; how the connection of others ends."""
    told: dict[str, object] = {}
    for name, texts in (("nonsense", ["{", "[]", '{"do": "fly"}', '{"do": "keys", "held": {}}'] * 25),
                        ("large", ["x" * 100_000]), ("flood", ['{"do": "keys", "held": ["KeyA"]}'] * 5000)):
        async with aiohttp.ClientSession() as session, session.ws_connect(address + "/socket") as socket:
            with contextlib.suppress(ConnectionError):
                for text in texts:
                    await socket.send_str(text)
            errors = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3):
                    async for one in socket:
                        errors += one.type == aiohttp.WSMsgType.TEXT and "error" in json.loads(one.data)
            told[name] = {"errors": errors, "closed": socket.close_code}
    return told


def state(pid: int) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    return {"memory_mib": round(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, 1),
            "files": len(list(Path(f"/proc/{pid}/fd").iterdir()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--visitors", type=int, default=4)
    parser.add_argument("--fps", type=float, default=1000.0, help="at most; default: as fast as it goes")
    parser.add_argument("--sampling-steps", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    words = ["--data", options.data] if options.data else []
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "wakedream", "play", options.run, *words, "--port", "0",
                                "--visitors", str(options.visitors), "--fps", str(options.fps), "--sampling-steps",
                                str(options.sampling_steps)], stdout=subprocess.PIPE, text=True)
    address = re.search(r"http://\S+", process.stdout.readline())[0]
    found: dict[str, object] = {"run": str(options.run), "visitors": options.visitors, "K": options.sampling_steps,
                                "date": time.strftime("%Y-%m-%d"), "device": device_name(pick_device("auto")),
                                "cores": os.cpu_count(),
                                "seconds_to_listen": round(time.perf_counter() - began, 1)}
    work = {"alone": lambda: together(address, 1, options.seconds),
            "all seats": lambda: together(address, options.visitors, options.seconds),
            "fifty": lambda: together(address, 50, options.seconds),
            "vanishing": lambda: vanish(address, 1000), "annoying": lambda: annoy(address),
            "vanishing again": lambda: vanish(address, 1000),
            "alone again": lambda: together(address, 1, options.seconds)}
    for name, does in work.items():
        found[name] = {**asyncio.run(does()), **state(process.pid)}
        print(name, json.dumps(found[name]), flush=True)
    process.send_signal(signal.SIGINT)
    found["exit_code"] = process.wait(30)
    print("exit code", found["exit_code"])
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
