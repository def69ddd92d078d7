"""The stage on a real Ray, with a judge that refuses, rambles and gives scores that do not exist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_ray import tables
from mimix_ray.evaluation import stage
from mimix_ray.run import Run
from mimix_ray.stage import StageError
from mimix_ray.video import write_video
from mimix_ray.vlm import VlmError
from tests.evaluation.judge_server import JudgeServer, judge_server, shade

AXES = ("identity_p", "motion_p", "style_p", "interaction_p")


@pytest.fixture
def server():
    with judge_server() as running:
        yield running


@pytest.fixture
def make_run(run_factory, server: JudgeServer):
    def make(videos: int = 6, *arguments: str) -> Run:
        run = run_factory("--evaluation.vlm.base_url", server.base_url, "--evaluation.samples", 3, *arguments)
        return with_generations(run, videos)

    return make


def with_generations(run: Run, videos: int) -> Run:
    """Grey videos that grow lighter by 1 a frame; the even ones of one character, the odd ones of two."""
    rows = []
    for number in range(videos):
        name = f"generations/v{number}.mp4"
        path = Path(run.storage.uri, name)
        path.parent.mkdir(exist_ok=True)
        film = np.full((9, 48, 64, 3), shade(number), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None] // 3
        write_video(path, film, 16)
        actors = [{"name": "Pip", "action": "hops."}, {"name": "Mr. Plum", "action": "waves."}][: 1 + number % 2]
        row = {
            "generation_id": f"v{number}/0",
            "prompt": f"prompt {number}",
            "characters": actors,
            "scene_style": "cartoon",
        }
        rows.append(row | {"video": name, "fps": 16.0, "seed": 0, "status": "ok", "recipe": f"g{number}"})
    tables.publish(run.storage, tables.GENERATIONS, rows)
    tables.seal(run.storage, tables.GENERATIONS, [row["generation_id"] for row in rows])
    return run


def scores(run: Run) -> dict[tuple[int, str], tables.Row]:
    rows = tables.read(run.storage, tables.SCORES, status=None)
    return {(int(row["generation_id"][1]), row["metric"]): row for row in rows}


def test_every_video_gets_a_row_a_metric_whatever_the_judge_does(ray_cluster, make_run, server: JudgeServer) -> None:
    server.answers = {
        (0, "identity_p"): [6, 7, 9],
        (1, "identity_p"): ["refuse"],
        (1, "motion_p"): ["refuse", 4, 6],
        (2, "identity_p"): ["ramble"],
        (2, "style_p"): [11, 0, -1],
        (2, "motion_p"): [7.5, "8", None],
        (3, "style_p"): ["cannot tell"],
        (3, "motion_p"): ["cannot tell", 10, "cannot tell"],
    }
    run = make_run()
    Path(run.storage.uri, "generations/v4.mp4").write_bytes(b"broken")
    Path(run.storage.uri, "generations/v5.mp4").unlink()
    report = stage.run(run)
    rows = scores(run)
    assert list(rows) == [
        (video, metric) for video in range(6) for metric in ("temporal_flicker", "flow_dynamics", *AXES)
    ]
    assert (rows[0, "identity_p"]["value"], rows[0, "identity_p"]["samples"]) == (pytest.approx(22 / 3), 3)
    assert rows[0, "identity_p"]["spread"] == pytest.approx(1.247, abs=1e-3)
    assert rows[0, "identity_p"]["reasoning"] == "saw (0, 'identity_p')"
    assert rows[0, "identity_p"]["judge"] == "viewer" and len(rows[0, "identity_p"]["rubric_hash"]) == 16
    assert (rows[1, "motion_p"]["value"], rows[1, "motion_p"]["samples"]) == (5, 2)
    assert (rows[3, "motion_p"]["value"], rows[3, "motion_p"]["samples"]) == (10, 1)
    assert rows[3, "style_p"]["status"] == "skipped" and rows[3, "style_p"]["error"].startswith("cannot_tell:")
    failed = {key: row["error"].split(":")[0] for key, row in rows.items() if row["status"] == "failed"}
    assert {key: code for key, code in failed.items() if key[0] < 4} == {
        (1, "identity_p"): "refused",
        (2, "identity_p"): "unparseable",
        (2, "style_p"): "unparseable",
        (2, "motion_p"): "unparseable",
    }
    assert {code for key, code in failed.items() if key[0] == 4} == {"not_a_video"}
    assert {code for key, code in failed.items() if key[0] == 5} == {"storage"}
    assert all(row["value"] is None for row in rows.values() if row["status"] != "ok")
    # 8 steps in brightness of 0 or 1, as far as the encoder keeps them
    assert rows[0, "temporal_flicker"]["value"] == pytest.approx(1 - 2 / 8 / 255, abs=0.002)
    assert rows[0, "temporal_flicker"]["judge"] == "temporal_flicker 1"

    assert report.rows_in == report.rows_out == 36
    matrix = report.extra["matrix"]
    assert matrix["identity_p"] == {"single": {"mean": 7.3333, "videos": 1}, "multi": {"mean": 7, "videos": 1}}
    assert matrix["motion_p"] == {"single": {"mean": 7, "videos": 1}, "multi": {"mean": 7.5, "videos": 2}}
    assert report.extra["calls"] == sum(server.asked.values()) == 4 * 4 * 3
    assert report.extra["outcomes"] == {"ok": 35, "refused": 4, "unparseable": 9}

    identity = [text for text in server.texts if "look for:" in text]
    assert len(identity) == 12 and not any("prompt" in text for text in identity), "it would agree too easily"
    assert sum("look for: Pip, Mr. Plum" in text for text in identity) == 6
    assert sum("prompt 1" in text for text in server.texts) == 9


def test_a_second_run_asks_nothing_again_and_a_mended_video_is_scored(
    ray_cluster, make_run, server: JudgeServer
) -> None:
    run = make_run(3)
    whole = Path(run.storage.uri, "generations/v2.mp4").read_bytes()
    Path(run.storage.uri, "generations/v2.mp4").write_bytes(b"broken")
    server.answers = {(1, "style_p"): ["refuse"]}
    stage.run(run)
    before = scores(run)
    asked = sum(server.asked.values())
    again = stage.run(run)
    assert sum(server.asked.values()) == asked
    assert scores(run) == before
    assert again.reused == 18 - 6 - 1 and again.extra["answers_from_cache"] == 3
    Path(run.storage.uri, "generations/v2.mp4").write_bytes(whole)
    stage.run(run)
    assert {row["status"] for key, row in scores(run).items() if key[0] == 2} == {"ok"}
    assert sum(server.asked.values()) == asked + 12


def test_a_video_that_was_never_made_is_skipped_until_it_is(ray_cluster, make_run, server: JudgeServer) -> None:
    run = make_run(2)
    made = tables.read(run.storage, tables.GENERATIONS)
    tables.publish(run.storage, tables.GENERATIONS, [made[1] | {"status": "failed", "error": "generation_failed: NaN"}])
    tables.seal(run.storage, tables.GENERATIONS, ["v0/0", "v1/0"])
    report = stage.run(run)
    assert (report.ok, report.skipped, report.errors) == (6, 6, {"no_video": 6})
    assert "generation_failed: NaN" in scores(run)[1, "identity_p"]["error"]
    tables.publish(run.storage, tables.GENERATIONS, [made[1]])
    tables.seal(run.storage, tables.GENERATIONS, ["v0/0", "v1/0"])
    assert stage.run(run).ok == 12


def test_an_unknown_metric_stops_before_any_work(run_factory, server: JudgeServer) -> None:
    run = with_generations(run_factory("--evaluation.metrics", '["flow_dynamic"]'), 1)
    with pytest.raises(StageError, match=r"unknown metric 'flow_dynamic'; did you mean 'flow_dynamics'"):
        stage.run(run)


def test_a_judge_that_is_away_stops_before_any_work(run_factory) -> None:
    run = with_generations(run_factory("--evaluation.vlm.base_url", "http://127.0.0.1:9/v1"), 1)
    with pytest.raises(VlmError, match="cannot be reached"):
        stage.run(run)
    assert tables.finished(run.storage, tables.SCORES) == {}


def test_no_video_at_all_is_one_clear_line(run_factory) -> None:
    with pytest.raises(tables.TableError, match="run the stage that writes generations"):
        stage.run(run_factory())
    with pytest.raises(StageError, match="there is no video"):
        stage.run(with_generations(run_factory(), 0))
