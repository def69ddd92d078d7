"""How good a subject's masks are, and what makes them useless."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mimix_ray.config import CompositesConfig

MAX_FLICKER = 0.5
"""Above this, neighbouring masks have so little in common that the cut-out jumps about; quick hops reach 0.3."""
MIN_SEEN = 0.5
"""Share of the frames in which the subject must be found: a character that is gone acts no more."""


@dataclass(frozen=True)
class MaskQuality:
    """Measures of a clip's masks."""

    area: float
    """Mean area where the subject is seen, share of the frame."""
    flicker: float
    """1 - mean IoU of neighbouring masks; 0 is steady."""
    seen: float
    """Share of the frames that have a mask at all."""


def measure(masks: np.ndarray) -> MaskQuality:
    """Measures masks, bool [F, H, W]."""
    areas = masks.mean(axis=(1, 2))
    both = (masks[1:] & masks[:-1]).sum(axis=(1, 2))
    either = (masks[1:] | masks[:-1]).sum(axis=(1, 2))
    steady = both[either > 0] / either[either > 0]
    return MaskQuality(
        area=float(areas[areas > 0].mean()) if areas.any() else 0.0,
        flicker=1 - float(steady.mean()) if steady.size else 0.0,
        seen=float((areas > 0).mean()),
    )


def objection(quality: MaskQuality, config: CompositesConfig) -> tuple[str, str] | None:
    """Why masks cannot be used, as error code and words; None when they can."""
    if quality.seen < MIN_SEEN:
        return "subject_lost", f"found in {quality.seen:.0%} of the frames only"
    if quality.area < config.min_area:
        return "mask_too_small", f"{quality.area:.2%} of the frame, less than composites.min_area {config.min_area:.2%}"
    if quality.area > config.max_area:
        return "mask_too_large", f"{quality.area:.0%} of the frame, more than composites.max_area {config.max_area:.0%}"
    if quality.flicker > MAX_FLICKER:
        return "mask_flickers", f"neighbouring masks share {1 - quality.flicker:.0%} of their area only"
    return None
