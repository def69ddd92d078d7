"""A question to a vision-language model: what is sent, the JSON asked for, and how an answer is read."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar

from mimix_ray.universe import Character
from mimix_ray.vlm.outcome import Kind, Outcome, Reply

T = TypeVar("T")


class UnknownName(ValueError):
    """An answer that names somebody outside the cast that was shown."""


@dataclass(frozen=True)
class Question(Generic[T]):
    """One request. Plain data but for `parse`; the same question always has the same `key`."""

    name: str
    """Name of the answer's schema, e.g. `caption`."""
    text: str
    """The prompt file's text and the facts of this case."""
    frames: tuple[bytes, ...]
    """JPEG files, in time order."""
    schema: Mapping[str, Any]
    """JSON schema of the answer: every key required, reasoning before conclusions."""
    parse: Callable[[dict[str, Any]], T]
    """Makes the value of an answer; UnknownName, or a KeyError, TypeError, ValueError for what else is wrong."""
    sample: int = 0
    """Tells apart repeated askings of one question, for their spread."""

    def messages(self, schema_in_text: bool = False) -> list[dict[str, Any]]:
        """The chat messages: one from the user, each frame announced by its number.

        Args:
            schema_in_text: Ask for the JSON in words, for an endpoint that knows no structured output.
        """
        wanted = f"\n\nAnswer with nothing but one JSON object of this JSON schema:\n{json.dumps(self.schema)}"
        content: list[dict[str, Any]] = [{"type": "text", "text": self.text + wanted * schema_in_text}]
        for index, frame in enumerate(self.frames):
            uri = "data:image/jpeg;base64," + base64.b64encode(frame).decode()
            content.append({"type": "text", "text": f"Frame {index}:"})
            content.append({"type": "image_url", "image_url": {"url": uri}})
        return [{"role": "user", "content": content}]

    def response_format(self) -> dict[str, Any]:
        """OpenAI's structured output parameter."""
        return {"type": "json_schema", "json_schema": {"name": self.name, "strict": True, "schema": self.schema}}

    def key(self, model: str, temperature: float) -> str:
        """64 hex digits of all that shapes the answer; the longest answer allowed is not among them (see cache.py)."""
        frames = [hashlib.sha256(frame).hexdigest() for frame in self.frames]
        parts = [self.name, self.text, frames, self.schema, self.sample, model, temperature]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def read(self, reply: Reply) -> Outcome[T]:
        """The typed outcome of a reply."""

        def end(kind: Kind, value: T | None = None, error: str | None = None) -> Outcome[T]:
            return Outcome(kind, value, reply.tokens_in, reply.tokens_out, error, reply.calls, reply.batch)

        if reply.kind != "ok":
            return end(reply.kind, error=reply.error)
        try:
            return end("ok", self.parse(_json_object(reply.text)))
        except UnknownName as error:
            return end("unknown_character", error=str(error))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            return end("unparseable", error=f"the answer is not the JSON asked for ({what})")


def _json_object(text: str) -> dict[str, Any]:
    # Servers without structured output wrap the object in a Markdown fence or a sentence.
    value = json.loads(text[text.find("{") : text.rfind("}") + 1])
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


@cache
def prompt_text(name: str) -> str:
    """A prompt file of this package, e.g. `caption`."""
    return resources.files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8").strip()


def prompt_hash(*names: str) -> str:
    """16 hex digits that change with the text of these prompt files."""
    return hashlib.sha256("\n".join(map(prompt_text, names)).encode()).hexdigest()[:16]


def object_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of an object with exactly these keys, in this order, as OpenAI's strict mode wants it."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def name_schema(characters: Sequence[Character]) -> dict[str, Any]:
    """Schema of one name of the cast; an empty enum would be refused, so nobody is any string."""
    names = [character.name for character in characters]
    return {"type": "string", "enum": names} if names else {"type": "string"}


def known_name(name: str, characters: Sequence[Character]) -> str:
    """The cast's own form of a name or alias, whatever its case; raises UnknownName."""
    for character in characters:
        if name.strip().casefold() in (known.casefold() for known in (character.name, *character.aliases)):
            return character.name
    known = ", ".join(character.name for character in characters) or "nobody"
    raise UnknownName(f"{name!r} is none of the cast shown ({known}); add the name to the universe's aliases if it is")


def within(value: Any, low: float, high: float, what: str) -> float:
    """A number of an answer, checked for its range; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{what} {value!r} is no number from {low:g} to {high:g}")
    return float(value)


def whole(value: Any, low: int, high: int, what: str) -> int:
    """A whole number of an answer, checked for its range; raises ValueError."""
    number = within(value, low, high, what)
    if number != int(number):
        raise ValueError(f"{what} {value!r} is no whole number")
    return int(number)


def cast_lines(characters: Sequence[Character], manner: bool = False) -> str:
    """One line a character: its name, other names and look; with `manner` also how it behaves."""
    lines = []
    for character in characters:
        also = f" (also called {', '.join(character.aliases)})" if character.aliases else ""
        what = "; ".join(part for part in (character.look, character.manner if manner else "") if part)
        lines.append(f"- {character.name}{also}: {what}" if what else f"- {character.name}{also}")
    return "\n".join(lines)
