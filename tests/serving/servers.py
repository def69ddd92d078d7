"""What the serving tests stand on: a generator in name only, real HTTP servers, real databases."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import uvicorn

from mimix_ray.run import Run
from mimix_ray.serving.api import create_app
from mimix_ray.serving.dispatcher import Dispatcher, Done, Event, Failed, Step
from mimix_ray.serving.store import Job, JobStore, database_url


class FakeGenerate:
    """Stands behind the dispatcher's interface and makes no video: it wires requests, jobs and storage together.

    The result's bytes tell the prompt. A prompt with "fail" fails, one with "wait" waits until `go` is set.
    """

    def __init__(self, run: Run, step_s: float = 0.0) -> None:
        self.run, self.step_s = run, step_s
        self.go = threading.Event()
        self.begun: list[Job] = []
        self.stopped: list[str] = []

    async def __call__(self, job: Job) -> AsyncGenerator[Event, None]:
        self.begun.append(job)
        try:
            for step in range(job.steps + 1):
                yield Step(step, job.steps)
                await asyncio.sleep(self.step_s)
                while "wait" in job.prompt and not self.go.is_set():
                    await asyncio.sleep(0.01)
            if "fail" in job.prompt:
                yield Failed("generation_failed", "the fake was told to fail")
                return
            name = f"serving/videos/{job.id}-{job.attempt}.mp4"
            await asyncio.to_thread(self.run.storage.write_bytes, name, job.prompt.encode() * 100)
            yield Done(name, "0123456789abcdef")
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped.append(job.id)
            raise


@contextmanager
def endpoint(run: Run, generate: FakeGenerate, keys: tuple[bytes, ...] = (), **options: float) -> Iterator[str]:
    """The API on a real uvicorn server on a free port; yields its address. Ends like a process that is told to stop."""
    store = JobStore(database_url(run))
    app = create_app(run, store, Dispatcher(store, run.storage, generate, look_every_s=0.05, **options), keys)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        store.close()
