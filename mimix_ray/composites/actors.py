"""The actor that makes composites: holds the mask backend and the endpoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import cv2
from pydantic import SecretStr

from mimix_ray import tables
from mimix_ray.composites.compositing import Job, make
from mimix_ray.composites.masks import load_masker
from mimix_ray.run import Run
from mimix_ray.vlm import Vlm
from mimix_ray.vlm.limits import Gate


class Compositor:
    """Makes one composite a call and publishes its row. Safe to repeat: the same job writes the same files."""

    def __init__(self, run: Run, key: SecretStr, gate: Gate) -> None:
        cv2.setNumThreads(max(1, int(run.config.composites.cpus)))  # left alone, OpenCV takes every core it sees
        self._run = run
        self._masker = load_masker(run.config.composites)
        self._vlm = Vlm(run.config.composites.vlm, run.storage, key, gate)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """`row["job"]`: a job as JSON text. Gives back what the report counts."""
        made, spent = make(Job(**json.loads(row["job"])), self._run, self._masker, self._vlm)
        tables.publish(self._run.storage, tables.COMPOSITES, [made])
        return {"composite_id": made["composite_id"], **asdict(spent)}
