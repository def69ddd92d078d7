"""The page of a run: with all parts, with missing parts, and with captions that try to break it."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mimix_ray import tables
from mimix_ray.report import write_report
from mimix_ray.report.curve import curve, nice_ticks
from mimix_ray.report.media import LARGEST, player
from mimix_ray.report.parts import spread
from mimix_ray.run import Run, StageReport
from mimix_ray.storage import Storage
from mimix_ray.video import write_video

PIP, PLUM = {"name": "Pip", "action": "hops along the path."}, {"name": "Mr. Plum", "action": "tips his hat."}


def film(run: Run, name: str, seed: int = 0, frames: int = 17, size: tuple[int, int] = (112, 192)) -> str:
    """A small square that walks over a coloured ground, as an mp4 on the run's storage."""
    picture = np.full((frames, *size, 3), np.random.default_rng(seed).integers(60, 200, 3), np.uint8)
    for number in range(frames):
        picture[number, 40:80, 4 * number : 4 * number + 40] = 240 - 20 * seed
    path = Path(run.storage.uri, "new.mp4")
    write_video(path, picture, 16)
    run.storage.upload(path, name)
    path.unlink()
    return name


def seal(run: Run, table: tables.Table, rows: list[tables.Row]) -> None:
    rows = [{"status": "ok", "recipe": "r"} | row for row in rows]
    tables.publish(run.storage, table, rows)
    tables.seal(run.storage, table, [row[table.key] for row in rows])


def fill(run: Run, said: str = "A meadow", name: str = "pip_and_momo/e01") -> None:
    """Everything that a finished run leaves."""
    clips = [
        {
            "clip_id": f"{name}/{start:08d}",
            "show": "pip_and_momo",
            "episode": "e01",
            "style": "cartoon",
            "video": film(run, f"clips/{start}.mp4", seed=start // 6000 % 8),
        }
        for start in range(0, 14 * 6000, 6000)
    ]
    seal(run, tables.CLIPS, clips)
    caption = {"characters": [PIP, PLUM], "setting": said, "scene_style": "cartoon", "text": "x"}
    seal(run, tables.CAPTIONS, [{"clip_id": clip["clip_id"], **caption} for clip in clips])
    composite = {
        "composite_id": "composites/00000000",
        "subject_clip": clips[0]["clip_id"],
        "background_clip": clips[1]["clip_id"],
        "character": "Mr. Plum",
        "masks": "grabcut",
        "video": film(run, "composites/0.mp4", 3),
        "mask_video": film(run, "composites/0.mask.mp4", 4),
        **caption,
    }
    seal(run, tables.COMPOSITES, [composite])
    rng = np.random.default_rng(0)
    losses = [
        {
            "step": step,
            "loss": 0.4 + 0.8 * math.exp(-step / 15) + 0.08 * rng.normal(),
            "grad_norm": 1.0,
            "lr": 1e-3,
            "seconds": 1.5,
        }
        for step in range(1, 61)
    ]
    run.storage.write_json("training/losses.json", losses)
    generations = [
        {
            "generation_id": f"meet/{seed}",
            "prompt": "[Character: Pip], hops.",
            "characters": [PIP, PLUM] if seed else [PIP],
            "scene_style": "realistic",
            "seed": seed,
            "video": film(run, f"generations/{seed}.mp4", seed),
            "seconds": 12.5,
            "adapter": "abc" if seed else None,
        }
        for seed in range(2)
    ]
    broken = {
        "generation_id": "meet/9",
        "prompt": "p",
        "scene_style": "cartoon",
        "status": "failed",
        "error": "generation_failed: NaN",
    }
    seal(run, tables.GENERATIONS, [*generations, broken])
    axis = {"judge": "viewer", "rubric_hash": "h", "samples": 3, "spread": 0.471}
    scores = [
        {
            "score_id": "meet/0/identity_p",
            "metric": "identity_p",
            "value": 7.333,
            "reasoning": f"Pip is Pip. {said}",
            **axis,
        },
        {
            "score_id": "meet/0/flow_dynamics",
            "metric": "flow_dynamics",
            "value": 0.31,
            "samples": 1,
            "judge": "flow_dynamics 1",
        },
        {
            "score_id": "meet/0/motion_p",
            "metric": "motion_p",
            "status": "failed",
            "error": "refused: no",
            "judge": "viewer",
        },
    ]
    seal(run, tables.SCORES, [{"generation_id": "meet/0", **row} for row in scores])
    for stage, rows in (("clips", clips), ("captions", clips), ("generation", [*generations, broken])):
        counted = [{"status": "ok", "error": None} | row for row in rows]
        StageReport(stage, rows_in=len(rows), extra={"tokens_in": 1234}).close(run.storage, counted, reused=2)
    matrix = {"identity_p": {"single": {"mean": 7.333, "videos": 1}}}
    StageReport("evaluation", extra={"matrix": matrix}).close(run.storage, [])
    film(run, "served.mp4", 5)


SERVED = {"prompt": "[Character: Pip], hops. [Character: Mr. Plum], waves. [scene-style:cartoon]", "seconds": 41.0}
SERVED |= {"video": "served.mp4", "model": "miniature"}


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "line", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


def read(run: Run) -> Page:
    html = run.storage.read_bytes("report.html").decode()
    page = Page(html)
    assert not page.open, "every element is closed"
    for _, attributes in page.tags:
        for name in ("src", "href", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), "nothing is fetched from outside"
    assert "http" not in re.sub(r'"data:[^"]*"', "", html)
    page.text = " ".join(page.text.split())
    return page


def test_a_finished_run_shows_every_part(run_factory, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model_card.json").write_text(json.dumps({"random_weights": True}))
    run = run_factory("--backbone.path", base)
    fill(run)
    address = write_report(run, SERVED)
    assert address == f"{run.storage.uri}/report.html"
    page = read(run)
    assert "Not here" not in page.text and "Cannot be shown" not in page.text
    assert "random weights" in page.text
    assert "12 of 14 captioned clips" in page.text
    assert len(page.all("video")) == 1 + 12 + 4 + 2  # served, clips, one composite and its sources, generated
    assert all(video["src"].startswith("data:video/mp4;base64,") and "loop" in video for video in page.all("video"))
    assert all(video["poster"].startswith("data:image/jpeg;base64,") for video in page.all("video"))
    assert "generation_failed: NaN" in page.text and "generation_failed × 1" in page.text
    assert "7.33 ± 0.47" in page.text and "motion_p failed: refused: no" in page.text
    assert "7.333 1 video" in page.text
    assert "41.0 s" in page.text
    assert "latents has not run" in page.text
    assert [len(line["points"].split()) for line in page.all("polyline")] == [60, 60]


def test_each_character_has_its_own_colour_everywhere(run_factory) -> None:
    run = run_factory()
    fill(run)
    write_report(run, SERVED)
    html = run.storage.read_bytes("report.html").decode()
    colours = set(re.findall(r'style="--hue: (\d+)">(Pip|Mr\. Plum)<', html))
    assert len(colours) == 2 and len({hue for hue, _ in colours}) == 2


def test_an_empty_run_says_what_is_not_there(run_factory, tmp_path: Path) -> None:
    run = run_factory("--backbone.path", tmp_path / "no model")  # the demo may have left one in the checkout
    write_report(run, None)
    page = read(run)
    assert page.text.count("Not here:") == 6
    assert page.text.count("has not run") == 7
    assert "random weights" not in page.text
    assert not page.all("video")


def test_missing_and_damaged_videos_are_said_in_their_place(run_factory) -> None:
    run = run_factory()
    fill(run)
    run.storage.delete("clips/0.mp4")
    run.storage.write_bytes("served.mp4", b"no video")
    write_report(run, SERVED)
    assert read(run).text.count("Cannot be shown:") >= 2


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'></figure>{{ 123457*89123 }}<!--"


def test_hostile_text_stays_text(run_factory) -> None:
    run = run_factory()
    fill(run, said=HOSTILE, name="<b>show</b>/\"e'01")
    served = SERVED | {"prompt": HOSTILE, "model": HOSTILE}
    write_report(run, served)
    page = read(run)
    assert len(page.all("script")) == 1 and not page.all("img") and not [b for b in page.all("b") if "show" in b]
    assert page.text.count(HOSTILE) >= 14
    assert str(123457 * 89123) not in page.text


@pytest.mark.parametrize("losses", [[], [{"step": 1, "loss": float("nan")}]])
def test_training_without_a_loss_is_said(run_factory, losses: list) -> None:
    run = run_factory()
    run.storage.write_json("training/losses.json", losses)
    write_report(run)
    assert "finite loss" in read(run).text


@pytest.mark.parametrize("values", [[1.0], [0.5, 0.5, 0.5], [0.0, 0.0], [1e-9, 2e-9], [3.0, float("inf"), 2.0]])
def test_any_losses_make_a_curve(values: list[float]) -> None:
    drawn = curve([{"step": step, "loss": loss} for step, loss in enumerate(values)])
    assert all(0 <= float(y) <= drawn.height for y in re.findall(r",(\S+)", drawn.raw))
    assert drawn.steps == len([value for value in values if math.isfinite(value)])


def test_ticks_are_round_and_cover() -> None:
    assert nice_ticks(0.13, 0.97) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(1, 60) == [0, 20, 40, 60]


def test_spread_takes_from_everywhere() -> None:
    assert spread(list(range(100)), 4) == [12, 37, 62, 87]
    assert spread([1, 2], 4) == [1, 2]
    assert spread([], 4) == []


def test_a_large_video_comes_as_a_small_copy(tmp_path: Path) -> None:
    storage = Storage.open(str(tmp_path))
    noise = np.random.default_rng(0).integers(0, 255, (17, 480, 832, 3), np.uint8)
    write_video(tmp_path / "large.mp4", noise, 16)
    assert (tmp_path / "large.mp4").stat().st_size > LARGEST
    shown = player(storage, "large.mp4", "noise", frames=17, fps=16)
    assert shown.video is not None and len(shown.video) < (tmp_path / "large.mp4").stat().st_size / 2
    assert (shown.width, shown.height) == (832, 480)
