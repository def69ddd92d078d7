"""Shows what a Wan adapter holds, or writes it in another tool's key layout; needs neither Ray nor a base model.

    python jobs/adapter.py show runs/demo/training/pytorch_lora_weights.safetensors
    python jobs/adapter.py convert s3://bucket/pytorch_lora_weights.safetensors cast.safetensors --to comfyui

The source may be in the layout of diffusers, ComfyUI, kohya's tools or DiffSynth-Studio: it is recognised by its keys.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mimix_ray.backbone import BackboneError
from mimix_ray.backbone.wan_adapter import Lora, read, write
from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage, StorageError, split


def load(address: str, config: StorageConfig) -> tuple[str, Lora]:
    """Layout and LoRA of the adapter at an address; raises StorageError, or BackboneError that names it."""
    folder, name = split(address)
    with Storage(folder, config).local(name) as path:
        try:
            return read(path)
        except BackboneError as error:
            raise BackboneError(f"{address}: {error}") from None


def convert(source: str, target: str, layout: str, config: StorageConfig) -> str:
    """Writes the adapter at `source` to `target` in a layout; returns the line that says so."""
    given, lora = load(source, config)
    folder, name = split(target)
    with tempfile.TemporaryDirectory(prefix="mimix-") as temporary:
        path = Path(temporary, "adapter.safetensors")
        write(path, lora, layout)
        Storage.open(folder, config).upload(path, name)
    return f"{target}: {given} to {layout}, {len(lora.tensors)} matrices, rank {lora.rank}, alpha {lora.alpha:g}"


def show(source: str, config: StorageConfig) -> Iterator[str]:
    """The lines that tell what an adapter is."""
    layout, lora = load(source, config)
    tensors = lora.tensors.values()
    kinds = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors}))
    yield f"layout   {layout}"
    yield f"rank     {lora.rank}"
    yield f"alpha    {lora.alpha:g}"
    yield f"targets  {', '.join(lora.targets)}"
    yield f"tensors  {len(tensors)} matrices, {kinds}"
    yield f"bytes    {sum(tensor.nbytes for tensor in tensors):,}"
    for entry, text in sorted(lora.metadata.items()):
        yield f"metadata {entry}: {text}"


def main(arguments: list[str]) -> None:
    """Runs one of the two commands; what fails is one line, and exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("source", metavar="IN", help="the adapter: a file or s3://bucket/file")
    common.add_argument("--storage.endpoint", dest="endpoint", help="S3 server other than AWS, e.g. http://host:8333")
    common.add_argument("--storage.region", dest="region", help="S3 region; default: the AWS chain's")
    converting = commands.add_parser("convert", parents=[common], help="write it in another layout")
    converting.add_argument("target", metavar="OUT", help="where the new file goes; one that is there is replaced")
    converting.add_argument("--to", required=True, choices=("comfyui", "kohya", "diffusers"), help="the new layout")
    commands.add_parser("show", parents=[common], help="tell what it is")
    given = parser.parse_args(arguments)
    config = StorageConfig(endpoint=given.endpoint, region=given.region)
    try:
        if given.command == "convert":
            print(convert(given.source, given.target, given.to, config))
        else:
            print(*show(given.source, config), sep="\n")
    except (BackboneError, StorageError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
