"""What a caller has told NumPy to do about floating-point errors changes nothing: no call raises half-way."""

import ml_dtypes
import numpy as np
import pytest

import cxent
from cxent import boosting, sharded

SMALL = 1e-300  # 0 in float32


def calls(x, y, labels, weight, q):
    n = len(x)
    linear = cxent.linear_cross_entropy_with_grad
    state = sharded.part(x, labels, for_smoothing=True)
    smoothed = {"label_smoothing": 0.1, "z_loss": 1e-3}
    given = {"sample_weight": np.full(n, SMALL)}
    temperatures = np.array([1e-30, 1e30, 1, 2, 1e-5, 3])
    return {
        "linear": lambda: linear(x, weight, labels, bias=np.full(len(weight), SMALL), **given),
        "linear sum": lambda: linear(x, weight, labels, reduction="sum", **given),
        "linear, a large bias": lambda: linear(x, weight, labels, bias=np.full(len(weight), 1e300)),
        "linear scores": lambda: cxent.linear_token_logprobs(x, weight, labels),
        "loss": lambda: cxent.cross_entropy_with_grad(x, labels, weight=np.full(x.shape[1], SMALL), **given),
        "loss of probabilities": lambda: cxent.cross_entropy_with_hess(x, q),
        "hvp": lambda: cxent.cross_entropy_hvp(x, labels, np.full(x.shape, SMALL)),
        "from_probs": lambda: cxent.cross_entropy_from_probs_with_grad(abs(x), q),
        "kl": lambda: cxent.kl_divergence_with_grad(x, y),
        "js": lambda: cxent.js_divergence_with_grad(x, y),
        "softmax": lambda: (cxent.softmax(x), cxent.log_softmax(x), cxent.softmax_backward(x, abs(y))),
        "jacobian": lambda: cxent.softmax_jacobian(cxent.softmax(x)),
        "logsumexp": lambda: (cxent.logsumexp(x), cxent.logsumexp(x, b=np.full(x.shape, SMALL))),
        "scores": lambda: (cxent.token_logprobs(x, labels, top_k=3), cxent.perplexity(x, labels)),
        "calibration": lambda: (cxent.fit_temperature(x, labels), cxent.reliability(x, labels, temperature=0.01)),
        "calibration of two classes": lambda: cxent.binary_reliability(x, x > 0, temperature=0.01),
        "nucleus": lambda: cxent.token_logprobs(x, labels, top_p=0.999),
        "temperatures": lambda: (
            cxent.softmax(x, temperature=temperatures),
            cxent.log_softmax(x, temperature=temperatures),
        ),
        "scores with temperatures": lambda: cxent.token_logprobs(x, labels, top_p=1, temperature=temperatures),
        "weighted perplexity": lambda: cxent.perplexity(x, labels, **given),
        "boosting": lambda: boosting.softmax_objective("xgboost")(labels, x, given["sample_weight"]),
        "sharded loss": lambda: sharded.loss(state, **given),
        "sharded softmax": lambda: (sharded.softmax(x, state), sharded.log_softmax(x, state)),
        "sharded grad": lambda: sharded.grad(x, state, labels, **given),
        "sharded, smoothed": lambda: (
            sharded.loss(state, **smoothed, **given),
            sharded.grad(x, state, labels, **smoothed, **given),
        ),
        "merged, smoothed": lambda: sharded.merge(
            *(sharded.part(x, labels, first_class=40 * k, for_smoothing=True) for k in range(3))
        ),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.filterwarnings("error")
def test_no_floating_point_errors(dtype):
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        x = (rng.standard_normal((6, 40)) * [[1], [1e-7], [60], [100], [700], [1]]).astype(dtype)
        y, weight = ((rng.standard_normal((n, 40)) * 1e-7).astype(dtype) for n in (6, 7))
    q = rng.random((6, 40)) * SMALL
    with np.errstate(all="raise"):
        for name, call in calls(x, y, rng.integers(0, 7, 6), weight, q).items():
            try:
                call()
            except FloatingPointError as error:
                pytest.fail(f"{name}: {error}")
