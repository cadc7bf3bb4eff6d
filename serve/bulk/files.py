"""Shards as files: Parquet with plain columns, or .npy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.system.files import PARTIAL, write_whole

SAMPLE = "sample"


def write_shard(
    path: Path, samples: NDArray[np.float32], columns: Mapping[str, NDArray[Any]], kind: str
) -> None:
    """Writes one shard.

    Args:
        path: Where.
        samples: float32 (n, *shape).
        columns: Further values (n, ...): seeds, conditions.
        kind: ``parquet``: one row a sample; or ``npy``: the samples alone.
    """
    if kind == "npy":
        write_whole(path, lambda file: np.save(file, samples, allow_pickle=False))
        return
    import pyarrow.parquet as parquet

    table = arrow_table({SAMPLE: samples, **columns})
    write_whole(path, lambda file: parquet.write_table(table, file))


def arrow_table(columns: Mapping[str, NDArray[Any]]) -> Any:
    """An Arrow table of arrays (n, ...): numbers as they are, others as fixed-size lists.

    A list is the value's elements in C order; its shape is in the field's metadata, as JSON under
    ``shape``. Any reader of Arrow has the values, and no extension type stands between.
    """
    import pyarrow as arrow

    fields, arrays = [], []
    for name, values in columns.items():
        shape, metadata = values.shape[1:], None
        array: Any = arrow.array(np.ascontiguousarray(values).reshape(-1))
        if shape:
            array = arrow.FixedSizeListArray.from_arrays(array, int(np.prod(shape)))
            metadata = {"shape": json.dumps(shape)}
        fields.append(arrow.field(name, array.type, nullable=False, metadata=metadata))
        arrays.append(array)
    return arrow.table(arrays, schema=arrow.schema(fields))


def array_of(column: Any, field: Any) -> NDArray[Any]:
    """The array (n, *shape) of a column that ``arrow_table`` made.

    Args:
        column: A ``pyarrow.ChunkedArray``.
        field: Its ``pyarrow.Field``, with the metadata.
    """
    shape = json.loads(field.metadata[b"shape"]) if field.metadata else []
    values = column.combine_chunks()
    flat = values.flatten() if shape else values
    return np.asarray(flat).reshape(len(column), *shape)


def remove_partial(folder: Path, *beginnings: str) -> None:
    """Removes what a killed process was writing, of files whose names have these beginnings."""
    for beginning in beginnings:
        for left in folder.glob(f".{beginning}*{PARTIAL}"):
            left.unlink(missing_ok=True)
