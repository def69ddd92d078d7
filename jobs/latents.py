"""Clips, composites and captions through VAE and text encoder, once, before training.

python jobs/latents.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/latents.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

from mimix_ray.latents.stage import run
from mimix_ray.stage import main

if __name__ == "__main__":
    main(run)
