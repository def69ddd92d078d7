"""The places of "Pip and Momo": flat and bright, without outlines, so that the characters stand out.

Colours keep clear of the cast's reserved hues: no strong yellow, teal, purple or green.
"""

from __future__ import annotations

import math

from mimix_ray.miniature.cast import Colour
from mimix_ray.miniature.draw import smooth
from mimix_ray.miniature.scene import Scene, darker


def kitchen(scene: Scene) -> None:
    """Peach walls, a window with coral curtains, red cupboards, a stove, a chequered floor."""
    rng, x = scene.rng, 0.0
    scene.gradient(0, 150, (252, 226, 208), (246, 208, 188))
    for row in range(6):
        for column in range(20):
            x, y = column * 20 + (row % 2) * 10 - 10, 92 + row * 10
            scene.rect(x + 0.6, y + 0.6, x + 19.4, y + 9.4, (252, 236, 226) if (row + column) % 5 else (244, 214, 204))
    scene.tiles(150, ((232, 190, 170), (250, 236, 224)))
    _window(scene, 150 + rng.uniform(-14, 14), 18, 78, 62, frame=(255, 250, 244), curtain=(232, 110, 92))
    # Wall cupboards, a shelf and what stands on it.
    for x in (8, 50):
        scene.rect(x, 12, x + 40, 62, (196, 84, 70), shade=0.5)
        scene.rect(x + 5, 17, x + 35, 57, (216, 104, 86))
        scene.oval(x + 31, 38, 2, 2, (250, 226, 206))
    scene.rect(262, 50, 372, 55, (150, 92, 70))
    for i, colour in enumerate(((226, 120, 96), (246, 240, 236), (120, 134, 190), (238, 160, 140), (246, 240, 236))):
        x = 272 + i * 20 + rng.uniform(-2, 2)
        tall = rng.uniform(12, 20)
        scene.rect(x, 50 - tall, x + 13, 50, colour, shade=0.6)
        scene.oval(x + 6.5, 50 - tall, 6.5, 2, darker(colour, 0.86))
    # The counter with sink, and the stove with a pot.
    scene.rect(-4, 104, 250, 112, (246, 232, 222), shade=0.5)
    for x in range(-4, 230, 47):
        scene.rect(x, 112, x + 46, 152, (196, 84, 70))
        scene.rect(x + 6, 118, x + 40, 147, (212, 98, 82))
        scene.rect(x + 18, 121, x + 28, 123.5, (250, 226, 206))
    scene.rect(262, 98, 330, 154, (236, 234, 238), shade=0.7)
    scene.rect(270, 116, 322, 146, (92, 88, 104))
    scene.rect(274, 120, 318, 142, (70, 64, 78))
    scene.rect(270, 110, 322, 112.5, (172, 168, 180))
    for x in (276, 288, 304, 316):
        scene.oval(x, 104.5, 2.6, 2.6, (92, 88, 104))
    pot = 282 + rng.uniform(-6, 20)
    scene.rect(pot, 82, pot + 26, 98, (128, 140, 196), shade=0.8)
    scene.rect(pot - 5, 85, pot + 31, 88, (100, 112, 170))
    scene.oval(pot + 13, 81.5, 13, 3, (158, 168, 214))
    scene.rect(338, 66, 396, 156, (242, 226, 218), shade=0.7)
    scene.line([(338, 100), (396, 100)], (196, 176, 168), 1.2)
    for y in (78, 108):
        scene.rect(343, y, 346, y + 16, (176, 156, 150))


def garden(scene: Scene) -> None:
    """A lilac sky, blossoming trees, a white fence, a lime lawn with flowers."""
    rng, x = scene.rng, 0.0
    scene.gradient(0, 150, (200, 208, 246), (252, 232, 226))
    scene.oval(rng.choice((60, 320)), 34, 19, 19, (255, 246, 226))
    for _ in range(3):
        scene.cloud(rng.uniform(20, 364), rng.uniform(16, 60), rng.uniform(9, 16), (255, 252, 252))
    scene.poly(
        smooth([(-20, 160), (-20, 112), (60, 92), (140, 112), (230, 88), (320, 108), (404, 94), (404, 160)]),
        (196, 200, 226),
    )
    scene.poly(
        smooth([(-20, 170), (-20, 130), (70, 122), (180, 132), (300, 118), (404, 130), (404, 170)]), (212, 220, 166)
    )
    for x in (44 + rng.uniform(-16, 16), 330 + rng.uniform(-20, 20)):
        trunk = [(x - 6, 150), (x - 4, 96), (x + 4, 96), (x + 7, 150)]
        scene.poly(trunk, (136, 92, 78), shade=0.8)
        for dx, dy, r in ((-22, -4, 20), (20, -6, 21), (0, -22, 25), (-8, 6, 18), (12, 8, 17)):
            scene.oval(x + dx, 84 + dy, r, r * 0.86, (246, 176, 190), shade=0.35)
        for _ in range(16):
            scene.oval(x + rng.uniform(-34, 34), 76 + rng.uniform(-28, 22), 2.2, 2.0, (254, 214, 220))
    scene.rect(-4, 126, 388, 130, (236, 232, 236))
    scene.rect(-4, 140, 388, 144, (236, 232, 236))
    for x in range(2, 388, 16):
        scene.poly([(x, 152), (x, 119), (x + 5, 113), (x + 10, 119), (x + 10, 152)], (252, 250, 250), shade=0.5)
    scene.gradient(150, 224, (206, 216, 138), (186, 200, 116))
    path = [(150, 150), (176, 150), (262, 224), (110, 224)]
    scene.poly(path, (240, 222, 200))
    for _ in range(60):
        x, y = rng.uniform(0, 384), rng.uniform(156, 222)
        if not 150 - (y - 150) * 0.7 < x < 176 + (y - 150) * 1.3:
            scene.line([(x, y), (x - 1.5, y - 4)], (160, 172, 92), 0.8)
            scene.line([(x, y), (x + 1.8, y - 4.4)], (160, 172, 92), 0.8)
    for _ in range(20):
        x, y = rng.uniform(0, 384), rng.uniform(153, 164)
        petal = rng.choice(((232, 84, 92), (252, 250, 250), (246, 140, 160), (240, 130, 80)))
        scene.line([(x, y), (x, y - 7)], (140, 152, 84), 0.9)
        for angle in range(5):
            scene.oval(x + 2.2 * math.cos(angle * 1.257), y - 8 + 2.2 * math.sin(angle * 1.257), 1.7, 1.7, petal)
        scene.oval(x, y - 8, 1.3, 1.3, (120, 72, 60))


def living_room(scene: Scene) -> None:
    """Striped rose walls, a brick-red sofa, a lamp, books, boards and a blue rug."""
    rng, x = scene.rng, 0.0
    scene.gradient(0, 150, (240, 202, 198), (230, 186, 182))
    for x in range(0, 384, 24):
        scene.rect(x, 0, x + 12, 142, (246, 214, 208))
    scene.boards(150, ((184, 128, 98), (174, 118, 90), (190, 136, 106)), (146, 96, 74), surface="skin")
    scene.rect(-4, 142, 388, 151, (250, 240, 232), shade=0.3)
    scene.oval(192, 196, 150, 24, (104, 116, 176))
    scene.oval(192, 196, 138, 20, (222, 214, 224))
    scene.oval(192, 196, 128, 17.5, (128, 140, 196))
    # Bookshelf.
    shelf = 12.0
    scene.rect(shelf, 30, shelf + 70, 152, (138, 88, 66), shade=0.4)
    for y in (34, 64, 94, 122):
        scene.rect(shelf + 4, y, shelf + 66, y + 26, (104, 62, 50))
        x = shelf + 5
        while x < shelf + 60:
            wide, tall = rng.uniform(4, 8), rng.uniform(16, 24)
            colour = rng.choice(
                ((204, 84, 70), (232, 210, 190), (104, 116, 176), (226, 138, 108), (150, 60, 66), (120, 126, 150))
            )
            scene.rect(x, y + 26 - tall, x + wide - 0.6, y + 26, colour)
            x += wide
    _window(scene, 236, 20, 66, 64, frame=(255, 250, 244), curtain=(150, 156, 210))
    for x, y, w, h in ((112, 26, 40, 30), (166, 34, 28, 36)):
        scene.rect(x, y, x + w, y + h, (160, 104, 76), shade=0.5)
        scene.rect(x + 4, y + 4, x + w - 4, y + h - 4, (248, 236, 226))
        scene.oval(
            x + w / 2, y + h / 2, w * 0.22, h * 0.26, rng.choice(((226, 120, 96), (120, 130, 190), (236, 160, 168)))
        )
    # Sofa.
    left = 120 + rng.uniform(-8, 8)
    scene.poly(
        smooth([(left, 150), (left, 92), (left + 20, 84), (left + 120, 84), (left + 140, 92), (left + 140, 150)]),
        (196, 78, 68),
        shade=0.5,
    )
    for x in (left + 14, left + 72):
        scene.poly(smooth([(x, 124), (x + 2, 98), (x + 52, 98), (x + 54, 124)]), (214, 96, 82), shade=0.5)
    scene.rect(left + 6, 122, left + 134, 148, (206, 88, 76), shade=0.6)
    for x in (left - 8, left + 128):
        scene.poly(
            smooth([(x, 154), (x - 1, 112), (x + 10, 104), (x + 21, 112), (x + 20, 154)]), (182, 68, 60), shade=0.6
        )
    # Lamp.
    lamp = 330 + rng.uniform(-10, 16)
    scene.rect(lamp - 1.5, 70, lamp + 1.5, 150, (120, 80, 62))
    scene.oval(lamp, 152, 15, 4, (120, 80, 62))
    scene.poly([(lamp - 12, 40), (lamp + 12, 40), (lamp + 24, 74), (lamp - 24, 74)], (255, 240, 214), shade=0.5)


def _window(scene: Scene, x: float, y: float, wide: float, tall: float, frame: Colour, curtain: Colour) -> None:
    """A cartoon window onto a sky, with curtains at both sides."""
    scene.rect(x - 4, y - 4, x + wide + 4, y + tall + 4, frame, shade=0.4)
    scene.rect(x, y, x + wide, y + tall, (206, 214, 246))
    scene.cloud(x + wide * 0.5, y + tall * 0.38, wide * 0.1, (250, 250, 255))
    scene.poly(
        smooth(
            [
                (x, y + tall),
                (x, y + tall * 0.78),
                (x + wide * 0.4, y + tall * 0.66),
                (x + wide, y + tall * 0.8),
                (x + wide, y + tall),
            ],
            steps=3,
        ),
        (210, 216, 164),
    )
    scene.rect(x + wide / 2 - 1.3, y, x + wide / 2 + 1.3, y + tall, frame)
    scene.rect(x, y + tall / 2 - 1.3, x + wide, y + tall / 2 + 1.3, frame)
    for side in (0, 1):
        edge, into = (x - 8, 1) if side == 0 else (x + wide + 8, -1)
        drape = [
            (edge, y - 6),
            (edge + into * 26, y - 6),
            (edge + into * 20, y + tall * 0.5),
            (edge + into * 9, y + tall + 6),
            (edge, y + tall + 6),
        ]
        scene.poly(drape, curtain, shade=0.6)
        for fold in (6, 13):
            scene.line(
                [(edge + into * fold, y - 5), (edge + into * fold * 0.6, y + tall + 5)],
                darker(curtain, 0.86),
                1.0,
            )
    scene.rect(x - 12, y - 9, x + wide + 12, y - 5, darker(curtain, 0.8))
