"""How much stack a call needs: threads may have little of it, 128 kB with musl."""

import os
import subprocess
import sys

import pytest

CALLS = """
import threading
import numpy as np
import cxent

rng = np.random.default_rng(0)


def call_all(x, y):
    given = {"axis": 1, "temperature": 2.0, "workers": 2}
    weights = {"weight": np.ones(x.shape[1]), "sample_weight": np.ones(y.shape), "label_smoothing": 0.1}
    p = cxent.softmax(x, 1, workers=2)
    cxent.softmax(x, 1, where=x > 0)
    cxent.softmax_backward(x, cxent.log_softmax(x, 1), 1)
    cxent.logsumexp(x, 1, b=x, return_sign=True)
    for target in (y, p):
        cxent.cross_entropy_with_grad(x, target, z_loss=0.1, softcap=5.0, **given, **weights)
        cxent.cross_entropy_with_hess(x, target, **given, **weights)
        cxent.cross_entropy_hvp(x, target, x, **given, **weights)
        cxent.cross_entropy_from_probs_with_grad(p, target, axis=1)
    for softcap in (None, 3.0):
        cxent.token_logprobs(x, y, top_k=5, softcap=softcap, **given)
    cxent.kl_divergence_with_grad(x, -x, **given)
    cxent.kl_divergence_with_grad(x, -x, direction="reverse", **given)
    cxent.js_divergence_with_grad(x, -x, where=x > -1, **given)
    cxent.binary_cross_entropy_with_hess(x, x > 0, focal_gamma=2.5, sample_weight=np.abs(x))
    parts = [cxent.sharded.part(x, y, axis=1, top_k=3, first_class=n) for n in (0, x.shape[1])]
    cxent.sharded.grad(x, cxent.sharded.merge(*parts), y, axis=1)


for dtype in (np.float64, np.float32, np.float16):
    for shape in ((200, 10), (40, 120), (3, 300), (2, 50, 40)):
        x = rng.standard_normal(shape).astype(dtype)
        y = rng.integers(0, shape[1], np.delete(shape, 1))
        threading.stack_size(0)
        call_all(x, y)  # what is looked up once is looked up here
        threading.stack_size(64 * 1024)  # half of which Python and NumPy want for themselves
        thread = threading.Thread(target=call_all, args=(x, y))
        thread.start()
        thread.join()
print("done")
"""


def test_a_thread_with_a_small_stack(kernels):
    if kernels.name == "python":
        pytest.skip("the pure-NumPy kernels take what NumPy takes")
    environment = os.environ | {"CXENT_ISA": kernels.name}
    done = subprocess.run([sys.executable, "-c", CALLS], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr[-2000:]
