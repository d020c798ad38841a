"""What is scored: the baselines, and Reprise's own codec beside them."""

from __future__ import annotations

from bench.fidelity.ours import Profiled, Reprise
from bench.kv.baselines.registry import baselines
from bench.kv.baselines.scheme import Scheme


def ours() -> list[Scheme]:
    """Reprise's codec through its Python binding: one encode, one level per plane. Names begin
    with rows.OURS; the one named just that is what every ratio is about.
    """
    return [Reprise(), Profiled()]


def schemes() -> list[Scheme]:
    """Fresh objects, not yet fitted."""
    return [*ours(), *baselines()]
