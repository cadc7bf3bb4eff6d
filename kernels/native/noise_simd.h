// Noise of one tile with AVX-512 or AVX2 intrinsics; included by noise.h in the ISA's namespace.
//
// A 32-bit word sits in the low half of a 64-bit lane (what is above it is never used), so a
// Philox round is two multiplies, two shifts and two three-way xors for all lanes: gcc's own
// vectorisation shuffles between even and odd lanes instead. The order of the calls in the lanes
// is such that one unpack puts the four normals of a call side by side.
#pragma once
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc's own header: GCC bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#ifdef __AVX512F__

typedef __m512i Ints;
typedef __m512 Floats;
constexpr int kCalls = 8;   // Philox calls of one vector
constexpr int kGroups = 4;  // vectors side by side

inline Ints every32(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
inline Ints every64(uint64_t v) { return _mm512_set1_epi64(static_cast<long long>(v)); }
inline Floats every(float v) { return _mm512_set1_ps(v); }
inline Ints call_order() { return _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7); }
inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
inline Ints bit_xor(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
inline Ints xor3(Ints a, Ints b, Ints c) { return _mm512_ternarylogic_epi32(a, b, c, 0x96); }
inline Ints xor_of_and(Ints a, Ints b, Ints c) { return _mm512_ternarylogic_epi32(a, b, c, 0x78); }
inline Ints multiply(Ints a, Ints b) { return _mm512_mul_epu32(a, b); }
inline Ints high_words(Ints a) { return _mm512_srli_epi64(a, 32); }
inline Ints doubled(Ints a) { return _mm512_slli_epi32(a, 1); }
// The low words of a and of b side by side.
inline Ints pair(Ints a, Ints b) { return _mm512_mask_shuffle_epi32(a, 0xaaaa, b, _MM_PERM_CCAA); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats root(Floats a) { return _mm512_sqrt_ps(a); }
inline Floats as_floats(Ints a) { return _mm512_castsi512_ps(a); }
inline Ints as_ints(Floats a) { return _mm512_castps_si512(a); }
inline Floats from_signed(Ints a) { return _mm512_cvtepi32_ps(a); }
inline Floats from_unsigned(Ints a) { return _mm512_cvtepu32_ps(a); }
inline Floats low_pairs(Floats a, Floats b) { return _mm512_unpacklo_ps(a, b); }
inline Floats high_pairs(Floats a, Floats b) { return _mm512_unpackhi_ps(a, b); }
inline void store(float* p, Floats a) { _mm512_storeu_ps(p, a); }

#else

typedef __m256i Ints;
typedef __m256 Floats;
constexpr int kCalls = 4;
constexpr int kGroups = 3;

inline Ints every32(uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
inline Ints every64(uint64_t v) { return _mm256_set1_epi64x(static_cast<long long>(v)); }
inline Floats every(float v) { return _mm256_set1_ps(v); }
inline Ints call_order() { return _mm256_setr_epi64x(0, 2, 1, 3); }
inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints sub(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
inline Ints bit_and(Ints a, Ints b) { return _mm256_and_si256(a, b); }
inline Ints bit_xor(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
inline Ints xor3(Ints a, Ints b, Ints c) { return bit_xor(a, bit_xor(b, c)); }
inline Ints xor_of_and(Ints a, Ints b, Ints c) { return bit_xor(a, bit_and(b, c)); }
inline Ints multiply(Ints a, Ints b) { return _mm256_mul_epu32(a, b); }
inline Ints high_words(Ints a) { return _mm256_srli_epi64(a, 32); }
inline Ints doubled(Ints a) { return _mm256_slli_epi32(a, 1); }
inline Ints pair(Ints a, Ints b) { return _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xaa); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats root(Floats a) { return _mm256_sqrt_ps(a); }
inline Floats as_floats(Ints a) { return _mm256_castsi256_ps(a); }
inline Ints as_ints(Floats a) { return _mm256_castps_si256(a); }
inline Floats from_signed(Ints a) { return _mm256_cvtepi32_ps(a); }
inline Floats from_unsigned(Ints a) {  // both halves and the product are exact: one rounding
  return fma(from_signed(_mm256_srli_epi32(a, 16)), every(65536.0f),
             from_signed(bit_and(a, every32(0xffffu))));
}
inline Floats low_pairs(Floats a, Floats b) { return _mm256_unpacklo_ps(a, b); }
inline Floats high_pairs(Floats a, Floats b) { return _mm256_unpackhi_ps(a, b); }
inline void store(float* p, Floats a) { _mm256_storeu_ps(p, a); }

#endif

constexpr int kVector = 2 * kCalls;               // floats of a vector
constexpr int kNoiseBlock = 2 * kVector * kGroups;  // elements that one turn writes

inline Floats horner_step(Floats p, Floats t, float coefficient) {
  return add(mul(p, t), every(coefficient));
}

// What is the same for every call of one (key, index, stream).
struct PhiloxKeys {
  // In the first two rounds half of the state is the same for all calls.
  Ints first_key, second_c0, second_c2, second_c3;
  uint32_t k0[10], k1[10];

  PhiloxKeys(const uint32_t* key, uint32_t index, uint32_t stream) {
    for (uint32_t round = 0; round < 10; ++round) {
      k0[round] = key[0] + round * kW0;
      k1[round] = key[1] + round * kW1;
    }
    const uint64_t p1 = static_cast<uint64_t>(kM1) * stream;
    const uint32_t c0 = static_cast<uint32_t>(p1 >> 32) ^ index ^ k0[0];
    const uint64_t p0 = static_cast<uint64_t>(kM0) * c0;
    first_key = every64(k1[0]);
    second_c0 = every64(static_cast<uint32_t>(p1) ^ k0[1]);
    second_c2 = every64(static_cast<uint32_t>(p0 >> 32) ^ k1[1]);
    second_c3 = every64(static_cast<uint32_t>(p0));
  }
};

struct Words {
  Ints a[kGroups], b[kGroups];
};

// One turn of a software pipeline: the words of the block at `call`, and, from the words of the
// block before it, that block's normals. Either chain alone waits on latencies; the two are
// independent and interleaved round by round, so that the multipliers stay busy.
template <bool WORDS, bool NORMALS>
inline void pipeline_turn(Words* words, uint32_t call, const PhiloxKeys& keys, float* out) {
  const Ints m0 = every64(kM0);
  const Ints m1 = every64(kM1);
  Ints c0[kGroups], c1[kGroups], c2[kGroups], c3[kGroups];
  Floats t[kGroups], y[kGroups], q[kGroups], log[kGroups], sin[kGroups], cos[kGroups];
  Ints kb[kGroups];

  for (int g = 0; g < kGroups; ++g) {
    if (WORDS) {
      const Ints n = add(call_order(), every64(call + static_cast<uint32_t>(kCalls * g)));
      const Ints a = multiply(n, m0);
      const Ints b = multiply(bit_xor(high_words(a), keys.first_key), m1);
      c0[g] = bit_xor(high_words(b), keys.second_c0);
      c1[g] = b;
      c2[g] = bit_xor(a, keys.second_c2);
      c3[g] = keys.second_c3;
    }
    if (NORMALS) {
      // A product by a power of two is exact: this fused multiply-add rounds once, as specified.
      const Floats u = fma(from_unsigned(words->a[g]), every(0x1p-32f), every(0x1p-33f));
      const Ints bits = as_ints(u);
      kb[g] = bit_and(sub(bits, every32(kSqrtHalf)), every32(0xff800000u));
      t[g] = sub(as_floats(sub(bits, kb[g])), every(1.0f));
      y[g] = mul(from_signed(doubled(words->b[g])), every(0x1p-31f));
      q[g] = mul(y[g], y[g]);
      log[g] = every(kLog[0]);
      sin[g] = every(kSin[0]);
      cos[g] = every(kCos[0]);
    }
  }
#pragma GCC unroll 8
  for (int j = 1; j <= 8; ++j) {
    for (int g = 0; g < kGroups; ++g) {
      if (WORDS) {
        const Ints a = multiply(c0[g], m0);
        const Ints b = multiply(c2[g], m1);
        c0[g] = xor3(high_words(b), c1[g], every32(keys.k0[j + 1]));
        c2[g] = xor3(high_words(a), c3[g], every32(keys.k1[j + 1]));
        c1[g] = b;
        c3[g] = a;
      }
      if (NORMALS) {
        log[g] = horner_step(log[g], t[g], kLog[j]);
        if (j % 2) {
          sin[g] = horner_step(sin[g], q[g], kSin[(j + 1) / 2]);
        } else {
          cos[g] = horner_step(cos[g], q[g], kCos[j / 2]);
        }
      }
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    if (NORMALS) {
      const Floats r =
          root(add(mul(from_signed(kb[g]), every(kMinus2Ln2)), mul(log[g], t[g])));
      const Floats s = mul(sin[g], y[g]);
      // cos with the sign of b's top bit: bits(cos) ^ (b & 0x80000000)
      const Floats c =
          as_floats(xor_of_and(as_ints(cos[g]), words->b[g], every32(0x80000000u)));
      const Floats z0 = mul(r, c), z1 = mul(r, s);
      store(out + 2 * kVector * g, low_pairs(z0, z1));
      store(out + 2 * kVector * g + kVector, high_pairs(z0, z1));
    }
    if (WORDS) {  // words 0 and 2 (1 and 3) of a call side by side
      words->a[g] = pair(c0[g], c2[g]);
      words->b[g] = pair(c1[g], c3[g]);
    }
  }
}

// Elements first .. first + n - 1 (first is a multiple of 4); `out` has room for whole blocks.
inline void noise_tile(float* out, int64_t first, int64_t n, const uint32_t* key, uint32_t index,
                       uint32_t stream, const Prefetch& prefetch) {
  if (n <= 0) return;
  const PhiloxKeys keys(key, index, stream);
  Words words;
  uint32_t call = static_cast<uint32_t>(first / 4);
  pipeline_turn<true, false>(&words, call, keys, nullptr);
  int64_t i = 0;
  for (; i + kNoiseBlock < n; i += kNoiseBlock) {
    call += kNoiseBlock / 4;
    prefetch.fetch(i, kNoiseBlock);
    pipeline_turn<true, true>(&words, call, keys, out + i);
  }
  prefetch.fetch(i, kNoiseBlock);
  pipeline_turn<false, true>(&words, call, keys, out + i);
}
