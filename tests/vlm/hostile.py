"""A real HTTP server that speaks the chat protocol and misbehaves on demand.

It tells clips apart by their pixels alone: clip `n` is a plain grey picture, and its caption says "does thing n". So a
caption that lands on another clip shows.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image

RETRY_AFTER = 0.5


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A frame of clip `number` (0..27)."""
    return np.full((height, width, 3), 20 + 8 * number, np.uint8)


def number_of(jpeg: bytes) -> int:
    return round((float(np.asarray(Image.open(io.BytesIO(jpeg))).mean()) - 20) / 8)


class Hostile:
    """The server's script and its record."""

    def __init__(self) -> None:
        self.base_url = ""
        self.modes: dict[int, list[str]] = {}
        """Clip -> what happens to its first, second, ... request; the last one stays. Default: ["ok"]."""
        self.delay = 0.0
        """Longest wait before an answer, seconds; the lower the clip's number, the longer."""
        self.clips: list[int] = []
        """The clip of each request, in order of arrival."""
        self.times: list[float] = []
        self.schemas: list[bool] = []
        """Whether each request brought a schema."""
        self.keys: set[str | None] = set()
        self.in_flight = 0
        self.most_in_flight = 0
        self.models_status = 200

    @property
    def calls(self) -> Counter[int]:
        return Counter(self.clips)

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        if "messages" not in body:
            return error(400, "messages: required", "missing_required_parameter")
        self.keys.add(request.headers.get("authorization"))
        images = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
        clip = number_of(base64.b64decode(images[0].partition(",")[2]))
        seen = self.calls[clip]
        self.clips.append(clip)
        self.times.append(time.monotonic())
        self.schemas.append("response_format" in body)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.delay * (1 - clip / 28))
            modes = self.modes.get(clip, ["ok"])
            return await self.answer(modes[min(seen, len(modes) - 1)], clip, body, request)
        finally:
            self.in_flight -= 1

    async def answer(self, mode: str, clip: int, body: dict[str, Any], request: Request) -> Response:
        if "response_format" in body:
            names = body["response_format"]["json_schema"]["schema"]["properties"]["characters"]["items"]["properties"]
            told = caption(clip, names["name"]["enum"][0])
        else:
            assert "JSON schema" in body["messages"][0]["content"][0]["text"]
            told = caption(clip, "Pip")
        if mode == "no schemas" and "response_format" in body:
            return error(422, "Unexpected keys in the request: {'response_format'}", "invalid_request")
        if mode == "schemas ignored" and "response_format" in body:
            mode = "not json"
        if mode == "429":
            return error(429, "slow down", "rate_limit_exceeded", {"Retry-After": str(RETRY_AFTER)})
        if mode == "429 for an hour":
            return error(429, "slow down", "rate_limit_exceeded", {"Retry-After": "3600"})
        if mode == "no quota":
            return error(429, "You exceeded your current quota", "insufficient_quota")
        if mode == "503 and wait":
            return error(503, "overloaded", "overloaded", {"Retry-After": str(RETRY_AFTER)})
        if mode.isdigit():
            return error(int(mode), "trouble", "trouble")
        if mode == "echo":
            return error(400, f"bad request: {json.dumps(body)} {request.headers['authorization']}", "invalid_value")
        if mode == "filtered request":
            return error(400, "The prompt was filtered", "content_filter")
        if mode == "hang":
            await asyncio.sleep(30)
        if mode == "drip":
            return StreamingResponse(drip(), media_type="application/json")
        if mode == "html":
            return Response("<html>Bad gateway</html>", media_type="text/html")
        if mode == "hidden error":
            return JSONResponse({"error": {"message": "upstream is down", "code": 502}})
        if mode == "stranger":
            told["characters"][0]["name"] = "Garfield"
        content: str | None = json.dumps(told)
        finish, refusal = "stop", None
        if mode == "truncated":
            content, finish = content[:40] if content else "", "length"
        elif mode == "filtered":
            content, finish = None, "content_filter"
        elif mode == "refused":
            content, refusal = None, "I cannot help with that."
        elif mode == "not json":
            content = "Sure! A cat walks by."
        elif mode == "fenced":
            content = f"Here it is:\n```json\n{content}\n```"
        elif mode == "half":
            content = json.dumps({"reasoning": "none", "characters": []})
        answer = completion(content, finish, refusal)
        if mode == "odd usage":
            answer["usage"] = {"prompt_tokens": "12", "completion_tokens": None, "total_tokens": 2**40}
        elif mode == "no usage":
            answer["usage"] = {}
        elif mode == "number":
            answer["choices"][0]["message"]["content"] = 5
        elif mode == "half a character":
            answer["choices"][0]["message"]["content"] = content.replace("does", "\ud83d does")
        return Response(json.dumps(answer), media_type="application/json")


def caption(clip: int, name: str) -> dict[str, Any]:
    return {
        "reasoning": "a grey picture",
        "characters": [{"name": name, "action": f"does thing {clip}"}],
        "setting": f"room {clip}",
        "scene_style": "cartoon",
        "confidence": 0.5,
    }


def completion(content: str | None, finish: str, refusal: str | None) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "hostile",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050},
    }


def error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error", "code": code}}, status, headers)


async def drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.05)


@contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Runs an app on a free port of the loopback; yields its base address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not running.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        running.should_exit = True
        thread.join(10)


def chat_app(server: Hostile) -> FastAPI:
    """The routes of a server that chats."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await server.chat(request)

    @app.get("/v1/models")
    async def models() -> Response:
        return JSONResponse({"object": "list", "data": []}, server.models_status)

    return app


@contextmanager
def hostile_server() -> Iterator[Hostile]:
    """Runs a hostile server."""
    server = Hostile()
    with serve(chat_app(server)) as server.base_url:
        yield server
