"""The miniature's footage: episodes of both shows with burnt-in subtitles, sidecars, and the truth for tests."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from mimix_ray.miniature.backdrops import BACKGROUNDS
from mimix_ray.miniature.cast import ACTIONS, LOOKS, SHOWS, TITLES
from mimix_ray.miniature.motion import LAPS
from mimix_ray.miniature.world import FPS, WIDTH, Actor, Shot, reference_image, render_shot
from mimix_ray.video import write_video

BAR = 32
"""Height of the bar below the picture that holds the subtitles, pixels."""
SHORTEST, LONGEST = 5.5, 9.0
"""Bounds of a shot's length, seconds: one clip of 81 frames at 16 fps and a little more."""

PAINTERS = (
    "backdrops",
    "cast",
    "draw",
    "episodes",
    "figures",
    "motion",
    "places_cartoon",
    "places_realistic",
    "rig",
    "scene",
    "world",
)
"""The modules that say what an episode looks like: when one changes, episodes are rendered anew."""

LINES: dict[str, tuple[str, ...]] = {
    "hops": ("Hop, hop, hop! Here I come!", "Catch me if you can!"),
    "flaps": ("Look, I am nearly flying!", "Up, up and away!"),
    "pecks": ("Mmm, crumbs!", "There must be a worm here."),
    "sneaks": ("Shh, nobody can hear me.", "Slowly, slowly, on soft paws."),
    "stretches": ("Aah, what a good stretch.", "I was not doing anything."),
    "sits": ("I could sit here all day.", "I am waiting for my dinner."),
    "waddles": ("Good morning, good morning.", "I must not be late."),
    "tips": ("How do you do?", "At your service."),
    "bows": ("Your humble servant.", "Thank you, thank you all."),
    "bustles": ("So much to do, so little time!", "Out of my way, please!"),
    "brandishes": ("You rascals, come back here!", "I have my stick with me!"),
    "nods": ("Yes, yes, quite so.", "Just as I always say."),
    "jumps": ("Hooray, hooray!", "Look how high I jump!"),
    "waves": ("Hello over there!", "Goodbye, see you soon!"),
    "spins": ("Round and round I go!", "Oh, I am getting dizzy."),
    "dances": ("I love this song!", "Come and dance with me!"),
    "runs": ("Help, I must run!", "You will never catch me!"),
    "chases": ("Stop, I will get you!", "Come back this instant!"),
    "peeks": ("Where is everybody?", "Nobody will find me here."),
}
PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "pip_and_momo": (
        ("runs", "chases"),
        ("dances", "dances"),
        ("hops", "sits"),
        ("jumps", "stretches"),
        ("waves", "waves"),
        ("flaps", "jumps"),
    ),
    "mr_plum": (
        ("tips", "waves"),
        ("runs", "chases"),
        ("dances", "dances"),
        ("bows", "nods"),
        ("jumps", "brandishes"),
        ("waddles", "bustles"),
    ),
}
"""What the two of a show do when they meet, in the order of the cast."""
TOGETHER = ("runs", "chases")
"""What nobody does alone."""


@dataclass(frozen=True)
class Cue:
    """A subtitle: when, in seconds from the episode's start, and what is said."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Episode:
    """A planned episode."""

    show: str
    number: int
    shots: tuple[Shot, ...]

    @property
    def stem(self) -> str:
        return f"e{self.number:02d}"

    def starts(self) -> list[float]:
        """When each shot begins, seconds; one more entry for the end."""
        frames = np.cumsum([0] + [shot.frames() for shot in self.shots])
        return [int(count) / FPS for count in frames]


def plan(show: str, number: int, seed: int = 0, seconds: float = 40.0) -> Episode:
    """An episode's shots: each character alone, both together, and a place without anybody."""
    rng = random.Random(f"{seed}/{show}/{number}")
    first, second = (name for name, look in LOOKS.items() if look.show == show)
    places = list(BACKGROUNDS[show])
    lead, other = (first, second) if number % 2 else (second, first)
    both = (first, second)
    head: list[tuple[str, ...]] = [(lead,), (other,), both, ()]
    rng.shuffle(head)
    if not head[0]:
        head.reverse()
    tail = [(lead,), both, (other,)]
    casts = [*head, *(tail[i % 3] for i in range(max(4, round(seconds / 6.7)) - 4))]
    shots, seen = [], Counter[tuple[str, ...]]()
    for index, (cast, length) in enumerate(zip(casts, _lengths(len(casts), seconds, rng), strict=True)):
        pair = PAIRS[show][(2 * (number - 1) + seen[cast]) % len(PAIRS[show])]
        actions = pair if len(cast) == 2 else tuple(_solo(name, number, seen[cast]) for name in cast)
        seen[cast] += 1
        place = places[(index + number) % len(places)]
        shots.append(Shot(show, place, _actors(cast, actions, rng), length, rng.randrange(1 << 30)))
    return Episode(show, number, tuple(shots))


def write_episodes(root: Path, seed: int = 0, episodes: int = 3, seconds: float = 40.0, workers: int = 2) -> list[Path]:
    """Renders `episodes` of each show into `<root>/<show>/` and portraits into `<root>/references/`.

    An episode that is there already with the same settings is left as it is. `workers` processes render at once.

    Returns:
        The videos, in the order of shows and episodes.
    """
    root = Path(root)
    planned = [plan(show, number, seed, seconds) for show in SHOWS for number in range(1, episodes + 1)]
    for name in LOOKS:
        _publish(root / "references" / f"{name}.png", Image.fromarray(reference_image(name)).save)
    todo = [episode for episode in planned if not _is_done(root, episode)]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_render, root, episode, seed, seconds) for episode in todo]
        for job in tqdm(as_completed(jobs), "footage", total=len(jobs), unit=" episodes", disable=not jobs):
            job.result()
    return [_path(root, episode, ".mp4") for episode in planned]


def cues(episode: Episode) -> list[Cue]:
    """The subtitles of an episode: each shot has its own, from its first to its last frame."""
    found = []
    starts = episode.starts()
    for index, shot in enumerate(episode.shots):
        said = [f"{actor.name}: {_line(actor, shot)}" for actor in shot.actors]
        said = said or [f"Nobody is in {_the(BACKGROUNDS[shot.show][shot.background])}."]
        share = (starts[index + 1] - starts[index]) / len(said)
        found += [Cue(starts[index] + share * i, starts[index] + share * (i + 1), text) for i, text in enumerate(said)]
    return found


def _lengths(count: int, seconds: float, rng: random.Random) -> list[float]:
    """Shot lengths of whole frames within the bounds that add up to about `seconds`."""
    mean = min(LONGEST, max(SHORTEST, seconds / count))
    spread = min(mean - SHORTEST, LONGEST - mean, 1.2)
    offsets = [spread * rng.uniform(-1, 1) for _ in range(count // 2)]
    # In pairs that cancel out, so that the sum stays.
    lengths = [mean + offset for offset in offsets] + [mean - offset for offset in offsets] + [mean] * (count % 2)
    rng.shuffle(lengths)
    return [round(length * FPS) / FPS for length in lengths]


def _solo(name: str, number: int, before: int) -> str:
    """What a character does alone, `before` times alone in this episode already: its manner and the rest by turns."""
    manner, *others = (action for action in ACTIONS[name] if action not in TOGETHER)
    turn = number - 1 + before
    return others[(turn // 2 + number) % len(others)] if turn % 2 else manner


def _actors(cast: tuple[str, ...], actions: tuple[str, ...], rng: random.Random) -> tuple[Actor, ...]:
    actors = []
    flip = rng.random() < 0.5
    chase = "chases" in actions
    for index, (name, action) in enumerate(zip(cast, actions, strict=True)):
        size = LOOKS[name].size * rng.uniform(0.94, 1.04) * (0.9 if action == "jumps" else 1.0)
        ground = rng.uniform(0.9, 0.95) if index == 0 else rng.uniform(0.87, 0.9)
        if chase:
            # One ahead, the other behind it on the same way.
            start, end = ((0.3, 0.86), (0.12, 0.62))[index]
        elif action in LAPS and len(cast) == 2:
            # Each keeps to its half.
            start, end = ((0.15, 0.4), (0.85, 0.6))[index]
        elif action in LAPS:
            start, end = (0.24, 0.76) if action == "sneaks" else (0.14, 0.86)
        else:
            start = end = (
                0.5 + rng.uniform(-0.16, 0.16) if len(cast) == 1 else (0.29, 0.71)[index] + rng.uniform(-0.04, 0.04)
            )
        if flip:
            start, end = 1 - start, 1 - end
        actors.append(Actor(name, action, (start, ground), (end, ground), size, rng.random()))
    return tuple(actors)


def _line(actor: Actor, shot: Shot) -> str:
    choices = LINES[actor.action]
    return choices[(shot.seed + shot.actors.index(actor)) % len(choices)]


def _the(setting: str) -> str:
    return f"the {setting.split(' ', 1)[1]}"


def _phrase(actor: Actor, shot: Shot) -> str:
    """What an actor does, with the other's name where it is done to the other."""
    others = [other.name for other in shot.actors if other.name != actor.name]
    if others and actor.action == "chases":
        return f"chases {others[0]} back and forth"
    if others and actor.action == "runs":
        return f"runs away from {others[0]}"
    return ACTIONS[actor.name][actor.action]


def _script(episode: Episode) -> str:
    lines = [f"{TITLES[episode.show]}, episode {episode.number}", ""]
    for index, shot in enumerate(episode.shots):
        setting = BACKGROUNDS[shot.show][shot.background]
        lines += [f"SCENE {index + 1}. {setting.upper()}.", ""]
        lines += [f"{actor.name} {_phrase(actor, shot)}." for actor in shot.actors] or ["Nobody is here."]
        for actor in shot.actors:
            lines += ["", f"{actor.name.upper()}", f"    {_line(actor, shot)}"]
        lines += [""]
    return "\n".join(lines)


def _synopsis(episode: Episode) -> str:
    told = [
        f"In {_the(BACKGROUNDS[shot.show][shot.background])}, "
        + " while ".join(f"{actor.name} {_phrase(actor, shot)}" for actor in shot.actors)
        for shot in episode.shots
        if shot.actors
    ]
    return f"{TITLES[episode.show]}, episode {episode.number}. " + ". ".join(told) + ".\n"


def _subtitles(episode: Episode) -> str:
    return "\n".join(
        f"{number}\n{_timestamp(cue.start)} --> {_timestamp(cue.end)}\n{cue.text}\n"
        for number, cue in enumerate(cues(episode), 1)
    )


def _timestamp(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"


def _truth(episode: Episode) -> str:
    """One JSON line a shot: what is true of it. Only tests may read it."""
    rows = []
    starts = episode.starts()
    for index, shot in enumerate(episode.shots):
        actors = [{"name": a.name, "action": a.action, "phrase": _phrase(a, shot)} for a in shot.actors]
        rows.append(
            {
                "start_s": starts[index],
                "end_s": starts[index + 1],
                "start_frame": round(starts[index] * FPS),
                "end_frame": round(starts[index + 1] * FPS),
                "background": shot.background,
                "actors": actors,
                "recipe": _recipe(episode),
            }
        )
    return "".join(json.dumps(row) + "\n" for row in rows)


def _recipe(episode: Episode) -> str:
    """Changes when the episode's plan changes, or how anything is painted."""
    sources = [Path(__file__).with_name(f"{module}.py").read_bytes() for module in PAINTERS]
    return hashlib.sha256(b"\n".join([repr(episode).encode(), *sources])).hexdigest()[:16]


def _is_done(root: Path, episode: Episode) -> bool:
    truth = _path(root, episode, ".truth.jsonl")
    return truth.exists() and _path(root, episode, ".mp4").exists() and truth.read_text() == _truth(episode)


def _path(root: Path, episode: Episode, suffix: str) -> Path:
    return root / episode.show / f"{episode.stem}{suffix}"


def _render(root: Path, episode: Episode, seed: int, seconds: float) -> None:
    """Writes an episode in a fresh process, which shares neither a lock nor a core's time with this one."""
    words = [root, episode.show, episode.number, seed, seconds]
    subprocess.run([sys.executable, "-m", __name__, *map(str, words)], check=True)


def _write(root: Path, episode: Episode) -> None:
    """Renders one episode; the truth is written last, so that an episode with it is whole."""
    for suffix, text in ((".srt", _subtitles), (".script.txt", _script), (".synopsis.txt", _synopsis)):
        _publish(_path(root, episode, suffix), partial(_write_text, text(episode)))
    _publish(_path(root, episode, ".mp4"), partial(_encode, episode))
    _publish(_path(root, episode, ".truth.jsonl"), partial(_write_text, _truth(episode)))


def _frames(episode: Episode) -> Iterator[np.ndarray]:
    """Every frame of an episode with its subtitle bar, uint8 RGB [HEIGHT + BAR, WIDTH, 3]."""
    bars = [(cue.end, _bar(cue.text)) for cue in cues(episode)]
    index = 0
    for shot in episode.shots:
        for picture in render_shot(shot):
            # Half a frame of tolerance: cues that end within a frame change with the next one.
            while (index + 0.5) / FPS > bars[0][0] and len(bars) > 1:
                bars.pop(0)
            yield np.concatenate([picture, bars[0][1]])
            index += 1


def _bar(text: str) -> np.ndarray:
    bar = Image.new("RGB", (WIDTH, BAR), (14, 12, 16))
    font = ImageFont.load_default(size=15)
    ImageDraw.Draw(bar).text((WIDTH / 2, BAR / 2), text, (250, 250, 250), font, anchor="mm")
    return np.asarray(bar)


def _encode(episode: Episode, path: Path) -> None:
    write_video(path, _frames(episode), FPS, crf=17)


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, "utf-8")


def _publish(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file in a hidden folder beside its place and moves it there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        write(Path(folder) / path.name)
        (Path(folder) / path.name).replace(path)


if __name__ == "__main__":
    cv2.setNumThreads(1)  # episodes run side by side
    _write(Path(sys.argv[1]), plan(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
