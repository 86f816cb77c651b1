"""A table inside an encrypted tree, read where it lies by the programs people have."""

from __future__ import annotations

from pathlib import Path

import dask
import dask.dataframe
import pandas
import pyarrow.compute
import pyarrow.dataset
import pytest
from s3fs import S3FileSystem

from fusecrypt.storage.filesystem import EcryptfsFileSystem
from tests.storage.support import to_memory, to_objects
from tests.tree.support import User, opened, policy

ROWS = 20_000
FRAME = pandas.DataFrame({"number": range(ROWS), "square": [float(n * n) for n in range(ROWS)]})


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    """A tree on this machine and the same in memory, with the table in two files."""
    (tmp_path / "pass").write_bytes(b"test\n")
    (tmp_path / "lower").mkdir()
    with opened(tmp_path / "lower", policy("aes", 32)) as tree:
        user = User(tree)
        user.mkdir("table")
        for number, part in enumerate((FRAME[: ROWS // 2], FRAME[ROWS // 2 :])):
            user.create(f"table/part.{number}.parquet", part.to_parquet(index=False, row_group_size=1000))
    to_memory(tmp_path / "lower", "/tree")
    return {"ecryptfs": {"passfile": str(tmp_path / "pass")}}


@pytest.mark.parametrize("place", ["memory://tree", "file://{}/lower"])
def test_pandas_reads_parquet(place: str, options: dict[str, object], tmp_path: Path) -> None:
    url = f"ecryptfs://table/part.0.parquet::{place.format(tmp_path)}"
    found = pandas.read_parquet(url, storage_options=options, columns=["square"])
    assert found["square"].equals(FRAME["square"][: ROWS // 2])


def test_pandas_reads_parquet_in_object_storage(
    options: dict[str, object], tmp_path: Path, s3: S3FileSystem
) -> None:
    to_objects(tmp_path / "lower", s3, "bucket/tree", markers=False)
    given = {**options, "s3": {"key": "any", "secret": "any", "endpoint_url": s3.endpoint_url}}
    url = "ecryptfs://table/part.0.parquet::s3://bucket/tree"
    found = pandas.read_parquet(url, storage_options=given, columns=["square"])
    assert found["square"].equals(FRAME["square"][: ROWS // 2])


def test_pyarrow_reads_a_dataset(options: dict[str, object], tmp_path: Path) -> None:
    fs = EcryptfsFileSystem(str(tmp_path / "lower"), passfile=str(tmp_path / "pass"))
    found = pyarrow.dataset.dataset("table", filesystem=fs, format="parquet")
    last = found.to_table(filter=pyarrow.compute.field("number") >= ROWS - 10)
    assert last["square"].to_pylist() == FRAME["square"][-10:].tolist()


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # of Dask's
@pytest.mark.parametrize("scheduler", ["synchronous", "processes"])
def test_dask_reads_parquet(scheduler: str, options: dict[str, object], tmp_path: Path) -> None:
    url = f"ecryptfs://table/*.parquet::file://{tmp_path}/lower"
    frame = dask.dataframe.read_parquet(url, storage_options=options)
    with dask.config.set(scheduler=scheduler, num_workers=2):
        assert frame["square"].sum().compute() == FRAME["square"].sum()
