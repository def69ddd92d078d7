"""The viewer's HTTP contract, through a real server and the stock OpenAI client."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import httpx
import numpy as np
import openai
import pytest
import uvicorn

from mimix_ray.miniature.viewer.app import create_app

NAMES = ["Pip", "Momo", "Mr. Plum", "Nan Fern"]


def schema(name: str, **properties: Any) -> dict[str, Any]:
    """A strict `response_format` as the pipeline sends it."""
    body = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": body}}


CAPTION = schema(
    "caption",
    characters={"type": "array", "items": {"type": "object", "properties": {"name": {"enum": NAMES}}}},
)


def picture(encoding: str = ".jpg") -> dict[str, Any]:
    """A grey picture as a message part."""
    _, data = cv2.imencode(encoding, np.full((112, 192, 3), 128, np.uint8))
    url = f"data:image/{encoding[1:]};base64,{base64.b64encode(data.tobytes()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def message(*parts: dict[str, Any] | str) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [{"role": "user", "content": content}]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="any", max_retries=0)


def ask(client: openai.OpenAI, messages: Any, **given: Any) -> Any:
    return client.chat.completions.create(**({"model": "viewer", "messages": messages} | given))


def test_a_caption_comes_back_as_json_with_usage(client: openai.OpenAI) -> None:
    answer = ask(client, message("What happens?", *[picture()] * 3), response_format=CAPTION)
    content = json.loads(answer.choices[0].message.content)
    assert list(content) == ["reasoning", "characters", "setting", "scene_style", "confidence"]
    assert content["characters"] == []
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "viewer"
    assert answer.usage.prompt_tokens == 3 * 255 + 4
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("encoding", [".jpg", ".png", ".webp"])
def test_plain_chat_describes_in_one_sentence(client: openai.OpenAI, encoding: str) -> None:
    answer = ask(client, message(picture(encoding)))
    assert answer.choices[0].message.content.endswith(".")


def test_a_short_limit_cuts_the_answer_and_says_so(client: openai.OpenAI) -> None:
    answer = ask(client, message("What happens?", picture()), response_format=CAPTION, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["viewer"]
    assert client.models.retrieve("viewer").id == "viewer"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


@pytest.mark.parametrize(
    ("messages", "given", "code"),
    [
        pytest.param(message("Who?"), {}, "missing_image", id="no image"),
        pytest.param(message(picture()), {"response_format": schema("translate")}, "invalid_question", id="schema"),
        pytest.param(
            message(picture()), {"response_format": {"type": "json_object"}}, "invalid_value", id="json_object"
        ),
        pytest.param(message(picture()), {"stream": True}, "unsupported_value", id="stream"),
        pytest.param([], {}, "invalid_value", id="no message"),
        pytest.param(
            message({"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}),
            {},
            "invalid_image_url",
            id="remote image",
        ),
        pytest.param(
            message({"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,!!!!"}}),
            {},
            "invalid_image",
            id="not base64",
        ),
        pytest.param(
            message({"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,aGVsbG8="}}),
            {},
            "invalid_image",
            id="not a picture",
        ),
        pytest.param(message(*[picture()] * 65), {}, "too_many_images", id="too many"),
    ],
)
def test_what_it_cannot_answer_is_a_400_with_a_code(
    client: openai.OpenAI, messages: Any, given: Any, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages, **given)
    assert refused.value.code == code
    assert refused.value.type == "invalid_request_error"


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        ask(client, message(picture()), model="gpt-4o")
    assert refused.value.code == "model_not_found"


def test_routes_and_bodies_that_are_not_ours_get_the_envelope_too(base_url: str) -> None:
    for answer, status in [
        (httpx.get(f"{base_url}/embeddings"), 404),
        (httpx.get(f"{base_url}/chat/completions"), 405),
        (httpx.post(f"{base_url}/chat/completions", content=b"{"), 400),
    ]:
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_no_key_is_needed(base_url: str) -> None:
    assert httpx.get(f"{base_url}/models").status_code == 200


def test_calls_are_counted_by_question(client: openai.OpenAI, base_url: str) -> None:
    before = httpx.get(f"{base_url}/stats").json()["calls"]
    ask(client, message(picture()), response_format=CAPTION)
    ask(client, message(picture()), response_format=CAPTION)
    ask(client, message(picture()))
    after = httpx.get(f"{base_url}/stats").json()["calls"]
    assert after["caption"] - before.get("caption", 0) == 2
    assert after["chat"] - before.get("chat", 0) == 1
