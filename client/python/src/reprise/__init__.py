"""Client of Reprise, a disaggregated KV-cache store for LLM serving.

with reprise.connect("127.0.0.1:7070") as client:
    keys = reprise.PrefixKeys(namespace, tokens)
    hit = client.lookup(keys)
    loaded = client.load(keys, 0, hit.chunks, (k, v), expected=hit)
"""

from reprise._reprise import (
    Client,
    EncodedPiece,
    LayerGroup,
    LoadResult,
    LookupResult,
    Miss,
    Namespace,
    ObjectInfo,
    ObjectPage,
    ObjectStat,
    PendingLoad,
    PendingLookup,
    PendingPiece,
    PendingPublish,
    PieceResult,
    PieceState,
    PrefixKeys,
    PublishResult,
    Rope,
    Selection,
    SelectionResult,
    connect,
    encode,
)
from reprise.errors import (
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    InvalidArgumentError,
    PermissionDeniedError,
    RepriseError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)

__all__ = [
    "CancelledError",
    "Client",
    "DataLossError",
    "DeadlineExceededError",
    "EncodedPiece",
    "InvalidArgumentError",
    "LayerGroup",
    "LoadResult",
    "LookupResult",
    "Miss",
    "Namespace",
    "ObjectInfo",
    "ObjectPage",
    "ObjectStat",
    "PendingLoad",
    "PendingLookup",
    "PendingPiece",
    "PendingPublish",
    "PermissionDeniedError",
    "PieceResult",
    "PieceState",
    "PrefixKeys",
    "PublishResult",
    "RepriseError",
    "ResourceExhaustedError",
    "Rope",
    "Selection",
    "SelectionResult",
    "UnavailableError",
    "UnimplementedError",
    "connect",
    "encode",
]
