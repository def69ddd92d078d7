"""Answers kept on storage as they arrive, so that no answer is lost to a killed job and none is paid for twice."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from mimix_ray.storage import Storage
from mimix_ray.vlm.outcome import Reply


@dataclass(frozen=True)
class AnswerCache:
    """One small JSON file an answer, under the hash of all that shaped it. What no answer came to is not kept."""

    storage: Storage
    folder: str = "answers"

    def get(self, key: str, max_tokens: int) -> Reply | None:
        """The kept reply, its `calls` 0; None when there is none, or only one cut off by a smaller `max_tokens`."""
        name = self._name(key)
        if not self.storage.exists(name):
            return None
        kept = self.storage.read_json(name)
        try:
            reply = replace(Reply(**kept["reply"]), calls=0)
        except (KeyError, TypeError):  # of another version, or damaged: asked for anew
            return None
        return None if reply.kind == "truncated" and max_tokens > kept["max_tokens"] else reply

    def put(self, key: str, max_tokens: int, reply: Reply) -> None:
        """Keeps a final reply; the file appears whole or not at all."""
        self.storage.write_json(self._name(key), {"max_tokens": max_tokens, "reply": asdict(reply)})

    def _name(self, key: str) -> str:
        return f"{self.folder}/{key[:2]}/{key}.json"
