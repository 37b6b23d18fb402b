"""A data set at a glance: some episodes, a row of frames each, as one picture."""

from pathlib import Path

import numpy as np

from wakedream import runs
from wakedream.data.manifest import EpisodeInfo
from wakedream.data.store import Store
from wakedream.errors import DataError

ROWS, COLUMNS, GAP = 10, 12, 2


def write_sheet(store: Store, path: Path) -> None:
    from PIL import Image

    sheet = contact_sheet(store)
    with runs.atomic(path) as beside:
        Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet).save(beside, format="PNG")


def contact_sheet(store: Store) -> np.ndarray:
    """Some episodes, a row each behind its name, evenly over the data set and their frames: uint8 (h w c). Damaged:
    black."""
    h, w, c = store.frame_shape
    scale = max(1, 64 // h)
    cell_h, cell_w = h * scale + GAP, w * scale + GAP
    rows = min(ROWS, len(store.episodes))
    shown = [store.episodes[index] for index in _spread(len(store.episodes), rows)]
    labels = _labels([_label(info) for info in shown], h * scale)
    margin = labels.shape[2] + GAP
    sheet = np.full((cell_h * rows + GAP, margin + cell_w * COLUMNS + GAP, c), 255, np.uint8)
    for row, (info, label) in enumerate(zip(shown, labels, strict=True)):
        top = row * cell_h + GAP
        sheet[top:top + h * scale, GAP:margin] = label[..., None]
        for column, t in enumerate(_spread(info.frames, COLUMNS)):
            try:
                frame = store.read(info.id, t, t + 1).video[0]
            except DataError:
                frame = np.zeros((h, w, c), np.uint8)
            left = margin + column * cell_w + GAP
            sheet[top:top + h * scale, left:left + w * scale] = frame.repeat(scale, 0).repeat(scale, 1)
    return sheet


def _label(info: EpisodeInfo) -> str:
    return f"episode {info.id}\n{info.split.replace('_', '-')}\n{info.frames:,} frames"


def _labels(texts: list[str], height: int) -> np.ndarray:
    """Black on white, uint8 (row h w), as wide as the widest."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    width = max(int(measure.textbbox((0, 0), text, font)[2]) for text in texts) + 1
    drawn = []
    for text in texts:
        image = Image.new("L", (width, height), 255)
        ImageDraw.Draw(image).text((0, 0), text, fill=0, font=font)
        drawn.append(np.asarray(image))
    return np.stack(drawn)


def _spread(total: int, count: int) -> list[int]:
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
