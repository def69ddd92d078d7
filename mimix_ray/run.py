"""A run: its config, its universe and its storage in one value; and the report that each stage leaves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mimix_ray.config import RunConfig
from mimix_ray.storage import Storage
from mimix_ray.universe import Universe, load_universe


@dataclass(frozen=True)
class Run:
    """What a stage gets. Plain data: it travels to Ray workers as it is."""

    config: RunConfig
    universe: Universe
    storage: Storage

    @classmethod
    def open(cls, config: RunConfig) -> Run:
        """Reads the universe and opens the root; raises UniverseError or StorageError with one clear line."""
        return cls(config, load_universe(config.universe), Storage.open(config.root, config.storage))


@dataclass
class StageReport:
    """What one run of a stage did; written to `<root>/reports/<stage>.json`."""

    stage: str
    rows_in: int = 0
    rows_out: int = 0
    reused: int = 0
    """Rows of `rows_out` that an earlier run had finished already."""
    ok: int = 0
    failed: int = 0
    skipped: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    """Failed and skipped rows by error code."""
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    """What only this stage can tell: rates, retries, tokens, cost, losses."""
    started: float = field(default_factory=time.time, repr=False)
    """Unix time at which the stage began."""

    def close(self, storage: Storage, rows: Iterable[Mapping[str, Any]], reused: int = 0) -> StageReport:
        """Counts the stage's rows, takes the time and writes the report."""
        rows = list(rows)
        statuses = Counter(row["status"] for row in rows)
        self.rows_out, self.reused = len(rows), reused
        self.ok, self.failed, self.skipped = statuses["ok"], statuses["failed"], statuses["skipped"]
        self.errors = dict(Counter(row["error"].split(":")[0] for row in rows if row["error"]))
        self.seconds = round(time.time() - self.started, 2)
        storage.write_json(f"reports/{self.stage}.json", asdict(self))
        return self

    def __str__(self) -> str:
        parts = [f"{self.stage}: {self.rows_in} in, {self.rows_out} out", f"{self.ok} ok"]
        parts += [f"{count} {word}" for word, count in (("failed", self.failed), ("skipped", self.skipped)) if count]
        parts += [f"{self.reused} from before"] if self.reused else []
        parts += [f"{code} x{count}" for code, count in self.errors.items()]
        return ", ".join(parts) + f", {self.seconds:.1f} s"
