"""An episode's pieces -> its rows of table `clips`, with its clips on storage before the rows exist."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimix_ray import tables
from mimix_ray.clips.cutting import MARGIN
from mimix_ray.clips.episode import Clip, Piece, cut_episode
from mimix_ray.config import ClipsConfig, RunConfig
from mimix_ray.storage import Storage, StorageError, split
from mimix_ray.universe import Episode
from mimix_ray.video import VideoError

VIDEOS = "clips/videos"
"""Folder of the clips under the run's root; a clip's mp4 is `<VIDEOS>/<clip_id>-<recipe>.mp4`."""

PieceRecord = dict[str, Any]
"""What a piece leaves, as JSON: `rows` of its clips, the number of `shots` that begin in it, the `seconds` of the whole
episode (None when the piece did not see its end); or `error` alone."""


def recipe(episode: Episode, config: RunConfig) -> str:
    """Hash of what makes an episode's rows: the stage's config, what the universe says of it, and the file itself."""
    folder, name = split(episode.video)
    try:
        file = Storage(folder, config.storage).fingerprint(name)
    except StorageError:
        file = "unreadable"  # its task will fail and say why
    skips = f"{episode.skip_head_s} {episode.skip_tail_s}"
    return tables.recipe(config.clips, key_of(episode), episode.style, skips, file)


def key_of(episode: Episode) -> str:
    """What the episode's clip ids begin with."""
    return f"{episode.show}/{episode.id}"


def cut_piece(episode: Episode, piece: Piece, recipe: str, config: RunConfig, storage: Storage) -> PieceRecord:
    """Cuts a piece of an episode and uploads its clips. Raises nothing that the file or its storage could cause."""
    folder, name = split(episode.video)
    try:
        with Storage(folder, config.storage).local(name) as path, tempfile.TemporaryDirectory(prefix="mimix-") as out:
            try:
                skips = episode.skip_head_s, episode.skip_tail_s
                cutting = cut_episode(path, Path(out), config.clips, *skips, piece)
            except VideoError as error:
                return {"error": tables.error_text(error.code, str(error).replace(str(path), episode.video))}
            rows = [_row(clip, key_of(episode), recipe, config.clips) for clip in cutting.clips]
            for clip, row in zip(cutting.clips, rows, strict=True):
                if clip.path:
                    storage.upload(clip.path, row["video"])
    except OSError as error:
        return {"error": tables.error_text("storage", str(error))}
    except Exception as error:  # a fault of ours: the other episodes go on all the same
        what = f"{episode.video}: {type(error).__name__}: {error}; leave the file out, and report this"
        return {"error": tables.error_text("internal", what)}
    return {"rows": rows, "shots": cutting.shots, "seconds": cutting.seconds}


def episode_rows(episode: Episode, recipe: str, pieces: Sequence[PieceRecord], config: ClipsConfig) -> list[tables.Row]:
    """The rows of an episode, from all its pieces in order.

    A row a clip; or one row with the episode's own key, `failed` when the file cannot be read to its end, `skipped`
    when no shot is long enough for a clip.
    """
    common: tables.Row = {
        "show": episode.show,
        "episode": episode.id,
        "style": episode.style,
        "source": episode.video,
        "recipe": recipe,
    }
    for piece in pieces:
        if "error" in piece:
            return [{"clip_id": key_of(episode), **common, "status": "failed", "error": piece["error"]}]
    common["episode_s"] = max((piece["seconds"] or 0.0 for piece in pieces), default=0.0)
    rows, shots = [], 0
    for piece in pieces:
        rows += [{**common, **row, "shot": shots + row["shot"]} for row in piece["rows"]]
        shots += piece["shots"]
    if not rows:
        needed = (config.frames + 2 * MARGIN) / config.fps
        what = (
            f"no {config.within} of {needed:.2f} s in {common['episode_s']:.2f} s; nothing to do, or lower clips.frames"
        )
        why = tables.error_text("no_window", what)
        return [{"clip_id": key_of(episode), **common, "status": "skipped", "error": why}]
    return rows


def _row(clip: Clip, key: str, recipe: str, config: ClipsConfig) -> tables.Row:
    """What the clip itself tells."""
    clip_id = f"{key}/{round(clip.start_s * 1000):08d}"
    row: tables.Row = {
        "clip_id": clip_id,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        "shot": clip.shot,
        "n_cuts": clip.cuts,
        "frames": config.frames,
        "fps": config.fps,
        "width": clip.size[0],
        "height": clip.size[1],
        "status": "ok",
    }
    if clip.problem:
        return {**row, "status": "skipped", "error": tables.error_text(*clip.problem)}
    # The recipe is part of the name: a run with another config never writes over what this row says.
    return {**row, "video": f"{VIDEOS}/{clip_id}-{recipe[:8]}.mp4"}
