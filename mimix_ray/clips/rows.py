"""One episode -> its rows of table `clips`, with its clips on storage before the rows exist."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mimix_ray import tables
from mimix_ray.clips.cutting import MARGIN
from mimix_ray.clips.episode import Cut, cut_episode
from mimix_ray.config import ClipsConfig, RunConfig
from mimix_ray.storage import Storage, StorageError, split
from mimix_ray.universe import Episode
from mimix_ray.video import VideoError

VIDEOS = "clips/videos"
"""Folder of the clips under the run's root; a clip's mp4 is `<VIDEOS>/<clip_id>.mp4`."""


def recipe(episode: Episode, config: RunConfig) -> str:
    """Hash of what makes an episode's rows: the stage's config, the show's style, and the file itself."""
    folder, name = split(episode.video)
    try:
        file = Storage(folder, config.storage).fingerprint(name)
    except StorageError:
        file = "unreadable"  # its task will fail and say why
    return tables.recipe(config.clips, episode.video, episode.style, file)


def clip_rows(episode: Episode, recipe: str, config: RunConfig, storage: Storage) -> list[tables.Row]:
    """Cuts an episode, uploads its clips and returns its rows.

    A row a clip; or one row with the episode's own key, `failed` when the file cannot be read to its end, `skipped`
    when no shot is long enough for a clip. Raises nothing that the file or its storage could cause.
    """
    key = f"{episode.show}/{episode.id}"
    common: tables.Row = {
        "show": episode.show,
        "episode": episode.id,
        "style": episode.style,
        "source": episode.video,
        "recipe": recipe,
    }
    folder, name = split(episode.video)
    try:
        with Storage(folder, config.storage).local(name) as path, tempfile.TemporaryDirectory(prefix="mimix-") as out:
            try:
                cut = cut_episode(path, Path(out), config.clips)
            except VideoError as error:
                what = str(error).replace(str(path), episode.video)
                return [{"clip_id": key, **common, "status": "failed", "error": tables.error_text(error.code, what)}]
            for clip in cut.clips:
                storage.upload(clip.path, f"{VIDEOS}/{key}/{clip.path.name}")
    except OSError as error:
        return [{"clip_id": key, **common, "status": "failed", "error": tables.error_text("storage", str(error))}]
    common["episode_s"] = cut.seconds
    if not cut.clips:
        why = tables.error_text("no_window", _too_short(cut, config.clips))
        return [{"clip_id": key, **common, "status": "skipped", "error": why}]
    return [
        {
            "clip_id": f"{key}/{clip.path.stem}",
            **common,
            "start_s": clip.start_s,
            "end_s": clip.end_s,
            "shot": clip.shot,
            "video": f"{VIDEOS}/{key}/{clip.path.name}",
            "frames": clip.frames,
            "fps": config.clips.fps,
            "width": config.clips.width,
            "height": config.clips.height,
            "status": "ok",
        }
        for clip in cut.clips
    ]


def _too_short(cut: Cut, config: ClipsConfig) -> str:
    needed = (config.frames + 2 * MARGIN) / config.fps
    return f"no shot of {needed:.2f} s in {cut.seconds:.2f} s; nothing to do, or lower clips.frames"
