"""A whole endpoint in a process of its own, to be killed: `python -m tests.serving.victim ROOT`. Prints its address."""

import sys
import threading

from mimix_ray import config
from mimix_ray.run import Run
from tests.serving.servers import FakeGenerate, endpoint

if __name__ == "__main__":
    run = Run.open(config.load("configs/miniature.yaml", ["--root", sys.argv[1]]))
    with endpoint(run, FakeGenerate(run), lease_s=1.0) as address:
        print(address, flush=True)
        threading.Event().wait()
