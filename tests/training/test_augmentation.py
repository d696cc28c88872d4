"""Augmentation: every shift written out, uniform choices, and distortions of a known size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.squares import images
from xbarsim.training import augment, augmentation


def every_shift(image: torch.Tensor, reach: int, mirrored: bool) -> dict[tuple[int, int, bool], torch.Tensor]:
    """All that ``"shift"`` and ``"crop-flip"`` may make of an image, written out with slices."""
    _, height, width = image.shape
    found = {}
    padded = torch.zeros(image.shape[0], height + 2 * reach, width + 2 * reach, dtype=image.dtype)
    padded[:, reach : reach + height, reach : reach + width] = image
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            part = padded[:, down : down + height, right : right + width]
            found[down, right, False] = part
            if mirrored:
                found[down, right, True] = torch.flip(part, (2,))
    return found


@pytest.mark.parametrize(("name", "reach", "mirrored"), [("shift", 2, False), ("crop-flip", 4, True)])
@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 6, 8)])
def test_shifts_are_uniform_and_whole(name: Any, reach: int, mirrored: bool, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(4)
    image = torch.from_numpy(rng.integers(1, 256, shape).astype(np.uint8))
    kinds = every_shift(image, reach, mirrored)
    count = 40 * len(kinds)
    made = augment(image.repeat(count, 1, 1, 1), name, torch.Generator().manual_seed(9))
    assert made.dtype == torch.uint8
    assert made.shape == (count, *shape)
    keys = {bytes(kind.contiguous().numpy()): place for place, kind in kinds.items()}
    assert len(keys) == len(kinds)
    found = [keys[bytes(item.contiguous().numpy())] for item in made]  # nothing else may occur
    counts = np.array([found.count(place) for place in kinds])
    # chi-square of a uniform choice: beyond 6 standard deviations of its mean with probability < 1e-6, and seeded
    square = ((counts - 40) ** 2 / 40).sum()
    assert square < len(kinds) - 1 + 6 * math.sqrt(2 * len(kinds))


def test_augmentation_treats_channels_alike_and_images_apart() -> None:
    pixels, _ = images(64, shape=(1, 8, 8))
    both = torch.from_numpy(pixels).repeat(1, 2, 1, 1)
    names: tuple[Any, ...] = ("shift", "crop-flip", "affine")
    for name in names:
        made = augment(both, name, torch.Generator().manual_seed(1))
        assert torch.equal(made[:, 0], made[:, 1])
        again = augment(both, name, torch.Generator().manual_seed(1))
        assert torch.equal(made, again)
        assert not torch.equal(made, augment(both, name, torch.Generator().manual_seed(2)))
    assert augment(both, "none", torch.Generator()) is both


def test_affine_without_distortion_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = torch.from_numpy(images(8)[0])
    for name in ("_SHIFT_REACH", "_MAXIMUM_ROTATION", "_MAXIMUM_SCALING", "_MAXIMUM_SHEAR"):
        monkeypatch.setattr(augmentation, name, 0)
    made = augment(pixels, "affine", torch.Generator().manual_seed(1))
    torch.testing.assert_close(made, pixels.float(), rtol=0, atol=1e-3)


def test_affine_shifts_by_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MAXIMUM_ROTATION", "_MAXIMUM_SCALING", "_MAXIMUM_SHEAR"):
        monkeypatch.setattr(augmentation, name, 0)
    point = torch.zeros(2000, 1, 12, 16, dtype=torch.uint8)
    point[:, :, 6, 8] = 255
    made = augment(point, "affine", torch.Generator().manual_seed(1))[:, 0]
    mass = made.sum(dim=(1, 2))
    torch.testing.assert_close(mass, torch.full((2000,), 255.0), rtol=0, atol=1e-2)
    down = (made.sum(dim=2) * torch.arange(12)).sum(dim=1) / mass - 6
    right = (made.sum(dim=1) * torch.arange(16)).sum(dim=1) / mass - 8
    for shift in (down, right):  # uniform in -2..2: bounds, and a spread of 4/sqrt(12) within 5 %
        assert shift.abs().max() <= 2 + 1e-3
        assert float(shift.std()) == pytest.approx(4 / math.sqrt(12), rel=0.05)
