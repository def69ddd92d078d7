"""Jobs outlive what works on them: processes that die, generators that go away, zombies that come back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import httpx
import pytest

from mimix_ray.run import Run
from mimix_ray.serving.dispatcher import Dispatcher, Done, Event, Step
from mimix_ray.serving.store import MAX_ATTEMPTS, Job, JobStore
from tests.serving.servers import FakeGenerate, endpoint
from tests.serving.test_store import PARAMETERS, Clock


@pytest.fixture
def run(run_factory: Callable[..., Run]) -> Run:
    return run_factory()


def wait_for(job: Callable[[], Job], until: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + 20
    while not until(found := job()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_after_kill_9_the_job_is_taken_back_and_ends_once(run: Run):
    victim = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.victim", run.storage.uri], stdout=subprocess.PIPE, text=True
    )
    address = victim.stdout.readline().strip()
    ids = [httpx.post(f"{address}/v1/videos", json={"prompt": text}).json()["id"] for text in ("wait", "then")]
    store = JobStore(f"sqlite:///{run.storage.uri}/serving/jobs.sqlite")
    wait_for(lambda: store.get(ids[0]), lambda job: job.status == "in_progress")
    victim.kill()
    victim.wait()

    generate = FakeGenerate(run)
    generate.go.set()
    with endpoint(run, generate, lease_s=1.0) as address:
        done = [wait_for(lambda i=i: store.get(i), lambda job: job.status == "completed") for i in ids]
        assert [job.attempt for job in done] == [2, 1]
        assert sorted(job.id for job in generate.begun) == sorted(ids)
        content = httpx.get(f"{address}/v1/videos/{ids[0]}/content").content
    assert content == b"wait." * 100
    assert run.storage.list("serving/videos") == sorted(f"serving/videos/{job.id}-{job.attempt}.mp4" for job in done)


def test_a_server_that_is_stopped_gives_its_jobs_back(run: Run):
    first = FakeGenerate(run)
    with endpoint(run, first) as address:
        job_id = httpx.post(f"{address}/v1/videos", json={"prompt": "wait"}).json()["id"]
        wait_for(lambda: None, lambda _: bool(first.begun))
    assert first.stopped == [job_id]
    second = FakeGenerate(run)
    second.go.set()
    with endpoint(run, second) as address:
        ask = lambda: httpx.get(f"{address}/v1/videos/{job_id}").json()  # noqa: E731
        wait_for(ask, lambda video: video["status"] == "completed")


def test_deleting_a_running_job_stops_it(run: Run):
    generate = FakeGenerate(run)
    with endpoint(run, generate, lease_s=0.3) as address:
        job_id = httpx.post(f"{address}/v1/videos", json={"prompt": "wait"}).json()["id"]
        wait_for(lambda: None, lambda _: bool(generate.begun))
        httpx.delete(f"{address}/v1/videos/{job_id}").raise_for_status()
        wait_for(lambda: None, lambda _: generate.stopped == [job_id])
        assert httpx.post(f"{address}/v1/videos", json={"prompt": "next"}).is_success
        wait_for(lambda: None, lambda _: len(generate.begun) == 2)
    assert not [name for name in run.storage.list("serving/videos") if job_id in name]


async def until_idle(dispatcher: Dispatcher) -> None:
    """Runs the dispatcher until no job is left that it could work on."""
    running = asyncio.create_task(dispatcher.run())
    deadline = time.monotonic() + 20
    while dispatcher._working or dispatcher.store.page(None, 1, False)[0][0].status not in ("completed", "failed"):
        assert time.monotonic() < deadline and not running.done()
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_late_result_of_a_zombie_is_refused_and_removed(run: Run, database: str):
    clock = Clock()
    store = JobStore(database, clock)
    job_id = store.add(PARAMETERS, "m", 9).id

    async def slow(job: Job) -> AsyncGenerator[Event, None]:
        yield Step(0, 8)
        clock.now += 1000  # this process stood still for so long that its lease ran out
        heir = store.claim(lease_s=15)
        name = f"serving/videos/{job.id}-{job.attempt}.mp4"
        run.storage.write_bytes(name, b"zombie")
        assert store.complete(heir, "heir.mp4", None)
        yield Done(name, None)

    asyncio.run(until_idle(Dispatcher(store, run.storage, slow, look_every_s=0.02)))
    job = store.get(job_id)
    assert (job.status, job.attempt, job.video) == ("completed", 2, "heir.mp4")
    assert run.storage.list("serving/videos") == []
    store.close()


def test_a_generator_that_goes_away_is_followed_by_another(run: Run, database: str):
    store = JobStore(database)
    job_id = store.add(PARAMETERS, "m", 9).id

    async def dies_twice(job: Job) -> AsyncGenerator[Event, None]:
        yield Step(1, 8)
        if job.attempt < 3:
            raise ConnectionError("the replica was killed")
        yield Done("v.mp4", None)

    asyncio.run(until_idle(Dispatcher(store, run.storage, dies_twice, look_every_s=0.02)))
    assert (store.get(job_id).status, store.get(job_id).attempt) == ("completed", 3)
    store.close()


def test_a_job_that_takes_every_generator_down_fails_with_the_reason(run: Run, database: str):
    store = JobStore(database)
    job_id = store.add(PARAMETERS, "m", 9).id

    async def dies(job: Job) -> AsyncGenerator[Event, None]:
        yield Step(1, 8)
        raise ConnectionError("the replica was killed")

    asyncio.run(until_idle(Dispatcher(store, run.storage, dies, look_every_s=0.02)))
    job = store.get(job_id)
    assert (job.status, job.attempt, job.error_code) == ("failed", MAX_ATTEMPTS, "gave_up")
    assert "the replica was killed" in job.error_message
    store.close()


def test_jobs_are_handed_out_as_many_at_once_as_there_are_generators(run: Run, database: str):
    store = JobStore(database)
    for number in range(6):
        store.add(replace(PARAMETERS, prompt=str(number)), "m", 9)
    working, most = 0, 0

    async def counted(job: Job) -> AsyncGenerator[Event, None]:
        nonlocal working, most
        working += 1
        most = max(most, working)
        yield Step(1, 2)
        await asyncio.sleep(0.05)
        working -= 1
        yield Done("v.mp4", None)

    asyncio.run(until_idle(Dispatcher(store, run.storage, counted, concurrency=3, look_every_s=0.02)))
    assert most == 3
    assert all(job.status == "completed" and job.attempt == 1 for job in store.page(None, 9, True)[0])
    store.close()


def test_it_stops_even_if_a_job_comes_at_that_very_moment(run: Run):
    async def stop(turns: int) -> None:
        dispatcher = Dispatcher(store, run.storage, FakeGenerate(run), look_every_s=9)
        running = asyncio.create_task(dispatcher.run())
        await asyncio.sleep(0.1)
        dispatcher.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        assert (await asyncio.wait([running], timeout=5))[0], f"{turns} turns of the loop after the wake-up"

    store = JobStore(f"sqlite:///{run.storage.uri}/jobs.sqlite")
    for turns in range(6):
        asyncio.run(stop(turns))
    store.close()


def test_a_database_that_goes_away_for_a_while_is_outlived(run: Run, tmp_path, monkeypatch: pytest.MonkeyPatch):
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    store.add(PARAMETERS, "m", 9)
    claim, fails = store.claim, iter([True, True, False])

    def unsteady(lease_s: float) -> Job | None:
        if next(fails, False):
            raise ConnectionError("the database is away")
        return claim(lease_s)

    monkeypatch.setattr(store, "claim", unsteady)

    async def makes(job: Job) -> AsyncGenerator[Event, None]:
        yield Done("v.mp4", None)

    asyncio.run(until_idle(Dispatcher(store, run.storage, makes, look_every_s=0.02)))
    store.close()
