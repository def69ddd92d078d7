"""Pasting: the background untouched outside of the subject, the subject untouched inside, feet on the ground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_ray.composites.paste import GROUND, SCALES, Placement, paste, place, soften
from mimix_ray.composites.quality import measure, objection
from mimix_ray.config import CompositesConfig

FRAMES, HEIGHT, WIDTH = 5, 112, 192


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)


def walk(x, y, width, height, step=3):
    """A block that walks to the right: bool [F, H, W]; x, y is its upper left corner in the first frame."""
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    for frame in range(FRAMES):
        masks[frame, y : y + height, x + step * frame : x + step * frame + width] = True
    return masks


SUBJECT, BACKGROUND = noise(0), noise(1)


@pytest.mark.parametrize("feather", [0, 1.5, 4])
def test_outside_the_background_and_inside_the_subject_are_exact(feather):
    masks, placement = walk(20, 40, 30, 50), Placement(1.0, 17 / WIDTH, -6 / HEIGHT)
    composite = paste(SUBJECT, masks, BACKGROUND, placement, feather)
    moved, subject = np.roll(masks, (-6, 17), (1, 2)), np.roll(SUBJECT, (-6, 17), (1, 2))
    assert (composite[~moved] == BACKGROUND[~moved]).all()
    deep = np.stack([soften(mask, feather) == 1 for mask in moved])
    assert deep.any() and (composite[deep] == subject[deep]).all()
    edge = moved & ~deep
    low, high = np.minimum(subject, BACKGROUND)[edge], np.maximum(subject, BACKGROUND)[edge]
    assert ((low <= composite[edge]) & (composite[edge] <= high)).all()
    assert (noise(1) == BACKGROUND).all(), "the background given is left as it was"


def test_the_soft_edge_lies_inside_and_not_along_the_frames_border():
    mask = np.zeros((20, 20), bool)
    mask[5:, 4:12] = True
    alpha = soften(mask, 2)
    assert (alpha[~mask] == 0).all()
    assert 0 < alpha[10, 4] < alpha[10, 5] <= 1 and alpha[10, 8] == 1
    assert alpha[19, 8] == 1, "cut off by the frame, not faded"
    assert (soften(mask, 0) == mask).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(1, 60), st.integers(4, 50), st.integers(4, 50), st.text(max_size=5))
def test_a_whole_subject_stays_whole_with_its_feet_on_the_ground(x, y, width, height, seed):
    masks = walk(x, y, min(width, WIDTH - 13 - x), min(height, HEIGHT - 1 - y))
    placement = place(masks, BACKGROUND, seed)
    assert SCALES[0] <= placement.scale <= SCALES[1]
    white = np.full_like(SUBJECT, 255)
    shown = paste(white, masks, np.zeros_like(white), placement, 0)[..., 0] > 0
    for before, after in zip(masks, shown, strict=True):
        assert after.sum() == pytest.approx(before.sum() * placement.scale**2, rel=0.35, abs=12)
    feet = (np.flatnonzero(shown.any(axis=(0, 2)))[-1] + 1) / HEIGHT
    assert GROUND[0] - 0.02 <= feet <= GROUND[1] + 0.02
    assert place(masks, BACKGROUND, seed) == placement


@pytest.mark.parametrize(
    ("masks", "fixed"),
    [
        (walk(0, 40, 30, 50), ("right",)),
        (walk(60, HEIGHT - 50, 30, 50), ("down",)),
        (walk(60, 0, 30, 60), ("down",)),
        (walk(0, HEIGHT - 50, 30, 50), ("right", "down")),
    ],
    ids=["left", "bottom", "top", "corner"],
)
def test_what_the_frame_cuts_off_stays_at_that_edge_at_its_own_size(masks, fixed):
    placement = place(masks, BACKGROUND, "seed")
    assert placement.scale == 1
    assert all(getattr(placement, side) == 0 for side in fixed)


def test_the_place_is_where_the_background_rests():
    masks, background = walk(20, 50, 20, 45, step=0), np.zeros_like(SUBJECT)
    background[:, :, : WIDTH // 2] = noise(2)[:, :, : WIDTH // 2]
    for seed in ("a", "b", "c"):
        placement = place(masks, background, seed)
        middle = WIDTH / 2 + placement.scale * (30 - WIDTH / 2) + placement.right * WIDTH
        assert middle > WIDTH / 2


def test_masks_are_measured_and_bad_ones_refused():
    config = CompositesConfig()
    good = walk(20, 40, 30, 50, step=2)
    assert measure(good).area == pytest.approx(1500 / (HEIGHT * WIDTH))
    assert measure(good).flicker == pytest.approx(1 - 28 / 32)
    assert objection(measure(good), config) is None
    gone = good.copy()
    gone[1:4] = False
    assert measure(gone).seen == pytest.approx(0.4)
    jumping = np.stack([np.roll(mask, 60 * (frame % 2), axis=1) for frame, mask in enumerate(walk(9, 9, 30, 50, 0))])
    for masks, code in (
        (gone, "subject_lost"),
        (np.zeros_like(good), "subject_lost"),
        (walk(20, 40, 8, 8), "mask_too_small"),
        (~good, "mask_too_large"),
        (jumping, "mask_flickers"),
    ):
        assert objection(measure(masks), config)[0] == code
