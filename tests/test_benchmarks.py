"""The benchmark of training: its wiring at a size that any CPU can do, no claim of speed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import WanTransformer3DModel

from mimix_ray.storage import Storage
from mimix_ray.training.batch import Samples
from mimix_ray.training.job import usable

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def train() -> ModuleType:
    """`benchmarks/train.py`, which is run as a script and has its parts beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return importlib.import_module("train")


@pytest.fixture
def train_14b(train: ModuleType) -> ModuleType:
    return train.train_14b


def test_all_contenders_get_the_same_samples(train: ModuleType, tmp_path: Path) -> None:
    train.prepare(tmp_path)
    storage = Storage.open(str(tmp_path / "run"))
    train.publish(storage)
    rows, texts = usable(storage, "full")
    assert len(rows) == train.SAMPLES
    source = Samples(storage, rows, texts, empty=True)
    for number, row in enumerate(rows):
        shared, positive, _ = torch.load(tmp_path / f"cached/{number}.pth")
        assert torch.equal(source.latent(row["sample_id"])[None], shared["input_latents"].float())
        text, context = source.text(row["sample_id"]), positive["context"]
        assert torch.equal(context[0, : len(text)], text) and context.shape == (1, 512, 128)
        assert not context[0, len(text) :].any()


@pytest.mark.soak
def test_wiring_of_a_step_at_the_shape_of_14b() -> None:
    small = "--gpu --layers 2 --heads 1 --size 64x64 --frames 5 --steps 1 --heat 0.05"
    done = subprocess.run(
        [sys.executable, str(FOLDER / "train.py"), *small.split()],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["tokens"] == 2 * 4 * 4, "2 latent frames of 8x8, patches of 2x2"
    assert 0 < told["without_recomputation"] < told["ratio"]
    assert sum(told["shares_of_time"].values()) == pytest.approx(1, abs=0.02), "all time once"
    assert told["shares_of_time"]["matrix products"] > 0.1


def test_weights_have_the_precision_that_loading_gives(train_14b: ModuleType, tmp_path: Path) -> None:
    built = train_14b.build(layers=1, heads=1, device=torch.device("cpu"))
    built.save_pretrained(tmp_path)
    loaded = WanTransformer3DModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {name: p.dtype for name, p in built.named_parameters()} == {
        name: p.dtype for name, p in loaded.named_parameters()
    }


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("void flash::flash_fwd_kernel<cutlass::bfloat16_t>", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop", "attention"),
        ("nvjet_tst_256x128_64x4_1x2_h_bz_coopB_bias_TNT", "matrix products"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_bf16_128x128>", "matrix products"),
        (
            "vectorized_elementwise_kernel<4, at::native::bfloat16_copy_kernel_cuda>",
            "copies and casts",
        ),
        ("void at::native::vectorized_layer_norm_kernel", "norms"),
        ("void at::native::elementwise_kernel<128, 4, MulFunctor>", "element by element"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", "communication"),
        ("aten::addmm", "matrix products"),
        ("aten::add_", "element by element"),
    ],
)
def test_kernels_are_told_apart(train_14b: ModuleType, kernel: str, kind: str) -> None:
    assert train_14b.kind(kernel) == kind
