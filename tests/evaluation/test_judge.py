"""What samples of the judge come to: failures and "cannot tell" are never a low score."""

from __future__ import annotations

import pytest

from mimix_ray import tables
from mimix_ray.config import EvaluationConfig, VlmConfig
from mimix_ray.evaluation.judge import combine, recipe
from mimix_ray.vlm import Outcome
from mimix_ray.vlm.questions.judge import Verdict


def said(score: int | None, why: str = "because") -> Outcome[Verdict]:
    return Outcome("ok", Verdict(score, why))


REFUSED: Outcome[Verdict] = Outcome("refused", error="I would rather not.")
RAMBLED: Outcome[Verdict] = Outcome("unparseable", error="not the JSON asked for")


@pytest.mark.parametrize(
    ("outcomes", "value", "spread", "samples"),
    [
        ([said(8)], 8, 0, 1),
        ([said(6), said(8), said(10)], 8, 1.633, 3),
        ([said(6), REFUSED, said(8)], 7, 1, 2),
        ([said(9), said(None), said(None)], 9, 0, 1),
        ([RAMBLED, said(None), said(1)], 1, 0, 1),
    ],
)
def test_mean_and_spread_of_what_counts(outcomes, value, spread, samples) -> None:
    judged = combine(outcomes)
    assert (judged.value, judged.samples, judged.error) == (value, samples, None)
    assert judged.spread == pytest.approx(spread, abs=1e-3)


def test_nothing_that_counts_is_no_score() -> None:
    judged = combine([RAMBLED, REFUSED, REFUSED])
    assert (judged.value, judged.spread, judged.samples) == (None, None, 0)
    assert judged.error == "refused: 3 of 3 answers failed and none counted; the first: I would rather not."


def test_cannot_tell_is_an_answer_without_score() -> None:
    judged = combine([said(None, "too dark"), said(None)])
    assert judged.value is None and judged.reasoning == "too dark"
    assert judged.error == "cannot_tell: asked 2 times"


def test_some_failed_and_the_rest_cannot_tell_is_a_failure_to_repeat() -> None:
    judged = combine([said(None, "too dark"), REFUSED])
    assert judged.error is not None and judged.error.startswith("refused: 1 of 2")
    assert judged.reasoning == "too dark"


def test_the_first_words_are_kept() -> None:
    assert combine([REFUSED, said(5, "first"), said(6, "second")]).reasoning == "first"


def test_a_recipe_follows_model_samples_cast_and_video(run_factory) -> None:
    universe = run_factory().universe
    row: tables.Row = {"characters": [{"name": "Pip", "action": "hops"}], "recipe": "g"}
    base = EvaluationConfig()
    made = {
        recipe(base, "identity_p", row, universe),
        recipe(base, "motion_p", row, universe),
        recipe(base.model_copy(update={"samples": 5}), "identity_p", row, universe),
        recipe(base.model_copy(update={"frames": 9}), "identity_p", row, universe),
        recipe(base.model_copy(update={"vlm": VlmConfig(model="other", temperature=0.3)}), "identity_p", row, universe),
        recipe(base, "identity_p", {**row, "recipe": "h"}, universe),
        recipe(base, "identity_p", {**row, "characters": [{"name": "Momo", "action": "hops"}]}, universe),
    }
    assert len(made) == 7
    elsewhere = VlmConfig(temperature=0.3, base_url="http://127.0.0.1:1/v1", concurrency=1)
    assert recipe(base.model_copy(update={"vlm": elsewhere}), "identity_p", row, universe) in made
    assert recipe(base.model_copy(update={"metrics": ()}), "identity_p", row, universe) in made
