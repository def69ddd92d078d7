"""Are clips of real footage clean? No cut inside one, and no subtitle left of a film with burnt-in subtitles.

    python jobs/footage.py footage
    python benchmarks/clean.py

The stage cuts Big Buck Bunny twice: as it is, and with subtitles burnt in (one to two lines, changing every 3 s of 4,
white with a black outline, in the bottom sixth). Then judges that had no part in the cutting look at every clip:

    cuts       TransNetV2 (the stage cuts by `dissolve`), on all frames of the clips of the first version
    subtitles  text found and read anywhere in 5 frames of each clip of the second version, compared with the words
               that were burnt in

The last line is one JSON object. Takes some minutes; look at the clips that it names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np
from rapidocr import RapidOCR

from mimix_ray import tables
from mimix_ray._ffmpeg import ffmpeg
from mimix_ray.clips import detectors, stage
from mimix_ray.clips.cutting import watched
from mimix_ray.config import ClipsConfig, RunConfig
from mimix_ray.run import Run
from mimix_ray.stage import connect
from mimix_ray.video import probe, stream_frames

LINES = (
    "The rabbit never wakes before noon",
    "Somebody threw that walnut again\nWho was laughing over there?",
    "Butterflies are welcome here",
    "No",
    "This meadow belongs to everybody,\nand nobody shall be chased from it",
)
"""What the subtitles say, in turn."""

UNIVERSE = """
name: film
shows:
  - {id: plain, title: As it is, style: cartoon, episodes: {videos: "{root}/../plain/*.mp4"}}
  - {id: subtitled, title: With subtitles, style: cartoon, episodes: {videos: "{root}/../subtitled/*.mp4"}}
"""


def burn(film: Path, target: Path, seconds: float) -> None:
    """The film with subtitles, encoded anew."""

    def stamp(at: int) -> str:
        return f"{at // 3600:02d}:{at // 60 % 60:02d}:{at % 60:02d},000"

    lines = (
        f"{at // 4 + 1}\n{stamp(at)} --> {stamp(at + 3)}\n{LINES[at // 4 % len(LINES)]}\n"
        for at in range(0, int(seconds) - 3, 4)
    )
    script = target.with_suffix(".srt")
    script.write_text("\n".join(lines))
    command = [ffmpeg(), "-v", "error", "-i", str(film), "-an", "-vf", f"subtitles={script.name}"]
    subprocess.run([*command, "-preset", "ultrafast", "-crf", "20", str(target)], check=True, cwd=target.parent)
    script.unlink()


def cuts_inside(clip: Path) -> list[int]:
    """Frames of a clip that begin a shot, says TransNetV2."""
    detector, found, last = detectors.load("transnetv2", None, 16.0), [], None
    count = 0
    for planes in stream_frames(clip, pixel_format="yuv420p"):
        last = watched(planes)
        found += detector.push(last)
        count += 1
    for _ in range(detector.delay):
        found += detector.push(last)
    return [cut for cut in found if cut < count]


def words_left(engine: RapidOCR, clip: Path) -> set[str]:
    """Words of the subtitles that are read in five frames of a clip."""
    # Short words stand in the film's own credits too.
    known = {word.strip(",?.").lower() for line in LINES for word in line.split() if len(word) > 4}
    frames = list(stream_frames(clip))
    read: set[str] = set()
    for place in np.linspace(0, len(frames) - 1, 5).round().astype(int):
        found = engine(cv2.cvtColor(frames[place], cv2.COLOR_RGB2BGR))
        read |= {word.strip(",?.").lower() for text in found.txts or () for word in text.split()}
    return read & known


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--film", type=Path, default=Path("footage/big_buck_bunny/film.mp4"))
    film = options.parse_args().film.absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for version in ("plain", "subtitled"):
            (folder / version).mkdir()
        (folder / "plain/film.mp4").symlink_to(film)
        burn(film, folder / "subtitled/film.mp4", probe(film).duration_s)
        (folder / "universe.yaml").write_text(UNIVERSE)
        run = Run.open(RunConfig(root=str(folder / "run"), universe=str(folder / "universe.yaml"), clips=ClipsConfig()))
        connect()
        print(stage.run(run), flush=True)
        clips = {row["clip_id"]: folder / "run" / row["video"] for row in tables.read(run.storage, tables.CLIPS)}
        plain = {key: path for key, path in clips.items() if key.startswith("plain/")}
        engine = RapidOCR(params={"Global.log_level": "error"})
        texts = {key: sorted(words_left(engine, path)) for key, path in clips.items() if key not in plain}
        crossed = {key: cuts for key, path in plain.items() if (cuts := cuts_inside(path))}
    for key, cuts in crossed.items():
        print(f"{key}: TransNetV2 sees a shot begin at frames {cuts}")
    for key, words in texts.items():
        if words:
            print(f"{key}: {' '.join(words)}")
    result = {
        "name": "clean",
        "clips": len(plain),
        "with_cuts": len(crossed),
        "clips_subtitled": len(texts),
        "with_subtitles": sum(map(bool, texts.values())),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
