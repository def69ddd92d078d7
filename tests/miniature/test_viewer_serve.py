"""The viewer as a Ray Serve application: client -> HTTP -> Serve, as captioning asks it."""

from __future__ import annotations

import base64
import json
from typing import Any

import cv2
import httpx
import openai
import pytest

from mimix_ray.config import ConfigError
from mimix_ray.miniature.deployments import viewer
from tests.miniature.viewings import actor, clip


def test_arguments_it_does_not_know_are_refused() -> None:
    with pytest.raises(ConfigError, match="known: num_cpus, max_replicas"):
        viewer({"cpus": 1})


def test_a_caption_through_serve(ray_cluster: str) -> None:
    from mimix_ray.serving.deployments import start

    base_url = start("serve/miniature.yaml", only=["viewer"]) + "/viewer/v1"
    client = openai.OpenAI(base_url=base_url, api_key="any")
    content: list[Any] = []
    for frame in clip("mr_plum", "street", actor("Mr. Plum", "waves", 0.4, size=0.75)):
        _, data = cv2.imencode(".jpg", frame[..., ::-1])
        url = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    schema: Any = {"type": "json_schema", "json_schema": {"name": "caption", "strict": True, "schema": {}}}
    before = httpx.get(f"{base_url}/stats").json()["calls"].get("caption", 0)
    answer = client.chat.completions.create(
        model="viewer", messages=[{"role": "user", "content": content}], response_format=schema
    )
    said = json.loads(answer.choices[0].message.content or "")
    assert said["characters"] == [{"name": "Mr. Plum", "action": "waves a hand"}]
    assert httpx.get(f"{base_url}/stats").json()["calls"]["caption"] == before + 1
    assert [model.id for model in client.models.list()] == ["viewer"]
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Who?"}])
    assert refused.value.code == "model_not_found"
