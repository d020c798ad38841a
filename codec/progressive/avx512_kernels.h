// The AVX-512 kernels; nothing here may be called on a machine without AVX-512 F, BW, VL, DQ, VBMI
// and VBMI2.
#pragma once

#include "codec/progressive/kernels.h"

namespace reprise::progressive {

const Kernels& Avx512Kernels();

// Between channels and tokens, in avx512_transpose.cc.
void Avx512Scatter(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
                   std::byte* destination, int64_t token_stride_bytes);
void Avx512Gather(const std::byte* source, int64_t token_stride_bytes, uint32_t channels,
                  uint32_t tokens, uint16_t* rows_of_channels);

// The entropy coder, in avx512_rans.cc.
void Avx512DecodeSymbols(const SlotTable& table, std::span<StreamReader> streams, uint32_t rows,
                         uint8_t* symbols);
void Avx512EncodeSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                         uint32_t rows);

// The lossless plane, in avx512_tail.cc.
uint32_t Avx512SplitTail(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                         const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes);
uint32_t Avx512DecodeTail(const TailFormat& format, const TailCode& code,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess);
void Avx512EncodeTail(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                      uint32_t rows);

}  // namespace reprise::progressive
