"""Tensors on a run's storage: Parquet files of one row group a tensor, so that any one is read without the others.

bfloat16 throughout, as raw little-endian bytes with a shape; each page carries a checksum, which reading verifies.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_ray.storage import Storage, StorageError

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("shape", pa.list_(pa.int32()), nullable=False),
        pa.field("data", pa.binary(), nullable=False),
    ]
)


class TensorError(ValueError):
    """A tensor that is not where a table says, or is damaged; the message is one clear line."""


def write(storage: Storage, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Publishes a file of tensors by id, one row group each in this order; bfloat16 whatever they were."""
    import torch

    buffer = io.BytesIO()
    # Latents are as good as noise: compressing them takes time and saves nothing. Statistics would repeat the bytes.
    how = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    with pq.ParquetWriter(buffer, SCHEMA, **how) as file:
        for key, tensor in tensors.items():
            data = tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes()
            file.write_table(pa.table({"id": [key], "shape": [list(tensor.shape)], "data": [data]}, schema=SCHEMA))
    storage.write_bytes(name, buffer.getvalue())


def read(storage: Storage, name: str, row_group: int, key: str) -> Tensor:
    """The bfloat16 tensor of one row group; on S3 nothing else of the file is fetched but, once, its footer.

    Raises:
        TensorError: The file is damaged, or another tensor stands there.
        StorageError: There is no such file, or the storage fails.
    """
    import torch

    footer = _footer(storage, name)

    def row(file: pa.NativeFile) -> Tensor:
        with _damage(storage, name):
            # Buffered ahead, the row group is one request instead of one a column.
            parquet = pq.ParquetFile(file, metadata=footer, pre_buffer=True, page_checksum_verification=True)
            found, shape, data = (column[0].as_py() for column in parquet.read_row_group(row_group).columns)
            if found != key:
                raise ValueError(f"row group {row_group} holds {found!r}, not {key!r}")
            return torch.frombuffer(bytearray(data), dtype=torch.bfloat16).view(shape)

    return storage.use(name, row)


@contextmanager
def _damage(storage: Storage, name: str) -> Iterator[None]:
    """Makes a TensorError of what a damaged file leads to. A fault of the storage passes: it may be gone the next time.

    Both come as OSErrors from pyarrow; that of a storage has an error number, or AWS in its message.
    """
    try:
        yield
    except (pa.ArrowException, ValueError, RuntimeError, IndexError, OSError) as error:
        if isinstance(error, OSError) and (isinstance(error, StorageError) or error.errno or "AWS" in str(error)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise TensorError(
            f"{storage / name}: cannot be used ({reason}); remove it, and run the stage that makes it again"
        ) from None


@lru_cache(maxsize=4096)
def _footer(storage: Storage, name: str) -> pq.FileMetaData:
    def read_footer(file: pa.NativeFile) -> pq.FileMetaData:
        with _damage(storage, name):
            return pq.read_metadata(file)

    return storage.use(name, read_footer)
