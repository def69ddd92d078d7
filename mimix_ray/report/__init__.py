"""A run on one page: every stage's report, clips, composites, the loss, the videos and the scores, in one HTML file.

The page needs nothing beside itself: videos, pictures, style and script lie inside it. What a run does not have yet is
said in its place.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from mimix_ray.report import page, parts
from mimix_ray.run import Run

__all__ = ["write_report"]

NAME = "report.html"


def write_report(run: Run, served: Mapping[str, Any] | None = None) -> str:
    """Writes `<root>/report.html` and returns its address.

    Args:
        run: The run, at any stage: what is not there yet is said on the page.
        served: The video that the endpoint made: `prompt`, `seconds`, `model`, and `video`, its name under the root.
            None: nothing was served.
    """
    html = page.render(
        "report/report.html.j2",
        name=run.config.name,
        root=run.storage.uri,
        universe=run.universe,
        backbone=run.config.backbone.path,
        config_hash=hashlib.sha256(run.config.model_dump_json().encode()).hexdigest()[:12],
        date=time.strftime("%d %B %Y, %H:%M UTC", time.gmtime()).lstrip("0"),
        hues=page.hues(run.universe),
        random_weights=parts.has_random_weights(run.config.backbone.path),
        stages=[parts.stage(run, name) for name in parts.STAGES],
        clips=parts.clips(run),
        composites=parts.composites(run),
        training=parts.training(run),
        videos=parts.videos(run),
        served=parts.served(run, served),
        scores=parts.scores(run),
    )
    run.storage.write_bytes(NAME, html)
    return run.storage / NAME
