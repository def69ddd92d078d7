"""The job store on SQLite and on a real Postgres: order, limits, leases, fencing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mimix_ray.config import ConfigError
from mimix_ray.serving.store import MAX_ATTEMPTS, Job, JobStore, QueueFull, database_url
from mimix_ray.synthesis import Parameters

PARAMETERS = Parameters(
    prompt="[Character: Pip], hops — «quickly» 🐤.",
    negative_prompt="",
    seed=2**63 - 1,
    frames=81,
    fps=16,
    width=192,
    height=112,
    steps=8,
    guidance=5.0,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.5

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[JobStore]:
    store = JobStore(database, clock)
    yield store
    store.close()


def add(store: JobStore, prompt: str = "a street") -> Job:
    return store.add(replace(PARAMETERS, prompt=prompt), "miniature", max_queued=1000)


def claim(store: JobStore) -> Job:
    job = store.claim(lease_s=10)
    assert job is not None
    return job


def test_a_job_comes_back_as_it_was_given(store: JobStore, clock: Clock, database: str):
    job = store.add(PARAMETERS, "miniature", max_queued=1)
    assert job.parameters == PARAMETERS
    assert (job.status, job.progress, job.attempt, job.created_at) == ("queued", 0, 0, clock.now)
    again = JobStore(database, clock)
    assert again.get(job.id) == job
    again.close()
    assert store.get("video_none") is None


def test_many_may_open_a_new_store_at_once(database: str):
    with ThreadPoolExecutor(8) as pool:
        for store in pool.map(JobStore, [database] * 8):
            assert store.waiting() == 0
            store.close()


def test_pages_follow_the_order_of_arrival_both_ways(store: JobStore):
    jobs = [add(store, str(number)) for number in range(5)]
    assert store.page(None, 2, ascending=True) == (jobs[:2], True)
    assert store.page(jobs[1], 3, ascending=True) == (jobs[2:], False)
    assert store.page(None, 3, ascending=False) == (jobs[:1:-1], True)
    assert store.page(jobs[2], 9, ascending=False) == (jobs[1::-1], False)
    assert store.page(jobs[4], 9, ascending=True) == ([], False)


def test_the_queue_takes_no_more_than_its_limit(store: JobStore):
    for _ in range(2):
        store.add(PARAMETERS, "m", max_queued=2)
    with pytest.raises(QueueFull, match="2 jobs wait"):
        store.add(PARAMETERS, "m", max_queued=2)
    assert store.advance(claim(store), 10)
    assert store.waiting() == 1
    store.add(PARAMETERS, "m", max_queued=2)


def test_the_oldest_job_is_handed_out_first_and_only_once(store: JobStore):
    jobs = [add(store) for _ in range(3)]
    assert [claim(store).id for _ in jobs] == [job.id for job in jobs]
    assert store.claim(lease_s=10) is None


def test_many_claimants_never_get_the_same_job(store: JobStore):
    jobs = [add(store) for _ in range(40)]

    def work(_: int) -> list[str]:
        mine = []
        while store.waiting():
            if job := store.claim(lease_s=60):
                mine.append(job.id)
                assert store.complete(job, "v.mp4", None)
        return mine

    with ThreadPoolExecutor(6) as pool:
        done = [job_id for mine in pool.map(work, range(6)) for job_id in mine]
    assert sorted(done) == sorted(job.id for job in jobs)


def test_a_job_goes_from_queued_to_completed(store: JobStore, clock: Clock):
    job_id = add(store).id
    job = claim(store)
    assert store.get(job_id).status == "queued"  # handed out, not begun
    assert store.advance(job, 50)
    assert (store.get(job_id).status, store.get(job_id).progress) == ("in_progress", 50)
    clock.now += 5
    assert store.complete(job, "serving/videos/x.mp4", "abcd")
    done = store.get(job_id)
    assert (done.status, done.progress, done.video, done.adapter) == ("completed", 100, "serving/videos/x.mp4", "abcd")
    assert done.completed_at == clock.now
    assert not store.fail(job, "late", "after the end"), "a job ends once"


def test_a_job_can_fail(store: JobStore):
    job = (add(store), claim(store))[1]
    assert store.fail(job, "out_of_memory", "too large")
    failed = store.get(job.id)
    assert (failed.status, failed.error_code, failed.error_message) == ("failed", "out_of_memory", "too large")
    assert not store.complete(job, "v.mp4", None)


def test_a_lease_that_ran_out_gives_the_job_to_another_and_fences_the_zombie(store: JobStore, clock: Clock):
    add(store)
    zombie = claim(store)
    assert store.advance(zombie, 70)
    clock.now += 9
    assert store.renew(zombie, lease_s=10)
    clock.now += 9
    assert store.claim(lease_s=10) is None, "a renewed lease holds"
    clock.now += 2
    assert store.holds(zombie)
    heir = claim(store)
    assert store.holds(heir) and not store.holds(zombie)
    assert (heir.id, heir.attempt, heir.status, heir.progress) == (zombie.id, zombie.attempt + 1, "queued", 0)
    assert not store.renew(zombie, lease_s=10)
    assert not store.advance(zombie, 80)
    assert not store.complete(zombie, "zombie.mp4", None)
    assert not store.fail(zombie, "zombie", "zombie")
    assert not store.release(zombie, "zombie")
    assert store.complete(heir, "heir.mp4", None)
    assert store.get(heir.id).video == "heir.mp4"


def test_a_released_job_is_free_at_once(store: JobStore):
    add(store)
    first = claim(store)
    assert store.release(first, "the replica died")
    second = claim(store)
    assert (second.id, second.attempt) == (first.id, 2)


def test_a_job_that_nobody_survives_is_given_up(store: JobStore):
    job_id = add(store).id
    for _ in range(MAX_ATTEMPTS):
        store.release(claim(store), "the replica died")
    assert store.claim(lease_s=10) is None
    job = store.get(job_id)
    assert (job.status, job.error_code) == ("failed", "gave_up")
    assert job.error_message == f"{MAX_ATTEMPTS} attempts ended without a result; the last: the replica died"


def test_a_deleted_job_is_gone_for_all(store: JobStore):
    add(store)
    job = claim(store)
    assert store.delete(job.id).id == job.id
    assert store.delete(job.id) is None
    assert store.get(job.id) is None
    assert not store.advance(job, 10)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "cannot be opened"),
        ("postgresql://nobody@127.0.0.1:1/none", "cannot be opened"),
        ("mysql+nodriver://h/d", "cannot be opened"),
        ("sqlite:////proc/none/jobs.sqlite", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(url: str, says: str):
    with pytest.raises(ConfigError, match=says) as caught:
        JobStore(url)
    assert "\n" not in str(caught.value)


def test_where_the_jobs_lie(run_factory, monkeypatch: pytest.MonkeyPatch):
    run = run_factory()
    assert database_url(run) == f"sqlite:///{run.storage.uri}/serving/jobs.sqlite"
    monkeypatch.setenv("SOME_DATABASE", "postgresql://user:secret@host/jobs")
    assert database_url(run_factory("--serving.database", "$SOME_DATABASE")) == "postgresql://user:secret@host/jobs"
    with pytest.raises(ConfigError, match=r"'\$NOT_SET_ANYWHERE' is not set"):
        database_url(run_factory("--serving.database", "$NOT_SET_ANYWHERE"))
    on_s3 = replace(run, storage=replace(run.storage, uri="s3://bucket/run"))
    with pytest.raises(ConfigError, match=r"s3://bucket/run cannot hold SQLite; give the URL"):
        database_url(on_s3)
