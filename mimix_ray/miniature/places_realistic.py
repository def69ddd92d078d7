"""The places of "Mr. Plum": textured and lit, out of focus in the distance.

Colours keep clear of the cast's reserved hues: no strong yellow, teal, purple or green.
"""

from __future__ import annotations

import cv2

from mimix_ray.miniature.draw import ellipse, smooth
from mimix_ray.miniature.scene import Scene, darker


def street(scene: Scene) -> None:
    """A terrace of brick houses, a blue door, a bow window, a lamp post, wet paving."""
    rng, x = scene.rng, 0.0
    scene.gradient(0, 150, (150, 98, 84), (134, 84, 72))
    for row in range(26):
        for column in range(27):
            x, y = column * 15 - 8 + (row % 2) * 7.5, row * 6
            tone = rng.uniform(0.86, 1.08)
            scene.rect(x, y, x + 14, y + 5.2, darker((158, 94, 78), tone), "rough", 0.3)
    scene.rect(-4, 4, 388, 14, (196, 184, 174), "rough", 0.8)
    for x in (14, 250):
        _sash(scene, x + rng.uniform(-5, 5), 26)
    door = 148 + rng.uniform(-14, 14)
    scene.rect(door - 8, 24, door + 60, 154, (206, 196, 186), "rough", 0.7)
    scene.rect(door, 36, door + 52, 154, (44, 54, 96), "wood", 0.7)
    for dx, y, tall in ((6, 42, 36), (29, 42, 36), (6, 92, 48), (29, 92, 48)):
        scene.rect(door + dx, y, door + dx + 17, y + tall, (54, 66, 116), "wood", 0.9)
    scene.oval(door + 45, 98, 2.4, 2.4, (214, 196, 170), shade=1)
    scene.rect(door + 20, 86, door + 33, 89, (200, 184, 160), shade=1)
    scene.rect(door - 14, 148, door + 66, 156, (178, 170, 164), "rough", 0.6)
    # Area railings, pavement slabs and kerb.
    scene.gradient(153, 224, (132, 128, 128), (164, 158, 154))
    for row, (y0, y1) in enumerate(((153, 166), (166, 184), (184, 209))):
        for column in range(-2, 9):
            edges = [
                (192 + (column + i - 3.5 + 0.5 * (row % 2)) * 66 * (1 + (y - 153) / 90), y)
                for y, i in ((y0, 0), (y0, 1), (y1, 1), (y1, 0))
            ]
            tone = rng.uniform(0.94, 1.05)
            scene.poly(
                [(x + 0.5, y + 0.4) for x, y in edges],
                darker((156, 151, 148), tone),
                "rough",
                0.5,
            )
    scene.rect(-4, 209, 388, 216, (186, 180, 174), "rough", 0.6)
    scene.rect(-4, 216, 388, 226, (84, 80, 82), "rough", 0.5)
    for x in [*range(2, int(door) - 14, 9), *range(int(door) + 70, 388, 9)]:
        scene.rect(x, 118, x + 2.2, 155, (48, 44, 48), shade=0.6)
    for x0, x1 in ((-4, door - 12), (door + 66, 388)):
        scene.rect(x0, 122, x1, 124.5, (48, 44, 48), shade=0.6)
    lamp = 352 if door < 150 else 34
    scene.rect(lamp - 2.2, 40, lamp + 2.2, 168, (42, 40, 46), shade=1)
    scene.rect(lamp - 5, 158, lamp + 5, 170, (42, 40, 46), shade=1)
    scene.poly([(lamp - 9, 16), (lamp + 9, 16), (lamp + 6, 40), (lamp - 6, 40)], (246, 232, 206), shade=0.5)
    scene.poly([(lamp - 11, 16), (lamp, 6), (lamp + 11, 16)], (42, 40, 46), shade=1)


def park(scene: Scene) -> None:
    """Autumn: a pale sky, russet trees, a sandy path, a bench."""
    rng, x = scene.rng, 0.0
    scene.gradient(0, 150, (196, 204, 224), (238, 230, 224))
    for _ in range(5):
        scene.cloud(rng.uniform(0, 384), rng.uniform(10, 56), rng.uniform(12, 24), (232, 230, 234))
    for layer, (tones, low) in enumerate(
        ((((196, 172, 164), (184, 158, 150)), 92), (((170, 104, 72), (190, 124, 82), (204, 148, 104)), 100))
    ):
        for crown in range(-1, 12):
            left, top = crown * 36 + rng.uniform(-12, 12), low + rng.uniform(-20, 12)
            for heap in range(26):
                cx, cy = left + rng.gauss(0, 15), top + 12 - heap + rng.gauss(0, 10)
                scene.oval(cx, cy, rng.uniform(6, 12), rng.uniform(5, 9), rng.choice(tones), "rough", 0.25)
            scene.rect(left - 3, top + 16, left + 3, 150, darker(tones[0], 0.7))
        blur = scene.brush.picture[: round(150 * scene.brush.unit)]
        blur[:] = cv2.GaussianBlur(blur, (0, 0), (2.4 - layer) * scene.brush.unit)
    scene.gradient(132, 150, (164, 150, 112), (158, 146, 106))
    scene.gradient(150, 224, (158, 146, 106), (138, 126, 88))
    scene.poly(
        smooth([(150, 140), (190, 140), (250, 170), (404, 206), (404, 232), (-20, 232), (-20, 206), (120, 170)]),
        (206, 186, 160),
        "rough",
        0.5,
    )
    for x in (rng.uniform(24, 70), rng.uniform(310, 360)):
        scene.poly([(x - 9, 164), (x - 5, 70), (x + 5, 70), (x + 10, 164)], (92, 66, 54), "wood", 1.0)
        scene.poly([(x - 2, 90), (x - 26, 58), (x - 22, 54), (x + 3, 78)], (92, 66, 54), "wood", 0.8)
        for heap in range(3):
            # Leaves in heaps, the lit ones on top.
            leaf = ((138, 58, 38), (178, 86, 46), (210, 128, 78))[heap]
            for _ in range(60):
                cx, cy = x + rng.gauss(-3 * heap, 24), 44 - 5 * heap + rng.gauss(0, 17)
                scene.poly(
                    ellipse(cx, cy, rng.uniform(3, 6.5), rng.uniform(2.4, 4.5), rng.uniform(-1, 1)), leaf, shade=0.7
                )
    bench = rng.choice((70.0, 240.0))
    for y in (116.0, 124.0, 140.0):
        scene.rect(bench, y, bench + 74, y + 5.5, (124, 78, 52), "wood", 1.0)
    for x in (bench + 6.0, bench + 62.0):
        scene.rect(x, 112, x + 4, 162, (52, 48, 50), shade=1)
    for _ in range(90):
        x, y = rng.uniform(0, 384), rng.uniform(152, 222)
        leaf = rng.choice(((176, 84, 44), (196, 104, 54), (150, 66, 40)))
        scene.poly(ellipse(x, y, 2.6, 1.3, rng.uniform(-0.6, 0.6)), leaf, shade=0.8)


def parlour(scene: Scene) -> None:
    """Red wallpaper, a panelled dado, a fireplace, a leather chair, a portrait and a carpet."""
    rng, x = scene.rng, 0.0
    scene.gradient(0, 150, (146, 62, 58), (126, 52, 50))
    for row in range(8):
        for column in range(21):
            x, y = column * 20 + (row % 2) * 10, row * 15 + 4
            scene.oval(x, y, 3.2, 5.2, (164, 80, 72), "rough", 0.7)
            scene.oval(x, y - 6.4, 1.5, 1.9, (164, 80, 72), shade=0.5)
    scene.rect(-4, 112, 388, 152, (112, 70, 50), "wood", 0.7)
    for x in range(-10, 388, 46):
        scene.rect(x + 4, 118, x + 42, 148, (88, 54, 40), "wood", 0.2)
        scene.rect(x + 6, 120, x + 40, 146, (122, 78, 56), "wood", 0.3)
    scene.rect(-4, 109, 388, 114, (138, 90, 64), "wood", 1.0)
    scene.boards(152, ((116, 74, 54), (108, 68, 50), (124, 80, 58)), (72, 44, 34))
    scene.poly([(60, 166), (324, 166), (392, 224), (-8, 224)], (120, 50, 50), "knit", 0.8)
    scene.poly([(74, 171), (310, 171), (362, 219), (22, 219)], (66, 66, 100), "knit", 0.8)
    scene.poly([(88, 176), (296, 176), (334, 214), (50, 214)], (138, 66, 60), "knit", 0.8)
    # Fireplace with embers.
    hearth = rng.choice((34.0, 238.0))
    scene.rect(hearth, 70, hearth + 110, 160, (196, 184, 172), "rough", 0.9)
    scene.rect(hearth - 7, 62, hearth + 117, 72, (210, 198, 186), "rough", 1.0)
    scene.rect(hearth + 24, 92, hearth + 86, 160, (38, 30, 30), "rough", 0.4)
    for _ in range(9):
        x = hearth + rng.uniform(34, 76)
        tall = rng.uniform(12, 32)
        scene.poly(
            smooth([(x - 6, 152), (x - 3, 152 - tall * 0.6), (x, 152 - tall), (x + 4, 152 - tall * 0.5), (x + 6, 152)]),
            (236, 112, 48),
            shade=0.3,
        )
    scene.rect(hearth + 30, 150, hearth + 80, 157, (66, 42, 34), "wood", 1.0)
    for dx, tall in ((12, 14), (96, 14)):
        scene.rect(hearth + dx, 62 - tall, hearth + dx + 5, 62, (236, 226, 212), shade=1)
        scene.oval(hearth + dx + 2.5, 62 - tall - 3, 1.8, 3.2, (250, 190, 130))
    scene.oval(hearth + 55, 47, 13, 13, (112, 70, 50), "wood", 1.0)
    scene.oval(hearth + 55, 47, 10, 10, (240, 232, 220), shade=0.4)
    scene.line([(hearth + 55, 40), (hearth + 55, 47), (hearth + 60, 50)], (40, 34, 36), 0.9)
    # Portrait, chair and a floor lamp on the other side.
    other = 268.0 if hearth < 100 else 56.0
    scene.rect(other, 20, other + 60, 92, (166, 118, 76), "wood", 1.2)
    scene.rect(other + 6, 26, other + 54, 86, (84, 66, 62), "rough", 0.4)
    scene.oval(other + 30, 84, 19, 20, (58, 50, 60), shade=0.7)
    scene.oval(other + 30, 53, 11, 14, (206, 160, 136), shade=0.9)
    scene.oval(other + 30, 44, 12, 8, (220, 216, 212), shade=0.7)
    scene.rect(other + 6, 84, other + 54, 86, (84, 66, 62))
    chair = other - 8
    scene.poly(
        smooth(
            [(chair, 168), (chair - 2, 100), (chair + 14, 88), (chair + 58, 88), (chair + 72, 100), (chair + 70, 168)]
        ),
        (108, 46, 38),
        "skin",
        1.1,
    )
    scene.rect(chair + 8, 134, chair + 62, 152, (122, 54, 44), "skin", 1.1)
    for x in (chair - 9, chair + 61):
        scene.poly(smooth([(x, 172), (x, 124), (x + 9, 117), (x + 19, 124), (x + 18, 172)]), (98, 40, 34), "skin", 1.1)


def _sash(scene: Scene, x: float, y: float) -> None:
    """A sash window in a brick wall with a stone sill."""
    scene.rect(x - 6, y - 7, x + 86, y + 78, (206, 196, 186), "rough", 0.8)
    scene.rect(x, y, x + 80, y + 70, (236, 230, 222), "wood", 0.7)
    for column in range(2):
        for row in range(2):
            left, top = x + 5 + column * 37, y + 5 + row * 32
            scene.rect(left, top, left + 33, top + 28, (86, 88, 106), shade=0.6)
            scene.poly(
                [(left + 4, top + 28), (left + 20, top), (left + 30, top), (left + 14, top + 28)], (122, 124, 142)
            )
    scene.rect(x - 10, y + 76, x + 90, y + 84, (196, 186, 176), "rough", 1.0)
