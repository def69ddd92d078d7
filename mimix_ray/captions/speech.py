"""What is said in episodes that have no subtitle file, by faster-whisper: a video file -> its lines of dialogue."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimix_ray import tables
from mimix_ray.captions.context import Line
from mimix_ray.config import ConfigError, SpeechConfig, StorageConfig
from mimix_ray.storage import Storage, split
from mimix_ray.universe import Episode
from mimix_ray.video import probe

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

TRANSCRIPTS = "captions/speech"
"""Folder of the transcripts under the run's root; an episode's is `<TRANSCRIPTS>/<show>/<episode>-<recipe>.json`."""


class SpeechError(RuntimeError):
    """An episode that cannot be transcribed; the message is one line that names its file."""


def check(config: SpeechConfig) -> None:
    """Before any work: fetches a model that is named by its hub name, so that actors find it in the cache.

    Raises ConfigError when the package is not installed, or when there is no such model.
    """
    try:
        from faster_whisper import download_model
    except ImportError as error:
        raise ConfigError(
            f"captions.speech.model: faster-whisper cannot be imported ({error}); install faster-whisper"
        ) from None
    model = str(config.model)
    if Path(model).is_dir():
        if not Path(model, "model.bin").is_file():
            raise ConfigError(
                f"captions.speech.model: {model} holds no model.bin; give a Whisper model for CTranslate2"
            )
        return
    try:
        download_model(model)
    except Exception as error:  # the hub's client has dozens
        why = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"captions.speech.model: {model!r} is no folder and cannot be had from the hub ({why}); "
            "give the folder of a Whisper model for CTranslate2, or a name such as large-v3"
        ) from None


def transcript_name(episode: Episode, config: SpeechConfig, storage: StorageConfig) -> str:
    """Where an episode's transcript is kept; another file or another model gives another name.

    Raises StorageError when the episode's file is not there.
    """
    folder, name = split(episode.video)
    recipe = tables.recipe(config, Storage(folder, storage).fingerprint(name))
    return f"{TRANSCRIPTS}/{episode.show}/{episode.id}-{recipe}.json"


def load(config: SpeechConfig) -> WhisperModel:
    """The model, on its device; raises what faster-whisper raises when it does not load."""
    from faster_whisper import WhisperModel

    threads = max(1, int(config.cpus))  # left alone, it takes every core it sees
    return WhisperModel(str(config.model), device=config.device, compute_type=config.compute_type, cpu_threads=threads)


def transcribe(model: WhisperModel, path: Path) -> tuple[Line, ...]:
    """The lines spoken in a video file, by time, without speakers; none where it has no sound or nobody speaks.

    Raises VideoError for a file that is no video, and what faster-whisper raises for sound that does not decode.
    """
    if not probe(path).audio:
        return ()
    # Music between the words is where Whisper makes sentences up: only what sounds like a voice is heard, and a
    # sentence once made up is not carried on.
    segments, _ = model.transcribe(str(path), vad_filter=True, condition_on_previous_text=False)
    lines = (Line(one.start, one.end, " ".join(one.text.split())) for one in segments)
    return tuple(line for line in lines if line.text)


def transcribe_episode(model: WhisperModel, episode: Episode, config: StorageConfig) -> tuple[Line, ...]:
    """`transcribe` for an episode wherever it lies; raises SpeechError, whatever is wrong with it."""
    folder, name = split(episode.video)
    try:
        with Storage(folder, config).local(name) as path:
            return transcribe(model, path)
    except Exception as error:  # decoders, the model and its device have each their own
        why = " ".join(str(error).split())[:300]
        raise SpeechError(f"{episode.video}: no dialogue from its sound ({type(error).__name__}: {why})") from error


def keep(storage: Storage, name: str, lines: tuple[Line, ...]) -> None:
    """Keeps a transcript under its name; the file appears whole or not at all."""
    storage.write_json(name, {"lines": [asdict(line) for line in lines]})


def read(storage: Storage, name: str) -> tuple[Line, ...]:
    """A kept transcript; StorageError when it is not there."""
    kept: dict[str, Any] = storage.read_json(name)
    return tuple(Line(**line) for line in kept["lines"])
