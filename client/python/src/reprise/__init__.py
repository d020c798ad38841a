"""Client of Reprise, a disaggregated KV-cache store for LLM serving.

Keys are made of tokens under a namespace; KV goes in and comes out by chunks of them:

    rope = reprise.Rope("halves", rotated_dims=64, theta=100_000.0)
    group = reprise.LayerGroup(list(range(30)), kv_heads=3, key_dim=64, value_dim=64, rope=rope)
    namespace = reprise.Namespace("SmolLM2-135M", groups=[group], kv_dtype="bf16")
    keys = reprise.PrefixKeys(namespace, tokens)
    with reprise.connect("127.0.0.1:7070") as client:
        hit = client.lookup(keys)
        k = numpy.empty((30, hit.chunks * namespace.chunk_tokens, 3, 64), numpy.uint16)
        v = numpy.empty_like(k)
        loaded = client.load(keys, 0, hit.chunks, (k, v), expected=hit)
        # compute what is missing into new_k and new_v, then
        missing = keys.chunk_count - loaded.chunks
        if missing:
            client.publish(keys, missing, (new_k, new_v), first_chunk=loaded.chunks)
"""

from importlib.metadata import version as _version

from reprise._reprise import (
    Calibration,
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
    profile_name,
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

__version__ = _version("reprise")

__all__ = [
    "Calibration",
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
    "profile_name",
]
