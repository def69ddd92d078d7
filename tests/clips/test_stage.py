"""The stage on a real Ray: bad episodes are rows, a rerun does nothing, a new episode is added."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from mimix_ray import tables
from mimix_ray.clips import rows as clip_rows
from mimix_ray.clips import stage
from mimix_ray.clips.episode import Piece
from mimix_ray.config import ClipsConfig, RunConfig
from mimix_ray.run import Run
from mimix_ray.stage import StageError
from mimix_ray.storage import Storage
from mimix_ray.universe import Episode, load_universe
from mimix_ray.video import count_frames, write_video
from tests.clips.footage import episode, shot_of


def rows_of(episode: Episode, recipe: str, config: RunConfig, storage: Storage) -> list[tables.Row]:
    """An episode cut in one piece."""
    cut = clip_rows.cut_piece(episode, Piece(), recipe, config, storage)
    return clip_rows.episode_rows(episode, recipe, [cut], config.clips)


UNIVERSE = """
name: synthetic
shows:
  - {id: squares, title: Squares, style: cartoon, episodes: {videos: "{root}/../footage/squares/*.*"}}
  - {id: bars, title: Bars, style: realistic, episodes: {videos: "{root}/../footage/bars/*.mp4"}}
"""


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    return tmp_path / "footage"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "universe.yaml").write_text(UNIVERSE)
    config = RunConfig(
        root=str(tmp_path / "run"),
        universe=str(tmp_path / "universe.yaml"),
        clips=ClipsConfig(sizes=("192x96",)),
    )
    return Run(config, load_universe(config.universe), Storage.open(config.root))


def modified(run: Run) -> dict[str, int]:
    """Modification time of every clip."""
    root = Path(run.storage.uri)
    return {name: (root / name).stat().st_mtime_ns for name in run.storage.list("clips/videos")}


def test_from_episodes_to_clips_and_again(ray_cluster: str, run: Run, footage: Path) -> None:
    episode(footage / "squares" / "e01.mp4", [5.5, 3.0, 11.0])
    episode(footage / "squares" / "Spaß und 片.mp4", [6.0])
    (footage / "squares" / "e02.mp4").write_text("this is a script and no video\n" * 50)
    episode(footage / "squares" / "short.mp4", [2.0, 2.0])
    (footage / "bars").mkdir()
    (footage / "bars" / "e01.mp4").touch()

    report = stage.run(run)
    rows = tables.read(run.storage, tables.CLIPS, status=None)
    ok = [row for row in rows if row["status"] == "ok"]
    assert [row["clip_id"] for row in rows] == [
        "squares/Spaß-und-片/00000000",
        "squares/e01/00000000",
        *[row["clip_id"] for row in ok[2:]],
        "squares/e02",
        "squares/short",
        "bars/e01",
    ]
    assert {row["clip_id"]: (row["error"] or "").split(":")[0] for row in rows if row["status"] != "ok"} == {
        "squares/e02": "not_a_video",
        "squares/short": "no_window",
        "bars/e01": "empty_file",
    }
    assert [row["shot"] for row in ok] == [0, 0, 2, 2]
    for row in ok:
        assert row["clip_id"] == f"squares/{row['episode']}/{round(row['start_s'] * 1000):08d}"
        assert row["video"] == f"clips/videos/{row['clip_id']}-{row['recipe'][:8]}.mp4" and row["style"] == "cartoon"
        assert (row["frames"], row["fps"], row["width"], row["height"]) == (81, 16, 192, 96)
        with run.storage.local(row["video"]) as path:
            assert count_frames(path) == 81
    assert (report.rows_in, report.rows_out, report.ok, report.failed, report.skipped) == (5, 7, 4, 2, 1)
    assert report.extra["yield_percent"] == pytest.approx(100 * 4 * 81 / 16 / (19.5 + 6 + 4), abs=0.5)
    assert json.loads(run.storage.read_bytes("reports/clips.json"))["errors"]["empty_file"] == 1
    sheet = Image.open(Path(run.storage.uri) / "reports" / "clips.jpg")
    assert sheet.width > 4 * 256 and shot_of(np.asarray(sheet)[8:140, 8:260]) == 0

    before = modified(run)
    again = stage.run(run)
    assert modified(run) == before  # nothing is encoded twice
    assert again.reused == 5 and again.ok == 4  # the two failed episodes were tried once more
    assert tables.read(run.storage, tables.CLIPS, status=None) == rows

    # A failed episode is mended, a new one comes, one clip is lost.
    episode(footage / "bars" / "e01.mp4", [6.0])
    episode(footage / "bars" / "e02.mp4", [6.0])
    lost = ok[0]["video"]
    run.storage.delete(lost)
    third = stage.run(run)
    after = modified(run)
    assert (third.ok, third.failed, third.skipped, third.reused) == (6, 1, 1, 4)
    new = {name.rpartition("-")[0] for name in after if after[name] != before.get(name)}
    assert new == {lost.rpartition("-")[0], "clips/videos/bars/e01/00000000", "clips/videos/bars/e02/00000000"}

    # Another config makes other clips; the table holds those alone.
    changed = Run(
        run.config.model_copy(update={"clips": ClipsConfig(frames=49, sizes=("64x32",))}), run.universe, run.storage
    )
    assert stage.run(changed).reused == 0
    assert {row["frames"] for row in tables.read(run.storage, tables.CLIPS)} == {49}


def test_a_run_that_died_before_its_end_goes_on(ray_cluster: str, run: Run, footage: Path) -> None:
    """One episode was published, of another one of three pieces was there, cut on other cores; nothing was sealed."""
    for name in ("e01", "e02"):
        episode(footage / "squares" / f"{name}.mp4", [6.0, 6.0, 6.0])
    first, second = run.universe.episodes(run.storage.uri, run.config.storage)
    task = {"episode": first.model_dump_json(), "recipe": clip_rows.recipe(first, run.config), "number": 0, "of": 1}
    cut = json.loads(stage.cut_and_keep(task, run)["cut"])
    tables.publish(run.storage, tables.CLIPS, clip_rows.episode_rows(first, task["recipe"], [cut], run.config.clips))
    of = {"number": 1, "of": int(ray.cluster_resources()["CPU"]) + 1}
    stage.cut_and_keep({"episode": second.model_dump_json(), "recipe": clip_rows.recipe(second, run.config), **of}, run)
    before = modified(run)
    report = stage.run(run)
    assert (report.ok, report.reused) == (6, 3) and before.items() <= modified(run).items()
    assert [row["shot"] for row in tables.read(run.storage, tables.CLIPS)] == [0, 1, 2] * 2
    stage.cut_and_keep(task, run)  # a block that Ray replays
    assert stage.run(run).rows_out == 6
    assert run.storage.list("clips/pieces") == []


@pytest.mark.soak
def test_an_episode_of_which_another_config_left_some_rows_is_cut_again(
    ray_cluster: str, run: Run, footage: Path
) -> None:
    """A run with another config died in its middle: its rows and the first run's share some ids, not all."""
    episode(footage / "squares" / "e01.mp4", [16.0])
    episode(footage / "bars" / "e01.mp4", [6.0])
    stage.run(run)
    first = tables.read(run.storage, tables.CLIPS, status=None)
    one = run.universe.episodes(run.storage.uri, run.config.storage)[0]
    other = run.config.model_copy(update={"clips": run.config.clips.model_copy(update={"frames": 49})})
    tables.publish(run.storage, tables.CLIPS, rows_of(one, clip_rows.recipe(one, other), other, run.storage))
    assert stage.run(run).reused == 1
    assert tables.read(run.storage, tables.CLIPS, status=None) == first
    assert all(run.storage.exists(row["video"]) for row in first)

    # Footage that cannot be found for a while costs no clips.
    (footage / "bars").rename(footage / "away")
    assert stage.run(run).rows_out == len(first) - 1
    assert all(run.storage.exists(row["video"]) for row in first)


def test_no_episode_is_one_clear_line(run: Run) -> None:
    with pytest.raises(StageError, match=r"no video matches .*squares/\*\.\*.*universe\.yaml") as error:
        stage.run(run)
    assert "\n" not in str(error.value)


def test_storage_that_fails_is_a_row(run: Run, footage: Path) -> None:
    path = episode(footage / "squares" / "e01.mp4", [6.0])
    (one,) = run.universe.episodes(run.storage.uri, run.config.storage)
    path.unlink()
    (row,) = rows_of(one, "r", run.config, run.storage)
    assert (row["clip_id"], row["status"]) == ("squares/e01", "failed") and row["error"].startswith("storage: ")
    assert clip_rows.recipe(one, run.config) != clip_rows.recipe(
        one.model_copy(update={"id": "x", "video": "/y"}), run.config
    )


def test_one_frame_is_skipped(run: Run, footage: Path) -> None:
    (footage / "squares").mkdir(parents=True)
    write_video(footage / "squares" / "e01.mp4", np.zeros((1, 64, 64, 3), np.uint8), 16)
    (one,) = run.universe.episodes(run.storage.uri, run.config.storage)
    (row,) = rows_of(one, "r", run.config, run.storage)
    assert row["status"] == "skipped" and row["error"].startswith("no_window: no shot of 5.19 s in 0.06 s")


def test_from_storage_to_storage(ray_cluster: str, storage: Storage, tmp_path: Path) -> None:
    """Input and output on S3 as in a folder; a film that is replaced is cut again."""
    storage.upload(episode(tmp_path / "e01.mp4", [6.0]), "footage/squares/e 01.mp4")
    (tmp_path / "universe.yaml").write_text(UNIVERSE.replace("{root}/..", "{root}"))
    config = RunConfig(root=storage.uri, storage=storage.config, clips=ClipsConfig(sizes=("192x96",)))
    run = Run(config, load_universe(str(tmp_path / "universe.yaml")), storage)
    stage.run(run)
    (row,) = tables.read(storage, tables.CLIPS)
    assert (row["clip_id"], row["source"]) == ("squares/e-01/00000000", storage / "footage/squares/e 01.mp4")
    with storage.local(row["video"]) as path:
        assert count_frames(path) == 81
    assert storage.exists("reports/clips.jpg") and stage.run(run).reused == 1
    storage.write_bytes("footage/squares/e 01.mp4", b"no video any more")
    stage.run(run)
    (row,) = tables.read(storage, tables.CLIPS, status=None)
    assert (row["clip_id"], row["status"]) == ("squares/e-01", "failed")
