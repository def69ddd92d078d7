"""Frames of one clip -> who is there, where, doing what, in which setting and style. From pixels alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from mimix_ray.miniature.cast import ACTIONS, LOOKS
from mimix_ray.miniature.viewer.memory import SETTINGS, Box, Memory, load
from mimix_ray.miniature.viewer.segment import Figure, Scan, scan, unevenness

LIKE = 0.6
"""Likeness from which on a figure is taken for its character. The cast's own is 0.7 and more in 95 of 100 frames; in
films that the cast is not in, a blob of a reserved hue reaches 0.6 here and there."""

PRESENT = 0.25
"""Share of the frames in which somebody must be seen to be there at all; one or two frames of ten are a chance likeness
(with LIKE, that halves the false alarms in films that the cast is not in)."""

KNOWN_PLACE = 0.6
"""Likeness of colours from which on a place is known: the world's own scenes have 0.8 and more, noise 0.5 at most."""

GLARE = 40
"""Difference of grey within 3 x 3 pixels that only an edge or noise has."""
NOISY = 0.45
"""Share of such pixels from which on a frame is noise: the most crowded of the world's scenes have 0.44 at 192 x 112,
most 0.25, white noise and undecodable latents 0.5 to 1."""
BLANK = 6.0
"""Spread of a frame's values, of 255, below which it is darkness or an empty page."""

CHASE = ("runs", "chases")
"""What nobody does alone."""
ALONE = 0.02
"""Weight of a chase without a partner in it: the partner may be out of the picture."""

STILL = 0.06
"""Movement below which somebody stands still, in body sizes or as change of its picture: compression noise makes half
of it."""

INK_RIM = 0.33
"""Share of ink in the rim of a figure halfway between drawn with outlines (0.37 and more) and shaded (0.27 at most)."""
INK_WIDTH = 0.03


@dataclass(frozen=True)
class Sighting:
    """A character in one frame."""

    frame: int
    box: Box
    likeness: float
    """How much it looks like itself, 0..1."""


@dataclass(frozen=True)
class Subject:
    """A character over the frames of a clip."""

    name: str
    sightings: tuple[Sighting, ...]
    odds: Mapping[str, float]
    """How likely it does what it can do, by action (`cast.ACTIONS`); they add up to 1."""
    moves: bool
    realism: float
    """How it is drawn: 0 flat with outlines, 1 shaded and textured."""

    @property
    def action(self) -> str:
        """What it most likely does."""
        return max(self.odds, key=self.odds.__getitem__)

    @property
    def sure(self) -> float:
        """How likely the action is what it seems, 0..1."""
        return self.odds[self.action]

    @property
    def likeness(self) -> float:
        """How much it looks like itself where it is seen, 0..1."""
        return fmean(sighting.likeness for sighting in self.sightings)

    def presence(self, frames: int) -> float:
        """Share of the clip in which it is seen, as much as it looks like itself, 0..1."""
        return sum(sighting.likeness for sighting in self.sightings) / frames

    def boxes(self) -> dict[int, Box]:
        """Its boxes by frame."""
        return {sighting.frame: sighting.box for sighting in self.sightings}

    def area(self) -> float:
        """Mean area of its boxes, share of the frame."""
        return fmean((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.boxes().values())


@dataclass(frozen=True)
class View:
    """What the viewer makes of a clip."""

    frames: int
    subjects: tuple[Subject, ...]
    """From the largest to the smallest."""
    setting: str
    familiar: float
    """How much the place's colours are those of a place it knows, 0..1."""
    realism: float
    """The background's style: 0 cartoon, 1 realistic."""
    readable: bool
    """False where the frames are no pictures of anything: noise, or darkness."""

    @property
    def scene_style(self) -> Literal["cartoon", "realistic"]:
        """The background's style in a word."""
        return "realistic" if self.realism > 0.5 else "cartoon"

    def find(self, name: str) -> Subject | None:
        """A subject by its name, whatever its case."""
        return next((one for one in self.subjects if one.name.casefold() == name.casefold()), None)

    def phrase(self, subject: Subject) -> str:
        """What a subject does, in the cast's own words, with the other's name where it is done to the other."""
        others = [one.name for one in self.subjects if one.name != subject.name]
        if not subject.moves and self.frames > 1:
            return "stands still"
        if others and subject.action == "chases":
            return f"chases {others[0]} back and forth"
        if others and subject.action == "runs":
            return f"runs away from {others[0]}"
        return ACTIONS[subject.name][subject.action]

    def words(self) -> str:
        """What was seen, in a sentence."""
        if not self.readable:
            return "The frames show nothing that can be made out."
        seen = [
            f"{one.name} {self.phrase(one)} ({len(one.sightings)} of {self.frames} frames)" for one in self.subjects
        ]
        who = " and ".join(seen) if seen else "Nobody of the cast is seen"
        return f"{who}, in {self.setting}, {self.scene_style} style."


def look(frames: Sequence[np.ndarray]) -> View:
    """Looks at the frames of one clip: uint8 RGB [H, W, 3] each, of one size, in time order."""
    memory, scene = load(), scan(frames)
    readable = any(_is_picture(frame) for frame in scene.frames)
    places = memory.settings(scene)
    place = max(places, key=places.__getitem__)
    tracks = {name: track for name in LOOKS if readable and (track := _track(name, scene, memory))}
    odds = _agreed(
        {name: memory.odds(name, [figure for _, figure, _ in track], len(frames)) for name, track in tracks.items()}
    )
    subjects = [_subject(name, track, odds[name], scene, memory) for name, track in tracks.items()]
    boxes = [[one.boxes()[frame] for one in subjects if frame in one.boxes()] for frame in range(len(frames))]
    return View(
        frames=len(frames),
        subjects=tuple(sorted(subjects, key=lambda one: -one.area())),
        setting=SETTINGS[place] if places[place] >= KNOWN_PLACE else "an unknown place",
        familiar=places[place],
        realism=memory.realism(scene, boxes),
        readable=readable,
    )


def _is_picture(frame: np.ndarray) -> bool:
    return bool(np.mean(unevenness(frame) > GLARE) < NOISY and frame.std() > BLANK)


_Track = list[tuple[int, Figure, float]]
"""Frame, figure, likeness."""


def _track(name: str, scene: Scan, memory: Memory) -> _Track | None:
    """Where a character is seen over the clip; None where that is too little."""
    track = [
        (frame, figures[name], likeness)
        for frame, figures in enumerate(scene.figures)
        if name in figures and (likeness := memory.likeness(figures[name])) >= LIKE
    ]
    return track if len(track) > PRESENT * len(scene.frames) else None


def _agreed(odds: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Odds that fit together: one chases who runs, and runs from who chases; nobody does it alone."""
    agreed = {}
    for name, own in odds.items():
        chase = max(
            (sum(others.get(one, 0.0) for one in CHASE) for who, others in odds.items() if who != name), default=0.0
        )
        fitting = {action: chance * (chase + ALONE if action in CHASE else 1.0) for action, chance in own.items()}
        agreed[name] = {action: chance / sum(fitting.values()) for action, chance in fitting.items()}
    return agreed


def _subject(name: str, track: _Track, odds: dict[str, float], scene: Scan, memory: Memory) -> Subject:
    height, width = scene.frames.shape[1:3]
    sightings = []
    for frame, figure, likeness in track:
        x0, y0, x1, y1 = memory.box(figure)
        # However odd a reading is, a box holds at least the middle of what was seen.
        x, y = figure.centre
        x0, y0 = max(0.0, min(x0, x - 1)), max(0.0, min(y0, y - 1))
        x1, y1 = min(float(width), max(x1, x + 1)), min(float(height), max(y1, y + 1))
        sightings.append(Sighting(frame, (x0 / width, y0 / height, x1 / width, y1 / height), likeness))
    figures = [figure for _, figure, _ in track]
    return Subject(name, tuple(sightings), odds, _moves(figures), _realism(figures))


def _moves(track: Sequence[Figure]) -> bool:
    """Whether a figure changes its place or its picture from frame to frame."""
    size = np.median([figure.size for figure in track])
    places = np.array([figure.centre for figure in track]) / size
    pictures = np.stack([figure.cells[0] for figure in track])
    # A cell counts as much as it is part of the figure at any time.
    change = pictures.std(axis=0).sum() / max(1.0, pictures.mean(axis=0).sum())
    return bool(len(track) > 1 and max(places.std(axis=0).max(), change) > STILL)


def _realism(track: Sequence[Figure]) -> float:
    """How a figure is drawn, by the ink around it: 0 with outlines, 1 without."""
    ink = float(np.median([figure.marks[-1] for figure in track]))
    return 1 / (1 + float(np.exp(np.clip((ink - INK_RIM) / INK_WIDTH, -30, 30))))
