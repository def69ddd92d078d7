"""Clips to character-action captions by a VLM: Cross-Character Embedding (paper 3.1).

python jobs/captions.py --config configs/miniature.yaml --preview 20    a sample, to look at first
python jobs/captions.py --config configs/miniature.yaml --estimate      what it will cost
python jobs/captions.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/captions.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

import argparse
from functools import partial

from mimix_ray.captions.stage import estimate, preview, run
from mimix_ray.stage import main

if __name__ == "__main__":
    # Flags of this job alone; what they leave over is the run config's.
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument(
        "--preview", type=int, metavar="N", help="caption N clips only, and write reports/captions-preview.html"
    )
    flags.add_argument("--estimate", action="store_true", help="tell what captioning would cost, and end")
    given, arguments = flags.parse_known_args()
    if "--help" in arguments:
        flags.print_help()
    if given.estimate:
        main(estimate, arguments)
    elif given.preview is not None:
        main(partial(preview, count=given.preview), arguments)
    else:
        main(run, arguments)
