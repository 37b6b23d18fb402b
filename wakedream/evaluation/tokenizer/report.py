"""The page of a tokenizer."""

from pathlib import Path
from typing import Any

from wakedream import runs
from wakedream.evaluation.page import document as page
from wakedream.evaluation.page.pictures import enlarge, png
from wakedream.evaluation.page.plots import plot
from wakedream.evaluation.page.report import UNITS, fixed, head, judged_on, number, of_places, trained, videos
from wakedream.evaluation.tokenizer.pictures import Pictures
from wakedream.model.pretrained import in_words
from wakedream.progress import counted

DEAD_SHOWN = 8
PICTURE = "reconstruction.png"


def sections(results: dict[str, Any], pictures: Pictures, fps: float = 10.0) -> list[str]:
    """The page but for training and foot. results: what `evaluate_tokenizer` measured, beside "tokenizer"."""
    return [
        _head(results),
        _pictures(pictures),
        _videos(pictures, fps),
        _tables(results),
        _masked(results),
        _by_frame(results),
        _latents(results, pictures),
        _probe(results),
    ]


def probe_lines(found: dict[str, Any] | None) -> list[str]:
    """For the terminal."""
    if not found:
        return []
    cells = _probed(found)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return [f"{_of_probe(found)}:", *table, *filter(None, [found["verdict"]])]


def write_picture(folder: Path, pictures: Pictures) -> None:
    """reconstruction.png: the strips below one another."""
    if pictures.strips:
        with runs.atomic(folder / PICTURE) as beside:
            beside.write_bytes(png(enlarge(_stacked(pictures), 2)))


def _head(results: dict[str, Any]) -> str:
    best, mean = results["reconstruction"][:2]
    about = results.get("tokenizer", {})
    seen = results["evaluated"]
    shown = [
        (number(best, name), f"{unit} (mean image {number(mean, name)})")
        for name, unit in UNITS.items()
        if name in best
    ]
    if "num_latents" in about:
        shown.append((f"{about['num_latents']} x {about['latent_dim']}", "latents per frame"))
    clips = f"{counted(seen['clips'], 'clips')} of {seen['length']}"
    frames = f"{counted(seen['clips'] * seen['length'], 'frames')} in {clips}"
    lines = [f"{frames}, {judged_on(seen)}", trained(results)]
    if "parameters" in about:
        size = " x ".join(map(str, about["frame_size"]))
        lines.append(f"{in_words(about['parameters'])} parameters, frames of {size}")
    return head("Tokenizer", lines, shown, results)


def _pictures(pictures: Pictures) -> str:
    if not pictures.strips:
        return ""
    text = "One frame from each of several clips; every column is the same moment."
    if any("masked" in name for name in pictures.strips):
        text += " Masked patches are grey."
    return page.section(
        "Reconstructions", text, page.strips([(name, png(strip)) for name, strip in pictures.strips.items()])
    )


def _videos(pictures: Pictures, fps: float) -> str:
    if not pictures.videos:
        return ""
    return page.section("Videos", f"From left: {'; '.join(pictures.strips)}.",
                        *videos(pictures.videos, fps, of_places(pictures.places)))


def _tables(results: dict[str, Any]) -> str:
    rows = results["reconstruction"]
    names = [name for name in UNITS if name in rows[0]]
    headings = [UNITS[name] for name in names]
    first = page.table(
        ["frames", "", *headings, "frames"],
        [[row["frames_of"], row["of"], *(number(row, n) for n in names), f"{row['frames']:,}"] for row in rows],
        text_columns=2,
    )
    text = (
        "PSNR of the error pooled over all pixels; SSIM and LPIPS are means over frames. The mean image of "
        "the training data is the least to beat."
    )
    if results.get("lpips_net"):
        text += f" LPIPS v0.1 ({results['lpips_net']})."
    return page.section("Numbers", text, first)


def _masked(results: dict[str, Any]) -> str:
    """Nothing of a tokenizer that was trained without masking."""
    rows = results["by_mask_ratio"]
    if not any(row["ratio"] for row in rows):
        return ""
    names = [name for name in UNITS if name in rows[0]]
    table = page.table(
        ["masked", "", *(UNITS[name] for name in names)],
        [["" if row["ratio"] is None else f"{row['ratio']:.0%}", row["of"], *(number(row, n) for n in names)]
         for row in rows],
        text_columns=2,
    )
    text = "A random share of every frame's patches is hidden from the encoder; all pixels count."
    return page.section("By share of masked patches", text, table)


def _by_frame(results: dict[str, Any]) -> str:
    curves = results["by_frame"]
    if len(curves["tokenizer"]["psnr"]) < 2:
        return ""
    trained = results["evaluated"].get("training_length")
    beyond = trained is not None and trained < len(curves["tokenizer"]["psnr"])
    mark = (trained - 0.5, "training length") if beyond else None
    svgs = [
        plot(
            {
                of: ([float(t) for t in range(len(c[name]))], c[name])
                for of, c in curves.items()
                if name == "psnr" or of == "tokenizer"
            },
            "frame within the clip",
            unit,
            mark=mark,
        )
        for name, unit in UNITS.items()
        if name in curves["tokenizer"]
    ]
    text = "The first frame is encoded without a past; later ones lean on the frames before."
    return page.section("By frame within the clip", text, page.plots(svgs))


def _latents(results: dict[str, Any], pictures: Pictures) -> str:
    found = results.get("latents")
    if not found:
        return ""
    text = (
        f"Standard deviation {found['std']:.2f}; {found['saturated']:.1%} of all values beyond ±0.99; "
        f"{_dead(found)} Below: where and by how much "
        "the picture changes when one latent is replaced by its mean in all frames, and the PSNR that costs."
    )
    influence = found["influence"]
    captions = [
        f"{i}: {fixed(drop, 2)} dB, {share:.0%} of pixels"
        for i, drop, share in zip(influence["latent"], influence["psnr_drop"], influence["changed_pixels"], strict=True)
    ]
    shown = [
        (caption, png(pictures.maps[i]))
        for caption, i in zip(captions, influence["latent"], strict=True)
        if i in pictures.maps
    ]
    return page.section("Latents", text, page.maps(shown))


def _probe(results: dict[str, Any]) -> str:
    found = results.get("probe")
    if not found:
        return ""
    head, *rows = _probed(found)
    text = (f"{_of_probe(found)}: the share of an extra's variance that a line explains (ridge regression), R2; of "
            "whole numbers how often it is exact once rounded, beside how often the commonest number is right. The "
            "pixels, in grey, say what a line reads from the picture itself.")
    return page.section("What is read from the latents", text, page.warning(found["verdict"]), page.table(head, rows))


def _of_probe(found: dict[str, Any]) -> str:
    return (f"Read linearly from {counted(found['frames'], 'frames')} in {counted(found['episodes'], 'episodes')}, as "
            f"learned from {counted(found['learned_from'], 'frames')} in others")


def _probed(found: dict[str, Any]) -> list[list[str]]:
    """Headings, and a row for each extra."""
    kinds = ("latents", "pixels")
    rows = [["extra", "std", *(f"{of}{what}" for of in kinds for what in (", R2", ", exact")), "commonest"]]
    for row in found["rows"]:
        read = [row.get(of, {}) for of in kinds]
        values = [cell for one in read for cell in (fixed(one["r2"], 3) if one else "-", _share(one.get("exact")))]
        std = "constant" if row["constant"] else fixed(row["std"], 2)
        rows.append([row["extra"], std, *values, _share(row["commonest"])])
    return rows


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _dead(found: dict[str, Any]) -> str:
    names = [f"{channel} of latent {latent}" for latent, channel in found["dead"]]
    shown = ", ".join(names[:DEAD_SHOWN]) + (f" and {len(names) - DEAD_SHOWN} more" if len(names) > DEAD_SHOWN else "")
    return f"{len(names)} of {found['channels']} channels never move{f': {shown}' if names else ''}."


def _stacked(pictures: Pictures) -> Any:
    import numpy as np

    rows = list(pictures.strips.values())
    gap = np.full((2, *rows[0].shape[1:]), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1])
