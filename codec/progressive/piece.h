// Pieces of the progressive codec (docs/codec.md): from tensors to a container and back.
//
// Pure functions and one object per piece that is decoded; not thread-safe, different pieces are
// independent.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "chunk/container.h"
#include "chunk/namespace.h"
#include "codec/codec.h"
#include "codec/profile.h"
#include "codec/progressive/kernels.h"
#include "codec/tensor_view.h"
#include "common/status.h"

namespace reprise::progressive {

// Whether tensors of this group and dtype can be coded: bf16 or fp16, attention or latent.
bool CanCode(const LayerGroup& group, Dtype dtype);

// Encodes into a container of its own. `header` has everything but codec, parameters and levels;
// `group` is its. Key and value, and the profile unless null, have been checked against it.
absl::StatusOr<std::vector<std::byte>> EncodePiece(PieceHeader header, const LayerGroup& group,
                                                   const TensorView& key, const TensorView& value,
                                                   const Profile* profile);

// `meta` has this codec and must outlive the decoder; the views fit it. UNIMPLEMENTED for
// parameters of a later version, DATA_LOSS for impossible ones. Tests choose the kernels.
absl::StatusOr<std::unique_ptr<PieceDecoder>> CreateDecoder(const PieceMeta& meta,
                                                            const TensorView& key,
                                                            const TensorView& value,
                                                            const Kernels& kernels = BestKernels());

}  // namespace reprise::progressive
