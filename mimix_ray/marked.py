"""YAML files that people write, read into pydantic models; an error names the file, the line and the key."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

Place = tuple[str | int, ...]
"""Where a value stands in its file: ("shows", 0, "style")."""
T = TypeVar("T")


class Misplaced(ValueError):
    """What a validator of a whole raises to say which part is at fault: `where` is the way from it to the part."""

    def __init__(self, where: Place, what: str):
        super().__init__(what)
        self.where = where


def load(path: str | Path, kind: type[T], error: type[Exception]) -> tuple[T, dict[Place, int]]:
    """Reads `path` as a value of type `kind` (a pydantic model, or a list of one).

    Returns:
        The value, and the line (from 1) of every key and list item by its place in the file.

    Raises:
        error: "<file>:<line>: <key>: what, and what to do" for a file that cannot be read, is no YAML, says a key
            twice, or does not fit `kind`.
    """
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        if node is not None:
            _note_lines(node, (), lines, f"{path}", error)
        value = None if node is None else loader.construct_document(node)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); give the path of a YAML file") from None
    except UnicodeDecodeError:
        raise error(f"{path}: is not text in UTF-8") from None
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise error(f"{path}:{line}: not valid YAML: {problem.problem}") from None
    except yaml.YAMLError as problem:
        raise error(f"{path}: not valid YAML: {' '.join(str(problem).split())}") from None
    if value is None:
        raise error(f"{path}: is empty")
    try:
        return TypeAdapter(kind).validate_python(value), lines
    except ValidationError as problem:
        # A misspelt key is also a missing one: say the misspelling.
        first = min(problem.errors(), key=lambda one: one["type"] != "extra_forbidden")
        where = (*first["loc"], *getattr(first.get("ctx", {}).get("error"), "where", ()))
        if first["type"] == "extra_forbidden":
            what = f"unknown key; {nearest(str(where[-1]), _keys(kind, where[:-1]))}"
        elif first["type"] == "missing":
            what = "is missing"
        else:
            what = first["msg"].removeprefix("Value error, ")
        raise error(f"{path}:{line_of(where, lines)}: {key_of(where)}{what}") from None


def line_of(where: Sequence[str | int], lines: dict[Place, int]) -> int:
    """The line of a place, or of the nearest thing around it that the file does say."""
    return next((lines[tuple(where[:n])] for n in range(len(where), -1, -1) if tuple(where[:n]) in lines), 1)


def key_of(where: Sequence[str | int]) -> str:
    """A place as people read it.

    >>> key_of(("shows", 0, "style"))
    'shows[0].style: '
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    return f"{text}: " if text else ""


def nearest(name: str, known: Sequence[str]) -> str:
    """The hint that ends an error about an unknown name."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    hint = f"did you mean {by_folded[close[0]]!r}? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def _note_lines(node: yaml.Node, where: Place, lines: dict[Place, int], path: str, error: type[Exception]) -> None:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*where, str(key.value))
            if place in lines:
                raise error(f"{path}:{key.start_mark.line + 1}: {key_of(place)}is given twice; keep one")
            lines[place] = key.start_mark.line + 1
            _note_lines(value, place, lines, path, error)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*where, index), lines, path, error)


def _keys(kind: Any, where: Sequence[str | int]) -> list[str]:
    """The keys that `kind` knows at a place: follows field names and passes through lists, tuples and unions."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if not where:
            return [name for name, field in kind.model_fields.items() if not field.exclude]
        return _keys(kind.model_fields[str(where[0])].annotation, where[1:])
    rest = where[1:] if where and isinstance(where[0], int) else where
    return next((keys for inner in get_args(kind) if (keys := _keys(inner, rest))), [])
