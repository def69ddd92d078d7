"""The character-action grammar of Cross-Character Embedding, CCE (paper 3.1, 3.2): render, parse, check.

    [Character: Tom], chases Jerry across the kitchen. [Character: Jerry], slips under the fridge. [scene-style:cartoon]

Tables hold captions as data; text is rendered late, in one of the formats of the paper's Table 2. `parse` takes back
what `render` writes and what people write: `[character: Tom] chases Jerry.`, tags in any case, the style tag anywhere.

An action, like a setting, is held without its closing full stop, in NFC, on one line. It may hold anything, brackets
too. Only text that would be read as a tag is escaped: `\\[Character: Tom]` is plain text inside an action.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from mimix_ray import marked
from mimix_ray.universe import Style, Universe, UniverseError, clean, clean_name

Format = Literal["full", "no_scene_style", "no_character", "plain"]

_OPENER = r"\[ *(?:character|scene[-_ ]style)\b"
"""What begins a tag when no backslash stands before it."""
_TAG = re.compile(r"\[ *(?P<kind>character|scene[-_ ]style) *: *(?P<value>[^\[\]]*?) *\]", re.IGNORECASE)
_ESCAPABLE = re.compile(rf"(?<!\\)(\\*)(?={_OPENER})", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)]*$")


class PromptError(ValueError):
    """Text or data that is no caption; the message is one clear line."""


@dataclass(frozen=True)
class CharacterAction:
    """Who does what. Both are cleaned when made; PromptError when one is empty or the name holds a bracket."""

    name: str
    action: str

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "name", clean_name(self.name))
        except ValueError as error:
            raise PromptError(str(error)) from None
        object.__setattr__(self, "action", _sentence(self.action))
        if not self.action:
            raise PromptError(f"{self.name!r} does nothing: say what the character does after its tag")


@dataclass(frozen=True)
class Caption:
    """What a clip shows or a video shall show."""

    characters: tuple[CharacterAction, ...] = ()
    setting: str | None = None
    """Where it plays, a few words."""
    scene_style: Style | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "characters", tuple(self.characters))
        object.__setattr__(self, "setting", _sentence(self.setting or "") or None)
        if self.scene_style not in (None, *get_args(Style)):
            raise PromptError(f"scene style {self.scene_style!r} is not one of {', '.join(get_args(Style))}")

    @property
    def names(self) -> tuple[str, ...]:
        """Who acts, in order, each once."""
        return tuple(dict.fromkeys(one.name for one in self.characters))

    def rows(self) -> list[dict[str, str]]:
        """The `characters` column of the tables."""
        return [{"name": one.name, "action": one.action} for one in self.characters]

    @classmethod
    def from_rows(
        cls, characters: Iterable[Mapping[str, str]] | None, setting: str | None, scene_style: str | None
    ) -> Caption:
        """A caption from table columns; raises PromptError."""
        actions = tuple(CharacterAction(row["name"], row["action"]) for row in characters or ())
        return cls(actions, setting, scene_style)  # type: ignore[arg-type]  # checked by the caption itself


def render(caption: Caption, format: Format = "full") -> str:
    """The caption as text for the model. The setting is told only where no character is (the paper's format has none).

    full            [Character: Tom], chases Jerry. [scene-style:cartoon]
    no_scene_style  [Character: Tom], chases Jerry.
    no_character    Tom chases Jerry. [scene-style:cartoon]
    plain           Tom chases Jerry.
    """
    if format not in get_args(Format):
        raise PromptError(f"caption format {format!r} is not one of {', '.join(get_args(Format))}")
    tagged = format in ("full", "no_scene_style")
    sentences = [
        _stop(f"[Character: {one.name}], {_escape(one.action)}" if tagged else f"{one.name} {one.action}")
        for one in caption.characters
    ]
    if not sentences and caption.setting:
        sentences = [_stop(_escape(caption.setting) if tagged else caption.setting)]
    if caption.scene_style and format in ("full", "no_character"):
        sentences.append(f"[scene-style:{caption.scene_style}]")
    return " ".join(sentences)


def parse(text: str) -> Caption:
    """The caption that a text tells, the inverse of `render(caption, "full")`.

    Text before the first character is the setting; text without any tag is a setting alone. Names are not looked up:
    that is `check`.

    Raises:
        PromptError: Nothing said, a tag that is cut off or misspelt, a character without an action, an unknown style,
            two styles, text after the style that belongs to nobody.
    """
    text = clean(text)
    tags = _tags(text)
    edges = [0, *(edge for tag in tags for edge in tag.span()), len(text)]
    setting, *after = (_unescape(text[begin:end]) for begin, end in zip(edges[::2], edges[1::2], strict=True))
    actions, style = [], None
    for tag, said in zip(tags, after, strict=True):
        value = tag["value"]
        if tag["kind"].casefold() == "character":
            actions.append(CharacterAction(value, said))
        elif _sentence(said):
            raise PromptError(f"{said.strip()!r} comes after the style tag and belongs to nobody; move it forward")
        elif style not in (None, value.casefold()):
            raise PromptError(f"two scene styles, {style!r} and {value!r}; keep one")
        else:
            style = value.casefold()
    caption = Caption(tuple(actions), setting, style)  # type: ignore[arg-type]  # checked by the caption itself
    if caption == Caption():
        raise PromptError("the text is empty; write e.g. '[Character: Tom], chases Jerry. [scene-style:cartoon]'")
    return caption


def check(caption: Caption, universe: Universe) -> Caption:
    """The caption with canonical names ("mr bean" becomes "Mr. Bean").

    Raises:
        PromptError: A name that the universe does not know (tells the known and the nearest) or an ambiguous alias.
    """
    try:
        actions = tuple(replace(one, name=universe.character(one.name).name) for one in caption.characters)
    except UniverseError as error:
        raise PromptError(str(error)) from None
    return replace(caption, characters=actions)


@dataclass(frozen=True)
class Prompt:
    """One entry of a prompt file."""

    id: str
    caption: Caption
    source: str | None = None
    """Where the prompt comes from, e.g. "paper, Figure 6"."""


class _Action(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    action: str


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    source: str | None = None
    characters: list[_Action] = []
    setting: str | None = None
    scene_style: Style | None = None


def load_prompts(path: str | Path, universe: Universe) -> list[Prompt]:
    """Reads a prompt file, a YAML list of `{id, characters: [{name, action}], scene_style?, setting?, source?}`.

    Raises:
        PromptError: "<file>:<line>: ...": a bad entry, an id that occurs twice, a character that is not known.
    """
    entries, lines = marked.load(path, list[_Entry], PromptError)
    prompts: dict[str, Prompt] = {}
    for index, entry in enumerate(entries):
        where = f"{path}:{marked.line_of((index, 'id'), lines)}: prompt {entry.id!r}"
        if entry.id in prompts:
            raise PromptError(f"{where}: the id occurs twice; give each its own")
        actions: list[CharacterAction] = []
        for number, one in enumerate(entry.characters):
            try:
                actions += check(Caption((CharacterAction(one.name, one.action),)), universe).characters
            except PromptError as error:
                line = marked.line_of((index, "characters", number), lines)
                raise PromptError(f"{path}:{line}: prompt {entry.id!r}: {error}") from None
        caption = Caption(tuple(actions), entry.setting, entry.scene_style)
        if not render(caption):
            raise PromptError(f"{where}: says nothing; give it characters with actions, or a setting")
        prompts[entry.id] = Prompt(entry.id, caption, entry.source)
    if not prompts:
        raise PromptError(f"{path}: has no prompts; list at least one")
    return list(prompts.values())


def _sentence(text: str) -> str:
    """Canonical form of an action or a setting: clean, without a comma before or a full stop after."""
    return clean(text).lstrip(", ").rstrip(". ")


def _stop(sentence: str) -> str:
    return sentence if _SENTENCE_END.search(sentence) else f"{sentence}."


def _escape(text: str) -> str:
    """Doubles the backslashes before what looks like a tag and adds one more."""
    return _ESCAPABLE.sub(lambda found: found[1] * 2 + "\\", text)


def _unescape(text: str) -> str:
    return _ESCAPABLE.sub(lambda found: "\\" * (len(found[1]) // 2), text)


def _tags(text: str) -> list[re.Match[str]]:
    """The text's tags, in order; raises PromptError at one that is not whole."""
    tags = []
    for opener in re.finditer(rf"(?<!\\)(\\*)({_OPENER})", text, re.IGNORECASE):
        if len(opener[1]) % 2:
            continue
        tag = _TAG.match(text, opener.start(2))
        if not tag:
            raise PromptError(
                f"the tag at character {opener.start(2) + 1}, {text[opener.start(2) :][:40]!r}, is not whole; write "
                "'[Character: Name]' or '[scene-style:cartoon]', or '\\[' where no tag is meant"
            )
        tags.append(tag)
    return tags
