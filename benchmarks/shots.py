"""Detectors of shot changes against labels made by eye: precision, recall, F1 and speed.

    python jobs/footage.py footage
    python benchmarks/shots.py [--footage footage] [--detectors adaptive content dissolve transnetv2]

Frames are what the stage clips shows its detectors: 16 fps, 256 pixels wide. A hard cut is found by a boundary at most
one frame away; a gradual transition by one inside it or at most two frames away. Each boundary finds one hard cut at
most; boundaries in a gradual transition are no false alarms. `whole` counts transitions of which no frame is left in a
shot, but for the frame on both sides of a boundary that the stage leaves out. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mimix_ray.clips import detectors
from mimix_ray.clips.cutting import MARGIN, WATCHED_WIDTH
from mimix_ray.config import ConfigError
from mimix_ray.video import VideoError, probe, stream_frames

FPS = 16
LABELS = Path(__file__).parent / "data" / "cuts.yaml"
NAMES = ("adaptive", "content", "dissolve", "transnetv2")
CUT_OFF, GRADUAL_OFF = 1, 2
"""How many frames away a boundary may be from a hard cut, and from a gradual transition."""
LEAD = 100
"""Frames decoded before and after a span, so that no detector begins or ends inside it; more than any delay."""
CLIP = 81
"""Frames a clip: a shot that is shorter gives none."""


@dataclass
class Score:
    """What one detector did on all spans."""

    cuts: int = 0
    cuts_found: int = 0
    gradual: int = 0
    gradual_found: int = 0
    whole: int = 0
    false_alarms: int = 0
    frames: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """What was missed or seen where nothing is, for people."""

    def summary(self) -> dict[str, Any]:
        found = self.cuts_found + self.gradual_found
        precision = found / max(1, found + self.false_alarms)
        recall = found / max(1, self.cuts + self.gradual)
        figures = {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / max(1e-9, precision + recall),
            "frames_per_s": self.frames / max(1e-9, self.seconds),
        }
        return {name: round(value, 3) for name, value in figures.items()} | {
            name: value for name, value in asdict(self).items() if name != "wrong"
        }


def score(found: Sequence[int], first: int, end: int, label: dict[str, Any], into: Score) -> None:
    """Compares boundaries, frame numbers in order, with the labels of one span; frames `first` to `end` were seen."""
    begin, over = (round(second * FPS) for second in label["span"])
    spans = [entry["frames"] for entry in label["gradual"]]
    inside = [cut for cut in found if begin < cut < over]
    free = [cut for cut in inside if not any(a - GRADUAL_OFF <= cut <= b + 1 + GRADUAL_OFF for a, b in spans)]
    for cut in label["cuts"]:
        near = [other for other in free if abs(other - cut) <= CUT_OFF]
        if near:
            free.remove(min(near, key=lambda other: abs(other - cut)))
            into.cuts_found += 1
        else:
            into.wrong.append(f"{label['file']}: cut {cut} missed")
    for (a, b), entry in zip(spans, label["gradual"], strict=True):
        seen = any(a - GRADUAL_OFF <= cut <= b + 1 + GRADUAL_OFF for cut in inside)
        into.gradual_found += seen
        if not seen:
            into.wrong.append(f"{label['file']}: {entry['kind']} {a}-{b} missed")
        into.whole += _kept_out(a, b, [first, *found, end])
    into.wrong += [f"{label['file']}: false alarm at {cut}" for cut in free]
    into.false_alarms += len(free)
    into.cuts += len(label["cuts"])
    into.gradual += len(spans)


def _kept_out(first: int, last: int, bounds: Sequence[int]) -> bool:
    """Whether no frame of a transition is in a shot long enough for a clip."""
    long = [(a + MARGIN, b - MARGIN) for a, b in pairwise(bounds) if b - a >= CLIP + 2 * MARGIN]
    return not any(a <= last and first < b for a, b in long)


def frames_of(path: Path, begin: int, end: int) -> np.ndarray:
    """Frames `begin` to `end` at 16 fps as detectors see them, uint8 [F, h, w, 3] BGR; fewer at the file's end."""
    found = probe(path)
    size = (WATCHED_WIDTH, round(WATCHED_WIDTH * found.height / found.width))
    frames = []
    for frame in stream_frames(path, start_s=begin / FPS, fps=FPS, size=size):
        frames.append(frame[..., ::-1].copy())
        if len(frames) == end - begin:
            break
    return np.stack(frames)


def main() -> None:
    """Prints a table of all detectors, what each got wrong, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", type=Path, default=Path("footage"))
    parser.add_argument("--detectors", nargs="+", choices=NAMES, default=NAMES)
    arguments = parser.parse_args()
    labels = yaml.safe_load(LABELS.read_text(encoding="utf-8"))
    scores = {name: Score() for name in arguments.detectors}
    try:
        for label in labels:
            begin = max(0, round(label["span"][0] * FPS) - LEAD)
            frames = frames_of(arguments.footage / label["file"], begin, round(label["span"][1] * FPS) + LEAD)
            for name, into in scores.items():
                detector, found = detectors.load(name, None, FPS), list[int]()
                started = time.perf_counter()
                for frame in frames:
                    found += detector.push(frame)
                into.seconds += time.perf_counter() - started
                into.frames += len(frames)
                for _ in range(detector.delay):  # the file's end: as if its last frame stood still
                    found += detector.push(frames[-1])
                score([begin + cut for cut in found], begin, begin + len(frames), label, into)
    except (VideoError, ConfigError) as error:
        sys.exit(f"error: {error}")
    summaries = {name: into.summary() for name, into in scores.items()}
    for name, into in scores.items():
        print(f"{name}:", *(f"\n  {line}" for line in into.wrong))
    print("\ndetector    precision  recall     F1   cuts  gradual  kept out  false  frames/s")
    for name, one in summaries.items():
        print(
            f"{name:<11} {one['precision']:>9.3f} {one['recall']:>7.3f} {one['f1']:>6.3f} "
            f"{one['cuts_found']:>3}/{one['cuts']} {one['gradual_found']:>6}/{one['gradual']} "
            f"{one['whole']:>7}/{one['gradual']} {one['false_alarms']:>6} {one['frames_per_s']:>9.1f}"
        )
    print(json.dumps(summaries))


if __name__ == "__main__":
    main()
