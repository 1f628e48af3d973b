"""What is measured: shapes, operations, dtypes, and the arrays of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

Call = Callable[[], Any]
Formulations = dict[str, "list[Call] | str"]  # by operation: a peer's formulations, or why it has none

OPERATIONS = [
    "softmax",
    "softmax, masked",
    "log_softmax",
    "logsumexp",
    "loss",
    "loss+grad",
    "loss, masked",
    "loss+grad, masked",
    "loss+grad, smoothed",
    "focal loss+grad",
    "loss, soft",
    "loss+grad, soft",
    "scores, top 10",
    "scores, temperatures",
    "KL",
    "KL+grad",
]
TWO_CLASS_OPERATIONS = ["sigmoid", "log_sigmoid", "two-class loss", "two-class loss+grad"]  # of arrays of one axis
TOP = 10
HALF_OPERATIONS = [
    "softmax",
    "log_softmax",
    "logsumexp",
    "sigmoid",
    "log_sigmoid",
]  # (losses: peers have half
WIDE_DTYPES = ["float32", "float64"]
DTYPES = [*WIDE_DTYPES, "float16", "bfloat16"]  # half precision on one core
SMOOTHING = 0.1
GAMMA = 2.0  # of focal losses
FEW = 1000  # calls with fewer elements are small: results are allocated, times are in microseconds


class Shape(NamedTuple):
    """The shape of the logits, the class axis, and the group in the tables. One axis means two-class problems."""

    shape: tuple[int, ...]
    axis: int = -1
    group: str = ""

    @property
    def label(self) -> str:
        text = " x ".join(f"{n:,}" for n in self.shape)
        return text if self.axis == -1 else f"{text}, axis {self.axis}"


def rows_by_classes(group: str, *sizes: tuple[int, int]) -> list[Shape]:
    return [Shape(size, group=group) for size in sizes]


SMALL, CACHED, LARGE, TWO = "small and middle", "in the caches", "past the caches", "two classes"
_SHAPES = [
    *rows_by_classes(
        SMALL, (1, 10), (8, 10), (32, 10), (50, 10), (256, 10), (1_024, 10), (1, 100), (8, 100), (32, 100), (256, 100)
    ),
    *rows_by_classes(SMALL, (1_024, 100), (32, 1_000), (256, 1_000), (1_024, 1_000)),
    *rows_by_classes(CACHED, (20_000, 3), (6_000, 10), (640, 33), (640, 100), (64, 257), (64, 1_000), (16, 5_003)),
    *rows_by_classes(CACHED, (4, 32_000)),
    # The number of classes grows by at most a factor of four from one to the next.
    *rows_by_classes(LARGE, (1_000_000, 3), (200_000, 10), (50_000, 33), (16_384, 100), (3_000, 257), (4_096, 1_000)),
    *rows_by_classes(LARGE, (1_024, 4_000), (512, 12_000), (512, 32_000), (256, 50_257), (256, 128_256)),
    Shape((4, 21, 512, 512), 1, LARGE),
    *(Shape((10**k,), group=TWO) for k in range(8)),
]
SHAPES = {shape.label: shape for shape in _SHAPES}  # by name, as in ``--shapes``

# How time grows with rows of 100 classes, and with the classes of 64 rows. Factors of 2 show any change of method.
ROWS, CLASSES = "rows", "classes"
SCALING = [
    *rows_by_classes(ROWS, *((2**k, 100) for k in range(16))),
    *rows_by_classes(CLASSES, *((64, 2**k) for k in range(1, 18))),
]
SCALING_OPERATIONS = ["softmax", "loss+grad"]

QUICK_SHAPES = ["1 x 10", "50 x 10", "6,000 x 10", "640 x 100", "64 x 1,000", "3,000 x 257"]
QUICK_OPERATIONS = ["softmax", "loss", "loss+grad"]
QUICK_DTYPES = ["float32", "float64"]
MEMORY_SHAPE = "512 x 32,000"


class Case:
    """Logits, labels, soft labels, a teacher's logits, class weights, a mask, the temperatures of the rows, and memory
    for the result.

    Two-class problems are a number each: they have logits, labels 0 and 1, and that memory.
    """

    def __init__(self, shape: Shape, dtype: str, threads: int) -> None:
        rng = np.random.default_rng(0)
        sizes, self.axis = shape.shape, shape.axis % len(shape.shape)
        self.threads = threads
        self.half = dtype not in WIDE_DTYPES
        if self.half:
            import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)
        self.x: Any = (3 * rng.standard_normal(sizes, np.float32)).astype(dtype)
        self.small = self.x.size < FEW
        self.out: Any = None if self.small else np.empty_like(self.x)
        self.two_classes = len(sizes) == 1
        if self.two_classes:
            self.rows, self.classes = sizes[0], 2
            self.labels = rng.integers(0, 2, sizes)
            return
        self.row_shape = sizes[: self.axis] + sizes[self.axis + 1 :]
        self.rows = int(np.prod(self.row_shape))
        self.classes = sizes[self.axis]
        self.labels = rng.integers(0, self.classes, self.row_shape)
        self.q: Any = rng.random(sizes, np.float32).astype(dtype)
        self.q /= self.q.sum(self.axis, keepdims=True)
        self.teacher: Any = (self.x + rng.standard_normal(sizes, np.float32)).astype(dtype)
        self.weight: Any = (rng.random(self.classes) + 0.5).astype(dtype)
        self.mask = rng.random(sizes, np.float32) < 0.7
        # (The loss of a label outside the mask would be infinite.)
        np.put_along_axis(self.mask, np.expand_dims(self.labels, self.axis), True, self.axis)
        self.temperatures: Any = (rng.random(self.row_shape) + 0.5).astype(dtype)

    def operations(self, wanted: Iterable[str]) -> list[str]:
        """The wanted operations that this case supports: fewer for half precision, and no top 10 of fewer than 10
        classes."""
        few = self.classes < TOP
        wanted = [o for o in wanted if (o in TWO_CLASS_OPERATIONS) == self.two_classes]
        return [o for o in wanted if (not self.half or o in HALF_OPERATIONS) and not (few and o == "scores, top 10")]

    def along(self, weight: Any) -> Any:
        """Class weights in a shape that broadcasts to that of the logits."""
        return weight.reshape([-1 if a == self.axis else 1 for a in range(self.x.ndim)])


def without(reason: str, operations: Iterable[str] = OPERATIONS) -> Formulations:
    """None of these operations, and the reason."""
    return dict.fromkeys(operations, reason)
