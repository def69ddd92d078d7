"""The Serve application: its files, and the whole of it on a local Ray with the tiny Wan."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
import yaml
from openai import OpenAI

from mimix_ray import config, video
from mimix_ray.config import ConfigError, RunConfig
from mimix_ray.miniature import base
from mimix_ray.serving.deployments import Generator, VideosArgs, anchored, start, videos
from mimix_ray.serving.dispatcher import Event, Failed
from mimix_ray.serving.requests import settle
from mimix_ray.storage import StorageError
from tests.conftest import REPO

SERVE_FILES = [file for file in sorted((REPO / "serve").glob("*.yaml")) if file.stem != "captioner"]


@pytest.mark.parametrize("file", SERVE_FILES, ids=lambda file: file.stem)
def test_serve_files_pass_serves_schema_and_our_own(file: Path):
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(yaml.safe_load(file.read_text()))
    assert schema.http_options.host == "127.0.0.1"
    [application] = [one for one in schema.applications if one.name == "videos"]
    assert (application.import_path, application.route_prefix) == ("mimix_ray.serving.deployments:videos", "/")
    args = VideosArgs.model_validate(application.args)
    assert isinstance(config.load(REPO / args.config, args.arguments), RunConfig)


def test_there_is_a_file_a_size():
    assert [file.stem for file in SERVE_FILES] == ["a100", "miniature"]


def test_paths_are_made_absolute_and_hub_ids_left_alone(tmp_path: Path):
    (tmp_path / "base").mkdir()
    given = config.load(None, ["--root", "runs/x", "--backbone.path", "base", "--serving.adapter", "a/b.safetensors"])
    made = anchored(given, tmp_path)
    assert made.root == f"{tmp_path}/runs/x"
    assert made.universe == f"{tmp_path}/configs/universes/mimix.yaml"
    assert made.backbone.path == f"{tmp_path}/base"
    assert made.serving.adapter == f"{tmp_path}/a/b.safetensors"
    on_s3 = config.load(None, ["--root", "s3://bucket/run", "--backbone.path", "Wan-AI/Wan2.1"])
    assert anchored(on_s3, tmp_path).root == "s3://bucket/run"
    assert anchored(on_s3, tmp_path).backbone.path == "Wan-AI/Wan2.1"
    assert anchored(anchored(given, tmp_path), Path("/elsewhere")) == made


@pytest.mark.parametrize(
    ("args", "error", "says"),
    [
        ({}, ConfigError, "config"),
        ({"config": "configs/miniature.yaml", "replicas": 2}, ConfigError, "replicas"),
        ({"config": "configs/none.yaml"}, ConfigError, "cannot be read"),
        ({"config": "configs/miniature.yaml", "arguments": ["--rot", "x"]}, ConfigError, "root"),
        ({"config": "configs/miniature.yaml", "arguments": ["--root", "{}"]}, StorageError, "no adapter there; train"),
    ],
)
def test_an_application_that_cannot_work_is_refused_before_it_starts(args, error, says, tmp_path: Path):
    given = {**args, "folder": str(REPO)}
    if "arguments" in args:
        given["arguments"] = [text.format(tmp_path) for text in args["arguments"]]
    with pytest.raises(error, match=says):
        videos(given)


def test_a_replica_makes_way_for_whoever_took_its_job_back(run_factory, tmp_path: Path):
    base.build(tmp_path / "base")
    small = ["--generation.width", 32, "--generation.height", 32, "--generation.frames", 5]
    run = run_factory("--backbone.path", tmp_path / "base", "--generation.use_adapter", "false", *small)
    replica = Generator(run, None)
    body = {"prompt": "A park.", "steps": 40}
    replica.store.add(settle(body, run).parameters, "m", 9)
    zombie = replica.store.claim(lease_s=0)

    async def follow() -> list[Event]:
        events = []
        async for event in replica.generate(zombie):
            events.append(event)
            if len(events) == 3:
                assert replica.store.claim(lease_s=60).attempt == zombie.attempt + 1
        return events

    events = asyncio.run(follow())
    assert isinstance(events[-1], Failed) and events[-1].code == "stopped"
    assert len(events) < 40
    assert run.storage.list("serving/videos") == []
    replica.check_health()


@pytest.fixture(scope="module")
def address(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The application of serve/miniature.yaml on the tiny Wan, without an adapter."""
    from ray import serve

    root = tmp_path_factory.mktemp("serving")
    base.build(root / "base")
    arguments = ["--root", str(root), "--backbone.path", str(root / "base"), "--generation.use_adapter", "false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPO)
        yield start("serve/miniature.yaml", ["videos"], arguments)
    serve.delete("videos")


@pytest.fixture
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="unused")


def test_a_request_becomes_a_video(client: OpenAI, tmp_path: Path):
    cast = [{"character": "pip", "action": "hops"}, {"character": "Mr. Plum", "action": "tips his hat"}]
    asked = {"cast": cast, "scene_style": "cartoon", "num_frames": 9, "steps": 3, "seed": 5}
    made = [
        client.videos.create_and_poll(prompt="", size="64x48", extra_body=asked, poll_interval_ms=200) for _ in range(2)
    ]
    assert [(one.status, one.error) for one in made] == [("completed", None)] * 2
    assert made[0].prompt == "[Character: Pip], hops. [Character: Mr. Plum], tips his hat. [scene-style:cartoon]"
    contents = [client.videos.download_content(one.id).read() for one in made]
    path = tmp_path / "video.mp4"
    path.write_bytes(contents[0])
    probe = video.probe(path)
    assert (video.count_frames(path), probe.fps, probe.width, probe.height) == (9, 16, 64, 48)
    assert contents[0] == contents[1], "the same seed gives the same video"


def test_a_running_job_tells_its_steps_and_stops_when_it_is_deleted(client: OpenAI):
    job = client.videos.create(prompt="[Character: Momo], sneaks.", extra_body={"steps": 50})
    seen = set()
    deadline = time.monotonic() + 60
    while len(seen) < 3:
        assert time.monotonic() < deadline
        seen.add(client.videos.retrieve(job.id).progress)
        time.sleep(0.05)
    client.videos.delete(job.id)
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(job.id)
    began = time.monotonic()
    after = client.videos.create_and_poll(
        prompt="Next.", size="32x32", extra_body={"num_frames": 5, "steps": 1}, poll_interval_ms=200
    )
    assert after.status == "completed"
    assert time.monotonic() - began < 15, "the replica did not wait for the end of what was deleted"


def test_the_page_and_the_errors_come_through_serve(address: str):
    assert "Who meets whom?" in httpx.get(f"{address}/").text
    refused = httpx.post(f"{address}/v1/videos", json={"prompt": "[Character: Tom], runs."})
    assert refused.status_code == 400 and "Nan Fern" in refused.json()["error"]["message"]
