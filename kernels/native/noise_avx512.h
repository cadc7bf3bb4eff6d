// Noise of one tile with AVX-512 intrinsics; included by noise.h inside the ISA's namespace.
//
// A 32-bit word sits in the low half of a 64-bit lane (what is above it is never used), so a
// Philox round is two multiplies, two shifts and two three-way xors for eight calls: gcc's own
// vectorisation shuffles between even and odd lanes instead. Lane order: call 0 4 1 5 2 6 3 7,
// so that one unpack puts the four normals of a call side by side.
#pragma once
#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc's own header: GCC bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

constexpr int kGroups = 4;                 // of eight calls, side by side
constexpr int kNoiseBlock = 32 * kGroups;  // elements that one block writes

inline __m512i xor3(__m512i a, __m512i b, __m512i c) {
  return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

inline __m512 horner_step(__m512 p, __m512 t, float coefficient) {
  return _mm512_add_ps(_mm512_mul_ps(p, t), _mm512_set1_ps(coefficient));
}

// What is the same for every call of one (key, index, stream).
struct PhiloxKeys {
  // In the first two rounds half of the state is the same for all calls.
  __m512i first_key, second_c0, second_c2, second_c3;
  uint32_t k0[10], k1[10];

  PhiloxKeys(const uint32_t* key, uint32_t index, uint32_t stream) {
    for (uint32_t round = 0; round < 10; ++round) {
      k0[round] = key[0] + round * kW0;
      k1[round] = key[1] + round * kW1;
    }
    const uint64_t p1 = static_cast<uint64_t>(kM1) * stream;
    const uint32_t c0 = static_cast<uint32_t>(p1 >> 32) ^ index ^ k0[0];
    const uint64_t p0 = static_cast<uint64_t>(kM0) * c0;
    first_key = _mm512_set1_epi64(k1[0]);
    second_c0 = _mm512_set1_epi64(static_cast<uint32_t>(p1) ^ k0[1]);
    second_c2 = _mm512_set1_epi64(static_cast<uint32_t>(p0 >> 32) ^ k1[1]);
    second_c3 = _mm512_set1_epi64(static_cast<uint32_t>(p0));
  }
};

struct Words {
  __m512i a[kGroups], b[kGroups];
};

// One turn of a software pipeline: the words of the block at `call`, and, from the words of the
// block before it, that block's normals. Either chain alone waits on latencies; the two are
// independent and interleaved round by round, so that the multipliers stay busy.
template <bool WORDS, bool NORMALS>
inline void pipeline_turn(Words* words, uint32_t call, const PhiloxKeys& keys, float* out) {
  const __m512i m0 = _mm512_set1_epi64(static_cast<int64_t>(kM0));
  const __m512i m1 = _mm512_set1_epi64(static_cast<int64_t>(kM1));
  __m512i c0[kGroups], c1[kGroups], c2[kGroups], c3[kGroups];
  __m512 t[kGroups], y[kGroups], q[kGroups], log[kGroups], sin[kGroups], cos[kGroups];
  __m512i kb[kGroups];

  for (int g = 0; g < kGroups; ++g) {
    if (WORDS) {
      const __m512i lanes = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
      const __m512i n = _mm512_add_epi32(lanes, _mm512_set1_epi64(call + 8u * g));
      const __m512i a = _mm512_mul_epu32(n, m0);
      const __m512i b =
          _mm512_mul_epu32(_mm512_xor_si512(_mm512_srli_epi64(a, 32), keys.first_key), m1);
      c0[g] = _mm512_xor_si512(_mm512_srli_epi64(b, 32), keys.second_c0);
      c1[g] = b;
      c2[g] = _mm512_xor_si512(a, keys.second_c2);
      c3[g] = keys.second_c3;
    }
    if (NORMALS) {
      // A product by a power of two is exact: this fused multiply-add rounds once, as specified.
      const __m512 u = _mm512_fmadd_ps(_mm512_cvtepu32_ps(words->a[g]),
                                       _mm512_set1_ps(0x1p-32f), _mm512_set1_ps(0x1p-33f));
      const __m512i bits = _mm512_castps_si512(u);
      kb[g] = _mm512_and_si512(_mm512_sub_epi32(bits, _mm512_set1_epi32(kSqrtHalf)),
                               _mm512_set1_epi32(static_cast<int>(0xff800000u)));
      t[g] = _mm512_sub_ps(_mm512_castsi512_ps(_mm512_sub_epi32(bits, kb[g])),
                           _mm512_set1_ps(1.0f));
      y[g] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_slli_epi32(words->b[g], 1)),
                           _mm512_set1_ps(0x1p-31f));
      q[g] = _mm512_mul_ps(y[g], y[g]);
      log[g] = _mm512_set1_ps(kLog[0]);
      sin[g] = _mm512_set1_ps(kSin[0]);
      cos[g] = _mm512_set1_ps(kCos[0]);
    }
  }
#pragma GCC unroll 8
  for (int j = 1; j <= 8; ++j) {
    for (int g = 0; g < kGroups; ++g) {
      if (WORDS) {
        const __m512i a = _mm512_mul_epu32(c0[g], m0);
        const __m512i b = _mm512_mul_epu32(c2[g], m1);
        c0[g] = xor3(_mm512_srli_epi64(b, 32), c1[g],
                     _mm512_set1_epi32(static_cast<int>(keys.k0[j + 1])));
        c2[g] = xor3(_mm512_srli_epi64(a, 32), c3[g],
                     _mm512_set1_epi32(static_cast<int>(keys.k1[j + 1])));
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
      const __m512 r = _mm512_sqrt_ps(
          _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(kb[g]), _mm512_set1_ps(kMinus2Ln2)),
                        _mm512_mul_ps(log[g], t[g])));
      const __m512 s = _mm512_mul_ps(sin[g], y[g]);
      // cos with the sign of b's top bit: bits(cos) ^ (b & 0x80000000)
      const __m512 c = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(
          _mm512_castps_si512(cos[g]), words->b[g],
          _mm512_set1_epi32(static_cast<int>(0x80000000u)), 0x78));
      const __m512 z0 = _mm512_mul_ps(r, c), z1 = _mm512_mul_ps(r, s);
      _mm512_storeu_ps(out + 32 * g, _mm512_unpacklo_ps(z0, z1));
      _mm512_storeu_ps(out + 32 * g + 16, _mm512_unpackhi_ps(z0, z1));
    }
    if (WORDS) {  // words 0 and 2 (1 and 3) of a call side by side
      words->a[g] = _mm512_mask_shuffle_epi32(c0[g], 0xaaaa, c2[g], _MM_PERM_CCAA);
      words->b[g] = _mm512_mask_shuffle_epi32(c1[g], 0xaaaa, c3[g], _MM_PERM_CCAA);
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
