"""The stage against a server that misbehaves: every caption on its own clip, every fault a row, nothing paid twice."""

import json
from pathlib import Path

import pytest

from mimix_ray import tables, video
from mimix_ray.captions import speech, stage
from mimix_ray.captions.context import Line
from mimix_ray.config import ConfigError
from mimix_ray.stage import StageError
from mimix_ray.vlm import VlmError
from tests.captions.whisper import film, whisper
from tests.vlm.hostile import hostile_server, picture

CLIPS = 14


def clip_id(number):
    return f"pip_and_momo/e01/{number * 5000:08d}"


def make_clips(run, count=CLIPS):
    """Grey clips of one episode, each of its own grey, so that an answer tells which clip was seen."""
    folder = Path(run.config.root, "footage/pip_and_momo")
    folder.mkdir(parents=True)
    (folder / "e01.mp4").write_bytes(b"the footage itself is not looked at")
    (folder / "e01.srt").write_text("1\n00:00:06,000 --> 00:00:07,000\nWhere is Momo?\n")
    Path(run.config.root, "clips/pip_and_momo").mkdir(parents=True)
    rows = []
    for number in range(count):
        name = f"clips/pip_and_momo/{number}.mp4"
        video.write_video(Path(run.config.root, name), [picture(number)] * 4, 16)
        rows.append(
            {
                "clip_id": clip_id(number),
                "show": "pip_and_momo",
                "episode": "e01",
                "style": "cartoon",
                "start_s": number * 5.0,
                "end_s": number * 5.0 + 5.0,
                "video": name,
                "status": "ok",
                "recipe": f"clip {number}",
            }
        )
    tables.publish(run.storage, tables.CLIPS, rows)
    tables.seal(run.storage, tables.CLIPS, [row["clip_id"] for row in rows])
    return run


@pytest.fixture
def server():
    with hostile_server() as running:
        yield running


@pytest.fixture
def make_run(server, run_factory):
    def make(*arguments):
        vlm = {"base_url": server.base_url, "timeout_s": 2, "max_attempts": 2, "concurrency": 4}
        flags = [part for key, value in vlm.items() for part in (f"--captions.vlm.{key}", value)]
        return run_factory(*flags, *arguments)

    return make


def captions(run):
    return {row["clip_id"]: row for row in tables.read(run.storage, tables.CAPTIONS, status=None)}


@pytest.mark.soak
def test_a_hostile_server(ray_cluster, server, make_run):
    run = make_clips(make_run())
    Path(run.config.root, "clips/pip_and_momo/9.mp4").write_bytes(b"broken")
    server.delay = 0.4
    server.modes = {
        1: ["429", "ok"],
        2: ["500", "ok"],
        3: ["400"],
        4: ["truncated"],
        5: ["filtered"],
        6: ["refused"],
        7: ["not json"],
        8: ["stranger"],
        10: ["hang"],
    }
    report = stage.run(run)
    rows = captions(run)
    assert list(rows) == [clip_id(number) for number in range(CLIPS)]
    faults = {clip: row["error"].split(":")[0] for clip, row in rows.items() if row["status"] == "failed"}
    assert {int(clip[-8:]) // 5000: fault for clip, fault in faults.items()} == {
        3: "endpoint_error",
        4: "truncated",
        5: "content_filtered",
        6: "refused",
        7: "unparseable",
        8: "unknown_character",
        9: "not_a_video",
        10: "endpoint_error",
    }
    for number in (0, 1, 2, 11, 12, 13):
        row = rows[clip_id(number)]
        assert row["characters"] == [{"name": "Pip", "action": f"does thing {number}"}]
        assert row["text"] == f"[Character: Pip], does thing {number}. [scene-style:cartoon]"
        assert (row["setting"], row["scene_style"], row["style_disagrees"]) == (f"room {number}", "cartoon", False)
        assert (row["model"], row["tokens_in"], row["tokens_out"]) == ("viewer", 1000, 50)
        assert row["confidence"] == 0.5 and len(row["prompt_hash"]) == 16
    assert server.most_in_flight <= 4
    assert (report.rows_in, report.rows_out, report.ok, report.failed) == (14, 14, 6, 8)
    extra = report.extra
    # Clip 7's prose is asked for once more, in words, when no JSON has come before it.
    more = server.calls[7] - 1
    assert extra["calls"] == len(server.clips) == 16 + more and extra["retries"] == 3 + more and more in (0, 1)
    answers = 11 + more
    assert (extra["tokens_in"], extra["tokens_out"]) == (1000 * answers, 50 * answers)
    assert extra["answers_from_cache"] == 0
    assert extra["outcomes"] == {"ok": 6} | report.errors

    # Again, with the server in a better mood: what was answered is not asked again, what was not, or to no use, is.
    server.modes, server.clips = {}, []
    video.write_video(Path(run.config.root, "clips/pip_and_momo/9.mp4"), [picture(9)] * 4, 16)
    again = stage.run(run)
    assert sorted(server.clips) == [3, 7, 8, 9, 10]
    assert (again.ok, again.failed, again.reused) == (11, 3, 6)
    assert again.extra["answers_from_cache"] == 3
    assert captions(run)[clip_id(10)]["characters"][0]["action"] == "does thing 10"


def test_a_rerun_asks_nothing_not_even_whether_the_server_is_there(ray_cluster, server, make_run):
    run = make_clips(make_run("--captions.vlm.concurrency", 12))
    server.delay = 0.5
    stage.run(run)
    assert stage.GROUP < server.most_in_flight <= 12, "groups do not wait for each other"
    asked = len(server.clips)
    server.models_status = 500
    again = stage.run(run)
    assert (asked, len(server.clips)) == (CLIPS, CLIPS)
    assert (again.ok, again.reused, again.extra["calls"]) == (CLIPS, CLIPS, 0)


def test_new_dialogue_makes_new_captions_and_other_addresses_do_not(ray_cluster, server, make_run):
    run = make_clips(make_run(), 3)
    stage.run(run)
    stage.run(make_run("--captions.vlm.concurrency", 2))
    assert len(server.clips) == 3
    Path(run.config.root, "footage/pip_and_momo/e01.srt").write_text("1\n00:00:06,000 --> 00:00:07,000\nThere!\n")
    report = stage.run(run)
    # Only clip 1 has dialogue: the other clips' questions are what they were, and are answered from the cache.
    assert server.clips[3:] == [1]
    assert (report.reused, report.extra["answers_from_cache"]) == (0, 2)


@pytest.mark.soak
def test_a_broken_subtitle_file_costs_nothing_and_is_told(ray_cluster, server, make_run):
    run = make_clips(make_run(), 3)
    Path(run.config.root, "footage/pip_and_momo/e01.srt").write_text("no subtitles here")
    report = stage.run(run)
    assert report.errors == {"bad_sidecar": 3} and server.clips == []
    assert all("e01.srt" in row["error"] for row in captions(run).values())


def test_it_fails_fast(server, make_run):
    run = make_clips(make_run(), 1)
    server.models_status = 503
    with pytest.raises(VlmError, match="503"):
        stage.run(run)
    tables.seal(run.storage, tables.CLIPS, [])
    with pytest.raises(StageError, match="no usable clip"):
        stage.run(run)
    assert json.loads(json.dumps(stage.spending([], None)))["calls"] == 0


def make_silent(run):
    """Three clips of one episode that has no subtitles."""
    make_clips(run, 3)
    Path(run.config.root, "footage/pip_and_momo/e01.srt").unlink()
    return run


def only_episode(run):
    (found,) = run.universe.episodes(run.storage.uri, run.config.storage)
    return found


@pytest.mark.soak
def test_a_new_transcript_makes_new_captions_where_it_says_something(ray_cluster, server, make_run):
    stage.run(make_silent(make_run()))
    # The model is not there: what is kept already needs none.
    run = make_run("--captions.speech.model", "/no/such/folder", "--captions.speech.gpus", 0)
    with pytest.raises(ConfigError, match=r"captions\.speech\.model"):
        stage.run(run)
    name = speech.transcript_name(only_episode(run), run.config.captions.speech, run.config.storage)
    speech.keep(run.storage, name, (Line(6.0, 7.0, "Where is Momo?"), Line(11.0, 12.0, "Here!")))
    report = stage.run(run)
    assert sorted(server.clips) == [0, 1, 1, 2, 2] and report.extra["answers_from_cache"] == 1
    assert report.extra["speech"] == {"episodes": 1, "transcribed": 0, "errors": []}
    assert stage.run(run).reused == 3 and len(server.clips) == 5
    Path(run.config.root, "footage/pip_and_momo/e01.srt").write_text("1\n00:00:11,000 --> 00:00:12,000\nHm?\n")
    assert "speech" not in stage.run(run).extra, "a subtitle file needs no speech"


@pytest.mark.soak
def test_the_stage_transcribes_once_and_an_episode_that_fails_is_told(ray_cluster, server, make_run, caplog):
    run = make_silent(make_run("--captions.speech.model", whisper(), "--captions.speech.gpus", 0))
    report = stage.run(run)
    (error,) = report.extra["speech"]["errors"]
    assert "e01.mp4" in error and "\n" not in error and error in caplog.text
    assert (report.ok, report.failed, report.extra["speech"]["transcribed"]) == (3, 0, 0)
    # The footage is mended: the episode is transcribed now, and its clips are captioned anew with what is said.
    Path(only_episode(run).video).write_bytes(film("speaker.mp4").read_bytes())
    report = stage.run(run)
    assert report.extra["speech"] == {"episodes": 1, "transcribed": 1, "errors": []}
    (name,) = run.storage.list(speech.TRANSCRIPTS)
    assert "Nottingham" in " ".join(line.text for line in speech.read(run.storage, name))
    assert (server.clips[3:], report.extra["answers_from_cache"]) == ([0], 2), "all is said in the first clip"
    again = stage.run(run)
    assert (again.reused, again.extra["speech"]["transcribed"], len(server.clips)) == (3, 0, 4)
    assert captions(run)[clip_id(0)]["status"] == "ok"
