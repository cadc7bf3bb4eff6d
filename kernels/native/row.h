// One slot's step, decoded from its table row: what the per-ISA kernels run.
// Plain data and no std types: this header is compiled under several instruction sets, and a
// std template instantiated in one of them could be picked by the linker for all.
#pragma once
#include <stdint.h>

namespace revstep {

enum class Dtype : int32_t { f32, f16, bf16 };

constexpr int kMaxHistory = 3;
constexpr int kSums = 7;  // x, m, x0, q_1, q_2, q_3, z

struct RowTask {
  int64_t elements;  // D
  float* x;               // state, and next state; null: that goes to the network's rows alone
  const float* from;      // the state, where it is not x; null: it is
  Dtype dtype;            // of cond, uncond, variance, net
  const void* cond;       // null: m is not read
  const void* uncond;     // null: m = cond
  const void* variance;   // null: no learned variance
  float g_eff;
  bool need_x0;
  float p_x, p_m, lo, hi;
  float* x0_out;          // null: x0 is not written out
  float next[kSums];      // coefficients of x', in the order of the sum
  float stored[kSums];    // coefficients of q (the last one, of z, is 0)
  float* history[kMaxHistory];
  int32_t slot;           // -1: nothing is stored
  uint32_t key[2];
  uint32_t noise_index;
  float log_beta_span, log_beta_tilde;
  const float* mask;      // null: no inpainting
  const float* known;
  float known_alpha, known_sigma;
  void* net[2];           // network input rows, or null
  float c_in;
};

// The kernels of one instruction set. All give the same bits.
struct Isa {
  const char* name;
  bool (*row)(const RowTask&);  // runs the step; true: a non-finite m was met
  void (*normal_fill)(float* out, int64_t elements, uint32_t key0, uint32_t key1, uint32_t index,
                      uint32_t stream);
  void (*triad)(float* a, const float* b, const float* c, float scale, int64_t n);  // for bench/
};

// Null where the compiler or the processor family doesn't have it.
const Isa* isa_scalar();
const Isa* isa_baseline();
const Isa* isa_avx2();
const Isa* isa_avx512();

}  // namespace revstep
