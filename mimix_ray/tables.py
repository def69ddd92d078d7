"""The Arrow schema of every table that one stage hands the next, and how tables are written and read.

A stage's table lives in `<root>/<stage>/`. While the stage runs, finished rows are published in small parts; when it
ends, the table is sealed into one file that holds exactly the rows of this run. The same command run again reads the
parts and the sealed file, keeps every finished row whose `recipe` still holds, and redoes the rest.

Columns that every table has:
    status  `ok` | `failed` | `skipped`.
    error   null for `ok`; else `code: what, and what to do`.
    recipe  hash of what made the row (config and input rows): a row is done while its recipe still holds.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_ray.storage import Storage, StorageError

STATUSES = ("ok", "failed", "skipped")
Row = dict[str, Any]


class TableError(ValueError):
    """Rows that do not fit their table, or a table that is not there; the message says which and what to do."""


class Identified(Protocol):
    """A stage's config."""

    def identity(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Table:
    """One stage's table: its name (the folder), its key column and its schema."""

    name: str
    key: str
    schema: pa.Schema


def _column(name: str, kind: pa.DataType, doc: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


def _table(name: str, key: str, *columns: pa.Field) -> Table:
    common = (
        _column("status", pa.string(), "ok | failed | skipped", nullable=False),
        _column("error", pa.string(), "null when ok; else `code: what, and what to do`"),
        _column("recipe", pa.string(), "hash of the config and input rows that made this row", nullable=False),
    )
    return Table(name, key, pa.schema([*columns, *common]))


CHARACTERS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("action", pa.string())]))
BOX = pa.list_(pa.float32(), 4)

CLIPS = _table(
    "clips",
    "clip_id",
    _column("clip_id", pa.string(), "<show>/<episode>/<start in ms, 8 digits>; no start for an episode's row", False),
    _column("show", pa.string(), "show id of the universe", nullable=False),
    _column("episode", pa.string(), "episode id, unique in its show", nullable=False),
    _column("style", pa.string(), "cartoon | realistic, the show's", nullable=False),
    _column("start_s", pa.float64(), "first frame's time in the episode, seconds"),
    _column("end_s", pa.float64(), "end of the last frame in the episode, seconds"),
    _column("shot", pa.int32(), "number of its first frame's shot in the episode, from 0"),
    _column("n_cuts", pa.int32(), "cuts inside the clip; 0 with clips.within: shot"),
    _column("video", pa.string(), "the clip's mp4, relative to the run's root"),
    _column("frames", pa.int32(), "frames, counted after encoding"),
    _column("fps", pa.float32(), "frames a second"),
    _column("width", pa.int32(), "pixels"),
    _column("height", pa.int32(), "pixels"),
    _column("source", pa.string(), "address of the episode's file"),
    _column("episode_s", pa.float64(), "length of the whole episode's picture, seconds; null: it could not be read"),
)

CAPTIONS = _table(
    "captions",
    "clip_id",
    _column("clip_id", pa.string(), "the clip", nullable=False),
    _column("characters", CHARACTERS, "who acts, in order, and what each does; empty: no known character"),
    _column("setting", pa.string(), "where it plays, a few words"),
    _column("scene_style", pa.string(), "cartoon | realistic, from the show"),
    _column("text", pa.string(), "the caption in format `full`"),
    _column("confidence", pa.float32(), "the VLM's own, 0..1"),
    _column("style_disagrees", pa.bool_(), "the VLM saw another scene style than the show's"),
    _column("model", pa.string(), "VLM that answered"),
    _column("prompt_hash", pa.string(), "hash of the prompt text"),
    _column("tokens_in", pa.int32(), "tokens of the request"),
    _column("tokens_out", pa.int32(), "tokens of the answer"),
)

COMPOSITES = _table(
    "composites",
    "composite_id",
    _column("composite_id", pa.string(), "composites/<8-digit number>", nullable=False),
    _column("subject_clip", pa.string(), "clip the character is cut from", nullable=False),
    _column("character", pa.string(), "the pasted character's name", nullable=False),
    _column("background_clip", pa.string(), "clip of the other style that it is pasted into", nullable=False),
    _column("box", BOX, "subject's box at `box_frame`: x0, y0, x1, y1, shares of width and height"),
    _column("box_frame", pa.int32(), "frame of the subject clip in which the box was found"),
    _column("masks", pa.string(), "mask backend"),
    _column("mask_area", pa.float32(), "mean mask area, share of the frame"),
    _column("mask_flicker", pa.float32(), "1 - mean IoU of neighbouring masks, 0 is steady"),
    _column("scale", pa.float32(), "size of the pasted subject against its source"),
    _column("shift", pa.list_(pa.float32(), 2), "how far the subject moved right and down, shares of width and height"),
    _column("video", pa.string(), "the composite's mp4, relative to the run's root"),
    _column("mask_video", pa.string(), "the masks as grey mp4 at the subject's own place, relative to the run's root"),
    _column("characters", CHARACTERS, "as in captions"),
    _column("setting", pa.string(), "as in captions"),
    _column("scene_style", pa.string(), "cartoon | realistic: the background's"),
    _column("text", pa.string(), "the caption in format `full`"),
)

LATENTS = _table(
    "latents",
    "sample_id",
    _column("sample_id", pa.string(), "clip_id or composite_id", nullable=False),
    _column("kind", pa.string(), "clip | composite", nullable=False),
    _column("show", pa.string(), "show of the clip; the background's for a composite"),
    _column("shard", pa.string(), "file of tensors (`mimix_ray.tensors`) that holds it; relative to the root"),
    _column("row_group", pa.int32(), "its place there"),
    _column("shape", pa.list_(pa.int32(), 4), "C, f, h, w of the normalised latent, bf16"),
)

TEXTS = _table(
    "texts",
    "text_id",
    _column("text_id", pa.string(), "<sample_id>/<format>; `empty`: the empty prompt", nullable=False),
    _column("sample_id", pa.string(), "the sample; null for the empty prompt"),
    _column("format", pa.string(), "caption format; null for the empty prompt"),
    _column("text", pa.string(), "what was encoded", nullable=False),
    _column("shard", pa.string(), "file of tensors (`mimix_ray.tensors`) that holds it; relative to the root"),
    _column("row_group", pa.int32(), "its place there"),
    _column("tokens", pa.int32(), "L of the unpadded embedding [L, D], bf16"),
)

GENERATIONS = _table(
    "generations",
    "generation_id",
    _column("generation_id", pa.string(), "<prompt id>/<seed>", nullable=False),
    _column("prompt", pa.string(), "the prompt as given to the text encoder", nullable=False),
    _column("characters", CHARACTERS, "who should act, and how"),
    _column("scene_style", pa.string(), "cartoon | realistic"),
    _column("seed", pa.int64(), "seed of the noise"),
    _column("adapter", pa.string(), "hash of the adapter's file; null: base model"),
    _column("video", pa.string(), "the mp4, relative to the run's root"),
    _column("frames", pa.int32(), "frames"),
    _column("fps", pa.float32(), "frames a second"),
    _column("width", pa.int32(), "pixels"),
    _column("height", pa.int32(), "pixels"),
    _column("seconds", pa.float32(), "wall time of the generation"),
)

SCORES = _table(
    "scores",
    "score_id",
    _column("score_id", pa.string(), "<generation_id>/<metric>", nullable=False),
    _column("generation_id", pa.string(), "the video", nullable=False),
    _column("metric", pa.string(), "identity_p | motion_p | style_p | interaction_p | a video metric", nullable=False),
    _column("value", pa.float64(), "mean over samples; null when not ok"),
    _column("spread", pa.float64(), "standard deviation over the judge's samples; null for video metrics"),
    _column("samples", pa.int32(), "answers that counted"),
    _column("reasoning", pa.string(), "the judge's words, first sample"),
    _column("judge", pa.string(), "judge model, or the metric's code version"),
    _column("rubric_hash", pa.string(), "hash of the rubric text; null for video metrics"),
)

TABLES = {t.name: t for t in (CLIPS, CAPTIONS, COMPOSITES, LATENTS, TEXTS, GENERATIONS, SCORES)}


def recipe(config: Identified, *inputs: str) -> str:
    """16 hex digits that change when a row's config or inputs (their recipes, a file's fingerprint) change.

    Only what shapes results counts (`identity()` of the stage's config): workers, addresses and time-outs do not.
    """
    text = json.dumps([config.identity(), *inputs], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def error_text(code: str, what: str) -> str:
    """An `error` value: `code: what`, on one line and at most 500 characters."""
    return f"{code}: {' '.join(str(what).split())}"[:500]


def to_arrow(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of exactly the table's schema.

    Columns that a row leaves out are null. Raises TableError on an unknown column, a missing required value, a bad
    status, an `ok` row with an error or a bad row without one, and on a key that occurs twice.
    """
    names = set(table.schema.names)
    required = [field.name for field in table.schema if not field.nullable]
    seen: set[str] = set()
    for row in rows:
        where = f"table {table.name}, row {row.get(table.key)!r}"
        if unknown := set(row) - names:
            raise TableError(f"{where}: unknown columns {sorted(unknown)}; known: {', '.join(table.schema.names)}")
        if missing := [name for name in required if row.get(name) is None]:
            raise TableError(f"{where}: no value for {missing}")
        if row["status"] not in STATUSES:
            raise TableError(f"{where}: status {row['status']!r} is not one of {', '.join(STATUSES)}")
        if (row["status"] == "ok") != (row.get("error") is None):
            raise TableError(f"{where}: status {row['status']!r} does not go with error {row.get('error')!r}")
        if row[table.key] in seen:
            raise TableError(f"{where}: the key occurs twice")
        seen.add(row[table.key])
    try:
        return pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows], schema=table.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TableError(f"table {table.name}: {error}") from None


def publish(storage: Storage, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Adds finished rows as one part, whole or not at all; of rows with one key, the part published last counts."""
    if not rows:
        return
    keys = hashlib.sha256("\n".join(str(row[table.key]) for row in rows).encode()).hexdigest()[:16]
    _write(storage, f"{table.name}/parts/{time.time_ns():020d}-{keys}.parquet", to_arrow(table, rows))
    sealed = f"{table.name}/table.parquet"
    if storage.exists(sealed):
        # The table is being made anew: its rows are parts again, the oldest, so that nobody reads half of old and new.
        try:
            storage.write_bytes(f"{table.name}/parts/{0:020d}-sealed.parquet", storage.read_bytes(sealed))
        except StorageError:
            if storage.exists(sealed):
                raise
            return  # another worker has made them a part
        storage.delete(sealed)


def finished(storage: Storage, table: Table) -> dict[str, Row]:
    """Every row published so far by key, sealed or not, of this run of the stage or an earlier one."""
    return {row[table.key]: row for part in parts(storage, table) for row in part}


def parts(storage: Storage, table: Table) -> Iterator[list[Row]]:
    """The rows published so far, part by part, the oldest first; what was sealed comes before all."""
    sealed = f"{table.name}/table.parquet"
    for name in [sealed] * storage.exists(sealed) + storage.list(f"{table.name}/parts", ".parquet"):
        yield _read(storage, name, table).to_pylist()


def seal(storage: Storage, table: Table, keys: Iterable[str]) -> list[Row]:
    """Ends a stage: one file with exactly the rows of `keys`, in that order. Returns the rows.

    Raises TableError when a key has no row, so that nothing is lost in silence.
    """
    rows = finished(storage, table)
    wanted = list(dict.fromkeys(keys))
    if lost := [key for key in wanted if key not in rows]:
        raise TableError(f"table {table.name}: {len(lost)} rows are missing, first {lost[0]!r}; run it again")
    kept = [rows[key] for key in wanted]
    _write(storage, f"{table.name}/table.parquet", to_arrow(table, kept))
    for part in storage.list(f"{table.name}/parts", ".parquet"):
        storage.delete(part)
    return kept


def read(storage: Storage, table: Table, status: str | None = "ok") -> list[Row]:
    """The rows of a sealed table; `status=None` gives failed and skipped rows too.

    Raises TableError when the stage that writes the table has not ended yet.
    """
    name = f"{table.name}/table.parquet"
    if not storage.exists(name):
        raise TableError(f"{storage.uri}/{name} is not there: run the stage that writes {table.name} to its end first")
    rows = _read(storage, name, table).to_pylist()
    return [row for row in rows if status is None or row["status"] == status]


def _write(storage: Storage, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.write_bytes(name, buffer.getvalue())


def _read(storage: Storage, name: str, table: Table) -> pa.Table:
    found = pq.read_table(pa.BufferReader(storage.read_bytes(name)))
    if not found.schema.equals(table.schema):
        raise TableError(
            f"{storage.uri}/{name} has other columns than table {table.name} of this version; remove it and run again"
        )
    return found
