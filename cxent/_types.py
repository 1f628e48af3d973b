"""The types of arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]
"""An array of a floating dtype. Type checkers do not know bfloat16 from ml_dtypes."""

Scalar: TypeAlias = np.floating[Any]
"""float32 or float64."""

RowResults: TypeAlias = Any
"""One number per row: a `Scalar` for one-dimensional logits, otherwise an `Array`. (Like NumPy's reductions, whose
result depends on the number of dimensions, it is typed as Any.)"""

Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...] | None

Real: TypeAlias = float | np.floating[Any] | np.integer[Any]
"""A number. Booleans are rejected, although type checkers accept them as int."""

Temperature: TypeAlias = Real | ArrayLike
"""One number for all rows, or an array that broadcasts to one for each."""

Out: TypeAlias = Array | None
"""Where to put a result."""

Progress: TypeAlias = Callable[[int, int], object] | bool | None
"""A callable that gets the number of rows done and the number of all rows; True shows a progress bar."""

# (Unions of single literals, since stubtest rejects aliases of a literal with several values.)

Combined: TypeAlias = Literal["mean"] | Literal["sum"]
Reduction: TypeAlias = Combined | Literal["none"]
"""How the losses of the rows are combined, if at all."""

Direction: TypeAlias = Literal["forward"] | Literal["reverse"]
"""The direction of a divergence: KL(p, q) or KL(q, p)."""

OfXGBoost: TypeAlias = Literal["xgboost"] | Literal["xgboost-abs"]
Convention: TypeAlias = OfXGBoost | Literal["lightgbm"] | Literal["catboost"] | Literal["exact"]
"""The library whose objective or metric to reproduce."""


# The result of `show_config`.


class KernelConfig(TypedDict):
    in_use: str
    forced: bool
    available: list[str]


class Config(TypedDict):
    versions: dict[str, str]
    kernels: KernelConfig
