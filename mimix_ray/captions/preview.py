"""A look at captions before they are paid for: which clips are shown, and the page that shows them."""

from __future__ import annotations

import io
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from mimix_ray import tables
from mimix_ray.prompts import Caption, render
from mimix_ray.report import page as pages
from mimix_ray.report.media import data_uri
from mimix_ray.universe import Universe
from mimix_ray.vlm import Outcome, Question, to_jpegs
from mimix_ray.vlm.questions.caption import PROMPT, CaptionAnswer
from mimix_ray.vlm.questions.question import prompt_text

T = TypeVar("T")

NAME = "reports/captions-preview.html"
FRAME_HEIGHT, FRAME_QUALITY = 150, 80
"""Pixels and JPEG quality of the frames on the page: it must open on a phone."""


@dataclass(frozen=True)
class Shown:
    """One clip as the model was asked about it, and what came back."""

    row: tables.Row
    """The captions row that the stage would publish."""
    frames: tuple[bytes, ...] = ()
    """JPEG files, in time order; none when the clip could not be read."""
    told: str = ""
    """What the question said beside the frames and the prompt file: cast, source, dialogue, passages."""
    reasoning: str = ""
    """The model's, before its answer."""
    calls: int = 0
    """Requests sent; 0 when the answer was kept from before."""


def sample(clips: Sequence[tables.Row], count: int) -> list[tables.Row]:
    """At most `count` clips, always the same: shows in equal shares, in each its episodes, in each all of its length.

    A larger sample holds the smaller ones, so that looking at more pays only for what is new.

    Args:
        clips: Rows of the clips table, in its order, in which the sample is given back.
        count: 1 and up.
    """

    def order(rows: Iterable[tables.Row], *columns: str) -> list[tables.Row]:
        if not columns:
            return _middle_first(list(rows))
        groups = [order(group, *columns[1:]) for _, group in groupby(rows, lambda row: row[columns[0]])]
        return [row for turn in zip_longest(*_middle_first(groups)) for row in turn if row is not None]

    chosen = {row["clip_id"] for row in order(clips, "show", "episode")[:count]}
    return [row for row in clips if row["clip_id"] in chosen]


def show(row: tables.Row, question: Question[CaptionAnswer], outcome: Outcome[CaptionAnswer]) -> Shown:
    """What the page needs of a question and its outcome, the frames shrunk."""
    pixels = (np.asarray(Image.open(io.BytesIO(frame))) for frame in question.frames)
    return Shown(
        row,
        tuple(to_jpegs(pixels, FRAME_HEIGHT, FRAME_QUALITY)),
        question.text.removeprefix(prompt_text(PROMPT)).strip(),
        outcome.value.reasoning if outcome.value else "",
        outcome.calls,
    )


def pieces(row: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """A caption's text in pieces of (character or None, text): the tag of that character, or what stands between tags.

    Joined they are the text, to the letter.
    """
    text, place = row["text"], 0
    found: list[tuple[str | None, str]] = []
    for one in row["characters"]:
        tag = f"[Character: {one['name']}]"
        # An action may hold what looks like a tag: the sentence is looked for as a whole.
        sentence = render(Caption.from_rows([one], None, None), "no_scene_style")
        begin = text.index(sentence, place)
        found += [(None, text[place:begin]), (one["name"], tag), (None, sentence.removeprefix(tag))]
        place = begin + len(sentence)
    return [*found, (None, text[place:])]


def page(shown: Sequence[Shown], clips: Sequence[tables.Row], universe: Universe, total: int, model: str) -> bytes:
    """The page, one HTML file that needs nothing beside itself.

    Args:
        shown: One a clip, in any order.
        clips: The sample: each clip's show, episode and time, in the order of the page.
        universe: Titles of shows, and the cast by whose order colours are given.
        total: Clips of the run.
        model: Who was asked.
    """
    of = {one.row["clip_id"]: one for one in shown}
    items = [_item(clip, of[clip["clip_id"]]) for clip in clips]
    named = Counter(name for item in items for name in {one["name"] for one in item["row"]["characters"] or ()})
    return pages.render(
        "captions/preview.html.j2",
        shows=[(universe.show(show), list(group)) for show, group in groupby(items, lambda item: item["clip"]["show"])],
        outcomes=Counter(item["outcome"] for item in items).most_common(),
        failed=[item["clip"]["clip_id"] for item in items if item["row"]["error"]],
        named={name: named[name] for name in universe.names},
        hues=pages.hues(universe),
        tokens={way: sum(item["row"][way] or 0 for item in items) for way in ("tokens_in", "tokens_out")},
        calls=sum(one.calls for one in shown),
        count=len(items),
        total=total,
        model=model,
    )


def _item(clip: tables.Row, shown: Shown) -> dict[str, Any]:
    """What the page shows of one clip."""
    row = dict.fromkeys(tables.CAPTIONS.schema.names) | shown.row
    return {
        "clip": clip,
        "row": row,
        "outcome": (row["error"] or "ok").split(":")[0],
        "pieces": pieces(row) if row["status"] == "ok" else (),
        "frames": [data_uri("image/jpeg", frame) for frame in shown.frames],
        "told": shown.told,
        "reasoning": shown.reasoning,
        "calls": shown.calls,
    }


def _middle_first(items: list[T]) -> list[T]:
    """The middle, then the middles of both halves, and so on: the first few lie evenly, however many are taken."""
    order, parts = [], deque([items])
    while parts:
        if part := parts.popleft():
            middle = len(part) // 2
            order.append(part[middle])
            parts += [part[:middle], part[middle + 1 :]]
    return order
