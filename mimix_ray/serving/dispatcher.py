"""Hands queued jobs to generators and writes down what comes of them.

Behind one interface, `Generate`, may stand a Ray Serve handle, or anything else that makes videos and tells how far it
is. A job whose dispatcher or generator dies is taken back when its lease ends; whatever a zombie still sends for it
carries an old attempt and is refused (store.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass

from mimix_ray.serving.store import Job, JobStore
from mimix_ray.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """The generator has ended denoising step `number` (from 1; 0: it has begun) of `total`."""

    number: int
    total: int


@dataclass(frozen=True)
class Done:
    """The result lies on storage, whole."""

    video: str
    adapter: str | None


@dataclass(frozen=True)
class Failed:
    """There will be no result, and trying again would not help."""

    code: str
    message: str


Event = Step | Done | Failed
Generate = Callable[[Job], AsyncGenerator[Event, None]]
"""Makes one job's video: any number of Steps, then Done or Failed. Closing it stops the work. An exception means that
the generator itself went away, and that another one may succeed."""


class Dispatcher:
    """Works through the jobs of one store, a few at a time. Several dispatchers may share a store."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        generate: Generate,
        concurrency: int = 1,
        lease_s: float = 15.0,
        look_every_s: float = 1.0,
    ) -> None:
        """
        Args:
            store: Where the jobs lie.
            storage: Where results lie.
            generate: Makes one video.
            concurrency: Jobs handed out at once; as many as there may be generators, so that autoscaling sees demand.
            lease_s: Seconds after which a dead process's jobs are taken back; renewed three times in it.
            look_every_s: Seconds between looks for jobs that other processes accepted or lost.
        """
        self.store, self.storage, self.generate = store, storage, generate
        self.concurrency, self.lease_s, self.look_every_s = concurrency, lease_s, look_every_s
        self._wake = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """There is a new job: look at once. To be called in the dispatcher's own event loop."""
        self._wake.set()

    async def run(self) -> None:
        """Hands out jobs until it is cancelled; then stops what runs and gives those jobs back."""
        try:
            while True:
                self._wake.clear()
                with suppress(TimeoutError):
                    await self._hand_out()
                    # Not `wait_for`: Python 3.11's loses a cancellation that comes just as the event is set.
                    async with asyncio.timeout(self.look_every_s):
                        await self._wake.wait()
        finally:
            for task in self._working:
                task.cancel()
            await asyncio.gather(*self._working, return_exceptions=True)

    async def _hand_out(self) -> None:
        while len(self._working) < self.concurrency:
            try:
                job = await asyncio.to_thread(self.store.claim, self.lease_s)
            except Exception:  # a database that is away comes back; the jobs wait in it
                log.exception("the job store does not answer; trying again")
                return
            if job is None:
                return
            task = asyncio.create_task(self._work(job), name=job.id)
            self._working.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception():
            log.error("job %s: not written down; its lease will end", task.get_name(), exc_info=task.exception())

    async def _work(self, job: Job) -> None:
        """One attempt at one job. Its lease is renewed all along; losing it stops the work."""
        log.info("job %s: attempt %d", job.id, job.attempt)
        work = asyncio.ensure_future(self._follow(job))
        try:
            while not (await asyncio.wait([work], timeout=self.lease_s / 3))[0]:
                if not await self._renewed(job):
                    log.info("job %s: no longer ours (deleted, or taken over); stopping", job.id)
                    work.cancel()
                    break
            await work
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await asyncio.to_thread(self.store.release, job, "the server was stopped")
        except Exception as error:
            log.warning("job %s: the generator went away (%s); back to the queue", job.id, error)
            await asyncio.to_thread(self.store.release, job, f"{type(error).__name__}: {error}")

    async def _renewed(self, job: Job) -> bool:
        """Whether the job is still ours. While the database is away we work on: in the end it decides by attempt."""
        try:
            return await asyncio.to_thread(self.store.renew, job, self.lease_s)
        except Exception:
            log.exception("job %s: its lease could not be renewed", job.id)
            return True

    async def _follow(self, job: Job) -> None:
        """Writes down each event of one attempt, until it ends or the job is no longer ours."""
        async with aclosing(self.generate(job)) as events:
            async for event in events:
                match event:
                    case Step(number, total):
                        # The last percent is the mp4's: decoded, encoded, on storage.
                        if not await asyncio.to_thread(self.store.advance, job, min(99, 100 * number // total)):
                            return
                    case Done(video, adapter):
                        if not await asyncio.to_thread(self.store.complete, job, video, adapter):
                            log.info("job %s: late result of attempt %d refused", job.id, job.attempt)
                            await asyncio.to_thread(self.storage.delete, video)
                        return
                    case Failed(code, message):
                        await asyncio.to_thread(self.store.fail, job, code, message)
                        return
        raise RuntimeError("the generator ended without a result")
