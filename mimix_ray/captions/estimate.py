"""What captioning will cost, told before it is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimix_ray import tables
from mimix_ray.captions.captioning import make_question
from mimix_ray.captions.context import SidecarError
from mimix_ray.run import Run
from mimix_ray.storage import StorageError
from mimix_ray.universe import Episode
from mimix_ray.video import VideoError
from mimix_ray.vlm import AnswerCache
from mimix_ray.vlm.cost import BATCH_PRICE, price_of, question_tokens

SAMPLE = 20
"""Clips looked at, spread over all that are to be captioned."""

ANSWER_TOKENS = 250
"""Tokens of an answer where none has come yet: reasoning, two or three characters, a setting."""


@dataclass(frozen=True)
class Estimate:
    """The next run's cost, as far as it can be told."""

    clips: int
    """Clips that will be asked about."""
    tokens_in: int
    """Of all of them."""
    tokens_out: int
    usd: float | None
    """None: `vlm.prices` does not know the model."""
    measured: bool
    """Whether tokens are the mean of captions that this model has given; else counted as OpenAI counts."""

    def __str__(self) -> str:
        how = "as captions so far came to" if self.measured else "rather too many than too few"
        money = "no price known, see vlm.prices" if self.usd is None else f"about ${self.usd:,.2f}"
        tokens = f"{self.tokens_in:,} tokens in and {self.tokens_out:,} out ({how})"
        return f"captions: {self.clips:,} clips to ask about, {tokens}, {money}"


def estimate(run: Run, todo: Sequence[Mapping[str, Any]], done: Mapping[str, tables.Row]) -> Estimate:
    """Looks at a sample of the clips that are to be captioned; asks nobody.

    Args:
        run: The run.
        todo: The stage's jobs.
        done: Rows of the captions table so far: the model's own, where there are some, tell tokens best.
    """
    config = run.config.captions.vlm
    cache = AnswerCache(run.storage)
    chosen = [todo[place * len(todo) // min(SAMPLE, len(todo))] for place in range(min(SAMPLE, len(todo)))]
    counted: list[int] = []
    unasked = 0
    for job in chosen:
        episode = Episode(**job["episode"]) if job["episode"] else None
        try:
            question = make_question(run, job["clip"], episode, job["transcript"])
        except (VideoError, SidecarError, StorageError):
            continue  # a clip that cannot be read costs nothing
        counted.append(question_tokens(question))
        unasked += cache.get(question.key(config.model, config.temperature), config.max_tokens) is None
    clips = round(len(todo) * unasked / len(chosen)) if chosen else 0
    asked = {job["clip"]["clip_id"] for job in todo}
    told = [row for clip, row in done.items() if clip not in asked and row["tokens_in"]]  # of this very recipe
    each_in = _mean([row["tokens_in"] for row in told] or counted)
    each_out = _mean([row["tokens_out"] for row in told] or [ANSWER_TOKENS])
    tokens = round(clips * each_in), round(clips * each_out)
    price = price_of(config) if config.backend == "endpoint" else None
    usd = price.usd(*tokens) * (BATCH_PRICE if config.batch else 1) if price else None
    return Estimate(clips, *tokens, usd, bool(told))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
