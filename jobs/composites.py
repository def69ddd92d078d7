"""Characters of one style pasted into the other: Cross-Character Augmentation (paper 3.2).

python jobs/composites.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/composites.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

from mimix_ray.composites.stage import run
from mimix_ray.stage import main

if __name__ == "__main__":
    main(run)
