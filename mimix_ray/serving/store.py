"""The job store: every accepted request is a row in a database, and ends there exactly once.

One row a job, one statement a change. Each statement is atomic by itself, on SQLite and on Postgres, so there is no
transaction to hold and no dialect to tell apart.

Who works on a job holds its lease, and renews it. A job whose lease has run out belongs to nobody (it is new, or its
process died) and goes to whoever claims it next. Each claim raises `attempt`, the fencing token: a write that names an
older attempt changes nothing and says so, however late the zombie that sends it.

Lease times come from the clocks of the hosts that run dispatchers; those must agree to within a few seconds.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mimix_ray.config import ConfigError
from mimix_ray.run import Run
from mimix_ray.synthesis import Parameters

MAX_ATTEMPTS = 5
"""Times a job is handed out. One that takes its replica down each time must not go round for ever."""

UNFINISHED = ("queued", "in_progress")


class QueueFull(RuntimeError):
    """So many jobs wait already that no other one is accepted."""


@dataclass(frozen=True)
class Job:
    """One accepted request. Times are Unix seconds."""

    number: int
    """Place in the order of arrival."""
    id: str
    """`video_<hex>`; ours, never the client's."""
    model: str
    status: str
    """queued | in_progress | completed | failed."""
    progress: int
    """Percent."""
    created_at: float
    completed_at: float | None
    attempt: int
    lease_until: float
    error_code: str | None
    error_message: str | None
    video: str | None
    """The mp4 on the run's storage, once completed."""
    adapter: str | None
    """Digest of the adapter that made the video."""
    prompt: str
    negative_prompt: str
    seed: int
    frames: int
    fps: int
    width: int
    height: int
    steps: int
    guidance: float

    @property
    def parameters(self) -> Parameters:
        return Parameters(**{field.name: getattr(self, field.name) for field in fields(Parameters)})


_JOBS = sa.Table(
    "jobs",
    sa.MetaData(),
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(64), unique=True, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("progress", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("completed_at", sa.Double),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("video", sa.Text),
    sa.Column("adapter", sa.Text),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("negative_prompt", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("fps", sa.Integer, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("guidance", sa.Double, nullable=False),
)


def database_url(run: Run) -> str:
    """Where the run's jobs lie: `serving.database`, or SQLite under a local root.

    The config may name an environment variable (`$MIMIX_DATABASE_URL`), so that no password stands in a file.
    Raises ConfigError when the variable is not set, and for a root on S3 without a database.
    """
    database = run.config.serving.database
    if database is None:
        if run.storage.uri.startswith("s3://"):
            raise ConfigError(
                f"serving.database: the root {run.storage.uri} cannot hold SQLite; "
                "give the URL of a database, e.g. postgresql://user:password@host/mimix"
            )
        return f"sqlite:///{run.storage / 'serving/jobs.sqlite'}"
    expanded = os.path.expandvars(database)
    if expanded.startswith("$"):
        raise ConfigError(f"serving.database: the environment variable {database!r} is not set; set it to a URL")
    return expanded


class JobStore:
    """The jobs of one endpoint. Methods block for milliseconds and may be called from any thread."""

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """Connects, and makes the table where it is missing; raises ConfigError, one line, when that fails."""
        try:
            address = sa.make_url(url)
            if address.get_backend_name() == "sqlite" and address.database:
                Path(address.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(address, isolation_level="AUTOCOMMIT", pool_pre_ping=True)
            if address.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _prepare_sqlite)
            try:
                _JOBS.metadata.create_all(self._engine)
            except sa.exc.DBAPIError:  # another process made the table between our look and our try
                _JOBS.metadata.create_all(self._engine)
        except ImportError as error:
            raise ConfigError(f"serving.database: {error}; install the database's Python driver") from None
        except (sa.exc.SQLAlchemyError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"serving.database: the job store cannot be opened ({reason})") from None
        self._clock = clock

    def add(self, parameters: Parameters, model: str, max_queued: int) -> Job:
        """Accepts a job; raises QueueFull when `max_queued` wait already.

        On Postgres requests at the same instant may pass the limit together: it guards patience, no invariant.
        """
        job_id = f"video_{uuid.uuid4().hex}"
        values = {
            "id": job_id,
            "model": model,
            "status": "queued",
            "progress": 0,
            "created_at": self._clock(),
            "attempt": 0,
            "lease_until": 0.0,
            **asdict(parameters),
        }
        waiting = sa.select(sa.func.count()).where(_JOBS.c.status == "queued").scalar_subquery()
        row = sa.select(*(sa.literal(value, _JOBS.c[name].type) for name, value in values.items()))
        self._change(sa.insert(_JOBS).from_select(list(values), row.where(waiting < max_queued)))
        job = self.get(job_id)
        if job is None:
            raise QueueFull(f"{max_queued} jobs wait already")
        return job

    def get(self, job_id: str) -> Job | None:
        rows = self._rows(sa.select(_JOBS).where(_JOBS.c.id == job_id))
        return rows[0] if rows else None

    def page(self, after: Job | None, limit: int, ascending: bool) -> tuple[list[Job], bool]:
        """Up to `limit` jobs that follow `after` in the order of arrival or against it; and whether there are more."""
        number = _JOBS.c.number
        query = sa.select(_JOBS).order_by(number if ascending else number.desc()).limit(limit + 1)
        if after is not None:
            query = query.where(number > after.number if ascending else number < after.number)
        rows = self._rows(query)
        return rows[:limit], len(rows) > limit

    def delete(self, job_id: str) -> Job | None:
        """Forgets a job, whatever its status, and returns it; whoever works on it finds out at its next write."""
        rows = self._rows(sa.delete(_JOBS).where(_JOBS.c.id == job_id).returning(_JOBS))
        return rows[0] if rows else None

    def waiting(self) -> int:
        """Jobs that nobody has begun."""
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).where(_JOBS.c.status == "queued")) or 0

    def claim(self, lease_s: float) -> Job | None:
        """Hands out the oldest job without a holder, for `lease_s` seconds, under a new attempt; None: no job."""
        now = self._clock()
        free = sa.and_(_JOBS.c.status.in_(UNFINISHED), _JOBS.c.lease_until < now)
        self._change(
            sa.update(_JOBS)
            .where(free, _JOBS.c.attempt >= MAX_ATTEMPTS)
            .values(
                status="failed",
                completed_at=now,
                error_code="gave_up",
                error_message=f"{MAX_ATTEMPTS} attempts ended without a result; the last: "
                + sa.func.coalesce(_JOBS.c.error_message, "its process went away"),
            )
        )
        oldest = sa.select(sa.func.min(_JOBS.c.number)).where(free).scalar_subquery()
        # `free` stands outside as well: on Postgres the one who comes second waits for the row and must look again.
        rows = self._rows(
            sa.update(_JOBS)
            .where(_JOBS.c.number == oldest, free)
            .values(attempt=_JOBS.c.attempt + 1, lease_until=now + lease_s, status="queued", progress=0)
            .returning(_JOBS)
        )
        return rows[0] if rows else None

    def renew(self, job: Job, lease_s: float) -> bool:
        """Keeps the lease; False when the job is no longer ours (deleted, or handed to somebody else)."""
        return self._write(job, lease_until=self._clock() + lease_s)

    def holds(self, job: Job) -> bool:
        """Whether the job is still ours."""
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(sa.literal(1)).where(_ours(job))) is not None

    def advance(self, job: Job, progress: int) -> bool:
        """The job runs, and is so far (percent); False when it is no longer ours."""
        return self._write(job, status="in_progress", progress=progress)

    def complete(self, job: Job, video: str, adapter: str | None) -> bool:
        """The result lies on storage. False when the job is no longer ours: the result is nobody's then."""
        return self._write(
            job,
            status="completed",
            progress=100,
            completed_at=self._clock(),
            video=video,
            adapter=adapter,
            error_message=None,
        )

    def fail(self, job: Job, code: str, message: str) -> bool:
        """Ends the job for good with a reason; False when it is no longer ours."""
        return self._write(
            job, status="failed", completed_at=self._clock(), error_code=code, error_message=message[:2000]
        )

    def release(self, job: Job, reason: str) -> bool:
        """Gives the job back so that it can be claimed at once; `reason` is kept in case it was the last attempt."""
        return self._write(job, status="queued", progress=0, lease_until=0.0, error_message=reason[:2000])

    def close(self) -> None:
        self._engine.dispose()

    def _write(self, job: Job, **values: Any) -> bool:
        """Changes a job that is still ours: its attempt is the one that we were handed, and it has not ended."""
        return self._change(sa.update(_JOBS).where(_ours(job)).values(**values)) == 1

    def _change(self, statement: sa.UpdateBase) -> int:
        with self._engine.connect() as connection:
            return connection.execute(statement).rowcount

    def _rows(self, statement: sa.Executable) -> list[Job]:
        with self._engine.connect() as connection:
            return [Job(**row) for row in connection.execute(statement).mappings()]


def _ours(job: Job) -> sa.ColumnElement[bool]:
    return sa.and_(_JOBS.c.id == job.id, _JOBS.c.attempt == job.attempt, _JOBS.c.status.in_(UNFINISHED))


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """WAL: readers and the writer do not block each other. A writer that must wait does so for up to 30 seconds."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()
