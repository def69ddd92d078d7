"""The miniature's renderer: what it paints is what it says it paints."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pysubs2
import pytest
from PIL import ImageFont

from mimix_ray import video
from mimix_ray.miniature.backdrops import BACKGROUNDS
from mimix_ray.miniature.cast import ACTIONS, LOOKS, SHOWS, wears
from mimix_ray.miniature.episodes import LINES, LONGEST, SHORTEST, plan, write_episodes
from mimix_ray.miniature.motion import LAPS, MOTIONS
from mimix_ray.miniature.world import FPS, HEIGHT, WIDTH, Actor, Shot, reference_image, render_shot, true_masks

EACH_ACTION = [(name, action) for name, can in ACTIONS.items() for action in can]
EACH_PLACE = [(show, place) for show, places in BACKGROUNDS.items() for place in places]


def shot_of(*acting: tuple[str, str], place: str | None = None, seconds: float = 3.0, seed: int = 5) -> Shot:
    show = LOOKS[acting[0][0]].show
    spots = (0.5,) if len(acting) == 1 else (0.3, 0.7)
    actors = tuple(
        Actor(name, action, (x, 0.92), (min(0.85, x + 0.3 * (action in LAPS)), 0.92), LOOKS[name].size)
        for (name, action), x in zip(acting, spots, strict=True)
    )
    return Shot(show, place or next(iter(BACKGROUNDS[show])), actors, seconds, seed)


@pytest.mark.parametrize("acting", [[("Pip", "hops"), ("Momo", "sneaks")], [("Mr. Plum", "tips")]], ids=str)
def test_a_shot_gives_the_same_pixels_each_time_and_others_with_another_seed(acting: list[tuple[str, str]]) -> None:
    shot = shot_of(*acting, seconds=0.25)
    once, again = np.stack(list(render_shot(shot))), np.stack(list(render_shot(shot)))
    assert once.shape == (6, HEIGHT, WIDTH, 3) and once.dtype == np.uint8
    assert np.array_equal(once, again)
    assert not np.array_equal(once, np.stack(list(render_shot(replace(shot, seed=6)))))


@pytest.mark.parametrize(("name", "action"), EACH_ACTION, ids=lambda value: value)
def test_each_character_wears_its_hue_and_no_other_one(name: str, action: str) -> None:
    shot = shot_of((name, action))
    for frame, truth in zip(render_shot(shot, fps=1), true_masks(shot, fps=1), strict=True):
        mask = truth.masks[0]
        assert wears(frame, name)[~_grown(mask)].mean() < 0.01
        if action != "peeks":
            assert wears(frame, name)[mask].mean() > 0.25
            assert mask.mean() > 0.03, "large enough to be read"
        for other in set(LOOKS) - {name}:
            assert wears(frame, other).mean() < 0.01


@pytest.mark.parametrize(("show", "place"), EACH_PLACE, ids=lambda value: value)
def test_places_keep_clear_of_every_hue(show: str, place: str) -> None:
    for seed in range(4):
        frame = next(render_shot(Shot(show, place, (), 1.0, seed)))
        assert {name: wears(frame, name).mean() for name in LOOKS} == pytest.approx(dict.fromkeys(LOOKS, 0), abs=0.003)


@pytest.mark.parametrize(
    "acting", [[("Momo", "waves")], [("Mr. Plum", "waddles")], [("Pip", "flaps"), ("Momo", "sits")]]
)
def test_masks_are_where_the_empty_place_changed(acting: list[tuple[str, str]]) -> None:
    shot = shot_of(*acting, seconds=2)
    empty = render_shot(replace(shot, actors=()), fps=2)
    for frame, bare, truth in zip(render_shot(shot, fps=2), empty, true_masks(shot, fps=2), strict=True):
        changed = np.abs(frame.astype(int) - bare).max(axis=2) > 8
        everyone = np.any(truth.masks, axis=0)
        assert changed[everyone].mean() > 0.9
        above = np.arange(HEIGHT)[:, None] < 0.8 * HEIGHT  # below lie the shadows
        assert (changed & above)[~_grown(everyone)].mean() < 0.01


def test_who_stands_nearer_hides_the_other_and_boxes_fit() -> None:
    shot = shot_of(("Pip", "waves"), ("Momo", "waves"))
    behind = replace(shot.actors[1], start_xy=(0.4, 0.86), end_xy=(0.4, 0.86))
    shot = replace(shot, actors=(shot.actors[0], behind))
    pip, momo = next(true_masks(shot)).masks
    alone = next(true_masks(replace(shot, actors=(behind,)))).masks[0]
    assert not (pip & momo).any()
    assert momo.sum() < alone.sum() and not (momo & ~alone).any()
    x0, y0, x1, y1 = next(true_masks(shot)).boxes[0] or (0, 0, 0, 0)
    rows, columns = np.nonzero(pip)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx(
        (x0 * WIDTH, y0 * HEIGHT, x1 * WIDTH, y1 * HEIGHT)
    )


def test_a_hidden_actor_has_no_box_only_while_it_is_hidden() -> None:
    areas = [truth.masks[0].mean() for truth in true_masks(shot_of(("Mr. Plum", "peeks"), seconds=4), fps=4)]
    assert min(areas) < 0.01 < 0.03 < max(areas)


@pytest.mark.parametrize("name", LOOKS)
def test_actions_look_different_from_each_other(name: str) -> None:
    films = {}
    for action in ACTIONS[name]:
        shot = shot_of((name, action))
        films[action] = np.stack([truth.masks[0] for truth in true_masks(shot, WIDTH // 4, HEIGHT // 4, fps=3)])
    for action, film in films.items():
        for other, theirs in films.items():
            if action < other:
                overlap = (film & theirs).sum() / (film | theirs).sum()
                assert overlap < 0.93, f"{action} and {other} move alike"


def test_portraits_show_their_character() -> None:
    for name in LOOKS:
        portrait = reference_image(name)
        assert portrait.shape == (192, 192, 3) and portrait.dtype == np.uint8
        assert [other for other in LOOKS if wears(portrait, other).mean() > 0.04] == [name]


def test_plans_hold_what_the_pipeline_needs() -> None:
    done: dict[str, list[str]] = {name: [] for name in LOOKS}
    font = ImageFont.load_default(size=15)
    for show in SHOWS:
        for number in (1, 2, 3):
            episode = plan(show, number)
            assert episode == plan(show, number) != plan(show, number, seed=1)
            assert episode.starts()[-1] == pytest.approx(40, abs=0.3)
            assert {len(shot.actors) for shot in episode.shots} == {0, 1, 2}
            for shot in episode.shots:
                assert SHORTEST - 1 / FPS <= shot.seconds <= LONGEST
                for actor in shot.actors:
                    assert LOOKS[actor.name].show == show
                    done[actor.name].append(actor.action)
    for name, actions in done.items():
        manner = next(iter(ACTIONS[name]))
        assert manner in actions and len(set(actions)) >= 5
    assert set(LINES) == set(MOTIONS)
    longest = max(font.getlength(f"Mr. Plum: {line}") for lines in LINES.values() for line in lines)
    assert longest < WIDTH


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("footage")
    write_episodes(root, episodes=1, seconds=22)
    return root


@pytest.mark.parametrize("show", SHOWS)
def test_an_episode_is_what_its_truth_and_sidecars_say(footage: Path, show: str) -> None:
    film = footage / show / "e01.mp4"
    truth = [json.loads(line) for line in _read(footage, show, "truth.jsonl").splitlines()]
    found = video.probe(film)
    assert (found.width, found.height, found.fps) == (384, 256, 24)
    assert video.count_frames(film) == truth[-1]["end_frame"]
    for shot in truth[1:]:
        cut = shot["start_frame"]
        around = video.read_frames_at(film, [cut - 2, cut - 1, cut, cut + 1])[:, :HEIGHT].astype(int)
        before, across, after = np.abs(np.diff(around, axis=0)).mean(axis=(1, 2, 3))
        assert across > 2 * max(before, after)

    subtitles = pysubs2.load(str(footage / show / "e01.srt"))
    starts = {round(shot["start_s"] * 1000) for shot in truth}
    assert starts <= {line.start for line in subtitles}
    assert [line.end for line in subtitles[:-1]] == [line.start for line in subtitles[1:]]
    for shot in truth:
        spoken = [line.text for line in subtitles if shot["start_s"] <= line.start / 1000 + 0.001 < shot["end_s"]]
        names = [actor["name"] for actor in shot["actors"]]
        assert [text.split(":")[0] for text in spoken if ":" in text] == names
        for actor in shot["actors"]:
            assert f"{actor['name']} {actor['phrase']}" in _read(footage, show, "script.txt")
            assert f"{actor['name']} {actor['phrase']}" in _read(footage, show, "synopsis.txt")


@pytest.mark.parametrize("show", SHOWS)
def test_subtitles_are_burnt_in_below_the_picture(footage: Path, show: str) -> None:
    frame = video.read_frames_at(footage / show / "e01.mp4", [30])[0]
    assert np.median(frame[HEIGHT + 2 :]) < 40
    assert frame[HEIGHT:].max() > 200


def test_a_second_run_renders_nothing_and_gives_the_same_list(footage: Path) -> None:
    files = sorted(path for path in footage.rglob("*") if path.is_file() and path.suffix != ".png")
    assert len(files) == 2 * 5
    times = [path.stat().st_mtime_ns for path in files]
    assert write_episodes(footage, episodes=1, seconds=22) == [footage / show / "e01.mp4" for show in SHOWS]
    assert [path.stat().st_mtime_ns for path in files] == times
    assert sorted(path for path in footage.rglob("*") if path.is_file() and path.suffix != ".png") == files


def _read(footage: Path, show: str, suffix: str) -> str:
    return (footage / show / f"e01.{suffix}").read_text("utf-8")


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask with a margin of three pixels."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))) > 0
