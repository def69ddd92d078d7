"""The viewer over HTTP: the part of the OpenAI chat protocol that the stock client uses for questions about images."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import time
import uuid
from collections import Counter
from http import HTTPStatus
from typing import Any, Literal

import cv2
import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from mimix_ray.miniature.viewer.answers import BadQuestion, answer, describe

MODEL = "viewer"
# A hostile or broken image must not take the server's memory: the largest picture anyone films today, and more
# frames than any question of ours sends.
MAX_PIXELS = 8192 * 4320
MAX_IMAGES = 64
CHARS_PER_TOKEN = 4  # OpenAI's own rule of thumb for English


class ImageUrl(BaseModel):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class Part(BaseModel):
    """One part of a message's content: text, or an image as a data URI."""

    type: Literal["text", "image_url"]
    text: str = ""
    image_url: ImageUrl | None = None


class Message(BaseModel):
    role: str
    content: str | list[Part] | None = None

    def parts(self) -> list[Part]:
        return self.content if isinstance(self.content, list) else [Part(type="text", text=self.content or "")]


class JsonSchema(BaseModel):
    name: str
    answer_schema: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(BaseModel):
    type: Literal["text", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(BaseModel):
    """The fields that change the viewer's answer; others of the protocol are accepted and ignored."""

    model: str
    messages: list[Message] = Field(min_length=1)
    response_format: ResponseFormat | None = None
    stream: bool = False
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)


class Refused(Exception):
    """A request that is answered with an error envelope."""

    def __init__(self, message: str, code: str, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message, self.code, self.param, self.status = message, code, param, status


def create_app() -> FastAPI:
    """The ASGI app; it counts its calls in memory, for `GET /v1/stats`."""
    app = FastAPI(title="The miniature's viewer", openapi_url=None)
    calls: Counter[str] = Counter()

    @app.post("/v1/chat/completions")
    async def chat(request: ChatRequest) -> dict[str, Any]:
        if request.model != MODEL:
            known = f"this server has one model, {MODEL!r}"
            raise Refused(f"The model {request.model!r} does not exist: {known}.", "model_not_found", "model", 404)
        if request.stream:
            raise Refused("Streaming is not supported; send stream=false.", "unsupported_value", "stream")
        calls[_question(request)] += 1
        # Looking takes tens of milliseconds of CPU: off the event loop, so that health checks are answered meanwhile.
        return await asyncio.to_thread(complete, request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model()]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        if name != MODEL:
            raise Refused(f"The model {name!r} does not exist.", "model_not_found", "model", 404)
        return _model()

    @app.get("/v1/stats")
    async def stats() -> dict[str, Any]:
        """Chat calls since the start by question; `chat` are calls without a response format."""
        return {"calls": dict(calls)}

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return _envelope(error.status, error.message, error.code, error.param)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:])
        return _envelope(400, f"Invalid request: {param}: {first['msg']}", "invalid_value", param)

    @app.exception_handler(HTTPException)
    async def unknown_route(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail}: {request.method} {request.url.path}"
        return _envelope(error.status_code, message, HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"))

    return app


def complete(request: ChatRequest) -> dict[str, Any]:
    """Looks at the request's images and answers it: a `chat.completion` object.

    Raises Refused on images that cannot be read and on a question that the viewer does not know.
    """
    parts = [part for message in request.messages for part in message.parts()]
    text = "\n".join(part.text for part in parts if part.type == "text")
    images = [part.image_url for part in parts if part.image_url is not None]
    if len(images) > MAX_IMAGES:
        raise Refused(f"{len(images)} images; at most {MAX_IMAGES} are looked at.", "too_many_images", "messages")
    frames = [decode(image.url, where) for where, image in enumerate(images)]
    if not frames:
        raise Refused("There is no image in the messages: the viewer can only look.", "missing_image", "messages")
    wanted = request.response_format
    if wanted is None or wanted.json_schema is None:
        content = describe(frames)
    else:
        try:
            content = json.dumps(answer(wanted.json_schema.name, wanted.json_schema.answer_schema, text, frames))
        except BadQuestion as error:
            raise Refused(str(error), "invalid_question", "response_format") from None
    finish_reason, limit = "stop", request.max_completion_tokens or request.max_tokens
    if limit is not None and _tokens(content) > limit:
        finish_reason, content = "length", content[: limit * CHARS_PER_TOKEN]
    completion_tokens = _tokens(content)
    prompt_tokens = _tokens(text) + sum(
        _image_tokens(frame, image.detail) for frame, image in zip(frames, images, strict=True)
    )
    message = {"role": "assistant", "content": content, "refusal": None}
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


def decode(url: str, where: int) -> np.ndarray:
    """The RGB picture [H, W, 3] uint8 of a data URI; raises Refused, naming the image by its place in the request."""
    head, comma, data = url.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
        message = f"Image {where}: only data:image/...;base64 URIs are read; the viewer fetches nothing."
        raise Refused(message, "invalid_image_url", "messages")
    try:
        encoded = base64.b64decode(data, validate=True)
        width, height = Image.open(io.BytesIO(encoded)).size  # reads the header alone
        small = width * height <= MAX_PIXELS
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB) if small else None
    except (ValueError, OSError, Image.DecompressionBombError, cv2.error):
        picture = None
    if picture is None:
        raise Refused(f"Image {where} cannot be read as a picture.", "invalid_image", "messages")
    return picture


def _question(request: ChatRequest) -> str:
    schema = request.response_format and request.response_format.json_schema
    return schema.name if schema else "chat"


def _model() -> dict[str, Any]:
    return {"id": MODEL, "object": "model", "created": 0, "owned_by": "mimix_ray"}


def _tokens(text: str) -> int:
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def _image_tokens(frame: np.ndarray, detail: str) -> int:
    """GPT-4o's price of a picture: 85 tokens, and 170 more for each tile of 512 x 512 that is looked at closely."""
    tiles = math.ceil(frame.shape[0] / 512) * math.ceil(frame.shape[1] / 512)
    return 85 if detail == "low" else 85 + 170 * tiles


def _envelope(status: int, message: str, code: str, param: str | None = None) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)
