"""What a captioner is told beside the frames (paper 3.1): source, dialogue, synopsis, the script near the clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pysubs2

from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage, split
from mimix_ray.universe import Episode, Show
from mimix_ray.vlm.tokens import BYTES_PER_TOKEN, estimate_tokens

SHORTEST_ANCHOR = 10
"""Characters of a spoken line below which its place in the script is not trusted ("Yes." is everywhere)."""
_NAME = r"(?P<name>[^\W\d_][\w .&#'’-]{0,30}?)(?P<how> *\([^()]{1,20}\))?"
SHORTEST_REACH = 4000
"""Characters, some two pages, within which a script's next line is looked for; a tenth of a longer script."""
SPEAKER = re.compile(rf"{_NAME} ?: +")
"""What stands before a spoken line: "Tom: ", "MR. BEAN (V.O.): "."""
CUE = re.compile(rf"(?!INT\b|EXT\b){_NAME} *:?")
"""A line of its own above what is spoken, as screenplays have it: "TOM", "MR. BEAN (V.O.)"."""
VOICE = re.compile(r"<v(?:\.\S*)? +([^<>]+)>")
"""WebVTT's mark of a voice, which pysubs2 drops with all the other marks."""


class SidecarError(ValueError):
    """A subtitle, script or synopsis file that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class Line:
    """One line of dialogue; times in seconds of the episode."""

    start_s: float
    end_s: float
    text: str
    speaker: str = ""
    """As the subtitles or the script name him; "" where neither does."""

    def __str__(self) -> str:
        return f"{self.speaker}: {self.text}" if self.speaker else self.text


@dataclass(frozen=True)
class Sidecars:
    """What is known of an episode beside its pictures; empty where there is no file."""

    lines: tuple[Line, ...] = ()
    script: str = ""
    anchors: tuple[tuple[float, int], ...] = ()
    """The script's, see `anchors`."""
    synopsis: str = ""


def read_sidecars(episode: Episode, config: StorageConfig, heard: tuple[Line, ...] = ()) -> Sidecars:
    """Reads an episode's sidecar files; raises SidecarError, or StorageError where a file has gone.

    Args:
        episode: The episode.
        config: Where s3:// addresses are served.
        heard: Lines transcribed from its sound; a subtitle file, where there is one, is better and wins.
    """

    def text(address: str | None) -> str:
        if address is None:
            return ""
        folder, name = split(address)
        return _decode(Storage(folder, config).read_bytes(name))

    subtitles = text(episode.subtitles)
    try:
        told = read_lines(subtitles) if subtitles.strip() else ()
    except ValueError as error:
        raise SidecarError(f"{episode.subtitles}: {error}; correct or remove the file and run again") from None
    lines = told if episode.subtitles else heard
    script = text(episode.script).strip()
    places = places_in(script, lines)
    return Sidecars(named(lines, script, places), script, anchors(lines, places), text(episode.synopsis).strip())


def read_lines(subtitles: str) -> tuple[Line, ...]:
    """The spoken lines of an srt, vtt or ass file's text, by time, without markup; raises ValueError on other text.

    Speakers are an ass file's names, a vtt file's voices, and names before a line ("Tom: ...").
    """
    try:
        events = pysubs2.SSAFile.from_string(VOICE.sub(r"\1: ", subtitles))
    except Exception as error:  # broken files end in whatever error the library's parsers come upon
        raise ValueError(f"no subtitles that can be read as srt, vtt or ass ({error})") from None
    spoken = ((one, " ".join(one.plaintext.split())) for one in events if not one.is_comment)
    lines = (_line(one.start / 1000, one.end / 1000, text, " ".join(one.name.split())) for one, text in spoken if text)
    return tuple(sorted(lines, key=lambda line: line.start_s))


def dialogue(lines: Sequence[Line], start_s: float, end_s: float) -> str:
    """The lines heard between two times of the episode (seconds), one below the other, with their speakers' names."""
    return "\n".join(str(line) for line in lines if line.start_s < end_s and line.end_s > start_s)


def places_in(script: str, lines: Sequence[Line]) -> tuple[int | None, ...]:
    """Where in a script's text each line is spoken; None for one that is not found.

    Lines are looked for one after the other, whatever their case and line breaks, and not far ahead: what is said again
    at the end must not take the search there.
    """
    reach = max(SHORTEST_REACH, len(script) // 10)
    found: list[int | None] = []
    place = 0
    for line in lines:
        words, match = line.text.split(), None
        if len(" ".join(words)) >= SHORTEST_ANCHOR:
            line_in_script = re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
            match = line_in_script.search(script, place, place + reach)
        place = match.start() if match else place
        found.append(place if match else None)
    return tuple(found)


def anchors(lines: Sequence[Line], places: Sequence[int | None]) -> tuple[tuple[float, int], ...]:
    """Where a script, which tells no times, has them: (start in seconds, place in the text) of each line found."""
    return tuple((line.start_s, place) for line, place in zip(lines, places, strict=True) if place is not None)


def named(lines: Sequence[Line], script: str, places: Sequence[int | None]) -> tuple[Line, ...]:
    """The lines with the speakers that the script names; what a line has already stays."""
    return tuple(
        line if line.speaker or place is None else replace(line, speaker=_speaker_at(script, place))
        for line, place in zip(lines, places, strict=True)
    )


def passage(script: str, anchors: Sequence[tuple[float, int]], time_s: float, tokens: int) -> str:
    """The part of the script, `tokens` at most by estimate, around what happens at a time of the episode.

    Its place is interpolated between anchors. Of a longer script without any nothing is taken: any part may mislead.
    """
    if estimate_tokens(script) <= tokens:
        return script
    if not anchors:
        return ""
    times, places = zip(*anchors, strict=True)
    # The estimate counts bytes, and so does the cut.
    data, room = script.encode(), tokens * BYTES_PER_TOKEN
    place = len(script[: int(np.interp(time_s, times, places))].encode())
    begin = max(0, min(place - room // 2, len(data) - room))
    part = data[begin : begin + room].decode(errors="ignore")
    # Whole lines only, where there are any: half a stage direction may say the opposite.
    head, tail = part.find("\n") if begin else -1, part.rfind("\n") if begin + room < len(data) else len(part)
    return (part[head + 1 : tail] if tail > head else part).strip()


def context(show: Show, sidecars: Sidecars, start_s: float, end_s: float, tokens: int) -> str:
    """Headed sections for the caption question, trimmed to one budget: what is heard in the clip comes first, the
    script near it gets at least half of what that leaves, the synopsis the rest.

    Args:
        show: The clip's show.
        sidecars: The episode's.
        start_s: The clip's begin in the episode, seconds.
        end_s: The clip's end.
        tokens: Estimated tokens of all sections together, their heads included; 0 leaves out everything but the source.
    """
    kind = "a cartoon" if show.style == "cartoon" else "a live-action show"
    heads = ("Dialogue during the clip:\n", "The script near the clip:\n", "What the episode is about:\n")
    said, script, synopsis = (estimate_tokens(f"\n\n{head}") for head in heads)
    spoken = _cut(dialogue(sidecars.lines, start_s, end_s), tokens - said)
    left = tokens - (said + estimate_tokens(spoken) if spoken else 0)
    about = min(synopsis + estimate_tokens(sidecars.synopsis), left // 2) if sidecars.synopsis else 0
    near = passage(sidecars.script, sidecars.anchors, (start_s + end_s) / 2, max(0, left - about - script))
    left -= script + estimate_tokens(near) if near else 0
    texts = (spoken, near, _cut(sidecars.synopsis, left - synopsis))
    told = (f"{head}{text}" for head, text in zip(heads, texts, strict=True) if text)
    return "\n\n".join((f'Source: "{show.title}", {kind}.', *told))


def _line(start_s: float, end_s: float, text: str, name: str) -> Line:
    """A line of subtitles; a speaker's name before its text is taken from there."""
    before = SPEAKER.match(text)
    if before and _is_name(before["name"]) and before.end() < len(text):
        return Line(start_s, end_s, text[before.end() :], name or text[: before.end()].rstrip(": "))
    return Line(start_s, end_s, text, name)


def _is_name(text: str) -> bool:
    """Tells "Mr. Bean" from "Listen to me": few words, none of which begins with a small letter."""
    words = text.split()
    return len(words) <= 4 and not any(word[0].islower() for word in words)


def _speaker_at(script: str, place: int) -> str:
    """Who speaks at a place of the script, "" where it does not tell: the name before it in its line, or in capitals
    above it, no blank line between."""
    *above, own = script[:place].split("\n")
    before = SPEAKER.match(own.strip() + " ")
    if before and _is_name(before["name"]):
        return before[0].rstrip(": ")
    for line in map(str.strip, reversed(above)):
        cue = CUE.fullmatch(line)
        if cue and cue["name"].isupper():
            return line.rstrip(": ")
        if not line:
            break
    return ""


def _cut(text: str, tokens: int) -> str:
    """The text's begin, whole words, at most so many tokens by estimate."""
    if estimate_tokens(text) <= tokens:
        return text
    begin = text.encode()[: max(0, tokens) * BYTES_PER_TOKEN].decode(errors="ignore")
    return re.sub(r"\s*\S*$", "", begin) or begin  # Chinese has no spaces


def _decode(data: bytes) -> str:
    """Text of a file as people save them: UTF-8 or UTF-16 with a mark, UTF-8, else Windows' Western code page."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
