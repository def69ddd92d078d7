"""The judge: how well does a generated video keep its characters? The four axes of paper 4.1, one question each.

The authors' own rubric texts and settings are not part of the paper; these are our words for what it says each axis
weighs. Each question asks for reasons before the score, gives anchors along the scale, and allows "cannot tell".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mimix_ray.universe import Character
from mimix_ray.vlm.questions.question import Question, cast_lines, object_schema, prompt_hash, prompt_text, whole

Axis = Literal["identity_p", "motion_p", "style_p", "interaction_p"]
AXES: tuple[Axis, ...] = ("identity_p", "motion_p", "style_p", "interaction_p")


@dataclass(frozen=True)
class Verdict:
    """A judge's answer on one axis."""

    score: int | None
    """1..10; None: the judge cannot tell, which counts for no mean."""
    reasoning: str


def question(
    axis: Axis, frames: Sequence[bytes], characters: Sequence[Character], prompt: str, sample: int = 0
) -> Question[Verdict]:
    """Asks for one axis' score of one video.

    Args:
        axis: What is judged.
        frames: JPEG files of the video, evenly spaced, in time order.
        characters: Who should be in it, as the universe describes them.
        prompt: What the video was made from, in the grammar. The identity question leaves it out: a judge that reads
            what should be there agrees too easily.
        sample: Number of the asking, to put one question several times.
    """
    styles = "\n".join(f"- {one.name}: from a {one.style} show" for one in characters)
    made_from = f"The video was made from: {prompt}"
    facts = {
        "identity_p": f"look for: {', '.join(one.name for one in characters)}\n{cast_lines(characters)}",
        "motion_p": f"The characters:\n{cast_lines(characters, manner=True)}\n\n{made_from}",
        "style_p": f"The characters' own styles:\n{styles}\n\n{made_from}",
        "interaction_p": f"The characters:\n{cast_lines(characters, manner=True)}\n\n{made_from}",
    }
    schema = object_schema(
        reasoning={"type": "string"},
        cannot_tell={"type": "boolean"},
        score={"type": "integer", "minimum": 1, "maximum": 10},
    )
    text = "\n\n".join((prompt_text("judge"), prompt_text(f"judge_{axis}"), facts[axis]))
    return Question(f"judge_{axis}", text, tuple(frames), schema, _verdict, sample)


def rubric_hash(axis: Axis) -> str:
    """Changes with the words of an axis' rubric or of the frame around all of them."""
    return prompt_hash("judge", f"judge_{axis}")


def _verdict(answer: dict[str, Any]) -> Verdict:
    if not isinstance(answer["cannot_tell"], bool):
        raise ValueError(f"cannot_tell {answer['cannot_tell']!r} is neither true nor false")
    reasoning = str(answer["reasoning"])
    if answer["cannot_tell"]:
        return Verdict(None, reasoning)
    return Verdict(whole(answer["score"], 1, 10, "score"), reasoning)
