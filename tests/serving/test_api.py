"""The API on a real HTTP server, spoken to by the stock openai client; behind it a generator in name only."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest
from openai import OpenAI

from mimix_ray.config import ConfigError
from mimix_ray.run import Run
from mimix_ray.serving.api import MAX_BODY, accepted_keys
from tests.serving.servers import FakeGenerate, endpoint

PROMPT = "[Character: Pip], hops. [Character: Mr. Plum], waddles. [scene-style:cartoon]"


@pytest.fixture
def run(run_factory: Callable[..., Run]) -> Run:
    return run_factory("--serving.max_queued", 3)


@pytest.fixture
def generate(run: Run) -> FakeGenerate:
    return FakeGenerate(run)


@pytest.fixture
def address(run: Run, generate: FakeGenerate) -> Iterator[str]:
    with endpoint(run, generate) as address:
        yield address
        generate.go.set()


@pytest.fixture
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0)


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address) as http:
        yield http


def wait_for(client: OpenAI, video_id: str, status: str) -> openai.types.Video:
    deadline = time.monotonic() + 10
    while (video := client.videos.retrieve(video_id)).status != status:
        assert time.monotonic() < deadline, video
        time.sleep(0.02)
    return video


def test_create_poll_and_download_by_the_stock_client(client: OpenAI):
    video = client.videos.create_and_poll(prompt=PROMPT, size="192x112", seconds="5")
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert (video.object, video.model, video.prompt, video.size) == ("video", "miniature", PROMPT, "192x112")
    assert video.id.startswith("video_") and float(video.seconds) == pytest.approx(81 / 16)
    assert video.created_at <= video.completed_at <= time.time()
    assert client.videos.download_content(video.id).read() == PROMPT.encode() * 100


def test_our_fields_travel_in_the_stock_clients_form(client: OpenAI, generate: FakeGenerate):
    cast = [{"character": "pip", "action": "hops"}, {"character": "nan", "action": "waves"}]
    body = {"seed": 7, "num_frames": 10, "steps": 2, "guidance_scale": 1.5, "cast": cast, "scene_style": "realistic"}
    video = client.videos.create(prompt="", extra_body={**body, "negative_prompt": "fog", "fps": 99})
    extra = video.model_extra
    assert video.prompt == "[Character: Pip], hops. [Character: Nan Fern], waves. [scene-style:realistic]"
    assert (extra["seed"], extra["num_frames"], extra["steps"], extra["guidance"]) == (7, 9, 2, 1.5)
    assert (extra["negative_prompt"], extra["fps"], extra["ignored"]) == ("fog", 16, ["fps"])
    wait_for(client, video.id, "completed")
    assert generate.begun[0].parameters.seed == 7


def test_a_file_may_come_along_but_goes_nowhere(client: OpenAI, run: Run):
    evil = ("../../../etc/cron.d/evil", io.BytesIO(b"\x89PNG" + bytes(50_000)), "image/png")
    video = client.videos.create(prompt=PROMPT, input_reference=evil)
    assert video.model_extra["ignored"] == ["input_reference"]
    wait_for(client, video.id, "completed")
    files = run.storage.list("")
    assert [name for name in files if "jobs.sqlite" not in name] == [f"serving/videos/{video.id}-1.mp4"]


def test_json_works_as_well(http: httpx.Client):
    made = http.post("/v1/videos", json={"prompt": PROMPT, "seed": 1}).raise_for_status()
    assert int(made.headers["openai-poll-after-ms"]) > 0
    asked = http.get(f"/v1/videos/{made.json()['id']}")
    assert int(asked.headers["openai-poll-after-ms"]) > 0


def test_listing_pages_as_the_stock_client_does(client: OpenAI):
    made = []
    for number in range(5):
        made.append(client.videos.create(prompt=f"street {number}").id)
        wait_for(client, made[-1], "completed")
    assert [video.id for video in client.videos.list(limit=2, order="asc")] == made
    assert [video.id for video in client.videos.list(limit=2)] == made[::-1]
    page = client.videos.list(limit=2, after=made[1], order="asc")
    assert ([video.id for video in page.data], page.has_more) == (made[2:4], True)
    with pytest.raises(openai.NotFoundError):
        client.videos.list(after="video_unknown")


def test_progress_is_seen_step_by_step(client: OpenAI, generate: FakeGenerate):
    generate.step_s = 0.1
    video = client.videos.create(prompt="x", extra_body={"steps": 8})
    seen = set()
    while (video := client.videos.retrieve(video.id)).status != "completed":
        seen.add((video.status, video.progress))
        time.sleep(0.02)
    percents = sorted(progress for status, progress in seen if status == "in_progress")
    assert len(percents) > 4 and percents[-1] <= 99


def test_a_failed_job_answers_200_and_says_why(client: OpenAI, http: httpx.Client):
    video = client.videos.create_and_poll(prompt="please fail")
    assert (video.status, video.error.code) == ("failed", "generation_failed")
    assert video.error.message == "the fake was told to fail"
    assert http.get(f"/v1/videos/{video.id}").status_code == 200
    with pytest.raises(openai.NotFoundError, match="told to fail"):
        client.videos.download_content(video.id)


def test_content_that_is_not_ready_is_404(client: OpenAI):
    video = client.videos.create(prompt="wait")
    with pytest.raises(openai.NotFoundError, match="poll until"):
        client.videos.download_content(video.id)


def test_content_comes_in_ranges(client: OpenAI, http: httpx.Client):
    video = client.videos.create_and_poll(prompt=PROMPT)
    path, whole = f"/v1/videos/{video.id}/content", PROMPT.encode() * 100
    full = http.get(path)
    assert (full.status_code, full.headers["content-type"], full.content) == (200, "video/mp4", whole)
    assert full.headers["accept-ranges"] == "bytes"
    part = http.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    assert http.get(path, headers={"Range": "bytes=-5"}).content == whole[-5:]
    assert http.get(path, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    assert http.get(path, params={"variant": "thumbnail"}).status_code == 400


def test_a_file_that_somebody_removed_is_404(client: OpenAI, run: Run):
    video = client.videos.create_and_poll(prompt=PROMPT)
    run.storage.delete(f"serving/videos/{video.id}-1.mp4")
    with pytest.raises(openai.NotFoundError, match="removed from storage"):
        client.videos.download_content(video.id)


def test_delete_forgets_job_and_file(client: OpenAI, run: Run):
    video = client.videos.create_and_poll(prompt=PROMPT)
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.deleted, gone.object) == (video.id, True, "video.deleted")
    assert run.storage.list("serving/videos") == []
    for call in (client.videos.retrieve, client.videos.delete, client.videos.download_content):
        with pytest.raises(openai.NotFoundError):
            call(video.id)


def test_unknown_characters_are_refused_before_they_queue(client: OpenAI, generate: FakeGenerate):
    with pytest.raises(openai.BadRequestError) as caught:
        client.videos.create(prompt="[Character: Tom], chases Jerry.")
    assert caught.value.param == "prompt" and caught.value.code == "invalid_prompt"
    assert all(name in str(caught.value) for name in ("Tom", "Pip", "Momo", "Mr. Plum", "Nan Fern"))
    assert not list(client.videos.list()) and not generate.begun


def test_a_full_queue_answers_429(client: OpenAI, http: httpx.Client):
    running = client.videos.create(prompt="wait")
    wait_for(client, running.id, "in_progress")
    waiting = [client.videos.create(prompt="wait").id for _ in range(3)]
    full = http.post("/v1/videos", json={"prompt": "x"})
    assert full.status_code == 429 and int(full.headers["retry-after"]) > 0
    assert full.json()["error"]["code"] == "queue_full"
    client.videos.delete(waiting[0])
    assert http.post("/v1/videos", json={"prompt": "x"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[" * 200_000, "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"prompt": "x"}', "text/plain; boundary"),
        (b"--x\r\n", "multipart/form-data"),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x"),
        (b"prompt=%00&size=1", "application/x-www-form-urlencoded"),
        (b'{"prompt": "\\ud800", "size": {"a": 1}}', "application/json"),
        (b'{"prompt": "x", "guidance": NaN}', "application/json"),
    ],
)
def test_bodies_that_make_no_sense_are_never_a_5xx(http: httpx.Client, content: bytes, kind: str):
    answer = http.post("/v1/videos", content=content, headers={"content-type": kind})
    assert answer.status_code in (200, 400) and (answer.is_success == (kind.startswith("text/plain")))
    if not answer.is_success:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_too_large_is_refused(http: httpx.Client):
    answer = http.post("/v1/videos", content=(bytes(1 << 20) for _ in range((MAX_BODY >> 20) + 2)))
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"


@pytest.mark.parametrize(
    "path", ["/v1/videos/video_x%00", "/v1/videos/..%2f..%2fetc", "/v1/nothing", "/v1/videos/x/content"]
)
def test_paths_that_are_not_there_are_404_in_openais_envelope(http: httpx.Client, path: str):
    answer = http.get(path)
    assert answer.status_code == 404 and "message" in answer.json()["error"]


def test_bad_query_values_are_400(http: httpx.Client):
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"order": "sideways"}):
        answer = http.get("/v1/videos", params=query)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == next(iter(query))


def test_models_characters_health_and_page(client: OpenAI, http: httpx.Client):
    assert [model.id for model in client.models.list()] == ["miniature"]
    found = http.get("/v1/characters").json()
    assert [one["name"] for one in found["data"]] == ["Pip", "Momo", "Mr. Plum", "Nan Fern"]
    assert found["data"][0]["show"] == "Pip and Momo" and found["data"][0]["actions"]
    assert found["defaults"]["frames"] == 81 and found["limits"]["max_frames"] == 81
    assert http.get("/healthz").json() == {"status": "ok", "waiting": 0}
    page = http.get("/")
    assert page.headers["content-type"].startswith("text/html") and "<title>" in page.text
    assert "/v1/videos" in json.dumps(http.get("/openapi.json").json()["paths"])


def test_keys_let_in_only_those_who_have_one(run: Run):
    with endpoint(run, FakeGenerate(run), keys=(b"one", b"two")) as address:
        for key in ("one", "two"):
            assert OpenAI(base_url=f"{address}/v1", api_key=key).videos.create(prompt="x").id
        for key in ("three", "on", "one,two", "öne"):
            headers = {"authorization": f"Bearer {key}".encode()}
            for method, path in (("POST", "/v1/videos"), ("GET", "/v1/videos"), ("GET", "/v1/characters")):
                assert httpx.request(method, address + path, headers=headers).status_code == 401
        assert httpx.get(f"{address}/v1/models").json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{address}/").status_code == httpx.get(f"{address}/healthz").status_code == 200


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert accepted_keys("NO_SUCH_VARIABLE_HERE") == ()
    monkeypatch.setenv("KEYS", " a, b ,")
    assert accepted_keys("KEYS") == (b"a", b"b")
    monkeypatch.setenv("KEYS", "")
    with pytest.raises(ConfigError, match="KEYS is set and holds no key"):
        accepted_keys("KEYS")
