"""The in-process backend on a tiny LLaVA, its weights random or set by hand: proves wiring, not captions."""

import shutil

import pytest
import torch

from mimix_ray.config import CaptionsVlmConfig
from mimix_ray.vlm import LocalVlm, Question, VlmError, check_model, to_jpegs
from tests.vlm.hostile import picture
from tests.vlm.tiny_llava import IMAGE_TOKENS, build_random, build_scripted

SAYS = '{"seen": "a room"}'


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """So small a model is faster so, the more the less of the machine is free."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def random_llava(tmp_path_factory):
    return build_random(tmp_path_factory.mktemp("random"), ends=20)


@pytest.fixture(scope="module")
def scripted_llava(tmp_path_factory):
    return build_scripted(tmp_path_factory.mktemp("scripted"), SAYS)


@pytest.fixture
def make_vlm(storage):
    def make(model, **settings):
        settings = {"max_tokens": 12, "batch_size": 4, **settings}
        return LocalVlm(CaptionsVlmConfig(backend="transformers", model=str(model), **settings), storage)

    return make


def question(number, text="What?"):
    return Question(
        "seen", text, tuple(to_jpegs([picture(number)] * 2, 48, 90)), {"type": "object"}, lambda answer: answer["seen"]
    )


def calls_to(vlm, monkeypatch):
    """The sizes of the batches that the model is given from now on."""
    sizes, generate = [], vlm._generate
    monkeypatch.setattr(vlm, "_generate", lambda batch: sizes.append(len(batch)) or generate(batch))
    return sizes


def test_a_scripted_llava_answers_each_question(make_vlm, scripted_llava):
    outcomes = make_vlm(scripted_llava).ask_all([question(1), question(2, "What, then?")])
    assert [(one.kind, one.value, one.calls) for one in outcomes] == [("ok", "a room", 1)] * 2
    # A token is a byte: the second prompt is longer by its text alone; padding is not counted.
    assert outcomes[1].tokens_in - outcomes[0].tokens_in == len(", then")
    assert outcomes[0].tokens_in > 2 * IMAGE_TOKENS + len("What?")
    assert [one.tokens_out for one in outcomes] == [2, 2], "the answer and its end"


def test_random_weights_say_the_same_in_a_batch_as_alone(make_vlm, random_llava):
    questions = [question(number, "What" + "?" * number) for number in range(8)]
    vlm = make_vlm(random_llava)
    alone = [vlm._generate([one])[0] for one in questions]
    together = vlm._generate(questions)
    assert together == alone
    assert len({reply.text for reply in together}) > 4, "answers tell questions apart"


def test_random_weights_are_cut_off_or_give_no_json(make_vlm, random_llava):
    questions = [question(number, "What" + "?" * number) for number in range(8)]
    outcomes = make_vlm(random_llava, max_tokens=4).ask_all(questions)
    assert {one.kind for one in outcomes} == {"truncated", "unparseable"}
    for one in outcomes:
        assert 1 <= one.tokens_out <= 4 and one.error, one
        assert one.kind != "truncated" or (one.tokens_out == 4 and "vlm.max_tokens" in one.error)
    # A longer answer is allowed: only those that were cut off are computed again.
    again = make_vlm(random_llava, max_tokens=16).ask_all(questions)
    assert [one.calls for one in again] == [int(one.kind == "truncated") for one in outcomes]


def test_nothing_is_computed_twice(make_vlm, scripted_llava, monkeypatch):
    vlm = make_vlm(scripted_llava)
    sizes = calls_to(vlm, monkeypatch)
    first = vlm.ask_all([question(number) for number in range(6)])
    assert sizes == [4, 2]
    assert [one.value for one in vlm.ask_all([question(5), question(6), question(0)])] == ["a room"] * 3
    assert sizes == [4, 2, 1]
    other = make_vlm(scripted_llava, batch_size=1)
    kept = other.ask_all([question(number) for number in range(6)])
    assert [(one.value, one.calls, one.tokens_in) for one in kept] == [(one.value, 0, one.tokens_in) for one in first]


def test_a_question_that_the_model_cannot_take_fails_alone_and_is_not_kept(make_vlm, scripted_llava, monkeypatch):
    vlm = make_vlm(scripted_llava)
    sizes = calls_to(vlm, monkeypatch)
    broken = Question("seen", "What?", (b"no picture",), {"type": "object"}, lambda answer: answer["seen"])
    outcomes = vlm.ask_all([question(0), broken, question(1), question(2)])
    assert [one.kind for one in outcomes] == ["ok", "endpoint_error", "ok", "ok"]
    assert "UnidentifiedImageError" in outcomes[1].error and "\n" not in outcomes[1].error
    assert sizes == [4, 2, 1, 1, 2]
    assert (vlm.ask(broken).calls, vlm.ask(question(0)).calls) == (1, 0)


def test_a_usable_model_passes_the_check(random_llava):
    check_model(CaptionsVlmConfig(model=str(random_llava)))


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("config.json", "config"),
        ("model.safetensors", "no weights"),
        ("chat_template.jinja", "no chat template"),
        ("*", "cannot be used"),
    ],
)
def test_a_model_that_is_not_there_is_told_in_one_line(random_llava, tmp_path, monkeypatch, gone, says):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "llava"
    if gone != "*":
        shutil.copytree(random_llava, folder)
        (folder / gone).unlink()
    with pytest.raises(VlmError, match=says) as caught:
        check_model(CaptionsVlmConfig(model=str(folder)))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
