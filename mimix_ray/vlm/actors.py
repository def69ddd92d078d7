"""The named actor that holds an endpoint's limits for a whole cluster."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import ray

from mimix_ray.config import VlmConfig
from mimix_ray.vlm.limits import Admission, Limits, check_limits


class SharedLimits:
    """A `Gate` for every process of the cluster. Plain data: it travels to actors."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def admit(self, tokens: int, usd: float, seconds: float) -> Admission:
        """See `Gate`."""
        admission: Admission = await self._actor.admit.remote(tokens, usd, seconds)
        return admission

    async def settle(self, ticket: int, tokens: int, usd: float) -> None:
        """See `Gate`."""
        await self._actor.settle.remote(ticket, tokens, usd)

    async def pause(self, seconds: float) -> None:
        """See `Gate`."""
        await self._actor.pause.remote(seconds)


def shared_limits(config: VlmConfig) -> SharedLimits:
    """The limits of an endpoint, one actor for all stages of a job that ask it with the same limits.

    Call it in the driver, with which the actor ends. An actor that dies with its node begins anew, with nothing spent.

    Raises:
        VlmError: Money is limited, but the model's price is not known.
    """
    check_limits(config)
    limits = config.requests_per_minute, config.tokens_per_minute, config.max_usd
    return SharedLimits(_actor(ray.get_runtime_context().get_node_id(), config.base_url, config.model, limits))


@lru_cache(maxsize=64)
def _actor(cluster: str, *what: Any) -> Any:
    """Kept here as long as the driver lives: an actor ends with the handle that made it."""
    name = hashlib.sha256(repr(what).encode()).hexdigest()[:12]
    options = {"name": f"vlm-limits-{name}", "num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(Limits).options(**options).remote(*what[-1])
