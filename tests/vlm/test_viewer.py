"""Every question put to the miniature's viewer over HTTP: both sides of the wire keep to one contract."""

import pytest

from mimix_ray.config import VlmConfig
from mimix_ray.miniature.viewer.app import create_app
from mimix_ray.miniature.world import Actor, Shot, render_shot
from mimix_ray.storage import Storage
from mimix_ray.universe import load_universe
from mimix_ray.vlm import Vlm, api_key, check_endpoint, to_jpegs
from mimix_ray.vlm.questions import caption, judge, locate
from tests.conftest import REPO
from tests.vlm.hostile import serve

UNIVERSE = load_universe(REPO / "configs/universes/miniature.yaml")
PIP = Actor("Pip", "hops", (0.2, 0.9), (0.45, 0.9), 0.5)
MOMO = Actor("Momo", "sneaks", (0.6, 0.9), (0.85, 0.9), 0.6)


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    with serve(create_app()) as base_url:
        config = VlmConfig(base_url=base_url, model="viewer", api_key_env="NO_SUCH_KEY")
        check_endpoint(config)
        asking = Vlm(config, Storage.open(str(tmp_path_factory.mktemp("vlm"))), api_key(config))
        yield asking
        asking.close()


@pytest.fixture(scope="module")
def frames():
    def make(*actors):
        shot = Shot("pip_and_momo", "kitchen", actors, 3.0, 1)
        return to_jpegs(list(render_shot(shot, 192, 112))[::8], 480, 90)

    return make


@pytest.mark.parametrize(
    "actors", [(), (PIP,), (MOMO,), (PIP, MOMO)], ids=lambda cast: "+".join(one.name for one in cast)
)
def test_captions_name_who_is_there(vlm, frames, actors):
    cast = UNIVERSE.show("pip_and_momo").characters
    outcome = vlm.ask(caption.question(frames(*actors), cast))
    assert outcome.kind == "ok", outcome.error
    assert {one.name for one in outcome.value.characters} == {actor.name for actor in actors}
    assert outcome.value.setting and outcome.tokens_in > 0 and outcome.tokens_out > 0


def test_boxes_are_where_the_characters_stand(vlm, frames):
    outcome = vlm.ask(locate.question(frames(PIP, MOMO), UNIVERSE.characters))
    assert outcome.kind == "ok", outcome.error
    assert {subject.name for subject in outcome.value} == {"Pip", "Momo"}
    for subject in outcome.value:
        middle = (subject.box[0] + subject.box[2]) / 2
        assert (0.1 < middle < 0.55) if subject.name == "Pip" else (0.5 < middle < 0.95)


@pytest.mark.parametrize("axis", judge.AXES)
def test_the_judge_scores_who_is_there_above_who_is_not(vlm, frames, axis):
    def score(name, action):
        prompt = f"[Character: {name}], {action}. [scene-style:cartoon]"
        outcome = vlm.ask(judge.question(axis, frames(PIP), [UNIVERSE.character(name)], prompt))
        assert outcome.kind == "ok", outcome.error
        return outcome.value.score

    there, absent = score("Pip", "hops quickly across the floor"), score("Nan Fern", "waves her stick")
    assert there >= 5
    assert absent is None or absent < there
