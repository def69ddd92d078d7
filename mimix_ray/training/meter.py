"""How fast a worker trains, and on what: the numbers of a step's record that are not about the loss."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from mimix_ray.training.budget import GPUS


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s of a device by its maker's sheet; None for one that is not in `budget.GPUS`, or a CPU."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((gpu.flops for gpu in GPUS.values() if gpu.device in name), None)


class Meter:
    """Times the steps of one worker."""

    def __init__(
        self,
        tokens: Callable[[tuple[int, ...]], int],
        flops: Callable[[tuple[int, ...]], float],
        peak: float | None,
        device: torch.device,
    ) -> None:
        """
        Args:
            tokens: Of a sample, by its latent's shape.
            flops: Of one training pass of a sample, by its latent's shape (`DiTSize.training_flops`).
            peak: FLOP/s that all workers' devices could make together; None where that is not known.
        """
        self.tokens, self.flops, self.peak, self.device = tokens, flops, peak, device
        self._began = self._waited = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._began, self._waited = time.perf_counter(), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens inside is waiting for data."""
        asked = time.perf_counter()
        yield
        self._waited += time.perf_counter() - asked

    def end(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        """The step's numbers.

        Args:
            shapes: Of the latents of the whole batch.

        Returns:
            seconds; data_wait, seconds of them, this worker's; samples_per_s and tokens_per_s over all workers;
            mfu, share of the peak, or None; memory_gb, the most that this worker ever held (GPU, else process), 1e9 B.
        """
        seconds = time.perf_counter() - self._began
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.device)
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "seconds": round(seconds, 4),
            "data_wait": round(self._waited, 4),
            "samples_per_s": len(shapes) / seconds,
            "tokens_per_s": sum(map(self.tokens, shapes)) / seconds,
            "mfu": sum(map(self.flops, shapes)) / seconds / self.peak if self.peak else None,
            "memory_gb": round(memory / 1e9, 3),
        }
