"""What all stages share at their Ray edge: joining a cluster, progress, and the body of every job script."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.data import DataContext
from tqdm import tqdm

from mimix_ray.config import ConfigError, RunConfig, from_command_line
from mimix_ray.prompts import PromptError
from mimix_ray.run import Run, StageReport
from mimix_ray.storage import StorageError
from mimix_ray.tables import TableError
from mimix_ray.universe import UniverseError

T = TypeVar("T")


class StageError(RuntimeError):
    """A stage that cannot begin or go on; the message is one clear line (what, where, what to do)."""


EXPECTED = (ConfigError, UniverseError, PromptError, StorageError, TableError, StageError)
"""What a person can mend: job scripts tell it on one line. Anything else is a bug and shows its traceback."""


def connect() -> None:
    """Joins the cluster named by RAY_ADDRESS (as under `ray job submit`), or starts a local one."""
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS")
        # A Ray of our own listens on loopback only.
        here: dict[str, Any] = {} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING, **here)
        except Exception as error:  # Ray raises plain exceptions here
            what = f"the cluster at {address} cannot be joined" if address else "Ray does not start on this machine"
            raise StageError(
                f"{what}: {' '.join(str(error).split())[:300]}; look at its load, and run again"
            ) from error
    context = DataContext.get_current()
    # Our own bar counts rows of the stage; Ray's bars count blocks.
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def progress(
    items: Iterable[T], stage: str, total: int, unit: str, done: int = 0, note: Callable[[], str] = lambda: ""
) -> Iterator[T]:
    """Passes items on with a progress bar on stderr.

    Args:
        done: Rows that an earlier run had finished.
        note: What to say beside the bar, asked after each item has been used.
    """
    with tqdm(desc=f"{stage:<11}", total=total + done, initial=done, unit=f" {unit}", smoothing=0.1) as bar:
        for item in items:
            yield item
            bar.set_postfix_str(note(), refresh=False)
            bar.update()


def open_run(config: RunConfig) -> Run:
    """Opens the run; refuses a relative root inside a submitted job, whose working folder is thrown away."""
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted and "://" not in config.root and not os.path.isabs(config.root):
        raise StageError(
            f"root {config.root!r} is relative, and a submitted job's folder goes away with the job; "
            "give --root an absolute path on shared storage or s3://bucket/prefix"
        )
    return Run.open(config)


def main(run: Callable[[Run], object], arguments: Sequence[str] | None = None) -> None:
    """The body of a job script: read the config, join Ray, run the stage or pipeline; errors are one line.

    What it prints at the end is the stage's report, or what `run` gives back as text.
    """
    try:
        opened = open_run(from_command_line(arguments))
        connect()
        result = run(opened)
    except EXPECTED as error:
        sys.exit(f"error: {error}")
    if isinstance(result, StageReport | str):
        print(result)
