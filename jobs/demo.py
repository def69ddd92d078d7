"""The whole mission on one machine: footage in, a served video out, and one page that shows all of it.

    python jobs/demo.py                      (or `make demo`)
    python jobs/demo.py --root runs/other    a local folder; other options of the miniature's config work too

Run again, it keeps what is done: no clip is cut, no caption is asked and no step is trained twice.
"""

import hashlib
import subprocess
import sys
import time
import warnings

from openai import OpenAI

from mimix_ray import pipeline
from mimix_ray.config import load
from mimix_ray.prompts import load_prompts, render
from mimix_ray.report import write_report
from mimix_ray.run import Run
from mimix_ray.serving.deployments import start
from mimix_ray.stage import EXPECTED, StageError, connect, open_run

CONFIG = "configs/miniature.yaml"


def main() -> None:
    """Prepares the miniature, runs every stage, serves the adapter, asks it for one video, writes the report."""
    began = time.time()
    arguments = sys.argv[1:]
    # A process of its own: the renderer starts more, and each would import what this file imports.
    if subprocess.run([sys.executable, "jobs/miniature.py", "--config", CONFIG, *arguments]).returncode:
        sys.exit(1)
    connect()
    address = start("serve/miniature.yaml", ["viewer"], arguments)
    for role in ("captions", "composites", "evaluation"):
        arguments = [*arguments, f"--{role}.vlm.base_url", f"{address}/viewer/v1"]
    run = open_run(load(CONFIG, arguments))
    pipeline.run(run)
    served = ask(run, arguments)
    page = write_report(run, served)
    print(f"demo: {time.time() - began:.0f} s")
    print(page)


def ask(run: Run, arguments: list[str]) -> dict:
    """One video of two characters from different shows, asked of the endpoint with the stock OpenAI client."""
    prompt = next(
        item.caption
        for item in load_prompts(run.config.generation.prompts, run.universe)
        if len({run.universe.character(actor.name).show for actor in item.caption.characters}) > 1
    )
    adapter = hashlib.sha256(run.storage.read_bytes("training/pytorch_lora_weights.safetensors")).hexdigest()
    if run.storage.exists("served.json") and run.storage.exists("served.mp4"):
        served = run.storage.read_json("served.json")
        if served["adapter"] == adapter and served["prompt"] == render(prompt):
            return served
    client = OpenAI(base_url=f"{start('serve/miniature.yaml', ['videos'], arguments)}/v1", api_key="unused")
    # OpenAI has retired its own service behind these calls; their shape is what video servers speak.
    warnings.simplefilter("ignore", DeprecationWarning)
    asked = time.time()
    job = client.videos.create_and_poll(prompt=render(prompt), extra_body={"seed": 7, "size": "192x112"})
    if job.status != "completed":
        raise StageError(f"serving: the video failed: {job.error}")
    run.storage.write_bytes("served.mp4", client.videos.download_content(job.id).read())
    served = {
        "prompt": render(prompt),
        "adapter": adapter,
        "video": "served.mp4",
        "model": job.model,
        "seconds": round(time.time() - asked, 1),
    }
    run.storage.write_json("served.json", served)
    print(f"serving: 1 video in {served['seconds']} s")
    return served


if __name__ == "__main__":
    try:
        main()
    except EXPECTED as error:
        sys.exit(f"error: {error}")
