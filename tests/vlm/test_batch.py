"""Batches on a real HTTP server: every answer on its question, limits kept, and after a kill nothing is paid twice."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from mimix_ray.config import CaptionsVlmConfig
from mimix_ray.vlm import AnswerCache, Batches, Vlm, VlmError, api_key, batch, request_line
from mimix_ray.vlm.batch import read_line, request_files
from tests.vlm.batch_server import batch_server
from tests.vlm.conftest import question

KEY = "ab" * 32


@pytest.fixture
def server():
    with batch_server() as running:
        yield running


def config_for(base_url, **settings):
    given = {"base_url": base_url, "model": "hostile", "api_key_env": "NO_SUCH_KEY", "batch": True}
    return CaptionsVlmConfig(**{**given, "batch_poll_s": 0.02, **settings})


def run_batches(config, storage, numbers):
    """What a stage does: end what is open, then ask what is not in the cache. Returns the tally and the looks."""
    cache, batches = AnswerCache(storage), Batches(config, storage, api_key(config))
    for _ in batches.finish():
        pass
    questions = [question(number) for number in numbers]
    keys = [one.key(config.model, config.temperature) for one in questions]
    lines = [
        (key, request_line(config, key, one))
        for key, one in zip(keys, questions, strict=True)
        if cache.get(key, config.max_tokens) is None
    ]
    looks = list(batches.ask(lines))
    batches.close()
    return batches.tally, looks


def outcomes(config, storage, numbers):
    vlm = Vlm(config, storage, api_key(config), kept_only=True)
    ended = vlm.ask_all([question(number) for number in numbers])
    vlm.close()
    return ended


def records(storage):
    return [storage.read_json(name) for name in storage.list("answers/batches")]


def test_every_answer_lands_on_its_question_and_each_end_has_its_kind(server, storage):
    server.modes = {
        1: ["filtered request"],
        2: ["filtered"],
        3: ["refused"],
        4: ["truncated"],
        5: ["not json"],
        6: ["stranger"],
        7: ["expired"],
        8: ["400"],
        9: ["500"],
        10: ["hidden error"],
    }
    config = config_for(server.base_url)
    tally, looks = run_batches(config, storage, range(14))
    ended = outcomes(config, storage, range(14))
    assert {n: one.kind for n, one in enumerate(ended) if one.kind != "ok"} == {
        1: "content_filtered",
        2: "content_filtered",
        3: "refused",
        4: "truncated",
        5: "unparseable",
        6: "unknown_character",
        7: "endpoint_error",
        8: "endpoint_error",
        9: "endpoint_error",
        10: "endpoint_error",
    }
    assert [ended[n].value.characters[0].action for n in (0, 11, 12, 13)] == [
        f"does thing {n}" for n in (0, 11, 12, 13)
    ]
    assert all(ended[n].error == "the batch gave no answer; run again" for n in (7, 8, 9, 10))
    assert [one.batch for one in ended] == [n not in (7, 8, 9, 10) for n in range(14)]
    assert all(one.calls == 0 for one in ended)
    # The refused request was not billed; what the batch did not answer was not either.
    assert (tally.answers, tally.tokens_in, tally.tokens_out) == (10, 9000, 450)
    assert tally.batches == {"expired": 1} and tally.refused == []
    assert tally.no_answer["batch_expired"] == 1 and sum(tally.no_answer.values()) == 4
    assert looks[0] == (0, 0) and looks[-1] == (14, 14)

    # Again: only what had no answer is in the second batch.
    server.modes = {}
    again, _ = run_batches(config, storage, range(14))
    assert again.answers == 4 and server.asked.total() == 18
    assert outcomes(config, storage, range(14))[7].value.characters[0].action == "does thing 7"
    assert server.calls.total() == 18, "no request went to the chat"


def test_a_request_in_a_batch_is_the_request_that_the_chat_gets(server, storage):
    config = config_for(server.base_url, max_tokens=77, temperature=0.5)
    line = json.loads(request_line(config, KEY, question(3)))
    assert (line["custom_id"], line["method"], line["url"]) == (KEY, "POST", "/v1/chat/completions")
    assert line["body"] == {
        "model": "hostile",
        "messages": question(3).messages(),
        "response_format": question(3).response_format(),
        "temperature": 0.5,
        "max_tokens": 77,
    }


@pytest.mark.parametrize(
    ("sizes", "requests", "size", "packed"),
    [
        ([10, 10, 10], 50, 100, [3]),
        ([10, 10, 10, 10, 10], 2, 100, [2, 2, 1]),
        ([10, 10, 10], 50, 20, [2, 1]),
        ([10, 10, 10], 50, 29, [2, 1]),
        ([10, 99, 10], 50, 30, [1, 1, 1]),
        ([], 50, 30, []),
    ],
)
def test_files_keep_to_the_limits_and_lose_no_line(sizes, requests, size, packed):
    lines = [(str(n), b"%d" % n * (length - 1) + b"\n") for n, length in enumerate(sizes)]
    files = [file.read() for file in request_files(lines, requests, size)]
    assert [file.count(b"\n") for file in files] == packed
    assert b"".join(files) == b"".join(line for _, line in lines)


def test_a_question_that_comes_twice_is_asked_once(server, storage):
    config = config_for(server.base_url, batch_requests=2)
    tally, _ = run_batches(config, storage, [1, 1, 2, 3, 1])
    assert tally.answers == 3 and set(server.asked.values()) == {1}


def test_files_are_split_at_the_limits(server, storage, monkeypatch):
    config = config_for(server.base_url, batch_requests=4)
    tally, looks = run_batches(config, storage, range(10))
    assert [data.count(b"\n") for data in server.uploads] == [4, 4, 2]
    assert tally.batches == {"completed": 3} and looks[-1] == (10, 10)

    monkeypatch.setattr(batch, "MAX_BYTES", 3 * max(map(len, server.uploads)) // 4)
    del server.uploads[:]
    run_batches(config_for(server.base_url), storage, range(10, 20))
    assert len(server.uploads) > 2 and sum(data.count(b"\n") for data in server.uploads) == 10
    assert all(len(data) <= batch.MAX_BYTES for data in server.uploads)
    assert {one["ended"] for one in records(storage)} == {"completed"}
    assert not any(one["input_file_id"] in server.files for one in server.batches.values())


def test_a_full_queue_is_waited_for_and_no_file_is_sent_twice(server, storage):
    server.most_open = 4
    tally, _ = run_batches(config_for(server.base_url, batch_requests=2), storage, range(14))
    assert (tally.answers, tally.refused) == (14, [])
    assert set(server.asked.values()) == {1} and len(server.uploads) == 7
    assert sum(one["status"] == "failed" for one in server.batches.values()) > 0
    assert server.files.keys().isdisjoint(one["input_file_id"] for one in server.batches.values())


def test_batches_that_never_fit_the_queue_end_with_words(server, storage):
    server.most_open = 3
    config = config_for(server.base_url, batch_requests=4)
    tally, _ = run_batches(config, storage, range(12))
    assert tally.answers == 0 and "lower vlm.batch_requests" in tally.refused[0]
    assert {one.error for one in outcomes(config, storage, range(12))} == {"the batch gave no answer; run again"}
    assert set(server.files) == set(), "nothing is left at the server"


def test_a_refused_batch_stops_the_sending_and_the_next_run_sends_again(server, storage):
    bad = config_for(server.base_url, batch_requests=1, model="no such model")
    tally, _ = run_batches(bad, storage, range(20))
    assert tally.batches == {"failed": batch.CHECKED_AT_ONCE} and "model_not_found" in tally.refused[0]
    tally, _ = run_batches(config_for(server.base_url), storage, range(20))
    assert tally.answers == 20


@pytest.mark.parametrize("call", ["upload", "create", "retrieve"])
def test_an_answer_lost_on_its_way_makes_no_second_batch(server, storage, call):
    server.broken[call] = 1
    tally, _ = run_batches(config_for(server.base_url), storage, range(5))
    assert tally.answers == 5 and set(server.asked.values()) == {1} and len(server.batches) == 1


RUN = """
import sys
from tests.vlm.test_batch import config_for, run_batches
from mimix_ray.storage import Storage
run_batches(config_for(sys.argv[1], batch_requests=3), Storage.open(sys.argv[2]), range(8))
"""


@pytest.mark.parametrize("moment", ["upload", "create", "retrieve"])
def test_killed_anywhere_nothing_is_submitted_twice(server, storage, moment):
    server.hold = moment
    killed = subprocess.Popen([sys.executable, "-c", RUN, server.base_url, storage.uri])
    assert server.held.wait(60)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    server.hold = None
    batches_before = len(server.batches)
    assert batches_before == {"upload": 0, "create": 1, "retrieve": 3}[moment]

    tally, _ = run_batches(config_for(server.base_url, batch_requests=3), storage, range(8))
    assert tally.answers == 8
    assert len(server.batches) == 3 and set(server.asked.values()) == {1} and len(server.asked) == 8
    kept = outcomes(config_for(server.base_url), storage, range(8))
    assert [one.value.characters[0].action for one in kept] == [f"does thing {n}" for n in range(8)]


def test_killed_between_the_record_and_the_batch_nothing_is_submitted_twice(server, storage, monkeypatch):
    config = config_for(server.base_url)
    create = Batches._create

    def die(self, file_id):
        monkeypatch.setattr(self._api.batches, "create", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
        return create(self, file_id)

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "_create", die)
        with pytest.raises(KeyboardInterrupt):
            run_batches(config, storage, range(5))
    assert [one["batch_id"] for one in records(storage)] == [None] and len(server.files) == 1
    tally, _ = run_batches(config, storage, range(5))
    assert tally.answers == 5 and len(server.batches) == 1 and set(server.asked.values()) == {1}
    assert len(records(storage)) == 1


def test_killed_while_keeping_answers_counts_each_once(server, storage, monkeypatch):
    config, put, puts = config_for(server.base_url), AnswerCache.put, Counter()

    def die_at_the_fourth(self, key, max_tokens, reply):
        puts[key] += 1
        if len(puts) == 4:
            raise KeyboardInterrupt
        put(self, key, max_tokens, reply)

    with monkeypatch.context() as patched:
        patched.setattr(AnswerCache, "put", die_at_the_fourth)
        patched.setattr(batch, "KEEPERS", 1)
        with pytest.raises(KeyboardInterrupt):
            run_batches(config, storage, range(8))
    kept = len(storage.list("answers")) - len(records(storage))
    tally, _ = run_batches(config, storage, range(8))
    assert 0 < kept < 8 and tally.answers == 8 - kept and set(server.asked.values()) == {1}


def test_a_truncated_answer_is_asked_again_only_with_more_room(server, storage):
    server.modes[1] = ["truncated"]
    run_batches(config_for(server.base_url, max_tokens=64), storage, [1])
    run_batches(config_for(server.base_url, max_tokens=64), storage, [1])
    assert server.asked.total() == 1
    server.modes = {}
    run_batches(config_for(server.base_url, max_tokens=128), storage, [1])
    assert outcomes(config_for(server.base_url, max_tokens=128), storage, [1])[0].kind == "ok"


def test_an_endpoint_without_batches_is_one_clear_line(server, storage):
    config = config_for(server.base_url.replace("/v1", "/elsewhere"))
    with pytest.raises(VlmError, match=r"does not upload a file of requests \(status 404\); .*vlm.batch: false"):
        run_batches(config, storage, [1])


def test_a_batch_that_the_account_does_not_know_is_not_asked_anew(server, storage):
    config = config_for(server.base_url)
    looks = Batches(config, storage, api_key(config)).ask([(KEY, request_line(config, KEY, question(1)))])
    next(looks)
    next(looks)
    server.batches.clear()
    with pytest.raises(VlmError, match=r"does not retrieve the batch batch-0 of .*answers/batches/\w+\.json"):
        run_batches(config, storage, [1])
    other = config_for(server.base_url.replace("127.0.0.1", "localhost"))
    tally, _ = run_batches(other, storage, [1])
    assert tally.answers == 1, "another endpoint's batches are left alone"


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"null", b'"text"', b'{"custom_id": "../../x"}', b'{"custom_id": 5, "response": {}}']
)
def test_a_line_that_is_no_answer(line):
    with pytest.raises(ValueError):
        read_line(line)


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{}]}, {"choices": "no"}, []])
def test_a_status_200_without_an_answer_is_not_kept(body):
    value = {"custom_id": KEY, "response": {"status_code": 200, "body": body}}
    key, reply = read_line(json.dumps(value).encode())
    assert (key, reply.kind, reply.final, reply.batch) == (KEY, "endpoint_error", False, True)


def test_neither_images_nor_prompt_stay_in_records(server, storage, monkeypatch):
    monkeypatch.setenv("TEST_VLM_KEY", "sk-very-secret")
    run_batches(config_for(server.base_url, api_key_env="TEST_VLM_KEY"), storage, range(3))
    for name in storage.list(""):
        text = storage.read_bytes(name).decode()
        assert "very-secret" not in text and "base64," not in text and question(1).text[:40] not in text
