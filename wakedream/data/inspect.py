"""`wakedream inspect` for data sets: what is there, whether it is whole, and a picture of it."""

from pathlib import Path
from textwrap import shorten

import numpy as np

from wakedream import runs
from wakedream.data.card import card, described
from wakedream.data.config import InspectConfig
from wakedream.data.manifest import FILE, SHARDS, EpisodeInfo, repair
from wakedream.data.repair import repair_data
from wakedream.data.sheet import write_sheet
from wakedream.data.store import Store
from wakedream.errors import DataError
from wakedream.progress import counted


def inspect_data(config: InspectConfig) -> None:
    """Print what the data set holds and verify every byte; DataError when it is damaged and not repaired."""
    path, repaired = Path(config.path), list[str]()
    if config.sheet:
        runs.check_file(Path(config.sheet), [path / FILE, *(path / SHARDS).glob("*")], "--sheet")
    if config.repair:
        repaired = repair_data(path)
        print("\n".join(repaired or ["nothing to repair"]))
    store = Store.open(path)
    print("\n".join(describe_data(store, config.short, len(repaired))))
    damages = store.verify()
    if config.sheet:
        write_sheet(store, Path(config.sheet))
        print(f"contact sheet   {config.sheet}")
    if damages:
        raise DataError("\n".join([*(damage.message for damage in damages),
                                   f"to drop what is damaged, {repair(path)}"]))
    print("\n".join(described(card(store), len(store.episodes))))
    shards = counted(len(store.manifest.shards), "shards")
    print(f"checksums       all {shards}, {counted(len(store.episodes), 'episodes')} whole")


def describe_data(store: Store, short: int = 16, told: int = 0) -> list[str]:
    """The facts, a line each. told: how many of the last that were dropped need no line of their own."""
    manifest, info = store.manifest, store.manifest.header.info
    before = manifest.dropped[:len(manifest.dropped) - told]
    h, w, c = store.frame_shape
    per_frame, raw = manifest.stored_bytes / store.frames(), h * w * c
    few = [episode.id for episode in store.episodes if episode.frames < short]
    lines = [
        f"data set        {store.path}",
        f"made by         {', '.join(f'{name} {value}' for name, value in info.items()) or 'unknown'}",
        f"frames          {store.frames():,} of {h}x{w}x{c} (height, width, channels)",
        *(_split_line(name, store.split(name)) for name in ("train", "held_out")),
        f"size            {manifest.stored_bytes / 2**20:,.1f} MiB in {counted(len(manifest.shards), 'shards')}, "
        f"{per_frame:,.0f} bytes per frame, {per_frame / raw:.1%} of raw",
        f"events          {', '.join(store.events) or 'none'}",
        f"extras          {', '.join(store.extras) or 'none'}",
        f"fingerprint     {store.fingerprint[:16]}",
    ]
    lines += [f"action          {a.name}: {a.kind}, {a.size} {', '.join(a.labels)}".rstrip()
              for a in store.spec.components] or ["actions         none"]
    if few:
        lines.append(f"short           {counted(len(few), 'episodes')} of fewer than {short} frames: {_some(few)}")
    return lines + [f"dropped before  {shorten(line, 160)}" for line in before]


def _split_line(name: str, episodes: list[EpisodeInfo]) -> str:
    if not episodes:
        return f"{name:15} no episodes"
    frames = [episode.frames for episode in episodes]
    known = [episode.total_reward for episode in episodes if episode.has_rewards is not False]
    returns = f", return {np.mean(known):.2f} ({min(known):.2f} to {max(known):.2f})" if known else ""
    ends = sum(episode.terminated for episode in episodes)
    actions = sum(episode.has_actions for episode in episodes)
    return (f"{name:15} {counted(len(episodes), 'episodes')}, {counted(sum(frames), 'frames')} ({min(frames)} to "
            f"{max(frames)}), {ends} ended, {actions} with actions{returns}")


def _some(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (", ..." if len(ids) > 10 else "")
