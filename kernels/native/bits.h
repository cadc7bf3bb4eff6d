// Bits of floats, and the conversions to and from the network's 16-bit types.
// The integer forms equal IEEE round to nearest even for every input, so they equal F16C and
// numpy; only the bits of a NaN differ, and no NaN but the canonical one is specified.
#pragma once
#include <stdint.h>

#ifdef __F16C__
#include <immintrin.h>
#endif

// Iterations are independent (an output equals an input element by element, or not at all).
#if defined(__clang__)
#define REVSTEP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define REVSTEP_INDEPENDENT _Pragma("GCC ivdep")
#else
#define REVSTEP_INDEPENDENT
#endif

namespace revstep {
namespace REVSTEP_ISA {

constexpr int32_t kCanonicalNaN = 0x7fc00000;

inline int32_t bits_of(float v) {
  int32_t b;
  __builtin_memcpy(&b, &v, 4);
  return b;
}

inline float float_of(int32_t b) {
  float v;
  __builtin_memcpy(&v, &b, 4);
  return v;
}

inline float f32_from_f16(uint16_t h) {
  const uint32_t shifted = static_cast<uint32_t>(h & 0x7fffu) << 13;
  const uint32_t exponent = shifted & 0x0f800000u;
  const uint32_t normal = shifted + 0x38000000u;   // exponent bias 127 - 15
  const uint32_t special = shifted + 0x70000000u;  // infinities and NaNs
  // a denormal is 2^-14 (1 + f) - 2^-14, exact in float32
  const float denormal = float_of(static_cast<int32_t>(normal + 0x00800000u)) - 0x1p-14f;
  uint32_t bits = exponent == 0x0f800000u ? special : normal;
  bits = exponent == 0 ? static_cast<uint32_t>(bits_of(denormal)) : bits;
  return float_of(static_cast<int32_t>(bits | (static_cast<uint32_t>(h & 0x8000u) << 16)));
}

inline uint16_t f16_from_f32(float v) {
  const uint32_t all = static_cast<uint32_t>(bits_of(v));
  const uint32_t u = all & 0x7fffffffu;
  // below 2^-14: adding 0.5 aligns the last kept bit with float32's, and rounds to even
  const uint32_t denormal =
      static_cast<uint32_t>(bits_of(float_of(static_cast<int32_t>(u)) + 0.5f)) - 0x3f000000u;
  const uint32_t normal = (u - 0x38000000u + 0x0fffu + ((u >> 13) & 1u)) >> 13;
  uint32_t h = u < 0x38800000u ? denormal : normal;
  h = u >= 0x477ff000u ? 0x7c00u : h;  // 65520 and above round to infinity
  h = u > 0x7f800000u ? 0x7e00u : h;
  return static_cast<uint16_t>(h | ((all >> 16) & 0x8000u));
}

inline float f32_from_bf16(uint16_t h) {
  return float_of(static_cast<int32_t>(static_cast<uint32_t>(h) << 16));
}

inline uint16_t bf16_from_f32(float v) {
  const uint32_t u = static_cast<uint32_t>(bits_of(v));
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

inline void f32_from_f16_tile(float* out, const uint16_t* in, int64_t n) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(out + i,
                     _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
  }
#endif
  REVSTEP_INDEPENDENT
  for (; i < n; ++i) out[i] = f32_from_f16(in[i]);
}

inline void f16_from_f32_tile(uint16_t* out, const float* in, float scale, int64_t n) {
  int64_t i = 0;
#ifdef __F16C__
  const __m256 s = _mm256_set1_ps(scale);
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(out + i),
        _mm256_cvtps_ph(_mm256_mul_ps(_mm256_loadu_ps(in + i), s), _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  REVSTEP_INDEPENDENT
  for (; i < n; ++i) out[i] = f16_from_f32(in[i] * scale);
}

}  // namespace REVSTEP_ISA
}  // namespace revstep
