"""Stage `clips`: every episode of the universe to clips of exactly 81 frames at 16 fps (paper 3.3)."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import ray
import ray.data

from mimix_ray import tables
from mimix_ray.clips import detectors
from mimix_ray.clips.episode import Piece
from mimix_ray.clips.report import SHEET, contact_sheet_of, yields
from mimix_ray.clips.rows import VIDEOS, PieceRecord, cut_piece, episode_rows, key_of, recipe
from mimix_ray.run import Run, StageReport
from mimix_ray.stage import StageError, progress
from mimix_ray.storage import Storage
from mimix_ray.universe import Episode

PIECES = "clips/pieces"
"""Folder of finished pieces of episodes that are not finished: `<PIECES>/<recipe>/<number>-of-<pieces>.json`."""
MOST_PIECES = 32
"""Pieces of one episode at most: each decodes some seconds before it begins."""


def run(run: Run) -> StageReport:
    """Cuts the episodes that are not cut yet.

    One episode is one task, which reads its file once; when there are fewer episodes than cores, one is several tasks.
    A task puts its clips on storage and then its piece; when all pieces of an episode are there, its rows are published
    as one part, its manifest. A task that dies is repeated whole.

    Raises:
        ConfigError: The detector needs a package that is not installed.
        StageError: The universe's patterns find no episode.
    """
    config, storage = run.config, run.storage
    detectors.check(config.clips.detector)
    episodes = {key_of(one): one for one in run.universe.episodes(storage.uri, config.storage)}
    if not episodes:
        patterns = ", ".join(show.episodes.videos for show in run.universe.shows)
        raise StageError(f"clips: no video matches {patterns}; put footage there or correct {config.universe}")
    report = StageReport("clips", rows_in=len(episodes))
    recipes = {key: recipe(one, config) for key, one in episodes.items()}
    kept = _kept(storage, recipes)
    todo = [one for key, one in episodes.items() if key not in kept]
    if todo:
        storage.delete(SHEET)  # so that a sheet, where there is one, shows the table
    clips, made = dict(kept), list[int]()
    for key, rows in progress(
        _cut(run, todo, recipes), "clips", len(todo), "episodes", len(kept), lambda: f"{sum(made)} clips"
    ):
        tables.publish(storage, tables.CLIPS, rows)
        clips[key] = [row["clip_id"] for row in rows]
        made.append(sum(row["status"] == "ok" for row in rows))
    rows = tables.seal(storage, tables.CLIPS, [clip for key in episodes for clip in clips[key]])
    _remove_stale(storage, rows)
    if not storage.exists(SHEET):
        storage.write_bytes(SHEET, contact_sheet_of(storage, rows))
    report.extra = {**yields(rows), "clips_per_s": round(sum(made) / (time.time() - report.started), 2)}
    return report.close(storage, rows, reused=sum(len(ids) for ids in kept.values()))


def cut_and_keep(task: dict[str, Any], run: Run) -> dict[str, Any]:
    """One piece of an episode, in a Ray task. Safe to repeat: names of clips and pieces are the same each time."""
    cv2.setNumThreads(1)  # of its own: the task has one core, and its children the others
    episode, piece = Episode.model_validate_json(task["episode"]), Piece(task["number"], task["of"])
    cut = cut_piece(episode, piece, task["recipe"], run.config, run.storage)
    if "error" not in cut:
        run.storage.write_json(_piece_name(task["recipe"], piece), cut)
    return {"episode": key_of(episode), "number": piece.number, "cut": json.dumps(cut)}


def _cut(run: Run, todo: Sequence[Episode], recipes: dict[str, str]) -> Iterator[tuple[str, list[tables.Row]]]:
    """Key and rows of each episode, as soon as all its pieces are on storage."""
    if not todo:
        return
    storage, by_key = run.storage, {key_of(episode): episode for episode in todo}
    usual = min(MOST_PIECES, max(1, int(ray.cluster_resources().get("CPU", 1)) // len(todo)))
    there = {*storage.list(PIECES, ".json"), *storage.list(VIDEOS, ".mp4")}
    of = {key: _begun(recipes[key], there) or usual for key in by_key}
    pieces = {key: _finished_pieces(storage, recipes[key], of[key], there) for key in by_key}
    tasks = [
        {"episode": episode.model_dump_json(), "recipe": recipes[key], "number": number, "of": of[key]}
        for key, episode in by_key.items()
        for number in range(of[key])
        if number not in pieces[key]
    ]

    def whole(key: str) -> tuple[str, list[tables.Row]]:
        return key, episode_rows(by_key[key], recipes[key], [pieces[key][n] for n in range(of[key])], run.config.clips)

    yield from (whole(key) for key in by_key if len(pieces[key]) == of[key])
    if not tasks:
        return
    cut = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(
        partial(cut_and_keep, run=run),
        # One core: the two children run two threads each, so that a few episodes fill a machine too.
        num_cpus=1,
        # Three windows of frames are 150 MB; decoder and encoder as much each for 1080p; Python and libraries 250, the
        # text detector 150.
        memory=1 << 30,
    )
    for made in cut.iter_rows():
        key = made["episode"]
        pieces[key][made["number"]] = json.loads(made["cut"])
        if len(pieces[key]) == of[key]:
            yield whole(key)


def _piece_name(recipe: str, piece: Piece) -> str:
    return f"{PIECES}/{recipe}/{piece.number}-of-{piece.of}.json"


def _begun(recipe: str, there: set[str]) -> int | None:
    """Into how many pieces a run before this one cut an episode, perhaps on another number of cores."""
    name = next((name for name in there if name.startswith(f"{PIECES}/{recipe}/")), None)
    return int(name.rpartition("-of-")[2].removesuffix(".json")) if name else None


def _finished_pieces(storage: Storage, recipe: str, of: int, there: set[str]) -> dict[int, PieceRecord]:
    """The pieces of an episode that a run before this one finished, by number; of those whose clips are `there`."""
    names = {number: _piece_name(recipe, Piece(number, of)) for number in range(of)}
    found: dict[int, PieceRecord] = {number: storage.read_json(name) for number, name in names.items() if name in there}
    return {
        number: cut for number, cut in found.items() if {row["video"] for row in cut["rows"] if "video" in row} <= there
    }


def _remove_stale(storage: Storage, rows: Sequence[tables.Row]) -> None:
    """Removes clips that an episode had with an earlier config, and pieces that nobody will ask for.

    Clips of an episode that failed, or whose footage is not found at present, stay: it may be back the next time. So do
    the good pieces of one that failed.
    """
    named = {row["video"] for row in rows}
    cut = {f"{VIDEOS}/{row['show']}/{row['episode']}" for row in rows if row["status"] != "failed"}
    for video in storage.list(VIDEOS, ".mp4"):
        if video not in named and video.rpartition("/")[0] in cut:
            storage.delete(video)
    unfinished = {f"{PIECES}/{row['recipe']}" for row in rows if row["status"] == "failed"}
    for piece in storage.list(PIECES, ".json"):
        if piece.rpartition("/")[0] not in unfinished:
            storage.delete(piece)


def _kept(storage: Storage, recipes: dict[str, str]) -> dict[str, list[str]]:
    """Ids of the rows that an earlier run published, by episode, of episodes that need not be cut again.

    An episode's rows appear in one part, so that one row tells that all are there; those of a later part replace all
    of an earlier one. It is cut again when its recipe has changed, when it failed, and when one of its clips has gone
    from storage.
    """
    rows: dict[str, list[tables.Row]] = {}
    for part in tables.parts(storage, tables.CLIPS):
        latest: dict[str, list[tables.Row]] = defaultdict(list)
        for row in part:
            latest[f"{row['show']}/{row['episode']}"].append(row)
        rows |= latest
    there = set(storage.list(VIDEOS, ".mp4"))
    return {
        episode: [row["clip_id"] for row in sorted(found, key=lambda row: row["start_s"] or 0.0)]
        for episode, found in rows.items()
        if recipes.get(episode) == found[0]["recipe"]
        and all(row["status"] == "skipped" or (row["status"] == "ok" and row["video"] in there) for row in found)
    }
