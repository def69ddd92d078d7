"""Frames -> the figures of the cast in them: which pixels are whose, by the hues and paints they wear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from mimix_ray.miniature.cast import INK, LOOKS

HEIGHT = 112
"""Frames are looked at in this height, that of the miniature's clips: one pixel means the same everywhere."""

MIN_CORE = 0.002
"""Smallest patch of a reserved hue that may be somebody, share of the frame: Pip at a third of its usual size, or half
hidden. Less is a speck of compression noise."""

NEAR_PAINT = 24.0
"""How far a pixel may be from a paint of a character and still be it, in Lab (0..255 scale). x264 at crf 18 and JPEG
at 90 move flat paint by less than 10; outlines that mix with what is beside them move more."""

FOREIGN = 20
"""Least difference from the empty scene, in any channel, that says something stands there: grain and compression
noise stay below 15."""

INK_LEVEL = 60
"""Grey below which a rim is ink: outlines are drawn at 24 and mix with what is beside them."""

PLENTY = 0.002
"""Share of the scene from which on a colour counts as the scene's: some forty pixels of 192 x 112."""

REACH = {"Pip": (1.5, 1.6, 1.3), "Momo": (2.1, 1.9, 1.7), "Mr. Plum": (1.5, 2.6, 1.9), "Nan Fern": (1.5, 2.4, 1.2)}
"""How far a figure reaches from the middle of its core sideways, up and down, in core sizes (square roots of the core's
area): Pip's wings, Momo's tail, Mr. Plum's lifted hat, Nan Fern's raised stick."""

SQUARE = 2.4
"""Half the side of the square around a core of which a figure's small picture is taken, in core sizes."""

MARKS = 22
"""Numbers that tell a figure's paints: as many as the most colourful character has, 14, and 8 of the core."""

GRID = 10
"""A figure's picture in small: the square in so many cells a side."""


KERNEL = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Figure:
    """A character that may be in one frame; lengths in pixels of the working size."""

    name: str
    centre: tuple[float, float]
    """x, y of the middle of its reserved hue."""
    size: float
    """Square root of the area of its reserved hue."""
    cells: np.ndarray
    """float32 [2, GRID, GRID]: how much of each cell around the centre is its hue, and how much is its other paints
    standing out from the scene, 0..1."""
    extents: np.ndarray
    """float32 [12] in sizes from the centre: left, top, right, bottom of its hue, of hue and paints, of the frame."""
    marks: np.ndarray
    """float32 [MARKS]: how much there is of each of its paints, in areas of the core; mean and spread of the core's
    Lab, / 100; how uneven the core is; how much of its rim is ink."""


@dataclass(frozen=True)
class Scan:
    """What was found in the frames of a clip."""

    frames: np.ndarray
    """uint8 RGB [F, H, W, 3] in the working size."""
    figures: tuple[dict[str, Figure], ...]
    """The figures of each frame by name."""
    plate: np.ndarray
    """uint8 RGB [H, W, 3]: the empty scene, black where it was never seen."""
    seen: np.ndarray
    """bool [H, W]: where the scene was seen without figures."""


def scan(frames: Sequence[np.ndarray]) -> Scan:
    """Looks for the cast in the frames of one clip, uint8 RGB [H, W, 3] each, of one size."""
    small = np.stack([_working_size(frame) for frame in frames])
    worn = [_worn(frame) for frame in small]
    plate, seen = _plate(small, np.stack([_hidden(found, small.shape[1:3]) for found in worn]))
    common = _common(plate[seen])
    figures: list[dict[str, Figure]] = []
    for frame, cores in zip(small, worn, strict=True):
        # Where the scene was never seen, colours that the rest of it has are taken for it.
        if not cores:
            figures.append({})
            continue
        look = _Look(frame)
        foreign = np.where(seen, _apart(frame, plate) > FOREIGN, ~common[_bins(frame)])
        figures.append({name: _figure(name, core, look, foreign) for name, core in cores.items()})
    return Scan(small, tuple(figures), plate, seen)


@dataclass(frozen=True)
class _Core:
    mask: np.ndarray  # bool [H, W], the reserved hue
    paint: np.ndarray  # uint8 [H, W], its other paints within its reach, by their number from 1; 0 is none
    centre: tuple[float, float]
    size: float


class _Look:
    """A frame in the colour spaces that are asked for, each made once."""

    def __init__(self, frame: np.ndarray) -> None:
        self.lab = cv2.cvtColor(frame, cv2.COLOR_RGB2Lab)
        self.grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        self.uneven = unevenness(frame)


def _working_size(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if height == HEIGHT:
        return frame
    size = (max(1, round(width * HEIGHT / height)), HEIGHT)
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if height > HEIGHT else cv2.INTER_LINEAR)


def _worn(frame: np.ndarray) -> dict[str, _Core]:
    """The largest patch of each reserved hue, where it is large enough, and the paints around it."""
    hsv = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    coarse = (frame >> 3).astype(np.int32)
    colours = (coarse[..., 0] << 10) | (coarse[..., 1] << 5) | coarse[..., 2]
    cores = {}
    for name, look in LOOKS.items():
        hue = look.hue
        low = (round(hue.low / 2), round(hue.saturation * 255), round(hue.value * 255))
        worn = cv2.inRange(hsv, low, (round(hue.high / 2), 255, 255))
        if np.count_nonzero(worn) < MIN_CORE * worn.size:
            continue
        # An arm, an apron or a belly may cut the hue in pieces: what is a few pixels apart is one.
        _, labels = cv2.connectedComponents(cv2.dilate(worn, KERNEL, iterations=2))
        areas = np.bincount(labels[worn > 0])
        if areas.max() < MIN_CORE * worn.size:
            continue
        mask = (labels == areas.argmax()) & (worn > 0)
        rows, columns = np.nonzero(mask)
        x, y, size = float(columns.mean()), float(rows.mean()), float(np.sqrt(areas.max()))
        side, up, down = REACH[name]
        x0, x1 = max(0, round(x - side * size)), max(0, round(x + side * size))
        y0, y1 = max(0, round(y - up * size)), max(0, round(y + down * size))
        paint = np.zeros(mask.shape, np.uint8)
        paint[y0:y1, x0:x1] = _paints(name)[colours[y0:y1, x0:x1]]
        paint[mask] = 0
        cores[name] = _Core(mask, paint, (x, y), size)
    return cores


def _hidden(cores: dict[str, _Core], shape: tuple[int, ...]) -> np.ndarray:
    """bool [H, W]: where figures may hide the scene."""
    hidden = np.zeros(shape, np.uint8)
    for core in cores.values():
        hidden |= core.mask | (core.paint > 0)
    return cv2.dilate(hidden, KERNEL) > 0


def _plate(frames: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The empty scene, and where it was seen: the mean over the frames in which nothing hides it."""
    open_ = (~hidden).astype(np.float32)
    count = open_.sum(axis=0)
    plate = np.einsum("fhwc,fhw->hwc", frames.astype(np.float32), open_) / np.maximum(count, 1)[..., None]
    return plate.astype(np.uint8), count > 0


def unevenness(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W]: the largest difference of grey within 3 x 3 pixels."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return cv2.subtract(cv2.dilate(grey, KERNEL), cv2.erode(grey, KERNEL))


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """uint8 [H, W]: the largest difference of two pictures in any channel."""
    red, green, blue = cv2.split(cv2.absdiff(one, other))
    return cv2.max(cv2.max(red, green), blue)


def _common(colours: np.ndarray) -> np.ndarray:
    """bool [4096]: the colours, 4 bits a channel, that the scene [N, 3] has in plenty, with those beside them."""
    share = np.bincount(_bins(colours), minlength=4096).reshape(16, 16, 16) / max(1, len(colours))
    plenty = np.pad(share > PLENTY, 1)
    beside = [plenty[x : x + 16, y : y + 16, z : z + 16] for x in range(3) for y in range(3) for z in range(3)]
    return np.any(beside, axis=0).ravel()


def _bins(colours: np.ndarray) -> np.ndarray:
    coarse = (colours >> 4).astype(np.int32)
    return (coarse[..., 0] << 8) | (coarse[..., 1] << 4) | coarse[..., 2]


def _figure(name: str, core: _Core, look: _Look, foreign: np.ndarray) -> Figure:
    others = (core.paint > 0) & foreign
    cells = np.stack([_cells(mask.astype(np.float32), core) for mask in (core.mask, others)])
    # A median takes away single pixels, which would stretch the extents.
    whole = cv2.medianBlur((core.mask | others).astype(np.uint8), 3) > 0
    height, width = core.mask.shape
    extents = [_extent(core.mask, core), _extent(whole | core.mask, core), _edges(0, 0, width, height, core)]
    return Figure(name, core.centre, core.size, cells, np.concatenate(extents), _marks(core, look, core.paint[others]))


def _marks(core: _Core, look: _Look, paint: np.ndarray) -> np.ndarray:
    paints = np.bincount(paint, minlength=MARKS - 7)[1 : MARKS - 7] / core.size**2
    lab = look.lab[core.mask] / np.float32(100)
    solid = core.mask.astype(np.uint8)
    inside = cv2.erode(solid, KERNEL) > 0
    rim = (cv2.dilate(solid, KERNEL, iterations=2) > 0) & ~core.mask
    spread = float(np.median(look.uneven[inside])) / 20 if inside.any() else 0.0
    ink = float(np.mean(look.grey[rim] < INK_LEVEL)) if rim.any() else 0.0
    return np.concatenate([paints, lab.mean(axis=0), lab.std(axis=0), [spread, ink]]).astype(np.float32)


def _extent(mask: np.ndarray, core: _Core) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return _edges(columns[0], rows[0], columns[-1], rows[-1], core)


def _edges(left: float, top: float, right: float, bottom: float, core: _Core) -> np.ndarray:
    """Edges in sizes from the core's centre; none is further than SQUARE."""
    (x, y), size = core.centre, core.size
    edges = np.array([left - x, top - y, right - x, bottom - y], np.float32)
    return np.clip(edges / size, -SQUARE, SQUARE)


def _cells(mask: np.ndarray, core: _Core) -> np.ndarray:
    """A mask [H, W] around a core as shares of GRID x GRID cells; beyond the frame's edge is nothing."""
    (x, y), half = core.centre, SQUARE * core.size
    step = 2 * half / (GRID * 3)
    placed = np.array([[step, 0, x - half + step / 2], [0, step, y - half + step / 2]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    fine = cv2.warpAffine(mask, placed, (GRID * 3, GRID * 3), flags=flags)
    return fine.reshape(GRID, 3, GRID, 3).mean(axis=(1, 3))


@cache
def _paints(name: str) -> np.ndarray:
    """uint8 [32768]: for each cell of RGB (5 bits a channel) which paint of a character it is, from 1; 0 is none."""
    axis = np.arange(32, dtype=np.uint8) * 8 + 4
    cells = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    lab = cv2.cvtColor(cells, cv2.COLOR_RGB2Lab).reshape(-1, 3).astype(np.float32)
    look = LOOKS[name]
    colours = np.array([*look.colours.values(), *([INK] if look.style == "cartoon" else [])], np.float32)
    lights = (0.83, 1.0) if look.style == "cartoon" else (0.6, 0.8, 1.0, 1.15)
    distance = np.full((len(lab), len(colours)), np.inf, np.float32)
    for light in lights:
        shades = cv2.cvtColor((colours * light).clip(0, 255).astype(np.uint8)[:, None], cv2.COLOR_RGB2Lab)
        apart = np.linalg.norm(lab[:, None] - shades.reshape(1, -1, 3).astype(np.float32), axis=2)
        distance = np.minimum(distance, apart)
    return np.where(distance.min(axis=1) < NEAR_PAINT, distance.argmin(axis=1) + 1, 0).astype(np.uint8)
