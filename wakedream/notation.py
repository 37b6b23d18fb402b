"""The letters and shapes that cross folders.

    b batch   t frame   c h w image   n patches per frame   p numbers per patch
    l latent tokens per frame   e channels per latent   r register tokens per frame
    s tokens per frame in all   d model width

Annotations are documentation at run time and are checked in tests (`pytest --jaxtyping-packages`).
"""

from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

Video = UInt8[Tensor, "b t c h w"]  # frames at rest, 0..255
Frames = Float[Tensor, "b t c h w"]  # frames in the model, [0, 1]
Frame = Float[Tensor, "b c h w"]
Patches = Float[Tensor, "b t n p"]
PatchMask = Bool[Tensor, "b t n"]  # True: replaced by the mask token
Latents = Float[Tensor, "b t l e"]  # [-1, 1]
Latent = Float[Tensor, "b l e"]
Tokens = Float[Tensor, "b t s d"]
FrameIds = Int[Tensor, "b t"]  # frame numbers or segment ids
Levels = Int[Tensor, "b t"]  # signal levels and step indices
