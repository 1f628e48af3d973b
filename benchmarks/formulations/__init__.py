"""One module per peer: NAME in tables, DISTRIBUTION to look up the version, and ``formulations(case)``.

``formulations`` gives for every operation a list of calls, of which the fastest counts, or the reason why the peer has
none; ``of_two_classes`` gives the same for an array of one axis, whose numbers are two-class problems. Both import the
peer's package themselves, so that a package that is not installed is left out.
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
    """The formulations of each peer, and the names of the peers that are not installed."""
    found, missing = {}, []
    for peer in PEERS:
        try:
            found[peer.NAME] = formulations_of(peer, case)
        except ImportError:
            missing.append(peer.NAME)
    return found, missing
