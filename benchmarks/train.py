"""Seconds a training step: ours against a bare PyTorch loop and against DiffSynth-Studio's trainer, on one tiny Wan.

    python benchmarks/train.py [--diffsynth-python PATH]
    python benchmarks/train.py --gpu                  Wan-14B shapes on one GPU: see benchmarks/train_14b.py

All train the miniature's transformer on the same latents and texts: 81 frames of 192x112 (1764 tokens) under 512 text
tokens, one clip a step, fp32 on the CPU, LoRA on attention and FFN, activations recomputed in the backward pass (which
DiffSynth-Studio does always):

    mimix_ray    our loop as a worker runs it, alone, with all cores: plan, reading from storage, DeepSpeed, records
    compiled     the same with training.compile
    checkpoints  the same with a checkpoint after every step
    bare         diffusers' model, peft, AdamW, clipping, all cores; samples in memory, and nothing else
    diffsynth    DiffSynth-Studio's own model class, loss and training loop from its package, all cores, with the same
                 weights and LoRA; it does not clip. `unavailable` unless --diffsynth-python names a Python that has
                 the package (docs/training.md says how to make one)
    1 worker, 2 workers   the stage on a local Ray; each worker has one core and one clip a step

Each is a process of its own. Rounds go through all of them in turn, so that noise hits all alike; the first steps of
each run are left out, and medians are told. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import train_14b
from safetensors.torch import load_file
from torch import Tensor

from mimix_ray import backbone, config, tables, tensors
from mimix_ray.backbone import flow
from mimix_ray.config import RunConfig
from mimix_ray.miniature import base
from mimix_ray.run import Run
from mimix_ray.storage import Storage

REPO = Path(__file__).parents[1]
TARGET = 1.05
"""Most times the bare loop's step."""
WARM_UP = 3
"""First steps of each run, which do not count."""
SHAPE, TEXT_TOKENS, SAMPLES = (16, 21, 14, 24), 60, 8
CORES = os.cpu_count() or 1


def configure(folder: Path, root: Path | str, **training: object) -> RunConfig:
    """The miniature's config for one clip a worker and step, with activations recomputed."""
    given = {"gradient_checkpointing": True, "batch_size": 1, "micro_batch": 1, "epochs": 10_000, "workers": 1}
    given |= {"checkpoint_every": 10_000, **training}
    paths = ["--root", root, "--universe", REPO / "configs/universes/miniature.yaml", "--backbone.path", folder / "wan"]
    how = [word for name, value in given.items() for word in (f"--training.{name}", str(value))]
    return config.load(REPO / "configs/miniature.yaml", [*map(str, paths), "--backbone.device", "cpu", *how])


def samples() -> list[tuple[Tensor, Tensor]]:
    """Latents [C, f, h, w] and texts [L, D] as the stage `latents` leaves them: bf16, here of random numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(SHAPE, (TEXT_TOKENS, base.TEXT_DIM))] * SAMPLES
    return [tuple(torch.randn(shape, generator=generator).bfloat16() for shape in pair) for pair in shapes]  # type: ignore[misc]


def publish(storage: Storage) -> None:
    """The samples as the tables that training reads."""
    drawn = {f"show/e01/{number:08d}": pair for number, pair in enumerate(samples())}
    texts = {f"{name}/full": (name, "full", text) for name, (_, text) in drawn.items()}
    texts["empty"] = (None, None, torch.zeros(1, base.TEXT_DIM))
    done = {"status": "ok", "recipe": "benchmark"}
    latent_of = {"kind": "clip", "show": "show", "shape": SHAPE, "shard": "latents/shards/0.parquet", **done}
    text_of = {"text": "Pip hops.", "shard": "texts/shards/0.parquet", **done}
    latent_rows = [{"sample_id": name, "row_group": place, **latent_of} for place, name in enumerate(drawn)]
    text_rows = [
        {"text_id": key, "sample_id": name, "format": kind, "row_group": place, "tokens": len(text), **text_of}
        for place, (key, (name, kind, text)) in enumerate(texts.items())
    ]
    tensors.write(storage, "latents/shards/0.parquet", {name: latent for name, (latent, _) in drawn.items()})
    tensors.write(storage, "texts/shards/0.parquet", {key: text for key, (_, _, text) in texts.items()})
    for table, rows in ((tables.LATENTS, latent_rows), (tables.TEXTS, text_rows)):
        tables.publish(storage, table, rows)
        tables.seal(storage, table, [row[table.key] for row in rows])


def prepare(folder: Path) -> None:
    """What all contenders read: the model, and the samples as DiffSynth-Studio's split training caches them."""
    base.build(folder / "wan")
    (folder / "cached").mkdir()
    shared = {"cfg_scale": 1, "use_gradient_checkpointing": True, "use_gradient_checkpointing_offload": False}
    for number, (latent, text) in enumerate(samples()):
        inputs = ({"input_latents": latent[None], **shared}, {"context": padded(text, folder)[None]}, {})
        torch.save(inputs, folder / f"cached/{number}.pth")


def padded(text: Tensor, folder: Path) -> Tensor:
    """A text [L, D] with zeros up to the length that Wan is given."""
    missing = configure(folder, folder).backbone.text_tokens - len(text)
    return torch.nn.functional.pad(text, (0, 0, 0, missing))


def between(ends: Sequence[float]) -> list[float]:
    """Seconds of each step but the first, from the times at which they ended."""
    return [after - before for before, after in pairwise(ends)]


def ours(folder: Path, steps: int, **training: object) -> dict[str, Any]:
    """Our loop with a process group of one. The clock looks at records as they come, so that all between counts."""
    import torch.distributed as dist

    from mimix_ray.training.job import Job, digest_of, usable
    from mimix_ray.training.listener import Listener
    from mimix_ray.training.loop import train

    class Clock(Listener):
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.waits: list[float] = []

        def tell(self, record: dict[str, Any]) -> None:
            self.ends.append(time.perf_counter())
            self.waits.append(record["data_wait"])

    with tempfile.TemporaryDirectory() as root:
        run = Run.open(configure(folder, root, **training))
        publish(run.storage)
        os.environ["LOCAL_RANK"] = "0"  # DeepSpeed wants it
        dist.init_process_group("gloo", store=dist.FileStore(f"{root}/store", 1), rank=0, world_size=1)
        clock = Clock()
        data = digest_of(*usable(run.storage, "full"))
        train(Job(run, "benchmark", steps, shows=("show",), data=data), 0, 1, torch.device("cpu"), clock)
        dist.destroy_process_group()
    return {"seconds": between(clock.ends), "data_wait": statistics.median(clock.waits[WARM_UP:])}


def bare(folder: Path, steps: int) -> dict[str, Any]:
    """The least that trains the same: what anybody would write who wants speed alone."""
    from diffusers import WanTransformer3DModel
    from peft import LoraConfig, inject_adapter_in_model

    told = configure(folder, folder)
    training, shift = told.training, told.backbone.flow_shift
    model = WanTransformer3DModel.from_pretrained(folder / "wan", subfolder="transformer").requires_grad_(False)
    targets = backbone.family(told.backbone).lora_targets(training.targets)
    inject_adapter_in_model(LoraConfig(r=training.rank, lora_alpha=training.rank, target_modules=targets), model)
    model.enable_gradient_checkpointing()
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
    data = [(latent[None].float(), padded(text, folder)[None].float()) for latent, text in samples()]
    ends = []
    for step in range(steps):
        x0_BCFHW, text_BLD = data[step % len(data)]
        noise_BCFHW, u_B = torch.randn_like(x0_BCFHW), torch.rand(1)
        s_B = shift * u_B / (1 + (shift - 1) * u_B)
        x_BCFHW = (1 - s_B) * x0_BCFHW + s_B * noise_BCFHW
        velocity_BCFHW = model(x_BCFHW, 1000 * s_B, text_BLD, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(velocity_BCFHW, noise_BCFHW - x0_BCFHW)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return {"seconds": between(ends), "trained": sum(parameter.numel() for parameter in parameters)}


def staged(folder: Path, steps: int, workers: int) -> dict[str, Any]:
    """The stage by Ray Train, one core a worker; seconds are those of the stage's own records."""
    from mimix_ray.stage import connect
    from mimix_ray.training import stage
    from mimix_ray.training.job import LOSSES

    with tempfile.TemporaryDirectory() as root:
        run = Run.open(configure(folder, root, workers=workers, cpus=1, batch_size=workers, max_steps=steps))
        publish(run.storage)
        connect()
        stage.run(run)
        return {"seconds": [record["seconds"] for record in run.storage.read_json(LOSSES)][1:]}


def same_loss(folder: Path) -> float:
    """How far our loss is from the one that DiffSynth-Studio's trainer left of the first sample, |ours / its - 1|."""
    told, (latent, text) = load_file(folder / "check.safetensors"), samples()[0]
    settings = configure(folder, folder).backbone
    family = backbone.family(settings)
    x0_BCFHW, noise_BCFHW, s_B = latent[None].float(), told["noise"], told["s"]
    with torch.no_grad():
        x_BCFHW = flow.mix(x0_BCFHW, noise_BCFHW, s_B)
        velocity_BCFHW = family.predict(family.load_transformer(settings), settings, x_BCFHW, s_B, [text])
        ours = flow.losses(velocity_BCFHW, x0_BCFHW, noise_BCFHW).mean()
    return abs(float(ours / told["loss"]) - 1)


CONTENDERS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "mimix_ray": ours,
    "bare": bare,
    "compiled": partial(ours, compile=True),
    "checkpoints": partial(ours, checkpoint_every=1),
    "1 worker": partial(staged, workers=1),
    "2 workers": partial(staged, workers=2),
}
ALONE = {"mimix_ray", "compiled"}
"""Ours as one process with all cores."""


def run(name: str, folder: Path, steps: int, python: str | None) -> dict[str, Any]:
    """One contender in a process of its own; what it told on its last line."""
    command = [sys.executable, __file__, "--contender", name, "--folder", folder, "--steps", steps]
    if name == "diffsynth":
        training = configure(folder, folder).training
        command = [python, Path(__file__).with_name("train_diffsynth.py"), folder, "--steps", WARM_UP + steps]
        command += ["--rank", training.rank, "--learning_rate", training.learning_rate]
    threads = 1 if "worker" in name else CORES
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(folder: Path, steps: int, rounds: int, python: str | None, only: Sequence[str]) -> dict[str, Any]:
    """The contenders in turn, and what comes out; `mimix_ray` and `bare` are always among them."""
    prepare(folder)
    names = [*only, *(["diffsynth"] if python else [])]
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        # Each round begins with another one, so that a machine that slows down slows all.
        for name in names[number:] + names[:number]:
            told[name].append(run(name, folder, steps, python))
            print(f"round {number + 1}: {name:<12} {median(told[name][-1:]):.3f} s a step", flush=True)
    seconds = {name: median(found) for name, found in told.items()}
    step = seconds["mimix_ray"]
    of_round = [median([one]) / median([peer]) for one, peer in zip(told["mimix_ray"], told["bare"], strict=True)]
    theirs: dict[str, Any] | str = "unavailable"
    if python:
        assert told["diffsynth"][0]["trained"] == told["bare"][0]["trained"], "another LoRA"
        theirs = {
            "times_as_long": {name: round(seconds["diffsynth"] / seconds[name], 3) for name in ALONE & seconds.keys()},
            "loss_differs_by": same_loss(folder),
        }
    more: dict[str, Any] = {}
    if {"1 worker", "2 workers"} <= seconds.keys():
        more["clips_a_second_2_workers_to_1"] = round(2 * seconds["1 worker"] / seconds["2 workers"], 3)
    if "checkpoints" in seconds:
        more["seconds_a_checkpoint"] = round(seconds["checkpoints"] - step, 3)
    return {
        "name": "train",
        "peer": "bare PyTorch loop",
        "ratio": round(step / seconds["bare"], 3),
        "target": TARGET,
        "ratio_of_rounds": [round(ratio, 3) for ratio in of_round],
        "diffsynth": theirs,
        "seconds_a_step": {name: round(value, 3) for name, value in seconds.items()},
        "data_wait_s": told["mimix_ray"][-1]["data_wait"],
        **more,
        "steps": steps * rounds,
        "cores": CORES,
    }


def median(runs: Sequence[dict[str, Any]]) -> float:
    """Seconds a step over all runs of one contender, without each run's first steps."""
    return statistics.median(second for one in runs for second in one["seconds"][WARM_UP - 1 :])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--diffsynth-python", help="a Python that has the package diffsynth")
    options.add_argument("--steps", type=int, default=12, help="steps that count, in each run")
    options.add_argument("--rounds", type=int, default=2, help="runs of each")
    options.add_argument(
        "--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS), help="besides ours and bare"
    )
    options.add_argument("--gpu", action="store_true", help="measure one worker at the shape of Wan-14B instead, with:")
    train_14b.add_options(options)
    options.add_argument("--contender", choices=CONTENDERS, help="run this one alone, here")
    options.add_argument("--folder", type=Path, help="with --contender: what was prepared")
    told = options.parse_args()
    if told.contender:
        print(json.dumps(CONTENDERS[told.contender](told.folder, WARM_UP + told.steps)))
        return
    if told.gpu:
        print(json.dumps(train_14b.measure(told)))
        return
    only = [name for name in CONTENDERS if name in {"mimix_ray", "bare", *told.only}]
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(compare(Path(folder), told.steps, told.rounds, told.diffsynth_python, only)))


if __name__ == "__main__":
    main()
