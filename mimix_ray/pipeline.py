"""The method from end to end: every stage in the paper's order, each through the `run` that its own job calls."""

from __future__ import annotations

from mimix_ray.captions import stage as captions
from mimix_ray.clips import stage as clips
from mimix_ray.composites import stage as composites
from mimix_ray.evaluation import stage as evaluation
from mimix_ray.generation import stage as generation
from mimix_ray.latents import stage as latents
from mimix_ray.run import Run, StageReport
from mimix_ray.training import stage as training

LEARN = (clips, captions, composites, latents, training)
"""Footage to adapter."""
JUDGE = (generation, evaluation)
"""Adapter to scores."""


def run(run: Run) -> list[StageReport]:
    """Runs all stages, printing each report as its stage ends; what an earlier run finished is kept."""
    reports = []
    for stage in (*LEARN, *JUDGE):
        reports.append(stage.run(run))
        print(reports[-1], flush=True)
    return reports
