"""`transformers serve`, a real engine, with a tiny LLaVA of random weights: proves the wire, not captions."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from mimix_ray.config import VlmConfig
from mimix_ray.vlm import Vlm, api_key, check_endpoint
from tests.vlm.conftest import question
from tests.vlm.tiny_llava import build_random

START_S = 240


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """Base URL and model name of a running server."""
    folder = tmp_path_factory.mktemp("engine")
    model = build_random(folder / "llava", ends=20)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # It lists the models of the hub's cache, and fails where there is no such folder.
    (folder / "hub").mkdir()
    env = {**os.environ, "HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [Path(sys.executable).parent / "transformers", "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    try:
        end = time.monotonic() + START_S
        while True:
            assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-2000:]
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_random_weights_behind_transformers_serve_are_asked_and_counted(engine, storage):
    base_url, model = engine
    config = VlmConfig(base_url=base_url, model=model, api_key_env="NO_SUCH_KEY", max_tokens=8)
    check_endpoint(config)
    vlm = Vlm(config, storage, api_key(config))
    try:
        outcomes = vlm.ask_all([question(number) for number in range(4)])
    finally:
        vlm.close()
    assert {one.kind for one in outcomes} <= {"unparseable", "truncated"}, outcomes
    for one in outcomes:
        # The prompt's bytes and the frames' tokens were all seen by the model.
        assert one.tokens_in > len(question(0).text) and 1 <= one.tokens_out <= 16


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_model_that_transformers_serve_does_not_have_is_told(engine, storage):
    config = VlmConfig(base_url=engine[0], model="another", api_key_env="NO_SUCH_KEY")
    vlm = Vlm(config, storage, api_key(config))
    try:
        outcome = vlm.ask(question(0))
    finally:
        vlm.close()
    assert outcome.kind == "endpoint_error" and "status 400" in outcome.error and outcome.calls == 1
