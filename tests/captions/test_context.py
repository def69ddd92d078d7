"""What a captioner is told beside the frames."""

import pytest

from mimix_ray.captions.context import (
    Line,
    SidecarError,
    Sidecars,
    anchors,
    context,
    dialogue,
    passage,
    read_lines,
    read_sidecars,
)
from mimix_ray.config import StorageConfig
from mimix_ray.universe import Character, Episode, Footage, Show

SRT = """1
00:00:01,000 --> 00:00:03,500
<i>I smell cheese,</i>
and lots of it.

2
00:00:06,000 --> 00:00:08,000
Where did that cat go?
"""
VTT = """WEBVTT

00:01.000 --> 00:03.500
I smell cheese,
and lots of it.

00:06.000 --> 00:08.000
Where did that cat go?
"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,not spoken
Dialogue: 0,0:00:06.00,0:00:08.00,Default,,0,0,0,,Where did that cat go?
Dialogue: 0,0:00:01.00,0:00:03.50,Default,,0,0,0,,{\\an8\\i1}I smell cheese,\\Nand lots of it.
"""
LINES = (Line(1.0, 3.5, "I smell cheese, and lots of it."), Line(6.0, 8.0, "Where did that cat go?"))
SHOW = Show(
    id="pip",
    title="Pip and Momo",
    style="cartoon",
    episodes=Footage(videos="*.mp4"),
    characters=[Character(name="Pip", show="pip", style="cartoon")],
)


@pytest.mark.parametrize("text", [SRT, VTT, ASS], ids=["srt", "vtt", "ass"])
def test_subtitles_are_read_by_time_without_markup(text):
    assert read_lines(text) == LINES


@pytest.mark.parametrize(
    ("start_s", "end_s", "heard"),
    [(0, 1.0, []), (0, 1.1, [0]), (3.4, 6.0, [0]), (3.5, 6.5, [1]), (0, 9, [0, 1]), (8, 13, [])],
)
def test_dialogue_is_what_is_heard_in_the_clip(start_s, end_s, heard):
    assert dialogue(LINES, start_s, end_s).splitlines() == [LINES[n].text for n in heard]


SCRIPT = "\n".join(
    [f"Pip walks past tree {n}." for n in range(50)]
    + ["PIP: I smell cheese, and lots of it."]
    + [f"Momo crosses roof {n}." for n in range(50)]
    + ["PIP: Where did that cat go?"]
    + [f"Nobody is in room {n}." for n in range(50)]
)


@pytest.mark.parametrize(
    ("time_s", "has", "has_not"),
    [
        (1.0, "I smell cheese", "roof 30"),
        (3.5, "roof 24.", "cheese"),
        (7, "Where did that cat go?", "roof 10."),
        (99, "cat go", "tree"),
    ],
)
def test_the_script_is_placed_by_the_lines_spoken(time_s, has, has_not):
    part = passage(SCRIPT, anchors(SCRIPT, LINES), time_s, 400)
    assert has in part and has_not not in part
    assert len(part) <= 400
    assert set(part.splitlines()) <= set(SCRIPT.splitlines()), "whole lines only"


def test_a_short_script_is_told_whole_and_a_long_one_without_a_known_line_not_at_all():
    assert passage("A short one.", (), 3.0, 400) == "A short one."
    assert passage(SCRIPT, (), 3.0, 400) == ""
    assert anchors("Yes.\n" * 9, [Line(0, 1, "Yes.")]) == ()


@pytest.mark.parametrize("said", ["I smell cheese, and lots of it.", "PIP: I smell cheese, and\n   LOTS of it."])
@pytest.mark.parametrize("heard", ["I smell cheese, and lots of it.", "Pip: I smell cheese, and lots of it."])
def test_spoken_lines_are_found_in_other_dress(said, heard):
    script = f"INT. KITCHEN\n\nPIP\n    {said}\n"
    ((time_s, place),) = anchors(script, [Line(4.0, 5.0, heard)])
    assert time_s == 4.0 and script[place:].startswith("I smell")


def test_sections_are_headed_and_trimmed():
    sidecars = Sidecars(LINES, "INT. KITCHEN. Momo waits.", (), "Pip finds a cheese. " * 50)
    text = context(SHOW, sidecars, 0.0, 5.0, 100)
    assert text.startswith('Source: "Pip and Momo", a cartoon.')
    assert "Dialogue during the clip:\nI smell cheese, and lots of it.\n" in text
    assert "The script near the clip:\nINT. KITCHEN. Momo waits." in text
    synopsis = text.partition("What the episode is about:\n")[2].partition("\n")[0]
    assert len(synopsis) <= 100 and synopsis.split()[-1] in ("Pip", "finds", "a", "cheese.")


@pytest.mark.parametrize(("sidecars", "limit"), [(Sidecars(), 2000), (Sidecars(LINES, "Script.", (), "Synopsis."), 0)])
def test_without_anything_to_tell_only_the_source_is_told(sidecars, limit):
    assert context(SHOW, sidecars, 0.0, 5.0, limit) == 'Source: "Pip and Momo", a cartoon.'


def episode(folder, **sidecars):
    return Episode(show="pip", id="e01", video=str(folder / "e01.mp4"), style="cartoon", **sidecars)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_sidecars_are_read_in_the_encodings_people_save(tmp_path, encoding):
    (tmp_path / "e01.srt").write_bytes(SRT.replace("cheese", "Käse").encode(encoding))
    (tmp_path / "e01.txt").write_bytes("Pip riecht Käse.".encode(encoding))
    found = read_sidecars(
        episode(tmp_path, subtitles=str(tmp_path / "e01.srt"), synopsis=str(tmp_path / "e01.txt")), StorageConfig()
    )
    assert found.lines[0].text == "I smell Käse, and lots of it."
    assert (found.synopsis, found.script) == ("Pip riecht Käse.", "")


def test_an_empty_subtitle_file_says_nothing_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "e01.srt"
    path.write_text(" \n")
    assert read_sidecars(episode(tmp_path, subtitles=str(path)), StorageConfig()) == Sidecars()
    path.write_bytes(b"\x00\x01\x02 this is no subtitle file")
    with pytest.raises(SidecarError, match=r"e01.srt: no subtitles .* remove the file") as caught:
        read_sidecars(episode(tmp_path, subtitles=str(path)), StorageConfig())
    assert "\n" not in str(caught.value)
