"""One module per peer: NAME in tables, DISTRIBUTION to look up the version, and ``formulations(case)``.

``formulations`` gives for every operation a list of calls, of which the fastest counts, or the reason why the peer has
none. It imports the peer's package itself, so that a package that is not installed is left out.
"""

from __future__ import annotations

from cases import Case, Formulations

from . import cxent_, jax_, numpy_, onnxruntime_, scipy_, sklearn_, torch_

PEERS = [cxent_, numpy_, scipy_, sklearn_, torch_, jax_, onnxruntime_]


def installed(case: Case) -> tuple[dict[str, Formulations], list[str]]:
    """The formulations of each peer, and the names of the peers that are not installed."""
    found, missing = {}, []
    for peer in PEERS:
        try:
            found[peer.NAME] = peer.formulations(case)
        except ImportError:
            missing.append(peer.NAME)
    return found, missing
