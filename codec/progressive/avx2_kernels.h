// The AVX2 kernels; nothing here may be called on a machine without AVX2, F16C, BMI2 and POPCNT.
#pragma once

#include "codec/progressive/kernels.h"

namespace reprise::progressive {

const Kernels& Avx2Kernels();

// The entropy coder, in avx2_rans.cc.
void Avx2DecodeSymbols(const SlotTable& table, std::span<StreamReader> streams, uint32_t rows,
                       uint8_t* symbols);
void Avx2EncodeSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                       uint32_t rows);

// The lossless plane, in avx2_tail.cc and avx2_tail_encode.cc.
uint32_t Avx2SplitTail(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                       const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes);
uint32_t Avx2DecodeTail(const TailFormat& format, const TailCode& code,
                        std::span<StreamReader> streams, const uint8_t* escapes,
                        uint32_t escape_count, uint32_t rows, uint16_t* guess);
void Avx2EncodeTail(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                    uint32_t rows);

// Between channels and tokens, in avx2_transpose.cc.
void Avx2Scatter(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
                 std::byte* destination, int64_t token_stride_bytes);
void Avx2Gather(const std::byte* source, int64_t token_stride_bytes, uint32_t channels,
                uint32_t tokens, uint16_t* rows_of_channels);

}  // namespace reprise::progressive
