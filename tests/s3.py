"""A real S3 server for the tests (SeaweedFS, from a wheel), and a proxy that makes it fail. A pytest plugin."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage

ACCESS_KEY, SECRET_KEY, BUCKET = "tester", "only-for-tests", "tests"

# Set when the tests are loaded: Ray's workers have the environment in which their cluster was started.
os.environ |= {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class S3Server:
    """Where the server answers; its credentials are in the environment, as the AWS chain expects them."""

    endpoint: str

    @property
    def config(self) -> StorageConfig:
        return StorageConfig(endpoint=self.endpoint, region="us-east-1")

    def client(self):
        quick = Config(connect_timeout=1, retries={"max_attempts": 0})
        return boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", config=quick)

    def new_root(self) -> str:
        """An address that nobody has used; in one bucket: this server gives each bucket its own volumes."""
        return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the whole session, on free ports of 127.0.0.1."""
    folder = tmp_path_factory.mktemp("s3")
    identity = {
        "name": "tester",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
    names += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [str(Path(sysconfig.get_path("scripts"), "weed")), "server", f"-dir={folder}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={folder / 's3.json'}", "-master.telemetry=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64", "-volume.max=100"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, "HOME": str(folder)})
        try:
            server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
            _wait_until_writable(server, process, folder / "weed.log")
            yield server
        finally:
            process.kill()
            process.wait()


def _wait_until_writable(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """The port opens before the volumes are there: what counts is the first object that is stored."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with suppress(
                server.client().exceptions.BucketAlreadyExists, server.client().exceptions.BucketAlreadyOwnedByYou
            ):
                server.client().create_bucket(Bucket=BUCKET)
            server.client().put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
            return
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the S3 server did not come up: {error}\n{log.read_text()[-2000:]}")
            time.sleep(0.2)


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty storage, once in a folder and once on S3, with a space and a letter beyond ASCII in its address."""
    if request.param == "folder":
        return Storage.open(str(tmp_path / "a rün"))
    server: S3Server = request.getfixturevalue("s3_server")
    return Storage.open(f"{server.new_root()}/a rün", server.config)


Fault = Callable[[str, str], int]
"""(method, path with query) -> HTTP status to answer with, 0 to pass the request on."""


def _raw_body(request: BaseHTTPRequestHandler) -> bytes:
    """The body as it came over the wire, chunk headers and all."""
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    raw = bytearray()
    while True:
        raw += (head := request.rfile.readline())
        if not (size := int(head.split(b";")[0], 16)):
            break
        raw += request.rfile.read(size + 2)
    while (line := request.rfile.readline()) not in (b"\r\n", b""):
        raw += line  # trailers: the checksum
    return bytes(raw + line)


@pytest.fixture
def s3_proxy(s3_server: S3Server) -> Iterator[Callable[[Fault], StorageConfig]]:
    """Starts proxies to the S3 server which answer some requests with an error of their own."""
    target = urlsplit(s3_server.endpoint).netloc
    running: list[ThreadingHTTPServer] = []

    def start(fault: Fault) -> StorageConfig:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = _raw_body(self)
                status = fault(self.command, self.path)
                if status:
                    code = {503: "SlowDown", 500: "InternalError"}.get(status, "AccessDenied")
                    answer = f"<Error><Code>{code}</Code><Message>made by the test</Message></Error>".encode()
                    headers = [("Content-Type", "application/xml")]
                else:
                    upstream = http.client.HTTPConnection(target)
                    # The Host header goes on as it came: the request's signature covers it.
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        upstream.putheader(name, value)
                    upstream.endheaders(body)
                    response = upstream.getresponse()
                    status, answer, headers = response.status, response.read(), response.getheaders()
                    if self.command == "HEAD":
                        answer = b""
                    upstream.close()
                self.send_response(status)
                dropped = {"transfer-encoding", "connection", "date", "server"}
                if self.command != "HEAD" or "Content-Length" not in dict(headers):
                    dropped.add("content-length")
                    self.send_header("Content-Length", str(len(answer)))
                for name, value in headers:
                    if name.lower() not in dropped:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer if self.command != "HEAD" else b"")

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return StorageConfig(endpoint=f"http://127.0.0.1:{server.server_port}", region="us-east-1")

    yield start
    for server in running:
        server.shutdown()
        server.server_close()
