// The step of one row, tile by tile. CMake compiles this file once for each instruction set, with
// REVSTEP_ISA naming its namespace and the function that hands it out.
#include "row.h"

#include "noise.h"

namespace revstep {
namespace REVSTEP_ISA {

// Out and, if COPY, a second array = c_0 p_0 + c_1 p_1 + ..., left to right.
template <int N, bool COPY>
inline void sum_terms(float* out, float* copy, const float* c, const float* const* p, int64_t n) {
  const float c0 = N > 0 ? c[0] : 0, c1 = N > 1 ? c[1] : 0, c2 = N > 2 ? c[2] : 0;
  const float c3 = N > 3 ? c[3] : 0, c4 = N > 4 ? c[4] : 0, c5 = N > 5 ? c[5] : 0;
  const float c6 = N > 6 ? c[6] : 0;
  const float *p0 = p[0], *p1 = p[1], *p2 = p[2], *p3 = p[3], *p4 = p[4], *p5 = p[5], *p6 = p[6];
  REVSTEP_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    float v = 0;
    if (N > 0) v = c0 * p0[i];
    if (N > 1) v = v + c1 * p1[i];
    if (N > 2) v = v + c2 * p2[i];
    if (N > 3) v = v + c3 * p3[i];
    if (N > 4) v = v + c4 * p4[i];
    if (N > 5) v = v + c5 * p5[i];
    if (N > 6) v = v + c6 * p6[i];
    out[i] = v;
    if (COPY) copy[i] = v;
  }
}

// The present terms of a sum, as dense lists.
struct Terms {
  int count = 0;
  float c[kSums];
  const float* p[kSums] = {};

  void add(float coefficient, const float* array, int64_t offset = 0) {
    if (coefficient == 0) return;
    c[count] = coefficient;
    p[count++] = array + offset;
  }

  template <bool COPY>
  void sum(float* out, float* copy, int64_t n) const {
    switch (count) {
      case 0: return sum_terms<0, COPY>(out, copy, c, p, n);
      case 1: return sum_terms<1, COPY>(out, copy, c, p, n);
      case 2: return sum_terms<2, COPY>(out, copy, c, p, n);
      case 3: return sum_terms<3, COPY>(out, copy, c, p, n);
      case 4: return sum_terms<4, COPY>(out, copy, c, p, n);
      case 5: return sum_terms<5, COPY>(out, copy, c, p, n);
      case 6: return sum_terms<6, COPY>(out, copy, c, p, n);
      default: return sum_terms<7, COPY>(out, copy, c, p, n);
    }
  }
};

// The elements first .. first + n - 1 of a network row as float32: in place or in `tile`.
inline const float* network_tile(const void* row, Dtype dtype, int64_t first, int64_t n,
                                 float* tile) {
  if (dtype == Dtype::f32) return static_cast<const float*>(row) + first;
  const uint16_t* in = static_cast<const uint16_t*>(row) + first;
  if (dtype == Dtype::f16) {
    f32_from_f16_tile(tile, in, n);
  } else {
    REVSTEP_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) tile[i] = f32_from_bf16(in[i]);
  }
  return tile;
}

// Writes the network's next input from the new state.
inline void network_write(void* row, Dtype dtype, int64_t first, const float* x, float c_in,
                          int64_t n) {
  if (dtype == Dtype::f32) {
    float* out = static_cast<float*>(row) + first;
    REVSTEP_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) out[i] = c_in * x[i];  // c_in = 1 changes nothing
  } else if (dtype == Dtype::f16) {
    f16_from_f32_tile(static_cast<uint16_t*>(row) + first, x, c_in, n);
  } else {
    uint16_t* out = static_cast<uint16_t*>(row) + first;
    REVSTEP_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) out[i] = bf16_from_f32(c_in * x[i]);
  }
}

// Negative iff some element is not finite: its exponent then carries into the sign.
inline int32_t overflow_bits(float v) {
  return static_cast<int32_t>((static_cast<uint32_t>(bits_of(v)) & 0x7fffffffu) + 0x00800000u);
}

inline bool any_non_finite(const float* p, int64_t n) {
  int32_t any = 0;
  for (int64_t i = 0; i < n; ++i) any |= overflow_bits(p[i]);
  return any < 0;
}

inline void guide(float* m, const float* cond, const float* uncond, float g, int64_t n) {
  REVSTEP_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    float d = cond[i] - uncond[i];
    d = g * d;
    m[i] = uncond[i] + d;
  }
}

// x0 = clip(sum), and whether m (if read) has a non-finite element.
template <bool X, bool M>
inline bool estimate(float* x0, const float* x, const float* m, const RowTask& task, int64_t n) {
  const float p_x = task.p_x, p_m = task.p_m, lo = task.lo, hi = task.hi;
  int32_t any = 0;
  REVSTEP_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    float v = 0;
    if (X) v = p_x * x[i];
    if (M) {
      any |= overflow_bits(m[i]);
      v = X ? v + p_m * m[i] : p_m * m[i];
    }
    v = v < lo ? lo : v;  // a NaN passes both
    x0[i] = v > hi ? hi : v;
  }
  return any < 0;
}

inline bool estimate_tile(float* x0, const float* x, const float* m, const RowTask& task,
                          int64_t n) {
  if (task.p_m != 0) {
    return task.p_x != 0 ? estimate<true, true>(x0, x, m, task, n)
                         : estimate<false, true>(x0, x, m, task, n);
  }
  if (task.p_x != 0) {
    estimate<true, false>(x0, x, m, task, n);
  } else {
    estimate<false, false>(x0, x, m, task, n);
  }
  return m != nullptr && any_non_finite(m, n);
}

inline void scale_noise(float* z, const float* v, const RowTask& task, int64_t n) {
  const float s = task.next[6], span = task.log_beta_span, tilde = task.log_beta_tilde;
  REVSTEP_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) {
    const float fraction = (v[i] + 1.0f) * 0.5f;
    const float log_variance = fraction * span + tilde;
    z[i] = (s * exponential(0.5f * log_variance)) * z[i];
  }
}

inline void set_nan(float* out, const float* m, const float* v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const bool bad = (m && overflow_bits(m[i]) < 0) || (v && overflow_bits(v[i]) < 0);
    if (bad) out[i] = float_of(kCanonicalNaN);
  }
}

// One tile: elements first .. first + n - 1. True where a non-finite m was met.
inline bool run_tile(const RowTask& task, int64_t first, int64_t n) {
  alignas(64) float noise[kNoiseRoom];
  alignas(64) float m_tile[kTile], uncond_tile[kTile], x0_tile[kTile], next_tile[kTile];
  float* to = task.x ? task.x + first : next_tile;
  const float* x = task.from ? task.from + first : to;
  const int64_t item = task.dtype == Dtype::f32 ? 4 : 2;
  bool bad = false;

  float s = task.next[6];
  Prefetch ahead;
  ahead.add(task.net[0], first, item);  // what is only written: no load would fetch it in time
  ahead.add(task.net[1], first, item);
  ahead.add(task.x0_out, first, 4);
  if (s != 0) {
    ahead.add(x, 0, 4);
    ahead.add(task.cond, first, item);
    ahead.add(task.uncond, first, item);
    noise_tile(noise, first, n, task.key, task.noise_index, 0, ahead);
  } else {
    ahead.fetch(0, n);
  }

  const float* m = nullptr;
  if (task.cond) {
    m = network_tile(task.cond, task.dtype, first, n, m_tile);
    if (task.uncond) {
      const float* uncond = network_tile(task.uncond, task.dtype, first, n, uncond_tile);
      guide(m_tile, m, uncond, task.g_eff, n);
      m = m_tile;
    }
  }

  float* x0 = task.x0_out ? task.x0_out + first : x0_tile;
  if (task.need_x0) {
    bad |= estimate_tile(x0, x, m, task, n);
  } else if (m) {
    bad |= any_non_finite(m, n);
  }

  const float* v = nullptr;
  if (task.variance) {
    v = network_tile(task.variance, task.dtype, first, n, uncond_tile);
    bad |= any_non_finite(v, n);
    scale_noise(noise, v, task, n);
    s = 1;
  }

  Terms next;
  next.add(task.next[0], x);
  next.add(task.next[1], m);
  next.add(task.next[2], x0);
  for (int k = 0; k < kMaxHistory; ++k) next.add(task.next[3 + k], task.history[k], first);
  next.add(s, noise);

  // x' waits in a tile while q still needs x; otherwise it goes straight to its place, and, where
  // the network takes it as it is, to the network's row.
  const bool store = task.slot >= 0;
  const bool inpaint = task.known_alpha != 0 || task.known_sigma != 0;
  const bool copy = !store && !inpaint && task.net[0] && task.dtype == Dtype::f32 &&
                    task.c_in == 1;
  const bool waits = store && x == to;
  float* x_next = waits ? next_tile : to;
  if (copy) {
    next.sum<true>(x_next, static_cast<float*>(task.net[0]) + first, n);
  } else {
    next.sum<false>(x_next, nullptr, n);
  }
  if (store) {
    Terms stored;
    stored.add(task.stored[0], x);
    stored.add(task.stored[1], m);
    stored.add(task.stored[2], x0);
    for (int k = 0; k < kMaxHistory; ++k) stored.add(task.stored[3 + k], task.history[k], first);
    stored.sum<false>(task.history[task.slot] + first, nullptr, n);
  }

  if (inpaint) {
    Terms noised;
    noised.add(task.known_alpha, task.known, first);
    if (task.known_sigma != 0) {
      noise_tile(noise, first, n, task.key, task.noise_index, 2, Prefetch());
      noised.add(task.known_sigma, noise);
    }
    noised.sum<false>(noise, nullptr, n);
    const float* mask = task.mask + first;
    REVSTEP_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      x_next[i] = mask[i] * noise[i] + (1.0f - mask[i]) * x_next[i];
    }
  }

  if (bad) {
    set_nan(x_next, m, v, n);
    if (task.x0_out) set_nan(x0, m, v, n);
  }
  if (waits) {
    REVSTEP_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) to[i] = x_next[i];
  }
  for (int half = copy && !bad ? 1 : 0; half < 2; ++half) {
    if (task.net[half]) network_write(task.net[half], task.dtype, first, to, task.c_in, n);
  }
  return bad;
}

static bool row(const RowTask& task) {
  bool bad = false;
  for (int64_t first = 0; first < task.elements; first += kTile) {
    const int64_t left = task.elements - first;
    bad |= run_tile(task, first, left < kTile ? left : kTile);
  }
  return bad;
}

static void normal_fill(float* out, int64_t elements, uint32_t key0, uint32_t key1,
                        uint32_t index, uint32_t stream) {
  alignas(64) float tail[kNoiseBlock];
  const uint32_t key[2] = {key0, key1};
  const int64_t whole = elements / kNoiseBlock * kNoiseBlock;
  Prefetch ahead;
  ahead.add(out, 0, 4);
  noise_tile(out, 0, whole, key, index, stream, ahead);
  if (whole < elements) {
    noise_tile(tail, whole, elements - whole, key, index, stream, Prefetch());
    __builtin_memcpy(out + whole, tail, static_cast<uint64_t>(elements - whole) * 4);
  }
}

static void triad(float* a, const float* b, const float* c, float scale, int64_t n) {
  REVSTEP_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) a[i] = b[i] + scale * c[i];
}

}  // namespace REVSTEP_ISA

#define REVSTEP_JOIN_(a, b) a##b
#define REVSTEP_JOIN(a, b) REVSTEP_JOIN_(a, b)
#define REVSTEP_TEXT_(a) #a
#define REVSTEP_TEXT(a) REVSTEP_TEXT_(a)

const Isa* REVSTEP_JOIN(isa_, REVSTEP_ISA)() {
  static const Isa isa = {REVSTEP_TEXT(REVSTEP_ISA), REVSTEP_ISA::row, REVSTEP_ISA::normal_fill,
                          REVSTEP_ISA::triad};
  return &isa;
}

}  // namespace revstep
