"""The HTTP API: OpenAI's videos endpoints, the universe's cast, and the page. It knows the job store and no Ray."""

# No `from __future__ import annotations`: FastAPI reads annotations, and some name what only `create_app` knows.
import asyncio
import hmac
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mimix_ray.config import ConfigError
from mimix_ray.prompts import PromptError, load_prompts
from mimix_ray.run import Run
from mimix_ray.serving.dispatcher import Dispatcher
from mimix_ray.serving.requests import BadRequest, VideoRequest, nest, settle
from mimix_ray.serving.store import Job, JobStore, QueueFull

log = logging.getLogger(__name__)

POLL_MS = 1000
"""How often a client should ask how far its job is, milliseconds."""

MAX_BODY = 16 << 20
"""Longest request body, bytes: room for a reference picture, which stock clients may send along."""

JOB_ID = re.compile(r"video_[0-9a-f]{32}")

PAGE = Path(__file__).with_name("page.html")


def accepted_keys(variable: str) -> tuple[bytes, ...]:
    """The API keys in an environment variable, comma-separated; () when it is not set: open to all.

    Raises ConfigError when it is set and holds none: whoever sets it does not mean "open to all".
    """
    value = os.environ.get(variable)
    keys = tuple(key.strip().encode() for key in (value or "").split(",") if key.strip())
    if value is not None and not keys:
        raise ConfigError(f"{variable} is set and holds no key; give keys, or unset it to let everybody in")
    return keys


def create_app(run: Run, store: JobStore, dispatcher: Dispatcher, keys: tuple[bytes, ...] = ()) -> FastAPI:
    """The application; it runs the dispatcher for as long as it lives."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        dispatching = asyncio.create_task(dispatcher.run())
        yield
        dispatching.cancel()
        with suppress(asyncio.CancelledError):
            await dispatching

    app = FastAPI(
        title="mimix_ray", summary="Videos in which characters of different shows act together", lifespan=lifespan
    )
    app.add_middleware(LimitBody, limit=MAX_BODY)
    _speak_openai_errors(app)

    def authorised(request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        # Every key is compared, each in constant time: the answer's time tells nothing.
        matches = [hmac.compare_digest(key.strip().encode(), accepted) for accepted in keys]
        if keys and not (scheme.lower() == "bearer" and any(matches)):
            raise _error(401, "missing or wrong API key; send 'Authorization: Bearer <key>'", code="invalid_api_key")

    def known_job(video_id: str) -> Job:
        job = store.get(video_id) if JOB_ID.fullmatch(video_id) else None
        if job is None:
            raise _error(404, f"no video {video_id[:80]!r}", "video_id", "not_found")
        return job

    guarded: dict[str, Any] = {"dependencies": [Depends(authorised)]}
    KnownJob = Annotated[Job, Depends(known_job)]

    @app.post("/v1/videos", **guarded, openapi_extra={"requestBody": _request_body()})
    async def create(request: Request, response: Response) -> dict[str, Any]:
        """Accepts a job. JSON or a form; a file may come along but means nothing to a text-to-video model."""
        body = await _body(request)
        order = await run_in_threadpool(settle, body, run)
        try:
            job = await run_in_threadpool(store.add, order.parameters, run.config.name, run.config.serving.max_queued)
        except QueueFull as error:
            raise _error(429, f"{error}; try again later", code="queue_full", headers={"Retry-After": "30"}) from None
        dispatcher.wake()
        response.headers["openai-poll-after-ms"] = str(POLL_MS)
        return {**video_object(job), "ignored": order.ignored}

    @app.get("/v1/videos", **guarded)
    def page(
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> dict[str, Any]:
        """Jobs in the order of arrival, newest first unless told otherwise."""
        jobs, more = store.page(known_job(after) if after else None, limit, order == "asc")
        return {
            "object": "list",
            "data": [video_object(job) for job in jobs],
            "first_id": jobs[0].id if jobs else None,
            "last_id": jobs[-1].id if jobs else None,
            "has_more": more,
        }

    @app.get("/v1/videos/{video_id}", **guarded)
    def retrieve(job: KnownJob, response: Response) -> dict[str, Any]:
        """A job's state; 200 for a failed one too, whose `error` says why."""
        response.headers["openai-poll-after-ms"] = str(POLL_MS)
        return video_object(job)

    def result(job: KnownJob) -> Iterator[Path]:
        if job.video is None:
            why = job.error_message if job.status == "failed" else f"it is {job.status}; poll until it is completed"
            raise _error(404, f"video {job.id} has no content: {why}", "video_id", "not_ready")
        if not run.storage.exists(job.video):
            raise _error(404, f"the file of video {job.id} was removed from storage", "video_id", "gone")
        with run.storage.local(job.video) as path:
            yield path

    @app.get("/v1/videos/{video_id}/content", **guarded, response_class=FileResponse)
    def content(
        job: KnownJob, path: Annotated[Path, Depends(result)], variant: Literal["video"] = "video"
    ) -> FileResponse:
        """The mp4; a Range of it when one is asked for."""
        return FileResponse(path, media_type="video/mp4", filename=f"{job.id}.mp4", content_disposition_type="inline")

    @app.delete("/v1/videos/{video_id}", **guarded)
    def delete(job: KnownJob) -> dict[str, Any]:
        """Forgets a job and its video; a running one is stopped at its next step."""
        gone = store.delete(job.id)
        if gone and gone.video:
            run.storage.delete(gone.video)
        return {"id": job.id, "deleted": True, "object": "video.deleted"}

    @app.get("/v1/models", **guarded)
    def models() -> dict[str, Any]:
        """The one model that is served."""
        model = {"id": run.config.name, "object": "model", "created": 0, "owned_by": "mimix_ray"}
        return {"object": "list", "data": [model]}

    cast = _cast(run)
    limits = run.config.serving.model_dump(include={"max_frames", "max_pixels", "max_steps", "max_prompt_chars"})
    defaults = run.config.generation.model_dump(include={"frames", "fps", "width", "height", "steps", "guidance"})

    @app.get("/v1/characters", **guarded)
    def characters() -> dict[str, Any]:
        """Who can act, and what a request may ask for."""
        return {"object": "list", "data": cast, "defaults": defaults, "limits": limits}

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Answers as long as the job store does."""
        return {"status": "ok", "waiting": store.waiting()}

    @app.get("/", response_class=HTMLResponse)
    def web_page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    return app


def video_object(job: Job) -> dict[str, Any]:
    """A job as OpenAI's Video object, with what was really used beside it."""
    failed = job.status == "failed"
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": job.status,
        "progress": job.progress,
        "created_at": int(job.created_at),
        "completed_at": int(job.completed_at) if job.completed_at and not failed else None,
        "expires_at": None,
        "error": {"code": job.error_code, "message": job.error_message} if failed else None,
        "remixed_from_video_id": None,
        "size": f"{job.width}x{job.height}",
        "seconds": f"{job.frames / job.fps:g}",
        "prompt": job.prompt,
        "negative_prompt": job.negative_prompt,
        "seed": job.seed,
        "num_frames": job.frames,
        "fps": job.fps,
        "steps": job.steps,
        "guidance": job.guidance,
        "adapter": job.adapter,
    }


class LimitBody:
    """Refuses request bodies over `limit` bytes: 413 as soon as more has come."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise _error(413, f"the request is over {self.limit >> 20} MiB", code="too_large")
            return message

        await self.app(scope, counted, send)


async def _body(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        async with request.form(max_files=4, max_fields=200) as form:
            # A file's name and content go no further than this: only that there was one.
            items = [(key, "file" if isinstance(value, UploadFile) else value) for key, value in form.multi_items()]
            return nest(items)
    try:
        return await request.json()
    except (ValueError, RecursionError):
        raise BadRequest("the body is neither JSON nor a form", code="invalid_json") from None


def _request_body() -> dict[str, Any]:
    """The request's schema for /openapi.json, whole in itself."""
    schema = VideoRequest.model_json_schema(by_alias=False)
    definitions = schema.pop("$defs")
    schema["properties"]["cast"]["items"] = definitions["CastMember"]
    content = {"schema": schema}
    return {"required": True, "content": {"application/json": content, "multipart/form-data": content}}


def _cast(run: Run) -> list[dict[str, Any]]:
    """The universe's characters, each with the actions that the run's prompts have for it, as suggestions."""
    try:
        prompts = load_prompts(run.config.generation.prompts, run.universe)
    except (PromptError, OSError):
        prompts = []  # only suggestions: an endpoint needs no prompt file
    said = [one for prompt in prompts for one in prompt.caption.characters]
    return [
        {
            "object": "character",
            "name": character.name,
            "show": show.title,
            "style": character.style,
            "aliases": character.aliases,
            "look": character.look,
            "manner": character.manner,
            "actions": list(dict.fromkeys(one.action for one in said if one.name == character.name)),
        }
        for show in run.universe.shows
        for character in show.characters
    ]


def _error(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> HTTPException:
    return HTTPException(status, {"message": message, "param": param, "code": code}, headers)


def _speak_openai_errors(app: FastAPI) -> None:
    """Every error leaves as OpenAI's envelope: {"error": {message, type, param, code}}."""

    def envelope(status: int, detail: dict[str, Any], headers: Any = None) -> JSONResponse:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return JSONResponse({"error": {"type": kind, **detail}}, status, headers=headers)

    @app.exception_handler(StarletteHTTPException)
    async def http(_: Request, error: StarletteHTTPException) -> JSONResponse:
        detail: Any = error.detail
        if not isinstance(detail, dict):
            detail = {"message": str(detail), "param": None, "code": None}
        return envelope(error.status_code, detail, error.headers)

    @app.exception_handler(BadRequest)
    async def bad_request(_: Request, error: BadRequest) -> JSONResponse:
        return envelope(400, {"message": str(error), "param": error.param, "code": error.code})

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = str(first["loc"][-1])
        return envelope(400, {"message": f"{param}: {first['msg']}", "param": param, "code": "invalid_value"})

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.exception("%s %s", request.method, request.url.path, exc_info=error)
        return envelope(500, {"message": "the server met an error; it is in its log", "param": None, "code": None})
