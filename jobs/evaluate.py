"""Videos to scores: weight-free metrics and the VLM judge (paper 4.1).

python jobs/evaluate.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/evaluate.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

from mimix_ray.evaluation.stage import run
from mimix_ray.stage import main

if __name__ == "__main__":
    main(run)
