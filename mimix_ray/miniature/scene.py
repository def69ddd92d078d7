"""What places are laid out on: a grid of 384 x 224 units, x right and y down, whatever the size asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from mimix_ray.miniature.cast import Colour
from mimix_ray.miniature.draw import Brush, ellipse

Points = Sequence[tuple[float, float]]


class Scene:
    """A brush on the 384 x 224 grid."""

    def __init__(self, brush: Brush, rng: random.Random) -> None:
        self.brush, self.rng = brush, rng

    def poly(self, points: Points | np.ndarray, colour: Colour, surface: str = "skin", shade: float = 0.0) -> None:
        """A filled outline."""
        outline = np.asarray(points, np.float64) * self.brush.unit
        self.brush.paint(outline, colour, surface=surface, line=0, shade=shade)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, colour: Colour, surface: str = "skin", shade: float = 0.0
    ) -> None:
        """An upright rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, surface, shade)

    def oval(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, surface: str = "skin", shade: float = 0.0
    ) -> None:
        """An upright ellipse."""
        self.poly(ellipse(x, y, rx, ry), colour, surface, shade)

    def line(self, points: Points, colour: Colour, width: float = 1.0) -> None:
        """An open line."""
        self.brush.stroke(np.asarray(points, np.float64) * self.brush.unit, colour, width)

    def gradient(self, y0: float, y1: float, top: Colour, bottom: Colour) -> None:
        """Full-width rows from one colour to another."""
        rows = slice(round(y0 * self.brush.unit), round(y1 * self.brush.unit))
        height = rows.stop - rows.start
        blend = np.linspace(0, 1, height)[:, None, None]
        self.brush.picture[rows] = np.asarray(top) * (1 - blend) + np.asarray(bottom) * blend

    def cloud(self, x: float, y: float, size: float, colour: Colour) -> None:
        """A heap of four ovals."""
        for dx, dy, r in ((-1.1, 0.2, 0.6), (-0.35, -0.2, 0.8), (0.5, 0.0, 0.7), (1.2, 0.25, 0.5)):
            self.oval(x + dx * size, y + dy * size, r * size * 1.1, r * size * 0.8, colour)

    def boards(
        self, y0: float, colours: Sequence[Colour], seam: Colour, count: int = 14, surface: str = "wood"
    ) -> None:
        """A floor of boards that run towards the horizon."""
        far, near = np.linspace(-60, 444, count + 1), np.linspace(-330, 714, count + 1)
        for i in range(count):
            corners = [(far[i], y0), (far[i + 1], y0), (near[i + 1], 224), (near[i], 224)]
            self.poly(corners, colours[i % len(colours)], surface, 0.25)
        for i in range(count + 1):
            self.line([(far[i], y0), (near[i], 224)], seam, 0.6)

    def tiles(self, y0: float, colours: Sequence[Colour], columns: int = 12, rows: int = 5) -> None:
        """A chequered floor in perspective."""
        depth = y0 + (224 - y0) * (np.linspace(0, 1, rows + 1) ** 1.7)
        for row in range(rows):
            reach = [1 + 1.1 * (depth[row + i] - y0) / (224 - y0) for i in (0, 1)]
            for column in range(columns):
                edges = [(column + i) / columns - 0.5 for i in (0, 1)]
                corners = [
                    (192 + 460 * edges[i] * reach[j], depth[row + j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))
                ]
                self.poly(corners, colours[(row + column) % len(colours)])


def darker(colour: Colour, share: float) -> Colour:
    """A colour at `share` of its light."""
    red, green, blue = (min(255, int(part * share)) for part in colour)
    return red, green, blue
