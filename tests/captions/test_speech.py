"""What is said in episodes without subtitles: a file to lines, kept under a name that tells file and model."""

import sys
from pathlib import Path

import pytest

from mimix_ray import tables
from mimix_ray.captions import speech
from mimix_ray.captions.captioning import make_question
from mimix_ray.captions.context import Line
from mimix_ray.config import CaptionsConfig, ConfigError, SpeechConfig, StorageConfig
from mimix_ray.storage import Storage
from mimix_ray.universe import Episode
from tests.captions.test_stage import make_silent, only_episode
from tests.captions.whisper import film, whisper

LINES = (Line(6.0, 7.0, "Where is Momo?"), Line(11.0, 12.0, "Here!", "MOMO"))


def episode(folder, **fields):
    return Episode(**({"show": "pip", "id": "e01", "video": str(folder / "e01.mp4"), "style": "cartoon"} | fields))


def test_a_kept_transcript_comes_back(tmp_path):
    storage = Storage.open(str(tmp_path))
    for lines in (LINES, ()):
        speech.keep(storage, f"{speech.TRANSCRIPTS}/pip/e01-0.json", lines)
        assert speech.read(storage, f"{speech.TRANSCRIPTS}/pip/e01-0.json") == lines


def test_another_file_or_model_is_another_transcript_and_another_device_is_not(tmp_path):
    (tmp_path / "e01.mp4").write_bytes(b"some film")

    def name(**fields):
        return speech.transcript_name(episode(tmp_path), SpeechConfig(**fields), StorageConfig())

    first = name(model="tiny")
    assert first.startswith("captions/speech/pip/e01-") and first.endswith(".json")
    assert first == name(model="tiny", device="cuda", workers=8, gpus=0.5)
    assert len({first, name(model="small"), name(model="tiny", compute_type="int8")}) == 3
    (tmp_path / "e01.mp4").write_bytes(b"another film")
    assert name(model="tiny") != first


def test_turning_speech_on_redoes_no_caption_of_an_episode_with_subtitles():
    assert CaptionsConfig(speech=SpeechConfig(model="tiny")).identity() == CaptionsConfig().identity()


@pytest.mark.parametrize(
    ("model", "what"),
    [("no-such-size", "is no folder"), ("/no/such/folder", "is no folder"), ("{empty}", "holds no model.bin")],
)
def test_a_missing_model_is_one_clear_line(tmp_path, model, what):
    with pytest.raises(ConfigError, match=rf"captions\.speech\.model: .*{what}.*give") as caught:
        speech.check(SpeechConfig(model=model.format(empty=tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ConfigError, match="install faster-whisper"):
        speech.check(SpeechConfig(model="tiny"))


def test_what_was_heard_is_told_with_its_clip_and_subtitles_win(run_factory):
    run = make_silent(run_factory())
    clips = tables.read(run.storage, tables.CLIPS)
    speech.keep(run.storage, "captions/speech/e01.json", LINES)

    def told(clip):
        return make_question(run, clip, only_episode(run), "captions/speech/e01.json").text

    assert "Dialogue during the clip:\nWhere is Momo?" in told(clips[1]) and "MOMO" not in told(clips[1])
    assert "Dialogue during the clip:\nMOMO: Here!" in told(clips[2])
    assert "Dialogue during" not in told(clips[0])
    srt = "1\n00:00:06,000 --> 00:00:07,000\nFrom the file.\n"
    Path(run.config.root, "footage/pip_and_momo/e01.srt").write_text(srt)
    assert "Dialogue during the clip:\nFrom the file." in told(clips[1])


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "words", "within_s"),
    [
        ("speaker.mp4", ["lecturer", "University of Nottingham"], 5.8),
        ("statement.mp4", ["Today", "after two years of negotiations", "the United States"], 8.8),
        ("bikes.mp4", [], 10.0),
    ],
)
def test_real_speech_is_transcribed_and_a_film_without_sound_has_none(name, words, within_s):
    lines = speech.transcribe(speech.load(SpeechConfig(model=whisper(), device="cpu")), film(name))
    said = " ".join(line.text for line in lines)
    assert all(word in said for word in words) and bool(lines) == bool(words)
    assert all(0 <= line.start_s < line.end_s <= within_s for line in lines)
    assert [line.start_s for line in lines] == sorted(line.start_s for line in lines)
