"""Storage, the same cases on a folder and on a real S3 server."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mimix_ray import storage as module
from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage, StorageError, glob, split

NAMES = ["plain.txt", "deep/er/and/deeper.bin", "with space/two  spaces.mp4", "ünï/кот/猫.json", "a+b&c=d%20e#f?.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_back(storage: Storage, name: str) -> None:
    assert not storage.exists(name)
    storage.write_bytes(name, b"one")
    storage.write_bytes(name, b"two")
    assert storage.exists(name)
    assert storage.read_bytes(name) == b"two"
    assert storage.list("") == [name]
    with storage.local(name) as path:
        assert path.read_bytes() == b"two"
        assert path.suffix == Path(name).suffix


def test_empty_files_are_files(storage: Storage) -> None:
    storage.write_bytes("empty", b"")
    assert storage.exists("empty")
    assert storage.read_bytes("empty") == b""


def test_json_keeps_values_and_says_when_it_is_none(storage: Storage) -> None:
    value = {"name": 'Nan Fern — "é"', "numbers": [1, 2.5, None, True]}
    storage.write_json("reports/clips.json", value)
    assert storage.read_json("reports/clips.json") == value
    storage.write_bytes("reports/broken.json", b"{")
    with pytest.raises(StorageError, match=r"reports/broken\.json: not valid JSON"):
        storage.read_json("reports/broken.json")


def test_list_is_sorted_recursive_and_by_folder(storage: Storage) -> None:
    for name in ("clips/b.mp4", "clips/a/2.mp4", "clips/a/1.mp4", "clips/a/1.json", "clips2/x.mp4"):
        storage.write_bytes(name, b"x")
    assert storage.list("clips", ".mp4") == ["clips/a/1.mp4", "clips/a/2.mp4", "clips/b.mp4"]
    assert storage.list("clips/a/") == ["clips/a/1.json", "clips/a/1.mp4", "clips/a/2.mp4"]
    assert storage.list("") == [*storage.list("clips"), "clips2/x.mp4"]
    assert storage.list("nothing/here") == []


def test_a_folder_is_no_file(storage: Storage) -> None:
    storage.write_bytes("folder/file", b"x")
    assert not storage.exists("folder")
    with pytest.raises(StorageError):
        storage.fingerprint("folder")
    with pytest.raises(StorageError):
        storage.read_bytes("folder")


def test_delete_can_be_repeated(storage: Storage) -> None:
    storage.write_bytes("parts/one", b"x")
    storage.delete("parts/one")
    storage.delete("parts/one")
    assert not storage.exists("parts/one")
    assert storage.list("parts") == []


def test_fingerprint_changes_when_the_file_does(storage: Storage) -> None:
    storage.write_bytes("video", b"aaaa")
    first = storage.fingerprint("video")
    assert storage.fingerprint("video") == first
    storage.write_bytes("video", b"bbbb")  # same size, and on S3 likely within the same second
    assert storage.fingerprint("video") != first


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/absolute", "a//b", "", ".", "a/.", "nul\0"])
def test_names_outside_the_root_are_refused(storage: Storage, name: str) -> None:
    for use in (storage.exists, storage.read_bytes, storage.delete, lambda n: storage.write_bytes(n, b"")):
        with pytest.raises(StorageError, match="is not a name"):
            use(name)


def test_a_missing_file_is_one_clear_line(storage: Storage) -> None:
    for use in (storage.read_bytes, storage.read_json, storage.fingerprint, lambda n: storage.local(n).__enter__()):
        with pytest.raises(StorageError) as caught:
            use("captions/table.parquet")
        assert str(caught.value).startswith(storage / "captions/table.parquet")
        assert "not there" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_storage_is_plain_data(storage: Storage) -> None:
    storage.write_bytes("x", b"before")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy == storage
    assert copy.read_bytes("x") == b"before"


def test_address_reads_back_through_split(storage: Storage) -> None:
    storage.write_bytes("shows/tom/e 01.mp4", b"film")
    folder, name = split(storage / "shows/tom/e 01.mp4")
    assert Storage.open(folder, storage.config).read_bytes(name) == b"film"


def test_upload_publishes_20_megabytes_and_leaves_the_source(storage: Storage, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(20 << 20)
    source = tmp_path / "finished.mp4"
    source.write_bytes(data)
    storage.upload(source, "clips/big.mp4")
    with storage.local("clips/big.mp4") as path:
        assert path.read_bytes() == data
    assert source.read_bytes() == data
    with pytest.raises(StorageError, match="nowhere"):
        storage.upload(tmp_path / "nowhere.mp4", "clips/none.mp4")


def test_racing_writers_leave_one_whole_file(storage: Storage) -> None:
    contents = [bytes([writer]) * (6 << 20) for writer in range(2)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            list(pool.map(lambda data: storage.write_bytes("race", data), contents * 2))
            assert storage.read_bytes("race") in contents
    assert storage.list("") == ["race"]


def test_readers_see_old_or_new_while_it_is_replaced(storage: Storage) -> None:
    contents = [bytes([n]) * 200_000 for n in range(2)]
    storage.write_bytes("status", contents[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(30):
            storage.write_bytes("status", contents[turn % 2])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set():
            assert storage.read_bytes("status") in contents
        writing.result()


WRITER = """
import json, sys
from mimix_ray.config import StorageConfig
from mimix_ray.storage import Storage
storage = Storage.open(sys.argv[1], StorageConfig(**json.loads(sys.argv[2])))
contents = [bytes([n]) * (24 << 20) for n in range(2)]
print("ready", flush=True)
while True:
    for content in contents:
        storage.write_bytes("film.mp4", content)
"""


def test_a_writer_killed_in_the_middle_leaves_a_whole_file(storage: Storage) -> None:
    whole = [bytes([n]) * (24 << 20) for n in range(2)]
    for delay in (0.02, 0.4):
        arguments = [sys.executable, "-c", WRITER, storage.uri, storage.config.model_dump_json()]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env=dict(os.environ))
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert storage.list("") in ([], ["film.mp4"])
        if storage.exists("film.mp4"):
            assert storage.read_bytes("film.mp4") in whole


def test_a_failing_source_publishes_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_half_way(source, target, length) -> None:
        target.write(source.read(10 << 20))
        raise KeyboardInterrupt

    storage.write_bytes("film.mp4", b"old")
    monkeypatch.setattr(module.shutil, "copyfileobj", stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        storage.write_bytes("film.mp4", b"x" * (20 << 20))
    monkeypatch.undo()
    assert storage.read_bytes("film.mp4") == b"old"
    assert storage.list("") == ["film.mp4"]


def test_glob_finds_files_by_pattern(storage: Storage) -> None:
    for name in ("tom/e01.mp4", "tom/e02.mp4", "tom/e02.srt", "tom/extra/e03.mp4", "bean/e 1.mp4", "tom/._e01.mp4"):
        storage.write_bytes(name, b"x")

    def found(pattern: str) -> list[str]:
        return [address.removeprefix(storage.uri + "/") for address in glob(storage / pattern, storage.config)]

    assert found("tom/*.mp4") == ["tom/e01.mp4", "tom/e02.mp4"]
    assert found("**/*.mp4") == ["bean/e 1.mp4", "tom/e01.mp4", "tom/e02.mp4", "tom/extra/e03.mp4"]
    assert found("tom/e0?.mp4") == ["tom/e01.mp4", "tom/e02.mp4"]
    assert found("tom/e0[13-9].mp4") == ["tom/e01.mp4"]
    assert found("tom/e01.mp4") == ["tom/e01.mp4"]
    assert found("nobody/*.mp4") == []


@pytest.mark.parametrize("address", ["gs://bucket/x", "http://host/x", "s3://", "s3:///x"])
def test_addresses_of_other_kinds_are_refused(address: str) -> None:
    with pytest.raises(StorageError, match="give a folder or s3://bucket/prefix"):
        Storage.open(address)


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    assert Storage.open(f"file://{tmp_path}/x").uri == str(tmp_path / "x")


def test_a_relative_root_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage.open("runs/demo").uri == str(tmp_path / "runs/demo")
    assert (tmp_path / "runs/demo").is_dir()


def test_a_root_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be made a folder"):
        Storage.open(str(tmp_path / "file/root"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [("a.mp4", (".", "a.mp4")), ("/a", ("/", "a")), ("x/y/a", ("x/y", "a")), ("s3://b/k/a", ("s3://b/k", "a"))],
)
def test_split(address: str, expected: tuple[str, str]) -> None:
    assert split(address) == expected


@pytest.mark.parametrize("address", ["", "folder/", "s3://bucket"])
def test_split_refuses_what_names_no_file(address: str) -> None:
    with pytest.raises(StorageError, match="names no file"):
        split(address)


def test_a_missing_bucket_is_one_clear_line(s3_server) -> None:
    with pytest.raises(StorageError, match=r"s3://no-such-bucket at http.*no such bucket; create it"):
        Storage.open("s3://no-such-bucket/run", s3_server.config)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid:8333"])
def test_a_wrong_endpoint_is_one_clear_line_within_seconds(s3_server, endpoint: str) -> None:
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot be reached; check storage\.endpoint") as caught:
        Storage.open("s3://bucket/run", StorageConfig(endpoint=endpoint, region="us-east-1"))
    assert time.monotonic() - started < 10
    assert endpoint in str(caught.value) and "\n" not in str(caught.value)


def test_an_endpoint_without_scheme_says_what_to_write() -> None:
    with pytest.raises(StorageError, match="http://host:8333"):
        Storage.open("s3://bucket", StorageConfig(endpoint="localhost:8333"))


def test_wrong_credentials_are_one_clear_line(s3_server) -> None:
    root = s3_server.new_root()
    code = (
        "import sys, json; from mimix_ray.config import StorageConfig; from mimix_ray.storage import Storage\n"
        "try: Storage.open(sys.argv[1], StorageConfig(**json.loads(sys.argv[2]))).read_bytes('x')\n"
        "except OSError as error: print(error)"
    )
    environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": "wrong"}
    arguments = [sys.executable, "-c", code, root, json.dumps(s3_server.config.model_dump())]
    text = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout
    assert text.count("\n") == 1 and "credentials" in text and "wrong" not in text


def test_slow_down_on_a_third_of_the_calls_is_ridden_out(s3_server, s3_proxy, monkeypatch) -> None:
    monkeypatch.setattr(module, "_WAITS", (0.05,) * 8)
    chance = random.Random(1)
    storage = Storage.open(s3_server.new_root(), s3_proxy(lambda *_: 503 if chance.random() < 1 / 3 else 0))
    for number in range(5):
        storage.write_json(f"rows/{number}.json", number)
    assert [storage.read_json(name) for name in storage.list("rows")] == list(range(5))


def test_a_part_that_never_arrives_publishes_nothing(s3_server, s3_proxy, monkeypatch) -> None:
    monkeypatch.setattr(module, "_WAITS", ())
    root = s3_server.new_root()
    Storage.open(root, s3_server.config).write_bytes("film.mp4", b"old")
    broken = Storage.open(root, s3_proxy(lambda method, path: 500 if "partNumber=2" in path else 0))
    with pytest.raises(StorageError, match=r"film\.mp4: cannot be written"):
        broken.write_bytes("film.mp4", b"x" * (40 << 20))
    assert Storage.open(root, s3_server.config).read_bytes("film.mp4") == b"old"


def test_what_will_not_pass_is_not_tried_again(s3_server, s3_proxy) -> None:
    seen: list[str] = []

    def forbid_writes(method: str, path: str) -> int:
        seen.append(method)
        return 403 if method in ("PUT", "POST") else 0

    storage = Storage.open(s3_server.new_root(), s3_proxy(forbid_writes))
    with pytest.raises(StorageError, match="cannot be written"):
        storage.write_bytes("x", b"y")
    assert seen.count("PUT") == 1
