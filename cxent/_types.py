"""The types of arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""An array of one of the floating dtypes; that of ml_dtypes' bfloat16 is known to no checker."""

Scalar: TypeAlias = np.floating[Any]
"""float32 or float64."""

RowResults: TypeAlias = Any
"""One number per row: a `Scalar` where there is one row without other axes, else an `Array`. (NumPy's reductions are
typed so too: what is returned depends on the number of dimensions.)"""

Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...] | None

Real: TypeAlias = float | np.floating[Any] | np.integer[Any]
"""A number; a boolean is none, though checkers take it for an int."""

Out: TypeAlias = Array | None
"""Where to put a result."""

Progress: TypeAlias = Callable[[int, int], object] | bool | None
"""What is told how many rows are done, and of how many; True: a bar."""

# (Unions of single words, since stubtest takes an alias of several for a wrong one.)

Combined: TypeAlias = Literal["mean"] | Literal["sum"]
Reduction: TypeAlias = Combined | Literal["none"]
"""How the losses of the rows are combined, if they are."""

Direction: TypeAlias = Literal["forward"] | Literal["reverse"]
"""Of a divergence: KL(p, q), or KL(q, p)."""

OfXGBoost: TypeAlias = Literal["xgboost"] | Literal["xgboost-abs"]
Convention: TypeAlias = OfXGBoost | Literal["lightgbm"] | Literal["catboost"] | Literal["exact"]
"""Whose objective or metric one follows."""


# What `show_config` returns.


class KernelConfig(TypedDict):
    in_use: str
    forced: bool
    available: list[str]


class Config(TypedDict):
    versions: dict[str, str]
    kernels: KernelConfig
