"""The preview: which clips it takes, what its page says, and that nobody pays twice for having looked."""

import io
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from mimix_ray import tables
from mimix_ray.captions import stage
from mimix_ray.captions.captioning import failed_row, make_row
from mimix_ray.captions.preview import FRAME_HEIGHT, NAME, Shown, page, pieces, sample, show
from mimix_ray.miniature.viewer.app import create_app
from mimix_ray.miniature.world import Actor, Shot, render_shot
from mimix_ray.prompts import CharacterAction
from mimix_ray.report.page import hues
from mimix_ray.stage import StageError
from mimix_ray.universe import load_universe
from mimix_ray.video import VideoError, write_video
from mimix_ray.vlm import Outcome, to_jpegs
from mimix_ray.vlm.questions import caption
from tests.captions.test_stage import make_clips
from tests.conftest import REPO
from tests.report.test_report import HOSTILE, Page
from tests.vlm.hostile import hostile_server, picture, serve

UNIVERSE = load_universe(REPO / "configs/universes/miniature.yaml")
PIP, MOMO = CharacterAction("Pip", "hops [Character: Momo] away"), CharacterAction("Momo", "sneaks")


def clip(show, episode, number):
    clip_id = f"{show}/{episode}/{number * 5000:08d}"
    return {"clip_id": clip_id, "show": show, "episode": episode, "start_s": number * 5.0, "end_s": number * 5.0 + 5.0}


def answered(run, clip, *characters, context="", kind="ok", error=None):
    """What the page gets of a clip whose frames are grey."""
    told = caption.CaptionAnswer(characters, "kitchen", "realistic", 0.75, f"because {context}")
    outcome = Outcome(kind, told if kind == "ok" else None, 1200, 34, error, 1)
    frames = to_jpegs([picture(3, 480, 640)] * 4, 480, 90)
    question = caption.question(frames, UNIVERSE.show(clip["show"]).characters, context)
    return show(make_row(run, clip, "r", outcome), question, outcome)


def read(html):
    """What a browser makes of it; nothing comes from outside, nothing runs."""
    text = html.decode()
    found = Page(re.sub(r"<img[^>]*>", lambda tag: f"{tag[0][:-1]}/>", text))
    assert not found.open, "every element is closed"
    assert not found.all("script") and "http" not in re.sub(r'"data:[^"]*"', "", text)
    addresses = [value for _, tag in found.tags for name in ("src", "href") if (value := tag.get(name))]
    assert all(value.startswith(("#", "data:")) for value in addresses)
    ids = {tag["id"] for _, tag in found.tags if "id" in tag}
    assert {unquote(value[1:]) for value in addresses if value.startswith("#")} <= ids
    return found


def test_shows_and_episodes_have_equal_shares_of_a_sample():
    counts = {("cats", "e1"): 90, ("cats", "e2"): 9, ("dogs", "e1"): 40}
    clips = [clip(*key, number) for key, many in counts.items() for number in range(many)]
    chosen = sample(clips, 20)
    assert Counter((one["show"], one["episode"]) for one in chosen) == {
        ("cats", "e1"): 5,
        ("cats", "e2"): 5,
        ("dogs", "e1"): 10,
    }
    assert chosen == [one for one in clips if one in chosen], "in the table's order"
    assert chosen == sample(clips, 20)
    assert all(one in chosen for one in sample(clips, 7))
    starts = [one["start_s"] / 200 for one in chosen if one["show"] == "dogs"]
    assert all(any(low <= start < low + 0.25 for start in starts) for low in (0, 0.25, 0.5, 0.75))
    # Small groups give all they have, others make up for them.
    assert len(sample(clips, 130)) == 130 and sample(clips, 500) == clips


def test_many_episodes_are_taken_from_all_over_a_show():
    clips = [clip("cats", f"e{number:03d}", start) for number in range(100) for start in range(3)]
    episodes = [int(one["episode"][1:]) for one in sample(clips, 10)]
    assert len(set(episodes)) == 10
    assert max(later - one for one, later in zip([0, *episodes], [*episodes, 100], strict=True)) <= 25


@pytest.mark.parametrize("actors", [(), (PIP,), (PIP, MOMO, PIP)], ids=len)
def test_coloured_pieces_are_the_caption_to_the_letter(run_factory, actors):
    row = answered(run_factory(), clip("pip_and_momo", "e01", 0), *actors).row
    found = pieces(row)
    assert "".join(text for _, text in found) == row["text"]
    assert [(name, text) for name, text in found if name] == [(one.name, f"[Character: {one.name}]") for one in actors]


def test_the_page_shows_what_was_asked_and_what_came(run_factory):
    run = run_factory()
    clips = [clip("pip_and_momo", "e01", number) for number in range(3)] + [clip("fern_hill", "e01", 0)]
    clips[3]["show"] = UNIVERSE.shows[1].id
    shown = [
        answered(run, clips[2], kind="refused", error="the model declined: no"),
        Shown(failed_row(run, clips[1], "r", VideoError("not_a_video", "broken.mp4 is no video"))),
        answered(run, clips[0], PIP, MOMO, context="Dialogue during the clip:\nWhere is Momo?"),
        answered(run, clips[3]),
    ]
    found = read(page(shown, clips, UNIVERSE, 5200, "gpt-4o"))
    text = " ".join(found.text.split())
    assert [tag["id"] for tag in found.all("h3")] == [one["clip_id"] for one in clips], "each clip, in its place"
    assert "4 of 5,200 clips" in text and "gpt-4o in 3 new requests" in text and "3,600 tokens in, 102 out" in text
    assert "ok × 2" in text and "refused × 1" in text and "not_a_video × 1" in text
    assert "refused: the model declined: no" in text and "not_a_video: broken.mp4 is no video" in text
    links = [tag["href"] for tag in found.all("a")]
    assert links[:2] == [f"#{clips[number]['clip_id']}" for number in (1, 2)], "what failed can be jumped to"
    assert r"[Character: Pip], hops \[Character: Momo] away. [Character: Momo], sneaks. [scene-style:cartoon]" in text
    assert "setting: kitchen" in text and "style: cartoon the model saw another style" in text
    assert "confidence 0.75" in text and "because Dialogue" in text
    boxes = [tag for tag in found.all("div") if tag.get("class") == "told"]
    assert len(boxes) == 3 and all(tag["tabindex"] == "0" and tag["aria-label"] for tag in boxes)
    assert "Where is Momo?" in found.text and caption.prompt_text(caption.PROMPT)[:60] not in found.text
    images = found.all("img")
    assert len(images) == 3 * 4 and all(image["alt"] for image in images)
    assert all(Image.open(io.BytesIO(jpeg)).size == (200, FRAME_HEIGHT) for one in shown for jpeg in one.frames)


def test_one_colour_a_character(run_factory):
    clips = [clip("pip_and_momo", "e01", number) for number in range(4)]
    shown = [answered(run_factory(), one, PIP, MOMO) for one in clips]
    html = page(shown, clips, UNIVERSE, 4, "viewer").decode()
    colours = set(re.findall(r'style="--hue: (\d+)">\[Character: (\w+)\]<', html))
    assert colours == {(str(hue), name) for name, hue in hues(UNIVERSE).items() if name in ("Pip", "Momo")}
    assert len(set(hues(UNIVERSE).values())) == len(UNIVERSE.names)


def test_hostile_text_stays_text(run_factory):
    one = clip("pip_and_momo", "\"e01'<b>", 0)
    actor = CharacterAction("Pip", HOSTILE)
    shown = [answered(run_factory(), one, actor, context=HOSTILE)]
    html = page(shown, [one], UNIVERSE, 1, HOSTILE)
    found = read(html)
    assert found.text.count(HOSTILE) == 4, "caption, reasoning, what was told, model"
    assert len(found.all("img")) == 4 and len(found.all("b")) == 1
    bad = answered(run_factory(), one, kind="unparseable", error=HOSTILE)
    assert HOSTILE in read(page([bad], [one], UNIVERSE, 1, "m")).text


def film(run, number, *actors):
    """One clip of the miniature's first show, small and short."""
    shot = Shot("pip_and_momo", "kitchen", actors, 1.0, number)
    path = Path(run.config.root, f"clips/{number}.mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, list(render_shot(shot, 192, 112)), 16)
    row = clip("pip_and_momo", "e01", number)
    return row | {"style": "cartoon", "video": f"clips/{number}.mp4", "status": "ok", "recipe": f"clip {number}"}


@pytest.mark.soak
def test_the_miniature_is_looked_at_and_then_not_asked_again(ray_cluster, run_factory, monkeypatch, capsys):
    app, asked = create_app(), []

    @app.middleware("http")
    async def count(request, answer):
        asked.append(request.url.path)
        return await answer(request)

    with serve(app) as base_url:
        run = run_factory("--captions.vlm.base_url", base_url)
        footage = Path(run.config.root, "footage/pip_and_momo")
        footage.mkdir(parents=True)
        (footage / "e01.mp4").write_bytes(b"the footage itself is not looked at")
        (footage / "e01.srt").write_text("1\n00:00:11,000 --> 00:00:12,000\nWhere is Momo?\n")
        pip, momo = (
            Actor("Pip", "hops", (0.2, 0.9), (0.45, 0.9), 0.5),
            Actor("Momo", "sneaks", (0.6, 0.9), (0.85, 0.9), 0.6),
        )
        rows = [film(run, 0, pip), film(run, 1, momo), film(run, 2, pip, momo), film(run, 3)]
        tables.publish(run.storage, tables.CLIPS, rows)
        tables.seal(run.storage, tables.CLIPS, [row["clip_id"] for row in rows])

        flags = ["--config", "configs/miniature.yaml", "--root", run.config.root, "--captions.vlm.base_url", base_url]
        monkeypatch.setattr(sys, "argv", ["jobs/captions.py", "--preview", "3", *flags])
        runpy.run_path("jobs/captions.py", run_name="__main__")
        said = capsys.readouterr().out.strip()
        chats = [path for path in asked if path.endswith("/chat/completions")]
        assert len(chats) == 3 and said.startswith("captions: a preview of 3 of 4 clips, 3 ok: ")
        html = run.storage.read_bytes(NAME)
        text = read(html).text
        assert "[Character: Pip]," in text and "[Character: Momo]," in text and "Where is Momo?" in text
        assert tables.finished(run.storage, tables.CAPTIONS) == {} and not run.storage.exists("reports/captions.json")
        assert stage.preview(run, 3) == said and asked.count(chats[0]) == 3, "the same clips, from kept answers"

        report = stage.run(run)
        assert asked.count(chats[0]) == 4, "only the clip that was not in the sample"
        assert (report.ok, report.extra["calls"], report.extra["answers_from_cache"]) == (4, 1, 3)


@pytest.mark.soak
def test_failures_are_told_and_a_preview_disturbs_no_table(ray_cluster, run_factory):
    with hostile_server() as server:
        run = make_clips(run_factory("--captions.vlm.base_url", server.base_url, "--captions.vlm.max_attempts", 1), 5)
        Path(run.config.root, "clips/pip_and_momo/1.mp4").write_bytes(b"broken")
        stage.run(run)
        before = tables.read(run.storage, tables.CAPTIONS, status=None)
        server.modes = {3: ["500"]}
        run.storage.delete(
            next(name for name in run.storage.list("answers", ".json") if b"thing 3" in run.storage.read_bytes(name))
        )
        assert "a preview of 5 of 5 clips, 3 ok" in stage.preview(run, 20)
        text = read(run.storage.read_bytes(NAME)).text
        assert "not_a_video: " in text and "endpoint_error: status 500" in text
        assert tables.read(run.storage, tables.CAPTIONS, status=None) == before
        with pytest.raises(StageError, match="--preview 0 shows nothing"):
            stage.preview(run, 0)


@pytest.mark.soak
def test_the_job_knows_its_flag_beside_the_config(tmp_path):
    def job(*arguments):
        command = [sys.executable, "jobs/captions.py", *arguments]
        return subprocess.run(command, cwd=REPO, capture_output=True, text=True)

    told = job("--help")
    assert told.returncode == 0 and "--preview N" in told.stdout and "--captions.frames" in told.stdout
    given = job("--preview", "2", "--universe", "nowhere.yaml", "--root", str(tmp_path))
    assert given.returncode == 1 and "nowhere.yaml" in given.stderr, "the config is read without the flag"
