"""Columns of Arrow tables as arrays. pyarrow is an extra and imported by who opens a data set."""

from typing import Any

import numpy as np


def to_array(column: Any, shape: tuple[int, ...] = ()) -> np.ndarray:
    """A column of numbers, or of lists of numbers however nested, as (n, *shape). ValueError when it has other sizes
    or gaps."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    rows = len(array)
    while hasattr(array, "flatten") and "list" in str(array.type):
        if array.null_count:
            raise ValueError(f"{array.null_count} of {len(array)} rows are empty")
        array = array.flatten()
    if array.null_count:
        raise ValueError(f"{array.null_count} values are missing")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(rows, *shape)
