"""Which composites are made: exactly so many, evenly spread, the same every time."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_ray.composites.choose import EMPTY_TURNS, Candidate, ChoiceError, candidates, choose
from mimix_ray.universe import load_universe

UNIVERSE = load_universe("configs/universes/mimix.yaml")
CAST = {show.id: [one.name for one in show.characters] for show in UNIVERSE.shows}
STYLE = {show.id: show.style for show in UNIVERSE.shows}


def clip(show, number, *cast, hidden=False):
    return Candidate(f"{show}/e01/{number:08d}", show, STYLE[show], cast, hidden)


def many(count=400):
    """Clips of all shows in turn: nobody, one or two of the show's cast."""
    shows = list(CAST)
    return [clip(show := shows[n % 4], n, *(CAST[show] * 2)[n % 3 : n % 3 + n // 4 % 3]) for n in range(count)]


def by_id(clips):
    return {one.clip_id: one for one in clips}


@pytest.mark.parametrize(("ratio", "count"), [(0, 0), (0.001, 0), (0.05, 20), (0.1, 40), (0.2, 80), (1, 400)])
def test_as_many_as_the_ratio_says(ratio, count):
    choices = choose(many(), UNIVERSE, ratio, seed=0)
    assert len(choices) == count
    assert [one.composite_id for one in choices] == [f"composites/{number:08d}" for number in range(count)]


def test_both_directions_all_characters_and_shows_get_the_same():
    clips = many()
    choices = choose(clips, UNIVERSE, 0.2, seed=3)
    into = Counter(by_id(clips)[one.background_clip].style for one in choices)
    assert into == {"cartoon": 40, "realistic": 40}
    backgrounds = Counter(by_id(clips)[one.background_clip].show for one in choices)
    assert set(backgrounds.values()) == {20}
    for style in ("cartoon", "realistic"):
        uses = Counter(one.character for one in choices if UNIVERSE.character(one.character).style == style)
        assert max(uses.values()) - min(uses.values()) <= 1
    assert len({one.subject_clip for one in choices}) > 50


@given(st.integers(0, 5), st.floats(0.05, 0.5))
def test_every_choice_makes_sense(seed, ratio):
    clips = by_id(many())
    for one in choose(list(clips.values()), UNIVERSE, ratio, seed):
        subject, background = clips[one.subject_clip], clips[one.background_clip]
        assert one.character in subject.cast
        assert subject.style != background.style


def test_the_choice_is_the_seeds_and_a_larger_ratio_only_adds():
    clips = many()
    few, more = choose(clips, UNIVERSE, 0.05, 1), choose(clips, UNIVERSE, 0.2, 1)
    assert more[: len(few)] == few
    assert choose(list(reversed(clips)), UNIVERSE, 0.05, 1) == few
    assert choose(clips, UNIVERSE, 0.05, 2) != few


def test_subjects_alone_and_unhidden_come_first_and_empty_backgrounds():
    clips = [
        clip("mr_bean", 0, "Mr. Bean"),
        clip("mr_bean", 1, "Mr. Bean", hidden=True),
        clip("young_sheldon", 2, "Sheldon", "Mary"),
        clip("tom_and_jerry", 3),
        *(clip("tom_and_jerry", number, "Tom", "Jerry") for number in (4, 5, 6)),
    ]
    choices = choose(clips, UNIVERSE, 1, seed=0)
    real = [one for one in choices if UNIVERSE.character(one.character).style == "realistic"]
    assert next(one.subject_clip[-1] for one in real if one.character == "Mr. Bean") == "0"
    assert [one.background_clip[-1] for one in real][:EMPTY_TURNS] == ["3"] * EMPTY_TURNS


@pytest.mark.parametrize(
    "clips",
    [
        [clip("tom_and_jerry", 1, "Tom"), clip("we_bare_bears", 2, "Panda")],
        [clip("tom_and_jerry", 1), clip("mr_bean", 2)],
    ],
    ids=["one style", "nobody in them"],
)
def test_nothing_to_mix(clips):
    with pytest.raises(ChoiceError, match=r"nothing to mix: of 2 captioned clips .*set composites\.ratio to 0"):
        choose(clips, UNIVERSE, 1, seed=0)
    assert choose(clips, UNIVERSE, 0, seed=0) == []


def test_candidates_join_captions_with_clips():
    clips = [{"clip_id": name, "show": "mr_bean", "style": "realistic"} for name in ("a", "b", "c")]
    captions = [
        {"clip_id": "b", "characters": [{"name": "Mr. Bean", "action": "hides behind a door"}] * 2},
        {"clip_id": "a", "characters": None},
    ]
    assert candidates(captions, clips) == [
        Candidate("b", "mr_bean", "realistic", ("Mr. Bean",), True),
        Candidate("a", "mr_bean", "realistic", ()),
    ]
