"""Universe files: the cast is found by any of its names, episodes by their patterns, errors by file, line and key."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mimix_ray.config import StorageConfig
from mimix_ray.universe import AmbiguousCharacterError, UniverseError, UnknownCharacterError, clean, load_universe

MIMIX, MINIATURE = "configs/universes/mimix.yaml", "configs/universes/miniature.yaml"

TWO_SHOWS = """\
name: test
shows:
  - id: toons
    title: Toons
    style: cartoon
    episodes:
      videos: "{root}/toons/**/*.mp4"
      subtitles: "{stem}.srt"
      synopsis: "about/{stem}.txt"
      script: all.txt
    characters:
      - name: Zoë
        aliases: [the bear]
        references: ["{root}/faces/zoe*.png"]
      - name: Bruno
        aliases: [the bear, Bruno B.]
  - id: people
    title: People
    style: realistic
    episodes: {videos: "{root}/people/*.*", skip_head_s: 61.5, skip_tail_s: 30}
    characters:
      - name: Dr. Okoye
"""


def universe_file(folder: Path, text: str) -> Path:
    path = folder / "universe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def two_shows(tmp_path):
    return load_universe(universe_file(tmp_path, TWO_SHOWS))


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_the_papers_two_lists_of_characters():
    universe = load_universe(MIMIX)
    training = {one.name for one in universe.characters if "training" in one.sets}
    evaluation = {one.name for one in universe.characters if "evaluation" in one.sets}
    assert len(training) == 11 and len(evaluation) == 10
    assert training - evaluation == {"Spike", "Missy"} and evaluation - training == {"Penny"}
    assert {show.id: show.style for show in universe.shows} == {
        "tom_and_jerry": "cartoon",
        "we_bare_bears": "cartoon",
        "mr_bean": "realistic",
        "young_sheldon": "realistic",
    }
    assert all(one.look and one.manner for one in universe.characters)


def test_the_miniatures_cast():
    universe = load_universe(MINIATURE)
    assert universe.names == ("Pip", "Momo", "Mr. Plum", "Nan Fern")
    assert [one.style for one in universe.characters] == ["cartoon", "cartoon", "realistic", "realistic"]
    assert pickle.loads(pickle.dumps(universe)) == universe


@pytest.mark.parametrize("spelling", ["Mr. Plum", "Mr Plum", "mr.plum", " MR.  Plum", "mister plum", "Plum"])
def test_a_name_in_any_spelling(spelling):
    assert load_universe(MINIATURE).character(spelling).name == "Mr. Plum"


def test_unicode_names_meet_in_any_normal_form(two_shows):
    assert two_shows.character("Zoe\u0308").name == "Zoë"


def test_an_unknown_name_is_told_the_nearest_and_all(two_shows):
    with pytest.raises(UnknownCharacterError, match=r"'Brunno'; did you mean 'Bruno'\? known: Zoë, Bruno"):
        two_shows.character("Brunno")


def test_an_alias_of_two_is_ambiguous(two_shows):
    with pytest.raises(AmbiguousCharacterError, match="'The Bear' may be 'Zoë' or 'Bruno'; give the full name"):
        two_shows.character("The Bear")
    assert two_shows.character("bruno b").name == "Bruno"


def test_an_unknown_show(two_shows):
    assert two_shows.show("toons").title == "Toons"
    with pytest.raises(UniverseError, match="unknown show 'tons'; did you mean 'toons'"):
        two_shows.show("tons")


def test_episodes_with_their_sidecars(tmp_path, two_shows):
    root = tmp_path / "run [1]"
    make(
        root,
        *("toons/s1/e02.mp4", "toons/s1/e01.mp4", "toons/s1/e01.srt", "toons/s1/about/e01.txt", "toons/s1/all.txt"),
        *("toons/s2/e01.mp4", "people/Der erste Tag!.mkv"),
    )
    # A root with wildcards of its own in its name is taken as it is.
    found = two_shows.episodes(str(root), StorageConfig())
    assert [(one.show, one.id, one.style) for one in found] == [
        ("toons", "s1-e01", "cartoon"),
        ("toons", "s1-e02", "cartoon"),
        ("toons", "s2-e01", "cartoon"),
        ("people", "Der-erste-Tag", "realistic"),
    ]
    first, second = found[:2]
    assert first.video == str(root / "toons/s1/e01.mp4")
    assert first.subtitles == str(root / "toons/s1/e01.srt")
    assert first.synopsis == str(root / "toons/s1/about/e01.txt")
    assert first.script == second.script == str(root / "toons/s1/all.txt")
    assert second.subtitles is None and second.synopsis is None
    assert [(one.skip_head_s, one.skip_tail_s) for one in found] == [(0, 0)] * 3 + [(61.5, 30)]


def test_an_id_stays_when_other_videos_come(tmp_path, two_shows):
    make(tmp_path, "toons/s1/e01.mp4")
    before = two_shows.episodes(str(tmp_path), StorageConfig())
    make(tmp_path, "toons/s1/e02.mp4", "toons/s2/e01.mp4", "toons/extra.mp4")
    assert before[0] in two_shows.episodes(str(tmp_path), StorageConfig())


def test_no_footage_is_no_episodes(tmp_path, two_shows):
    assert two_shows.episodes(str(tmp_path), StorageConfig()) == []


def test_two_videos_with_one_id_are_refused(tmp_path, two_shows):
    make(tmp_path, "people/e1.mp4", "people/e1.mkv")
    with pytest.raises(UniverseError, match=r"show 'people': .*e1\.mp4 and .*e1\.mkv both make the episode id 'e1'"):
        two_shows.episodes(str(tmp_path), StorageConfig())


def test_reference_images(tmp_path, two_shows):
    make(tmp_path, "faces/zoe2.png", "faces/zoe1.png", "faces/bruno.png")
    found = two_shows.references("Zoë", str(tmp_path), StorageConfig())
    assert found == [str(tmp_path / "faces/zoe1.png"), str(tmp_path / "faces/zoe2.png")]
    assert two_shows.references("Bruno", str(tmp_path), StorageConfig()) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("style: cartoon", "style: anime", 5, r"shows\[0\]\.style: Input should be 'cartoon' or 'realistic'"),
        ("    style: realistic\n", "", 17, r"shows\[1\]\.style: is missing"),
        (
            "aliases: [the bear]",
            "alias: [the bear]",
            13,
            r"characters\[0\]\.alias: unknown key; did you mean 'aliases'",
        ),
        ("title: People", "titel: People", 18, r"shows\[1\]\.titel: unknown key; did you mean 'title'"),
        ("name: Bruno", "name: '[Bruno]'", 15, r"characters\[1\]\.name: '\[Bruno\]' is no name"),
        ("name: Dr. Okoye", "name: bruno", 22, "'bruno' is a character of 'toons' already"),
        ("name: Bruno", "name: Zoë", 15, "'Zoë' is a character of 'toons' already"),
        ("the bear, Bruno B.", "dr okoye", 16, r"aliases\[0\]: 'dr okoye' is another character's name"),
        ("id: people", "id: toons", 17, r"shows\[1\]\.id: 'toons' is another show's id"),
        ("id: people", "id: peo/ple", 17, r"shows\[1\]\.id: "),
        ("{root}/people", "{rot}/people", 20, r"episodes\.videos: \{rot\} is not known here; known: \{root\}"),
        ("{stem}.srt", "{root}.srt", 8, r"episodes\.subtitles: \{root\} is not known here; known: \{stem\}"),
        ("title: People", "title: People\n    title: Persons", 19, r"shows\[1\]\.title: is given twice"),
        ("name: Dr. Okoye", "name: Dr. Okoye\n        show: toons", 23, "'toons' is not the show's, 'people'"),
        ("title: Toons", "title: [Toons", 5, "not valid YAML"),
        ("skip_head_s: 61.5", "skip_head_s: -1", 20, r"episodes\.skip_head_s: .*greater than or equal to 0"),
        ("skip_tail_s: 30", "skip_tail_s: .inf", 20, r"episodes\.skip_tail_s: .*finite number"),
        ("title: Toons", "title: 7", 4, r"shows\[0\]\.title: "),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path, old, new, line, says):
    path = universe_file(tmp_path, TWO_SHOWS.replace(old, new, 1))
    with pytest.raises(UniverseError, match=says) as error:
        load_universe(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "says"), [("", "is empty"), ("- 1", "valid dict"), ("name: x\nshows: []", "shows: ")])
def test_a_file_that_is_no_universe(tmp_path, text, says):
    with pytest.raises(UniverseError, match=says):
        load_universe(universe_file(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UniverseError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        load_universe(tmp_path / "none.yaml")


def test_clean_text():
    assert clean(" a\tb\n\u2003c\0d\ud800 ") == "a b c d"
