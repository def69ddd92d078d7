"""The VLM judge: a video's frames put to the model several times an axis, and what its answers come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, pstdev

from mimix_ray import tables
from mimix_ray.config import EvaluationConfig
from mimix_ray.universe import Character, Universe
from mimix_ray.vlm import Outcome, Question
from mimix_ray.vlm.questions import judge

FRAME_HEIGHT = 480
"""Height of the frames shown, pixels; smaller ones are never enlarged."""
JPEG_QUALITY = 90


@dataclass(frozen=True)
class Judgement:
    """What the samples of one axis come to; `value` is None when no answer counted."""

    value: float | None
    """Mean of the scores that counted, 1..10."""
    spread: float | None
    """Their standard deviation; 0 for a single one."""
    samples: int
    """Answers that counted. A failed one and a "cannot tell" count for nothing: they are never a low score."""
    reasoning: str | None
    """The judge's words in the first answer that there was."""
    error: str | None
    """Why no answer counted, as a table's error."""


def recipe(config: EvaluationConfig, axis: judge.Axis, generation: tables.Row, universe: Universe) -> str:
    """What a judge's score hangs on: the model, the question's words, what it is told of the cast, and the video."""
    told = [f"{one.name}|{one.style}|{one.look}|{one.manner}" for one in cast(universe, generation)]
    return tables.recipe(
        config.vlm, axis, judge.rubric_hash(axis), str(config.frames), str(config.samples), *told, generation["recipe"]
    )


def cast(universe: Universe, generation: tables.Row) -> list[Character]:
    """The characters of a generation's prompt, each once; raises UniverseError for an unknown name."""
    names = dict.fromkeys(actor["name"] for actor in generation["characters"] or ())
    return [universe.character(name) for name in names]


def questions(
    axis: judge.Axis, frames: Sequence[bytes], characters: Sequence[Character], prompt: str, samples: int
) -> list[Question[judge.Verdict]]:
    """The same question `samples` times, told apart by their number so that the answer cache keeps each."""
    return [judge.question(axis, frames, characters, prompt, sample) for sample in range(samples)]


def combine(outcomes: Sequence[Outcome[judge.Verdict]]) -> Judgement:
    """Mean and spread of what counted; when nothing did, why."""
    answers = [outcome.value for outcome in outcomes if outcome.value is not None]
    scores = [answer.score for answer in answers if answer.score is not None]
    reasoning = answers[0].reasoning if answers else None
    if scores:
        return Judgement(mean(scores), pstdev(scores), len(scores), reasoning, None)
    failed = [outcome for outcome in outcomes if outcome.value is None]
    if not failed:
        return Judgement(None, None, 0, reasoning, tables.error_text("cannot_tell", f"asked {len(outcomes)} times"))
    kind = Counter(outcome.kind for outcome in failed).most_common(1)[0][0]
    first = next(outcome.error for outcome in failed if outcome.kind == kind)
    what = f"{len(failed)} of {len(outcomes)} answers failed and none counted; the first: {first}"
    return Judgement(None, None, 0, reasoning, tables.error_text(kind, what))
