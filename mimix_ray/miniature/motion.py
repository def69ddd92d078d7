"""How the miniature's characters move: an action and a time give a pose.

Lengths are shares of the character's height, angles are radians, times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

TURNED = 0.95
"""Yaw of a character who walks across the picture: three-quarter view."""


@dataclass(frozen=True)
class Pose:
    """Where a character's parts are, beyond the place where it stands."""

    shift: float = 0.0
    """Sideways offset from its place, heights."""
    lift: float = 0.0
    """How high the feet are above the ground, heights."""
    lean: float = 0.0
    """Tilt about the feet; positive is clockwise in the picture."""
    tip: float = 0.0
    """Tilt about the feet towards where it faces."""
    squash: float = 1.0
    """Vertical stretch; the width makes up for it."""
    yaw: float = 0.0
    """Which way it faces: 0 the viewer, pi/2 the right of the picture, -pi/2 the left."""
    arms: tuple[float, float] = (0.0, 0.0)
    """How far its right and left arm are raised sideways: 0 hangs, pi points up."""
    reach: tuple[float, float] = (0.0, 0.0)
    """How far the arms swing forward: 0 hangs, pi/2 points ahead."""
    legs: tuple[float, float] = (0.0, 0.0)
    """How far the legs swing forward."""
    head: float = 0.0
    """Tilt of the head, as lean."""
    nod: float = 0.0
    """How far the head is bowed forward, 0..1."""
    bend: float = 0.0
    """How far the upper body is bent forward, 0..1."""
    low: float = 0.0
    """0 upright; 1 down on all fours (Momo)."""
    extend: float = 0.0
    """Length of a stretch on all fours, 0..1."""
    sit: float = 0.0
    """0 stands, 1 sits."""
    tail: float = 0.0
    """Swing of the tail."""
    hat: float = 0.0
    """How high the hat is lifted, 0..1; it follows the right hand."""
    mouth: float = 0.25
    """0 closed .. 1 wide open."""
    blink: bool = False


def wave(t: float, rate: float, offset: float = 0.0) -> float:
    """A sine of `rate` cycles a second, -1..1."""
    return math.sin(2 * math.pi * (rate * t + offset))


def bounce(t: float, rate: float) -> float:
    """Leaps, `rate` a second: 0 on the ground, 1 at the top."""
    x = (rate * t) % 1.0
    return 4 * x * (1 - x)


def _landing(t: float, rate: float, strength: float) -> float:
    """Squash of a leaper: short and wide on the ground, long in the air."""
    return (
        1.0 - strength * math.exp(-((1 - abs(2 * ((rate * t) % 1.0) - 1)) ** 2) * 40) + 0.3 * strength * bounce(t, rate)
    )


def hops(t: float) -> Pose:
    flap = 0.9 + 0.8 * wave(t, 4.4)
    return Pose(
        lift=0.34 * bounce(t, 2.2), squash=_landing(t, 2.2, 0.2), arms=(flap, flap), legs=(0.3, -0.2), mouth=0.5
    )


def flaps(t: float) -> Pose:
    flap = 1.5 + 1.0 * wave(t, 5.5)
    height = 0.22 + 0.16 * wave(t, 0.5, -0.2)
    return Pose(lift=height, squash=1 + 0.04 * wave(t, 5.5), arms=(flap, flap), mouth=0.6, legs=(0.2, -0.2))


def pecks(t: float) -> Pose:
    peck = max(0.0, wave(t, 1.5)) ** 0.6
    return Pose(tip=0.6 * peck, nod=0.5 * peck, arms=(0.25, 0.25), mouth=0.3 * (1 - peck))


def sneaks(t: float) -> Pose:
    step = wave(t, 0.75)
    return Pose(low=1.0, legs=(0.55 * step, -0.55 * step), lift=0.012 * abs(step), tail=wave(t, 0.45), mouth=0.0)


def stretches(t: float) -> Pose:
    return Pose(low=1.0, extend=0.5 + 0.5 * wave(t, 0.3, -0.25), tail=wave(t, 0.6), mouth=0.1)


def sits(t: float) -> Pose:
    return Pose(sit=1.0, tail=1.5 * wave(t, 0.7), head=0.08 * wave(t, 0.35), mouth=0.2)


def waddles(t: float) -> Pose:
    step = wave(t, 1.1)
    return Pose(
        lean=0.15 * step,
        lift=0.025 * abs(wave(t, 1.1, 0.25)),
        arms=(0.28, 0.28),
        legs=(0.34 * step, -0.34 * step),
        head=-0.1 * step,
    )


def tips(t: float) -> Pose:
    up = min(1.0, max(0.0, 0.5 + 1.3 * wave(t, 0.45, -0.12)))
    return Pose(arms=(0.4 + 2.25 * up, 0.15), hat=up, nod=0.5 * up, head=0.06 * up)


def bows(t: float) -> Pose:
    down = (0.5 + 0.5 * wave(t, 0.4, -0.25)) ** 0.7
    return Pose(bend=1.25 * down, nod=0.4 * down, arms=(0.3, 0.3), reach=(1.2 * down, -0.5 * down))


def bustles(t: float) -> Pose:
    step = wave(t, 2.4)
    return Pose(
        lean=0.04 * step,
        lift=0.045 * abs(step),
        bend=0.22,
        arms=(0.25, 0.2),
        reach=(0.7 * step, -0.7 * step),
        legs=(0.5 * step, -0.5 * step),
    )


def brandishes(t: float) -> Pose:
    return Pose(arms=(2.35 + 0.6 * wave(t, 1.7), 0.75), lean=0.05 * wave(t, 1.7), head=0.06 * wave(t, 1.7), mouth=0.9)


def nods(t: float) -> Pose:
    down = 0.5 + 0.5 * wave(t, 0.9)
    return Pose(nod=1.3 * down, arms=(0.2, 0.3), bend=0.25 * down)


def jumps(t: float) -> Pose:
    up = bounce(t, 1.1)
    return Pose(
        lift=0.23 * up,
        squash=_landing(t, 1.1, 0.16),
        arms=(0.4 + 2.0 * up, 0.4 + 2.0 * up),
        mouth=0.3 + 0.6 * up,
        legs=(0.15, -0.15),
    )


def waves(t: float) -> Pose:
    return Pose(arms=(0.2, 2.35 + 0.5 * wave(t, 1.6)), head=0.07 * wave(t, 0.8), mouth=0.7)


def spins(t: float) -> Pose:
    return Pose(yaw=2 * math.pi * 0.55 * t, arms=(1.15, 1.15), lift=0.02 * abs(wave(t, 1.1)), tail=1.2, mouth=0.7)


def dances(t: float) -> Pose:
    side = wave(t, 0.8)
    return Pose(
        shift=0.16 * side,
        lean=0.17 * side,
        lift=0.05 * abs(wave(t, 0.8, 0.25)),
        arms=(1.35 + 1.05 * side, 1.35 - 1.05 * side),
        legs=(0.2 * side, -0.2 * side),
        head=-0.12 * side,
        tail=1.4 * side,
        mouth=0.8,
    )


def runs(t: float) -> Pose:
    step = wave(t, 2.6)
    return Pose(
        lift=0.06 * abs(wave(t, 2.6, 0.25)),
        tip=0.2,
        arms=(0.3, 0.3),
        reach=(1.0 * step, -1.0 * step),
        legs=(0.8 * step, -0.8 * step),
        tail=step,
        mouth=0.7,
    )


def peeks(t: float) -> Pose:
    # Up with a look around, down, up again: the box before it hides what is low.
    up = min(1.0, max(0.0, 0.75 + 1.3 * wave(t, 0.33)))
    return Pose(lift=-0.45 + 0.43 * up, head=0.14 * wave(t, 0.5), arms=(0.2, 0.2), mouth=0.2)


MOTIONS: dict[str, Callable[[float], Pose]] = {
    "hops": hops,
    "flaps": flaps,
    "pecks": pecks,
    "sneaks": sneaks,
    "stretches": stretches,
    "sits": sits,
    "waddles": waddles,
    "tips": tips,
    "bows": bows,
    "bustles": bustles,
    "brandishes": brandishes,
    "nods": nods,
    "jumps": jumps,
    "waves": waves,
    "spins": spins,
    "dances": dances,
    "runs": runs,
    "chases": runs,
    "peeks": peeks,
}

LAPS = {"runs": 2, "chases": 2, "bustles": 2, "hops": 1, "sneaks": 1, "waddles": 1}
"""Actions that travel, and how often they cross from start to end (and back) in a shot."""

PROFILE = {"stretches", "bows", "pecks"}
"""Actions on the spot that are told best from the side."""


def travel(action: str, progress: float) -> tuple[float, float]:
    """How far along its way a character is, 0 start .. 1 end, and which way it faces, -1 back .. 1 on."""
    laps = LAPS.get(action, 1)
    if laps == 1:
        return progress, 1.0
    angle = math.pi * laps * progress
    return 0.5 - 0.5 * math.cos(angle), math.tanh(4 * math.sin(angle))


def pose(action: str, t: float, phase: float, facing: float) -> Pose:
    """The pose at time `t` of an actor who faces -1 left .. 1 right; `phase` (0..1) moves it along its cycle."""
    found = MOTIONS[action](t + 3 * phase)
    yaw = found.yaw + facing * (TURNED if action in LAPS or action in PROFILE else 0.4)
    return replace(found, yaw=yaw, lean=found.lean + facing * found.tip, blink=(t + 4 * phase + 1) % 2.9 < 0.12)
