"""What may be sent to an endpoint, and when: requests and tokens a minute, dollars in all, and the server's own pauses.

One `Limits` decides for all that ask. Within one process it is used as it is; over a cluster it is one named actor (see
actors.py), so its methods are coroutines. It only counts: nobody waits in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mimix_ray.config import VlmConfig
from mimix_ray.vlm.cost import Price, price_of
from mimix_ray.vlm.outcome import VlmError

HORIZON_S = 0.2
"""No place is given out that lies further ahead: the server may ask for a pause before, and senders that are late would
send at once what they were to send one after another."""

SPARE = 1.005
"""Room between requests, in ideal ones: without it a request that reaches the server quickly after a slow one would be
one too many."""

GRACE_S = 30.0
"""How much longer than it may take a request is waited for before it counts as lost."""


@dataclass(frozen=True)
class Admission:
    """What is said to somebody who wants to send a request."""

    granted: bool
    """Whether the request may be sent after `wait_s`."""
    wait_s: float = 0.0
    """Seconds to wait: before sending, or, when not granted, before asking again."""
    exhausted: bool = False
    """Whether there is no use in asking again: the money is spent."""
    ticket: int = 0
    """What the request is settled by."""


class Gate(Protocol):
    """Who must be asked before a request is sent; a `Limits` here or on another machine."""

    async def admit(self, tokens: int, usd: float, seconds: float) -> Admission:
        """Asks for a place for a request of so many tokens and dollars at most, which ends in so many seconds."""

    async def settle(self, ticket: int, tokens: int, usd: float) -> None:
        """Tells what an admitted request came to."""

    async def pause(self, seconds: float) -> None:
        """Tells that the server wants to be left alone."""


class Limits:
    """Spaces requests evenly: `requests_per_minute` is never exceeded, not by a burst at the beginning either.

    Money is reserved before it is spent: what is in flight counts with the most that it can cost, and so does what is
    never settled because its sender died. Tokens, too, count as reserved, as endpoints count them: with the longest
    answer.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_usd: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._request_s = SPARE * 60 / requests_per_minute if requests_per_minute else 0.0
        self._token_s = SPARE * 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._max_usd = max_usd
        self._clock = clock
        self._next_request = self._next_tokens = self._paused_until = 0.0
        self._spent = 0.0
        self._held: dict[int, tuple[int, float, float]] = {}
        """Requests in flight by ticket: tokens, dollars, time by which they must have ended."""

    async def admit(self, tokens: int, usd: float, seconds: float) -> Admission:
        """See `Gate`."""
        now = self._clock()
        if (pause := self._paused_until - now) > 0:
            # Not all at once when the pause is over.
            return Admission(False, pause + random.uniform(0, min(1.0, pause)))
        if self._max_usd is not None:
            for ticket in [ticket for ticket, (_, _, end) in self._held.items() if end < now]:
                self._spent += self._held.pop(ticket)[1]
            if self._spent + usd > self._max_usd:
                return Admission(False, exhausted=True)
            if self._spent + sum(held for _, held, _ in self._held.values()) + usd > self._max_usd:
                return Admission(False, 0.5)  # what is in flight may cost less than it could
        wait = max(0.0, self._next_request - now, self._next_tokens - now)
        if wait > HORIZON_S:
            return Admission(False, wait - HORIZON_S * random.uniform(0.5, 1.0))
        at = now + wait
        self._next_request = at + self._request_s
        self._next_tokens = at + self._token_s * tokens
        ticket = random.getrandbits(62)
        self._held[ticket] = tokens, usd, at + seconds + GRACE_S
        return Admission(True, wait, ticket=ticket)

    async def settle(self, ticket: int, tokens: int, usd: float) -> None:
        """See `Gate`. A ticket of an actor before this one, or of a request that was given up, changes nothing."""
        if held := self._held.pop(ticket, None):
            self._next_tokens += self._token_s * max(0, tokens - held[0])
            self._spent += usd

    async def pause(self, seconds: float) -> None:
        """See `Gate`."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)


def check_limits(config: VlmConfig) -> Price | None:
    """The price of the config's model; raises VlmError when money is limited and the price is not known."""
    price = price_of(config)
    if config.max_usd is not None and price is None:
        raise VlmError(
            f"vlm.max_usd is set, but vlm.prices has no price of {config.model!r}: add dollars per million tokens, "
            "in and out"
        )
    return price
