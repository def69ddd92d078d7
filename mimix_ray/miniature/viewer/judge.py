"""The four axes of the judge: scores from what was measured in the frames, with the measurements as reasons.

Each returns its reasons and the share 0..1 of the scale that was reached; None where the frames, or the question, do
not allow a judgement. One who should be there and is not counts as 0, as the rubrics say.
"""

from __future__ import annotations

import re
from statistics import fmean

from mimix_ray.miniature.cast import ACTIONS, LOOKS
from mimix_ray.miniature.viewer.recognise import KNOWN_PLACE, Box, Subject, View

Judgement = tuple[str, float | None]

TAG = re.compile(r"\[ *character *: *([^\]]+?) *\],? *([^\[]*)", re.IGNORECASE)
SCENE_TAG = re.compile(r"\[ *scene[-_ ]style *: *(cartoon|realistic) *\]", re.IGNORECASE)
LOOK_FOR = re.compile(r"look for: *(.+)", re.IGNORECASE)


STEMS: dict[str, str] = {
    "brandishes": r"brandish|(wav|shak|swing|rais)\w* (her|the|a|his) (walking )?stick",
    "hops": r"\bhop",
    "flaps": r"\bflap|flutter|\bfl(y|ies)\b",
    "jumps": r"\bjump|leap|bounc",
    "waves": r"\bwav(?!\w* (her|the|a|his) (walking )?stick)",
    "spins": r"\bspin|twirl|turns? around",
    "dances": r"\bdanc",
    "pecks": r"\bpeck",
    "runs": r"\brun|\bflee|escap|\baway\b",
    "peeks": r"\bpeek|\bpeep|\bhid",
    "sneaks": r"\bsneak|creep|stalk|prowl|tiptoe",
    "stretches": r"stretch",
    "sits": r"\bsit|\bsat\b",
    "chases": r"\bchas|pursu|runs? after",
    "waddles": r"waddl|\bwalk|stroll",
    "tips": r"\btip(s|ping)? |(lift|rais|doff)\w* (his|the|a) (bowler )?hat",
    "bows": r"\bbow(s|ing)?\b",
    "bustles": r"bustl|hurr(y|ies)",
    "nods": r"\bnod",
}
"""How people write what the cast can do: action -> a pattern. `runs` and `chases` are one way of moving."""


def identity(view: View, text: str) -> Judgement:
    """In how many of the frames each character is there, and how much it looks like itself."""
    named = LOOK_FOR.search(text)
    # "Mr. Plum, Nan Fern": names hold full stops and spaces, never commas.
    names = [name.strip() for name in named[1].split(",")] if named else list(asked(text))
    if not names:
        return "The question names nobody.", None
    words, shares = [], []
    for name in names:
        subject = view.find(name)
        shares.append(subject.presence(view.frames) if subject else 0.0)
        words.append(_seen(subject, view) if subject else f"{name} is not there.")
    return " ".join(words), fmean(shares)


def motion(view: View, text: str) -> Judgement:
    """Whether each character does what was asked, as it does it."""
    parts = asked(text)
    if not parts or view.frames < 2 or not view.readable:
        return f"{view.words()} That allows no judgement of motion.", None
    words, shares = [], []
    for name, wanted in parts.items():
        subject = view.find(name)
        if subject is None:
            words.append(f"{name} is not there.")
            shares.append(0.0)
            continue
        known = actions_in(wanted, name)
        # Asked for what nobody has seen it do, it can still move as itself: "the right action" is more than half.
        fit = sum(subject.odds[action] for action in known) if known else 0.5 * subject.sure
        if not subject.moves:
            fit = min(fit, STILL_SHARE)
        words.append(f"{_seen(subject, view)} It {view.phrase(subject)}; asked was: {wanted or 'nothing'}.")
        shares.append(fit * subject.presence(view.frames))
    return " ".join(words), fmean(shares)


def style(view: View, text: str) -> Judgement:
    """Whether each character has the style of its own show, and the scene the one that was asked for."""
    if not view.readable:
        return f"{view.words()} No style can be made out.", 0.0
    words, shares = [], []
    for name in asked(text):
        subject = view.find(name)
        if subject is None:
            words.append(f"{name} is not there.")
            shares.append(0.0)
            continue
        native = LOOKS[subject.name].style
        drawn = "shaded, without outlines" if subject.realism > 0.5 else "flat, with outlines"
        words.append(f"{subject.name} is {drawn}; its show is {native}.")
        shares.append(subject.realism if native == "realistic" else 1 - subject.realism)
    if scene := SCENE_TAG.search(text):
        wanted = scene[1].lower()
        words.append(f"The scene, {view.setting}, looks {view.scene_style}; asked was {wanted}.")
        right = view.realism if wanted == "realistic" else 1 - view.realism
        # Of a place that is like none it knows, the surface alone says little.
        shares.append(right * min(1.0, view.familiar / KNOWN_PLACE))
    return (" ".join(words), fmean(shares)) if shares else ("The question asks for no style.", None)


def interaction(view: View, text: str) -> Judgement:
    """Whether the characters share one space and act at once; one alone, whether it stands on the ground and acts."""
    names = list(asked(text))
    if not names or not view.readable:
        return f"{view.words()} That allows no judgement of interaction.", None
    subjects = [subject for subject in map(view.find, names) if subject is not None]
    if not subjects:
        return "None of them is there.", 0.0
    if len(subjects) == 1:
        one = subjects[0]
        ground = _grounded(one)
        words = (
            f"Of those asked for only {one.name} is there; weight holds it to the ground in {ground:.0%} of the frames."
        )
        # With a partner missing there is nothing to respond to, however well the other stands.
        return words, one.presence(view.frames) * (0.5 * ground + 0.5 * one.moves) * (1.0 if len(names) == 1 else 0.2)
    pairs = [(a, b) for i, a in enumerate(subjects) for b in subjects[i + 1 :]]
    together = fmean(_together(a, b) for a, b in pairs) / view.frames
    near = fmean(_nearness(a, b) for a, b in pairs)
    level = fmean(_level(a, b) for a, b in pairs)
    active = fmean(one.moves for one in subjects)
    words = (
        f"{' and '.join(one.name for one in subjects)} are together in {together:.0%} of the frames; "
        f"nearness {near:.0%}, common ground {level:.0%}, {active:.0%} of them act."
    )
    return words, together * len(subjects) / len(names) * (0.1 + 0.35 * near + 0.25 * level + 0.3 * active)


def actions_in(text: str, name: str) -> set[str]:
    """What a text asks of a character, of all that it can do."""
    wanted = {action for action, stem in STEMS.items() if re.search(stem, text, re.IGNORECASE)}
    if wanted & {"runs", "chases"}:
        wanted |= {"runs", "chases"}
    return wanted & set(ACTIONS.get(name, {}))


def asked(text: str) -> dict[str, str]:
    """Who should act and how, from the tags of the grammar; what is asked of one in several tags is joined."""
    parts: dict[str, str] = {}
    for name, action in TAG.findall(text):
        parts[name] = f"{parts.get(name, '')} {action.strip().rstrip('.')}".strip()
    return parts


def _seen(subject: Subject, view: View) -> str:
    return f"{subject.name} is in {len(subject.sightings)} of {view.frames} frames, {subject.likeness:.0%} like itself."


def _grounded(subject: Subject) -> float:
    """Share of its sightings in which weight holds it: within a leap of its lowest point, which is on the floor."""
    bottoms = [box[3] for box in subject.boxes().values()]
    return fmean(bottom > max(bottoms) - LEAP for bottom in bottoms) if max(bottoms) > HORIZON else 0.0


def _both(a: Subject, b: Subject) -> list[tuple[Box, Box]]:
    return [(box, b.boxes()[frame]) for frame, box in a.boxes().items() if frame in b.boxes()]


def _together(a: Subject, b: Subject) -> int:
    """Frames in which both are seen."""
    return len(_both(a, b))


def _nearness(a: Subject, b: Subject) -> float:
    """1 where they touch or nearly so, 0 from half a picture apart; the mean over the frames with both."""
    gaps = [max(0.0, one[0] - other[2], other[0] - one[2]) for one, other in _both(a, b)]
    return fmean(min(1.0, max(0.0, (FAR - gap) / (FAR - NEAR))) for gap in gaps) if gaps else 0.0


def _level(a: Subject, b: Subject) -> float:
    """Whether they stand on one floor: 1 where their lowest points are within a step, 0 from a storey on."""
    apart = abs(max(box[3] for box in a.boxes().values()) - max(box[3] for box in b.boxes().values()))
    return min(1.0, max(0.0, (STOREY - apart) / (STOREY - STEP)))


STILL_SHARE = 2 / 9
"""Share of the scale for one that does not move: the rubric allows 3 of 10 at most."""
LEAP = 0.3
"""How high a leap may be, share of the picture's height: Momo's, the highest of the cast, is 0.25."""
HORIZON = 0.6
"""Where floors begin, share of the picture's height."""
NEAR, FAR = 0.1, 0.5
"""Gaps between two, shares of the picture's width: an arm's length, and half the picture."""
STEP, STOREY = 0.1, 0.35
"""Differences of ground, shares of the picture's height: nearer and farther on one floor, and a floor higher."""
