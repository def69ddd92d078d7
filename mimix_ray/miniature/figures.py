"""The four characters as puppets: each function paints one of them in the pose of its rig."""

from __future__ import annotations

import math
from collections.abc import Callable

from mimix_ray.miniature.cast import INK, LOOKS, WHITE
from mimix_ray.miniature.draw import ellipse, smooth
from mimix_ray.miniature.rig import Point, Rig

PUPIL = (26, 20, 26)
LIPS = (146, 40, 52)


def pip(rig: Rig) -> None:
    """A small round chick: one ball, two wings, a tuft and an orange beak."""
    paint, pose = LOOKS["Pip"].colours, rig.pose
    for side, swing in zip((-1, 1), pose.legs, strict=True):
        foot = (0.17 * side, 0.03, 0.05 + 0.25 * swing)
        rig.limb([(0.15 * side, 0.16, 0.0), foot], [0.035, 0.035], paint["beak"], line=0.8)
        rig.limb([foot, (0.18 * side, 0.025, 0.16 + 0.25 * swing)], [0.045, 0.04], paint["beak"], line=0.8)
    rig.limb([(0, 0.42, -0.30), (0, 0.52, -0.46), (0, 0.62, -0.52)], [0.12, 0.1, 0.03], paint["wing"])
    _pip_wings(rig, near=False)
    if rig.cos < -0.1:
        _pip_beak(rig)
    for lean, up in ((-0.09, 0.96), (0.09, 0.97), (0.0, 1.02)):
        rig.limb([(lean * 0.3, 0.82, 0), (lean, up, 0.02)], [0.05, 0.025], paint["wing"], line=0.8)
    rig.ball((0, 0.46, 0), 0.41, 0.40, paint["main"])
    rig.spot((0, 0.31, 0), 0.17, 0.0, 0.25, 0.19, paint["belly"], line=0, shade=0)
    for side in (-1, 1):
        rig.spot((0, 0.46, 0), 0.39, 0.86 * side, 0.07, 0.045, paint["cheek"], line=0, shade=0)
        _eye(rig, (0, 0.60, 0), 0.365, 0.46 * side, 0.095, 0.125)
    if rig.cos >= -0.1:
        _pip_beak(rig)
    _pip_wings(rig, near=True)


def _pip_beak(rig: Rig) -> None:
    paint, gape = LOOKS["Pip"].colours["beak"], 0.06 * rig.pose.mouth
    drop = 0.05 * rig.pose.nod
    rig.limb([(0, 0.45 - drop, 0.36), (0, 0.42 - drop - gape, 0.47)], [0.07, 0.025], (206, 78, 24), line=0.8)
    rig.limb([(0, 0.49 - drop, 0.35), (0, 0.475 - drop, 0.56)], [0.095, 0.02], paint, line=0.9)


def _pip_wings(rig: Rig, near: bool) -> None:
    for side, lift in zip((-1, 1), rig.pose.arms, strict=True):
        if (rig.depth((0.3 * side, 0, 0)) >= -0.02) == near:
            joints = _arm((0.36 * side, 0.50, 0.0), side, 0.36, lift + 0.25, 0.0)
            rig.limb(joints, [0.085, 0.115, 0.055], LOOKS["Pip"].colours["wing"])


def momo(rig: Rig) -> None:
    """A big cat with pointed ears and a long tail; upright, or down on all fours when it sneaks and stretches."""
    if rig.pose.low > 0.5:
        _momo_low(rig)
        return
    paint, pose = LOOKS["Momo"].colours, rig.pose
    down = 0.13 * pose.sit
    swing = 0.12 * pose.tail
    tail: list[Point] = [(0, 0.14, -0.12), (0.1 + swing, 0.06, -0.3), (0.3 + 1.6 * swing, 0.16, -0.36)]
    tail += [(0.36 + 2.2 * swing, 0.36, -0.34), (0.28 + 3.2 * swing, 0.5, -0.34)]
    if rig.cos >= 0:
        _momo_tail(rig, tail)
    _momo_arms(rig, near=False, down=down)
    for side, step in zip((-1, 1), pose.legs, strict=True):
        out = 0.12 + 0.09 * pose.sit
        rig.limb([(0.1 * side, 0.2, 0.0), (out * side, 0.05, 0.2 * step)], [0.085, 0.07], paint["main"])
        rig.ball((out * side, 0.045, 0.05 + 0.2 * step + 0.1 * pose.sit), 0.085, 0.05, paint["paw"])
    wide = 1 + 0.14 * pose.sit
    body = [(0.08, 0.12), (0.12, 0.185 * wide), (0.26, 0.205 * wide), (0.42 - down, 0.165), (0.58 - down, 0.12)]
    rig.lathe(body, paint["main"])
    rig.spot((0, 0.3 - down / 2, 0), 0.075, 0.0, 0.118, 0.185 - down / 2, paint["belly"], line=0, shade=0)
    with rig.tilted((0, 0.56 - down, 0), pose.head):
        _momo_head(rig, (0, 0.73 - down - 0.04 * pose.nod, 0.03))
    _momo_arms(rig, near=True, down=down)
    if rig.cos < 0:
        _momo_tail(rig, tail)


def _momo_low(rig: Rig) -> None:
    paint, pose, stretch = LOOKS["Momo"].colours, rig.pose, rig.pose.extend
    hips: Point = (0, 0.27 + 0.12 * stretch, -0.34 - 0.05 * stretch)
    chest: Point = (0, 0.25 - 0.09 * stretch, 0.26 + 0.08 * stretch)
    swing = 0.1 * pose.tail
    tail: list[Point] = [hips, (0, hips[1] + 0.08, -0.56), (0, 0.56 + 0.1 * stretch, -0.68 + swing * 0.4)]
    tail += [(0, 0.66 + 0.12 * stretch, -0.56 + swing), (0, 0.74 + 0.12 * stretch, -0.62 + swing * 1.8)]
    _momo_tail(rig, tail)
    ahead = 0.34 * stretch
    # Its left legs are the far ones when it faces right.
    far = 1 if rig.sin >= 0 else -1
    for side in (far, -far):
        swings = pose.legs if side < 0 else pose.legs[::-1]
        if side != far:
            rig.limb([hips, (0, 0.33 + 0.03 * stretch, -0.02), chest], [0.165, 0.145, 0.135], paint["main"])
        fore: Point = (0.09 * side, 0.05, chest[2] + 0.1 + 0.2 * swings[0] + ahead)
        hind: Point = (0.09 * side, 0.05, hips[2] + 0.02 + 0.2 * swings[1])
        rig.limb([(0.08 * side, chest[1], chest[2]), fore], [0.075, 0.055], paint["main"])
        rig.ball((fore[0], 0.04, fore[2] + 0.03), 0.065, 0.042, paint["paw"])
        rig.limb([(0.08 * side, hips[1] - 0.02, hips[2]), hind], [0.105, 0.06], paint["main"])
        rig.ball((hind[0], 0.04, hind[2] + 0.03), 0.065, 0.042, paint["paw"])
    _momo_head(rig, (0, 0.37 - 0.13 * stretch, chest[2] + 0.2 + 0.06 * stretch))


def _momo_tail(rig: Rig, joints: list[Point]) -> None:
    paint = LOOKS["Momo"].colours
    rig.limb(joints, [0.05, 0.048, 0.045, 0.042], paint["main"])
    rig.limb(joints[-2:], [0.042, 0.04], paint["dark"])


def _momo_arms(rig: Rig, near: bool, down: float) -> None:
    paint, pose = LOOKS["Momo"].colours, rig.pose
    for side, lift, reach in zip((-1, 1), pose.arms, pose.reach, strict=True):
        if (rig.depth((0.1 * side, 0, 0)) >= -0.02) == near:
            joints = _arm((0.13 * side, 0.5 - down, 0.02), side, 0.3, lift + 0.2, reach)
            rig.limb(joints, [0.06, 0.058, 0.056], paint["main"])
            rig.ball(joints[-1], 0.066, 0.06, paint["paw"])


def _momo_head(rig: Rig, centre: Point) -> None:
    paint = LOOKS["Momo"].colours
    side_, up, ahead = centre
    x, y = rig.flat(centre)
    for side in (-1, 1):
        ear_x = x + 0.155 * side * (0.75 + 0.25 * abs(rig.cos))
        ear = [(ear_x - 0.095, y + 0.1), (ear_x + 0.035 * side, y + 0.3), (ear_x + 0.095, y + 0.08)]
        rig.shape(ear, paint["main"])
        if rig.cos > 0:
            inner = [(ear_x - 0.045, y + 0.13), (ear_x + 0.03 * side, y + 0.25), (ear_x + 0.05, y + 0.12)]
            rig.shape(inner, paint["ear"], line=0, shade=0)
    rig.ball(centre, 0.25, 0.185, paint["main"])
    for angle in (-0.34, 0.0, 0.34):
        rig.spot(
            (side_, up + 0.145 - 0.08 * abs(angle), ahead), 0.15, angle, 0.016, 0.042, paint["dark"], line=0, shade=0
        )
    for side in (-1, 1):
        rig.spot((side_, up - 0.075, ahead), 0.215, 0.3 * side, 0.09, 0.062, paint["paw"], line=0.7, shade=0)
    for side in (-1, 1):
        _eye(rig, (side_, up + 0.035, ahead), 0.215, 0.5 * side, 0.062, 0.08)
    rig.spot((side_, up - 0.035, ahead), 0.25, 0.0, 0.035, 0.025, paint["nose"], line=0.7, shade=0)
    _mouth(rig, (side_, up - 0.105, ahead), 0.225, 0.07)
    for side in (-1, 1):
        root = rig.pose.yaw + 0.5 * side
        if math.cos(root) > 0.15:
            for slope in (-0.03, 0.02):
                start = (x + 0.21 * math.sin(root), y - 0.075 + slope * 0.5)
                rig.stroke([start, (start[0] + 0.1 * side, start[1] + 0.01 + slope)], INK, 0.8)


def plum(rig: Rig) -> None:
    """A tall stiff man in a purple tweed coat, with a moustache and a bowler hat."""
    paint, pose = LOOKS["Mr. Plum"].colours, rig.pose
    for side, swing in zip((-1, 1), pose.legs, strict=True):
        ankle: Point = (0.062 * side, 0.05, 0.22 * swing)
        rig.limb([(0.06 * side, 0.3, 0.0), ankle], [0.058, 0.046], paint["trousers"], surface="tweed")
        rig.limb([ankle, (0.07 * side, 0.026, 0.075 + 0.22 * swing)], [0.038, 0.032], paint["shoe"])
    _sleeves(rig, "Mr. Plum", near=False, shoulder=(0.135, 0.575), length=0.29, thick=0.048)
    rig.limb([(0, 0.56, 0), (0, 0.68, 0.01)], [0.05, 0.048], paint["skin"])
    coat = [(0.2, 0.165), (0.3, 0.158), (0.42, 0.145), (0.54, 0.158), (0.6, 0.13), (0.625, 0.06)]
    rig.lathe(coat, paint["main"], surface="tweed")
    if rig.cos > -0.2:
        rig.panel([(0.43, 0.143), (0.5, 0.15), (0.56, 0.145), (0.61, 0.11)], -0.36, 0.36, paint["shirt"], shade=0.5)
        for edge in (-0.34, 0.34):
            lapel = [(0.40, 0.147), (0.5, 0.154), (0.58, 0.145), (0.615, 0.11)]
            rig.panel(lapel, edge - 0.2, edge + 0.2, paint["dark"], surface="tweed", shade=0.7)
        for up in (0.26, 0.32, 0.38):
            rig.spot((0, up, 0), 0.158, 0.06, 0.012, 0.011, paint["button"], shade=0.3)
        for side in (-1, 1):
            rig.spot((0, 0.595, 0), 0.125, 0.24 * side, 0.036, 0.024, paint["tie"])
        rig.spot((0, 0.595, 0), 0.132, 0.0, 0.014, 0.018, (130, 24, 32))
    with rig.tilted((0, 0.62, 0), pose.head):
        _plum_head(rig, (0, 0.745 - 0.03 * pose.nod, 0.01 + 0.05 * pose.nod))
    _sleeves(rig, "Mr. Plum", near=True, shoulder=(0.135, 0.575), length=0.29, thick=0.048)


def _plum_head(rig: Rig, centre: Point) -> None:
    paint, pose = LOOKS["Mr. Plum"].colours, rig.pose
    _, up, ahead = centre
    drop = 0.03 * pose.nod
    rig.ball((0, up + 0.02, ahead - 0.03), 0.117, 0.105, paint["hair"])
    rig.ball(centre, 0.108, 0.122, paint["skin"]) if rig.cos > -0.1 else rig.ball(centre, 0.112, 0.118, paint["hair"])
    for side in (-1, 1):
        rig.spot((0, up - 0.005, ahead), 0.112, 1.45 * side, 0.05, 0.034, paint["nose"])
        rig.spot((0, up + 0.02, ahead), 0.108, 1.3 * side, 0.022, 0.04, paint["hair"])
        rig.spot((0, up - 0.05 - drop, ahead), 0.09, 0.75 * side, 0.036, 0.026, (226, 148, 128), shade=0.2)
        _eye(rig, (0, up + 0.025 - drop, ahead), 0.1, 0.42 * side, 0.024, 0.026)
        rig.spot((0, up + 0.066 - drop, ahead), 0.102, 0.42 * side, 0.034, 0.010, paint["hair"])
    if rig.cos > -0.1:
        _mouth(rig, (0, up - 0.082 - drop, ahead), 0.1, 0.034)
        for side in (-1, 1):
            rig.spot((0, up - 0.055 - drop, ahead), 0.112, 0.26 * side, 0.045, 0.02, paint["hair"])
        rig.ball((0, up - 0.012 - drop, ahead + 0.118), 0.027, 0.03, paint["nose"])
    _bowler(rig, (0, up + 0.075, ahead))


def _bowler(rig: Rig, seat: Point) -> None:
    """The hat on its seat, or on its way up with the right hand."""
    paint, raised = LOOKS["Mr. Plum"].colours, rig.pose.hat
    x, y = rig.flat(seat)
    x, y = x - 0.075 * raised, y + 0.105 * raised
    dome = [(-0.112, 0.0), (-0.108, 0.08), (-0.06, 0.155), (0.06, 0.155), (0.108, 0.08), (0.112, 0.0)]
    band = [(-0.113, 0.0), (-0.112, 0.034), (0.112, 0.034), (0.113, 0.0)]
    rig.shape(smooth([(x + dx, y + dy) for dx, dy in dome]), paint["hat"], surface="rough")
    rig.shape([(x + dx, y + dy) for dx, dy in band], paint["band"], shade=0.6)
    rig.shape(ellipse(x, y, 0.165, 0.026), paint["hat"], surface="rough")


def fern(rig: Rig) -> None:
    """A short old woman in a green dress and shawl, with a grey bun, round glasses and a stick."""
    paint, pose = LOOKS["Nan Fern"].colours, rig.pose
    for side, swing in zip((-1, 1), pose.legs, strict=True):
        rig.limb(
            [(0.09 * side, 0.05, 0.15 * swing), (0.1 * side, 0.028, 0.1 + 0.15 * swing)], [0.045, 0.04], paint["shoe"]
        )
    arm = {"shoulder": (0.16, 0.55), "length": 0.29, "thick": 0.06}
    _sleeves(rig, "Nan Fern", near=False, **arm)  # type: ignore[arg-type]
    dress = [(0.05, 0.285), (0.09, 0.30), (0.22, 0.255), (0.4, 0.185), (0.52, 0.19), (0.6, 0.13)]
    rig.lathe(dress, paint["main"], surface="knit")
    if rig.cos > -0.3:
        apron = [(0.12, 0.285), (0.22, 0.255), (0.34, 0.205), (0.4, 0.187)]
        rig.panel(apron, -0.62, 0.62, paint["apron"], shade=0.6)
    shawl = [(0.4, 0.215), (0.43, 0.225), (0.52, 0.205), (0.6, 0.13), (0.62, 0.09)]
    rig.lathe(shawl, paint["dark"], surface="knit")
    rig.panel([(0.30, 0.21), (0.42, 0.225), (0.52, 0.205), (0.6, 0.14)], -0.22, 0.22, paint["shawl"], surface="knit")
    rig.spot((0, 0.5, 0), 0.215, 0.0, 0.024, 0.024, (206, 92, 66))
    with rig.tilted((0, 0.6, 0), pose.head):
        _fern_head(rig, (0, 0.755 - 0.035 * pose.nod, 0.02 + 0.06 * pose.nod))
    _sleeves(rig, "Nan Fern", near=True, **arm)  # type: ignore[arg-type]


def _fern_head(rig: Rig, centre: Point) -> None:
    paint, pose = LOOKS["Nan Fern"].colours, rig.pose
    _, up, ahead = centre
    drop = 0.05 * pose.nod
    rig.ball((0, up + 0.175, ahead - 0.07), 0.09, 0.078, paint["bun"], surface="rough")
    rig.ball((0, up + 0.03, ahead - 0.03), 0.172, 0.155, paint["hair"], surface="rough")
    if rig.cos < -0.1:
        return
    rig.spot((0, up - 0.02, ahead), 0.02, 0.0, 0.15, 0.142, paint["skin"])
    rig.panel([(up + 0.06, 0.165), (up + 0.13, 0.15), (up + 0.165, 0.06)], -1.3, 1.3, paint["hair"], surface="rough")
    for side in (-1, 1):
        rig.spot((0, up - 0.075 - drop, ahead), 0.12, 0.72 * side, 0.044, 0.034, (238, 150, 136), shade=0.2)
        place: Point = (0, up + 0.005 - drop, ahead)
        rig.spot(place, 0.137, 0.44 * side, 0.056, 0.056, paint["glasses"], shade=0.2)
        rig.spot(place, 0.139, 0.44 * side, 0.046, 0.046, (240, 236, 232), shade=0.2)
        _eye(rig, place, 0.139, 0.44 * side, 0.03, 0.034)
    _mouth(rig, (0, up - 0.095 - drop, ahead), 0.137, 0.05)
    rig.ball((0, up - 0.05 - drop, ahead + 0.155), 0.03, 0.03, paint["nose"])


def _sleeves(rig: Rig, name: str, near: bool, shoulder: tuple[float, float], length: float, thick: float) -> None:
    """The arms on the near or the far side of the body, with hands; Nan Fern's right hand holds her stick."""
    paint, pose = LOOKS[name].colours, rig.pose
    for side, lift, reach in zip((-1, 1), pose.arms, pose.reach, strict=True):
        if (rig.depth((0.1 * side, 0, 0)) >= -0.02) != near:
            continue
        joints = _arm((shoulder[0] * side, shoulder[1], 0.0), side, length, lift + 0.14, reach)
        if name == "Nan Fern" and side < 0:
            _stick(rig, joints[-1], lift)
        sleeve = paint["main"] if name == "Mr. Plum" else paint["dark"]
        rig.limb(joints, [thick, thick * 0.95, thick * 0.85], sleeve, surface="tweed" if name == "Mr. Plum" else "knit")
        rig.ball(joints[-1], thick * 0.92, thick * 0.92, paint["skin"])


def _stick(rig: Rig, hand: Point, lift: float) -> None:
    paint = LOOKS["Nan Fern"].colours["stick"]
    raised = min(1.0, max(0.0, (lift - 0.6) / 1.2))
    top: Point = (hand[0] - 0.02 - 0.14 * raised, hand[1] + 0.1 + 0.32 * raised, hand[2] + 0.04)
    end: Point = (
        hand[0] - 0.05 + 0.06 * raised,
        (0.02 - rig.pose.lift) * (1 - raised) + (hand[1] - 0.2) * raised,
        hand[2] + 0.05,
    )
    rig.limb([end, top], [0.02, 0.024], paint)
    rig.limb(
        [top, (top[0] + 0.02, top[1] + 0.05, top[2]), (top[0] + 0.1, top[1] + 0.03, top[2])], [0.024, 0.024], paint
    )


def _arm(shoulder: Point, side: int, length: float, lift: float, reach: float) -> list[Point]:
    """Shoulder, elbow and hand of an arm raised sideways by `lift` and swung forward by `reach`."""
    out, down, ahead = side * math.sin(lift), -math.cos(lift) * math.cos(reach), math.sin(reach)
    half = length / 2
    elbow = (shoulder[0] + out * half, shoulder[1] + down * half, shoulder[2] + ahead * half - 0.02)
    # The forearm is turned a little upward and forward of the upper arm, as at rest.
    hand = (elbow[0] + out * half * 0.96, elbow[1] + down * half + 0.02, elbow[2] + ahead * half + 0.05)
    return [shoulder, elbow, hand]


def _eye(rig: Rig, centre: Point, radius: float, angle: float, rx: float, ry: float) -> None:
    """An eye on the outside of a head, with its pupil and a glint; a line while it blinks."""
    if math.cos(rig.pose.yaw + angle) < 0.25:
        return
    if rig.pose.blink:
        rig.spot(centre, radius, angle, rx, ry * 0.16, PUPIL, line=0.6, shade=0)
        return
    rig.spot(centre, radius, angle, rx, ry, WHITE, line=0.7, shade=0)
    rig.spot(
        (centre[0], centre[1] - 0.06 * ry, centre[2]), radius, angle * 0.9, rx * 0.58, ry * 0.66, PUPIL, line=0, shade=0
    )
    rig.spot(
        (centre[0], centre[1] + 0.3 * ry, centre[2]),
        radius,
        angle * 0.9 - 0.07,
        rx * 0.22,
        ry * 0.22,
        WHITE,
        line=0,
        shade=0,
    )


def _mouth(rig: Rig, centre: Point, radius: float, half: float) -> None:
    """A smile on the outside of a head, `half` as wide as given; open while the pose says so."""
    if rig.cos < 0.05:
        return
    x, y = rig.flat(centre)
    x += radius * rig.sin

    def curve(depth: float) -> list[tuple[float, float]]:
        places = (-1.0, -0.6, 0.0, 0.6, 1.0)
        return [(x + place * half * rig.cos, y - depth * half * (1 - place * place)) for place in places]

    if rig.pose.mouth > 0.45:
        rig.shape(curve(0.1) + curve(1.3 * rig.pose.mouth)[::-1], LIPS, line=0.7, shade=0)
    else:
        rig.stroke(curve(0.4), PUPIL, 1.1)


FIGURES: dict[str, Callable[[Rig], None]] = {"Pip": pip, "Momo": momo, "Mr. Plum": plum, "Nan Fern": fern}
