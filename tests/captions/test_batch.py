"""The stage in batch mode: the same rows, at no request to the chat, and nothing submitted twice."""

from pathlib import Path

import pytest

from mimix_ray.captions import stage
from mimix_ray.vlm import Batches
from tests.captions.test_stage import CLIPS, captions, clip_id, make_clips
from tests.vlm.batch_server import batch_server


@pytest.fixture
def server():
    with batch_server() as running:
        yield running


@pytest.fixture
def make_run(server, run_factory):
    def make(*arguments):
        vlm = {"base_url": server.base_url, "batch": "true", "batch_poll_s": 0.05, "batch_requests": 5}
        flags = [part for key, value in vlm.items() for part in (f"--captions.vlm.{key}", value)]
        return run_factory(*flags, *arguments)

    return make


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(stage, "PART", 3)


@pytest.mark.soak
def test_rows_by_batches(ray_cluster, server, make_run, small_parts):
    run = make_clips(make_run())
    Path(run.config.root, "clips/pip_and_momo/9.mp4").write_bytes(b"broken")
    server.modes = {3: ["400"], 4: ["truncated"], 5: ["filtered"], 6: ["refused"], 7: ["expired"], 8: ["stranger"]}
    report = stage.run(run)
    rows = captions(run)
    assert list(rows) == [clip_id(number) for number in range(CLIPS)]
    faults = {clip: row["error"] for clip, row in rows.items() if row["status"] == "failed"}
    assert {int(clip[-8:]) // 5000: fault.split(":")[0] for clip, fault in faults.items()} == {
        3: "endpoint_error",
        4: "truncated",
        5: "content_filtered",
        6: "refused",
        7: "endpoint_error",
        8: "unknown_character",
        9: "not_a_video",
    }
    assert faults[clip_id(7)] == "endpoint_error: the batch gave no answer; run again"
    for number in (0, 1, 2, 10, 11, 12, 13):
        row = rows[clip_id(number)]
        assert row["characters"] == [{"name": "Pip", "action": f"does thing {number}"}]
        assert (row["tokens_in"], row["tokens_out"]) == (1000, 50)
    assert [data.count(b"\n") for data in server.uploads] == [5, 5, 3]
    assert server.calls.total() == 13, "no request went to the chat"
    told = report.extra["batch"]
    assert (told["answers"], told["tokens_in"], told["tokens_out"]) == (11, 11_000, 550)
    assert told["batches"] == {"completed": 2, "expired": 1} and told["no_answer"]["batch_expired"] == 1
    assert (report.extra["calls"], report.extra["tokens_in"], report.extra["answers_from_cache"]) == (0, 0, 11)
    assert run.storage.list("captions/batch") == []

    server.modes = {}
    again = stage.run(run)
    assert again.extra["batch"]["answers"] == 2 and again.reused == 7
    assert max(server.asked.values()) == 2 and sum(server.asked.values()) == 15


@pytest.mark.soak
def test_a_rerun_waits_for_the_batches_of_a_driver_that_died(ray_cluster, server, make_run, small_parts, monkeypatch):
    run = make_clips(make_run())
    server.looks = 3
    looked = []

    def die(self, record):
        looked.append(record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "_retrieve", die)
        with pytest.raises(KeyboardInterrupt):
            stage.run(run)
    assert looked and len(server.batches) == 3 and not server.clips
    run.storage.write_bytes("captions/batch/left.jsonl", b"of a driver that died\n")
    report = stage.run(run)
    assert (report.ok, report.extra["batch"]["answers"]) == (CLIPS, CLIPS)
    assert len(server.batches) == 3 and set(server.asked.values()) == {1}
    assert run.storage.list("captions/batch") == []
    assert captions(run)[clip_id(13)]["characters"][0]["action"] == "does thing 13"

    # And once more: nothing is asked, at no price.
    assert stage.run(run).reused == CLIPS and len(server.batches) == 3
