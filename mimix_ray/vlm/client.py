"""One OpenAI-compatible endpoint: requests in, replies out, with our own patience.

The protocol is one POST of JSON, sent by aiohttp: with hundreds of requests in flight the openai library takes a
multiple of its time. Nor do its retries say what happened, or slow the other requests down; here a 429 with Retry-After
pauses all requests that share the endpoint's limits, and what a request ends in is a value.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import os
import random
import re
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import openai
from pydantic import SecretStr

from mimix_ray.config import VlmConfig
from mimix_ray.vlm.cost import Price, price_of, question_tokens
from mimix_ray.vlm.limits import Gate
from mimix_ray.vlm.outcome import Kind, Reply, VlmError
from mimix_ray.vlm.questions.question import Question

BACKOFF_S = 1.0
"""Longest wait after the first failed attempt, seconds; doubles with each further one. A random half is taken off."""
MAX_BACKOFF_S = 60.0
MAX_RETRY_AFTER_S = 600.0
"""A server that asks for a longer pause than this is not waited for."""
CHECK_TIMEOUT_S = 15.0
NO_SCHEMA = "the endpoint knows no response_format"

# At DEBUG the library prints whole requests, images and all.
for _name in ("openai", "httpx", "httpx2", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def api_key(config: VlmConfig) -> SecretStr:
    """The endpoint's key, from the environment variable that the config names; raises VlmError when it is not set.

    A server on this machine usually wants none and gets a placeholder. Take the key in the driver and hand it to
    actors: workers on other machines do not share the driver's environment.
    """
    if key := os.environ.get(config.api_key_env, "").strip():
        return SecretStr(key)
    if urlsplit(config.base_url).hostname in ("localhost", "127.0.0.1", "::1"):
        return SecretStr("none")
    raise VlmError(
        f"{config.api_key_env} is not set: export it with the key for {config.base_url}, "
        "or name another variable in vlm.api_key_env"
    )


def check_endpoint(config: VlmConfig) -> None:
    """One cheap request (GET /models) before the work; raises VlmError when the endpoint is away or refuses the key."""
    key, what = api_key(config), None
    try:
        with openai.OpenAI(
            base_url=config.base_url, api_key=key.get_secret_value(), max_retries=0, timeout=CHECK_TIMEOUT_S
        ) as api:
            try:
                api.models.list()
            except openai.NotFoundError:
                # Some gateways list no models. They refuse an empty chat, but not as something that is not there.
                api.post("/chat/completions", cast_to=object, body={})
    except openai.APIConnectionError as error:
        why = "no answer in time" if isinstance(error, openai.APITimeoutError) else _cause(error)
        what = f"cannot be reached ({why}); start the server or correct vlm.base_url"
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        what = f"refuses the key in {config.api_key_env} (status {error.status_code}); give a valid one"
    except openai.APIStatusError as error:
        if error.status_code in (404, 405):
            what = "has no /chat/completions; correct vlm.base_url, which usually ends in /v1"
        elif error.status_code >= 500:
            what = f"answers with status {error.status_code}; see the server's log"
    except Exception as error:
        # The library trips in many ways over a server that speaks something else.
        what = f"does not speak the OpenAI protocol ({type(error).__name__}); correct vlm.base_url"
    if what:
        raise VlmError(f"endpoint {config.base_url} {what}")


def request_body(config: VlmConfig, question: Question[Any], schema_in_text: bool = False) -> dict[str, Any]:
    """The JSON of one chat completion request.

    Args:
        schema_in_text: As in `Question.messages`.
    """
    body: dict[str, Any] = {
        "model": config.model,
        "messages": question.messages(schema_in_text),
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
    }
    return body if schema_in_text else body | {"response_format": question.response_format()}


class Client:
    """Puts questions to one endpoint. Belongs to one event loop."""

    def __init__(self, config: VlmConfig, key: SecretStr, gate: Gate) -> None:
        self.config = config
        self._key = key
        self._gate = gate
        self._price = price_of(config) or Price(0, 0)
        self._schema_refused = self._schema_seen = False
        self._session: aiohttp.ClientSession | None = None
        self.slots = asyncio.Semaphore(config.concurrency)
        """Places for requests in flight."""

    async def request(self, question: Question[Any]) -> Reply:
        """Sends one question, again while that may help; raises nothing but cancellation. Take one of `slots` first."""
        # Places are taken for the longest answer: so do endpoints count, and so money cannot be spent twice.
        most = question_tokens(question), self.config.max_tokens
        place = sum(most), self._price.usd(*most), self.config.timeout_s
        attempt, attempts, paid = 0, self.config.max_attempts, (0, 0)
        in_words, prose = self._schema_refused, None
        while True:
            while not (admission := await self._gate.admit(*place)).granted:
                if admission.exhausted:
                    what = f"vlm.max_usd is spent ({self.config.max_usd:g}); raise it and run again"
                    return prose or Reply("budget_exhausted", "", what, *paid, calls=attempt)
                await asyncio.sleep(admission.wait_s)
            attempt += 1
            spent = most  # a request that is cancelled or not answered in time may be billed
            try:
                await asyncio.sleep(admission.wait_s)
                reply, wait, spent = await self._send(question, in_words, attempt, most)
            finally:
                await self._gate.settle(admission.ticket, sum(spent), self._price.usd(*spent))
            paid = paid[0] + reply.tokens_in, paid[1] + reply.tokens_out
            reply = replace(reply, tokens_in=paid[0], tokens_out=paid[1])
            if not in_words and self._wants_words(reply):
                # The server has not seen what it was to answer with: the question comes again, with the schema in it.
                prose = reply if reply.kind == "ok" else None
                in_words, attempts = True, attempts + 1
            elif wait is None or attempt == attempts:
                self._learn(reply, in_words)
                return reply if reply.final else replace(prose, calls=attempt) if prose else reply
            else:
                await asyncio.sleep(wait)

    def _wants_words(self, reply: Reply) -> bool:
        """Whether a server seems to know no structured output: it says so, or has never answered with JSON so far."""
        if reply.kind == "ok":
            return not self._schema_seen and "{" not in reply.text
        return reply.error == NO_SCHEMA

    def _learn(self, reply: Reply, in_words: bool) -> None:
        if reply.kind == "ok" and "{" in reply.text and not self._schema_seen:
            self._schema_refused, self._schema_seen = in_words, not in_words

    async def _send(
        self, question: Question[Any], in_words: bool, attempt: int, most: tuple[int, int]
    ) -> tuple[Reply, float | None, tuple[int, int]]:
        """One request: its reply; seconds to wait before another attempt, None: no use, or no need; and the tokens, in
        and out, that it may be billed with: `most` where nobody says."""
        body = request_body(self.config, question, in_words)
        try:
            # Bounds the whole answer, also one that comes a byte at a time.
            async with asyncio.timeout(self.config.timeout_s):
                completion = await self._post(json.dumps(body).encode())
            reply = _reply(completion, attempt)
            return reply, None, (reply.tokens_in, reply.tokens_out) if reply.tokens_in else most
        except Exception as error:
            # Whatever a server can do to a client ends here: this request's row tells it, the others go on.
            if not in_words and _refuses_schema(error):
                self._schema_refused = True
                return Reply("endpoint_error", error=NO_SCHEMA, calls=attempt), 0.0, (0, 0)
            kind, wait, what = await self._failure(error, attempt)
            tries = f" ({attempt} attempts)" if attempt > 1 else ""
            spent = (0, 0) if isinstance(error, _Status) else most
            return Reply(kind, error=self._clean(what, question) + tries, calls=attempt), wait, spent

    async def _post(self, body: bytes) -> dict[str, Any]:
        """The JSON object that the endpoint answers with; _Status when it has another status than 200."""
        if self._session is None:  # made here: it belongs to the loop
            headers = {"Authorization": f"Bearer {self._key.get_secret_value()}", "Content-Type": "application/json"}
            self._session = aiohttp.ClientSession(
                headers=headers,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                proxy=_proxy(self.config.base_url),
            )
        address = f"{self.config.base_url.rstrip('/')}/chat/completions"
        async with self._session.post(address, data=body, allow_redirects=False) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise _Status(answer.status, text.decode(errors="replace"), answer.headers.get("Retry-After"))
        told = json.loads(text)
        if not isinstance(told, dict):
            raise ValueError("the answer is no JSON object")
        return told

    async def close(self) -> None:
        """Closes the connections."""
        if self._session:
            await self._session.close()

    async def _failure(self, error: Exception, attempt: int) -> tuple[Kind, float | None, str]:
        """What a failed attempt means: the kind, seconds to wait before the next (None: no use), and words for it."""
        backoff = min(BACKOFF_S * 2 ** (attempt - 1), MAX_BACKOFF_S) * random.uniform(0.5, 1.0)
        if isinstance(error, TimeoutError):
            return "endpoint_error", backoff, f"no answer within {self.config.timeout_s:g} s; raise vlm.timeout_s"
        if isinstance(error, aiohttp.ClientError | OSError):
            return "endpoint_error", backoff, f"connection failed: {_cause(error)}"
        if isinstance(error, _Status):
            return await self._refused(error, backoff)
        if isinstance(error, _NoAnswer):
            return "endpoint_error", backoff, str(error)
        return "endpoint_error", None, f"{type(error).__name__}: {error}"

    async def _refused(self, error: _Status, backoff: float) -> tuple[Kind, float | None, str]:
        """`_failure` for an answer with an error status."""
        status, what = error.status, f"status {error.status}: {error.message}"
        if filtered(error.code):
            return "content_filtered", None, "the endpoint's filter refused the request"
        if error.code == "insufficient_quota":
            return "endpoint_error", None, "the account has no quota left; raise it at the provider and run again"
        if status == 429:
            what = "status 429; lower vlm.concurrency or run again later"
        elif status != 408 and status < 500:
            return "endpoint_error", None, what
        kind: Kind = "rate_limited_out" if status == 429 else "endpoint_error"
        after = retry_after(error.retry_after)
        if after is None:
            return kind, backoff, what
        if after > MAX_RETRY_AFTER_S:
            return kind, None, f"status {status}; the server asks to come back in {after:.0f} s: run again then"
        await self._gate.pause(after)
        return kind, max(0.0, backoff - after), what

    def _clean(self, text: str, question: Question[Any]) -> str:
        """Text for rows and logs: servers echo requests, so without prompt, key and images, and short."""
        text = text.partition(question.text[:40])[0]
        text = text.replace(self._key.get_secret_value(), "***") if len(self._key) > 4 else text
        return re.sub(r"data:image/[^,]*,[\w+/=]*", "<image>", text)[:300]


def _proxy(address: str) -> str | None:
    """The proxy that the environment names for an address; asked once, not for each request as aiohttp would."""
    url = urlsplit(address)
    return None if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme)


def filtered(code: str | None) -> bool:
    """Whether a refused request's error code is that of the endpoint's content filter."""
    return code == "content_filter" or "content_policy" in str(code)


def read_completion(body: dict[str, Any]) -> Reply:
    """The reply that a chat completion is, given as JSON data; `endpoint_error` when there is no answer in it."""
    try:
        return _reply(body, 1)
    except Exception as error:
        return Reply("endpoint_error", error=f"{type(error).__name__}: {error}"[:300], calls=1)


def _refuses_schema(error: Exception) -> bool:
    """Whether a server that knows no structured output says so (`transformers serve` does)."""
    if not isinstance(error, _Status) or error.status not in (400, 404, 415, 422, 501):
        return False
    # The beginning alone: some servers echo the request.
    return any(word in error.message[:200].lower() for word in ("response_format", "json_schema", "structured output"))


class _NoAnswer(Exception):
    """Status 200 without an answer in it: some gateways hide an upstream's failure so."""


class _Status(Exception):
    """An answer with an error status: what it says, and by what code."""

    def __init__(self, status: int, text: str, retry_after: str | None) -> None:
        super().__init__(status)
        self.status, self.retry_after = status, retry_after
        self.message, self.code = text, ""
        with suppress(ValueError):
            told = json.loads(text)
            inner = told.get("error", told.get("detail")) if isinstance(told, dict) else None
            if isinstance(inner, dict):
                self.message, self.code = str(inner.get("message", text)), str(inner.get("code", ""))
            elif inner:
                self.message = str(inner)


def _reply(completion: dict[str, Any], attempt: int) -> Reply:
    """The reply that a chat completion holds; _NoAnswer when there is none in it."""
    choices = completion.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        hidden = completion.get("error")
        raise _NoAnswer(f"status 200 without an answer{f': {hidden}' if hidden else ''}")
    message, finish = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, dict):
        raise _NoAnswer("status 200 without a message")
    text, refusal = _text(message.get("content")), _text(message.get("refusal"))
    usage = completion.get("usage")
    used = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out, total = (_count(used.get(f"{what}_tokens")) for what in ("prompt", "completion", "total"))

    def end(kind: Kind, error: str | None = None) -> Reply:
        # Some endpoints leave the tokens of thinking out of the answer's.
        return Reply(kind, refusal or text, error, tokens_in, max(tokens_out, total - tokens_in), calls=attempt)

    if finish == "content_filter":
        return end("content_filtered", "the endpoint's filter held the answer back")
    if refusal:
        return end("refused", f"the model declined: {refusal[:200]}")
    if finish == "length":
        return end("truncated", "the answer reached vlm.max_tokens; raise it")
    return end("ok")


def _text(value: Any) -> str:
    """Text that can be kept: servers send other things, and halves of characters."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number, or an HTTP date (RFC 9110, 10.2.3); None for anything else.

    >>> retry_after("2.5")
    2.5
    """
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    """The words at the bottom of a chain of exceptions: the system's, not the library's."""
    last: BaseException = error
    while inner := last.__cause__ or last.__context__:
        last = inner
    return f"{type(last).__name__}: {last}" if str(last) else type(last).__name__
