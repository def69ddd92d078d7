"""The miniature's cast: who they are, their colours, proportions and what each of them can do.

Each character wears one *reserved hue* that nothing else in the miniature wears at that saturation: backgrounds and the
other characters keep clear of it. That is what makes so small a cast recognisable by its pixels alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Style = Literal["cartoon", "realistic"]
Colour = tuple[int, int, int]
"""Red, green, blue, each 0..255."""


@dataclass(frozen=True)
class Hue:
    """A band of colours in HSV: hue in degrees, saturation and value as shares 0..1 (lower bounds)."""

    low: float
    high: float
    saturation: float
    value: float = 0.12


@dataclass(frozen=True)
class Look:
    """How a character looks. `colours` are the paints of its parts by name; `colours["main"]` is the reserved one."""

    name: str
    show: str
    style: Style
    size: float
    """Usual height, as a share of the picture's height."""
    girth: float
    """Half its width when it stands, as a share of its height."""
    colours: Mapping[str, Colour]
    hue: Hue
    """The reserved hue: what `main` and its lights and shades fall into."""


INK: Colour = (28, 22, 30)
WHITE: Colour = (250, 248, 244)

LOOKS: dict[str, Look] = {
    look.name: look
    for look in (
        Look(
            "Pip",
            "pip_and_momo",
            "cartoon",
            0.46,
            0.44,
            {
                "main": (255, 205, 40),
                "belly": (255, 226, 110),
                "wing": (248, 186, 30),
                "beak": (242, 112, 34),
                "cheek": (250, 150, 110),
            },
            Hue(40, 58, 0.5, 0.45),
        ),
        Look(
            "Momo",
            "pip_and_momo",
            "cartoon",
            0.72,
            0.27,
            {
                "main": (40, 160, 190),
                "dark": (24, 112, 138),
                "belly": (214, 236, 240),
                "paw": (244, 246, 246),
                "ear": (244, 160, 170),
                "nose": (226, 84, 104),
            },
            Hue(180, 204, 0.42, 0.25),
        ),
        Look(
            "Mr. Plum",
            "mr_plum",
            "realistic",
            0.78,
            0.22,
            {
                "main": (110, 50, 120),
                "dark": (84, 36, 94),
                "trousers": (62, 58, 60),
                "shoe": (38, 30, 28),
                "hat": (44, 38, 40),
                "band": (126, 30, 38),
                "skin": (222, 166, 138),
                "nose": (208, 136, 112),
                "hair": (70, 48, 38),
                "shirt": (238, 234, 226),
                "tie": (168, 34, 40),
                "button": (206, 190, 178),
            },
            Hue(274, 318, 0.3, 0.1),
        ),
        Look(
            "Nan Fern",
            "mr_plum",
            "realistic",
            0.6,
            0.34,
            {
                "main": (60, 125, 60),
                "dark": (40, 92, 44),
                "shawl": (48, 106, 58),
                "apron": (236, 228, 214),
                "skin": (232, 184, 160),
                "nose": (222, 152, 130),
                "hair": (186, 184, 186),
                "bun": (168, 166, 170),
                "shoe": (70, 44, 34),
                "stick": (112, 70, 44),
                "glasses": (58, 50, 50),
            },
            Hue(98, 150, 0.26, 0.1),
        ),
    )
}

SHOWS: dict[str, Style] = {"pip_and_momo": "cartoon", "mr_plum": "realistic"}
TITLES: dict[str, str] = {"pip_and_momo": "Pip and Momo", "mr_plum": "Mr. Plum"}

ACTIONS: dict[str, dict[str, str]] = {
    "Pip": {
        "hops": "hops quickly across the floor",
        "flaps": "flaps its wings and flutters up",
        "jumps": "jumps up and down",
        "waves": "waves a wing",
        "spins": "spins around",
        "dances": "dances from side to side",
        "pecks": "pecks at the ground",
        "runs": "runs back and forth",
        "peeks": "peeks out from behind a box",
    },
    "Momo": {
        "sneaks": "sneaks low and slow across the floor",
        "stretches": "stretches its back",
        "jumps": "jumps up and down",
        "waves": "waves a paw",
        "spins": "spins around",
        "dances": "dances from side to side",
        "sits": "sits and swings its tail",
        "chases": "chases back and forth",
        "peeks": "peeks out from behind a box",
    },
    "Mr. Plum": {
        "waddles": "waddles stiffly along",
        "tips": "tips his hat",
        "jumps": "jumps up and down",
        "waves": "waves a hand",
        "spins": "spins around",
        "dances": "dances from side to side",
        "bows": "bows deeply",
        "runs": "runs back and forth",
        "peeks": "peeks out from behind a crate",
    },
    "Nan Fern": {
        "bustles": "bustles busily along",
        "brandishes": "waves her stick in the air",
        "jumps": "jumps up and down",
        "waves": "waves a hand",
        "spins": "spins around",
        "dances": "dances from side to side",
        "nods": "nods her head",
        "chases": "chases back and forth",
        "peeks": "peeks out from behind a crate",
    },
}
"""What each character can do: action -> the phrase that follows its name in scripts and captions."""


def wears(image: np.ndarray, name: str) -> np.ndarray:
    """Where a picture shows the reserved hue of a character: uint8 RGB [H, W, 3] -> bool [H, W]."""
    hue = LOOKS[name].hue
    low = (round(hue.low / 2), round(hue.saturation * 255), round(hue.value * 255))
    return cv2.inRange(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), low, (round(hue.high / 2), 255, 255)) > 0
