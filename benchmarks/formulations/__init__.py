"""One file a peer: NAME in tables, DISTRIBUTION that has the version, and ``formulations(case)``.

``formulations`` says for every operation how the peer does it: a list of calls, of which the fastest counts, or the
reason why it has none. ``of_two_classes`` says it of an array of one axis, whose numbers are two-class problems. The
peer's package is imported inside them, so that one that is not installed is left out.
"""

from __future__ import annotations

from typing import Any

from cases import Case, Formulations

from . import cxent_, jax_, numpy_, onnxruntime_, scipy_, sklearn_, torch_

PEERS = [cxent_, numpy_, scipy_, sklearn_, torch_, jax_, onnxruntime_]


def formulations_of(peer: Any, case: Case) -> Formulations:
    found: Formulations = (peer.of_two_classes if case.two_classes else peer.formulations)(case)
    return found


def installed(case: Case) -> tuple[dict[str, Formulations], list[str]]:
    """Each peer's formulations, and the names of those that are not installed."""
    found, missing = {}, []
    for peer in PEERS:
        try:
            found[peer.NAME] = formulations_of(peer, case)
        except ImportError:
            missing.append(peer.NAME)
    return found, missing
