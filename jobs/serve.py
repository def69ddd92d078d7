"""Serves the miniature's adapter: the endpoint, its page and the viewer, until Ctrl-C.

    python jobs/serve.py [port]              (or `make serve`; needs a finished `make demo`)

On a cluster use Serve's own commands: `serve deploy serve/a100.yaml`.
"""

import signal
import sys

from mimix_ray.serving.deployments import start
from mimix_ray.stage import EXPECTED

if __name__ == "__main__":
    try:
        address = start("serve/miniature.yaml", http_port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
    except EXPECTED as error:
        sys.exit(f"error: {error}")
    print(f"page {address}/  videos {address}/v1/videos  viewer {address}/viewer/v1  (Ctrl-C ends it)")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
