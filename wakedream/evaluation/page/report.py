"""What the pages of all models share: how numbers are written, training curves, the foot, the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wakedream import runs
from wakedream.evaluation.page import document as page
from wakedream.evaluation.page.plots import training_curves

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


def videos(shown: Sequence[np.ndarray], fps: float) -> list[str]:
    """Players for videos uint8 (t h w 3), enlarged to be seen."""
    from wakedream.data.video import encode_mp4

    return [page.video(encode_mp4(v, fps, max(1, round(VIDEO_HEIGHT / v.shape[1])), VIDEO_CRF)) for v in shown]


def training(metrics_file: Path | None) -> str:
    curves = training_curves(metrics_file) if metrics_file else {}
    if not curves:
        return ""
    return page.section("Training", "Held-out numbers and losses over training.", page.plots(list(curves.values())))


def judged_on(seen: dict[str, Any]) -> str:
    """Whose episodes, for the reader to know what the numbers are worth."""
    unseen = seen["split"] == "held_out"
    return f"from episodes {'never trained on' if unseen else 'that it was trained on: none is held out'}"


def trained(results: dict[str, Any]) -> str:
    """Of what training the weights are, as far as the run says."""
    about = results.get("training") or {}
    parts = [f"preset {about['preset']}" if about.get("preset") else "",
             f"{about['steps']:,} steps" if "steps" in about else "",
             f"{about['minutes']:.1f} minutes of training" if "minutes" in about else ""]
    return ", ".join(filter(None, parts))


def foot(results: dict[str, Any]) -> str:
    data = results.get("data", {})
    parts = [
        f"data set {data['path']} ({data['fingerprint'][:12]})" if "path" in data else "",
        ", ".join(f"{name} {version}" for name, version in results.get("versions", {}).items()),
    ]
    return page.footer("; ".join(part for part in parts if part) + ". All numbers:", NUMBERS)


def number(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.{DIGITS[name]}f}" if name in row else "-"
