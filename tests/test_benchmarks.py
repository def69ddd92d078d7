"""The benchmark of Wan-14B shapes, at a size that any CPU can do: its wiring, no claim of speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def train_14b(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(FOLDER)
    import train_14b

    return train_14b


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


def test_weights_have_the_precision_that_loading_gives(train_14b, tmp_path: Path) -> None:
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
def test_kernels_are_told_apart(train_14b, kernel: str, kind: str) -> None:
    assert train_14b.kind(kernel) == kind
