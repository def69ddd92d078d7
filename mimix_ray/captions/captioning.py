"""One clip's caption: the question it is, and the row that the answer makes. Plain functions on plain data."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from mimix_ray import tables
from mimix_ray.captions import speech
from mimix_ray.captions.context import SidecarError, Sidecars, context, read_sidecars
from mimix_ray.config import CaptionsConfig, StorageConfig
from mimix_ray.prompts import Caption, render
from mimix_ray.run import Run
from mimix_ray.storage import Storage, StorageError, split
from mimix_ray.universe import Episode, Show
from mimix_ray.video import VideoError, sample_frames
from mimix_ray.vlm import Outcome, Question, prompt_hash, to_jpegs
from mimix_ray.vlm.questions import caption


def recipe(config: CaptionsConfig, show: Show, clip_recipe: str, sidecars: tuple[str, ...]) -> str:
    """What a clip's caption hangs on: change any of it and the clip is captioned anew.

    Args:
        config: The stage's.
        show: Title, style and cast are in the question.
        clip_recipe: The clip row's own recipe.
        sidecars: Fingerprints of the episode's files, and the name of its transcript where it has one.
    """
    told = show.model_dump_json(exclude={"episodes": True, "characters": {"__all__": {"manner", "references", "sets"}}})
    return tables.recipe(config, prompt_hash(caption.PROMPT), told, clip_recipe, *sidecars)


def sidecar_fingerprints(episode: Episode, config: StorageConfig) -> tuple[str, ...]:
    """Fingerprints of an episode's sidecar files, in fixed order, "" for one that is not there."""

    def fingerprint(address: str | None) -> str:
        if address is None:
            return ""
        folder, name = split(address)
        return Storage(folder, config).fingerprint(name)

    return tuple(map(fingerprint, (episode.subtitles, episode.script, episode.synopsis)))


def make_question(
    run: Run, clip: tables.Row, episode: Episode | None, transcript: str | None = None
) -> Question[caption.CaptionAnswer]:
    """Reads the clip's frames and its context; raises VideoError, SidecarError or StorageError.

    Args:
        run: The run.
        clip: A row of the clips table.
        episode: The clip's episode; None when its footage is not there any more: then without dialogue and script.
        transcript: Name of what was transcribed of the episode's sound; None where it was not.
    """
    config, show = run.config.captions, run.universe.show(clip["show"])
    with run.storage.local(clip["video"]) as path:
        frames = sample_frames(path, config.frames)
    sidecars = _sidecars(run.storage, run.config.storage, episode, transcript) if episode else Sidecars()
    return caption.question(
        to_jpegs(frames, config.frame_height, config.jpeg_quality),
        show.characters,
        context(show, sidecars, clip["start_s"], clip["end_s"], config.context_tokens),
    )


@lru_cache(maxsize=64)
def _sidecars(storage: Storage, config: StorageConfig, episode: Episode, transcript: str | None) -> Sidecars:
    """An episode's clips come one after the other: its files are read once."""
    return read_sidecars(episode, config, speech.read(storage, transcript) if transcript else ())


def make_row(run: Run, clip: tables.Row, recipe: str, outcome: Outcome[caption.CaptionAnswer]) -> tables.Row:
    """The captions row of an outcome, `ok` or `failed`.

    The scene style is the show's own; that the model saw another is noted.
    """
    row = _row(run, clip, recipe) | {"tokens_in": outcome.tokens_in, "tokens_out": outcome.tokens_out}
    if outcome.value is None:
        return row | {"status": "failed", "error": tables.error_text(outcome.kind, outcome.error or "")}
    answer, style = outcome.value, run.universe.show(clip["show"]).style
    told = Caption(answer.characters, answer.setting, style)
    return row | {
        "status": "ok",
        "characters": told.rows(),
        "setting": told.setting,
        "scene_style": style,
        "text": render(told),
        "confidence": answer.confidence,
        "style_disagrees": answer.scene_style != style,
    }


def failed_row(run: Run, clip: tables.Row, recipe: str, error: VideoError | SidecarError | StorageError) -> tables.Row:
    """The row of a clip about which nothing could be asked."""
    codes = {SidecarError: "bad_sidecar", StorageError: "storage"}
    code = error.code if isinstance(error, VideoError) else codes[type(error)]
    return _row(run, clip, recipe) | {"status": "failed", "error": tables.error_text(code, str(error))}


def _row(run: Run, clip: tables.Row, recipe: str) -> dict[str, Any]:
    return {
        "clip_id": clip["clip_id"],
        "recipe": recipe,
        "model": run.config.captions.vlm.model,
        "prompt_hash": prompt_hash(caption.PROMPT),
    }
