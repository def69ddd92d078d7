"""Looks that captions repeat: what is always said beside a name takes the character's identity away from the name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from mimix_ray.tables import Row
from mimix_ray.universe import Character, Universe

LONGEST = 4
"""Words of the longest phrase looked for; the shortest has two."""
LEAST = 3
"""Captions in which a phrase stands at least, however few a character has."""
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
BREAK = re.compile(r"[^\w\s'’-]+")
"""What no phrase runs across."""
STOP_WORDS = frozenset(
    WORD.findall(
        """
        a about after all am an and another any are as at away be been before behind being beside between both but by
        did do does down each for from had has have he her here him his in into is it its near no nor not of off on onto
        one or other out over past she so some that the their them then there these they this those through to too
        toward towards under up very was were when where which while who with without
        """
    )
)

Phrase = tuple[str, ...]


def lint(captions: Iterable[Row], universe: Universe) -> dict[str, dict[str, int]]:
    """Per character, the phrases that stand in most of its captions and share a word with its look in the universe.

    Most is more than half, and three at least. A phrase is two to four words of one action or setting, across no comma
    and without function words at its ends; one within a longer phrase of as many captions is not told.

    Args:
        captions: Rows of the table; only those that are `ok` count.
        universe: Where the looks are. Names that are not in it are left out.

    Returns:
        `{character: {phrase: captions that have it}}`, the most frequent first; nobody without such a phrase.
    """
    looks = {one.name: _look(one) for one in universe.characters}
    total: Counter[str] = Counter()
    having: dict[str, Counter[Phrase]] = {name: Counter() for name in looks}
    for row in captions:
        if row["status"] != "ok":
            continue
        found = set(_phrases(row))
        for name in {one["name"] for one in row["characters"]} & looks.keys():
            total[name] += 1
            having[name].update(phrase for phrase in found if not looks[name].isdisjoint(phrase))
    told = {name: _repeated(counts, total[name]) for name, counts in having.items()}
    return {name: phrases for name, phrases in told.items() if phrases}


def _look(character: Character) -> frozenset[str]:
    """The words of a look that say something. Those of the character's names do not: a name is what should be said."""
    names = " ".join((character.name, *character.aliases))
    return frozenset(_words(character.look)) - STOP_WORDS - frozenset(_words(names))


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _phrases(row: Row) -> Iterator[Phrase]:
    texts = (*(one["action"] for one in row["characters"]), row["setting"] or "")
    for words in (_words(part) for text in texts for part in BREAK.split(text)):
        for begin, first in enumerate(words):
            for end in range(begin + 2, min(begin + LONGEST, len(words)) + 1):
                if first not in STOP_WORDS and words[end - 1] not in STOP_WORDS:
                    yield tuple(words[begin:end])


def _repeated(counts: Mapping[Phrase, int], captions: int) -> dict[str, int]:
    often = {phrase: count for phrase, count in counts.items() if count >= LEAST and 2 * count > captions}
    longest = {
        phrase: count
        for phrase, count in often.items()
        if not any(other != phrase and often[other] == count and _within(phrase, other) for other in often)
    }
    return {" ".join(phrase): count for phrase, count in sorted(longest.items(), key=lambda item: (-item[1], item[0]))}


def _within(phrase: Phrase, other: Phrase) -> bool:
    return any(other[begin : begin + len(phrase)] == phrase for begin in range(len(other) - len(phrase) + 1))
