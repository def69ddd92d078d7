"""A real HTTP server of files and batches beside the chat: it takes its time, mixes answers up, and loses some."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from tests.vlm.hostile import Hostile, chat_app, error, number_of, serve

HELD_S = 30


class BatchServer(Hostile):
    """`modes` tells what becomes of each clip's request, as in chat; also "expired"."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.kept = 0
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        """How often each custom id was accepted in a batch: what the bill is made of."""
        self.uploads: list[bytes] = []
        self.looks = 2
        """Looks at a batch before it has ended."""
        self.most_open = 1_000_000
        """Requests that may be open at once; a batch that does not fit is turned away in its first check."""
        self.hold: str | None = None
        """The call (`upload`, `create`, `retrieve`) that does its work and then gives no answer; `held` is set then."""
        self.held = threading.Event()
        self.broken: dict[str, int] = {}
        """Call -> how often it does its work, but answers 500."""

    async def reply(self, call: str, value: Any) -> Response:
        if self.hold == call:
            self.held.set()
            await asyncio.sleep(HELD_S)
        if self.broken.get(call):
            self.broken[call] -= 1
            return error(500, "trouble", "trouble")
        return JSONResponse(value)

    def keep(self, data: bytes) -> str:
        self.kept += 1
        name = f"file-{self.kept}"
        self.files[name] = data
        return name

    async def upload(self, request: Request) -> Response:
        form = await request.form()
        assert form["purpose"] == "batch"
        data = await form["file"].read()  # type: ignore[union-attr]
        self.uploads.append(data)
        name = self.keep(data)
        told = {"id": name, "object": "file", "bytes": len(data), "created_at": 0, "filename": "requests.jsonl"}
        return await self.reply("upload", told | {"purpose": "batch", "status": "processed"})

    async def create(self, request: Request) -> Response:
        body = await request.json()
        if body["input_file_id"] not in self.files:
            return error(400, "no such file", "file_not_found")
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "completion_window": body["completion_window"],
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "status": "validating",
            "created_at": len(self.batches),
            "looks": 0,
        }
        return await self.reply("create", self.batches[name])

    async def retrieve(self, name: str) -> Response:
        if name not in self.batches:
            return error(404, "no such batch", "not_found")
        await self.proceed(self.batches[name])
        return await self.reply("retrieve", self.batches[name])

    def requests(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    async def proceed(self, batch: dict[str, Any]) -> None:
        """One look further: checked, then in progress, then ended."""
        if batch["status"] == "validating":
            requests = self.requests(batch)
            ids = [request["custom_id"] for request in requests]
            others = [one for one in self.batches.values() if one["status"] == "in_progress"]
            if len(set(ids)) < len(ids):
                self.fail(batch, "duplicate_custom_id")
            elif any(request["body"]["model"] == "no such model" for request in requests):
                self.fail(batch, "model_not_found")
            elif len(ids) + sum(one["request_counts"]["total"] for one in others) > self.most_open:
                self.fail(batch, "token_limit_exceeded")
            else:
                batch["status"] = "in_progress"
                batch["request_counts"] = {"total": len(ids), "completed": 0, "failed": 0}
                self.asked.update(ids)
        elif batch["status"] == "in_progress":
            batch["looks"] += 1
            if batch["looks"] >= self.looks:
                await self.end(batch)

    @staticmethod
    def fail(batch: dict[str, Any], code: str) -> None:
        batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": code, "message": "words"}]}}

    async def end(self, batch: dict[str, Any]) -> None:
        output, errors = [], []
        for request in reversed(self.requests(batch)):
            body, key = request["body"], request["custom_id"]
            images = [
                part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"
            ]
            clip = number_of(base64.b64decode(images[0].partition(",")[2]))
            self.clips.append(clip)
            mode = self.modes.get(clip, ["ok"])[0]
            if mode == "expired":
                late = {"code": "batch_expired", "message": "This request could not be executed in time."}
                errors.append({"id": "r", "custom_id": key, "response": None, "error": late})
                continue
            answer = await self.answer(mode, clip, body, None)  # type: ignore[arg-type]
            response = {"status_code": answer.status_code, "request_id": "r", "body": json.loads(bytes(answer.body))}
            line = {"id": "r", "custom_id": key, "response": response, "error": None}
            (output if answer.status_code == 200 else errors).append(line)
        for name, lines in (("output_file_id", output), ("error_file_id", errors)):
            if lines:
                batch[name] = self.keep("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        expired = any(line["error"] for line in errors)
        batch["request_counts"] |= {"completed": len(output), "failed": len(errors)}
        batch["status"] = "expired" if expired else "completed"


@contextmanager
def batch_server() -> Iterator[BatchServer]:
    """Runs a batch server."""
    server = BatchServer()
    app = chat_app(server)

    @app.post("/v1/files")
    async def upload(request: Request) -> Response:
        return await server.upload(request)

    @app.get("/v1/files/{name}/content")
    async def content(name: str) -> Response:
        return Response(server.files[name], media_type="application/octet-stream")

    @app.delete("/v1/files/{name}")
    async def delete(name: str) -> Response:
        return JSONResponse({"id": name, "object": "file", "deleted": bool(server.files.pop(name, None))})

    @app.post("/v1/batches")
    async def create(request: Request) -> Response:
        return await server.create(request)

    @app.get("/v1/batches")
    async def listed() -> Response:
        found = list(reversed(server.batches.values()))
        return JSONResponse({"object": "list", "data": found, "has_more": False})

    @app.get("/v1/batches/{name}")
    async def retrieve(name: str) -> Response:
        return await server.retrieve(name)

    with serve(app) as server.base_url:
        yield server
