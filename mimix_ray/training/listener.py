"""What a worker tells while it trains, and hears."""

from __future__ import annotations

from typing import Any


class Listener:
    """What a worker tells while it trains, and hears. This one is silent."""

    def beat(self) -> None:
        """The worker is alive: a step begins, or something else that takes long."""

    def tell(self, record: dict[str, Any]) -> None:
        """The record of one step; first come those of an earlier start."""

    def say(self, line: str) -> None:
        """One line for the person who waits."""

    def preempted(self) -> bool:
        """Whether a node is about to go, so that a checkpoint is wanted now; every worker gets the same answer."""
        return False
