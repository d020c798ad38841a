#include "codec/tensor_view.h"

namespace reprise {

TensorView TensorView::Sub(uint32_t layer_begin, uint32_t layer_end, uint32_t token_begin,
                           uint32_t token_end, uint32_t head_begin, uint32_t head_end) const {
  TensorView sub = *this;
  sub.shape = {layer_end - layer_begin, token_end - token_begin, head_end - head_begin, shape[3]};
  if (present()) {
    sub.data += layer_begin * stride_bytes[0] + token_begin * stride_bytes[1] +
                head_begin * stride_bytes[2];
  }
  return sub;
}

}  // namespace reprise
