"""Weight-free video metrics, one a module, each a pure function of the frames that holds only a few at a time.

They carry their own names: none is a stand-in for a learned metric of a benchmark.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimix_ray.evaluation.metrics.flow_dynamics import flow_dynamics
from mimix_ray.evaluation.metrics.pairs import TooFewFrames
from mimix_ray.evaluation.metrics.temporal_flicker import temporal_flicker

__all__ = ["METRICS", "Metric", "TooFewFrames", "UnknownMetric", "find"]


class UnknownMetric(ValueError):
    """A metric that is not there; the message names the known and the nearest."""


@dataclass(frozen=True)
class Metric:
    """One metric: its name in tables, the version of its code, and the function."""

    name: str
    version: str
    """Goes up when the same video would get another value: every score says which code made it."""
    measure: Callable[[Iterable[np.ndarray], float], float]
    """(frames uint8 [H, W, 3] RGB one after another, frames a second) -> value; raises TooFewFrames."""

    def identity(self) -> dict[str, Any]:
        """What a score's recipe is made of."""
        return {"metric": self.name, "version": self.version}


METRICS = {
    metric.name: metric
    for metric in (Metric("temporal_flicker", "1", temporal_flicker), Metric("flow_dynamics", "1", flow_dynamics))
}


def find(name: str) -> Metric:
    """The metric of that name; raises UnknownMetric."""
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(METRICS)}"
        raise UnknownMetric(f"evaluation.metrics: unknown metric {name!r}; {hint}")
    return METRICS[name]
