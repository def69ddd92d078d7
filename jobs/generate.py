"""Prompts to videos with the trained adapter, in batches.

python jobs/generate.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/generate.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

from mimix_ray.generation.stage import run
from mimix_ray.stage import main

if __name__ == "__main__":
    main(run)
