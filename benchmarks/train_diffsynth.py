"""DiffSynth-Studio's own trainer on the tiny Wan; `benchmarks/train.py` runs this with the Python that has it.

    python benchmarks/train_diffsynth.py FOLDER --steps 15 --rank 16 --learning_rate 1e-3

All that works is of the package `diffsynth`: model class, converter of weights, LoRA, loss, data set and training loop
(`launch_training_task` under accelerate). Its example script, which is not in the package, is what stands here: a
module that takes cached inputs. No part of mimix_ray is imported. The folder holds `wan/` in diffusers layout,
`cached/*.pth` (inputs as its split training caches them), and gets `check.safetensors`: one loss, and what was drawn
for it. The last line tells the seconds of each step but the first.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffsynth.core import UnifiedDataset
from diffsynth.diffusion import DiffusionTrainingModule, FlowMatchSFTLoss, ModelLogger, launch_training_task
from diffsynth.models.wan_video_dit import WanModel
from diffsynth.pipelines.wan_video import WanVideoPipeline
from diffsynth.utils.state_dict_converters.wan_video_dit import WanVideoDiTFromDiffusers
from safetensors.torch import load_file, save_file

TARGETS = "q,k,v,o,ffn.0,ffn.2"
"""Its example's, which are our `attention_ffn`."""


class Module(DiffusionTrainingModule):
    """The pipeline with nothing but the transformer, and LoRA on it; as its example of split training, second half."""

    def __init__(self, folder: Path, rank: int) -> None:
        super().__init__()
        self.pipe = WanVideoPipeline(device="cpu", torch_dtype=torch.float32)
        self.pipe.dit = transformer(folder)
        self.pipe = self.split_pipeline_units("sft:train", self.pipe, lora_base_model="dit")
        self.switch_pipe_to_training_mode(
            self.pipe, lora_base_model="dit", lora_target_modules=TARGETS, lora_rank=rank, task="sft:train"
        )

    def forward(self, data: Any, inputs: tuple[dict, dict, dict]) -> torch.Tensor:
        inputs = self.transfer_data_to_device(inputs, self.pipe.device, self.pipe.torch_dtype)
        for unit in self.pipe.units:
            inputs = self.pipe.unit_runner(unit, self.pipe, *inputs)
        shared, positive, _ = inputs
        return FlowMatchSFTLoss(self.pipe, **shared, **positive)


class Clock(ModelLogger):
    """Its own logger, which also notes when steps end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), remove_prefix_in_ckpt="pipe.dit.")
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        super().on_step_end(*args, **kwargs)
        self.ends.append(time.perf_counter())


def transformer(folder: Path) -> WanModel:
    """Its model class with the weights of the diffusers model."""
    sizes = json.loads((folder / "wan/transformer/config.json").read_text())
    model = WanModel(
        dim=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        in_dim=sizes["in_channels"],
        ffn_dim=sizes["ffn_dim"],
        out_dim=sizes["out_channels"],
        text_dim=sizes["text_dim"],
        freq_dim=sizes["freq_dim"],
        eps=sizes["eps"],
        patch_size=sizes["patch_size"],
        num_heads=sizes["num_attention_heads"],
        num_layers=sizes["num_layers"],
        has_image_input=False,
    )
    weights = load_file(folder / "wan/transformer/diffusion_pytorch_model.safetensors")
    model.load_state_dict(WanVideoDiTFromDiffusers(weights))
    return model


def check(module: Module, sample: tuple[dict, dict, dict], path: Path) -> None:
    """Leaves one loss and what was drawn for it, so that the caller can compute the same."""
    scheduler, latents = module.pipe.scheduler, sample[0]["input_latents"]
    torch.manual_seed(0)
    with torch.no_grad():
        loss = module({}, inputs=sample)
    torch.manual_seed(0)
    place = torch.randint(0, len(scheduler.timesteps), (1,))
    weight = scheduler.training_weight(scheduler.timesteps[place])
    # Its loss is weighted by flow time, in every step alike; the plain one is told.
    told = {"noise": torch.randn_like(latents), "s": scheduler.sigmas[place].float(), "loss": loss / weight}
    save_file(told, path)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--steps", type=int, required=True)
    options.add_argument("--rank", type=int, required=True)
    options.add_argument("--learning_rate", type=float, required=True)
    told = options.parse_args()
    module = Module(told.folder, told.rank)
    data = UnifiedDataset(base_path=str(told.folder / "cached"), max_data_items=told.steps)
    check(module, data[0], told.folder / "check.safetensors")
    clock = Clock(told.folder / "diffsynth")
    # Files are read in the training process, as its command line does by default.
    launch_training_task(Accelerator(cpu=True), data, module, clock, learning_rate=told.learning_rate, num_workers=0)
    seconds = [after - before for before, after in pairwise(clock.ends)]
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    print(json.dumps({"seconds": seconds, "trained": trained}))


if __name__ == "__main__":
    main()
