"""What is found out before any work starts: the key and the endpoint."""

import socket
import time

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from mimix_ray.config import VlmConfig
from mimix_ray.vlm import VlmError, api_key, check_endpoint, client
from tests.vlm.hostile import serve


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("TEST_VLM_KEY", raising=False)


def test_the_key_comes_from_the_variable_that_the_config_names(monkeypatch):
    monkeypatch.setenv("TEST_VLM_KEY", " sk-one \n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    key = api_key(VlmConfig(api_key_env="TEST_VLM_KEY"))
    assert key.get_secret_value() == "sk-one"
    assert "sk-one" not in repr(key)


def test_without_a_key_a_far_endpoint_is_refused_in_one_line():
    with pytest.raises(
        VlmError, match=r"^TEST_VLM_KEY is not set: export it with the key for https://api.openai.com/v1"
    ):
        api_key(VlmConfig(api_key_env="TEST_VLM_KEY"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_local_endpoint_needs_no_key(host):
    assert api_key(VlmConfig(base_url=f"http://{host}:8000/v1", api_key_env="TEST_VLM_KEY"))


def check(base_url):
    check_endpoint(VlmConfig(base_url=base_url, api_key_env="TEST_VLM_KEY"))


@pytest.mark.parametrize("status", [200, 404, 429])
def test_an_endpoint_that_answers_is_fine(server, status):
    server.models_status = status
    check(server.base_url)


@pytest.mark.parametrize(("status", "says"), [(401, "refuses the key in TEST_VLM_KEY"), (500, "status 500")])
def test_an_endpoint_that_refuses_is_told(server, status, says):
    server.models_status = status
    with pytest.raises(VlmError, match=says) as caught:
        check(server.base_url)
    assert server.base_url in str(caught.value) and "\n" not in str(caught.value)


def test_an_address_without_the_chat_route_is_told(server):
    with pytest.raises(VlmError, match=r"has no /chat/completions; correct vlm\.base_url"):
        check(server.base_url.removesuffix("/v1"))


def test_an_address_of_something_else_is_told():
    app = FastAPI()
    app.get("/v1/models")(lambda: HTMLResponse("<html>Hello</html>"))
    with serve(app) as base_url, pytest.raises(VlmError, match="does not speak the OpenAI protocol"):
        check(base_url)


def test_an_endpoint_that_is_away_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(VlmError, match=r"cannot be reached \(.*refused.*\); start the server or correct vlm.base_url"):
        check(f"http://127.0.0.1:{port}/v1")
    assert time.monotonic() - began < 3


def test_an_endpoint_that_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(client, "CHECK_TIMEOUT_S", 0.2)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        with pytest.raises(VlmError, match="no answer in time"):
            check(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1")
