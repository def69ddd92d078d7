"""Brushes and shapes: how the miniature paints, flat with outlines or shaded with texture.

A brush paints closed outlines onto a supersampled RGB picture and keeps the coverage of what it painted. Outlines are
float arrays [N, 2] of canvas pixels (x right, y down).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from mimix_ray.miniature.cast import INK, Colour

SUBPIXEL = 4
"""Fractional bits of the coordinates given to OpenCV."""


def smooth(points: Sequence[tuple[float, float]] | np.ndarray, closed: bool = True, steps: int = 6) -> np.ndarray:
    """A Catmull-Rom curve through points [N, D] -> [about N * steps, D]."""
    knots = np.asarray(points, np.float64)
    before, after = (knots[-1:], knots[:2]) if closed else (knots[:1], knots[-1:])
    padded = np.concatenate([before, knots, after if closed else np.concatenate([after, after])])
    count = len(knots) if closed else len(knots) - 1
    p0, p1, p2, p3 = (padded[i : i + count, None] for i in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve = curve.reshape(-1, knots.shape[1])
    return curve if closed else np.concatenate([curve, knots[-1:]])


CIRCLE = np.exp(2j * math.pi * np.arange(32) / 32)
HALF = np.exp(1j * math.pi * (np.arange(1, 8) / 8 - 0.5))


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> np.ndarray:
    """The outline of an ellipse [32, 2]; `tilt` in radians, from x towards y."""
    around = (rx * CIRCLE.real + 1j * ry * CIRCLE.imag) * complex(math.cos(tilt), math.sin(tilt)) + complex(x, y)
    return around.view(np.float64).reshape(-1, 2)


def tube(path: Sequence[tuple[float, float]] | np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """The outline of a limb: a curve through `path` [N, 2] with a radius at each of its knots and round ends."""
    knots = np.column_stack(
        [np.asarray(path, np.float64), np.interp(np.linspace(0, 1, len(path)), np.linspace(0, 1, len(radii)), radii)]
    )
    spine = smooth(knots, closed=False) if len(knots) > 2 else knots
    centre, radius = spine[:, 0] + 1j * spine[:, 1], spine[:, 2]
    along = np.gradient(centre)
    along /= np.maximum(np.abs(along), 1e-9)
    # Round ends: half circles that go on from one side to the other.
    end = centre[-1] + radius[-1] * along[-1] * HALF
    start = centre[0] - radius[0] * along[0] * HALF
    outline = np.concatenate([centre - 1j * along * radius, end, (centre + 1j * along * radius)[::-1], start])
    return outline.view(np.float64).reshape(-1, 2)


def texture(surface: str, x: int, y: int, width: int, height: int) -> np.ndarray:
    """A piece of the structure of a surface, uint8 [height, width] about 128: `tweed`, `knit`, `wood`, `film` ..."""
    tile = _tile(surface)
    x, y = x % 512, y % 512
    if max(x + width, y + height) > len(tile):
        tile = np.tile(tile, (1 + (y + height) // len(tile), 1 + (x + width) // len(tile)))
    return tile[y : y + height, x : x + width]


@lru_cache(maxsize=8)
def _tile(surface: str, size: int = 1024) -> np.ndarray:
    rng = np.random.default_rng(sum(map(ord, surface)))
    noise = rng.standard_normal((size, size)).astype(np.float32)
    row, column = np.mgrid[:size, :size].astype(np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), 1.0) * 3.5
    if surface == "tweed":
        found = 6 * np.sign(np.sin((row + column) * 0.8)) * np.sign(np.sin((row - column) * 0.8)) + 5 * fine
    elif surface == "knit":
        found = 8 * np.sin(row * 0.9 + 1.2 * np.sin(column * 0.9)) + 4 * fine
    elif surface == "wood":
        long = cv2.GaussianBlur(noise, (0, 0), sigmaX=28, sigmaY=1.1) * 20
        found = 6 * long + 2 * fine
    elif surface == "wall":
        found = 2.5 * fine + 3 * cv2.GaussianBlur(noise, (0, 0), 20) * 60
    else:
        found = {"skin": 1.5, "rough": 5.0, "film": 2.6}[surface] * fine
    return np.clip(128 + found, 0, 255).astype(np.uint8)


class Brush:
    """Paints outlines onto `picture` (uint8 RGB [H, W, 3], changed in place).

    `cover` (uint8 [H, W], 0..255, or None: not asked for) gathers what is painted. `unit` is the length in canvas
    pixels of one pixel of a 384x224 picture, so that lines keep their weight at every size.
    """

    def __init__(self, picture: np.ndarray, unit: float, cover: np.ndarray | None = None) -> None:
        self.picture, self.cover = picture, cover
        self.unit = unit

    def paint(
        self, outline: np.ndarray, colour: Colour, surface: str = "skin", line: float = 1.0, shade: float = 1.0
    ) -> None:
        """Fills an outline. `line` scales the outline's weight, `shade` the strength of light and dark on it."""
        raise NotImplementedError

    def stroke(self, path: np.ndarray, colour: Colour, width: float) -> None:
        """An open line [N, 2] of `width` units; it counts as painted."""
        fixed = [_fixed(path)]
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.picture, fixed, False, colour, thickness, cv2.LINE_AA, SUBPIXEL)
        if self.cover is not None:
            cv2.polylines(self.cover, fixed, False, 255, thickness, cv2.LINE_AA, SUBPIXEL)

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: float = 1.0) -> None:
        """Darkens the ground around (x, y), canvas pixels."""
        raise NotImplementedError


class FlatBrush(Brush):
    """Cartoon: flat paint, one step of shade on the side away from the light, a black outline."""

    def paint(
        self, outline: np.ndarray, colour: Colour, surface: str = "skin", line: float = 1.0, shade: float = 1.0
    ) -> None:
        fixed = [_fixed(outline)]
        weight = max(1, round(line * 1.9 * self.unit))
        cv2.fillPoly(self.picture, fixed, colour, cv2.LINE_AA, SUBPIXEL)
        if shade > 0:
            self._shade(outline, colour, shade)
        if line > 0:
            cv2.polylines(self.picture, fixed, True, INK, weight, cv2.LINE_AA, SUBPIXEL)
        if self.cover is not None:
            cv2.fillPoly(self.cover, fixed, 255, cv2.LINE_AA, SUBPIXEL)
            if line > 0:
                cv2.polylines(self.cover, fixed, True, 255, weight, cv2.LINE_AA, SUBPIXEL)

    def _shade(self, outline: np.ndarray, colour: Colour, shade: float) -> None:
        """A darker crescent at the lower right: what the outline does not share with itself, moved up and left."""
        found = _window(outline, self.picture.shape, 1)
        if found is None:
            return
        x0, y0, x1, y1 = found
        size = np.ptp(outline, axis=0)
        inside = _mask(outline, found)
        lit = _mask(outline - np.array([0.16, 0.13]) * size.min(), found)
        crescent = cv2.subtract(inside, lit)
        _blend(self.picture[y0:y1, x0:x1], crescent, tuple(int(c * (1 - 0.17 * shade)) for c in colour))

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: float = 1.0) -> None:
        outline = ellipse(x, y, rx, ry)
        found = _window(outline, self.picture.shape, 1)
        if found is not None:
            _darken(self.picture, found, _mask(outline, found), 0.30 * strength)


class ShadedBrush(Brush):
    """Realistic: every shape bulges in the light of the upper left and carries the structure of its surface."""

    LIGHT = (-0.62, -0.78)

    def paint(
        self, outline: np.ndarray, colour: Colour, surface: str = "skin", line: float = 1.0, shade: float = 1.0
    ) -> None:
        small = float(np.ptp(outline, axis=0).min())
        found = _window(outline, self.picture.shape, 2)
        if found is None:
            return
        x0, y0, x1, y1 = found
        mask = _mask(outline, found)
        light = np.full_like(mask, 128)
        if small > 6 * self.unit and min(mask.shape) > 1:
            cv2.resize(self._light(mask, small, shade), (x1 - x0, y1 - y0), dst=light)
        # The structure hangs on the shape's first point, so that it moves along with it.
        grain = texture(surface, int(outline[0, 0]), int(outline[0, 1]), x1 - x0, y1 - y0)
        light = cv2.addWeighted(light, 1.0, grain, shade, -128 * shade)
        _mix(self.picture[y0:y1, x0:x1], mask, cv2.LUT(cv2.merge([light] * 3), _ramp(colour)))
        if self.cover is not None:
            cover = self.cover[y0:y1, x0:x1]
            np.maximum(cover, mask, out=cover)

    def _light(self, mask: np.ndarray, small: float, shade: float) -> np.ndarray:
        """How bright a bulging shape is, uint8 about 128, at half the mask's size.

        A blurred mask is a cushion: its slope is the surface's, so slope times light is how bright it is.
        """
        half = cv2.resize(mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        width = max(3, int(small * 0.25) | 1)
        half = cv2.copyMakeBorder(half, width, width, width, width, cv2.BORDER_CONSTANT, value=0)
        cushion = cv2.blur(cv2.blur(half.astype(np.float32), (width, width)), (width, width))
        step = max(1, width // 4)
        gain = width / (2 * step)
        slope_x = _crop(cushion, width, step, 0) - _crop(cushion, width, -step, 0)
        slope_y = _crop(cushion, width, 0, step) - _crop(cushion, width, 0, -step)
        bulge = cv2.addWeighted(slope_x, gain * self.LIGHT[0], slope_y, gain * self.LIGHT[1], 0)
        value = cv2.addWeighted(bulge, -0.21 * shade, _crop(cushion, width, 0, 0), 0.17 * shade, 128 - 31 * shade)
        return np.clip(value, 30, 180).astype(np.uint8)

    def shadow(self, x: float, y: float, rx: float, ry: float, strength: float = 1.0) -> None:
        # A wide soft shadow away from the light and a tight dark one where the feet touch.
        _soft_shadow(self.picture, x + rx * 0.45, y + ry * 0.2, rx * 2.0, ry * 2.6, 0.5 * strength)
        _soft_shadow(self.picture, x, y, rx * 1.1, ry * 1.0, 0.6 * strength)


BRUSHES: dict[str, type[Brush]] = {"cartoon": FlatBrush, "realistic": ShadedBrush}


def _fixed(outline: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(outline) * (1 << SUBPIXEL)).astype(np.int32)


def _window(outline: np.ndarray, shape: tuple[int, ...], pad: int) -> tuple[int, int, int, int] | None:
    """The part of the canvas that an outline touches, x0, y0, x1, y1; None when it lies outside."""
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    x0, y0 = max(0, int(left) - pad), max(0, int(top) - pad)
    x1, y1 = min(shape[1], int(right) + 2 + pad), min(shape[0], int(bottom) + 2 + pad)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _mask(outline: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Coverage of an outline within a window, uint8, antialiased."""
    x0, y0, x1, y1 = window
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [_fixed(outline - (x0, y0))], 255, cv2.LINE_AA, SUBPIXEL)
    return mask


def _blend(target: np.ndarray, mask: np.ndarray, colour: Sequence[float]) -> None:
    paint = np.empty_like(target)
    paint[:] = np.asarray(colour, np.float32).clip(0, 255).astype(np.uint8)
    _mix(target, mask, paint)


def _mix(target: np.ndarray, mask: np.ndarray, paint: np.ndarray) -> None:
    """target = target + mask * (paint - target), in place; all uint8."""
    weight = cv2.merge([mask, mask, mask])
    over = cv2.multiply(paint, weight, scale=1 / 255)
    under = cv2.multiply(target, cv2.bitwise_not(weight), scale=1 / 255)
    cv2.add(over, under, dst=target)


def _darken(picture: np.ndarray, window: tuple[int, int, int, int], mask: np.ndarray, strength: float) -> None:
    x0, y0, x1, y1 = window
    keep = cv2.bitwise_not(cv2.convertScaleAbs(mask, alpha=max(0.0, min(1.0, strength))))
    area = picture[y0:y1, x0:x1]
    cv2.multiply(area, cv2.merge([keep, keep, keep]), dst=area, scale=1 / 255)


def _soft_shadow(picture: np.ndarray, x: float, y: float, rx: float, ry: float, strength: float) -> None:
    found = _window(np.array([[x - rx, y - ry], [x + rx, y + ry]]), picture.shape, 0)
    if found is None or min(rx, ry) < 1:
        return
    x0, y0, x1, y1 = found
    place = np.array([[rx / 32, 0, x - rx - x0], [0, ry / 32, y - ry - y0]])
    mask = cv2.warpAffine(_soft_disc(), place, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    _darken(picture, found, mask, strength)


@lru_cache(maxsize=1)
def _soft_disc() -> np.ndarray:
    """A disc that fades towards its edge, uint8 [65, 65]."""
    y, x = np.mgrid[-32:33, -32:33] / 32.0
    inside = np.clip(1 - np.hypot(x, y), 0, 1)
    return (255 * inside * inside * (3 - 2 * inside)).astype(np.uint8)


@lru_cache(maxsize=256)
def _ramp(colour: Colour) -> np.ndarray:
    """A colour in each light, uint8 [1, 256, 3]: itself at 128, darker towards 0, with a pale sheen above."""
    light = np.arange(256, dtype=np.float32)[:, None] / 128
    sheen = np.maximum(light - 1.06, 0) * 110
    return np.clip(light * np.asarray(colour, np.float32) + sheen, 0, 255).astype(np.uint8)[None]


def _crop(padded: np.ndarray, pad: int, dx: int, dy: int) -> np.ndarray:
    """A padded map without its padding, read (dx, dy) pixels further on."""
    height, width = padded.shape[0] - 2 * pad, padded.shape[1] - 2 * pad
    return padded[pad + dy : pad + dy + height, pad + dx : pad + dx + width]
