"""Asking: the answer cache first, then the endpoint; what comes is kept before it is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import SecretStr

from mimix_ray.config import VlmConfig
from mimix_ray.storage import Storage
from mimix_ray.vlm.cache import AnswerCache
from mimix_ray.vlm.client import Client
from mimix_ray.vlm.limits import Gate, Limits
from mimix_ray.vlm.outcome import Outcome, Reply
from mimix_ray.vlm.questions.question import Question

T = TypeVar("T")

KEEPERS = 64
"""Threads, at most, that read and write the answer cache: on S3 each takes some 50 ms."""


async def ask(client: Client, cache: AnswerCache, question: Question[T], kept_only: bool = False) -> Outcome[T]:
    """The question's outcome; a request is sent only when no answer to it was kept. Never raises for the endpoint.

    With `kept_only` none is sent: batches have filled the cache, and what they did not answer is an `endpoint_error`.

    Raises StorageError when the cache cannot be read or written.
    """
    config = client.config
    key = question.key(config.model, config.temperature)
    reply = await asyncio.to_thread(cache.get, key, config.max_tokens)
    if kept_only:
        reply = reply or Reply("endpoint_error", error="the batch gave no answer; run again")
    # A kept answer that cannot be used is asked for anew, once a run: models seldom say the same twice.
    elif reply is None or question.read(reply).kind in ("unparseable", "unknown_character"):
        async with client.slots:
            reply = await client.request(question)
        # A kill costs the answers in flight, and those on their way to storage, which the endpoint does not wait for.
        if reply.final:
            await asyncio.to_thread(cache.put, key, config.max_tokens, reply)
    return question.read(reply)


class Vlm:
    """One endpoint with its answer cache, for callers without an event loop: any thread may ask.

    Make it where it is used (in an actor): it holds connections and does not travel. All threads together keep
    `config.concurrency` requests in flight at most.
    """

    def __init__(
        self, config: VlmConfig, storage: Storage, key: SecretStr, gate: Gate | None = None, kept_only: bool = False
    ) -> None:
        """Args:
        key: What `api_key(config)` gave in the driver.
        storage: Where answers are kept.
        gate: The endpoint's limits, shared with others; None: its own.
        kept_only: As in `ask`.
        """
        self._kept_only = kept_only
        self._cache = AnswerCache(storage)
        self._loop = asyncio.new_event_loop()
        # What has been paid for must not wait long for a thread.
        self._loop.set_default_executor(ThreadPoolExecutor(min(KEEPERS, config.concurrency)))
        self._thread = threading.Thread(target=self._loop.run_forever, name="vlm", daemon=True)
        self._thread.start()
        own = Limits(config.requests_per_minute, config.tokens_per_minute, config.max_usd)
        self._client = Client(config, key, gate or own)

    def ask(self, question: Question[T]) -> Outcome[T]:
        """One question's outcome."""
        return asyncio.run_coroutine_threadsafe(
            ask(self._client, self._cache, question, self._kept_only), self._loop
        ).result()

    def ask_all(self, questions: Sequence[Question[T]]) -> list[Outcome[T]]:
        """Every question's outcome, asked at once; outcomes in the questions' order, however answers arrive."""

        async def gather() -> list[Outcome[T]]:
            return await asyncio.gather(
                *(ask(self._client, self._cache, question, self._kept_only) for question in questions)
            )

        return asyncio.run_coroutine_threadsafe(gather(), self._loop).result()

    def close(self) -> None:
        """Closes the connections and ends the thread."""
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
