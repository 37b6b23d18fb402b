"""The page of a dynamics model."""

from typing import Any

from wakedream.evaluation.dynamics.horizons import CEILING, DREAM, LAST, MEAN
from wakedream.evaluation.dynamics.pictures import DreamPictures
from wakedream.evaluation.page import document as page
from wakedream.evaluation.page.pictures import ERROR_GAIN, png
from wakedream.evaluation.page.plots import plot
from wakedream.evaluation.page.report import DIGITS, UNITS, fixed, head, judged_on, number, of_places, trained, videos
from wakedream.model.pretrained import in_words
from wakedream.progress import counted

BINS = 8
NAMES = {"early": "dreamed, frames 16 to 116", "late": "dreamed, last 100 frames",
         CEILING: "real, as the tokenizer reconstructs it", "real": "real"}  # fmt: skip


def sections(results: dict[str, Any], pictures: DreamPictures, fps: float = 10.0) -> list[str]:
    """The page but for training and foot. results: what DynamicsEvaluation measured, with device and date."""
    return [
        _head(results),
        _videos(pictures, fps),
        _horizons(results),
        _sampling(results),
        _drift(results),
        _held(pictures, fps),
        _control(results["control"]),
        _actions(results["actions"]),
        _levels(results["levels"]),
        _starts(pictures, fps),
        _left_out(results["left_out"]),
    ]


def lines(results: dict[str, Any]) -> list[str]:
    """For the terminal."""
    shown = [f"horizon {row['horizon']:>2}, {row['of']}: " + "  ".join(
             f"{unit.split(',')[0]} {number(row, name)}" for name, unit in UNITS.items() if name in row)
             for row in results["horizons"] if row["horizon"] in (1, 8, 16, 64)]  # fmt: skip
    if results["actions"]:
        shown += [f"loss, actions {row['actions']}: x {row['ratio']:.3f}" for row in results["actions"]["rows"][1:]]
    if results["control"] and results["control"]["obeyed"] is not None:
        found = results["control"]
        shown.append(f"actions obeyed: {found['obeyed']:.1%} of {found['counted']} (chance {found['chance']:.1%}, "
                     f"without looking at the command {_share(found.get('obeyed_blind'))})")
    return shown + [f"left out: {what}" for what in results["left_out"]] + list(filter(None, [results["verdict"]]))


def _head(results: dict[str, Any]) -> str:
    about, seen = results["dynamics"], results["evaluated"]
    shown = []
    for horizon in (8, 16):
        rows = {row["of"]: row for row in results["horizons"] if row["horizon"] == horizon}
        if rows:
            others = ", ".join(f"{of} {number(rows[of], 'psnr')}" for of in (CEILING, LAST, MEAN))
            shown.append((number(rows[DREAM], "psnr"), f"PSNR, dB, at horizon {horizon} ({others})"))
    if results["control"] and results["control"]["obeyed"] is not None:
        found = results["control"]
        without = f"by chance {_share(found['chance'])}, blind {_share(found.get('obeyed_blind'))}"
        shown.append((f"{found['obeyed']:.0%}", f"of {found['counted']} unblocked moves obeyed ({without})"))
    text = [f"{counted(seen['clips'], 'clips')} of up to {seen['length']} frames, {seen['context']} of them context, "
            f"{judged_on(seen)}; K = {seen['sampling_steps']} sampling steps",
            f"{in_words(about['parameters'])} parameters, window of {about['window']} frames, K up to "
            f"{about['finest_steps']}",
            trained(results)]
    return head("Dynamics model", text, shown, results)


def _videos(pictures: DreamPictures, fps: float) -> str:
    if not pictures.beside:
        return ""
    text = (f"From left: truth; dream, under the same actions; difference x {ERROR_GAIN}. The first {pictures.context} "
            "frames are the context, as the tokenizer reconstructs it.")
    return page.section("Dreams", text, *videos(pictures.beside, fps, of_places(pictures.places)))


def _horizons(results: dict[str, Any]) -> str:
    rows = results["horizons"]
    names = [name for name in UNITS if name in rows[0]]
    kinds, dreams = list(dict.fromkeys(row["of"] for row in rows)), [row for row in rows if row["of"] == DREAM]
    table = page.table(
        ["", "frames after the context", *(str(row["horizon"]) for row in dreams)],
        [[UNITS[name] if of == DREAM else "", of, *(number(row, name) for row in rows if row["of"] == of)]
         for name in names for of in kinds] + [["clips", "", *(str(row["frames"]) for row in dreams)]], text_columns=2)
    svgs = [plot({of: ([r["horizon"] for r in rows if r["of"] == of], [r[name] for r in rows if r["of"] == of])
                  for of in kinds}, "frames after the context", UNITS[name], doubling=True) for name in names]
    text = ("How near each is to what really happened, so many frames after the context. PSNR of the error pooled over "
            "all clips that go so far (fewer at long horizons), where the few that went elsewhere weigh most; beside "
            "it the mean of the clips' own PSNRs. SSIM and LPIPS are means. The tokenizer's "
            "reconstruction of the truth is the ceiling; the last context frame repeated and the training data's "
            "mean image are what there is without a model.")
    return page.section("By horizon", text, page.plots(svgs), table)


def _sampling(results: dict[str, Any]) -> str:
    rows = results["sampling"]
    if not rows:
        return ""
    names = {"psnr_8": "PSNR at 8", "psnr_16": "PSNR at 16", "lpips_8": "LPIPS at 8", "lpips_16": "LPIPS at 16",
             "frechet": results["features"] or "Fréchet", "frechet_start": "from nothing", "motion": "motion"}
    names = {name: title for name, title in names.items() if any(row.get(name) is not None for row in rows)}
    table = page.table(["", "K", *names.values()],
                       [[row["of"], str(row["sampling_steps"] or ""), *(_cell(row, name) for name in names)]
                        for row in rows], text_columns=1)
    dreams = [row for row in rows if row["of"] == DREAM]
    ks = [row["sampling_steps"] for row in dreams]
    svgs = [plot({"dream": (ks, [row[name] for row in dreams])}, "K", names[name], doubling=True)
            for name in ("psnr_16", "lpips_16", "frechet", "frechet_start") if name in names]
    text = f"{counted(results['evaluated']['chunks'], 'dreams')} of 16 frames, the same noise for every K. "
    if results.get("features"):
        text += f"{_frechet(results)} From nothing: the same distance of as many dreams without a context. "
    text += "PSNR rewards blur: an average of all that may come has the best one."
    return page.section("By sampling steps", text, page.plots(svgs), table)


def _frechet(results: dict[str, Any]) -> str:
    return (f"{results['features']}: Fréchet distance, on chunks of 16 frames, to as many chunks of the training "
            "split; the row of real held-out chunks says what equal videos get. It compares with no published "
            "FID or FVD.")


def _drift(results: dict[str, Any]) -> str:
    found = results["drift"]
    if not found:
        return ""
    names = ({"frechet": results["features"]} if results.get("features") else {}) | {"motion": "motion"}
    table = page.table(["", *names.values()], [[NAMES[row["of"]], *(_cell(row, name) for name in names)]
                                               for row in found["rows"]])
    ratio = f" Late to early: {found['ratio']:.2f}." if found["ratio"] is not None else ""
    chunks = counted(found["chunks"], "chunks")
    text = (f"{counted(found['dreams'], 'dreams')} of {found['frames']:,} frames under the actions of held-out "
            f"episodes one after another; {chunks} each.{ratio} Motion: mean change of a pixel from frame to frame, of "
            "255.")
    return page.section("Long dreams", text, table)


def _held(pictures: DreamPictures, fps: float) -> str:
    if not pictures.held:
        return ""
    text = f"One context, one noise, and from then on each action held, from left: {'; '.join(pictures.commands)}."
    text += f" {pictures.others[0].upper()}{pictures.others[1:]}." if pictures.others else ""
    captions = of_places(pictures.held_places)
    return page.section("One context under different actions", text, *videos(pictures.held, fps, captions))


def _control(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    rows = [[name, _share(row["obeyed"]), str(row["counted"]), *(str(n) for n in found["confusion"][name].values())]
            for name, row in found["by_command"].items()]
    frames = f"{found['hold']} frame{'s' * (found['hold'] > 1)}"
    text = (f"From {found['contexts']} moments of {found['environment']}, in worlds of their own, every command was "
            f"held for {frames} in the environment and in the dream. A dream obeys when it is nearest to the outcome "
            f"of its own command. Of {found['counted']} moves that were not blocked {_share(found['obeyed'])} were "
            f"obeyed; any of the outcomes by chance would get {_share(found['chance'])}, and dreams that ignore the "
            f"command, each that of {next(iter(found['by_command']))}, {_share(found.get('obeyed_blind'))}. Right: "
            "which outcome the dream was nearest to.")
    return page.section("Actions obeyed", text, page.table(["command", "obeyed", "of", *found["confusion"]], rows))


def _actions(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    rows = [[row["actions"], f"{row['loss']:.4f}", f"{row['ratio']:.3f}"] for row in found["rows"]]
    svg = plot({row["actions"]: (found["levels"], [r or float("nan") for r in row["ratio_by_level"]])
                for row in found["rows"][1:]}, "signal level, from", "loss / loss with true actions")
    text = (f"Flow loss at the smallest step on {found['frames']:,} held-out frames, each time with the same noise and "
            "signal levels: a ratio of 1 is a model that ignores its actions.")
    return page.section("Loss with other actions", text, page.table(["actions", "loss", "ratio"], rows),
                        page.plots([svg]))


def _levels(cells: list[dict[str, Any]]) -> str:
    """Step size by signal level, in eighths."""
    bins: dict[float, list[list[dict[str, Any]]]] = {}
    for cell in cells:
        bins.setdefault(cell["step_size"], [[] for _ in range(BINS)])[int(cell["signal_level"] * BINS)].append(cell)
    rows = [[f"1/{round(1 / size)}", *(_mean(part) for part in parts)] for size, parts in sorted(bins.items())]
    text = ("Mean squared distance of one look from the data (latents at unit scale), by step size d and signal level "
            "tau of the frame. Only the smallest step learns from data; larger ones learn where two of half the size "
            "lead, and cannot be as near to it where little is known.")
    if len(rows) == 1:
        text += " This model has met the smallest step alone: its training ended before the bootstrap of larger ones."
    heading = [f"tau {i / BINS:g}" for i in range(BINS)]
    return page.section("Loss by step size and signal level", text, page.table(["d", *heading], rows))


def _mean(cells: list[dict[str, Any]]) -> str:
    frames = sum(cell["frames"] for cell in cells)
    return f"{sum(cell['error'] * cell['frames'] for cell in cells) / frames:.3f}" if frames else ""


def _starts(pictures: DreamPictures, fps: float) -> str:
    if not pictures.starts:
        return ""
    strips = page.strips([(name, png(strip)) for name, strip in pictures.starts.items()])
    caption = "The same dreams from nothing, side by side, from frame 1 on"
    moving = videos([pictures.starting], fps, [caption]) if pictures.starting is not None else []
    below = " Below, the same as a video." if moving else ""
    text = f"Dreams without a context: the first frame comes from noise alone, later ones from those before.{below}"
    return page.section("From nothing", text, strips, *moving)


def _left_out(what: list[str]) -> str:
    return page.section("Left out", "; ".join(what) + ".") if what else ""


def _cell(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return "-"
    return f"{value * 255:.2f}" if name == "motion" else fixed(value, DIGITS.get(name.split("_")[0], 2))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
