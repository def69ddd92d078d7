"""Batches: questions in files, answered within a day at half the price by OpenAI's Batch API.

All that batches do is fill the answer cache: a request's `custom_id` is its question's key there. Whoever asks the same
question afterwards finds the answer. A batch has a record, `answers/batches/<name>.json`; a job may be killed anywhere:

    upload the file of requests       killed here, the file costs nothing and is uploaded anew
    record, without a batch           killed here, the file is deleted and uploaded anew
    create the batch                  killed here, it is found again by the name in its metadata
    record, with the batch's id       killed from here on, the next run waits for this batch
    wait, keep its answers
    record, ended
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import IO, Any, TypeVar

import openai
from openai.types import Batch
from pydantic import SecretStr

from mimix_ray.config import CaptionsVlmConfig
from mimix_ray.storage import Storage
from mimix_ray.vlm.cache import AnswerCache
from mimix_ray.vlm.client import MAX_RETRY_AFTER_S, filtered, read_completion, request_body, retry_after
from mimix_ray.vlm.outcome import Reply, VlmError
from mimix_ray.vlm.questions.question import Question

T = TypeVar("T")

MAX_BYTES = 200_000_000
"""Largest file of requests that the Batch API takes."""
CHECKED_AT_ONCE = 4
"""Batches in the server's first check, which is where one too many is turned away: no more than so many in vain."""
MAX_AWAY_S = 3600.0
"""An endpoint that is away for longer ends the job, which loses nothing by it."""
KEEPERS = 16
"""Answers written at once."""
FOLDER = "answers/batches"
NAME = "mimix_ray_batch"
"""Under this key a batch's metadata holds its name."""
ENDED = ("completed", "failed", "expired", "cancelled")

_log = logging.getLogger(__name__)


def request_line(config: CaptionsVlmConfig, key: str, question: Question[Any]) -> bytes:
    """A question's line in a file of requests; `key` is its 64 hex digits, as long as an id may be."""
    body = request_body(config, question)
    line = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line).encode() + b"\n"


def request_files(lines: Iterable[tuple[str, bytes]], requests: int, size: int) -> Iterator[IO[bytes]]:
    """Lines with their ids, packed into files in their order; an id that comes again is left out, as it must be unique.

    Args:
        requests: Most lines a file.
        size: Most bytes a file; a line longer than that is a file of its own.

    Yields one temporary file, at its start, to be used before the next is taken.
    """
    seen: set[str] = set()
    with tempfile.TemporaryFile() as file:
        count = 0
        for key, line in lines:
            if key in seen:
                continue
            if count and (count == requests or file.tell() + len(line) > size):
                file.seek(0)
                yield file
                file.seek(0)
                file.truncate()
                count = 0
            seen.add(key)
            file.write(line)
            count += 1
        if count:
            file.seek(0)
            yield file


def read_line(line: bytes) -> tuple[str, Reply]:
    """The id and the reply in one line of a batch's output or error file; raises ValueError for what is no such line.

    A request that expired or was refused is an `endpoint_error` whose `error` is the server's code for it.
    """
    try:
        value = json.loads(line)
        key, error, response = value["custom_id"], value.get("error"), value.get("response") or {}
        status, body = response.get("status_code"), response.get("body") or {}
        code = str((error or body.get("error") or {}).get("code") or f"status_{status}")
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("no line of a batch's answers") from None
    if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{64}", key):
        raise ValueError("an id that is none of ours")
    if status == 200 and not error:
        return key, replace(read_completion(body), batch=True)
    if filtered(code):
        what = "the endpoint's filter refused the request"
        return key, Reply("content_filtered", error=what, calls=1, batch=True)
    return key, Reply("endpoint_error", error=code, calls=1, batch=True)


@dataclass(frozen=True)
class Record:
    """What storage knows of one batch."""

    name: str
    """Its own, not a hash of its questions: these may be asked in a second batch when a first one failed."""
    base_url: str
    """The endpoint; batches of another one are left alone."""
    file_id: str
    max_tokens: int
    """Longest answer that was asked for."""
    batch_id: str | None = None
    ended: str | None = None
    """The status that it ended in."""


@dataclass
class Tally:
    """What batches brought in this run of the job."""

    batches: dict[str, int] = field(default_factory=dict)
    """Batches by the status that they ended in."""
    refused: list[str] = field(default_factory=list)
    """Why batches failed as a whole."""
    answers: int = 0
    """Answers kept that were not there before; their tokens follow."""
    tokens_in: int = 0
    tokens_out: int = 0
    no_answer: dict[str, int] = field(default_factory=dict)
    """Requests without an answer, by the server's code."""


class Batches:
    """The batches of one endpoint, with their records and answers in `storage`. For one thread, in the driver."""

    def __init__(self, config: CaptionsVlmConfig, storage: Storage, key: SecretStr) -> None:
        self.config = config
        self.tally = Tally()
        self._storage = storage
        self._cache = AnswerCache(storage)
        # No retries of the library's own: it would create a batch twice when the first answer is lost on its way.
        self._api = openai.OpenAI(base_url=config.base_url, api_key=key.get_secret_value(), max_retries=0)

    def finish(self) -> Iterator[tuple[int, int]]:
        """Waits for the batches that an earlier run left open and keeps their answers; yields as `ask` does."""
        return self._follow(self._left_open(), iter(()))

    def ask(self, lines: Iterable[tuple[str, bytes]]) -> Iterator[tuple[int, int]]:
        """Sends request lines with their ids in as many batches as they need, waits for all, and keeps the answers.

        Call `finish` first, and send only what is not in the cache then. A batch that the server refuses stops the
        sending, not the waiting; `tally` tells why.

        Yields:
            Requests that the server has dealt with, and those it has accepted so far, after each look at the batches.

        Raises:
            VlmError: The endpoint has no Batch API, refuses the key, or is away for more than an hour.
        """
        return self._follow([], request_files(lines, self.config.batch_requests, MAX_BYTES))

    def close(self) -> None:
        """Closes the connections."""
        self._api.close()

    def _follow(self, running: list[Record], files: Iterator[IO[bytes]]) -> Iterator[tuple[int, int]]:
        left_open = set(running)
        seen: dict[Record, Batch] = {}
        turned_away: deque[str] = deque()  # files whose batches met a full queue of tokens
        full, stopped = False, False
        last_try: Record | None = None
        while True:
            for record in list(running):
                batch = seen[record] = self._retrieve(record)
                if batch.status not in ENDED:
                    continue
                running.remove(record)
                # A file of an earlier run may hold questions that nobody asks any more: it is not sent again.
                if _queue_is_full(batch) and record not in left_open and record != last_try:
                    turned_away.append(record.file_id)
                    self._save(replace(record, ended=batch.status))
                    full = True
                else:
                    self._end(record, batch)
                    full, stopped = False, stopped or (batch.status == "failed" and record not in left_open)
            counts = [batch.request_counts for batch in seen.values() if batch.request_counts]
            yield sum(count.completed + count.failed for count in counts), sum(count.total for count in counts)

            while not stopped and (not running or (not full and _checking(running, seen) < CHECKED_AT_ONCE)):
                file_id = turned_away.popleft() if turned_away else self._upload(next(files, None))
                if file_id is None:
                    break
                record, batch = self._create(file_id)
                if full:
                    last_try = record  # nothing else is running: what is turned away now never fits
                running.append(record)
                seen[record] = batch
            if not running:
                for file_id in turned_away:
                    self._delete(file_id)
                return
            time.sleep(self.config.batch_poll_s)

    def _left_open(self) -> list[Record]:
        """The records of batches that may still be running; those that never came to a batch are removed."""
        found = []
        for name in self._storage.list(FOLDER, ".json"):
            record = Record(**self._storage.read_json(name))
            if record.ended or record.base_url != self.config.base_url:
                continue
            if record.batch_id is None:
                batch = self._patiently("list batches", partial(self._find, record.name))
                if batch is None:
                    self._delete(record.file_id)
                    self._storage.delete(name)
                    continue
                record = self._save(replace(record, batch_id=batch.id))
            found.append(record)
        return found

    def _upload(self, file: IO[bytes] | None) -> str | None:
        if file is None:
            return None

        def upload() -> str:
            file.seek(0)
            return self._api.files.create(file=("requests.jsonl", file), purpose="batch").id

        return self._patiently("upload a file of requests", upload)

    def _create(self, file_id: str) -> tuple[Record, Batch]:
        record = Record(uuid.uuid4().hex, self.config.base_url, file_id, self.config.max_tokens)
        self._save(record)
        tries = 0

        def create() -> Batch:
            nonlocal tries
            tries += 1
            # The answer to an earlier try may have been lost on its way back.
            if tries > 1 and (batch := self._find(record.name)):
                return batch
            return self._api.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={NAME: record.name},
            )

        batch = self._patiently("create a batch", create)
        return self._save(replace(record, batch_id=batch.id)), batch

    def _find(self, name: str) -> Batch | None:
        listed = self._api.batches.list(limit=100)
        return next((batch for batch in listed if (batch.metadata or {}).get(NAME) == name), None)

    def _retrieve(self, record: Record) -> Batch:
        return self._patiently(
            f"retrieve the batch {record.batch_id} of {self._storage / _name(record)}",
            lambda: self._api.batches.retrieve(str(record.batch_id)),
        )

    def _end(self, record: Record, batch: Batch) -> None:
        """Keeps an ended batch's answers and closes its record."""
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            content = self._patiently("read a batch's answers", partial(self._api.files.content, file_id)).content
            # As bytes: JSON strings may hold what str.splitlines takes for the end of a line.
            lines = filter(None, content.splitlines())
            with ThreadPoolExecutor(KEEPERS) as pool:
                for reply in pool.map(lambda line: self._keep(line, record.max_tokens), lines):
                    self._count(reply)
        if batch.status == "failed":
            why = _why(batch)
            _log.warning("%s: batch %s failed: %s", self.config.base_url, batch.id, why)
            self.tally.refused.append(why)
        self.tally.batches[batch.status] = self.tally.batches.get(batch.status, 0) + 1
        self._save(replace(record, ended=batch.status))
        # Pictures of the footage need not lie there any longer.
        self._delete(record.file_id)

    def _keep(self, line: bytes, max_tokens: int) -> Reply | None:
        """Puts a line's answer into the cache; gives it back, but None for one that was there, killed while keeping."""
        try:
            key, reply = read_line(line)
        except ValueError as error:
            return Reply("endpoint_error", error=str(error))
        if reply.final:
            if self._cache.get(key, max_tokens):
                return None
            self._cache.put(key, max_tokens, reply)
        return reply

    def _count(self, reply: Reply | None) -> None:
        if reply is None:
            return
        if not reply.final:
            code = str(reply.error)
            self.tally.no_answer[code] = self.tally.no_answer.get(code, 0) + 1
            return
        self.tally.answers += 1
        self.tally.tokens_in += reply.tokens_in
        self.tally.tokens_out += reply.tokens_out

    def _save(self, record: Record) -> Record:
        self._storage.write_json(_name(record), asdict(record))
        return record

    def _delete(self, file_id: str) -> None:
        # A file that stays costs nothing, and the provider removes it in time.
        with suppress(openai.OpenAIError):
            self._api.files.delete(file_id)

    def _patiently(self, what: str, call: Callable[[], T]) -> T:
        """A call to the endpoint, again while that may help; VlmError when it does not. Batches take hours."""
        began = time.monotonic()
        while True:
            try:
                return call()
            except openai.APIConnectionError:
                why, pause = "it cannot be reached", 0.0
            except openai.APIStatusError as error:
                # Not the server's words: they may quote the key.
                why = f"status {error.status_code}{f', {error.code}' if error.code else ''}"
                pause = min(retry_after(error.response.headers.get("retry-after")) or 0.0, MAX_RETRY_AFTER_S)
                transient = error.status_code in (408, 429) or error.status_code >= 500
                if not transient or error.code == "insufficient_quota":
                    raise VlmError(
                        f"endpoint {self.config.base_url} does not {what} ({why}); "
                        "correct vlm.base_url and the key's account, or set vlm.batch: false"
                    ) from None
            if time.monotonic() - began > MAX_AWAY_S:
                raise VlmError(
                    f"endpoint {self.config.base_url} does not {what} ({why}, for more than {MAX_AWAY_S:.0f} s); "
                    "run again later: open batches go on meanwhile"
                )
            time.sleep(max(pause, self.config.batch_poll_s))


def _checking(running: list[Record], seen: dict[Record, Batch]) -> int:
    return sum(seen[record].status == "validating" for record in running)


def _name(record: Record) -> str:
    return f"{FOLDER}/{record.name}.json"


def _queue_is_full(batch: Batch) -> bool:
    """Whether the account has as many tokens enqueued as it may; there is room again when other batches end."""
    errors = batch.errors.data if batch.errors else None
    return batch.status == "failed" and any(error.code == "token_limit_exceeded" for error in errors or ())


def _why(batch: Batch) -> str:
    if _queue_is_full(batch):
        return "token_limit_exceeded: lower vlm.batch_requests, or run again when other batches have ended"
    errors = batch.errors.data if batch.errors else None
    # Not the server's words: they may quote the key.
    return "; ".join(str(error.code)[:100] for error in (errors or ())[:3]) or "no reason given"
