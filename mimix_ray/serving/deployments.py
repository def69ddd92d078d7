"""The Ray Serve application: an ingress that takes requests and hands out jobs, and replicas that make the videos.

serve run serve/miniature.yaml
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from ray.serve.schema import ServeDeploySchema

from mimix_ray import config, synthesis
from mimix_ray.backbone import Cancelled
from mimix_ray.config import ConfigError, RunConfig
from mimix_ray.run import Run
from mimix_ray.serving.api import accepted_keys, create_app
from mimix_ray.serving.dispatcher import Dispatcher, Done, Event, Failed, Step
from mimix_ray.serving.store import Job, JobStore, database_url
from mimix_ray.stage import StageError, connect

log = logging.getLogger(__name__)


class VideosArgs(BaseModel):
    """`args` of the application in a Serve config file."""

    model_config = ConfigDict(extra="forbid")
    config: str = Field(description="Run config, a YAML file")
    arguments: list[str] = Field([], description="Options over the run config, as on a job's command line")
    folder: str = Field(".", description="What relative paths, here and in the run config, are relative to")
    num_gpus: float = Field(0, ge=0, description="GPUs a generator replica")
    num_cpus: float = Field(1, ge=0, description="CPU cores a generator replica")
    min_replicas: int = Field(1, ge=0, description="Generator replicas kept without work; 0 lets the last one go")
    max_replicas: int = Field(1, ge=1, description="Most generator replicas; as many jobs are handed out at once")
    downscale_delay_s: float = Field(600, ge=0, description="Idle seconds before a replica goes")
    longest_job_s: float = Field(3600, gt=0, description="A replica that shall go may work so long on its last job")


def videos(args: dict[str, Any]) -> serve.Application:
    """Builds the application for `import_path: mimix_ray.serving.deployments:videos`; args: see VideosArgs."""
    try:
        wanted = VideosArgs.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"videos: args.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    folder = Path(wanted.folder).absolute()
    run = Run.open(anchored(config.load(folder / wanted.config, wanted.arguments), folder))
    database_url(run)
    adapter = synthesis.find_adapter(run, run.config.serving.adapter)
    generator = serve.deployment(
        # A replica makes one video at a time; the queue stands in the job store, and what waits at the handle is no
        # more than there may be replicas: each of those is a reason for one more.
        max_ongoing_requests=1,
        autoscaling_config={
            "min_replicas": wanted.min_replicas,
            "max_replicas": wanted.max_replicas,
            "target_ongoing_requests": 1,
            "downscale_delay_s": wanted.downscale_delay_s,
        },
        ray_actor_options={"num_cpus": wanted.num_cpus, "num_gpus": wanted.num_gpus},
        # Serve's own default of 20 seconds would kill most jobs.
        graceful_shutdown_timeout_s=wanted.longest_job_s,
        health_check_timeout_s=60,
    )(Generator).bind(run, adapter)
    # Answers are short and mostly polls: many at once. The ingress holds no core, it waits for the database.
    ingress = serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})(serve.ingress()(Ingress))
    return ingress.bind(run, generator, wanted.max_replicas)


def anchored(config: RunConfig, folder: Path) -> RunConfig:
    """The config with absolute paths: replicas have a working folder of their own.

    A base model's path is only taken as one if it is there: hub ids look like relative paths.
    """

    def absolute(address: str) -> str:
        return address if "://" in address else str(folder / address)

    base = config.backbone.path
    generation = {"prompts": absolute(config.generation.prompts)}
    if config.generation.adapter:
        generation["adapter"] = absolute(config.generation.adapter)
    serving = {"adapter": absolute(config.serving.adapter)} if config.serving.adapter else {}
    return config.model_copy(
        update={
            "root": absolute(config.root),
            "universe": absolute(config.universe),
            "backbone": config.backbone.model_copy(
                update={"path": absolute(base) if (folder / base).exists() else base}
            ),
            "generation": config.generation.model_copy(update=generation),
            "serving": config.serving.model_copy(update=serving),
        }
    )


class Generator:
    """One copy of the pipeline on one device."""

    def __init__(self, run: Run, adapter: synthesis.Adapter | None) -> None:
        self.run, self.adapter = run, adapter
        self.store = JobStore(database_url(run))
        self.generator = synthesis.open_generator(run, adapter)
        # A stopped job may be about to end its step when the next one arrives.
        self.pipeline = threading.Lock()
        self.broken: str | None = None
        defaults = run.config.generation
        # One step at the usual size, so that the first job does not pay for what is set up at first use.
        self.generator.generate(
            "warm-up",
            frames=defaults.frames,
            width=defaults.width,
            height=defaults.height,
            steps=1,
            guidance=defaults.guidance,
            seed=0,
        )

    async def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        """Makes the job's video, telling each step; closing or cancelling this stops the pipeline within one step."""
        loop, events, stop = asyncio.get_running_loop(), asyncio.Queue[Event](), threading.Event()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        threading.Thread(target=self._make, args=(job, tell, stop), name=job.id, daemon=True).start()
        try:
            while True:
                event = await events.get()
                yield event
                if not isinstance(event, Step):
                    return
        finally:
            stop.set()

    def _make(self, job: Job, tell: Callable[[Event], None], stop: threading.Event) -> None:
        def on_step(number: int, total: int) -> None:
            # Serve does not tell that the caller died. Whoever takes its job back waits for this replica: make way.
            if stop.is_set() or not self._holds(job):
                raise Cancelled(f"{job.id} was stopped at step {number}")
            tell(Step(number, total))

        # The attempt is part of the name: a zombie cannot write over the result of whoever took its job.
        name = f"serving/videos/{job.id}-{job.attempt}.mp4"
        with self.pipeline:
            try:
                on_step(0, job.steps)
                synthesis.make_video(self.generator, job.parameters, self.run.storage, name, self.adapter, on_step)
                if stop.is_set() or not self._holds(job):
                    self.run.storage.delete(name)
                    raise Cancelled(f"{job.id} was stopped after its last step")
                tell(Done(name, self.adapter.digest if self.adapter else None))
            except Cancelled as stopped:
                log.info("%s", stopped)
                tell(Failed("stopped", str(stopped)))
            except Exception as error:
                log.exception("job %s", job.id)
                if "CUDA error" in str(error):
                    self.broken = str(error)
                tell(Failed(*synthesis.explain(error)))

    def _holds(self, job: Job) -> bool:
        try:
            return self.store.holds(job)
        except Exception:  # a database that is away is no reason to stop: in the end it decides by attempt
            log.exception("job %s: the job store does not answer", job.id)
            return True

    def check_health(self) -> None:
        """Raises when the device is lost, so that Serve replaces the replica. Long work is not ill health."""
        import torch

        if self.broken:
            raise RuntimeError(self.broken)
        if torch.cuda.is_available():
            torch.cuda.mem_get_info()


class Ingress:
    """The API and its dispatcher. Several may run: each job is handed out once, by whoever claims it."""

    def __init__(self, run: Run, generator: DeploymentHandle, concurrency: int) -> None:
        store = JobStore(database_url(run))
        stream = generator.options(stream=True).generate

        async def generate(job: Job) -> AsyncGenerator[Event, None]:
            response: DeploymentResponseGenerator[Event] = stream.remote(job)  # type: ignore[assignment]
            try:
                async for event in response:
                    yield event
            except (GeneratorExit, asyncio.CancelledError):
                response.cancel()
                raise

        self.app_parts = (run, store, Dispatcher(store, run.storage, generate, concurrency))

    def __serve_build_asgi_app__(self) -> FastAPI:
        run, store, dispatcher = self.app_parts
        return create_app(run, store, dispatcher, accepted_keys(run.config.serving.api_keys_env))


def start(
    config_file: str | Path,
    only: Sequence[str] = (),
    arguments: Sequence[str] = (),
    http_port: int = 0,
    timeout_s: float = 600,
) -> str:
    """Deploys applications of a Serve config file from this process and waits until they are ready.

    Relative paths are relative to the working folder. Applications that run already stay. What a file says beside
    names, import paths, routes and args is for `serve run` and `serve deploy`.

    Args:
        config_file: E.g. serve/miniature.yaml.
        only: Names of the applications to deploy; default all.
        arguments: More options over the run config of `videos`, as on a job's command line.
        http_port: Port on 127.0.0.1; 0 takes a free one. A Serve that runs already keeps the port that it has.
        timeout_s: Longest wait, seconds.

    Returns:
        The address, such as http://127.0.0.1:8000.

    Raises:
        ConfigError: For a file that cannot be read, or args or a run config that cannot be used.
        StorageError, UniverseError: For a run that cannot be opened, or whose adapter is missing.
        StageError: For an application that does not start; tells why.
    """
    try:
        schema = ServeDeploySchema.model_validate(yaml.safe_load(Path(config_file).read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{config_file}: no Serve config ({' '.join(str(error).split())[:300]})") from None
    chosen = [one for one in schema.applications if not only or one.name in only]
    targets = []
    for application in chosen:
        module, _, name = application.import_path.partition(":")
        args = dict(application.args)
        if name == videos.__name__:
            args["arguments"] = [*args.get("arguments", []), *arguments]
        built = getattr(importlib.import_module(module), name)(args)
        targets.append(serve.RunTarget(built, application.name, application.route_prefix))
    connect()
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # what goes wrong is told by `_wait`
    client = _get_global_client(raise_if_no_controller_running=False)
    if client is None:
        serve.start(http_options={"host": "127.0.0.1", "port": http_port or _free_port()})
        client = _get_global_client()
        assert client is not None, "Serve was just started"
    serve.run_many(targets, wait_for_applications_running=False)
    _wait({application.name for application in chosen}, timeout_s)
    return f"http://127.0.0.1:{client.http_config.port}"


def _wait(names: set[str], timeout_s: float) -> None:
    """Until all applications run; raises StageError as soon as one has failed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = {name: one for name, one in serve.status().applications.items() if name in names}
        for name, one in found.items():
            if one.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                # A deployment's message ends with the error itself, after Ray's advice and the stack.
                said = [deployment.message.strip() for deployment in one.deployments.values() if deployment.message]
                why = "; ".join(text.splitlines()[-1] for text in said) or one.message
                raise StageError(f"the application {name!r} does not start: {why}")
        if len(found) == len(names) and all(one.status == "RUNNING" for one in found.values()):
            return
        time.sleep(0.2)
    raise StageError(f"not ready after {timeout_s:.0f} s: {', '.join(sorted(names))}; see the logs of Ray Serve")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
