"""Episodes to clips: crop the bottom text, find shots, cut 81 frames at 16 fps (paper 3.3).

python jobs/clips.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/clips.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

from mimix_ray.clips.stage import run
from mimix_ray.stage import main

if __name__ == "__main__":
    main(run)
