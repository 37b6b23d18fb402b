"""How near a reconstruction is to the truth: PSNR, SSIM and LPIPS, kept per frame."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wakedream.data.background import moving
from wakedream.notation import Frames
from wakedream.perceptual.lpips import LPIPS

HIGHEST_PSNR = 100.0  # dB: for pictures equal to the last bit, where the true value is infinite
MOVING, COUNT = "moving error", "moving pixels"  # sums over a frame
SSIM_WINDOW = 11  # pixels; Gaussian, sigma 1.5 (Wang et al. 2004)


def psnr(mse: Tensor | float) -> float:
    """-10 log10 of a mean squared error of pixels in [0, 1], in dB, at most 100."""
    return min(HIGHEST_PSNR, -10 * math.log10(max(float(mse), 1e-12)))


class ReconstructionMetrics:
    """Collects per-frame numbers: `update(prediction, target)` for every batch, then `compute()`.

    PSNR is -10 log10 of the MSE pooled over all pixels (not a mean of PSNRs); SSIM and LPIPS are means
    over frames. Without `lpips`, or where frames are smaller than SSIM's window, those two are left out.
    With `behind`, the data's background (c h w), psnr_moving is the PSNR over the pixels that differ from it in the
    target (`moving`), left out where nothing does: the PSNR of the whole picture hides what is small.
    """

    def __init__(self, lpips: LPIPS | None = None, behind: Tensor | None = None):
        self.lpips, self.behind = lpips, behind
        self.rows: dict[str, list[Tensor]] = {}  # name -> (b t) per update

    def update(self, prediction: Frames, target: Frames) -> None:
        """Frames (b t c h w) in [0, 1]; every update with the same t. In float32, also within autocast."""
        assert prediction.shape == target.shape, (prediction.shape, target.shape)
        b, t = target.shape[:2]
        errors = (prediction.float() - target.float()).square()
        found = {"mse": errors.mean((2, 3, 4))}
        if self.behind is not None:
            where = moving(target.float(), self.behind).expand_as(errors)
            found |= {MOVING: (errors * where).sum((2, 3, 4)), COUNT: where.sum((2, 3, 4))}
        prediction, target = prediction.float().flatten(0, 1), target.float().flatten(0, 1)
        with torch.autocast(target.device.type, enabled=False):
            if min(target.shape[-2:]) >= SSIM_WINDOW:
                found["ssim"] = _ssim(prediction, target)
            if self.lpips is not None:
                found["lpips"] = self.lpips(prediction, target)
        for name, values in found.items():
            self.rows.setdefault(name, []).append(values.reshape(b, t).cpu().double())

    def compute(self, where: Tensor | None = None) -> dict[str, float | int]:
        """psnr (dB), psnr_moving, ssim, lpips and how many frames; of the frames where `where`, bool (b t), is True."""
        tables = self._tables()
        where = torch.ones_like(tables["mse"], dtype=torch.bool) if where is None else where.cpu()
        result: dict[str, float | int] = {"frames": int(where.sum())}
        if result["frames"]:
            result |= {name: float(table[where].mean()) for name, table in tables.items()}
            result = _decibels(result) | result
        return result

    def mean_psnr(self, where: Tensor) -> float:
        """The mean of the frames' own PSNRs: one frame that is far off weighs as much as any other."""
        return float(np.mean([psnr(mse) for mse in self._tables()["mse"][where.cpu()].tolist()]))

    def by_frame(self) -> dict[str, list[float]]:
        """The same by frame index within the clip; psnr_moving if something moves at every index."""
        tables = self._tables()
        means = [{name: float(table[:, t].mean()) for name, table in tables.items()}
                 for t in range(tables["mse"].shape[1])]
        rows = [_decibels(row) | row for row in means]
        return {name: [row[name] for row in rows] for name in rows[0] if all(name in row for row in rows)}

    def _tables(self) -> dict[str, Tensor]:
        return {name: torch.cat(rows) for name, rows in self.rows.items()}


def _decibels(means: dict[str, Any]) -> dict[str, float]:
    """psnr and psnr_moving of mean errors, which are taken out."""
    error, count = means.pop(MOVING, 0.0), means.pop(COUNT, 0.0)
    return {"psnr": psnr(means.pop("mse"))} | ({"psnr_moving": psnr(error / count)} if count else {})


def _ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """Per image; window as above, data range 1."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(
        prediction, target, data_range=1.0, kernel_size=SSIM_WINDOW, sigma=1.5, reduction="none"
    )
    assert isinstance(found, Tensor)
    return found
