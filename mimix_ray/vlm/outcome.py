"""What a question to a vision-language model ends in: a typed outcome, never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from mimix_ray.config import ConfigError

T = TypeVar("T")

Kind = Literal[
    "ok",
    "refused",  # the model declined to answer
    "content_filtered",  # the endpoint's filter held back the request or the answer
    "truncated",  # the answer reached max_tokens
    "unparseable",  # not the JSON that was asked for
    "unknown_character",  # a name outside the cast that was shown
    "rate_limited_out",  # still 429 after every attempt
    "endpoint_error",  # anything else that gave no answer
    "budget_exhausted",  # not sent: vlm.max_usd is spent
]


class VlmError(ConfigError):
    """The config names an endpoint that cannot be used, found before any work starts; the message is one clear line."""


@dataclass(frozen=True)
class Reply:
    """One request's end as the endpoint gave it, before its text is read; this is what the answer cache keeps."""

    kind: Kind
    """`ok` (a whole text), `refused`, `content_filtered`, `truncated`, `rate_limited_out`, `endpoint_error` or
    `budget_exhausted`."""
    text: str = ""
    """The answer's text; what there is of it when refused or truncated."""
    error: str | None = None
    """What happened and what to do, when the kind is not `ok`."""
    tokens_in: int = 0
    tokens_out: int = 0
    calls: int = 0
    """Requests sent for it: 1, and one for each further attempt; 0 when it came from the cache."""
    batch: bool = False
    """Whether it was answered in a batch, which is billed at another price."""

    @property
    def final(self) -> bool:
        """Whether the endpoint did answer (and bill), so that asking again gives nothing new."""
        return self.kind not in ("rate_limited_out", "endpoint_error", "budget_exhausted")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """A question's end. `value` is there exactly when `kind` is `ok`, `error` exactly when it is not."""

    kind: Kind
    value: T | None = None
    tokens_in: int = 0
    """Tokens of the request that was answered; for a cached answer those that it cost when it was asked."""
    tokens_out: int = 0
    error: str | None = None
    calls: int = 0
    """Requests sent for it now; 0 when the answer came from the cache."""
    batch: bool = False
    """Whether it was answered in a batch, which is billed at another price."""
