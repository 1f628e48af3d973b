"""Checks of targets, ids, weights and masks.

The third step of a call: their shapes fit the logits, and class indices are in range. The arrays still have the shape
in which they were given.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from . import kernels
from ._arrays import Arrays
from ._options import BinaryOptions
from ._types import Array

_INT64 = np.dtype(np.int64)


Targets: TypeAlias = tuple[Array | None, Array | None, Array | None, Array | None, Array | None]
"""Class indices in the rows' shape; class probabilities in the shape and dtype of the logits; class weights; row
weights, broadcast to the rows' shape; and the mask, broadcast to the logits' shape. (A plain tuple is the cheapest to
build.)"""


def checked_targets(
    arrays: Arrays, ignore_index: int | None, weight_name: str = "weight", *, focal_gamma: float = 0.0
) -> Targets:
    """The target, weights and mask of a loss; without a target, those of a divergence."""
    shape, target = arrays.shape, arrays.target
    if shape.classes == 0:
        _require_classes(arrays)
    labels = probabilities = None
    if target is not None:
        if target.shape == shape.whole:
            if focal_gamma:
                raise ValueError(
                    f"target must be class indices with focal_gamma={focal_gamma}, got shape {shape.whole}"
                )
            probabilities = _probabilities(target, arrays, ignore_index)
        else:
            labels = _labels(target, arrays, ignore_index)
    weights = arrays.class_weights
    if weights is not None and weights.shape != (shape.classes,):
        raise ValueError(
            f"{weight_name} must have shape {(shape.classes,)} (one weight per class), got {weights.shape}"
        )
    rows = None if arrays.row_weights is None else _row_weights(arrays)
    where = None if arrays.where is None else checked_mask(arrays.where, shape.whole)
    return labels, probabilities, weights, rows, where


def checked_binary_targets(
    arrays: Arrays, options: BinaryOptions, *, checks_labels: bool
) -> tuple[Array, Array | None, Array | None]:
    """Labels 0 and 1 or probabilities; the weight of the positive class for each number of the last axis; and the
    weights of all numbers. Kernels check labels as they read them, which is early enough if no array of the caller is
    written.
    """
    shape, target, ignore_index = arrays.shape.whole, arrays.target, options.ignore_index
    assert target is not None
    if target.shape != shape:
        raise ValueError(f"target must have the shape of logits, {shape}, got {target.shape}")
    if target.dtype.kind == "f":
        if ignore_index is not None or options.focal_gamma:
            name = "focal_gamma" if ignore_index is None else "ignore_index"
            raise ValueError(f"{name} needs labels, got target of dtype {target.dtype}: convert it with astype(int)")
    elif target.dtype.kind == "b":
        target = target.view(np.uint8) != 0  # (for NumPy, any byte but 0 is True)
    elif checks_labels:
        require_binary_labels(target, ignore_index)
    columns = shape[-1] if shape else 1
    by_column = arrays.class_weights
    if by_column is not None:
        if by_column.size != 1 and by_column.shape != (columns,):
            raise ValueError(f"pos_weight must be a number or have shape {(columns,)}, got {by_column.shape}")
        if (by_column < 0).any():
            raise ValueError(f"pos_weight must not be negative, got {by_column.min()}")
        by_column = np.ascontiguousarray(np.broadcast_to(by_column.reshape(-1), (columns,)))
    weights = arrays.row_weights
    if weights is not None and weights.shape != shape:
        if weights.shape != shape[:-1] or not shape:
            more = f" or {shape[:-1]}, one for each row" if len(shape) > 1 else ""
            raise ValueError(f"sample_weight must have shape {shape}{more}, got {weights.shape}")
        weights = weights[..., np.newaxis]
    return target, by_column, weights


def require_binary_labels(labels: Array, ignore_index: int | None) -> None:
    if not kernels.serving.float64.labels_in_range(labels.reshape(1, -1), 2, ignore_index):
        place = np.argwhere(((labels < 0) | (labels > 1)) & (labels != ignore_index))[0]
        found = labels[tuple(place)]
        at = f"[{', '.join(map(str, place))}]" if labels.ndim else ""
        more = "" if ignore_index is None else f", or {ignore_index}, the ignore_index"
        hint = "; for labels -1 and 1 pass target > 0" if found == -1 else ""
        raise ValueError(f"target{at} must be 0 or 1{more}, got {found}{hint}")


def checked_ids(
    arrays: Arrays, ignore_index: int | None, *, several: bool = True, top_k: int = 0
) -> tuple[Array, int | None, Array | None, Array | None]:
    """Class ids with an axis of candidates; the number of candidates, or None if that axis was not given; the mask,
    broadcast to the shape of the logits; and the weights or the temperatures of the rows.

    `top_k` must not exceed the number of classes.
    """
    _require_classes(arrays)
    ids = _classes(_ids(arrays, "ids", several=several), "ids", arrays, ignore_index)
    if not 0 <= top_k <= arrays.shape.classes:
        raise ValueError(f"top_k must be an integer from 0 to {arrays.shape.classes}, got {top_k}")
    where = None if arrays.where is None else checked_mask(arrays.where, arrays.shape.whole)
    by_row = _row_weights(arrays) if arrays.temperatures is None else _row_temperatures(arrays)
    if ids.ndim == len(arrays.shape.rows):
        return ids[..., np.newaxis], None, where, by_row
    return ids, ids.shape[-1], where, by_row


def targets_of_part(arrays: Arrays) -> tuple[Array | None, Array | None]:
    """Ids of classes that may be in another part, and the weights of rows. The mask is checked too."""
    check_mask(arrays)
    ids = None if arrays.target is None else _ids(arrays, "target").astype(_INT64)
    return ids, _row_weights(arrays)


def check_mask(arrays: Arrays) -> None:
    """Check the mask, and broadcast it to the shape of the logits."""
    arrays.where = checked_mask(arrays.where, arrays.shape.whole)


def checked_mask(where: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Which numbers take part of an array of this shape."""
    if where is None:
        return None
    if where.dtype != np.bool_:
        raise TypeError(f"where must have dtype bool, got {where.dtype}")
    return _broadcast(where, shape, "where", "")


def first_outside(
    target: Array, argument: str, classes: int, ignore_index: int | None, logits_name: str = "logits"
) -> str:
    """What is wrong with class indices of which one is no class."""
    place = np.argwhere(((target < 0) | (target >= classes)) & (target != ignore_index))[0]
    found = target[tuple(place)]
    ignored = hint = ""
    if ignore_index is not None:
        ignored = f" or ignore_index ({ignore_index})"
        if ignore_index < 0 and target.dtype.kind == "u":
            hint = f": {target.dtype} cannot hold {ignore_index}, so convert with astype(int) before filling"
    elif found < 0:
        hint = f": to leave out such rows, pass ignore_index={found}"
    if classes == 1 and found == 1 and argument.endswith("target"):
        hint = f"; {_for_two_classes(logits_name, f'target.reshape({logits_name}.shape)')}"
    at = f"[{', '.join(map(str, place))}]" if target.ndim else ""
    return f"{argument}{at} must be a class index from 0 to {classes - 1}{ignored}, got {found}{hint}"


def _require_classes(arrays: Arrays) -> None:
    """Require that rows have classes, since a row without classes has no label."""
    shape = arrays.shape
    if shape.classes == 0 and shape.row_count > 0:
        axis = shape.class_axes[0]
        raise ValueError(f"{arrays.name} must have at least one class, got shape {shape.whole} with class axis {axis}")


def _probabilities(target: Array, arrays: Arrays, ignore_index: int | None) -> Array:
    if ignore_index is not None:
        raise ValueError(
            f"ignore_index must be None for class probabilities, got {ignore_index} with a target of shape "
            f"{target.shape}; to leave out a row, give it sample_weight 0"
        )
    if target.dtype.kind not in "iub":
        return target
    _require_one_hot(target, arrays)
    return target.astype(arrays.dtype)


def _labels(target: Array, arrays: Arrays, ignore_index: int | None) -> Array:
    whole, rows = arrays.shape.whole, arrays.shape.rows
    if target.shape != rows:
        of_torch = whole[:1] + whole[2:]
        hint = "; did you mean axis=1?" if target.shape == of_torch and len(whole) > 1 else ""
        raise ValueError(
            f"target must have shape {rows} (class indices) or {whole} (class probabilities) for {arrays.name} of "
            f"shape {whole}, got {target.shape}{hint}"
        )
    if target.dtype.kind not in "iu":
        _require_integers(target, "target", "class indices")
    return _classes(target, "target", arrays, ignore_index)


def _ids(arrays: Arrays, name: str, *, several: bool = True) -> Array:
    """Class ids, one or several for each row."""
    ids, shape = arrays.target, arrays.shape
    assert ids is not None
    if ids.shape != shape.rows and not (several and ids.shape[:-1] == shape.rows and ids.ndim > len(shape.rows)):
        more = ", or one more axis for several candidates per row," if several else ""
        raise ValueError(
            f"{name} must have shape {shape.rows}{more} for logits of shape {shape.whole}, got {ids.shape}"
        )
    _require_integers(ids, name, "class indices")
    return ids


def mask_and_temperatures(arrays: Arrays) -> tuple[Array | None, Array | None]:
    """The mask, broadcast to the shape of the logits, and the temperatures of the rows."""
    mask = None if arrays.where is None else checked_mask(arrays.where, arrays.shape.whole)
    return mask, _row_temperatures(arrays)


def _row_weights(arrays: Arrays) -> Array | None:
    """The weights of the rows, in their shape."""
    weights = arrays.row_weights
    return None if weights is None else _broadcast(weights, arrays.shape.rows, "sample_weight", " (one weight per row)")


def _row_temperatures(arrays: Arrays) -> Array | None:
    """The temperatures of the rows, in their shape."""
    given = arrays.temperatures
    return None if given is None else _broadcast(given, arrays.shape.rows, "temperature", " (one per row)")


def _classes(labels: Array, name: str, arrays: Arrays, ignore_index: int | None) -> Array:
    """Labels that are all in range or ignored."""
    classes = arrays.shape.classes
    if labels.dtype.kind not in "iu":  # an empty list
        labels = labels.astype(_INT64)
    flat = labels if labels.ndim == 2 else labels.reshape(1, -1)
    if not kernels.serving.float64.labels_in_range(flat, classes, ignore_index):
        raise IndexError(first_outside(labels, name, classes, ignore_index, arrays.name))
    return labels


def _require_one_hot(target: Array, arrays: Arrays) -> None:
    """Require that integers or booleans in the shape of the logits have a single 1 in each row, and 0 elsewhere."""
    name, shape = arrays.name, arrays.shape
    is_one_hot = np.count_nonzero(target, axis=shape.class_axes) == 1
    if target.dtype.kind != "b":
        is_one_hot &= np.count_nonzero(target == 1, axis=shape.class_axes) == 1
    if is_one_hot.all():
        return
    row = np.argwhere(~is_one_hot)[0].tolist()
    remedies = [
        f"class indices must have shape {shape.rows}",
        "class probabilities must have a floating dtype: target.astype(float)",
    ]
    if shape.classes == 1 or shape.row_count == 1:
        remedies.append(_for_two_classes(name))
    raise ValueError(
        f"target of dtype {target.dtype} in the shape of {name}, {shape.whole}, must be one-hot (one 1 in each row, 0 "
        f"elsewhere), got a row{f' {row}' if row else ''} that is not; {'; '.join(remedies)}"
    )


def _for_two_classes(name: str, target: str = "target") -> str:
    """What to do with labels 0 and 1 if there is one logit or probability for both."""
    if name == "probs":
        return "labels 0 and 1 of one probability each want both classes, np.stack([1 - probs, probs], axis=-1)"
    return f"labels 0 and 1 of one score each are for binary_cross_entropy({name}, {target})"


def _require_integers(labels: Any, name: str, meaning: str) -> None:
    """Require labels of an integer dtype. (An empty list is float64 for NumPy, but may be labels too.)"""
    dtype = labels.dtype
    if dtype.kind in "iu" or not labels.size:
        return
    has_nan = dtype.kind == "f" and isinstance(labels, np.ndarray) and bool(np.isnan(labels).any())
    if dtype.kind == "O" or has_nan:
        raise TypeError(
            f"{name} must have an integer dtype ({meaning}), got {dtype}{' with NaN' if has_nan else ''}: fill missing "
            "labels with a number that is no class, such as -100, convert with astype(int), and pass ignore_index=-100"
        )
    raise TypeError(f"{name} must have an integer dtype ({meaning}), got {dtype}: convert it with astype(int)")


def _broadcast(array: Array, shape: tuple[int, ...], name: str, meaning: str) -> Array:
    try:
        return array if array.shape == shape else np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} must have a shape that broadcasts to {shape}{meaning}, got {array.shape}") from None
