"""Metrics against known answers: each moves the way its definition says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mimix_ray.evaluation.metrics import METRICS, TooFewFrames, UnknownMetric, find
from mimix_ray.evaluation.metrics.flow_dynamics import flow_dynamics
from mimix_ray.evaluation.metrics.temporal_flicker import temporal_flicker
from mimix_ray.video import stream_frames, write_video

FPS, FRAMES, HEIGHT, WIDTH = 16.0, 33, 112, 192


def scene(shift: float, frames: int = FRAMES, scale: int = 1) -> np.ndarray:
    """A textured figure that moves `shift` pixels a frame to the right over a textured ground."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(80, 130, (HEIGHT // 8, WIDTH // 8, 3)), np.ones((8, 8, 1)))
    figure = np.kron(rng.integers(0, 255, (10, 10, 3)), np.ones((4, 4, 1)))
    film = np.repeat(ground[None], frames, axis=0)
    for number in range(frames):
        left = 8 + round(shift * number)
        film[number, 36:76, left : left + 40] = figure
    return np.kron(film, np.ones((1, scale, scale, 1))).astype(np.uint8)


def noise(frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (frames, HEIGHT, WIDTH, 3), np.uint8)


def shuffled(film: np.ndarray) -> np.ndarray:
    return film[np.random.default_rng(2).permutation(len(film))]


def test_a_still_picture_does_not_flicker_and_does_not_move() -> None:
    still = scene(0)
    assert temporal_flicker(still, FPS) == 1.0
    assert flow_dynamics(still, FPS) == pytest.approx(0, abs=1e-3)


def test_flicker_is_the_formula() -> None:
    film = scene(2)
    pairs = [np.abs(after.astype(float) - before).mean() for before, after in pairwise(film)]
    assert temporal_flicker(film, FPS) == pytest.approx((255 - np.mean(pairs)) / 255, abs=1e-6)


def test_uniform_noise_flickers_by_a_third() -> None:
    assert temporal_flicker(noise(), FPS) == pytest.approx(2 / 3, abs=0.005)


def test_black_and_white_in_turn_is_the_worst_flicker() -> None:
    film = np.zeros((8, 16, 16, 3), np.uint8)
    film[::2] = 255
    assert temporal_flicker(film, FPS) == 0.0


def test_a_colour_shift_counts_as_much_as_it_is_large() -> None:
    film = np.full((3, 16, 16, 3), 100, np.uint8)
    film[1] += 51
    assert temporal_flicker(film, FPS) == pytest.approx(1 - 51 / 255)


@pytest.mark.parametrize("spoilt", [shuffled(scene(2)), noise()], ids=["shuffled", "noise"])
def test_disorder_is_less_steady_than_motion(spoilt: np.ndarray) -> None:
    assert temporal_flicker(spoilt, FPS) < temporal_flicker(scene(2), FPS) < temporal_flicker(scene(0), FPS)


def test_dynamics_measures_the_speed_of_what_moves() -> None:
    # 2 pixels a frame at 16 frames a second, over a short side of 112 pixels
    assert flow_dynamics(scene(2), FPS) == pytest.approx(2 * 16 / 112, rel=0.15)


def test_half_the_speed_is_half_the_dynamics() -> None:
    assert flow_dynamics(scene(1), FPS) == pytest.approx(flow_dynamics(scene(2), FPS) / 2, rel=0.15)
    slow_motion = np.repeat(scene(2), 2, axis=0)
    assert flow_dynamics(slow_motion, FPS) == pytest.approx(flow_dynamics(scene(2), FPS) / 2, rel=0.15)


def test_dynamics_does_not_depend_on_size_or_frame_rate() -> None:
    reference = flow_dynamics(scene(2), FPS)
    assert flow_dynamics(scene(2, scale=4), FPS) == pytest.approx(reference, rel=0.15)
    assert flow_dynamics(scene(1, frames=65), 2 * FPS) == pytest.approx(reference, rel=0.15)


def test_shuffled_frames_seem_to_move_faster() -> None:
    assert flow_dynamics(shuffled(scene(2)), FPS) > 1.5 * flow_dynamics(scene(2), FPS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_frames_may_come_one_by_one_and_twice_gives_the_same(metric, tmp_path) -> None:
    write_video(tmp_path / "film.mp4", scene(2), FPS)
    first = metric.measure(stream_frames(tmp_path / "film.mp4"), FPS)
    assert first == metric.measure(stream_frames(tmp_path / "film.mp4"), FPS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_one_frame_is_too_few(metric) -> None:
    with pytest.raises(TooFewFrames):
        metric.measure(iter(scene(0, frames=1)), FPS)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UnknownMetric, match="did you mean 'temporal_flicker'"):
        find("temporal_flickering")
    with pytest.raises(UnknownMetric, match="known: temporal_flicker, flow_dynamics"):
        find("xyz")
