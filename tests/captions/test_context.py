"""What a captioner is told beside the frames."""

import pytest

from mimix_ray.captions.context import (
    Line,
    SidecarError,
    Sidecars,
    anchors,
    context,
    dialogue,
    named,
    passage,
    places_in,
    read_lines,
    read_sidecars,
)
from mimix_ray.config import StorageConfig
from mimix_ray.universe import Character, Episode, Footage, Show
from mimix_ray.vlm.tokens import estimate_tokens

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


@pytest.mark.parametrize(
    "text",
    [
        SRT.replace("<i>I", "Pip: <i>I").replace("Where", "MR. MOMO (V.O.): Where"),
        VTT.replace("I smell", "<v Pip>I smell").replace("Where", "<v.loud MR. MOMO (V.O.)>Where"),
        ASS.replace("Default,,0,0,0,,{", "Default,Pip,0,0,0,,{").replace(
            ",,0,0,0,,Where", ",MR. MOMO (V.O.),0,0,0,,Where"
        ),
    ],
    ids=["srt", "vtt", "ass"],
)
def test_speakers_are_kept_where_subtitles_name_them(text):
    assert [line.speaker for line in read_lines(text)] == ["Pip", "MR. MOMO (V.O.)"]
    assert [line.text for line in read_lines(text)] == [line.text for line in LINES]
    assert dialogue(read_lines(text), 0, 9).startswith("Pip: I smell cheese, and lots of it.\nMR. MOMO (V.O.): Where")


@pytest.mark.parametrize("said", ["Listen to me: run!", "It is 10:30.", "Pip:", "He said: run"])
def test_what_only_looks_like_a_name_stays_in_the_line(said):
    (line,) = read_lines(SRT.split("\n\n")[0].replace("<i>I smell cheese,</i>\nand lots of it.", said))
    assert (line.speaker, line.text) == ("", said)


SCRIPT = "\n".join(
    [f"Pip walks past tree {n}." for n in range(50)]
    + ["PIP: I smell cheese, and lots of it."]
    + [f"Momo crosses roof {n}." for n in range(50)]
    + ["PIP: Where did that cat go?"]
    + [f"Nobody is in room {n}." for n in range(50)]
)


def anchored(script, lines):
    return anchors(lines, places_in(script, lines))


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
    part = passage(SCRIPT, anchored(SCRIPT, LINES), time_s, 130)
    assert has in part and has_not not in part
    assert 100 <= estimate_tokens(part) <= 130
    assert set(part.splitlines()) <= set(SCRIPT.splitlines()), "whole lines only"


def test_a_passage_of_any_alphabet_keeps_to_its_tokens():
    script = SCRIPT.replace("tree", "木").replace("roof", "屋根の上").replace("room", "häßliches Zimmer")
    for time_s in (0.0, 3.5, 7.0, 99.0):
        part = passage(script, anchored(script, LINES), time_s, 100)
        assert 60 <= estimate_tokens(part) <= 100 and part in script


def test_a_short_script_is_told_whole_and_a_long_one_without_a_known_line_not_at_all():
    assert passage("A short one.", (), 3.0, 100) == "A short one."
    assert passage(SCRIPT, (), 3.0, 100) == ""
    assert anchored("Yes.\n" * 9, [Line(0, 1, "Yes.")]) == ()


@pytest.mark.parametrize("said", ["I smell cheese, and lots of it.", "PIP: I smell cheese, and\n   LOTS of it."])
def test_spoken_lines_are_found_in_other_dress(said):
    script = f"INT. KITCHEN\n\nPIP\n    {said}\n"
    ((time_s, place),) = anchored(script, [Line(4.0, 5.0, "I smell cheese, and lots of it.")])
    assert time_s == 4.0 and script[place:].startswith("I smell")


@pytest.mark.parametrize(
    ("script", "speaker"),
    [
        ("INT. KITCHEN\n\n      PIP\n  I smell cheese, and\n  lots of it.\n", "PIP"),
        ("MR. MOMO (V.O.)\n(sniffing)\nAha! Wait.\nI smell cheese, and lots of it.", "MR. MOMO (V.O.)"),
        ("TOM: Hello.\nPip (aside): Ah! I smell cheese, and lots of it.", "Pip (aside)"),
        ("TOM\nHello.\n\nPIP:\nI smell cheese, and lots of it.", "PIP"),
        ("TOM\nHello.\n\nI smell cheese, and lots of it.", ""),
        ("INT. KITCHEN\nI smell cheese, and lots of it.", ""),
        ("Pip whispers to Momo: I smell cheese, and lots of it.", ""),
    ],
)
def test_the_script_names_who_speaks(script, speaker):
    places = places_in(script, LINES)
    first, second = named(LINES, script, places)
    assert first.speaker == speaker and (first.text, second) == (LINES[0].text, LINES[1])
    told = [Line(1.0, 3.5, LINES[0].text, "Momo")]
    assert named(told, script, places[:1])[0].speaker == "Momo", "the subtitles know better"


SOURCE = 'Source: "Pip and Momo", a cartoon.'
SYNOPSIS = "Pip finds a cheese. " * 500


def sections(text):
    """Tokens of a context's sections by their head's first word; of the source none."""
    return {part.split()[0]: estimate_tokens(part) for part in text.removeprefix(SOURCE).split("\n\n") if part}


def test_sections_are_headed_and_keep_to_one_budget():
    sidecars = Sidecars(LINES, SCRIPT, anchored(SCRIPT, LINES), SYNOPSIS)
    for tokens in range(0, 1500, 7):
        text = context(SHOW, sidecars, 0.0, 5.0, tokens)
        assert text.startswith(SOURCE)
        assert estimate_tokens(text.removeprefix(SOURCE)) <= tokens
    text = context(SHOW, sidecars, 0.0, 2.0, 400)
    assert "Dialogue during the clip:\nI smell cheese, and lots of it.\n" in text
    assert "The script near the clip:\n" in text and "PIP: I smell cheese" in text
    assert text.split()[-1] in ("Pip", "finds", "a", "cheese.")
    assert sum(sections(text).values()) > 370, "the budget is used"


def test_dialogue_comes_first_then_the_script_then_the_synopsis():
    sidecars = Sidecars(LINES, SCRIPT, anchored(SCRIPT, LINES), SYNOPSIS)
    assert sections(context(SHOW, sidecars, 0.0, 9.0, 30)).keys() == {"Dialogue"}
    shares = sections(context(SHOW, sidecars, 0.0, 9.0, 400))
    assert list(shares) == ["Dialogue", "The", "What"] and shares["The"] + 20 > shares["What"] > 140
    # What one does not need is another's.
    short = Sidecars(LINES, SCRIPT, anchored(SCRIPT, LINES), "Pip finds a cheese.")
    assert sections(context(SHOW, short, 0.0, 9.0, 400))["The"] > 300
    assert sections(context(SHOW, Sidecars(synopsis=SYNOPSIS), 0.0, 9.0, 400))["What"] > 380


@pytest.mark.parametrize(("sidecars", "tokens"), [(Sidecars(), 1000), (Sidecars(LINES, "Script.", (), "Synopsis."), 0)])
def test_without_anything_to_tell_only_the_source_is_told(sidecars, tokens):
    assert context(SHOW, sidecars, 0.0, 5.0, tokens) == SOURCE


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


def test_a_script_names_the_speakers_of_what_was_heard_and_subtitles_win(tmp_path):
    (tmp_path / "e01.txt").write_text("PIP\nI smell cheese, and lots of it.\n")
    script = {"script": str(tmp_path / "e01.txt")}
    assert str(read_sidecars(episode(tmp_path, **script), StorageConfig(), LINES).lines[0]).startswith("PIP: I smell")
    (tmp_path / "e01.srt").write_text("1\n00:00:01,000 --> 00:00:03,500\nOther words.\n")
    both = episode(tmp_path, subtitles=str(tmp_path / "e01.srt"), **script)
    assert read_sidecars(both, StorageConfig(), LINES).lines == (Line(1.0, 3.5, "Other words."),)


def test_an_empty_subtitle_file_says_nothing_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / "e01.srt"
    path.write_text(" \n")
    assert read_sidecars(episode(tmp_path, subtitles=str(path)), StorageConfig()) == Sidecars()
    path.write_bytes(b"\x00\x01\x02 this is no subtitle file")
    with pytest.raises(SidecarError, match=r"e01.srt: no subtitles .* remove the file") as caught:
        read_sidecars(episode(tmp_path, subtitles=str(path)), StorageConfig())
    assert "\n" not in str(caught.value)
