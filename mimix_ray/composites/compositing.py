"""One composite from beginning to end: find the character, cut it out, paste it, caption the result."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from mimix_ray import tables
from mimix_ray.composites.choose import Choice
from mimix_ray.composites.masks import Box, Masker
from mimix_ray.composites.paste import paste, place, resize
from mimix_ray.composites.quality import measure, objection
from mimix_ray.prompts import Caption, render
from mimix_ray.run import Run
from mimix_ray.storage import StorageError
from mimix_ray.universe import Show
from mimix_ray.video import VideoError, read_frames, write_video
from mimix_ray.vlm import Outcome, Vlm, prompt_hash, to_jpegs
from mimix_ray.vlm.questions import caption, locate

T = TypeVar("T")

LOCATE_FRAMES = 5
"""Frames in which the character is looked for, evenly spaced."""
FRAME_HEIGHT, JPEG_QUALITY = 480, 90
"""Height (pixels, never enlarged) and JPEG quality of the frames sent."""


KINDS = {"cartoon": "a cartoon", "realistic": "a live-action show"}


class Unusable(Exception):
    """A composite that comes to nothing, for a reason that its row tells: status, error code and words."""

    def __init__(self, status: str, code: str, what: str) -> None:
        super().__init__(what)
        self.status, self.code, self.what = status, code, what


@dataclass
class Spent:
    """What asking took."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def on(self, outcome: Outcome[T]) -> T:
        """Counts an outcome and gives its value; raises Unusable when there is none. Kept answers cost nothing."""
        if outcome.calls:
            self.calls += outcome.calls
            self.tokens_in += outcome.tokens_in
            self.tokens_out += outcome.tokens_out
        if outcome.value is None:
            raise Unusable("failed", outcome.kind, outcome.error or "")
        return outcome.value


@dataclass(frozen=True)
class Job:
    """A composite to be made: the choice, and what it takes from the clips table. Plain data."""

    composite_id: str
    character: str
    subject_clip: str
    background_clip: str
    subject_video: str
    background_video: str
    background_show: str
    recipe: str

    @property
    def name(self) -> str:
        """The number in the composite's id: its files' name."""
        return self.composite_id.rpartition("/")[2]


def make_job(run: Run, choice: Choice, clips: dict[str, tables.Row]) -> Job:
    """The job of a choice. Its recipe leaves out the ratio: asking for more composites redoes none."""
    subject, background = clips[choice.subject_clip], clips[choice.background_clip]
    config = run.config.composites.model_copy(update={"ratio": 0.0})
    told = [_told(run.universe.show(clip["show"])) for clip in (subject, background)]
    prompts = [prompt_hash(caption.PROMPT), prompt_hash(locate.PROMPT)]
    frames = str(run.config.captions.frames)
    recipe = tables.recipe(
        config, *asdict(choice).values(), subject["recipe"], background["recipe"], *prompts, *told, frames
    )
    return Job(
        **asdict(choice),
        subject_video=subject["video"],
        background_video=background["video"],
        background_show=background["show"],
        recipe=recipe,
    )


def make(job: Job, run: Run, masker: Masker, vlm: Vlm) -> tuple[tables.Row, Spent]:
    """Makes a composite with its files and gives its row; whatever goes wrong is the row's. Safe to repeat."""
    spent = Spent()
    row: tables.Row = {
        "composite_id": job.composite_id,
        "subject_clip": job.subject_clip,
        "character": job.character,
        "background_clip": job.background_clip,
        "masks": run.config.composites.masks,
        "recipe": job.recipe,
        "status": "ok",
    }
    try:
        subject, background = _read(run, job.subject_video), _read(run, job.background_video)
        if len(subject) != len(background):
            raise Unusable("failed", "wrong_size", f"subject {len(subject)} frames, background {len(background)}")
        boxes = _locate(job, run, subject, vlm, spent)
        row["box_frame"], row["box"] = next((frame, list(box)) for frame, box in boxes.items())
        masks = _cut(masker, subject, boxes)
        quality = measure(masks)
        row |= {"mask_area": quality.area, "mask_flicker": quality.flicker}
        if reason := objection(quality, run.config.composites):
            raise Unusable("skipped", *reason)
        height, width = background.shape[1:3]
        if subject.shape != background.shape:
            subject, masks = resize(subject, masks, (width, height))
        placement = place(masks, background, f"{run.config.composites.seed}/{job.composite_id}")
        row |= {"scale": placement.scale, "shift": [placement.right, placement.down]}
        composite = paste(subject, masks, background, placement, run.config.composites.feather)
        row |= _caption(job, run, composite, vlm, spent)
        grey = np.repeat(masks[..., None].astype(np.uint8) * 255, 3, axis=-1)
        row["mask_video"] = _write(run, f"composites/masks/{job.name}.mp4", grey)
        row["video"] = _write(run, f"composites/videos/{job.name}.mp4", composite)
    except Unusable as problem:
        row |= {"status": problem.status, "error": tables.error_text(problem.code, problem.what)}
    except VideoError as problem:
        row |= {"status": "failed", "error": tables.error_text(problem.code, str(problem))}
    except StorageError as problem:
        row |= {"status": "failed", "error": tables.error_text("storage", str(problem))}
    return row, spent


def _read(run: Run, video: str) -> np.ndarray:
    with run.storage.local(video) as path:
        return read_frames(path)


def _locate(job: Job, run: Run, frames: np.ndarray, vlm: Vlm, spent: Spent) -> dict[int, Box]:
    """The character's boxes by number of the clip's frame, the surest first."""
    shown = np.linspace(0, len(frames) - 1, min(LOCATE_FRAMES, len(frames))).round().astype(int)
    jpegs = to_jpegs(frames[shown], FRAME_HEIGHT, JPEG_QUALITY)
    subjects = spent.on(vlm.ask(locate.question(jpegs, [run.universe.character(job.character)])))
    boxes: dict[int, Box] = {}
    for one in sorted(subjects, key=lambda one: (-one.confidence, -_area(one.box))):
        boxes.setdefault(int(shown[one.frame]), one.box)
    if not boxes:
        raise Unusable("skipped", "subject_not_found", f"no {job.character} in {job.subject_clip}")
    return boxes


def _cut(masker: Masker, frames: np.ndarray, boxes: dict[int, Box]) -> np.ndarray:
    try:
        return masker.masks(frames, boxes)
    except (RuntimeError, cv2.error) as problem:  # out of memory is a RuntimeError too
        raise Unusable("failed", "mask_failed", f"{type(problem).__name__}: {problem}") from None


def _caption(job: Job, run: Run, frames: np.ndarray, vlm: Vlm, spent: Spent) -> dict[str, Any]:
    """The caption columns: what the VLM sees, told the background's source and who was inserted (paper 3.2)."""
    inserted, place = run.universe.character(job.character), run.universe.show(job.background_show)
    home = run.universe.show(inserted.show)
    context = (
        f'Source: a composite. The background is from "{place.title}", {KINDS[place.style]}. '
        f'{inserted.name} of "{home.title}", {KINDS[home.style]}, was cut out there and pasted into it.'
    )
    shown = np.linspace(0, len(frames) - 1, min(run.config.captions.frames, len(frames))).round().astype(int)
    jpegs = to_jpegs(frames[shown], FRAME_HEIGHT, JPEG_QUALITY)
    answer = spent.on(vlm.ask(caption.question(jpegs, [*home.characters, *place.characters], context)))
    told = Caption(answer.characters, answer.setting, place.style)
    if job.character not in told.names:
        raise Unusable("skipped", "not_recognised", f"the VLM sees no {job.character} in the composite")
    return {
        "characters": told.rows(),
        "setting": told.setting,
        "scene_style": told.scene_style,
        "text": render(told),
    }


def _write(run: Run, name: str, frames: np.ndarray) -> str:
    config = run.config.clips
    with tempfile.TemporaryDirectory(prefix="mimix-") as folder:
        path = Path(folder, "video.mp4")
        write_video(path, frames, config.fps, config.crf, config.preset)
        run.storage.upload(path, name)
    return name


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _told(show: Show) -> str:
    """What the questions say of a show: title, style and cast."""
    return show.model_dump_json(exclude={"episodes": True, "characters": {"__all__": {"manner", "references", "sets"}}})
