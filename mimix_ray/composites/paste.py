"""Puts a cut-out character before another background: where, how large, and with what edge.

No harmonisation of styles: that each keeps its own is the point (paper 3.2).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import cv2
import numpy as np

GROUND = (0.82, 0.96)
"""Shares of the frame's height between which the feet of film characters stand; a scene's floor is there."""
HORIZON = 0.5
"""Height of the eye, share of the frame's height from the top: who stands nearer to it is farther away, and smaller."""
SCALES = (0.75, 1.1)
"""Limits of a subject's size against its source: beyond them it stands out by its sharpness."""
OPTIONS = 12
"""Places drawn, of which the quietest is taken."""
UNREST_FRAMES, PATH_EVERY = 9, 4
"""Frames that tell where a background moves; of the subject's path, every so many frames tell where it goes."""


@dataclass(frozen=True)
class Placement:
    """Where a subject goes: scaled about the middle of the frame's lower edge, then shifted. All that is needed to
    paste it again."""

    scale: float
    right: float
    """Shift to the right, share of the frame's width."""
    down: float
    """Shift downwards, share of the frame's height."""


def resize(frames: np.ndarray, masks: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A subject as if it had been filmed in another size: scaled to its height, and what is too wide cut off.

    A subject that the left or right edge cuts off stays at that edge; any other stays as far in the middle as it was.

    Args:
        frames: uint8 [F, h, w, 3].
        masks: bool [F, h, w].
        size: Width and height wanted.

    Returns:
        frames uint8 [F, H, W, 3] and masks bool [F, H, W]; beside a picture that is too narrow its edge goes on.
    """
    width, height = size
    scale = height / masks.shape[1]
    columns = np.flatnonzero(masks.any(axis=(0, 1))) * scale
    source = masks.shape[2] * scale
    left = (width - source) / 2
    if columns.size:
        at_left, at_right = columns[0] < scale, columns[-1] > source - 1.5 * scale
        # Moved no farther than keeps all of it in the frame.
        left = min(max(left, -columns[0]), width - columns[-1] - scale)
        left = 0.0 if at_left else width - source if at_right else left
    matrix = np.array([[scale, 0, left + (scale - 1) / 2], [0, scale, (scale - 1) / 2]])
    resized = np.stack([cv2.warpAffine(frame, matrix, size, borderMode=cv2.BORDER_REPLICATE) for frame in frames])
    moved = np.stack([cv2.warpAffine(mask.astype(np.float32), matrix, size) > 0.5 for mask in masks])
    return resized, moved


def place(masks: np.ndarray, background: np.ndarray, seed: str) -> Placement:
    """A place for the subject: its feet on the ground, its whole path in the frame, its own motion kept.

    Of some places drawn by the seed it is the one where the background moves least: its own cast moves, and stays seen.
    A subject that the frame's edge cuts off stays at that edge, at its own size: anywhere else the cut would show.

    Args:
        masks: bool [F, H, W], not all False.
        background: uint8 [F, H, W, 3].
        seed: Decides what is free: how near it stands, and where along the ground.
    """
    draw = random.Random(seed)
    unrest, path = _unrest(background), masks[::PATH_EVERY].mean(axis=0, dtype=np.float32)
    height, width = path.shape

    def covered_unrest(option: Placement) -> float:
        covered = cv2.warpAffine(path, _matrix(option, path.shape), (width, height))
        return float((covered * unrest).sum() / max(covered.sum(), 1e-6))

    ever = np.asarray(masks.any(axis=0))
    return min((_option(ever, draw) for _ in range(OPTIONS)), key=covered_unrest)


def _option(ever: np.ndarray, draw: random.Random) -> Placement:
    """One place that is allowed for a subject that is ever seen in `ever`, bool [H, W]."""
    height, width = ever.shape
    rows, columns = np.flatnonzero(ever.any(axis=1)), np.flatnonzero(ever.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    cut_across, cut_along = left == 0 or right == width, top == 0 or bottom == height
    ground, scale = bottom / height, 1.0
    if not cut_across and not cut_along:
        ground = draw.uniform(*GROUND)
        scale = min(max((ground - HORIZON) / max(bottom / height - HORIZON, 0.1), SCALES[0]), SCALES[1])
        scale = min(scale, ground * height / (bottom - top), width / (right - left))
    # Whole pixels: an unscaled subject keeps its own, bit for bit.
    down = round(ground * height - (height + scale * (bottom - height)))
    begin, end = (width / 2 + scale * (edge - width / 2) for edge in (left, right))
    along = 0 if cut_across else round(draw.uniform(-begin, width - end))
    return Placement(float(scale), along / width, down / height)


def _unrest(background: np.ndarray) -> np.ndarray:
    """How much each pixel of a clip changes, float32 [H, W]."""
    some = background[:: max(1, len(background) // UNREST_FRAMES)].mean(axis=-1)
    return some.std(axis=0).astype(np.float32)


def _matrix(placement: Placement, shape: tuple[int, ...]) -> np.ndarray:
    """The placement as cv2.warpAffine wants it; pixel centres lie at half coordinates, OpenCV counts them whole."""
    height, width = shape
    scale = placement.scale
    x = (1 - scale) * width / 2 + round(placement.right * width)
    y = (1 - scale) * height + round(placement.down * height)
    return np.array([[scale, 0, x + (scale - 1) / 2], [0, scale, y + (scale - 1) / 2]])


def paste(
    frames: np.ndarray, masks: np.ndarray, background: np.ndarray, placement: Placement, feather: float
) -> np.ndarray:
    """The subject of `frames` before `background`.

    Where its mask does not reach, a pixel is the background's, exactly; deeper than `feather` pixels inside, at scale
    1, it is the subject's, exactly. The soft edge lies inside the mask: so no rim of the old background comes along.

    Args:
        frames: uint8 [F, H, W, 3] with the subject.
        masks: bool [F, H, W].
        background: uint8 [F, H, W, 3].
        placement: Where it goes.
        feather: Width of the soft edge, pixels; 0 for a hard one.
    """
    height, width = masks.shape[1:]
    matrix = _matrix(placement, masks.shape[1:])
    composite = background.copy()
    for picture, frame, mask in zip(composite, frames, masks, strict=True):
        moved = cv2.warpAffine(mask.astype(np.float32), matrix, (width, height)) > 0.5
        if not moved.any():
            continue
        alpha = soften(moved, feather)[..., None]
        subject = cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        blend = np.rint(alpha * subject + (1 - alpha) * picture).astype(np.uint8)
        np.copyto(picture, blend, where=alpha > 0)
    return composite


def soften(mask: np.ndarray, feather: float) -> np.ndarray:
    """Opacity of a mask, bool [H, W] -> float32 [H, W] in 0..1: 0 outside, rising to 1 within `feather` pixels inside.

    Along the frame's border nothing fades: the subject goes on beyond it.
    """
    if feather == 0:
        return mask.astype(np.float32)
    inside = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.clip((depth - 0.5) / feather, 0, 1) * mask
