"""Calls a second through `Vlm`, against an ideal asyncio client, at equal concurrency; and memory over many rows.

    python benchmarks/captions.py [--calls 20000]

The server, in a process of its own, answers each request after one second. 256 requests are in flight, so that nobody
can do more than 256 a second. Peers send the same bodies (ten small frames and the caption prompt):

    ideal   aiohttp with the bodies made before the clock starts; answers are read and thrown away
    Vlm     what stage `captions` does beside decoding, in two processes as with captions.workers 2: the cache looked
            up, limits asked, the body made, the answer checked and kept on disk before it counts

Decoding is left out: it is ffmpeg's work, and is spread over as many cores as captions.workers says. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import aiohttp
import numpy as np
import psutil
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mimix_ray.config import VlmConfig
from mimix_ray.storage import Storage
from mimix_ray.universe import Character
from mimix_ray.vlm import Question, Vlm, to_jpegs
from mimix_ray.vlm.client import request_body
from mimix_ray.vlm.questions import caption

IN_FLIGHT, LATENCY_S, TARGET = 256, 1.0, 0.95
WORKERS = 2
"""Processes that share the requests, as captions.workers actors do. One alone ends at some 200 calls a second."""
GROUP = 4
"""Questions a group: as many groups as the stage has wait for a slot, each in a thread."""
CAST = (Character(name="Pip", show="show", style="cartoon", look="a small yellow chick"),)


def serve(listener: Any) -> None:
    """A server that does nothing but wait; runs until it is killed."""
    told = {"reasoning": "a", "characters": [{"name": "Pip", "action": "hops"}], "setting": "a kitchen"}
    content = json.dumps(told | {"scene_style": "cartoon", "confidence": 0.9})
    answer = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050},
    }
    body = json.dumps(answer).encode()

    async def chat(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(LATENCY_S)
        return Response(body, media_type="application/json")

    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    config = uvicorn.Config(app, log_level="error", access_log=False, backlog=1024, timeout_keep_alive=600)
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def server() -> Iterator[str]:
    """A server of its own process; yields its base address."""
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        process = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
        process.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        process.kill()


def questions(count: int, first: int) -> Iterator[Question[caption.CaptionAnswer]]:
    """Different questions with the same frames."""
    frames = to_jpegs([np.full((48, 64, 3), 20 * number, np.uint8) for number in range(10)], 48, 90)
    return (caption.question(frames, CAST, f"Clip {first + number}") for number in range(count))


async def ideal(base_url: str, bodies: list[bytes]) -> None:
    """All bodies sent, `IN_FLIGHT` at a time."""
    slots = asyncio.Semaphore(IN_FLIGHT)
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def send(body: bytes) -> None:
            headers = {"Content-Type": "application/json"}
            async with slots, session.post(f"{base_url}/chat/completions", data=body, headers=headers) as answer:
                await answer.read()

        await asyncio.gather(*map(send, bodies))


def worker(base_url: str, folder: str, number: int, calls: int, ready: Any, told: Any) -> None:
    """What one of the stage's actors does with its share: groups of questions, of which the next waits for a slot."""
    config = VlmConfig(base_url=base_url, model="m", concurrency=IN_FLIGHT // WORKERS)
    vlm = Vlm(config, Storage.open(folder), SecretStr("none"))
    # Connections are opened, and libraries loaded, before any clock starts.
    first = number * (calls + IN_FLIGHT)
    vlm.ask_all(list(questions(config.concurrency, first)))
    ready.wait()
    memory, failed, busy = [], 0, time.process_time()

    def ask(begin: int) -> int:
        outcomes = vlm.ask_all(list(questions(GROUP, first + IN_FLIGHT + begin)))
        return sum(outcome.kind != "ok" or outcome.calls == 0 for outcome in outcomes)

    with ThreadPoolExecutor(2 * config.concurrency // GROUP) as groups:
        for lost in groups.map(ask, range(0, calls, GROUP)):
            failed += lost
            memory.append(psutil.Process().memory_info().rss / 1e6)
    told.put((failed, memory[len(memory) // 10], memory[-1], (time.process_time() - busy) / calls))
    vlm.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--calls", type=int, default=20_000)
    calls = options.parse_args().calls // WORKERS // GROUP * GROUP
    spawn = multiprocessing.get_context("spawn")
    with server() as base_url, tempfile.TemporaryDirectory() as folder:
        config = VlmConfig(model="m")
        bodies = [json.dumps(request_body(config, question)).encode() for question in questions(20 * IN_FLIGHT, 0)]
        asyncio.run(ideal(base_url, bodies[:IN_FLIGHT]))
        began = time.perf_counter()
        asyncio.run(ideal(base_url, bodies))
        peer = len(bodies) / (time.perf_counter() - began)
        print(f"ideal client: {peer:.1f} calls/s", flush=True)

        ready, told = spawn.Barrier(WORKERS + 1), spawn.Queue()
        workers = [
            spawn.Process(target=worker, args=(base_url, folder, number, calls, ready, told))
            for number in range(WORKERS)
        ]
        for process in workers:
            process.start()
        ready.wait()
        began = time.perf_counter()
        ends = [told.get() for _ in workers]
        ours = WORKERS * calls / (time.perf_counter() - began)
        for process in workers:
            process.join()
    failed, before, after, busy = (list(values) for values in zip(*ends, strict=True))
    assert not any(failed), f"{sum(failed)} questions without an answer of their own"
    result = {
        "name": "captions",
        "peer": "aiohttp, bodies made before",
        "ratio": round(ours / peer, 3),
        "target": TARGET,
        "calls": WORKERS * calls,
        "calls_per_s": round(ours, 1),
        "peer_calls_per_s": round(peer, 1),
        "cpu_ms_a_call": round(1000 * sum(busy) / WORKERS, 2),
        "memory_mb": [round(max(before)), round(max(after))],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
