"""Where is each character of a clip? The automated detection behind Cross-Character Augmentation (paper 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mimix_ray.universe import Character
from mimix_ray.vlm.questions.question import (
    Question,
    cast_lines,
    known_name,
    name_schema,
    object_schema,
    prompt_text,
    whole,
    within,
)

PROMPT = "locate"


@dataclass(frozen=True)
class Subject:
    """A character found in one of the frames sent."""

    name: str
    frame: int
    """Index into the frames sent, from 0."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1: shares of the frame's width and height, x0 < x1 and y0 < y1."""
    confidence: float
    """0..1."""


def question(frames: Sequence[bytes], characters: Sequence[Character]) -> Question[tuple[Subject, ...]]:
    """Asks for boxes of the characters in a clip's frames (JPEG files, in time order); none is a valid answer."""
    subject = object_schema(
        name=name_schema(characters),
        frame={"type": "integer"},
        box={"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
        confidence={"type": "number"},
    )
    schema = object_schema(reasoning={"type": "string"}, subjects={"type": "array", "items": subject})
    text = f"{prompt_text(PROMPT)}\n\nLook for:\n{cast_lines(characters)}"

    def parse(answer: dict[str, Any]) -> tuple[Subject, ...]:
        return tuple(_subject(one, characters, len(frames)) for one in answer["subjects"])

    return Question("locate", text, tuple(frames), schema, parse)


def _subject(found: dict[str, Any], characters: Sequence[Character], frames: int) -> Subject:
    x0, y0, x1, y1 = (within(edge, 0, 1, "box edge") for edge in found["box"])
    if x0 >= x1 or y0 >= y1:
        raise ValueError(f"box {found['box']} has no area")
    return Subject(
        name=known_name(found["name"], characters),
        frame=whole(found["frame"], 0, frames - 1, "frame"),
        box=(x0, y0, x1, y1),
        confidence=within(found["confidence"], 0, 1, "confidence"),
    )
