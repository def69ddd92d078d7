"""What a captioner is told beside the frames (paper 3.1): source, dialogue, synopsis, the script near the clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pysubs2

from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage, split
from mimix_ray.universe import Episode, Show

SHORTEST_ANCHOR = 10
"""Characters of a spoken line below which its place in the script is not trusted ("Yes." is everywhere)."""
SPEAKER = re.compile(r"^[^\W\d_][\w .'-]{0,30}: +")
"""A speaker's name before a spoken line, as some subtitles have it."""


class SidecarError(ValueError):
    """A subtitle, script or synopsis file that cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class Line:
    """One line of dialogue; times in seconds of the episode."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Sidecars:
    """What is known of an episode beside its pictures; empty where there is no file."""

    lines: tuple[Line, ...] = ()
    script: str = ""
    anchors: tuple[tuple[float, int], ...] = ()
    """The script's, see `anchors`."""
    synopsis: str = ""


def read_sidecars(episode: Episode, config: StorageConfig) -> Sidecars:
    """Reads an episode's sidecar files; raises SidecarError, or StorageError where a file has gone."""

    def text(address: str | None) -> str:
        if address is None:
            return ""
        folder, name = split(address)
        return _decode(Storage(folder, config).read_bytes(name))

    subtitles = text(episode.subtitles)
    try:
        lines = read_lines(subtitles) if subtitles.strip() else ()
    except ValueError as error:
        raise SidecarError(f"{episode.subtitles}: {error}; correct or remove the file and run again") from None
    script = text(episode.script).strip()
    return Sidecars(lines, script, anchors(script, lines), text(episode.synopsis).strip())


def read_lines(subtitles: str) -> tuple[Line, ...]:
    """The spoken lines of an srt, vtt or ass file's text, by time, without markup; raises ValueError on other text."""
    try:
        events = pysubs2.SSAFile.from_string(subtitles)
    except (pysubs2.Pysubs2Error, ValueError) as error:
        raise ValueError(f"no subtitles that can be read as srt, vtt or ass ({error})") from None
    spoken = ((one, " ".join(one.plaintext.split())) for one in events if not one.is_comment)
    lines = (Line(one.start / 1000, one.end / 1000, text) for one, text in spoken if text)
    return tuple(sorted(lines, key=lambda line: line.start_s))


def dialogue(lines: Sequence[Line], start_s: float, end_s: float) -> str:
    """The lines heard between two times of the episode (seconds), one below the other."""
    return "\n".join(line.text for line in lines if line.start_s < end_s and line.end_s > start_s)


def anchors(script: str, lines: Sequence[Line]) -> tuple[tuple[float, int], ...]:
    """Where a script, which tells no times, has them: (start in seconds, place in the text) of each spoken line in it.

    Lines are looked for one after the other, whatever their case and line breaks, without a speaker's name before them.
    """
    found, place = [], 0
    for line in lines:
        words = SPEAKER.sub("", line.text).split()
        if len(" ".join(words)) < SHORTEST_ANCHOR:
            continue
        if match := re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE).search(script, place):
            place = match.start()
            found.append((line.start_s, place))
    return tuple(found)


def passage(script: str, anchors: Sequence[tuple[float, int]], time_s: float, limit: int) -> str:
    """The part of the script, `limit` characters at most, around what happens at a time of the episode.

    Its place is interpolated between anchors. Of a longer script without any nothing is taken: any part may mislead.
    """
    if len(script) <= limit:
        return script
    if not anchors:
        return ""
    times, places = zip(*anchors, strict=True)
    begin = max(0, min(int(np.interp(time_s, times, places)) - limit // 2, len(script) - limit))
    part = script[begin : begin + limit]
    # Whole lines only, where there are any: half a stage direction may say the opposite.
    head, tail = part.find("\n") if begin else -1, part.rfind("\n") if begin + limit < len(script) else len(part)
    return (part[head + 1 : tail] if tail > head else part).strip()


def context(show: Show, sidecars: Sidecars, start_s: float, end_s: float, limit: int) -> str:
    """Headed sections for the caption question; dialogue, synopsis and script `limit` characters each at most.

    Args:
        show: The clip's show.
        sidecars: The episode's.
        start_s: The clip's begin in the episode, seconds.
        end_s: The clip's end.
        limit: Characters of each section; 0 leaves out everything but the source.
    """
    kind = "a cartoon" if show.style == "cartoon" else "a live-action show"
    sections = {
        "Dialogue during the clip:": _cut(dialogue(sidecars.lines, start_s, end_s), limit),
        "What the episode is about:": _cut(sidecars.synopsis, limit),
        "The script near the clip:": passage(sidecars.script, sidecars.anchors, (start_s + end_s) / 2, limit),
    }
    told = (f"{head}\n{text}" for head, text in sections.items() if text)
    return "\n\n".join((f'Source: "{show.title}", {kind}.', *told))


def _cut(text: str, limit: int) -> str:
    """The text's begin, whole words, at most `limit` characters."""
    return text if len(text) <= limit else text[:limit].rpartition(" ")[0].rstrip()


def _decode(data: bytes) -> str:
    """Text of a file as people save them: UTF-8 or UTF-16 with a mark, UTF-8, else Windows' Western code page."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
