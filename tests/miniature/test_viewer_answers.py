"""The viewer's answers to the questions that the stages put, read by the stages' own parsers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mimix_ray.miniature.backdrops import BACKGROUNDS
from mimix_ray.miniature.cast import ACTIONS, LOOKS, SHOWS
from mimix_ray.miniature.viewer.answers import BadQuestion, answer
from mimix_ray.miniature.viewer.judge import actions_in
from mimix_ray.universe import Character, load_universe
from mimix_ray.vlm.questions import Question, caption, judge, locate
from mimix_ray.vlm.questions.judge import AXES, Verdict
from tests.miniature.viewings import actor, clip, iou, season

UNIVERSE = load_universe("configs/universes/miniature.yaml")
NOISE = list(np.random.default_rng(0).integers(0, 256, (8, 112, 192, 3), np.uint8))


def put(question: Question[Any], frames: Sequence[np.ndarray]) -> Any:
    """A question put to the viewer over these frames, and its answer as the stage reads it."""
    said = json.loads(json.dumps(answer(question.name, dict(question.schema), question.text, frames)))
    assert list(said) == list(question.schema["properties"]), "keys in the order of the schema"
    return question.parse(said)


def cast(*names: str) -> list[Character]:
    return [UNIVERSE.character(name) for name in names]


def verdict(axis: judge.Axis, frames: Sequence[np.ndarray], prompt: str, *names: str) -> Verdict:
    found: Verdict = put(judge.question(axis, [b""] * len(frames), cast(*names), prompt), frames)
    return found


def score(axis: judge.Axis, frames: Sequence[np.ndarray], prompt: str, *names: str) -> int:
    found = verdict(axis, frames, prompt, *names).score
    assert found is not None
    return found


PIP_HOPS = "[Character: Pip], hops quickly across the floor. [scene-style:cartoon]"
CHASE = "[Character: Pip], runs away from Momo. [Character: Momo], chases Pip. [scene-style:cartoon]"


@pytest.fixture(scope="module")
def hops() -> tuple[np.ndarray, ...]:
    return clip("pip_and_momo", "garden", actor("Pip", "hops", 0.1, 0.9, 0.45))


@pytest.fixture(scope="module")
def chase() -> tuple[np.ndarray, ...]:
    return clip("pip_and_momo", "kitchen", actor("Pip", "runs", 0.3, 0.85, 0.45), actor("Momo", "chases", 0.1, 0.6))


def test_a_caption_says_who_does_what_where(hops: Sequence[np.ndarray]) -> None:
    said = put(caption.question([b""] * 10, cast("Pip", "Momo")), hops)
    assert [(one.name, one.action) for one in said.characters] == [("Pip", "hops quickly across the floor")]
    assert (said.setting, said.scene_style) == ("a garden", "cartoon")
    assert said.confidence > 0.7
    assert "Pip" in said.reasoning


def test_a_caption_names_only_the_cast_it_is_given(hops: Sequence[np.ndarray]) -> None:
    assert put(caption.question([b""] * 10, cast("Momo", "Mr. Plum")), hops).characters == ()


def test_captions_of_a_season_are_right() -> None:
    for one in season():
        said = put(caption.question([b""] * 10, UNIVERSE.characters), one.frames)
        assert {character.name for character in said.characters} == {a.name for a in one.shot.actors}
        assert said.setting == BACKGROUNDS[one.shot.show][one.shot.background]
        assert said.scene_style == SHOWS[one.shot.show]


def test_a_caption_of_noise_is_empty_and_unsure() -> None:
    said = put(caption.question([b""] * 8, UNIVERSE.characters), NOISE)
    assert said.characters == ()
    assert said.confidence == 0


def test_locate_gives_boxes_of_whom_it_was_asked_for(chase: Sequence[np.ndarray]) -> None:
    subjects = put(locate.question([b""] * 10, cast("Momo", "Nan Fern")), chase)
    assert {one.name for one in subjects} == {"Momo"}
    assert [one.frame for one in subjects] == sorted({one.frame for one in subjects})
    both = put(locate.question([b""] * 10, UNIVERSE.characters), chase)
    assert {one.name for one in both} == {"Pip", "Momo"}
    assert all(any(iou(one.box, other.box) > 0.999 for other in both) for one in subjects)


def test_locate_finds_nobody_in_noise() -> None:
    assert put(locate.question([b""] * 8, UNIVERSE.characters), NOISE) == ()


@pytest.mark.parametrize("axis", AXES)
def test_the_right_video_scores_high(axis: judge.Axis, hops: Sequence[np.ndarray], chase: Sequence[np.ndarray]) -> None:
    assert score(axis, hops, PIP_HOPS, "Pip") >= 8
    assert score(axis, chase, CHASE, "Pip", "Momo") >= 8


def test_identity_of_somebody_else_is_1(hops: Sequence[np.ndarray]) -> None:
    prompt = "[Character: Momo], hops quickly across the floor. [scene-style:cartoon]"
    assert score("identity_p", hops, prompt, "Momo") == 1
    assert score("identity_p", hops, prompt, "Pip", "Momo") in range(4, 7), "one of two"


@pytest.mark.parametrize("axis", AXES)
def test_a_missing_partner_costs_on_every_axis(axis: judge.Axis, hops: Sequence[np.ndarray]) -> None:
    prompt = "[Character: Pip], hops quickly. [Character: Nan Fern], waves her stick. [scene-style:cartoon]"
    assert score(axis, hops, prompt, "Pip", "Nan Fern") <= score(axis, hops, PIP_HOPS, "Pip") - 2


def test_motion_is_judged_by_what_was_asked(hops: Sequence[np.ndarray]) -> None:
    asked = {
        action: score("motion_p", hops, f"[Character: Pip], {phrase}. [scene-style:cartoon]", "Pip")
        for action, phrase in ACTIONS["Pip"].items()
    }
    assert max(asked, key=asked.__getitem__) == "hops"
    assert all(asked[action] <= 4 for action in asked if action != "hops")
    strange = "[Character: Pip], reads the newspaper. [scene-style:cartoon]"
    assert 3 <= score("motion_p", hops, strange, "Pip") <= 7, "moves as itself, but does not do that"


def test_motion_of_one_who_stands_still_is_at_most_3(hops: Sequence[np.ndarray]) -> None:
    assert score("motion_p", [hops[0]] * 8, PIP_HOPS, "Pip") <= 3


def test_motion_cannot_be_told_from_one_frame_or_noise(hops: Sequence[np.ndarray]) -> None:
    assert verdict("motion_p", hops[:1], PIP_HOPS, "Pip").score is None
    assert verdict("motion_p", NOISE, PIP_HOPS, "Pip").score is None
    assert verdict("interaction_p", NOISE, CHASE, "Pip", "Momo").score is None


def test_noise_has_nobody_and_no_style() -> None:
    assert score("identity_p", NOISE, PIP_HOPS, "Pip") == 1
    assert score("style_p", NOISE, PIP_HOPS, "Pip") == 1


def test_style_sees_how_each_character_is_drawn(hops: Sequence[np.ndarray]) -> None:
    right = score("style_p", hops, PIP_HOPS, "Pip")
    other_scene = score("style_p", hops, PIP_HOPS.replace("cartoon", "realistic"), "Pip")
    redrawn = clip("mr_plum", "park", actor("Pip", "hops", 0.1, 0.9, 0.45))  # painted with the other show's brush
    both_wrong = score("style_p", redrawn, PIP_HOPS, "Pip")
    assert right >= 9
    assert 3 <= other_scene <= 7
    assert both_wrong <= 4


def test_interaction_wants_them_together_and_near() -> None:
    prompt = "[Character: Pip], waves. [Character: Momo], waves. [scene-style:cartoon]"

    def waving(x: float, other: float) -> int:
        pair = actor("Pip", "waves", x, size=0.4), actor("Momo", "waves", other)
        return score("interaction_p", clip("pip_and_momo", "garden", *pair), prompt, "Pip", "Momo")

    assert waving(0.38, 0.62) > waving(0.12, 0.88)


def test_shuffled_frames_do_not_change_who_is_there(hops: Sequence[np.ndarray]) -> None:
    shuffled = [hops[index] for index in (3, 8, 0, 5, 9, 1, 7, 2, 6, 4)]
    assert score("identity_p", shuffled, PIP_HOPS, "Pip") == score("identity_p", hops, PIP_HOPS, "Pip")


@pytest.mark.parametrize("name", LOOKS)
def test_every_action_is_understood_in_its_own_words(name: str) -> None:
    for action, phrase in ACTIONS[name].items():
        assert action in actions_in(phrase, name)
        assert actions_in(phrase, name) <= {action, "runs", "chases"}, phrase


@pytest.mark.parametrize(
    ("name", "text", "actions"),
    [
        ("Pip", "hops on the spot", {"hops"}),
        ("Mr. Plum", "lifts his bowler hat", {"tips"}),
        ("Mr. Plum", "tips his hat to Pip", {"tips"}),
        ("Nan Fern", "bustles down the street and waves her stick", {"bustles", "brandishes"}),
        ("Nan Fern", "waves to Pip", {"waves"}),
        ("Momo", "stalks after Pip", {"sneaks"}),
        ("Pip", "reads the newspaper", set()),
    ],
)
def test_it_understands_how_people_write(name: str, text: str, actions: set[str]) -> None:
    assert actions_in(text, name) == actions


def test_unknown_questions_and_mixed_sizes_are_refused() -> None:
    with pytest.raises(BadQuestion, match="known: caption, locate"):
        answer("translate", {}, "", NOISE)
    with pytest.raises(BadQuestion, match="different sizes"):
        answer("caption", {}, "", [NOISE[0], NOISE[1][:, :100]])


def test_frames_of_other_counts_are_judged_alike(hops: Sequence[np.ndarray]) -> None:
    eight = [hops[index] for index in (0, 1, 3, 4, 5, 6, 8, 9)]
    assert score("motion_p", eight, PIP_HOPS, "Pip") >= 8
