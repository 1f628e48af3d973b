"""One file a peer: NAME in tables, DISTRIBUTION that has the version, and ``formulations(case)``.

``formulations`` says for every operation how the peer does it: a list of calls, of which the fastest counts, or the
reason why it has none. The peer's package is imported inside it, so that one that is not installed is left out.
"""

from __future__ import annotations

from cases import Case, Formulations

from . import cxent_, jax_, numpy_, onnxruntime_, scipy_, sklearn_, torch_

PEERS = [cxent_, numpy_, scipy_, sklearn_, torch_, jax_, onnxruntime_]


def installed(case: Case) -> tuple[dict[str, Formulations], list[str]]:
    """Each peer's formulations, and the names of those that are not installed."""
    found, missing = {}, []
    for peer in PEERS:
        try:
            found[peer.NAME] = peer.formulations(case)
        except ImportError:
            missing.append(peer.NAME)
    return found, missing
