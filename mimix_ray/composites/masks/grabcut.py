"""Masks without weights: OpenCV's GrabCut (Rother et al. 2004), helped by what the clip shows of the empty scene.

A box says little about a textured scene. But where the camera stands still, every pixel that the subject does not
cover all the time shows the scene behind it at some moment. So: cut once within the boxes, take the scene from what was
left over, then cut again with the scene as a witness. Where the camera moves the witness is silent, and GrabCut decides
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from mimix_ray.composites.masks import Box

WORK_HEIGHT = 160
"""Taller frames are cut at this height, pixels: GrabCut's time grows faster than the picture."""
ROOM, DRIFT = 0.03, 0.025
"""How far a subject may be outside its box, shares of the box: at once, and for each frame to the nearest box."""
CORE, REACH, RIM = 0.04, 0.07, 0.03
"""Shares of the frame's height: how much the first cut may be too large, how much too small, and the rim around it that
is not taken for scene."""
SCENE_EVERY, SCENE_LEAST, SCENE_SPREAD = 3, 3, 10
"""The scene is the median of every so many frames; known where so many show it and vary by no more than so many levels
(0..255)."""
SAME, DIFFERENT = 10, 28
"""Levels (0..255) up to which a pixel is the scene's, and from which it is the subject's."""
THIN, NEAR, HOLE = 0.01, 0.015, 0.01
"""Lines thinner than twice this share of the frame's height go, as GrabCut likes to run along edges of the scene; so do
pieces farther than twice this share from the largest. Holes smaller than this share of the mask are filled."""
FIRST_ROUNDS, ROUNDS = 5, 1
"""GrabCut rounds on the frame with the best box, where the subject's colours are learnt, and on all others."""

NO_BOX = (0, 0, 0, 0)
"""GrabCut's own box, unused: labels say where the subject may be."""


class GrabCut:
    """Follows one subject by its boxes, its colours and the scene behind it."""

    def masks(self, frames: np.ndarray, boxes: Mapping[int, Box]) -> np.ndarray:
        """As `Masker.masks`. Deterministic."""
        height, width = frames.shape[1:3]
        if height > WORK_HEIGHT:
            size = (round(width * WORK_HEIGHT / height), WORK_HEIGHT)
            small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
            found = self.masks(small, boxes)
            return np.stack([cv2.resize(mask.astype(np.float32), (width, height)) > 0.5 for mask in found])
        cv2.setRNGSeed(0)  # GrabCut starts its colour clusters at random
        zones = _zones(frames.shape[:3], boxes)
        scene = _Scene.seen(frames, ~zones)
        # The largest box shows most of the subject: its colours are learnt there.
        best = max(boxes, key=lambda frame: (boxes[frame][2] - boxes[frame][0]) * (boxes[frame][3] - boxes[frame][1]))
        models = np.zeros((1, 65)), np.zeros((1, 65))
        _cut(frames[best], _witnessed(frames[best], _labels(zones[best], zones[best]), scene), models, FIRST_ROUNDS)
        first = [
            _cut(frame, _witnessed(frame, _labels(zone, zone), scene), models, 0)
            for frame, zone in zip(frames, zones, strict=True)
        ]
        scene = _Scene.seen(frames, ~np.stack([_grown(mask, RIM) for mask in first]))
        masks = []
        for frame, mask in zip(frames, first, strict=True):
            labels = _labels(mask, _grown(mask, REACH))
            labels[_shrunk(mask, CORE)] = cv2.GC_FGD
            masks.append(_cut(frame, _witnessed(frame, labels, scene), None, ROUNDS))
        return np.stack(masks)


@dataclass(frozen=True)
class _Scene:
    """What is behind the subject, as far as the clip shows it."""

    colours: np.ndarray
    """float32 [H, W, 3]."""
    known: np.ndarray
    """bool [H, W]."""

    @classmethod
    def seen(cls, frames: np.ndarray, free: np.ndarray) -> _Scene:
        """The scene where it is `free` (bool [F, H, W]) of the subject and the same whenever it is."""
        some = np.ma.array(frames[::SCENE_EVERY], mask=np.repeat(~free[::SCENE_EVERY, ..., None], 3, axis=-1))
        colours = np.ma.median(some, axis=0).filled(0).astype(np.float32)
        spread = np.ma.median(np.abs(some - colours), axis=0).filled(255).max(axis=-1)
        return cls(colours, (free[::SCENE_EVERY].sum(axis=0) >= SCENE_LEAST) & (spread < SCENE_SPREAD))


def _zones(shape: tuple[int, ...], boxes: Mapping[int, Box]) -> np.ndarray:
    """Where the subject may be, bool [F, H, W]: in its box, between boxes in the box between, with room for doubt."""
    count, height, width = shape
    zones = np.zeros((count, height, width), bool)
    told = sorted(boxes)
    for frame in range(count):
        x0, y0, x1, y1 = (np.interp(frame, told, [boxes[one][side] for one in told]) for side in range(4))
        doubt = ROOM + DRIFT * min(abs(frame - one) for one in told)
        right, down = doubt * (x1 - x0), doubt * (y1 - y0)
        rows = slice(max(0, int((y0 - down) * height)), int(np.ceil((y1 + down) * height)))
        zones[frame, rows, max(0, int((x0 - right) * width)) : int(np.ceil((x1 + right) * width))] = True
    return zones


def _labels(likely: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """GrabCut's labels: probably subject, probably background, surely background."""
    labels = np.where(possible, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    labels[likely] = cv2.GC_PR_FGD
    return labels


def _witnessed(frame: np.ndarray, labels: np.ndarray, scene: _Scene) -> np.ndarray:
    """Labels made sure, where they leave doubt, by comparison with the scene."""
    now = cv2.GaussianBlur(frame, (3, 3), 0).astype(np.float32)  # film grain is no difference
    difference = np.abs(now - scene.colours).max(axis=-1)
    # A shadow darkens all three colours alike: it is no proof of the subject.
    darker = (now + 8) / (scene.colours + 8)
    shadow = (darker.max(axis=-1) < 1.05) & (darker.min(axis=-1) > 0.3) & (np.ptp(darker, axis=-1) < 0.12)
    open_ = (labels != cv2.GC_BGD) & scene.known
    labels[open_ & (difference < SAME)] = cv2.GC_BGD
    labels[open_ & (difference > DIFFERENT) & ~shadow] = cv2.GC_FGD
    return labels


def _cut(
    frame: np.ndarray, labels: np.ndarray, models: tuple[np.ndarray, np.ndarray] | None, rounds: int
) -> np.ndarray:
    """GrabCut near the open labels, cleaned: bool [H, W].

    Args:
        frame: uint8 [H, W, 3].
        labels: GrabCut's, [H, W].
        models: Colour models of background and subject, filled when `rounds` is above 0, used as they are when it is 0;
            None: the frame's own.
        rounds: Of learning colours and cutting.
    """
    rows, columns = np.flatnonzero((labels > 0).any(axis=1)), np.flatnonzero((labels > 0).any(axis=0))
    if not len(rows):
        return labels > 0
    margin = max(4, round(0.14 * len(frame)))  # of background, to learn its colours from
    part = np.s_[max(0, rows[0] - margin) : rows[-1] + margin, max(0, columns[0] - margin) : columns[-1] + margin]
    near, picture = np.ascontiguousarray(labels[part]), np.ascontiguousarray(frame[part])
    subject = near % 2 == 1  # GC_FGD and GC_PR_FGD are odd
    if subject.any() and not subject.all():
        background, foreground = models or (np.zeros((1, 65)), np.zeros((1, 65)))
        mode = cv2.GC_INIT_WITH_MASK if rounds else cv2.GC_EVAL_FREEZE_MODEL
        cv2.grabCut(picture, near, NO_BOX, background, foreground, max(1, rounds), mode)
    mask = np.zeros(labels.shape, bool)
    mask[part] = near % 2 == 1
    return _clean(mask)


def _clean(mask: np.ndarray) -> np.ndarray:
    """A mask without thin lines, stray pieces and small holes."""
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disc(THIN * len(mask))) > 0
    if not mask.any():
        return mask
    # A stick is held by a hand that GrabCut may miss: pieces that all but touch belong together.
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(_grown(mask, NEAR).astype(np.uint8), connectivity=8)
    mask = mask & (pieces == 1 + stats[1:, cv2.CC_STAT_AREA].argmax())
    _, gaps, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    return mask | (stats[:, cv2.CC_STAT_AREA] < HOLE * mask.sum())[gaps]


def _grown(mask: np.ndarray, share: float) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _disc(share * len(mask))) > 0


def _shrunk(mask: np.ndarray, share: float) -> np.ndarray:
    # Beyond the frame's border the subject goes on: no gap opens there.
    return cv2.erode(mask.astype(np.uint8), _disc(share * len(mask)), borderValue=1) > 0


def _disc(radius: float) -> np.ndarray:
    reach = max(1, round(radius))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
