"""The stage on a real Ray: every sample becomes a row, and only what is not done is done."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimix_ray import tables
from mimix_ray.latents import stage
from mimix_ray.run import Run
from mimix_ray.stage import StageError
from mimix_ray.video import write_video
from tests.latents.test_samples import caption_row


def publish_inputs(run: Run, clips: int) -> list[str]:
    """Films of random pixels with captions, as the stages before leave them."""
    ids = [f"pip_and_momo/e01/{number:08d}" for number in range(clips)]
    rows = []
    for number, clip_id in enumerate(ids):
        film = np.random.default_rng(number).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
        path = Path(run.storage / f"clips/{clip_id}.mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, film, 16)
        keys = {"clip_id": clip_id, "show": "pip_and_momo", "episode": "e01", "style": "cartoon"}
        keys |= {"frames": 5, "width": 48, "height": 32}
        rows.append({**keys, "video": f"clips/{clip_id}.mp4", "status": "ok", "recipe": "c"})
    captions = [{**caption_row(clip_id), "status": "ok", "recipe": "c"} for clip_id in ids]
    for table, found in ((tables.CLIPS, rows), (tables.CAPTIONS, captions)):
        tables.publish(run.storage, table, found)
        tables.seal(run.storage, table, ids)
    return ids


@pytest.fixture
def small_run(run_factory: Callable[..., Run], base_path: Path) -> Run:
    return run_factory("--backbone.path", base_path, "--backbone.dtype", "fp32", "--latents.cpus", 1)


def test_rows_files_and_resume(ray_cluster: str, small_run: Run) -> None:
    ids = publish_inputs(small_run, 5)
    Path(small_run.storage / f"clips/{ids[3]}.mp4").write_bytes(b"broken")
    report = stage.run(small_run)
    assert (report.rows_in, report.ok, report.failed, report.reused) == (5, 4, 1, 0)
    assert report.errors == {"not_a_video": 1}
    rows = tables.read(small_run.storage, tables.LATENTS, status=None)
    assert [row["sample_id"] for row in rows] == ids
    assert rows[0]["shape"] == [16, 2, 4, 6]

    Path(small_run.storage / rows[0]["texts"]).unlink()
    report = stage.run(small_run)
    assert (report.ok, report.failed, report.reused) == (4, 1, 3), "only the failed one and the lost one are redone"


def test_nothing_to_encode_and_no_base_model_end_at_once(
    run_factory: Callable[..., Run], small_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(tables.TableError, match="clips"):
        stage.run(small_run)
    publish_inputs(small_run, 1)
    with pytest.raises(StageError, match=r"backbone\.path"):
        stage.run(run_factory("--backbone.path", tmp_path / "nowhere"))
