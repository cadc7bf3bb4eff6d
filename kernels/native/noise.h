// Noise of one tile: Philox4x32-10 and BMX, as kernels/noise.py defines them. Here in portable C++,
// with 64 interleaved chains, which hide the multiplier's latency and vectorise without
// intrinsics; noise_simd.h has it for AVX2 and AVX-512.
#pragma once
#include <stdint.h>

#include "bits.h"

namespace revstep {
namespace REVSTEP_ISA {

constexpr int kTile = 1024;   // elements; a tile of noise, m and x0 stays in the L1 cache
constexpr int kChains = 64;   // Philox calls side by side

constexpr uint32_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u;
constexpr uint32_t kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;

// Coefficients, highest power first; hexadecimal floats are exact.
constexpr float kLog[9] = {-0x1.654490p-3f, 0x1.263ba4p-2f, -0x1.3238f0p-2f, 0x1.5332a4p-2f,
                           -0x1.98b748p-2f, 0x1.000570p-1f, -0x1.555792p-1f, 0x1.fffff8p-1f,
                           -2.0f};
constexpr float kSin[5] = {0x1.3daff6p-13f, -0x1.324ccap-8f, 0x1.4668b0p-4f, -0x1.4abbc2p-1f,
                           0x1.921fb6p+0f};
constexpr float kCos[5] = {0x1.c1f066p-11f, -0x1.54f61ap-6f, 0x1.03bd06p-2f, -0x1.3bd3a6p+0f,
                           0x1.fffffep-1f};
constexpr float kMinus2Ln2 = -0x1.62e430p-23f;
constexpr int32_t kSqrtHalf = 0x3f3504f3;

// -2 ln u of word a
inline float minus_2_log(uint32_t a) {
  float u = static_cast<float>(a) * 0x1p-32f;
  u = u + 0x1p-33f;
  const int32_t bits = bits_of(u);
  const int32_t kb = static_cast<int32_t>(static_cast<uint32_t>(bits - kSqrtHalf) & 0xff800000u);
  const float t = float_of(bits - kb) - 1.0f;
  float p = kLog[0];
  for (int j = 1; j < 9; ++j) p = p * t + kLog[j];
  return static_cast<float>(kb) * kMinus2Ln2 + p * t;
}

inline void box_muller(uint32_t a, uint32_t b, float* z0, float* z1) {
  const float r = __builtin_sqrtf(minus_2_log(a));
  const float y = static_cast<float>(static_cast<int32_t>(b << 1)) * 0x1p-31f;
  const float q = y * y;
  float s = kSin[0], c = kCos[0];
  for (int j = 1; j < 5; ++j) {
    s = s * q + kSin[j];
    c = c * q + kCos[j];
  }
  s = s * y;
  c = float_of(static_cast<int32_t>(static_cast<uint32_t>(bits_of(c)) ^ (b & 0x80000000u)));
  *z0 = r * c;
  *z1 = r * s;
}

// What the step reads and writes after the noise of the same elements: fetched meanwhile, because
// the noise keeps the arithmetic busy and the memory idle.
struct Prefetch {
  static constexpr int kMax = 8;
  int count = 0;
  const char* start[kMax];
  int64_t bytes[kMax];  // of an element

  void add(const void* array, int64_t first, int64_t element_bytes) {
    if (!array || count == kMax) return;
    start[count] = static_cast<const char*>(array) + first * element_bytes;
    bytes[count++] = element_bytes;
  }

  // The lines of elements first .. first + n - 1; a prefetch behind the end does no harm.
  void fetch(int64_t first, int64_t n) const {
    for (int k = 0; k < count; ++k) {
      const char* p = start[k] + first * bytes[k];
      for (int64_t at = 0; at < n * bytes[k]; at += 64) __builtin_prefetch(p + at);
    }
  }
};

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include "noise_simd.h"
#else

constexpr int kNoiseBlock = 4 * kChains;  // elements that one block writes

// Elements 4 call .. 4 call + kNoiseBlock - 1.
inline void noise_block(float* out, uint32_t call, const uint32_t* key, uint32_t index,
                        uint32_t stream) {
  uint32_t c0[kChains], c1[kChains], c2[kChains], c3[kChains];
  for (int l = 0; l < kChains; ++l) {
    c0[l] = call + static_cast<uint32_t>(l);
    c1[l] = index;
    c2[l] = stream;
    c3[l] = 0;
  }
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    for (int l = 0; l < kChains; ++l) {
      const uint64_t p0 = static_cast<uint64_t>(kM0) * c0[l];
      const uint64_t p1 = static_cast<uint64_t>(kM1) * c2[l];
      c0[l] = static_cast<uint32_t>(p1 >> 32) ^ c1[l] ^ k0;
      c2[l] = static_cast<uint32_t>(p0 >> 32) ^ c3[l] ^ k1;
      c1[l] = static_cast<uint32_t>(p1);
      c3[l] = static_cast<uint32_t>(p0);
    }
    k0 += kW0;
    k1 += kW1;
  }
  for (int l = 0; l < kChains; ++l) {
    float a, b, c, d;
    box_muller(c0[l], c1[l], &a, &b);
    box_muller(c2[l], c3[l], &c, &d);
    out[4 * l] = a;
    out[4 * l + 1] = b;
    out[4 * l + 2] = c;
    out[4 * l + 3] = d;
  }
}
// Elements first .. first + n - 1 (first is a multiple of 4); `out` has room for whole blocks.
inline void noise_tile(float* out, int64_t first, int64_t n, const uint32_t* key, uint32_t index,
                       uint32_t stream, const Prefetch& prefetch) {
  for (int64_t i = 0; i < n; i += kNoiseBlock) {
    prefetch.fetch(i, kNoiseBlock);
    noise_block(out + i, static_cast<uint32_t>((first + i) / 4), key, index, stream);
  }
}
#endif

constexpr int64_t kNoiseRoom = kTile + kNoiseBlock;

// e^h, h clamped to [-87, 88]: Cody and Waite's reduction.
inline float exponential(float h) {
  constexpr float coefficients[7] = {0x1.6a2416p-10f, 0x1.1239f6p-7f, 0x1.5558f2p-5f,
                                     0x1.555492p-3f,  0x1.fffffcp-2f, 1.0f, 1.0f};
  h = h < -87.0f ? -87.0f : h;
  h = h > 88.0f ? 88.0f : h;
  const float shifted = h * 0x1.715476p+0f + 12582912.0f;  // rounds to an integer
  const float n = shifted - 12582912.0f;
  const float r = (h - n * 0x1.62e400p-1f) - n * 0x1.7f7d1cp-20f;
  const uint32_t power = (static_cast<uint32_t>(bits_of(shifted)) << 23) + 0x3f800000u;
  float p = coefficients[0];
  for (int j = 1; j < 7; ++j) p = p * r + coefficients[j];
  return p * float_of(static_cast<int32_t>(power));
}

}  // namespace REVSTEP_ISA
}  // namespace revstep
