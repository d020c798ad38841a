"""llama.cpp for Reprise: an engine whose KV comes out and goes in, and its connector to a store."""

from .connector import Connector, Prefill, Publication, namespace_of
from .engine import Engine
from .model import ModelFacts, RopeFacts, packaged_gguf
from .state import KvShape, SequenceState

__all__ = [
    "Connector",
    "Engine",
    "KvShape",
    "ModelFacts",
    "Prefill",
    "Publication",
    "RopeFacts",
    "SequenceState",
    "namespace_of",
    "packaged_gguf",
]
