"""Asking a server that does everything a server can do to a client."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from mimix_ray.config import VlmConfig
from mimix_ray.vlm import Vlm, api_key, client
from tests.vlm.conftest import question
from tests.vlm.hostile import RETRY_AFTER


def thing(outcome):
    assert outcome.kind == "ok", outcome
    return outcome.value.characters[0].action


@pytest.mark.parametrize(
    ("modes", "kind", "calls", "says"),
    [
        (["ok"], "ok", 1, None),
        (["fenced"], "ok", 1, None),
        (["429", "ok"], "ok", 2, None),
        (["500", "503", "ok"], "ok", 3, None),
        (["503 and wait", "ok"], "ok", 2, None),
        (["hidden error", "ok"], "ok", 2, None),
        (["429"], "rate_limited_out", 3, "lower vlm.concurrency"),
        (["429 for an hour"], "rate_limited_out", 1, "3600 s"),
        (["no quota"], "endpoint_error", 1, "no quota left"),
        (["500"], "endpoint_error", 3, "status 500"),
        (["400"], "endpoint_error", 1, "status 400"),
        (["401"], "endpoint_error", 1, "status 401"),
        (["403"], "endpoint_error", 1, "status 403"),
        (["404"], "endpoint_error", 1, "status 404"),
        (["hang"], "endpoint_error", 3, "no answer within 0.4 s"),
        (["drip"], "endpoint_error", 3, "no answer within 0.4 s"),
        (["html"], "endpoint_error", None, ""),
        (["hidden error"], "endpoint_error", 3, "upstream is down"),
        (["filtered request"], "content_filtered", 1, "filter"),
        (["filtered"], "content_filtered", 1, "filter"),
        (["refused"], "refused", 1, "I cannot help"),
        (["truncated"], "truncated", 1, "max_tokens"),
        (["not json"], "unparseable", 2, "not the JSON asked for"),
        (["half"], "unparseable", 1, "scene_style"),
        (["stranger"], "unknown_character", 1, "'Garfield' is none of the cast shown (Pip, Momo)"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_each_end_has_its_kind(server, make_vlm, modes, kind, calls, says):
    server.modes[5] = modes
    outcome = make_vlm(timeout_s=0.4 if modes[0] in ("hang", "drip") else 20).ask(question(5))
    assert outcome.kind == kind, outcome
    assert (outcome.value is None) == (outcome.error is not None) == (kind != "ok")
    assert calls in (None, outcome.calls)
    assert server.calls[5] == outcome.calls
    assert says is None or says in outcome.error
    answered = kind not in ("rate_limited_out", "endpoint_error") and modes != ["filtered request"]
    paid = 2 if modes == ["not json"] else int(answered)  # asked once more with the schema in words
    assert (outcome.tokens_in, outcome.tokens_out) == (1000 * paid, 50 * paid)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("odd usage", "ok"), ("no usage", "ok"), ("number", "unparseable"), ("half a character", "ok")],
)
def test_odd_answers_are_outcomes_and_are_kept(server, make_vlm, mode, kind):
    server.modes[5] = [mode]
    first = make_vlm().ask(question(5))
    assert (first.kind, first.tokens_in) == (kind, 1000 if mode == "half a character" else first.tokens_in)
    asked = len(server.clips)
    again = make_vlm().ask(question(5))
    assert again.kind == kind and (len(server.clips) > asked) == (kind != "ok")


def test_every_answer_lands_on_its_question_whatever_happens_around_it(server, make_vlm):
    server.delay = 0.3
    server.modes = {3: ["500", "ok"], 7: ["429", "ok"], 11: ["400"], 12: ["truncated"], 20: ["hang"]}
    outcomes = make_vlm(timeout_s=1.0, max_attempts=2, concurrency=28).ask_all([question(n) for n in range(28)])
    failed = {n: outcome.kind for n, outcome in enumerate(outcomes) if outcome.kind != "ok"}
    assert failed == {11: "endpoint_error", 12: "truncated", 20: "endpoint_error"}
    assert all(thing(outcome) == f"does thing {n}" for n, outcome in enumerate(outcomes) if n not in failed)


def test_no_more_requests_are_in_flight_than_allowed(server, make_vlm):
    server.delay = 0.1
    make_vlm(concurrency=3).ask_all([question(n) for n in range(20)])
    assert server.most_in_flight == 3


@pytest.mark.parametrize("refusal", ["429", "503 and wait"])
def test_retry_after_pauses_all_requests_of_the_client(server, make_vlm, refusal):
    server.modes[0] = [refusal, "ok"]
    outcomes = make_vlm(concurrency=1).ask_all([question(n) for n in range(6)])
    assert [outcome.kind for outcome in outcomes] == ["ok"] * 6
    # Whichever question was ready first: after the refusal nothing comes for as long as the server asked.
    refused = server.clips.index(0)
    assert server.times[refused + 1] - server.times[refused] >= RETRY_AFTER * 0.99
    assert server.clips[refused + 1] == 0

    server.modes[10], server.delay = [refusal, "ok"], 0.0
    began = len(server.times)
    vlm = make_vlm(concurrency=4)
    vlm.ask_all([question(n) for n in (10, 11, 12, 13)])
    refused = server.times[began + server.clips[began:].index(10)]
    # What was sent before the refusal could be known is not held against the client.
    late = [at for at in server.times[began:] if at > refused + 0.1]
    assert late and min(late) >= refused + RETRY_AFTER * 0.99


def test_an_answer_is_paid_for_once(server, make_vlm):
    server.modes = {1: ["refused"], 4: ["400"], 5: ["filtered request"]}
    first = make_vlm().ask_all([question(n) for n in range(8)])
    again = make_vlm(concurrency=2, timeout_s=9).ask_all([question(n) for n in range(8)])
    assert [outcome.kind for outcome in again] == [outcome.kind for outcome in first]
    assert [outcome.value for outcome in again] == [outcome.value for outcome in first]
    # What was no answer is asked again, everything else is not.
    assert server.calls == {n: 2 if n == 4 else 1 for n in range(8)}
    assert [outcome.calls for outcome in again] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert again[0].tokens_in == 1000


def test_an_answer_that_is_of_no_use_is_asked_again_by_the_next_run(server, make_vlm):
    server.modes = {2: ["half", "half", "ok"], 3: ["stranger", "ok"]}
    runs = [[outcome.kind for outcome in make_vlm().ask_all([question(n) for n in (2, 3)])] for _ in range(4)]
    assert runs == [["unparseable", "unknown_character"], ["unparseable", "ok"], ["ok", "ok"], ["ok", "ok"]]
    assert server.calls == {2: 3, 3: 2}


@pytest.mark.parametrize("mode", ["no schemas", "schemas ignored"])
def test_a_server_that_knows_no_schemas_is_asked_in_words_and_that_is_remembered(server, make_vlm, mode):
    server.modes = {n: [mode] for n in range(6)}
    vlm = make_vlm(concurrency=1, max_attempts=1)
    assert [thing(vlm.ask(question(n))) for n in range(6)] == [f"does thing {n}" for n in range(6)]
    assert len(server.clips) == 7, "the first question alone was sent twice"


def test_one_answer_in_prose_does_not_cost_a_server_its_schemas(server, make_vlm):
    server.modes = {2: ["not json"]}
    vlm = make_vlm(concurrency=1)
    kinds = [vlm.ask(question(n)).kind for n in range(5)]
    assert kinds == ["ok", "ok", "unparseable", "ok", "ok"] and server.schemas == [True] * 5


@pytest.mark.parametrize(
    "change", [{"model": "another"}, {"temperature": 1.0}], ids=["another model", "another temperature"]
)
def test_another_asker_pays_anew(server, make_vlm, change):
    make_vlm().ask(question(1))
    make_vlm(**change).ask(question(1))
    assert server.calls[1] == 2


def test_another_context_is_another_question(server, make_vlm):
    make_vlm().ask_all([question(1), question(1, context="Dialogue during the clip:\nHello.")])
    assert server.calls[1] == 2


def test_a_truncated_answer_is_asked_again_only_with_more_room(server, make_vlm):
    server.modes[1] = ["truncated", "ok"]
    assert make_vlm(max_tokens=64).ask(question(1)).kind == "truncated"
    assert make_vlm(max_tokens=64).ask(question(1)).kind == "truncated"
    assert make_vlm(max_tokens=32).ask(question(1)).kind == "truncated"
    assert server.calls[1] == 1
    assert make_vlm(max_tokens=128).ask(question(1)).kind == "ok"
    assert make_vlm(max_tokens=64).ask(question(1)).kind == "ok"
    assert server.calls[1] == 2


ASK_ALL = """
import sys
from mimix_ray.config import VlmConfig
from mimix_ray.storage import Storage
from mimix_ray.vlm import Vlm, api_key
from tests.vlm.conftest import question
config = VlmConfig(base_url=sys.argv[1], model="hostile", api_key_env="NO_SUCH_KEY", concurrency=3)
outcomes = Vlm(config, Storage.open(sys.argv[2]), api_key(config)).ask_all([question(n) for n in range(24)])
print(*[outcome.value.characters[0].action for outcome in outcomes], sep="\\n")
"""


def test_a_killed_process_loses_no_answer(server, storage):
    server.delay = 0.4
    command = [sys.executable, "-c", ASK_ALL, server.base_url, storage.uri]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(storage.list("answers")) < 7:
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = len(storage.list("answers"))
    before = len(server.clips)
    assert kept < 24 and before <= kept + 2 * 3, "only what was in flight, or on its way to the disk, is asked again"

    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [f"does thing {n}" for n in range(24)]
    assert len(server.clips) - before == 24 - kept


def test_neither_key_nor_images_nor_prompt_reach_logs_and_errors(server, storage, monkeypatch, caplog, capfd):
    monkeypatch.setenv("TEST_VLM_KEY", "sk-very-secret")
    config = VlmConfig(base_url=server.base_url, model="hostile", api_key_env="TEST_VLM_KEY", max_attempts=2)
    server.modes = {1: ["echo"], 2: ["500"], 3: ["429", "ok"]}
    vlm = Vlm(config, storage, api_key(config))
    with caplog.at_level(logging.DEBUG):
        outcomes = vlm.ask_all([question(n) for n in range(4)])
    vlm.close()
    assert server.keys == {"Bearer sk-very-secret"}
    out = "".join(capfd.readouterr())
    for text in (caplog.text, out, repr(vlm.__dict__), *(str(outcome.error) for outcome in outcomes)):
        assert "very-secret" not in text
        assert "base64," not in text
        assert "training captions for a video model" not in text
    assert all("very-secret" not in storage.read_bytes(name).decode() for name in storage.list(""))


@pytest.mark.parametrize(
    ("header", "seconds"), [("2", 2), ("0.25", 0.25), ("-3", 0), (None, None), ("", None), ("soon", None)]
)
def test_retry_after_in_seconds(header, seconds):
    assert client.retry_after(header) == seconds


def test_retry_after_as_a_date():
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 90))
    assert client.retry_after(at) == pytest.approx(90, abs=2)
