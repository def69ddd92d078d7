"""The stage on Ray: the miniature's clips through the viewer to composites; faults are rows; a rerun does nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimix_ray import tables, video
from mimix_ray.composites import stage
from mimix_ray.miniature.viewer.app import create_app
from mimix_ray.miniature.world import Actor, Shot, render_shot
from mimix_ray.prompts import Caption, CharacterAction, parse, render
from mimix_ray.stage import StageError
from tests.vlm.hostile import serve

FRAMES = 25
CAST = {
    "pip_and_momo/e01/00000000": ("kitchen", ("Pip", "waves", (0.3, 0.9), (0.3, 0.9), 0.5)),
    "pip_and_momo/e01/00002000": ("garden", None),
    "mr_plum/e01/00000000": ("street", ("Mr. Plum", "waddles", (0.4, 0.92), (0.7, 0.92), 0.75)),
    "mr_plum/e01/00002000": ("park", None),
}


@pytest.fixture(scope="module")
def films():
    """Clip -> frames of one character before a background, or of nobody."""
    films = {}
    for clip_id, (background, actor) in CAST.items():
        actors = (Actor(*actor),) if actor else ()
        shot = Shot(clip_id.split("/")[0], background, actors, FRAMES / 16, 1)
        films[clip_id] = np.stack(list(render_shot(shot, 192, 112, 16)))
    return films


def fill(run, films, captions):
    """The tables and videos that the stages before would have left; `captions`: clip -> (name, action)."""
    clips, told = [], []
    for clip_id, frames in films.items():
        name, show = f"clips/{clip_id}.mp4", run.universe.show(clip_id.split("/")[0])
        path = Path(run.config.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        video.write_video(path, frames, 16)
        both = {"clip_id": clip_id, "status": "ok", "recipe": clip_id}
        clips.append({**both, "show": show.id, "episode": "e01", "style": show.style, "video": name})
        caption = Caption(tuple(CharacterAction(*one) for one in captions.get(clip_id, ())), "a place", show.style)
        told.append({**both, "characters": caption.rows(), "setting": "a place", "text": render(caption)})
    for table, rows in ((tables.CLIPS, clips), (tables.CAPTIONS, told)):
        tables.publish(run.storage, table, rows)
        tables.seal(run.storage, table, list(films))
    return run


TRUE = {
    "pip_and_momo/e01/00000000": [("Pip", "waves a wing")],
    "mr_plum/e01/00000000": [("Mr. Plum", "waddles stiffly along")],
}


@pytest.fixture
def make_run(run_factory):
    def make(base_url, *arguments):
        flags = ["--composites.vlm.base_url", base_url, "--composites.vlm.max_attempts", 1]
        return run_factory(*flags, "--composites.ratio", 0.5, *arguments)

    return make


def test_each_character_goes_into_the_other_world(ray_cluster, make_run, films):
    with serve(create_app()) as base_url:
        run = fill(make_run(base_url), films, TRUE)
        report = stage.run(run)
    assert (report.rows_in, report.rows_out, report.ok) == (4, 2, 2), report.errors
    assert report.extra["directions"] == {"into cartoon": 1, "into realistic": 1}
    rows = {row["character"]: row for row in tables.read(run.storage, tables.COMPOSITES)}
    assert set(rows) == {"Pip", "Mr. Plum"}
    for name, row in rows.items():
        style = "realistic" if name == "Pip" else "cartoon"
        assert films[row["subject_clip"]] is films[next(clip for clip, cast in TRUE.items() if cast[0][0] == name)]
        # Nobody is in the other background of the other style: it is taken.
        assert CAST[row["background_clip"]][1] is None and row["scene_style"] == style
        assert parse(row["text"]) == Caption.from_rows(row["characters"], None, style)
        assert [one["name"] for one in row["characters"]] == [name]
        made = video.read_frames(Path(run.config.root, row["video"]))
        masks = video.read_frames(Path(run.config.root, row["mask_video"]))
        assert made.shape == masks.shape == (FRAMES, 112, 192, 3)
        background = films[row["background_clip"]]
        changed = np.abs(made.astype(int) - background).max(axis=-1) > 60
        assert 0.03 < changed.mean() < 0.3, "the character is there, and the rest is the background"
        assert abs((masks[..., 0] > 127).mean() - row["mask_area"]) < 0.02
    sheet = Image.open(io.BytesIO(run.storage.read_bytes("reports/composites.jpg")))
    assert sheet.width > 4 * 192 and sheet.height > 2 * 112

    # Again, with no endpoint at all: nothing is asked and nothing made.
    again = stage.run(run)
    assert (again.reused, again.ok, again.extra["calls"]) == (2, 2, 0)


def test_faults_are_rows(ray_cluster, make_run, films):
    captions = {clip: TRUE["pip_and_momo/e01/00000000"] for clip in list(CAST)[:2]} | {
        clip: TRUE["mr_plum/e01/00000000"] for clip in list(CAST)[2:]
    }
    with serve(create_app()) as base_url:
        run = fill(make_run(base_url, "--composites.ratio", 1), films, captions)
        Path(run.config.root, "clips/pip_and_momo/e01/00000000.mp4").write_bytes(b"broken")
        report = stage.run(run)
    rows = tables.read(run.storage, tables.COMPOSITES, status=None)
    assert report.rows_out == len(rows) == 4
    broken, nobody = "pip_and_momo/e01/00000000", ("pip_and_momo/e01/00002000", "mr_plum/e01/00002000")
    for row in rows:
        code = (row["error"] or "ok").split(":")[0]
        if broken in (row["subject_clip"], row["background_clip"]):
            assert (row["status"], code) == ("failed", "not_a_video")
        elif row["subject_clip"] in nobody:  # its caption promised somebody
            assert (row["status"], code) == ("skipped", "subject_not_found")
        else:
            assert row["status"] == "ok"
    assert report.failed >= 1 and report.skipped >= 1


def test_what_cannot_work_is_said_before_any_work(make_run, films):
    with pytest.raises(StageError, match="nothing to mix"):
        stage.run(fill(make_run("http://127.0.0.1:9/v1"), dict(list(films.items())[:2]), TRUE))
    run = fill(
        make_run("http://127.0.0.1:9/v1", "--composites.masks", "sam2", "--composites.sam2_path", "/none"), films, TRUE
    )
    with pytest.raises(StageError, match="composites: SAM 2 weights '/none' cannot be had"):
        stage.run(run)
