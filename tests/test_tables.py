"""Tables on a folder and on S3: what is published stays, what is sealed is exactly what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimix_ray import tables
from mimix_ray.config import ClipsConfig
from mimix_ray.storage import Storage
from mimix_ray.tables import CAPTIONS, CLIPS, TABLES, TableError


def clip(number: int, **values: Any) -> tables.Row:
    row = {"clip_id": f"tom/e01/{number:08d}", "show": "tom", "episode": "e01", "style": "cartoon"}
    return {**row, "status": "ok", "recipe": "r1", "start_s": number / 1000, "frames": 81, **values}


def ids(rows: list[tables.Row]) -> list[str]:
    return [row["clip_id"] for row in rows]


def test_published_rows_are_finished_before_the_table_is_sealed(storage: Storage) -> None:
    tables.publish(storage, CLIPS, [clip(1), clip(2)])
    tables.publish(storage, CLIPS, [clip(3, status="failed", error="not_a_video: e01.mp4; remove it")])
    done = tables.finished(storage, CLIPS)
    assert sorted(done) == ids([clip(1), clip(2), clip(3)])
    assert done[clip(1)["clip_id"]]["frames"] == 81
    assert done[clip(1)["clip_id"]]["video"] is None
    with pytest.raises(TableError, match="run the stage that writes clips"):
        tables.read(storage, CLIPS)


def test_a_sealed_table_holds_exactly_the_keys_in_their_order(storage: Storage) -> None:
    tables.publish(storage, CLIPS, [clip(number) for number in range(5)])
    wanted = ids([clip(3), clip(0), clip(4)])
    assert ids(tables.seal(storage, CLIPS, wanted)) == wanted
    assert ids(tables.read(storage, CLIPS)) == wanted
    assert storage.list("clips/parts") == []
    assert sorted(tables.finished(storage, CLIPS)) == sorted(wanted)


def test_failed_and_skipped_rows_are_read_when_asked_for(storage: Storage) -> None:
    rows = [clip(1), clip(2, status="failed", error="a: b"), clip(3, status="skipped", error="c: d")]
    tables.publish(storage, CLIPS, rows)
    tables.seal(storage, CLIPS, ids(rows))
    assert ids(tables.read(storage, CLIPS)) == ids(rows[:1])
    assert ids(tables.read(storage, CLIPS, status=None)) == ids(rows)
    assert tables.read(storage, CLIPS, status="failed")[0]["error"] == "a: b"


def test_a_second_run_adds_redoes_and_drops(storage: Storage) -> None:
    tables.publish(storage, CLIPS, [clip(1), clip(2), clip(3)])
    tables.seal(storage, CLIPS, ids([clip(1), clip(2), clip(3)]))
    tables.publish(storage, CLIPS, [clip(2, recipe="r2", frames=49), clip(4)])
    rows = tables.seal(storage, CLIPS, ids([clip(4), clip(2), clip(1)]))
    assert [(row["clip_id"], row["recipe"], row["frames"]) for row in rows] == [
        (clip(4)["clip_id"], "r1", 81),
        (clip(2)["clip_id"], "r2", 49),
        (clip(1)["clip_id"], "r1", 81),
    ]


def test_a_replayed_block_counts_once_and_its_last_word_stands(storage: Storage) -> None:
    for frames in (1, 2, 3):
        tables.publish(storage, CLIPS, [clip(1, frames=frames), clip(2)])
    rows = tables.seal(storage, CLIPS, ids([clip(1), clip(2), clip(1)]))
    assert [row["frames"] for row in rows] == [3, 81]


def test_sealing_twice_changes_nothing(storage: Storage) -> None:
    tables.publish(storage, CLIPS, [clip(1)])
    first = tables.seal(storage, CLIPS, ids([clip(1)]))
    assert tables.seal(storage, CLIPS, ids([clip(1)])) == first == tables.read(storage, CLIPS)


def test_a_lost_row_stops_the_seal_and_keeps_what_is_there(storage: Storage) -> None:
    tables.publish(storage, CLIPS, [clip(1)])
    with pytest.raises(TableError, match=r"1 rows are missing, first 'tom/e01/00000002'; run it again"):
        tables.seal(storage, CLIPS, ids([clip(1), clip(2)]))
    assert ids(list(tables.finished(storage, CLIPS).values())) == ids([clip(1)])


WORKER = """
import os, sys
from mimix_ray import tables
from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage
from tests.test_tables import clip, ids
storage = Storage.open(sys.argv[1], StorageConfig.model_validate_json(sys.argv[2]))
tables.publish(storage, tables.CLIPS, [clip(1), clip(2)])
if sys.argv[3] == "before the table is written":
    os._exit(9)
Storage.delete = lambda *_: os._exit(9)
tables.seal(storage, tables.CLIPS, ids([clip(1), clip(2)]))
"""


@pytest.mark.parametrize("moment", ["before the table is written", "before the parts are removed"])
def test_a_driver_killed_around_the_seal_loses_and_doubles_nothing(storage: Storage, moment: str) -> None:
    arguments = [sys.executable, "-c", WORKER, storage.uri, storage.config.model_dump_json(), moment]
    assert subprocess.run(arguments, env=dict(os.environ), cwd=os.getcwd()).returncode == 9
    assert sorted(tables.finished(storage, CLIPS)) == ids([clip(1), clip(2)])
    tables.publish(storage, CLIPS, [clip(3)])
    wanted = ids([clip(1), clip(2), clip(3)])
    assert ids(tables.seal(storage, CLIPS, wanted)) == wanted
    assert storage.list("clips/parts") == []


def test_nested_columns_come_back_as_they_went(storage: Storage) -> None:
    characters = [{"name": "Tom", "action": "runs, “fast” [very]"}, {"name": "Nan Fern", "action": ""}]
    row = {"clip_id": "a/b/00000000", "characters": characters, "confidence": 0.5, "status": "ok", "recipe": "r"}
    tables.publish(storage, CAPTIONS, [row])
    found = tables.seal(storage, CAPTIONS, [row["clip_id"]])[0]
    assert found["characters"] == characters and found["confidence"] == 0.5 and found["tokens_in"] is None


def test_a_table_of_another_version_is_refused(storage: Storage, tmp_path) -> None:
    pq.write_table(pa.table({"clip_id": ["x"]}), tmp_path / "old.parquet")
    storage.upload(tmp_path / "old.parquet", "clips/table.parquet")
    with pytest.raises(TableError, match="other columns than table clips"):
        tables.read(storage, CLIPS)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([clip(1, colour="red")], r"unknown columns \['colour'\]"),
        ([clip(1, show=None)], r"no value for \['show'\]"),
        ([clip(1, status="fine")], "status 'fine' is not one of ok, failed, skipped"),
        ([clip(1, error="x: y")], "does not go with error"),
        ([clip(1, status="failed")], "does not go with error None"),
        ([clip(1), clip(1)], "the key occurs twice"),
        ([clip(1, frames="many")], "table clips"),
    ],
    ids=["unknown column", "missing value", "bad status", "ok with error", "failed without", "twice", "wrong type"],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, rows: list[tables.Row], complaint: str) -> None:
    storage = Storage.open(str(tmp_path))
    with pytest.raises(TableError, match=complaint):
        tables.publish(storage, CLIPS, rows)
    assert tables.finished(storage, CLIPS) == {}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_column_says_what_it_is(table: tables.Table) -> None:
    assert table.schema.names[-3:] == ["status", "error", "recipe"]
    assert not table.schema.field(table.key).nullable
    assert all((field.metadata or {}).get(b"doc") for field in table.schema)


def test_recipes_follow_what_shapes_a_row_and_nothing_else() -> None:
    base = tables.recipe(ClipsConfig(), "episode fingerprint")
    assert base == tables.recipe(ClipsConfig(), "episode fingerprint")
    assert (
        len({base, tables.recipe(ClipsConfig(fps=12), "episode fingerprint"), tables.recipe(ClipsConfig(), "new")}) == 3
    )
    assert tables.recipe(ClipsConfig(), "a", "b") != tables.recipe(ClipsConfig(), "ab")


def test_error_text_is_one_short_line() -> None:
    assert tables.error_text("not_a_video", "the file\n  is text") == "not_a_video: the file is text"
    assert len(tables.error_text("x", "y" * 1000)) == 500
