"""All stages in order: episodes -> clips -> captions -> composites -> latents -> adapter -> videos -> scores.

    python jobs/pipeline.py --config configs/miniature.yaml
    ray job submit --working-dir . -- python jobs/pipeline.py --config configs/mimix-14b.yaml --root s3://bucket/run

Each stage skips what it finds done, so the same command run again goes on where the last one stopped.
"""

from mimix_ray import pipeline
from mimix_ray.stage import main

if __name__ == "__main__":
    main(pipeline.run)
