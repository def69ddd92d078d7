"""Clips to character-action captions by a VLM: Cross-Character Embedding (paper 3.1).

python jobs/captions.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/captions.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

from mimix_ray.captions.stage import run
from mimix_ray.stage import main

if __name__ == "__main__":
    main(run)
