"""Softmax and cross-entropy for NumPy arrays: fast, accurate, and small."""

from . import boosting, sharded
from ._binary import (
    binary_cross_entropy,
    binary_cross_entropy_with_grad,
    binary_cross_entropy_with_hess,
    log_sigmoid,
    sigmoid,
)
from ._calibration import Reliability, TemperatureFit, binary_reliability, fit_temperature, reliability
from ._compare import Comparison, Estimate, compare_logits
from ._config import get_workers, set_workers, show_config
from ._cross_entropy import (
    cross_entropy,
    cross_entropy_hvp,
    cross_entropy_with_grad,
    cross_entropy_with_hess,
)
from ._divergence import js_divergence, js_divergence_with_grad, kl_divergence, kl_divergence_with_grad
from ._from_probs import cross_entropy_from_probs, cross_entropy_from_probs_with_grad
from ._linear import (
    LinearGradients,
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
    linear_token_logprobs,
)
from ._scoring import Perplexity, TokenLogprobs, perplexity, token_logprobs
from ._softmax import log_softmax, log_softmax_backward, logsumexp, softmax, softmax_backward, softmax_jacobian

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Estimate",
    "LinearGradients",
    "Perplexity",
    "Reliability",
    "TemperatureFit",
    "TokenLogprobs",
    "binary_cross_entropy",
    "binary_cross_entropy_with_grad",
    "binary_cross_entropy_with_hess",
    "binary_reliability",
    "boosting",
    "compare_logits",
    "cross_entropy",
    "cross_entropy_from_probs",
    "cross_entropy_from_probs_with_grad",
    "cross_entropy_hvp",
    "cross_entropy_with_grad",
    "cross_entropy_with_hess",
    "fit_temperature",
    "get_workers",
    "js_divergence",
    "js_divergence_with_grad",
    "kl_divergence",
    "kl_divergence_with_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "linear_token_logprobs",
    "log_sigmoid",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "perplexity",
    "reliability",
    "set_workers",
    "sharded",
    "show_config",
    "sigmoid",
    "softmax",
    "softmax_backward",
    "softmax_jacobian",
    "token_logprobs",
]
