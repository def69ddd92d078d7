"""A real HTTP server in the judge's place, which tells videos apart by their grey and answers as the test says."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image


def shade(number: int) -> int:
    """The grey of video `number`."""
    return 20 + 10 * number


class JudgeServer:
    """What it shall answer, and what it was asked."""

    def __init__(self) -> None:
        self.base_url = ""
        self.answers: dict[tuple[int, str], list[Any]] = {}
        """(video, axis) -> its answers in turn: a score, or the name of a misbehaviour; the last one stays."""
        self.asked: Counter[tuple[int, str]] = Counter()
        self.texts: list[str] = []
        self.lock = threading.Lock()

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        parts = body["messages"][0]["content"]
        image = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))))[0, 0, 0]
        key = (round((int(grey) - 20) / 10), body["response_format"]["json_schema"]["name"].removeprefix("judge_"))
        with self.lock:
            turn = self.asked[key]
            self.asked[key] += 1
            self.texts.append(parts[0]["text"])
        answers = self.answers.get(key, [7])
        answer = answers[min(turn, len(answers) - 1)]
        message: dict[str, Any] = {"role": "assistant", "refusal": None}
        if answer == "refuse":
            message |= {"content": None, "refusal": "I would rather not."}
        elif answer == "ramble":
            message |= {"content": "Well, that depends. On the one hand ..."}
        else:
            told = {"reasoning": f"saw {key}", "cannot_tell": answer == "cannot tell", "score": answer}
            if answer == "cannot tell":
                told["score"] = 1
            message |= {"content": json.dumps(told)}
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }


@contextmanager
def judge_server() -> Iterator[JudgeServer]:
    """Runs one on a free port of the loopback."""
    judge = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"object": "list", "data": []})

        def do_POST(self) -> None:
            self.answer(judge.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def answer(self, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield judge
    server.shutdown()
    server.server_close()
