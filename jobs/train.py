"""LoRA on the frozen DiT by Ray Train and DeepSpeed (paper 3.3).

python jobs/train.py --config configs/mimix-14b.yaml --plan --clips 52000    what it will take, and whether it fits
python jobs/train.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/train.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

import argparse
import sys
from collections.abc import Sequence

from mimix_ray.backbone import BackboneError
from mimix_ray.config import ConfigError, from_command_line
from mimix_ray.storage import StorageError
from mimix_ray.training import budget


def plan(arguments: Sequence[str], gpu: str, clips: int | None, utilisation: float) -> None:
    """Prints what training takes; an error where it does not fit. Needs no cluster, no GPU and no weights."""
    try:
        config = from_command_line(arguments)
        clips_of = budget.footage(config) if clips is None else budget.imagined(config, clips)
        answer = budget.plan(config, gpu, clips_of, utilisation)
        print(answer)
        answer.check()
    except (ConfigError, StorageError, BackboneError, budget.BudgetError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    # Flags of this job alone; what they leave over is the run config's.
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--plan", action="store_true", help="tell memory, steps and hours, and end")
    flags.add_argument("--gpu", default="A100-80G", help="with --plan: type of GPU, one of " + ", ".join(budget.GPUS))
    flags.add_argument("--clips", type=int, metavar="N", help="with --plan: how many; default: those of the root")
    flags.add_argument(
        "--utilisation", type=float, default=budget.UTILISATION, help="with --plan: share of the GPU's bf16 peak"
    )
    given, arguments = flags.parse_known_args()
    if not given.plan and any(word.split("=")[0] in ("--gpu", "--clips", "--utilisation") for word in sys.argv[1:]):
        sys.exit("error: --gpu, --clips and --utilisation go with --plan")
    if "--help" in arguments:
        flags.print_help()
    if given.plan:
        plan(arguments, given.gpu, given.clips, given.utilisation)
    else:
        from mimix_ray.stage import main  # Ray takes seconds, which a plan needs not
        from mimix_ray.training.stage import run

        main(run, arguments)
