"""Images changed a little each time they are seen, so that a network cannot learn them by heart."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from xbarsim.foundation.entrances import entrance
from xbarsim.training.settings import Augmentation

__all__ = ["augment"]

_SHIFT_REACH, _CROP_REACH = 2, 4  # pixels, up, down, left and right
_MAXIMUM_ROTATION = math.radians(12)
_MAXIMUM_SCALING = 0.1
_MAXIMUM_SHEAR = 0.15


@entrance
def augment(images: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change every image of a batch a little, each in its own way; what moves in from outside is 0.

    Parameters
    ----------
    images
        uint8, shape (images, channels, height, width), on any device.
    augmentation
        ``"none"``; ``"crop-flip"``, a shift by up to 4 pixels and a mirror image of every other one; ``"shift"``, by
        up to 2 pixels; ``"affine"``, a shift by up to 2 pixels (bilinear, as all that follows), a rotation by up to 12
        degrees, other widths and heights by up to 10 % and a shear by up to 0.15. All are uniform within their bounds.
    generator
        On the CPU, so that every device sees the same images.

    Returns
    -------
    torch.Tensor
        Same shape; uint8, but float32 from ``"affine"``, on the scale 0 to 255 too.
    """
    if augmentation == "none":
        return images
    count, _, height, width = images.shape
    if augmentation == "affine":

        def uniform(limit: float) -> torch.Tensor:
            return (2 * torch.rand(count, generator=generator) - 1) * limit

        angle, shear = uniform(_MAXIMUM_ROTATION), uniform(_MAXIMUM_SHEAR)
        wider, higher = 1 + uniform(_MAXIMUM_SCALING), 1 + uniform(_MAXIMUM_SCALING)
        across, down = uniform(2 * _SHIFT_REACH / width), uniform(2 * _SHIFT_REACH / height)
        rows = [
            torch.stack([wider * angle.cos(), shear - angle.sin(), across], dim=1),
            torch.stack([angle.sin(), higher * angle.cos(), down], dim=1),
        ]
        grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
        return functional.grid_sample(images.float(), grid.to(images.device), align_corners=False)
    reach = _CROP_REACH if augmentation == "crop-flip" else _SHIFT_REACH
    corners = torch.randint(2 * reach + 1, (2, count), generator=generator).to(images.device)
    windows = functional.pad(images, (reach,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    shifted = windows[torch.arange(count, device=images.device), :, corners[0], corners[1]]
    if augmentation == "shift":
        return shifted
    mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], shifted.flip(3), shifted)
