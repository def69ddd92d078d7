"""Looks that captions repeat are told, and nothing else."""

import pytest

from mimix_ray.captions.lint import lint
from mimix_ray.universe import Character, Footage, Show, Universe

LOOKS = {
    "Tom": "a lanky blue-grey cat with a white muzzle and green eyes",
    "Jerry": "a small brown mouse with large round ears",
    "Panda": "a black and white panda",
}
CAST = [Character(name=name, show="tj", style="cartoon", look=look) for name, look in LOOKS.items()]
UNIVERSE = Universe(
    name="u",
    shows=[Show(id="tj", title="TJ", style="cartoon", episodes=Footage(videos="*.mp4"), characters=CAST)],
)


def row(setting="a kitchen", **actions):
    characters = [{"name": name, "action": action} for name, action in actions.items()]
    return {"status": "ok", "characters": characters, "setting": setting}


def test_a_look_in_most_captions_is_told_in_its_longest_form():
    captions = [row(Tom=f"the grey cat with green eyes {verb} away") for verb in ("runs", "jumps", "crawls")]
    captions += [row(Tom="sleeps"), row(Tom="The Grey Cat yawns")]
    assert lint(captions, UNIVERSE) == {
        "Tom": {"grey cat": 4, "cat with green eyes": 3, "grey cat with green": 3},
    }


@pytest.mark.parametrize("count", [0, 1, 2])
def test_two_captions_are_no_habit(count):
    assert lint([row(Tom="a grey cat runs")] * count, UNIVERSE) == {}


def test_half_is_not_most():
    captions = [row(Tom="a grey cat runs")] * 3 + [row(Tom="sleeps")] * 3
    assert lint(captions, UNIVERSE) == {}
    assert lint(captions[:-1], UNIVERSE) == {"Tom": {"grey cat runs": 3}}


def test_actions_that_repeat_are_no_look():
    assert lint([row(Tom="chases Jerry", Jerry="runs away from Tom")] * 9, UNIVERSE) == {}


def test_a_name_is_no_look():
    assert lint([row(Panda="hugs Tom", Tom="hugs Panda tightly")] * 5, UNIVERSE) == {}


def test_it_counts_whoever_says_it():
    captions = [row(Tom="chases the small brown mouse", Jerry="runs")] * 4
    assert lint(captions, UNIVERSE) == {"Jerry": {"chases the small brown": 4, "small brown mouse": 4}}
    captions = [row("a room with a brown mouse", Jerry="runs")] * 4
    assert lint(captions, UNIVERSE) == {"Jerry": {"brown mouse": 4, "room with a brown": 4}}


def test_phrases_run_across_no_comma_and_into_nobody_elses_action():
    assert lint([row(Tom="leaps, grey", Jerry="cat")] * 4, UNIVERSE) == {}


def test_captions_that_failed_and_strangers_do_not_count():
    failed = {"status": "failed", "characters": None, "setting": None}
    assert lint([failed] * 5 + [row(Garfield="the grey cat eats")] * 5, UNIVERSE) == {}


def test_what_differs_from_caption_to_caption_is_no_habit():
    captions = [row(Tom=f"sneaks past door {n} and jumps over grey fence {n}") for n in range(2000)]
    assert lint(captions, UNIVERSE) == {"Tom": {"jumps over grey fence": 2000}}
