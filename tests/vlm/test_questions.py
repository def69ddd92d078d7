"""What each question sends, and which answers it takes."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from mimix_ray.vlm import Reply, prompt_hash, to_jpegs
from mimix_ray.vlm.questions import caption, judge, locate
from tests.vlm.conftest import CAST
from tests.vlm.hostile import number_of, picture

JPEGS = to_jpegs([picture(n) for n in range(4)], 48, 90)
PROMPT = "[Character: Pip], hops to Momo. [Character: Momo], stretches. [scene-style:cartoon]"
QUESTIONS = [
    caption.question(JPEGS, CAST, "Dialogue during the clip:\nHello."),
    caption.question(JPEGS, ()),
    locate.question(JPEGS, CAST),
    *(judge.question(axis, JPEGS, CAST, PROMPT) for axis in judge.AXES),
]


def read(question, answer):
    return question.read(Reply("ok", answer if isinstance(answer, str) else json.dumps(answer)))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_schemas_are_strict_and_reason_first(question):
    def walk(schema):
        if schema["type"] == "object":
            assert schema["additionalProperties"] is False
            assert schema["required"] == list(schema["properties"])
            for inner in schema["properties"].values():
                walk(inner)
        if schema["type"] == "array":
            walk(schema["items"])

    walk(question.schema)
    assert next(iter(question.schema["properties"])) == "reasoning"
    assert question.response_format()["json_schema"]["strict"] is True


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_frames_are_sent_in_time_order_each_under_its_number(question):
    (message,) = question.messages()
    text, *rest = message["content"]
    assert text["text"] == question.text
    assert [part["text"] for part in rest[::2]] == [f"Frame {n}:" for n in range(4)]
    uris = [part["image_url"]["url"] for part in rest[1::2]]
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in uris)
    assert [number_of(base64.b64decode(uri.partition(",")[2])) for uri in uris] == [0, 1, 2, 3]


def test_only_the_cast_may_be_named():
    enum = caption.question(JPEGS, CAST).schema["properties"]["characters"]["items"]["properties"]["name"]["enum"]
    assert enum == ["Pip", "Momo"]
    assert "enum" not in str(caption.question(JPEGS, ()).schema["properties"]["characters"])


CAPTION = {
    "reasoning": "Pip in all frames",
    "characters": [{"name": "Momo", "action": "sneaks up on Pip"}, {"name": "the chick", "action": "Pip hops away. "}],
    "setting": "a garden",
    "scene_style": "cartoon",
    "confidence": 0.9,
}


def test_a_caption_is_read_with_canonical_names_and_bare_actions():
    answer = read(QUESTIONS[0], CAPTION).value
    assert [(one.name, one.action) for one in answer.characters] == [("Momo", "sneaks up on Pip"), ("Pip", "hops away")]
    assert (answer.setting, answer.scene_style, answer.confidence) == ("a garden", "cartoon", 0.9)


def test_nobody_there_is_an_answer():
    assert read(QUESTIONS[0], CAPTION | {"characters": []}).value.characters == ()
    assert read(QUESTIONS[1], CAPTION | {"characters": []}).kind == "ok"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"characters": [{"name": "Tom", "action": "runs"}]}, "unknown_character"),
        ({"characters": [{"name": "Pip", "action": " . "}]}, "unparseable"),
        ({"characters": [{"name": "Pip"}]}, "unparseable"),
        ({"characters": [{"name": None, "action": "runs"}]}, "unparseable"),
        ({"characters": "Pip"}, "unparseable"),
        ({"characters": None}, "unparseable"),
        ({"characters": [], "setting": " "}, "unparseable"),
        ({"setting": None}, "unparseable"),
        ({"scene_style": "anime"}, "unparseable"),
        ({"confidence": 7}, "unparseable"),
        ({"confidence": "high"}, "unparseable"),
        ({"confidence": float("nan")}, "unparseable"),
        ({"reasoning": None}, "ok"),
    ],
)
def test_a_bad_caption_is_typed(change, kind):
    assert read(QUESTIONS[0], CAPTION | change).kind == kind


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '"Pip"', "[1, 2]", '{"a": 1', "\ud800", '{"a":' * 100_000 + "}"]
)
def test_text_that_is_no_answer_is_unparseable(text):
    assert all(read(question, text).kind == "unparseable" for question in QUESTIONS)


FOUND = {"name": "Pip", "frame": 3, "box": [0.1, 0.2, 0.5, 0.9], "confidence": 0.8}


def test_boxes_are_read():
    (subject,) = read(QUESTIONS[2], {"reasoning": "", "subjects": [FOUND]}).value
    assert subject == locate.Subject("Pip", 3, (0.1, 0.2, 0.5, 0.9), 0.8)
    assert read(QUESTIONS[2], {"reasoning": "", "subjects": []}).value == ()


@pytest.mark.parametrize(
    "change",
    [
        {"frame": 4},
        {"frame": -1},
        {"frame": 1.5},
        {"frame": True},
        {"box": [0.5, 0.2, 0.1, 0.9]},
        {"box": [10, 20, 50, 90]},
        {"box": [0.1, 0.2, 0.5]},
        {"box": None},
        {"confidence": 2},
    ],
    ids=str,
)
def test_bad_boxes_are_refused(change):
    assert read(QUESTIONS[2], {"reasoning": "", "subjects": [FOUND | change]}).kind == "unparseable"


@pytest.mark.parametrize(
    ("answer", "kind", "score"),
    [
        ({"cannot_tell": False, "score": 7}, "ok", 7),
        ({"cannot_tell": False, "score": 10.0}, "ok", 10),
        ({"cannot_tell": True, "score": 5}, "ok", None),
        ({"cannot_tell": False, "score": 0}, "unparseable", None),
        ({"cannot_tell": False, "score": 11}, "unparseable", None),
        ({"cannot_tell": False, "score": 6.5}, "unparseable", None),
        ({"cannot_tell": False, "score": None}, "unparseable", None),
        ({"cannot_tell": "no", "score": 5}, "unparseable", None),
    ],
    ids=str,
)
def test_verdicts(answer, kind, score):
    outcome = read(QUESTIONS[3], {"reasoning": "because", **answer})
    assert outcome.kind == kind
    assert outcome.value is None or outcome.value == judge.Verdict(score, "because")


def test_the_identity_judge_is_not_told_what_should_happen():
    asked = {question.name: question.text for question in QUESTIONS}
    assert "look for: Pip, Momo" in asked["judge_identity_p"]
    assert PROMPT not in asked["judge_identity_p"]
    assert all(PROMPT in asked[f"judge_{axis}"] for axis in ("motion_p", "style_p", "interaction_p"))


def test_samples_of_one_question_are_kept_apart():
    keys = {judge.question("style_p", JPEGS, CAST, PROMPT, sample).key("m", 0.3) for sample in (0, 1, 1)}
    assert len(keys) == 2


def test_each_prompt_file_has_its_hash():
    hashes = [prompt_hash(name) for name in ("caption", "locate")] + [judge.rubric_hash(axis) for axis in judge.AXES]
    assert len(set(hashes)) == 6 and all(len(one) == 16 for one in hashes)


def size(jpeg):
    return Image.open(io.BytesIO(jpeg)).size


def test_frames_are_shrunk_and_never_enlarged():
    frame = np.random.default_rng(0).integers(0, 255, (480, 832, 3), np.uint8)
    assert size(to_jpegs([frame], 240, 90)[0]) == (416, 240)
    assert size(to_jpegs([frame], 1080, 90)[0]) == (832, 480)
    assert to_jpegs([frame], 240, 90) == to_jpegs([frame.copy()], 240, 90)
    assert len(to_jpegs([frame], 480, 40)[0]) < len(to_jpegs([frame], 480, 95)[0])
