"""The types of arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Required, SupportsIndex, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

Combined: TypeAlias = Literal["mean", "sum"]
PerRow: TypeAlias = Literal["none"]
Reduction: TypeAlias = Combined | PerRow
"""How the losses of the rows are combined, if they are."""

Direction: TypeAlias = Literal["forward", "reverse"]
"""Of a divergence: of p from q, or of q from p."""

Convention: TypeAlias = Literal["xgboost", "lightgbm", "exact"]


# The keyword arguments that the overloads of a function have in common.


class WeightOptions(TypedDict, total=False):
    """Those of every loss."""

    axis: SupportsIndex
    weight: ArrayLike | None
    sample_weight: ArrayLike | None
    ignore_index: SupportsIndex | None
    workers: SupportsIndex | None


class HessianOptions(WeightOptions, total=False):
    """Those of the losses of logits that have a Hessian."""

    label_smoothing: Real
    temperature: Real


class LogitOptions(HessianOptions, total=False):
    """Those of the losses of logits."""

    z_loss: Real
    softcap: Real | None


class NoLse(LogitOptions, total=False):
    return_lse: Literal[False]


class WithLse(LogitOptions, total=False):
    return_lse: Required[Literal[True]]


class MaybeLse(LogitOptions, total=False):
    return_lse: Required[bool]
    reduction: Reduction


class DivergenceOptions(TypedDict, total=False):
    """Those of both divergences."""

    axis: SupportsIndex
    temperature: Real
    sample_weight: ArrayLike | None
    where: ArrayLike | None
    workers: SupportsIndex | None


class KlOptions(DivergenceOptions, total=False):
    direction: Direction


class JsOptions(DivergenceOptions, total=False):
    beta: Real


class LinearOptions(TypedDict, total=False):
    """Those of the losses of a linear layer's outputs."""

    bias: ArrayLike | None
    class_weight: ArrayLike | None
    sample_weight: ArrayLike | None
    ignore_index: SupportsIndex | None
    label_smoothing: Real
    z_loss: Real
    softcap: Real | None
    temperature: Real
    chunk_bytes: SupportsIndex
    progress: Progress
    workers: SupportsIndex | None


class LinearNoLse(LinearOptions, total=False):
    return_lse: Literal[False]


class LinearWithLse(LinearOptions, total=False):
    return_lse: Required[Literal[True]]


class LinearMaybeLse(LinearOptions, total=False):
    return_lse: Required[bool]
    reduction: Reduction


# What `show_config` returns.


class KernelConfig(TypedDict):
    in_use: str
    forced: bool
    available: list[str]


class Config(TypedDict):
    versions: dict[str, str]
    kernels: KernelConfig
