// Vectors of floats, by the compiler's own vector types: loads, masks, and sums over the lanes of one or many vectors.
//
// OPERANDS, set by the compiler's command line, chooses the format of operands: FLOAT32, BFLOAT16 or FLOAT16.
//
// A library is one translation unit, and all of the kernel is in unnamed namespaces: the compiler sees every caller,
// and libraries for several formats can be loaded into one process without sharing a symbol.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#pragma GCC diagnostic push
// GCC 12 warns of _mm512_undefined_ps, which is undefined on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

// Templates take vector types as arguments. The attributes that this drops (may_alias, alignment) are not needed there.
#pragma GCC diagnostic ignored "-Wignored-attributes"

#define INLINE __attribute__((always_inline)) inline
#define INLINE_LAMBDA __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

#define FLOAT32 0
#define BFLOAT16 1
#define FLOAT16 2
#ifndef OPERANDS
#define OPERANDS FLOAT32
#endif

namespace {

#if defined(__AVX512F__)
constexpr int W = 16;  // floats in a vector
#elif defined(__AVX__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int TILE_ROWS = 8;  // rows of a product held in registers, up to 3 vectors wide: 24 of 32 registers
#else
constexpr int TILE_ROWS = 4;  // 12 of 16 registers
#endif

typedef float Vector __attribute__((vector_size(W * 4), may_alias));
typedef int32_t Integers __attribute__((vector_size(W * 4), may_alias));
typedef uint32_t Word __attribute__((may_alias));
typedef Word Words __attribute__((vector_size(W * 4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }
typedef uint16_t Half __attribute__((may_alias));
// Words may start at half a vector, in a 16-bit format.
typedef Word LooseWords __attribute__((vector_size(W * 4), aligned(4), may_alias));
inline Words load(const Word* p) { return *reinterpret_cast<const LooseWords*>(p); }
inline void store(Word* p, Words v) { *reinterpret_cast<Words*>(p) = v; }
inline Vector splat(float x) { return x - Vector{}; }

template <int... I>
inline Integers lane_numbers(std::integer_sequence<int, I...>) {
    return Integers{I...};
}
inline Integers lanes() { return lane_numbers(std::make_integer_sequence<int, W>{}); }

inline Vector choose(Integers mask, Vector yes, Vector no) {
    return (Vector)((mask & (Integers)yes) | (~mask & (Integers)no));
}

// The lanes of v below `count`; `otherwise` elsewhere.
inline Vector below(Vector v, long count, float otherwise) {
    return choose(lanes() < (int32_t)count, v, splat(otherwise));
}

// Where one is not a number, b.
inline Vector maximum(Vector a, Vector b) {
#if defined(__AVX512F__)
    return (Vector)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return choose(a > b, a, b);
#endif
}
inline Vector minimum(Vector a, Vector b) {
#if defined(__AVX512F__)
    return (Vector)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return choose(a < b, a, b);
#endif
}

// Lanes in blocks of S: the even blocks of a with those of b between them (HIGH: the odd ones).
template <int S, bool HIGH, int... I>
inline Vector exchange_lanes(Vector a, Vector b, std::integer_sequence<int, I...>) {
    if constexpr (HIGH)
        return __builtin_shufflevector(a, b, ((I & S) ? W + I : I + S)...);
    else
        return __builtin_shufflevector(a, b, ((I & S) ? W + I - S : I)...);
}

template <int S>
inline void exchange_blocks(Vector* v) {
#pragma GCC unroll 16
    for (int i = 0; i < W; i++)
        if (!(i & S)) {
            const Vector a = v[i], b = v[i + S];
            v[i] = exchange_lanes<S, false>(a, b, std::make_integer_sequence<int, W>{});
            v[i + S] = exchange_lanes<S, true>(a, b, std::make_integer_sequence<int, W>{});
        }
}

template <int S, int... I>
inline Vector swap_lanes(Vector v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I ^ S)...);
}
template <int S>
inline Vector swapped(Vector v) {
    return swap_lanes<S>(v, std::make_integer_sequence<int, W>{});
}

struct Plus {
    Vector operator()(Vector a, Vector b) const { return a + b; }
};
struct Larger {
    Vector operator()(Vector a, Vector b) const { return maximum(a, b); }
};
// All lanes of v taken together, in every lane.
template <class Operation>
inline Vector reduce(Vector v, Operation both) {
    if constexpr (W > 8) v = both(v, swapped<W / 2 & 8>(v));
    if constexpr (W > 4) v = both(v, swapped<4>(v));
    v = both(v, swapped<2>(v));
    return both(v, swapped<1>(v));
}
template <int S, class Operation>
inline void halve(Vector* v, Operation both) {
#pragma GCC unroll 8
    for (int i = 0; i < S; i++)
        v[i] = both(exchange_lanes<S, false>(v[i], v[i + S], std::make_integer_sequence<int, W>{}),
                    exchange_lanes<S, true>(v[i], v[i + S], std::make_integer_sequence<int, W>{}));
}
// Lane i: all lanes of v[i] taken together. W vectors at a time cost a third of one at a time.
template <class Operation>
inline Vector reduce_each(Vector* v, Operation both) {
    if constexpr (W > 8) halve<W / 2 & 8>(v, both);
    if constexpr (W > 4) halve<4>(v, both);
    halve<2>(v, both);
    halve<1>(v, both);
    return v[0];
}

// What is written once for vectors of float32 and of float16: Number is a lane, filled() has it in all lanes, part() is
// a half of a vector's lanes as floats, and joined() makes a vector of such parts.
template <class Sum>
struct Lanes {
    using Number = float;
};
template <class Sum>
Sum filled(typename Lanes<Sum>::Number x);
template <>
inline Vector filled<Vector>(float x) {
    return splat(x);
}
inline Vector part(Vector v, int) { return v; }
template <class Sum>
Sum joined(const Vector* parts);
template <>
inline Vector joined<Vector>(const Vector* parts) {
    return *parts;
}

#if OPERANDS == FLOAT16
// The same for 32 lanes of float16, to the rounding of the format: for what is kept in it anyway.
typedef __m512h Halves;

template <>
struct Lanes<Halves> {
    using Number = _Float16;
};
template <>
inline Halves filled<Halves>(_Float16 x) {
    return _mm512_set1_ph(x);
}
// Its lower and upper lanes as floats.
INLINE Vector part(Halves v, int upper) {
    if (!upper) return (Vector)_mm512_cvtxph_ps(_mm512_castph512_ph256(v));
    return (Vector)_mm512_cvtxph_ps((__m256h)_mm512_extracti64x4_epi64((__m512i)v, 1));
}
template <>
inline Halves joined<Halves>(const Vector* parts) {
    const __m512i lower = _mm512_castsi256_si512((__m256i)_mm512_cvtxps_ph((__m512)parts[0]));
    return (Halves)_mm512_inserti64x4(lower, (__m256i)_mm512_cvtxps_ph((__m512)parts[1]), 1);
}
inline Halves maximum(Halves a, Halves b) { return _mm512_max_ph(a, b); }
inline Halves below(Halves v, long count, float otherwise) {
    const __mmask32 mask = _bzhi_u32(~0u, (unsigned)std::max(0L, std::min(32L, count)));
    return (Halves)_mm512_mask_blend_epi16(mask, (__m512i)filled<Halves>(otherwise), (__m512i)v);
}
#endif

}  // namespace
