"""Shows, characters and styles: what every stage knows of the cast, read from one YAML file.

name: two_shows
shows:
  - id: mr_bean
    title: Mr. Bean
    style: realistic                      # cartoon | realistic
    episodes:
      videos: "s3://bucket/mr_bean/*.mkv" # local or s3://; {root} stands for the run's root
      subtitles: "{stem}.srt"             # beside each video; {stem} is its name without suffix
      skip_head_s: 62                     # seconds of intro and of credits that every episode loses
      skip_tail_s: 30
    characters:
      - name: Mr. Bean
        aliases: [Bean]
        look: a thin man in a brown tweed jacket
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mimix_ray import marked, storage
from mimix_ray.config import StorageConfig
from mimix_ray.marked import Misplaced, Place

Style = Literal["cartoon", "realistic"]


class UniverseError(ValueError):
    """A universe that cannot be used: `<file>:<line>: <key>: what, and what to do`, all on one line."""


class UnknownCharacterError(UniverseError):
    """A name that no character of the universe has."""


class AmbiguousCharacterError(UniverseError):
    """An alias that several characters share."""


def clean(text: str) -> str:
    """Text as this project holds it: Unicode NFC, no control characters, single spaces, no space at the ends.

    >>> clean("  chases\\n Jerry ")
    'chases Jerry'
    """
    visible = "".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in text)
    return " ".join(unicodedata.normalize("NFC", visible).split())


def clean_name(name: str) -> str:
    """A name as tags hold it; raises ValueError when nothing is left or a bracket would end its tag."""
    name = clean(name)
    if not name or set(name) & set("[]"):
        raise ValueError(f"{name!r} is no name: it needs a character or more, and no square brackets")
    return name


def _only(*known: str) -> AfterValidator:
    """Refuses placeholders in a pattern that nothing fills."""

    def check(pattern: str) -> str:
        if unknown := [found for found in re.findall(r"{[^{}]*}", pattern) if found not in known]:
            raise ValueError(f"{unknown[0]} is not known here; known: {', '.join(known)}")
        return pattern

    return AfterValidator(check)


Name = Annotated[str, AfterValidator(clean_name)]
Text = Annotated[str, AfterValidator(clean)]
Id = Annotated[str, Field(pattern=r"^\w[\w-]*$")]
RootPattern = Annotated[str, _only("{root}")]
SidecarPattern = Annotated[str, _only("{stem}")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Character(_Part):
    """One of the cast."""

    name: Name
    """The name that captions, prompts and tables use; unique in the universe."""
    show: str
    """Id of its show; a file leaves it to the show that lists the character, like the style."""
    style: Style
    aliases: tuple[Name, ...] = ()
    """Other names that people and models use."""
    look: Text = ""
    """One line: what the eye sees."""
    manner: Text = ""
    """One line: how it moves and behaves."""
    references: tuple[RootPattern, ...] = ()
    """Addresses or patterns of reference images; `{root}` stands for the run's root."""
    sets: tuple[Literal["training", "evaluation"], ...] = ("training", "evaluation")
    """Lists that it belongs to (paper 3.3 trains on other characters than 4.2 evaluates)."""


class Footage(_Part):
    """Where a show's episodes lie, and which files stand beside them."""

    videos: RootPattern
    """Glob of the video files, local or s3://; `{root}` stands for the run's root."""
    subtitles: SidecarPattern | None = None
    """Relative to the video's folder, like the next two; `{stem}` is the video's name without suffix."""
    script: SidecarPattern | None = None
    synopsis: SidecarPattern | None = None
    skip_head_s: Seconds = 0.0
    """Intro: seconds that every episode loses at its beginning."""
    skip_tail_s: Seconds = 0.0
    """Credits: seconds that every episode loses at its end."""


class Episode(_Part):
    """One video file of a show; sidecars that are not there are None."""

    show: str
    id: str
    """Unique in its show; made from the file's name, readable, safe in file names."""
    video: str
    """Full address, as are the others."""
    subtitles: str | None = None
    script: str | None = None
    synopsis: str | None = None
    style: Style
    skip_head_s: Seconds = 0.0
    """Seconds left out at its beginning, its show's."""
    skip_tail_s: Seconds = 0.0
    """Seconds left out at its end, its show's."""


class Show(_Part):
    """A show: one style, one cast, one place where its footage lies."""

    id: Id
    title: Text
    style: Style
    episodes: Footage
    characters: tuple[Character, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, show: Any) -> Any:
        """Gives each character the id and the style of the show that lists it."""
        if not isinstance(show, dict) or not isinstance(show.get("characters"), list):
            return show
        given = {"show": show.get("id"), "style": show.get("style")}
        cast = [{**given, **one} if isinstance(one, dict) else one for one in show["characters"]]
        return {**show, "characters": cast}

    @model_validator(mode="after")
    def _characters_are_its_own(self) -> Self:
        for index, one in enumerate(self.characters):
            for key, given, own in (("show", one.show, self.id), ("style", one.style, self.style)):
                if given != own:
                    raise Misplaced(("characters", index, key), f"{given!r} is not the show's, {own!r}; leave it out")
        return self


class Universe(_Part):
    """Every show of a run."""

    name: Id
    shows: tuple[Show, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        for i, show in enumerate(self.shows):
            if show.id in [other.id for other in self.shows[:i]]:
                raise Misplaced(("shows", i, "id"), f"{show.id!r} is another show's id; give each its own")
        cast: list[tuple[Place, Character]] = [
            (("shows", i, "characters", j), one)
            for i, show in enumerate(self.shows)
            for j, one in enumerate(show.characters)
        ]
        owners: dict[str, Character] = {}
        for place, one in cast:
            if twin := owners.get(_folded(one.name)):
                what = f"{one.name!r} is a character of {twin.show!r} already; a name must mean one character"
                raise Misplaced((*place, "name"), what)
            owners[_folded(one.name)] = one
        for place, one in cast:
            for k, alias in enumerate(one.aliases):
                if owners.get(_folded(alias), one) is not one:
                    raise Misplaced((*place, "aliases", k), f"{alias!r} is another character's name; remove the alias")
        return self

    @property
    def characters(self) -> tuple[Character, ...]:
        """The whole cast, in the file's order."""
        return tuple(one for show in self.shows for one in show.characters)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the whole cast, in the file's order."""
        return tuple(one.name for one in self.characters)

    def show(self, show_id: str) -> Show:
        """The show of that id; raises UniverseError, naming the nearest."""
        for show in self.shows:
            if show.id == show_id:
                return show
        raise UniverseError(f"unknown show {show_id!r}; {marked.nearest(show_id, [show.id for show in self.shows])}")

    def character(self, name: str) -> Character:
        """Who is called so, by name or alias, whatever the case and full stops ("mr bean" is "Mr. Bean").

        Raises:
            UnknownCharacterError: Nobody; names the nearest and all.
            AmbiguousCharacterError: An alias of several; names them.
        """
        wanted = _folded(name)
        for one in self.characters:
            if _folded(one.name) == wanted:
                return one
        found = [one for one in self.characters if wanted in map(_folded, one.aliases)]
        if len(found) > 1:
            names = " or ".join(repr(one.name) for one in found)
            raise AmbiguousCharacterError(f"{clean(name)!r} may be {names}; give the full name")
        if not found:
            hint = marked.nearest(clean(name), self.names)
            raise UnknownCharacterError(f"unknown character {clean(name)!r}; {hint}")
        return found[0]

    def episodes(self, root: str, config: StorageConfig) -> list[Episode]:
        """Every episode that the shows' footage patterns find, in the file's order of shows, then by id.

        Args:
            root: The run's root, put in place of `{root}`.
            config: Where s3:// addresses are served.

        Raises:
            UniverseError: Two videos of a show give one id.
            StorageError: A bucket that cannot be listed.
        """
        return [episode for show in self.shows for episode in _episodes(show, root, config)]

    def references(self, name: str, root: str, config: StorageConfig) -> list[str]:
        """Full addresses of a character's reference images, sorted; arguments and errors as above."""
        patterns = [_in_root(pattern, root) for pattern in self.character(name).references]
        return sorted({found for pattern in patterns for found in storage.glob(pattern, config)})


def load_universe(path: str | Path) -> Universe:
    """Reads a universe file; raises UniverseError with file, line and key."""
    return marked.load(path, Universe, UniverseError)[0]


def _folded(name: str) -> str:
    """What two spellings of one name share: no case, no full stops."""
    return clean(name.replace(".", " ")).casefold()


def _episodes(show: Show, root: str, config: StorageConfig) -> list[Episode]:
    videos = storage.glob(_in_root(show.episodes.videos, root), config)
    sidecars = {
        kind: sidecar
        for kind in ("subtitles", "script", "synopsis")
        if (sidecar := getattr(show.episodes, kind)) is not None
    }
    # One listing a folder and kind instead of one question a file: a show on S3 has hundreds.
    there = {
        found
        for folder in {video.rpartition("/")[0] for video in videos}
        for sidecar in sidecars.values()
        for found in storage.glob(f"{_literal(folder)}/{sidecar.replace('{stem}', '*')}", config)
    }
    base = _fixed_folder(show.episodes.videos, root)
    episodes: dict[str, Episode] = {}
    for video in videos:
        folder, _, file = video.rpartition("/")
        stem = file.rpartition(".")[0] or file
        beside = {kind: f"{folder}/{sidecar.replace('{stem}', stem)}" for kind, sidecar in sidecars.items()}
        below = f"{folder}/{stem}".removeprefix(base)
        episode_id = re.sub(r"[^\w.]+", "-", clean(below)).strip("-.")
        if episode_id in episodes:
            raise UniverseError(
                f"show {show.id!r}: {video} and {episodes[episode_id].video} both make the episode id {episode_id!r}; "
                "rename one or narrow the pattern"
            )
        found = {kind: address for kind, address in beside.items() if address in there}
        episodes[episode_id] = Episode(
            show=show.id,
            id=episode_id,
            video=video,
            style=show.style,
            skip_head_s=show.episodes.skip_head_s,
            skip_tail_s=show.episodes.skip_tail_s,
            **found,
        )
    return [episodes[episode_id] for episode_id in sorted(episodes)]


def _fixed_folder(pattern: str, root: str) -> str:
    """The folder above a pattern's first wildcard, in full: ids are made of what comes below it."""
    folder = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0].replace("{root}", root)
    return folder if "://" in folder else os.path.abspath(os.path.expanduser(folder))


def _in_root(pattern: str, root: str) -> str:
    return pattern.replace("{root}", _literal(root))


def _literal(folder: str) -> str:
    """A folder's name that `glob` takes as it is."""
    return re.sub(r"([*?\[])", r"[\1]", folder)
