#!/usr/bin/env python3
"""Writes key_vectors.txt: an implementation of docs/keys.md that shares no code with chunk/.

Usage: python3 make_key_vectors.py > key_vectors.txt
"""

import hashlib
import struct

FULL, WINDOW, LATENT, STATE, OPAQUE = 1, 2, 3, 4, 5
BF16, FP16, FP32 = 1, 2, 3
NO_ROPE = {"pairing": 0, "rotated_dims": 0, "theta": 0.0, "scaling": 0, "parameters": []}
INTERLEAVED, HALVES = 1, 2
LINEAR, LLAMA3, YARN, PER_PAIR = 1, 2, 3, 4


def u8(value: int) -> bytes:
    return struct.pack("<B", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def f64(value: float) -> bytes:
    return struct.pack("<d", value)


def text(value: str) -> bytes:
    data = value.encode("utf-8")
    return u32(len(data)) + data


def encode_group(group: dict) -> bytes:
    turn = group["rope"]
    out = u8(group["kind"]) + u32(len(group["layers"]))
    out += b"".join(u32(layer) for layer in group["layers"])
    for name in (
        "kv_heads",
        "key_dim",
        "value_dim",
        "window_tokens",
        "layers_per_piece",
        "heads_per_piece",
    ):
        out += u32(group[name])
    return (
        out
        + u8(turn["pairing"])
        + u32(turn["rotated_dims"])
        + f64(turn["theta"])
        + u8(turn["scaling"])
        + u32(len(turn["parameters"]))
        + b"".join(f64(parameter) for parameter in turn["parameters"])
    )


def encode_namespace(ns: dict) -> bytes:
    out = u32(1)
    for name in ("tenant", "model", "revision", "adapter", "weight_quantization"):
        out += text(ns[name])
    out += u8(ns["kv_dtype"]) + u32(ns["chunk_tokens"]) + text(ns["profile"])
    return out + u32(len(ns["groups"])) + b"".join(encode_group(group) for group in ns["groups"])


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def slots(ns: dict) -> list[tuple[int, int, int, int, int]]:
    result = []
    for index, group in enumerate(ns["groups"]):
        layers, heads = len(group["layers"]), group["kv_heads"]
        for layer in range(0, layers, group["layers_per_piece"]):
            for head in range(0, heads, group["heads_per_piece"]):
                layer_end = min(layer + group["layers_per_piece"], layers)
                head_end = min(head + group["heads_per_piece"], heads)
                result.append((index, layer, layer_end, head, head_end))
    return result


def piece_key(prefix: bytes, slot: tuple[int, ...]) -> bytes:
    return sha256(b"piece", prefix, *(u32(field) for field in slot))


def group(kind: int, layers: list[int], **fields: object) -> dict:
    result = {
        "kind": kind,
        "layers": layers,
        "kv_heads": 1,
        "key_dim": 0,
        "value_dim": 0,
        "window_tokens": 0,
        "layers_per_piece": len(layers),
        "heads_per_piece": 1,
        "rope": NO_ROPE,
    }
    return result | fields


def rope(pairing: int, dims: int, theta: float, scaling: int = 0, *parameters: float) -> dict:
    return {
        "pairing": pairing,
        "rotated_dims": dims,
        "theta": theta,
        "scaling": scaling,
        "parameters": list(parameters),
    }


def namespace(**fields: object) -> dict:
    result = {
        "tenant": "default",
        "model": "",
        "revision": "",
        "adapter": "",
        "weight_quantization": "",
        "kv_dtype": BF16,
        "chunk_tokens": 256,
        "profile": "",
        "groups": [],
    }
    return result | fields


CASES = [
    {
        "name": "minimal",
        "namespace": namespace(
            model="m", chunk_tokens=2, groups=[group(FULL, [0], key_dim=1, value_dim=1)]
        ),
        "secret": "",
        "tokens": [0, 1, 2, 3, 4294967295],
        "extras": [],
    },
    {
        "name": "attention",
        "namespace": namespace(
            tenant="acme",
            model="SmolLM2-135M-Instruct",
            revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
            weight_quantization="q4_1",
            kv_dtype=FP16,
            chunk_tokens=256,
            groups=[
                group(
                    FULL,
                    list(range(30)),
                    kv_heads=3,
                    key_dim=64,
                    value_dim=64,
                    layers_per_piece=8,
                    heads_per_piece=2,
                    rope=rope(HALVES, 64, 100000.0),
                )
            ],
        ),
        "secret": "correct horse battery staple",
        "tokens": [(i * 7919 + 13) % 49152 for i in range(600)],
        "extras": ["", "image sha256:00ff"],
    },
    {
        "name": "hybrid",
        "namespace": namespace(
            tenant="δοκιμή",
            model="hybrid/1b",
            revision="main",
            adapter="lora:legal-v3",
            weight_quantization="fp8",
            kv_dtype=FP32,
            chunk_tokens=3,
            profile=hashlib.sha256(b"profile").hexdigest(),
            groups=[
                group(
                    WINDOW,
                    [0, 2, 4],
                    kv_heads=2,
                    key_dim=40,
                    value_dim=72,
                    window_tokens=1024,
                    layers_per_piece=2,
                    rope=rope(INTERLEAVED, 20, 500000.5, LLAMA3, 8.0, 1.0, 4.0, 8192.0),
                ),
                group(
                    LATENT,
                    [1, 3],
                    key_dim=576,
                    rope=rope(INTERLEAVED, 64, 10000.0, YARN, 40.0, 4096.0, 32.0, 1.0, 1.0, 1.0),
                ),
                group(STATE, [5], kv_heads=4, key_dim=16, heads_per_piece=4),
                group(OPAQUE, [6, 7], layers_per_piece=1),
            ],
        ),
        "secret": "",
        "tokens": [5, 6, 7, 5, 6, 7, 5],
        "extras": ["first"],
    },
    {
        "name": "a rope per layer group",
        "namespace": namespace(
            model="gemma-3-4b-it",
            chunk_tokens=4,
            groups=[
                group(
                    WINDOW,
                    [0, 1, 2, 3, 4],
                    kv_heads=4,
                    key_dim=256,
                    value_dim=256,
                    window_tokens=1024,
                    heads_per_piece=4,
                    rope=rope(HALVES, 256, 10000.0),
                ),
                group(
                    FULL,
                    [5],
                    kv_heads=4,
                    key_dim=256,
                    value_dim=256,
                    heads_per_piece=4,
                    rope=rope(HALVES, 256, 1000000.0, LINEAR, 8.0),
                ),
                group(
                    FULL,
                    [6],
                    key_dim=8,
                    value_dim=8,
                    rope=rope(HALVES, 6, 10000.0, PER_PAIR, 1.25, 1.0, 1.1, 64.5),
                ),
            ],
        ),
        "secret": "",
        "tokens": [2, 105, 2364, 107],
        "extras": [],
    },
    {
        "name": "file",
        "namespace": namespace(
            model="file", kv_dtype=0, chunk_tokens=0, groups=[group(OPAQUE, [0])]
        ),
        "file_name": "notes/2026 plan.txt",
    },
]

HEAD = """\
# Test vectors for docs/keys.md, made by make_key_vectors.py with hashlib only.
# Inputs: namespace fields, secret, tokens, extra CHUNK TEXT (or file_name). "group" gives kind, KV
# heads, key dim, value dim, window tokens, layers and heads per piece; "rope" gives pairing,
# rotated dims, theta, scaling and its parameters; numbers of enumerations are those of the
# encoding. Expected: encoding, fingerprint, prefix I HEX (prefix id[I]), slots N, key CHUNK SLOT
# HEX. Text ends with its line."""


def print_inputs(case: dict) -> None:
    ns = case["namespace"]
    print(f"\ncase {case['name']}")
    for name in (
        "tenant",
        "model",
        "revision",
        "adapter",
        "weight_quantization",
        "kv_dtype",
        "chunk_tokens",
        "profile",
    ):
        print(f"{name} {ns[name]}".rstrip())
    for one in ns["groups"]:
        numbers = " ".join(
            str(one[name])
            for name in (
                "kind",
                "kv_heads",
                "key_dim",
                "value_dim",
                "window_tokens",
                "layers_per_piece",
                "heads_per_piece",
            )
        )
        turn = one["rope"]
        print(f"group {numbers}")
        print("layers", ",".join(str(layer) for layer in one["layers"]))
        fields = [turn["pairing"], turn["rotated_dims"], turn["theta"], turn["scaling"]]
        print("rope", " ".join(repr(field) for field in fields + turn["parameters"]))


def print_expected(case: dict) -> None:
    ns = case["namespace"]
    encoding = encode_namespace(ns)
    print("encoding", encoding.hex())
    print("fingerprint", sha256(encoding).hex())
    prefixes = [sha256(b"reprise/1", encoding, case.get("secret", "").encode())]
    if "file_name" in case:
        prefixes.append(sha256(prefixes[0], case["file_name"].encode()))
    else:
        size = ns["chunk_tokens"]
        for chunk in range(len(case["tokens"]) // size):
            tokens = b"".join(
                u32(token) for token in case["tokens"][chunk * size : (chunk + 1) * size]
            )
            extra = case["extras"][chunk] if chunk < len(case["extras"]) else ""
            prefixes.append(sha256(prefixes[-1], tokens, extra.encode()))
    for index, prefix in enumerate(prefixes):
        print("prefix", index, prefix.hex())
    print("slots", len(slots(ns)))
    for chunk, prefix in enumerate(prefixes[1:]):
        for index, slot in enumerate(slots(ns)):
            print("key", chunk, index, piece_key(prefix, slot).hex())


def main() -> None:
    print(HEAD)
    for case in CASES:
        print_inputs(case)
        if "file_name" in case:
            print("file_name", case["file_name"])
        else:
            print(f"secret {case['secret']}".rstrip())
            print("tokens", ",".join(str(token) for token in case["tokens"]))
            for chunk, extra in enumerate(case["extras"]):
                if extra:
                    print("extra", chunk, extra)
        print_expected(case)


if __name__ == "__main__":
    main()
