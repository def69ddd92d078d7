"""Who acts in a clip, and what does each do? The question behind Character-Action Prompting (paper 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mimix_ray.prompts import CharacterAction
from mimix_ray.universe import Character
from mimix_ray.vlm.questions.question import (
    Question,
    cast_lines,
    known_name,
    name_schema,
    object_schema,
    prompt_text,
    within,
)

PROMPT = "caption"


@dataclass(frozen=True)
class CaptionAnswer:
    """What the model saw."""

    characters: tuple[CharacterAction, ...]
    """In the order of the answer; empty when nobody of the cast is there."""
    setting: str
    scene_style: Literal["cartoon", "realistic"]
    """The style that the model saw; the show's own is what captions take."""
    confidence: float
    """0..1."""
    reasoning: str


def question(frames: Sequence[bytes], characters: Sequence[Character], context: str = "") -> Question[CaptionAnswer]:
    """Asks for the cast's actions in frames of one clip.

    Args:
        frames: JPEG files, in time order.
        characters: The cast that may be there; nobody else can be named.
        context: Source, dialogue, synopsis, script: headed sections of text.
    """
    entry = object_schema(name=name_schema(characters), action={"type": "string"})
    schema = object_schema(
        reasoning={"type": "string"},
        characters={"type": "array", "items": entry},
        setting={"type": "string"},
        scene_style={"type": "string", "enum": ["cartoon", "realistic"]},
        confidence={"type": "number"},
    )
    cast = cast_lines(characters) or "- nobody: leave `characters` empty"
    text = "\n\n".join(part for part in (prompt_text(PROMPT), f"The cast:\n{cast}", context) if part)

    def parse(answer: dict[str, Any]) -> CaptionAnswer:
        style = answer["scene_style"]
        if style not in ("cartoon", "realistic"):
            raise ValueError(f"scene_style {style!r} is neither cartoon nor realistic")
        if not answer["characters"] and not answer["setting"].strip():
            raise ValueError("neither characters nor a setting")
        return CaptionAnswer(
            characters=tuple(_entry(one, characters) for one in answer["characters"]),
            setting=answer["setting"].strip(),
            scene_style=style,
            confidence=within(answer["confidence"], 0, 1, "confidence"),
            reasoning=answer["reasoning"],
        )

    return Question("caption", text, tuple(frames), schema, parse)


def _entry(entry: dict[str, Any], characters: Sequence[Character]) -> CharacterAction:
    name = known_name(entry["name"], characters)
    # "Tom chases Jerry." under the tag [Character: Tom] would say the name twice.
    return CharacterAction(name, entry["action"].strip().removeprefix(f"{name} "))
