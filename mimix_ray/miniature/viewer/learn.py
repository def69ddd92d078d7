"""What the viewer knows by heart, learned from scenes that the world renders for it: `python -m ...viewer.learn`.

Run it again when the look or the motions of the cast change; tests/miniature/test_viewer.py says when it is due.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mimix_ray import video
from mimix_ray.miniature.backdrops import BACKGROUNDS, backdrop
from mimix_ray.miniature.cast import ACTIONS, LOOKS, SHOWS
from mimix_ray.miniature.motion import LAPS
from mimix_ray.miniature.viewer.memory import (
    SETTINGS,
    Box,
    Memory,
    Reading,
    colour_features,
    figure_features,
    sigmoid,
    surface_features,
    track_features,
)
from mimix_ray.miniature.viewer.segment import Figure, Scan, scan
from mimix_ray.miniature.world import Actor, Shot, render_shot, true_masks

WIDTH, HEIGHT = 192, 112
FRAMES, FPS = 10, 2
"""What captioning sends: ten frames over five seconds."""


@dataclass(frozen=True)
class Lesson:
    """A clip and what is true of it."""

    frames: list[np.ndarray]
    """uint8 RGB [112, 192, 3] each, after H.264 and JPEG."""
    actors: tuple[Actor, ...]
    boxes: list[tuple[Box | None, ...]]
    """Each frame's true boxes, in the order of `actors`."""
    setting: str
    """The background's name."""


def lessons(each: int, seed: int) -> Iterator[Lesson]:
    """`each` clips of each action of each character: most at home, some pasted into the other show, some redrawn."""
    rng = random.Random(seed)
    for name in LOOKS:
        for action in ACTIONS[name]:
            for number in range(each):
                yield _lesson(_shot(name, action, rng, redrawn=number % 8 == 5), rng, pasted=number % 4 == 3)


def _shot(name: str, action: str, rng: random.Random, redrawn: bool) -> Shot:
    """A shot of a character, every third time with somebody else of its show."""
    home = LOOKS[name].show
    show = next(other for other in SHOWS if (other != home) == redrawn)
    parts = [(name, action)]
    if rng.random() < 0.33:
        other = rng.choice([one for one in LOOKS if one != name and LOOKS[one].show == home])
        parts.insert(rng.randrange(2), (other, rng.choice(list(ACTIONS[other]))))
    actors = []
    for index, (who, does) in enumerate(parts):
        low, high = (0.1, 0.9) if len(parts) == 1 else ((0.1, 0.42), (0.58, 0.9))[index]
        start, end = rng.uniform(low, high), rng.uniform(low, high)
        if does not in LAPS:
            end = start
        elif rng.random() < 0.6:
            start, end = rng.uniform(0.08, 0.35), rng.uniform(0.6, 0.92)
        if rng.random() < 0.5:
            start, end = end, start
        ground, size = rng.uniform(0.85, 0.96), LOOKS[who].size * rng.uniform(0.8, 1.1)
        actors.append(Actor(who, does, (start, ground), (end, ground), size, rng.random()))
    return Shot(show, rng.choice(list(BACKGROUNDS[show])), tuple(actors), rng.uniform(5.5, 9), rng.randrange(1 << 30))


def _lesson(shot: Shot, rng: random.Random, pasted: bool) -> Lesson:
    pictures = [frame.copy() for frame in islice(render_shot(shot, WIDTH, HEIGHT, FPS), FRAMES)]
    truths = list(islice(true_masks(shot, WIDTH, HEIGHT, FPS), FRAMES))
    setting = shot.background
    if pasted:
        show = next(other for other in SHOWS if other != shot.show)
        setting = rng.choice(list(BACKGROUNDS[show]))
        large = backdrop(show, setting, 2 * WIDTH, 2 * HEIGHT, shot.seed)
        scene = cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        for picture, truth in zip(pictures, truths, strict=True):
            outside = ~np.any(truth.masks, axis=0)
            picture[outside] = scene[outside]
    frames = _through_codecs(pictures, rng.randrange(16, 23), rng.randrange(75, 96))
    return Lesson(frames, shot.actors, [truth.boxes for truth in truths], setting)


def _through_codecs(pictures: Sequence[np.ndarray], crf: int, quality: int) -> list[np.ndarray]:
    """What H.264 and JPEG leave of pictures: clips are kept in the one, frames are sent in the other."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        video.write_video(clip, pictures, FPS, crf=crf)
        pictures = list(video.read_frames(clip, count=len(pictures)))
    return [_through_jpeg(picture, quality) for picture in pictures]


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def learn(taught: Sequence[Lesson], rng: np.random.Generator) -> Memory:
    """Readings from lessons: least squares for boxes, logistic regression for yes or no, discriminants for kinds."""
    weights: dict[tuple[Reading, str], np.ndarray] = {}
    scans = [scan(lesson.frames) for lesson in taught]
    strangers = _strangers(taught, scans, rng)
    for name in LOOKS:
        figures, boxes, tracks, actions = [], [], [], []
        for lesson, scene in zip(taught, scans, strict=True):
            for index, actor in enumerate(lesson.actors):
                if actor.name != name:
                    continue
                track = {at: found[name] for at, found in enumerate(scene.figures) if name in found}
                seen = [(figure, lesson.boxes[at][index]) for at, figure in track.items() if lesson.boxes[at][index]]
                figures += [figure_features(figure) for figure, _ in seen]
                boxes += [_relative(box, figure) for figure, box in seen if box]
                if track:
                    tracks.append(track_features(list(track.values()), FRAMES))
                    actions.append(list(ACTIONS[name]).index(actor.action))
        near = np.abs(boxes).max(axis=1) < FAR
        weights["box", name] = _least_squares(np.stack(figures)[near], np.stack(boxes)[near])
        weights["likeness", name] = _logistic(np.stack(figures), np.stack(strangers[name]))
        weights["action", name] = _discriminant(np.stack(tracks), np.array(actions), len(ACTIONS[name]))
    # A scene that hides behind figures all the time teaches nothing of itself.
    open_ = [(lesson.setting, scene) for lesson, scene in zip(taught, scans, strict=True) if scene.seen.mean() > 0.3]
    settings = np.array([list(SETTINGS).index(setting) for setting, _ in open_])
    colours = np.stack([colour_features(scene) for _, scene in open_])
    typical = np.stack([colours[settings == number].mean(axis=0) for number in range(len(SETTINGS))], axis=1)
    weights["setting", ""] = typical / np.linalg.norm(typical, axis=0)
    filmed = np.array([_style_of(lesson.setting) == "realistic" for lesson in taught])
    surfaces = np.stack(
        [
            surface_features(scene, [_there(boxes) for boxes in lesson.boxes])
            for lesson, scene in zip(taught, scans, strict=True)
        ]
    )
    # Few features, none of them noise: little holds them back.
    weights["style", ""] = _logistic(surfaces[filmed], surfaces[~filmed], ridge=0.1)
    return Memory(weights)


def _there(boxes: Sequence[Box | None]) -> list[Box]:
    return [box for box in boxes if box]


def _style_of(setting: str) -> str:
    return next(SHOWS[show] for show, places in BACKGROUNDS.items() if setting in places)


def _relative(box: Box, figure: Figure) -> np.ndarray:
    """A box, shares of the frame, in sizes from a figure's centre."""
    edges = np.array(box) * (WIDTH, HEIGHT, WIDTH, HEIGHT)
    return (edges - np.tile(figure.centre, 2)) / figure.size


FAR = 3.0
"""Furthest edge of a box that is learned from, in sizes; one further away belongs to a figure nearly hidden."""


def _strangers(
    taught: Sequence[Lesson], scans: Sequence[Scan], rng: np.random.Generator
) -> dict[str, list[np.ndarray]]:
    """Figures that only seem to be somebody: the cast in false colours or in each other's, and nonsense."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in LOOKS}

    def take(scene: Scan, known: Sequence[str]) -> None:
        for figures in scene.figures:
            for name, figure in figures.items():
                if name not in known:
                    found[name].append(figure_features(figure))

    for lesson, scene in zip(taught, scans, strict=True):
        known = [actor.name for actor in lesson.actors]
        take(scene, known)
        turn = int(rng.integers(15, 165))
        take(scan([_recoloured(frame, turn) for frame in lesson.frames[::4]]), known)
    for _ in range(4 * len(taught)):
        take(scan(nonsense(2, rng)), ())
    return found


def _recoloured(picture: np.ndarray, turn: int) -> np.ndarray:
    """A picture with every hue turned by `turn` of 180 steps."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + turn) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def nonsense(frames: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Pictures of nothing, uint8 RGB [112, 192, 3]: noise, clouds and shapes of any colour, before a moving camera."""
    margin = 24
    height, width = HEIGHT + 2 * margin, WIDTH + 2 * margin
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = rng.uniform(20, 235, 3)
    for _ in range(rng.integers(4)):
        grain, strength = int(2 ** rng.uniform(0, 5.5)), rng.uniform(5, 70)
        # Light varies alone as often as colour does.
        channels = int(rng.choice((1, 3)))
        field = rng.standard_normal((height // grain + 2, width // grain + 2, channels)).astype(np.float32)
        picture += strength * cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC).reshape(
            height, width, -1
        )
    for _ in range(rng.integers(30)):
        corners = rng.normal(
            (rng.uniform(0, width), rng.uniform(0, height)), rng.uniform(3, 40), (rng.integers(3, 9), 2)
        )
        outline = [cv2.convexHull(corners.astype(np.int32))]
        cv2.fillPoly(picture, outline, rng.uniform(0, 255, 3).tolist())
        if rng.random() < 0.3:
            cv2.polylines(picture, outline, True, rng.uniform(0, 60, 3).tolist(), int(rng.integers(1, 4)))
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 3)).clip(0, 255).astype(np.uint8)
    place, step = np.full(2, margin, float), rng.normal(0, margin / frames / 3, 2) * rng.integers(2)
    views = []
    for _ in range(frames):
        x, y = place.clip(0, 2 * margin).astype(int)
        views.append(picture[y : y + HEIGHT, x : x + WIDTH].copy())
        place += step
    return views


def _least_squares(x: np.ndarray, y: np.ndarray, ridge: float = 3.0) -> np.ndarray:
    """Weights [features, outputs] with x @ weights about y."""
    x = x.astype(np.float64)
    return np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)


def _logistic(yes: np.ndarray, no: np.ndarray, ridge: float = 3.0) -> np.ndarray:
    """Weights [features, 1] whose sigmoid is the chance of yes, where both are as frequent; Newton's method."""
    x = np.concatenate([yes, no]).astype(np.float64)
    y = np.concatenate([np.ones(len(yes)), np.zeros(len(no))])
    weight = np.where(y > 0, 0.5 / len(yes), 0.5 / len(no)) * len(y)
    b = np.zeros(x.shape[1])
    for _ in range(12):
        p = sigmoid(x @ b)
        slope = x.T @ (weight * (p - y)) + ridge * b
        curve = (x * (weight * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(b))
        b -= np.linalg.solve(curve, slope)
    return b[:, None]


def _discriminant(x: np.ndarray, kind: np.ndarray, kinds: int) -> np.ndarray:
    """Weights [features, kinds] of a linear discriminant of shrunk covariance; their softmax is the chance of each."""
    x = x.astype(np.float64)[:, 1:]
    means = np.stack([x[kind == k].mean(axis=0) for k in range(kinds)])
    away = x - means[kind]
    spread = away.T @ away / len(x)
    spread += SHRINK * np.trace(spread) / len(spread) * np.eye(len(spread))
    slopes = np.linalg.solve(spread, means.T)
    offsets = -0.5 * np.einsum("kd,dk->k", means, slopes)
    # Hundreds of features make a discriminant too sure of itself.
    return TEMPER * np.concatenate([offsets[None], slopes])


SHRINK = 0.1
"""Share of the mean variance that is added to each feature's: with few clips of many features, between 0.02 and 0.3
all serve as well."""
TEMPER = 0.1
"""How much of a discriminant's sureness is believed."""


def main() -> None:
    """Renders the lessons, some minutes, and writes the memory."""
    taught = list(tqdm(lessons(EACH, seed=1), "lessons", total=EACH * sum(map(len, ACTIONS.values()))))
    learn(taught, np.random.default_rng(1)).save()


EACH = 12
"""Clips of each action of each character."""

if __name__ == "__main__":
    main()
