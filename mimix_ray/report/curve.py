"""The loss curve as points of a drawing, so that the page can set it in its own colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 260
"""Of the plotting area, in the drawing's own units."""


@dataclass(frozen=True)
class Curve:
    """Loss over steps, scaled to WIDTH x HEIGHT; y grows downwards."""

    raw: str
    """Points of the measured loss, for an SVG polyline."""
    smooth: str
    """The same, averaged over neighbours."""
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    first: float
    """Smoothed loss at the first step."""
    last: float
    steps: int
    learning_rate: float | None
    """Highest."""
    width: int = WIDTH
    height: int = HEIGHT


def curve(losses: Sequence[Mapping[str, float]]) -> Curve:
    """The drawing of `[{step, loss, lr, ...}]`; raises ValueError when no loss is a finite number."""
    kept = sorted((row for row in losses if math.isfinite(row["loss"])), key=lambda row: row["step"])
    if not kept:
        raise ValueError(f"none of {len(losses)} steps has a finite loss")
    steps = [row["step"] for row in kept]
    raw = [row["loss"] for row in kept]
    smooth = moving_average(raw, window=max(1, len(raw) // 10))
    y_ticks = nice_ticks(min(raw), max(raw))
    low, high = min(y_ticks[0], min(raw)), max(y_ticks[-1], max(raw))
    span_x = max(steps[-1] - steps[0], 1)

    def x(step: float) -> float:
        return round((step - steps[0]) / span_x * WIDTH, 1)

    def y(loss: float) -> float:
        return round((high - loss) / ((high - low) or 1) * HEIGHT, 1)

    def points(values: Sequence[float]) -> str:
        return " ".join(f"{x(step)},{y(value)}" for step, value in zip(steps, values, strict=True))

    rates = [row["lr"] for row in kept if row.get("lr") is not None]
    return Curve(
        raw=points(raw),
        smooth=points(smooth),
        x_ticks=[(x(tick), f"{tick:g}") for tick in nice_ticks(steps[0], steps[-1]) if steps[0] <= tick <= steps[-1]],
        y_ticks=[(y(tick), f"{tick:g}") for tick in y_ticks],
        first=smooth[0],
        last=smooth[-1],
        steps=len(steps),
        learning_rate=max(rates, default=None),
    )


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to `window` values on each side."""
    around = [values[max(0, place - window) : place + window + 1] for place in range(len(values))]
    return [sum(part) / len(part) for part in around]


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that cover low..high."""
    rough = (high - low) / count or abs(high) / count or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    ticks = range(math.floor(low / step), math.ceil(high / step) + 1)
    return [round(tick * step, 12) for tick in ticks]
