"""What the pages of all models share: how numbers are written, training curves, the foot, the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wakedream import runs
from wakedream.evaluation.page import document as page
from wakedream.evaluation.page.plots import training_curves
from wakedream.progress import counted, lasted

PAGE, NUMBERS = "index.html", "metrics.json"
UNITS = {"psnr": "PSNR, dB", "psnr_moving": "PSNR on what moves, dB", "psnr_mean": "mean of PSNRs, dB", "ssim": "SSIM",
         "lpips": "LPIPS"}
DIGITS = {"psnr": 2, "psnr_moving": 2, "psnr_mean": 2, "ssim": 4, "lpips": 4}
VIDEO_HEIGHT, VIDEO_CRF = 128, 18  # pixels, about; h264 quality: small enough for a page


def write_report(folder: Path, title: str, results: dict[str, Any], parts: Sequence[str]) -> Path:
    """Write metrics.json and index.html to `folder`; returns the page's path."""
    runs.write_json(folder / NUMBERS, results)
    with runs.atomic(folder / PAGE) as beside:
        beside.write_text(page.document(title, [part for part in parts if part]), encoding="utf-8")
    return folder / PAGE


def videos(shown: Sequence[np.ndarray], fps: float, captions: Sequence[str]) -> list[str]:
    """Players for videos uint8 (t h w 3), enlarged to be seen, each with what it shows."""
    from wakedream.data.video import encode_mp4

    return [page.video(encode_mp4(v, fps, max(1, round(VIDEO_HEIGHT / v.shape[1])), VIDEO_CRF), caption)
            for v, caption in zip(shown, captions, strict=True)]


def of_places(places: Sequence[tuple[int, int]]) -> list[str]:
    """Captions of clips, by (episode, first frame)."""
    return [f"Clip {i + 1} of {len(places)}: episode {episode}, from frame {start} on"
            for i, (episode, start) in enumerate(places)]


def training(metrics_file: Path | None) -> str:
    curves = training_curves(metrics_file) if metrics_file else {}
    if not curves:
        return ""
    held = [title.startswith("held-out") for title in curves]
    shown = "Held-out numbers and losses" if len(set(held)) > 1 else "Held-out numbers" if held[0] else "Losses"
    return page.section("Training", f"{shown} over training.", page.plots(list(curves.values())))


def judged_on(seen: dict[str, Any]) -> str:
    """Whose episodes, for the reader to know what the numbers are worth."""
    unseen = seen["split"] == "held_out"
    return f"from episodes {'never trained on' if unseen else 'that it was trained on: none is held out'}"


def trained(results: dict[str, Any]) -> str:
    """Of what training the weights are, as far as the run says."""
    about = results.get("training") or {}
    parts = [f"preset {about['preset']}" if about.get("preset") else "",
             f"began with the weights of {about['init']}" if about.get("init") else "",
             counted(about["steps"], "steps") if "steps" in about else "",
             f"{lasted(60 * about['minutes'])} of training" if "minutes" in about else ""]
    return ", ".join(filter(None, parts))


def foot(results: dict[str, Any]) -> str:
    data = results.get("data", {})
    parts = [
        f"data set {data['path']} ({data['fingerprint'][:12]})" if "path" in data else "",
        ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items()),
    ]
    return page.footer("; ".join(part for part in parts if part) + ". All numbers:", NUMBERS)


def head(title: str, about: Sequence[str], shown: Sequence[tuple[str, str]], results: dict[str, Any]) -> str:
    """What was evaluated, on what and when, the verdict if there is one, and large figures: (value, what it is)."""
    said = [*about, *(str(results[name]) for name in ("device", "date") if name in results)]
    text = page.html.escape("; ".join(filter(None, said)))
    return f"<h1>{title}</h1><p>{text}</p>" + page.warning(results.get("verdict", "")) + page.numbers(shown)


def number(row: dict[str, Any], name: str) -> str:
    return fixed(row[name], DIGITS[name]) if name in row else "-"


def fixed(value: float, digits: int, sign: str = "") -> str:
    """With so many digits; what rounds to zero has no sign."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"
