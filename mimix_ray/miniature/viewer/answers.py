"""Questions to the viewer -> the JSON asked for, every word and figure of it from what was recognised in the pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from mimix_ray.miniature.cast import LOOKS
from mimix_ray.miniature.viewer.judge import Judgement, identity, interaction, motion, style
from mimix_ray.miniature.viewer.recognise import View, look


class BadQuestion(ValueError):
    """A question that the viewer does not know."""


LISTS = {"caption": "characters", "locate": "subjects"}
"""The questions that name their cast in their schema, and the list whose `name` does it."""

AXES: dict[str, Callable[[View, str], Judgement]] = {
    "judge_identity_p": identity,
    "judge_motion_p": motion,
    "judge_style_p": style,
    "judge_interaction_p": interaction,
}
"""The judge's questions, which name their cast in their text."""


def answer(question: str, schema: dict[str, Any], text: str, frames: Sequence[np.ndarray]) -> dict[str, Any]:
    """Answers a structured question about frames (uint8 RGB [H, W, 3], in time order).

    Args:
        question: Name of the answer's schema.
        schema: The schema; who may be named stands in it.
        text: The words of the question; a judge's prompt stands in them.
        frames: The pictures, of one size.

    Raises:
        BadQuestion: The viewer does not know the question, or the frames are of more than one size.
    """
    if question not in (*LISTS, *AXES):
        raise BadQuestion(f"unknown question {question!r}; known: {', '.join((*LISTS, *AXES))}")
    view = _look(frames)
    if question == "caption":
        return caption(view, _cast(schema, question))
    if question == "locate":
        return locate(view, _cast(schema, question))
    reasoning, share = AXES[question](view, text)
    return {"reasoning": reasoning, "cannot_tell": share is None, "score": round(1 + 9 * (share or 0.0))}


def describe(frames: Sequence[np.ndarray]) -> str:
    """What is in the frames, in a sentence; raises BadQuestion on frames of more than one size."""
    return _look(frames).words()


def caption(view: View, cast: Sequence[str]) -> dict[str, Any]:
    """Who of the cast acts and how, where, in which style; sure as it is of faces and actions, or else of the place."""
    subjects = [subject for subject in view.subjects if subject.name in cast]
    sure = fmean(one.likeness * one.sure for one in subjects) if subjects else view.familiar
    return {
        "reasoning": view.words(),
        "characters": [{"name": one.name, "action": view.phrase(one)} for one in subjects],
        "setting": view.setting,
        "scene_style": view.scene_style,
        "confidence": round(sure, 3) if view.readable else 0.0,
    }


def locate(view: View, cast: Sequence[str]) -> dict[str, Any]:
    """A box for each of the cast in each frame that shows it."""
    subjects = [
        {
            "name": subject.name,
            "frame": sighting.frame,
            "box": [round(edge, 4) for edge in sighting.box],
            "confidence": round(sighting.likeness, 3),
        }
        for subject in view.subjects
        if subject.name in cast
        for sighting in subject.sightings
    ]
    return {"reasoning": view.words(), "subjects": subjects}


def _look(frames: Sequence[np.ndarray]) -> View:
    if len({frame.shape for frame in frames}) > 1:
        raise BadQuestion("the images have different sizes; send frames of one clip")
    return look(frames)


def _cast(schema: dict[str, Any], question: str) -> Sequence[str]:
    """Who may be named: the schema's enum, or everybody where it has none."""
    value: Any = schema
    for step in ("properties", LISTS[question], "items", "properties", "name", "enum"):
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, list) else list(LOOKS)
