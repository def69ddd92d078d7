from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mimix_ray.config import VlmConfig
from mimix_ray.storage import Storage
from mimix_ray.universe import Character
from mimix_ray.vlm import Question, Vlm, api_key, client, to_jpegs
from mimix_ray.vlm.questions import caption
from tests.vlm.hostile import Hostile, hostile_server, picture

CAST = (
    Character(
        name="Pip",
        show="pip_and_momo",
        style="cartoon",
        aliases=("the chick",),
        look="a small yellow chick",
        manner="hops",
    ),
    Character(name="Momo", show="pip_and_momo", style="cartoon", look="a big teal cat", manner="sneaks"),
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    monkeypatch.setattr(client, "BACKOFF_S", 0.02)
    with hostile_server() as running:
        yield running


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage.open(str(tmp_path / "root"))


@pytest.fixture
def make_vlm(server: Hostile, storage: Storage) -> Iterator[Callable[..., Vlm]]:
    """`make_vlm(concurrency=2)`: asks the hostile server, with answers kept in this test's storage."""
    made: list[Vlm] = []

    def make(**settings: Any) -> Vlm:
        config = VlmConfig(
            **{
                "base_url": server.base_url,
                "model": "hostile",
                "api_key_env": "NO_SUCH_KEY",
                "max_attempts": 3,
                **settings,
            }
        )
        made.append(Vlm(config, storage, api_key(config)))
        return made[-1]

    yield make
    for vlm in made:
        vlm.close()


def question(number: int, context: str = "") -> Question[caption.CaptionAnswer]:
    """The caption question about clip `number`."""
    return caption.question(to_jpegs([picture(number)] * 2, 48, 90), CAST, context)
