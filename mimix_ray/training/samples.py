"""Videos of fixed prompts while training goes on: what the weights of this very step make of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mimix_ray import backbone
from mimix_ray.backbone import GenerationError
from mimix_ray.config import BackboneConfig
from mimix_ray.storage import Storage
from mimix_ray.synthesis import Parameters, make_video
from mimix_ray.training.listener import Listener
from mimix_ray.video import VideoError

FOLDER = "training/samples"


class Sampler:
    """Makes one worker's sample videos with the very model that is trained.

    The noise of each video has a generator of its own: training draws the same numbers with samples or without.
    """

    def __init__(
        self,
        wanted: Sequence[tuple[str, Parameters]],
        storage: Storage,
        base: BackboneConfig,
        model: nn.Module,
        rank: int,
        world: int,
        listener: Listener,
    ) -> None:
        """
        Args:
            wanted: Prompt ids, and what is asked of the model for each.
        """
        self.wanted, self.storage, self.model, self.rank, self.world = wanted, storage, model, rank, world
        self.listener = listener
        texts = [text for _, asked in wanted for text in (asked.prompt, asked.negative_prompt)]
        self.generator = backbone.family(base).load_sampler(base, model, texts)

    def make(self, step: int) -> None:
        """Publishes `training/samples/<step>/<prompt id>.mp4`; every worker must call.

        Each worker makes as many as every other, as sharded weights need; one that is made twice comes out the same.
        """
        self.model.eval()
        for turn in range(0, len(self.wanted), self.world):
            name, asked = self.wanted[min(turn + self.rank, len(self.wanted) - 1)]
            try:
                make_video(self.generator, asked, self.storage, f"{FOLDER}/{step:08d}/{name}.mp4", on_step=self._alive)
            except (GenerationError, VideoError, OSError) as error:  # when the model's part is over: nobody waits
                self.listener.say(f"no sample of {name} at step {step}: {error}")
        self.model.train()

    def _alive(self, step: int, steps: int) -> None:
        self.listener.beat()
