"""Token ids by llama.cpp itself, through the connector's C interface: nothing to diverge from.

Not thread-safe; owns a loaded vocabulary until the process ends.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.kv.catalog import ROOT

_BARE = "bench_kv_llamacpp"


def connector_module(name: str) -> types.ModuleType:
    """A module of client/connectors/llamacpp, without the rest of that package.

    The package's __init__ imports the native client, which neither tokens nor the reference
    logits need, so that dumps can be made before anything is built.
    """
    if _BARE not in sys.modules:
        package = types.ModuleType(_BARE)
        package.__path__ = [str(ROOT / "client/connectors/llamacpp/reprise_llamacpp")]
        sys.modules[_BARE] = package
    return importlib.import_module(f"{_BARE}.{name}")


class Tokenizer:
    """The vocabulary of one GGUF file."""

    def __init__(self, path: Path) -> None:
        """Raises RuntimeError if llama.cpp is missing (it says what to install) or refuses."""
        self._abi = connector_module("abi")
        self._lib = self._abi.library()
        params = self._lib.llama_model_default_params()
        params.vocab_only = True
        params.n_gpu_layers = 0
        self._model = self._lib.llama_model_load_from_file(os.fsencode(path), params)
        if self._model is None:
            raise RuntimeError(f"llama.cpp cannot read the vocabulary of {path}")
        self._vocab = self._lib.llama_model_get_vocab(self._model)

    def tokens(self, text: str) -> NDArray[np.int32]:
        """Ids of plain text; text that looks like a special token stays text."""
        data = text.encode()
        # A token covers at least one byte, except one that begins and one that ends a sequence.
        ids = np.empty(len(data) + 2, np.int32)
        pointer = ids.ctypes.data_as(self._abi.POINTER(self._abi.Token))
        count = self._lib.llama_tokenize(
            self._vocab, data, len(data), pointer, len(ids), True, False
        )
        if count < 0:
            raise RuntimeError(f"{len(data)} bytes are {-count} tokens, over {len(ids)}")
        return ids[:count].copy()
