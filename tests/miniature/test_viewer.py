"""What the viewer recognises in clips that it has never seen: who, where, doing what, in which setting and style."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from mimix_ray.miniature.backdrops import BACKGROUNDS, backdrop
from mimix_ray.miniature.cast import LOOKS, SHOWS
from mimix_ray.miniature.viewer.learn import nonsense
from mimix_ray.miniature.viewer.recognise import look
from mimix_ray.miniature.world import Shot
from tests.miniature.viewings import SEASON, actor, clip, iou, render, season, through_codecs

HARDLY_SEEN = 0.004
"""Share of the frame below which nobody need recognise a character: 86 pixels of 192 x 112."""


def test_it_finds_who_is_there_and_nobody_else() -> None:
    right = wrong = missed = 0
    for one in season():
        found = {(subject.name, frame) for subject in one.view.subjects for frame in subject.boxes()}
        seen = [dict(zip((a.name for a in one.shot.actors), areas, strict=True)) for areas in one.areas]
        there = {(name, frame) for frame, areas in enumerate(seen) for name, area in areas.items() if area > 0}
        plain = {(name, frame) for name, frame in there if seen[frame][name] > HARDLY_SEEN}
        right += len(found & there)
        wrong += len(found - there)
        missed += len(plain - found)
    print(f"characters in frames: precision {right / (right + wrong):.3f}, recall {right / (right + missed):.3f}")
    assert right / (right + wrong) > 0.99
    assert right / (right + missed) > 0.97


def test_it_names_the_cast_of_each_clip() -> None:
    for one in season():
        assert {subject.name for subject in one.view.subjects} == {a.name for a in one.shot.actors}, one.shot


def test_its_boxes_fit() -> None:
    fits: dict[str, list[float]] = {name: [] for name in LOOKS}
    for one in season():
        for subject in one.view.subjects:
            index = [a.name for a in one.shot.actors].index(subject.name)
            for frame, box in subject.boxes().items():
                true = one.boxes[frame][index]
                if true and one.areas[frame][index] > HARDLY_SEEN:
                    fits[subject.name].append(iou(box, true))
    for name, values in fits.items():
        print(f"boxes of {name}: IoU {np.mean(values):.3f}, one of ten below {np.percentile(values, 10):.3f}")
        assert np.mean(values) > 0.8
        assert np.percentile(values, 10) > 0.65


def test_it_tells_what_they_do() -> None:
    acts = [(subject, one) for one in season() for subject in one.view.subjects]
    wrong = [
        (subject.name, subject.action, dict(subject.odds))
        for subject, one in acts
        if subject.action != next(a.action for a in one.shot.actors if a.name == subject.name)
    ]
    print(f"actions: {1 - len(wrong) / len(acts):.3f} of {len(acts)} right; wrong: {wrong}")
    assert len(wrong) <= 0.1 * len(acts)


def test_it_knows_the_place_and_its_style() -> None:
    for one in season():
        assert one.view.setting == BACKGROUNDS[one.shot.show][one.shot.background]
        assert one.view.scene_style == SHOWS[one.shot.show]
        for subject in one.view.subjects:
            assert (subject.realism > 0.5) == (LOOKS[subject.name].style == "realistic")


def test_a_chase_names_who_is_chased() -> None:
    view = look(
        clip("pip_and_momo", "kitchen", actor("Pip", "runs", 0.3, 0.85, 0.45), actor("Momo", "chases", 0.1, 0.6))
    )
    assert {subject.name: view.phrase(subject) for subject in view.subjects} == {
        "Pip": "runs away from Momo",
        "Momo": "chases Pip back and forth",
    }


def pasted(name: str, show: str, background: str) -> list[np.ndarray]:
    """A character cut out of its own show and put into the other."""
    home = next(one for one in SHOWS if one != show)
    empty = backdrop(show, background, 192, 112, SEASON)
    place = next(iter(BACKGROUNDS[home]))
    without = render(Shot(home, place, (), 6.0, SEASON))[0]
    frames = []
    for frame in clip(home, place, actor(name, "waves")):
        own = cv2.dilate((cv2.absdiff(frame, without).max(axis=2) > 40).astype(np.uint8), np.ones((3, 3), np.uint8))
        frames.append(np.where(own[..., None] > 0, frame, empty))
    return through_codecs(frames)


@pytest.mark.parametrize(
    ("name", "show", "background"),
    [("Pip", "mr_plum", "street"), ("Momo", "mr_plum", "park"), ("Mr. Plum", "pip_and_momo", "garden")],
)
def test_in_a_composite_character_and_scene_have_each_their_style(name: str, show: str, background: str) -> None:
    view = look(pasted(name, show, background))
    assert [subject.name for subject in view.subjects] == [name]
    assert view.scene_style == SHOWS[show]
    assert (view.subjects[0].realism > 0.5) == (LOOKS[name].style == "realistic")


def test_it_hardly_ever_sees_somebody_in_nonsense() -> None:
    rng = np.random.default_rng(100)
    clips = 60
    fooled = [bool(look(nonsense(10, rng)).subjects) for _ in range(clips)]
    print(f"somebody seen in {sum(fooled)} of {clips} clips of nothing")
    assert sum(fooled) <= 0.1 * clips


@pytest.mark.parametrize("show", SHOWS)
def test_it_sees_nobody_in_empty_places(show: str) -> None:
    for background, said in BACKGROUNDS[show].items():
        view = look(clip(show, background))
        assert (view.subjects, view.setting, view.readable) == ((), said, True)


def test_noise_and_darkness_are_unreadable() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (112, 192, 3), np.uint8) for _ in range(10)]
    for frames in (noise, [np.zeros((112, 192, 3), np.uint8)] * 10):
        view = look(frames)
        assert not view.readable
        assert view.setting == "an unknown place"


@pytest.mark.parametrize("size", [(384, 224), (832, 480), (128, 80), (224, 224)])
def test_it_works_at_other_sizes(size: tuple[int, int]) -> None:
    shot = Shot(
        "mr_plum", "street", (actor("Mr. Plum", "waves", 0.3, size=0.75), actor("Nan Fern", "nods", 0.7)), 6.0, 3
    )
    small, other = look(through_codecs(render(shot))), look(through_codecs(render(shot, size)))
    assert {one.name for one in other.subjects} == {"Mr. Plum", "Nan Fern"}
    for subject in other.subjects:
        twin = small.find(subject.name)
        assert twin is not None
        assert np.mean([iou(box, twin.boxes()[frame]) for frame, box in subject.boxes().items()]) > 0.75


def test_one_frame_is_enough_for_who_and_where() -> None:
    frames = clip("pip_and_momo", "garden", actor("Pip", "waves", 0.3, size=0.45), actor("Momo", "sits", 0.7))
    view = look(frames[:1])
    assert {one.name for one in view.subjects} == {"Pip", "Momo"}


def test_a_still_character_stands_still() -> None:
    frames = clip("pip_and_momo", "garden", actor("Momo", "waves"))
    view = look([frames[0]] * 10)
    assert view.phrase(view.subjects[0]) == "stands still"


def test_ten_frames_take_less_than_60_ms() -> None:
    frames = clip("pip_and_momo", "kitchen", actor("Pip", "runs", 0.3, 0.85, 0.45), actor("Momo", "chases", 0.1, 0.6))
    took = []
    for _ in range(10):
        begin = time.thread_time()
        look(frames)
        took.append(time.thread_time() - begin)
    print(f"ten frames: {1000 * min(took):.0f} ms of one core")
    assert min(took) < 0.06
