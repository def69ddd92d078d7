"""Stage `clips`: every episode of the universe to clips of exactly 81 frames at 16 fps (paper 3.3)."""

from __future__ import annotations

import time
from collections import defaultdict
from functools import partial
from typing import Any

import ray.data

from mimix_ray import tables
from mimix_ray.clips import detectors
from mimix_ray.clips.report import SHEET, contact_sheet_of, yields
from mimix_ray.clips.rows import VIDEOS, clip_rows, recipe
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.storage import Storage
from mimix_ray.universe import Episode


def run(run: Run) -> StageReport:
    """Cuts the episodes that are not cut yet. One episode is one task: it reads its file once, puts its clips on
    storage and then publishes all its rows as one part, its manifest; a task that dies is repeated whole.

    Raises:
        ConfigError: The detector needs a package that is not installed.
        StageError: The universe's patterns find no episode.
    """
    config, storage = run.config, run.storage
    detectors.check(config.clips.detector)
    episodes = run.universe.episodes(storage.uri, config.storage)
    if not episodes:
        patterns = ", ".join(show.episodes.videos for show in run.universe.shows)
        raise StageError(f"clips: no video matches {patterns}; put footage there or correct {config.universe}")
    report = StageReport("clips", rows_in=len(episodes))
    recipes = {f"{one.show}/{one.id}": recipe(one, config) for one in episodes}
    kept = _kept(storage, recipes)
    todo = [one for one in episodes if f"{one.show}/{one.id}" not in kept]
    clips = dict(kept)
    if todo:
        tasks = [{"episode": one.model_dump_json(), "recipe": recipes[f"{one.show}/{one.id}"]} for one in todo]
        cut = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(
            partial(cut_and_publish, run=run),
            # One core: the two children run two threads each, so that a few episodes fill a machine too.
            num_cpus=1,
            # Three windows of frames are 150 MB; decoder and encoder as much each for 1080p; Python and libraries 250.
            memory=1 << 30,
        )
        for ended in progress(cut.iter_rows(), "clips", total=len(todo), unit="episodes", done=len(kept)):
            clips[ended["episode"]] = list(ended["clips"])
    rows = tables.seal(storage, tables.CLIPS, [clip for episode in recipes for clip in clips[episode]])
    if todo or not storage.exists(SHEET):
        storage.write_bytes(SHEET, contact_sheet_of(storage, rows))
    reused = sum(len(ids) for ids in kept.values())
    report.extra = yields(rows)
    new = sum(row["status"] == "ok" and f"{row['show']}/{row['episode']}" not in kept for row in rows)
    report.extra["clips_per_s"] = round(new / (time.time() - report.started), 2)
    return report.close(storage, rows, reused)


def cut_and_publish(task: dict[str, Any], run: Run) -> dict[str, Any]:
    """One episode, in a Ray task. Safe to repeat: names of clips and rows are the same each time."""
    episode = Episode.model_validate_json(task["episode"])
    rows = clip_rows(episode, task["recipe"], run.config, run.storage)
    tables.publish(run.storage, tables.CLIPS, rows)
    return {"episode": f"{episode.show}/{episode.id}", "clips": [row["clip_id"] for row in rows]}


def _kept(storage: Storage, recipes: dict[str, str]) -> dict[str, list[str]]:
    """Ids of the rows that an earlier run published, by episode, of episodes that need not be cut again.

    An episode's rows appear in one part, so that one row tells that all are there. It is cut again when its recipe has
    changed, when it failed, and when one of its clips has gone from storage.
    """
    rows: dict[str, list[tables.Row]] = defaultdict(list)
    for row in tables.finished(storage, tables.CLIPS).values():
        episode = f"{row['show']}/{row['episode']}"
        if recipes.get(episode) == row["recipe"]:
            rows[episode].append(row)
    there = set(storage.list(VIDEOS, ".mp4"))
    return {
        episode: [row["clip_id"] for row in sorted(found, key=lambda row: row["start_s"] or 0.0)]
        for episode, found in rows.items()
        if all(row["status"] == "skipped" or (row["status"] == "ok" and row["video"] in there) for row in found)
    }
