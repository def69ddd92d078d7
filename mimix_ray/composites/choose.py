"""Which character of which clip goes before which background: decided up front, by seed, before anything is opened."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from typing import TypeVar

from mimix_ray.tables import Row
from mimix_ray.universe import Style, Universe

T = TypeVar("T")

HIDING = re.compile(r"\b(behind|inside|hid(es?|ing)|peek(s|ing)?)\b", re.IGNORECASE)
"""Words of an action that leaves a character half covered."""

EMPTY_TURNS = 3
"""A show's clips without a cast are background so many times before its others are at all."""


class ChoiceError(ValueError):
    """Clips from which no composite can be made; the message is one clear line."""


@dataclass(frozen=True)
class Candidate:
    """A captioned clip, as far as the choice cares."""

    clip_id: str
    show: str
    style: Style
    cast: tuple[str, ...]
    """Who acts in it, by the caption."""
    hidden: bool = False
    """Somebody is behind something, by the caption: a cut-out would lack what is covered."""


@dataclass(frozen=True)
class Choice:
    """One composite to be made."""

    composite_id: str
    character: str
    subject_clip: str
    background_clip: str


def candidates(captions: Iterable[Row], clips: Iterable[Row]) -> list[Candidate]:
    """The captioned clips, in the captions' order, each with its show and style from the clips table."""
    by_id = {clip["clip_id"]: clip for clip in clips}
    return [
        Candidate(
            clip_id=row["clip_id"],
            show=by_id[row["clip_id"]]["show"],
            style=by_id[row["clip_id"]]["style"],
            cast=tuple(dict.fromkeys(one["name"] for one in row["characters"] or ())),
            hidden=any(HIDING.search(one["action"]) for one in row["characters"] or ()),
        )
        for row in captions
    ]


def choose(clips: Sequence[Candidate], universe: Universe, ratio: float, seed: int) -> list[Choice]:
    """Picks round(ratio * clips) composites.

    Both directions (cartoon into realistic and back) take turns, in each the characters, and of each character its
    clips: first those in which nobody hides, with the smallest cast, as a subject alone is cut out best. Backgrounds
    are of the other style, their shows take turns too, and clips without a cast come first. A larger ratio only adds:
    the first choices stay the same.

    Raises:
        ChoiceError: No clip in which a known character acts has clips of the other style to go to.
    """
    count = int(ratio * len(clips) + 0.5)
    if count == 0:
        return []
    home = {one.name: one.show for one in universe.characters}
    subjects = [(name, clip) for clip in clips for name in clip.cast if home.get(name) == clip.show]
    styles = {clip.style for clip in clips}
    directions = [style for style in _shuffled({clip.style for _, clip in subjects}, seed) if styles - {style}]
    if not directions:
        raise ChoiceError(
            f"nothing to mix: of {len(clips)} captioned clips ({' and '.join(sorted(styles))}) {len(subjects)} show a "
            "known character, none with a background of the other style; add a show of the other style, "
            "or set composites.ratio to 0"
        )
    turns = {style: _subjects([pair for pair in subjects if pair[1].style == style], seed) for style in directions}
    places = {style: _backgrounds([clip for clip in clips if clip.style != style], seed) for style in directions}
    choices = []
    for number, style in zip(range(count), cycle(directions), strict=False):
        name, subject = next(turns[style])
        choices.append(Choice(f"composites/{number:08d}", name, subject.clip_id, next(places[style]).clip_id))
    return choices


def _subjects(pairs: Sequence[tuple[str, Candidate]], seed: int) -> Iterator[tuple[str, Candidate]]:
    """Characters in turn, each with its clips in turn."""
    clips: dict[str, Iterator[Candidate]] = {}
    for name in _shuffled({name for name, _ in pairs}, seed):
        mine = _shuffled([clip for other, clip in pairs if other == name], seed)
        clips[name] = cycle(sorted(mine, key=lambda clip: (clip.hidden, len(clip.cast))))
    return ((name, next(clips[name])) for name in cycle(clips))


def _backgrounds(clips: Sequence[Candidate], seed: int) -> Iterator[Candidate]:
    """Shows in turn, each with its clips in turn."""
    by_show: dict[str, Iterator[Candidate]] = {}
    for show in _shuffled({clip.show for clip in clips}, seed):
        mine = _shuffled([clip for clip in clips if clip.show == show], seed)
        empty = [clip for clip in mine if not clip.cast]
        by_show[show] = chain(empty * EMPTY_TURNS, cycle(mine))
    return (next(by_show[show]) for show in cycle(by_show))


def _shuffled(things: Iterable[T], seed: int) -> list[T]:
    """In an order drawn for each thing by itself: the same in every process, and one more thing moves no other."""

    def lot(thing: T) -> bytes:
        return hashlib.sha256(f"{seed}/{getattr(thing, 'clip_id', thing)}".encode()).digest()

    return sorted(things, key=lot)
