"""A puppet stage: points of a character, given from its own side, put on the canvas in a pose."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from mimix_ray.miniature.cast import Colour
from mimix_ray.miniature.draw import Brush, ellipse, smooth, tube
from mimix_ray.miniature.motion import Pose

Point = tuple[float, float, float]
"""To its left (the viewer's right when it faces the viewer), up from its feet, forward; shares of its height."""

HIPS = 0.3
"""Height about which a body bends."""


class Rig:
    """Paints one character: `foot` is where it stands, `height` its height, both in canvas pixels."""

    def __init__(self, brush: Brush, foot: tuple[float, float], height: float, pose: Pose) -> None:
        self.brush, self.foot, self.height, self.pose = brush, foot, height, pose
        self.sin, self.cos = math.sin(pose.yaw), math.cos(pose.yaw)
        self._pivot, self._tilt = 0j, 0.0

    def flat(self, point: Point) -> tuple[float, float]:
        """A point seen from the front: x to the viewer's right, y up. Bending moves the upper body forward."""
        side, up, forward = point
        if self.pose.bend and up > HIPS:
            # The upper body turns about the hips, the more the higher up.
            angle = self.pose.bend * min(1.0, 1.6 * (up - HIPS) / (1 - HIPS) + 0.25)
            over = up - HIPS
            up = HIPS + over * math.cos(angle) - forward * math.sin(angle)
            forward = forward * math.cos(angle) + over * math.sin(angle)
        return forward * self.sin + side * self.cos, up

    @contextmanager
    def tilted(self, pivot: Point, angle: float) -> Iterator[None]:
        """Inside it, all that is painted is turned about `pivot`, clockwise: a head on its neck."""
        self._pivot, self._tilt = complex(*self.flat(pivot)), angle
        try:
            yield
        finally:
            self._tilt = 0.0

    def depth(self, point: Point) -> float:
        """How near the viewer a point is; larger is nearer."""
        return point[2] * self.cos - point[0] * self.sin

    def canvas(self, points: Sequence[tuple[float, float]] | np.ndarray) -> np.ndarray:
        """Flat points (x right, y up, heights) -> canvas pixels [N, 2], squashed, leaned, lifted and placed."""
        place = np.ascontiguousarray(points, np.float64).view(np.complex128)[:, 0]
        if self._tilt:
            place = (place - self._pivot) * cmath.rect(1, -self._tilt) + self._pivot
        thin, tall = 1 / math.sqrt(self.pose.squash), self.pose.squash
        place = place if tall == 1.0 else thin * place.real + 1j * tall * place.imag
        place = place * cmath.rect(1, -self.pose.lean) + complex(self.pose.shift, self.pose.lift)
        place = complex(*self.foot) + self.height * place.conj()
        return place.view(np.float64).reshape(-1, 2)

    def shape(self, points: Sequence[tuple[float, float]] | np.ndarray, colour: Colour, **look: object) -> None:
        """A flat outline that always faces the viewer."""
        self.brush.paint(self.canvas(points), colour, **look)  # type: ignore[arg-type]

    def ball(self, centre: Point, rx: float, ry: float, colour: Colour, tilt: float = 0.0, **look: object) -> None:
        """An ellipsoid about a point, as wide from each side."""
        x, y = self.flat(centre)
        self.shape(ellipse(x, y, rx, ry, tilt), colour, **look)

    def spot(
        self, centre: Point, radius: float, angle: float, rx: float, ry: float, colour: Colour, **look: object
    ) -> None:
        """A mark on the outside of something round about `centre`, `angle` from its front; it turns away with it."""
        across = math.cos(self.pose.yaw + angle)
        if across < 0.2:
            return
        x, y = self.flat(centre)
        x += radius * math.sin(self.pose.yaw + angle)
        self.shape(ellipse(x, y, rx * min(1.0, across + 0.12), ry), colour, **look)

    def limb(self, joints: Sequence[Point], radii: Sequence[float], colour: Colour, **look: object) -> None:
        """A rounded tube through joints, with a radius at each."""
        self.shape(tube([self.flat(joint) for joint in joints], radii), colour, **look)

    def lathe(self, profile: Sequence[tuple[float, float]], colour: Colour, soft: bool = True, **look: object) -> None:
        """Something turned about the upright axis: (up, radius) from bottom to top."""
        spine = np.array([complex(*self.flat((0, up, 0))) for up, _ in profile])
        along = np.gradient(spine)
        across = -1j * along / np.abs(along) * [radius for _, radius in profile]
        outline = np.concatenate([spine + across, (spine - across)[::-1]]).view(np.float64).reshape(-1, 2)
        self.shape(smooth(outline) if soft else outline, colour, **look)

    def panel(
        self, profile: Sequence[tuple[float, float]], left: float, right: float, colour: Colour, **look: object
    ) -> None:
        """The part of a lathe between two angles (0 in front), as far as it is in sight: a belly, an apron, a lapel."""
        quarter = math.pi / 2 * 0.97
        turn = (self.pose.yaw + math.pi) % (2 * math.pi) - math.pi
        low, high = (min(quarter, max(-quarter, turn + angle)) for angle in (left, right))
        if high - low < 0.1:
            return
        edges = [
            [(self.flat((0, up, 0))[0] + radius * math.sin(edge), self.flat((0, up, 0))[1]) for up, radius in profile]
            for edge in (low, high)
        ]
        self.shape(smooth(edges[0] + edges[1][::-1], steps=4), colour, **look)

    def stroke(self, points: Sequence[tuple[float, float]], colour: Colour, width: float) -> None:
        """An open line of `width` units."""
        self.brush.stroke(self.canvas(points), colour, width)
