"""The viewer as a Ray Serve application."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application

from mimix_ray.config import ConfigError
from mimix_ray.miniature.viewer.app import create_app


def viewer(args: dict[str, Any]) -> Application:
    """Builds the application for `import_path: mimix_ray.miniature.deployments:viewer`.

    Args:
        args: `num_cpus`: logical CPUs a replica holds (default 0, so that it never starves a stage on a small machine);
            `max_replicas`: most replicas (default 1, so that `/v1/stats` counts every call).

    Raises:
        ConfigError: An argument that it does not know.
    """
    options = {"num_cpus": 0, "max_replicas": 1}
    if unknown := set(args) - set(options):
        raise ConfigError(f"viewer: unknown args {sorted(unknown)}; known: {', '.join(options)}")
    options |= args
    deployment = serve.deployment(
        name="viewer",
        ray_actor_options={"num_cpus": options["num_cpus"]},
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": options["max_replicas"],
            # A question takes tens of milliseconds of one core: this many waiting is half a second of work.
            "target_ongoing_requests": 8,
        },
        # The client holds its own limit (captions.vlm.concurrency); this one only bounds memory, about 1 MB a request.
        max_ongoing_requests=64,
    )(serve.ingress(create_app)())
    return deployment.bind()
