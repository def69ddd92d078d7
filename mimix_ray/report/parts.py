"""What each part of the page shows, read from a run's tables: plain data for the template.

A part that is not there is a `Missing`, whose text the page shows instead.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mimix_ray import tables
from mimix_ray.prompts import PromptError, parse
from mimix_ray.report.curve import Curve, curve
from mimix_ray.report.media import Player, player
from mimix_ray.run import Run
from mimix_ray.storage import StorageError
from mimix_ray.tables import TableError

T = TypeVar("T")

STAGES = ("clips", "captions", "composites", "latents", "training", "generation", "evaluation")
CLIPS, COMPOSITES, VIDEOS = 12, 4, 24
"""Most of each that the page shows: it must open on a phone."""


@dataclass(frozen=True)
class Missing:
    """A part that the run does not have, and why."""

    missing: str


@dataclass(frozen=True)
class Told:
    """A caption or prompt as the page sets it."""

    characters: Sequence[Mapping[str, str]]
    """`name`, `action`."""
    setting: str | None
    scene_style: str | None
    text: str
    """What to show when there are no characters."""


@dataclass(frozen=True)
class Shown:
    """Some of a table's rows; `total` is how many there are."""

    items: list[dict[str, Any]]
    total: int


def has_random_weights(path: str) -> bool:
    """Whether the base model says of itself (in `model_card.json`) that it has learned nothing."""
    try:
        return json.loads(Path(path, "model_card.json").read_text()).get("random_weights") is True
    except (OSError, ValueError):
        return False


def stage(run: Run, name: str) -> dict[str, Any]:
    """A stage's report; only its `stage` when it has not run."""
    try:
        report = run.storage.read_json(f"reports/{name}.json")
    except StorageError:
        return {"stage": name}
    return {**report, "more": json.dumps(report["extra"], indent=2, ensure_ascii=False) if report["extra"] else ""}


def clips(run: Run) -> Shown | Missing:
    """Captioned clips from all over the footage; those in which nobody acts stay away."""
    try:
        found = {row["clip_id"]: row for row in tables.read(run.storage, tables.CLIPS)}
        captions = [row for row in tables.read(run.storage, tables.CAPTIONS) if row["clip_id"] in found]
    except (TableError, StorageError) as error:
        return Missing(str(error))
    acted = [row for row in captions if row["characters"]]
    items = [
        {"id": row["clip_id"], "player": _play(run, found[row["clip_id"]], row["clip_id"]), "told": _told(row)}
        for row in spread(acted, CLIPS)
    ]
    return Shown(items, len(captions)) if items else Missing("No clip has a caption with characters.")


def composites(run: Run) -> Shown | Missing:
    """Composites beside what they are made of."""
    try:
        rows = tables.read(run.storage, tables.COMPOSITES)
        found = {row["clip_id"]: row for row in tables.read(run.storage, tables.CLIPS)}
    except (TableError, StorageError) as error:
        return Missing(str(error))

    def source(clip_id: str, label: str) -> Player:
        return _play(run, found.get(clip_id, {}), f"{label}: {clip_id}")

    items = [
        {
            "id": row["composite_id"],
            "character": row["character"],
            "told": _told(row),
            "steps": [
                ("Subject", row["subject_clip"], source(row["subject_clip"], "subject")),
                (
                    "Its mask",
                    f"by {row['masks']}",
                    _play(run, {"video": row["mask_video"]}, f"mask of {row['character']}"),
                ),
                ("Background", row["background_clip"], source(row["background_clip"], "background")),
                ("Composite", row["composite_id"], _play(run, row, row["composite_id"])),
            ],
        }
        for row in spread(rows, COMPOSITES)
    ]
    return Shown(items, len(rows)) if items else Missing("No composite was made.")


def training(run: Run) -> Curve | Missing:
    """The loss over the steps."""
    try:
        return curve(run.storage.read_json("training/losses.json"))
    except (StorageError, ValueError) as error:
        return Missing(str(error))


def videos(run: Run) -> Shown | Missing:
    """The generated videos and their prompts."""
    try:
        rows = tables.read(run.storage, tables.GENERATIONS, status=None)
    except (TableError, StorageError) as error:
        return Missing(str(error))
    items = [
        {
            "id": row["generation_id"],
            "told": _told({**row, "text": row["prompt"]}),
            "seconds": row["seconds"],
            "adapter": row["adapter"],
            "error": row["error"],
            "player": _play(run, row, row["generation_id"]) if row["status"] == "ok" else None,
        }
        for row in spread(rows, VIDEOS)
    ]
    return Shown(items, len(rows)) if items else Missing("There was no prompt.")


def served(run: Run, answer: Mapping[str, Any] | None) -> dict[str, Any] | Missing:
    """The video that the endpoint made."""
    if answer is None:
        return Missing("No video was asked of the endpoint.")
    try:
        caption = parse(answer["prompt"])
        told = Told(caption.rows(), caption.setting, caption.scene_style, answer["prompt"])
    except PromptError:
        told = Told((), None, None, answer["prompt"])
    return {**answer, "told": told, "player": _play(run, answer, "the served video")}


def scores(run: Run) -> dict[str, Any] | Missing:
    """Means over prompts of one and of several characters, and every video's own scores."""
    try:
        rows = tables.read(run.storage, tables.SCORES, status=None)
    except (TableError, StorageError) as error:
        return Missing(str(error))
    of: dict[str, dict[str, tables.Row]] = {}
    for row in rows:
        of.setdefault(row["generation_id"], {})[row["metric"]] = row
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    matrix = stage(run, "evaluation").get("extra", {}).get("matrix", {})
    judges = sorted({row["judge"] for row in rows if row["rubric_hash"]})
    return {"metrics": metrics, "matrix": matrix, "videos": of, "judges": judges}


def spread(rows: Sequence[T], count: int) -> list[T]:
    """At most `count` of the rows, evenly from first to last: tables are in order of show and episode."""
    count = min(count, len(rows))
    return [rows[int((place + 0.5) * len(rows) / count)] for place in range(count)]


def _told(row: Mapping[str, Any]) -> Told:
    return Told(row["characters"] or (), row.get("setting"), row["scene_style"], row["text"] or "")


def _play(run: Run, row: Mapping[str, Any], label: str) -> Player:
    """A row's video; rows that do not say how long theirs is are of clips."""
    frames, fps = row.get("frames") or run.config.clips.frames, row.get("fps") or run.config.clips.fps
    return player(run.storage, row.get("video"), label, frames, fps)
