"""LoRA on the frozen DiT by Ray Train and DeepSpeed (paper 3.3).

python jobs/train.py --config configs/miniature.yaml
ray job submit --working-dir . -- python jobs/train.py --config configs/mimix-14b.yaml --root s3://bucket/run
"""

from mimix_ray.stage import main
from mimix_ray.training.stage import run

if __name__ == "__main__":
    main(run)
