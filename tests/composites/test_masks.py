"""Mask backends: GrabCut against the miniature's true masks; SAM 2's video predictor wired up with random weights."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mimix_ray.composites.masks import Masker, MaskError, check, load_masker
from mimix_ray.composites.masks.grabcut import WORK_HEIGHT, GrabCut
from mimix_ray.composites.masks.sam2 import Sam2
from mimix_ray.config import CompositesConfig
from mimix_ray.miniature.world import Actor, Shot, render_shot, true_masks

WIDTH, HEIGHT, FPS = 192, 112, 12


def shot(name, action, show, background, x=(0.3, 0.7)):
    return Shot(show, background, (Actor(name, action, (x[0], 0.92), (x[1], 0.92), 0.6),), 3.0, 1)


SHOTS = [
    shot("Pip", "hops", "pip_and_momo", "kitchen"),
    shot("Momo", "sneaks", "pip_and_momo", "garden"),
    shot("Mr. Plum", "waddles", "mr_plum", "street"),
    shot("Nan Fern", "bustles", "mr_plum", "park"),
]


@pytest.fixture(scope="module", params=SHOTS, ids=lambda shot: shot.actors[0].name)
def filmed(request):
    """Frames, true masks and the boxes that a model would give: in five frames, one pixel of room."""
    frames = np.stack(list(render_shot(request.param, WIDTH, HEIGHT, FPS)))
    truths = list(true_masks(request.param, WIDTH, HEIGHT, FPS))
    boxes = {int(n): truths[n].boxes[0] for n in np.linspace(0, len(frames) - 1, 5).round().astype(int)}
    room = np.array([-1 / WIDTH, -1 / HEIGHT, 1 / WIDTH, 1 / HEIGHT])
    return frames, np.stack([truth.masks[0] for truth in truths]), {n: tuple(box + room) for n, box in boxes.items()}


def iou(one, other):
    return ((one & other).sum(axis=(1, 2)) / (one | other).sum(axis=(1, 2))).mean()


def test_grabcut_finds_the_true_masks(filmed, record_property):
    frames, true, boxes = filmed
    masks = GrabCut().masks(frames, boxes)
    record_property("mean_iou", round(float(iou(masks, true)), 3))
    assert masks.dtype == bool and masks.shape == frames.shape[:3]
    assert iou(masks, true) > 0.8
    # What is lost shows as a missing limb; a rim of background is faded by the soft edge.
    assert (true & ~masks).sum() / true.sum() < 0.1
    assert (GrabCut().masks(frames, boxes) == masks).all(), "the same every time"


PLAIN = np.full((6, 64, 96, 3), 200, np.uint8)
BALL = PLAIN.copy()
for index, frame in enumerate(BALL):
    cv2.circle(frame, (30 + index, 34), 14, (30, 60, 190), -1)
AT_FIRST = {0: ((30 - 16) / 96, (34 - 16) / 64, (30 + 16) / 96, (34 + 16) / 64)}


def test_one_box_is_enough_for_a_slow_subject_of_clear_colours():
    masks = GrabCut().masks(BALL, AT_FIRST)
    assert iou(masks, BALL[..., 0] < 100) > 0.9


def test_a_large_clip_is_cut_small_and_its_masks_are_large():
    large = np.stack([cv2.resize(frame, (480, 320), interpolation=cv2.INTER_NEAREST) for frame in BALL])
    assert len(large[0]) > WORK_HEIGHT
    masks = GrabCut().masks(large, AT_FIRST)
    assert masks.shape == large.shape[:3]
    assert iou(masks, large[..., 0] < 100) > 0.9


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.5, 0.5, 0.5001, 0.5001), (0.9, 0.9, 1, 1)])
def test_useless_boxes_give_some_masks_and_no_crash(box):
    for frames in (PLAIN, BALL, np.random.default_rng(0).integers(0, 256, PLAIN.shape, np.uint8)):
        assert GrabCut().masks(frames, {2: box}).shape == frames.shape[:3]


@pytest.fixture(scope="module")
def random_sam2():
    """The real video predictor in its smallest size on small pictures; its weights are random: wiring only."""
    from sam2.build_sam import build_sam2_video_predictor

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model only loses by sharing its work
    torch.manual_seed(0)
    sizes = [
        "++model.image_size=128",
        "++model.image_encoder.trunk.embed_dim=16",
        "++model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
        "++model.memory_attention.num_layers=1",
    ]
    yield Sam2(build_sam2_video_predictor("configs/sam2.1/sam2.1_hiera_t.yaml", None, "cpu", "eval", sizes))
    torch.set_num_threads(threads)


def test_sam2s_predictor_follows_both_ways(random_sam2):
    masker: Masker = random_sam2
    masks = masker.masks(BALL, {2: (0.3, 0.3, 0.6, 0.8)})
    assert masks.shape == BALL.shape[:3] and masks.dtype == bool
    again = masker.masks(BALL, {2: (0.3, 0.3, 0.6, 0.8)})
    assert (again == masks).all(), "nothing of the clip before is left"
    assert masker.masks(BALL[:3], {0: AT_FIRST[0], 2: AT_FIRST[0]}).shape == (3, 64, 96)


def test_missing_weights_are_one_clear_line_before_any_work(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / "sam2.1_hiera_large.pt"):
        config = CompositesConfig(masks="sam2", sam2_path=str(path))
        for use in (check, load_masker):
            with pytest.raises(MaskError, match=r"SAM 2 weights .* set composites\.sam2_path to a folder") as error:
                use(config)
            assert "\n" not in str(error.value)
    (tmp_path / "sam2.1_hiera_tiny.pt").write_bytes(b"")
    check(CompositesConfig(masks="sam2", sam2_path=str(tmp_path)))
    check(CompositesConfig(masks="grabcut"))
    assert isinstance(load_masker(CompositesConfig(masks="grabcut")), GrabCut)
