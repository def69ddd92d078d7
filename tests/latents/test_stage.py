"""The stage on a real Ray: every sample and text becomes a row, and only what is not done is done."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimix_ray import tables, tensors
from mimix_ray.latents import stage
from mimix_ray.run import Run
from mimix_ray.stage import StageError
from mimix_ray.video import write_video
from tests.latents.test_samples import caption_row

IDS = [f"pip_and_momo/e01/{number:08d}" for number in range(5)]


def put_film(run: Run, clip_id: str) -> str:
    """A film of random pixels."""
    name = f"clips/{clip_id}.mp4"
    path = Path(run.storage / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    film = np.random.default_rng(IDS.index(clip_id)).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    write_video(path, film, 16)
    return name


def put_tables(run: Run, recipes: dict[str, str] | None = None, actions: dict[str, str] | None = None) -> None:
    """Clips with captions, as the stages before leave them; told apart where a recipe or an action is given."""
    recipes, actions = recipes or {}, actions or {}
    size = {"frames": 5, "width": 48, "height": 32}
    clips, captions = [], []
    for one in IDS:
        keys = {"clip_id": one, "show": "pip_and_momo", "episode": "e01", "style": "cartoon"}
        video = f"clips/{one}.mp4"
        clips.append({**keys, **size, "video": video, "status": "ok", "recipe": recipes.get(one, "c")})
        captions.append({**caption_row(one, actions.get(one, "hops")), "status": "ok", "recipe": "c"})
    for table, rows in ((tables.CLIPS, clips), (tables.CAPTIONS, captions)):
        tables.publish(run.storage, table, rows)
        tables.seal(run.storage, table, IDS)


@pytest.fixture
def open_run(run_factory: Callable[..., Run], base_path: Path) -> Callable[..., Run]:
    def make(*arguments: str) -> Run:
        few = ("--latents.cpus", 1, "--latents.workers", 1)
        return run_factory("--backbone.path", base_path, "--backbone.dtype", "fp32", *few, *arguments)

    return make


def shards(run: Run, table: tables.Table) -> dict[str, str]:
    """Shard by key of the rows that are ok; each must hold what its row says, and no other shard may be there."""
    rows = {row[table.key]: row for row in tables.read(run.storage, table)}
    for key, row in rows.items():
        found = tensors.read(run.storage, row["shard"], row["row_group"], key)
        assert list(found.shape) == (row["shape"] if table is tables.LATENTS else [row["tokens"], 128])
    assert set(run.storage.list(f"{table.name}/shards")) == {row["shard"] for row in rows.values()}
    return {key: row["shard"] for key, row in rows.items()}


@pytest.mark.soak
def test_only_what_has_changed_is_encoded_again(
    ray_cluster: str, open_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "VIDEOS", 2)
    monkeypatch.setattr(stage, "TEXTS", 3)
    run = open_run()
    put_tables(run)
    for one in IDS[:4]:
        put_film(run, one)
    run.storage.write_bytes(f"clips/{IDS[4]}.mp4", b"broken")
    report = stage.run(run)
    assert (report.rows_in, report.ok, report.failed, report.reused) == (5, 4, 1, 0)
    assert report.errors == {"not_a_video": 1}
    assert report.extra == {"texts_encoded": 6, "texts_reused": 0, "texts_failed": 0, "texts_at_full_length": 0}
    assert [row["sample_id"] for row in tables.read(run.storage, tables.LATENTS, status=None)] == IDS
    latents, texts = shards(run, tables.LATENTS), shards(run, tables.TEXTS)
    assert set(texts) == {"empty", *(f"{one}/full" for one in IDS)}
    assert len(set(latents.values())) == 2, "a shard a block; the broken one's block has none"

    # Another video of the first, another caption of the second, and one more format. The broken film is mended. A shard
    # has gone, and takes its rows along. A worker died before it could publish the rows of its shard.
    run = open_run("--latents.formats", '["full", "plain"]')
    put_film(run, IDS[4])
    put_tables(run, recipes={IDS[0]: "cut again"}, actions={IDS[1]: "sleeps"})
    run.storage.delete(latents[IDS[3]])
    run.storage.write_bytes("latents/shards/nobodys.parquet", b"x")
    report = stage.run(run)
    lost = {one for one in latents if latents[one] == latents[IDS[3]]}
    again = {IDS[0], IDS[4], *lost}
    assert (report.ok, report.failed, report.reused) == (5, 0, 5 - len(again)) and len(again) < 5
    assert (report.extra["texts_encoded"], report.extra["texts_reused"]) == (6, 5)
    new_latents, new_texts = shards(run, tables.LATENTS), shards(run, tables.TEXTS)
    assert {key for key in new_latents if new_latents[key] != latents.get(key)} == again
    plain = {f"{one}/plain" for one in IDS}
    assert {key for key in new_texts if new_texts[key] != texts.get(key)} == {f"{IDS[1]}/full", *plain}

    report = stage.run(run)
    assert (report.ok, report.reused, report.extra["texts_reused"]) == (5, 5, 11)
    assert shards(run, tables.LATENTS) == new_latents and shards(run, tables.TEXTS) == new_texts


def test_nothing_to_encode_and_no_base_model_end_at_once(
    run_factory: Callable[..., Run], open_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = open_run()
    with pytest.raises(tables.TableError, match="clips"):
        stage.run(run)
    put_tables(run)
    with pytest.raises(StageError, match=r"backbone\.path"):
        stage.run(run_factory("--backbone.path", tmp_path / "nowhere"))
