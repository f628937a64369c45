// A whole training step of a small language model in one thread: forward, backward, clipping, AdamW.
//
// The models are those of pipeline/models: the decoder-only Transformer, its recurrent kin and the LSTM. Parameters are
// laid out as pipeline/models/__init__.py and layout.py say.
// What makes it fast, in order of what it gives:
//
// 1. A chunk of about 128 rows (one sequence, or a few) goes forward and backward alone, so that its activations stay
//    in the cache; its weight gradients are added to one flat vector.
// 2. One register-blocked kernel multiplies matrices. The left operand is read number by number and broadcast, so a
//    transposed left operand costs nothing; the right operand is read in vectors. Weights are copied once a step into
//    the order in which the kernel reads them, both ways round.
// 3. Operands can have 16 bits, where the processor multiplies those faster than 32. Weights, their gradients, the
//    residual stream, norms and losses have 32 bits always.
// 4. What follows a product (GELU and its derivative, the residual sum) is done on the kernel's registers, and that and
//    softmax in 16 bits where sums have 16 bits anyway.
// 5. Weight gradients, which are too many for the near caches, are fetched ahead of their use.
// 6. Logits exist for a few rows at a time.
//
// Every dimension is rounded up to whole vectors inside ("padded"), and the context to whole tiles. The padding of a
// weight is zero, gets a zero gradient, and so stays zero: no kernel has a special case for odd sizes.
//
// OPERANDS, set by the compiler's command line, chooses the format of operands: FLOAT32, BFLOAT16 or FLOAT16.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define INLINE __attribute__((always_inline)) inline
#define INLINE_LAMBDA __attribute__((always_inline))

#define FLOAT32 0
#define BFLOAT16 1
#define FLOAT16 2
#ifndef OPERANDS
#define OPERANDS FLOAT32
#endif

namespace {

// ---------------------------------------------------------------------------------------------------- vectors

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
constexpr long LINE = 16;            // floats in a cache line
constexpr long CHUNK_ROWS = 128;     // rows that go forward and backward together
constexpr long STEP_ROWS = 8;        // sequences of an LSTM that make a step together: whole tiles
constexpr long QUERY_ROWS = 128;     // rows of attention scores held at a time in the backward pass
constexpr long LOGITS = 128 * 1024;  // logits held at a time: half a megabyte
constexpr long VOCAB_CHUNK = 2048;   // columns of logits held at a time

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

// 2^x, to 1e-7 of itself (3e-6 for 16-bit operands). A NaN stays a NaN. Below the smallest normal number the result is
// zero or nearly so. The polynomials are the minimax ones on -1/2 .. 1/2.
inline Vector exp2(Vector x) {
#if defined(__AVX512F__)
    const Vector n = (Vector)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vector r = x - n;
#else
    x = maximum(splat(-126.f), minimum(splat(127.f), x));
    const Vector shifted = x + 12582912.f;  // 1.5 x 2^23: the integer is in the low bits
    const Vector r = x - (shifted - 12582912.f);
#endif
#if OPERANDS == FLOAT32
    Vector p = splat(1.3276472e-3f);
    p = p * r + 9.6755413e-3f;
    p = p * r + 5.5507133e-2f;
    p = p * r + 2.4022120e-1f;
    p = p * r + 6.9314697e-1f;
    p = p * r + 1.0000001e+0f;
#else
    Vector p = splat(9.5701019e-3f);
    p = p * r + 5.5917860e-2f;
    p = p * r + 2.4024745e-1f;
    p = p * r + 6.9312181e-1f;
    p = p * r + 9.9999926e-1f;
#endif
#if defined(__AVX512F__)
    return (Vector)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return (Vector)((Integers)p + ((Integers)shifted << 23));
#endif
}

// 1 / x for a normal number.
inline Vector reciprocal(Vector x) {
#if defined(__AVX512F__)
    const Vector y = (Vector)_mm512_rcp14_ps((__m512)x);
    return OPERANDS == FLOAT32 ? y + y * (1.f - x * y) : y;  // one step of Newton, or 6e-5 of itself
#else
    return 1.f / x;
#endif
}

// 1 / sqrt(x) for a normal number.
inline Vector inverse_root(Vector x) {
#if defined(__AVX512F__)
    const Vector y = (Vector)_mm512_rsqrt14_ps((__m512)x);
    return y * (1.5f - 0.5f * x * y * y);  // one step of Newton
#else
    for (int i = 0; i < W; i++) x[i] = 1.f / std::sqrt(x[i]);
    return x;
#endif
}

constexpr float LOG2_E = 1.44269504088896341f;
constexpr float LN_2 = 0.693147180559945309f;
constexpr float GELU_A = 1.5957691216057308f, GELU_B = 0.044715f;

// 1 / (1 + 2^x)
inline Vector logistic(Vector x) { return reciprocal(1.f + exp2(minimum(splat(125.f), x))); }
inline Vector sigmoid(Vector x) { return logistic(x * -LOG2_E); }
inline Vector tanh(Vector x) { return 2.f * sigmoid(2.f * x) - 1.f; }

// GELU (tanh form) is u s with s = sigmoid(2 sqrt(2/pi) (u + 0.044715 u^3)); its derivative comes from the same s.
inline void gelu(Vector u, Vector& value, Vector& slope) {
    const Vector square = u * u;
    const Vector exponent = u * (square * (-GELU_A * GELU_B * LOG2_E) - GELU_A * LOG2_E);
    const Vector s = logistic(exponent);
    value = u * s;
    slope = s + (value - value * s) * (square * (3.f * GELU_A * GELU_B) + GELU_A);
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
inline Halves exp2(Halves x) {
    const auto c = filled<Halves>;
    const Halves n = _mm512_roundscale_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = x - n;
    const Halves p = ((c(5.517167e-2f) * r + c(2.4261112e-1f)) * r + c(6.9326099e-1f)) * r + c(1.f);
    return _mm512_scalef_ph(p, n);
}
inline void gelu(Halves u, Halves& value, Halves& slope) {
    const auto c = filled<Halves>;
    const Halves near = _mm512_max_ph(_mm512_min_ph(u, c(16)), c(-16)), square = near * near;  // no square overflows
    const Halves exponent = near * (square * c(-GELU_A * GELU_B * LOG2_E) - c(GELU_A * LOG2_E));
    const Halves s = _mm512_rcp_ph(exp2(_mm512_min_ph(exponent, c(15))) + c(1));
    value = u * s;
    slope = s + (value - value * s) * (square * c(3.f * GELU_A * GELU_B) + c(GELU_A));
}
#endif

// ---------------------------------------------------------------------------------------------------- formats

// A product is a sum over depth of an element of the left operand, broadcast, times a vector of the right operand. An
// element is what is read and broadcast at once: one number, or two neighbours in depth. A matrix that is an operand is
// kept in one form that serves all, or in two:
//
//   first    for  X @ ..
//   second   for  X^T @ .. and  .. @ X
//
// Formats differ in what a word holds, so only they know the addresses.
struct Matrix {
    Word *first, *second;
    long ld_first, ld_second;  // words from row to row
};

inline long whole(long n, long unit) { return (n + unit - 1) / unit * unit; }
// A row stride of an odd number of cache lines, so that a column of rows falls on all sets of a cache.
inline long stride(long n) { return whole(n, LINE) / LINE % 2 ? whole(n, LINE) : whole(n, LINE) + LINE; }

// Where the right operand's words are: row k of depth, vector j at k * row + j * vector.
struct Right {
    const Word* at;
    long row, vector;
};

// float32: a word is an element, and one form serves all.
struct Float32 {
    using Sum = Vector;
    using Element = Word;
    static constexpr int DEPTH = 1;    // numbers of depth in an element
    static constexpr int ACROSS = 1;   // columns in a word of the first form
    static constexpr int HALVES = 1;   // vectors of floats in a Sum
    static constexpr long SEGMENT = 512;  // elements of depth summed up at once
    static constexpr bool PLAIN = true;  // a matrix of floats is an operand as it is

    INLINE static Sum multiply_add(const Element& left, Words right, Sum sum) {
        float x;
        std::memcpy(&x, &left, 4);
        return sum + x * (Vector)right;
    }
    static Matrix matrix(long, long columns) { return {nullptr, nullptr, stride(columns), 0}; }
    static long first_words(const Matrix& m, long rows) { return rows * m.ld_first; }
    static long second_words(const Matrix&, long) { return 0; }
    static Matrix at(const Matrix& m, long i, long j) {
        return {m.first + i * m.ld_first + j, nullptr, m.ld_first, m.ld_second};
    }
    static const Element* left(const Matrix& m) { return m.first; }
    static long left_ld(const Matrix& m) { return m.ld_first; }
    static const Element* transposed(const Matrix& m) { return m.first; }
    static long transposed_ld(const Matrix& m) { return m.ld_first; }
    static Right right(const Matrix& m) { return {m.first, m.ld_first, W}; }

    // Rows i and i + 1, W columns from j; i is even. `put` makes an operand, `keep` only what `get` reads.
    static void put(const Matrix& m, long i, long j, Vector a, Vector b) {
        store(m.first + i * m.ld_first + j, (Words)a);
        store(m.first + (i + 1) * m.ld_first + j, (Words)b);
    }
    static void keep(const Matrix& m, long i, long j, Vector a, Vector b) { put(m, i, j, a, b); }
    static Vector get(const Matrix& m, long i, long j) { return (Vector)load(m.first + i * m.ld_first + j); }
    // The same of sums as they are; without `all` only the first W columns of them.
    static void put_sums(const Matrix& m, long i, long j, Sum a, Sum b, bool) { put(m, i, j, a, b); }
    static void keep_sums(const Matrix& m, long i, long j, Sum a, Sum b, bool) { keep(m, i, j, a, b); }
    static Sum times(Sum s, const Matrix& m, long i, long j) { return s * get(m, i, j); }

    // A vector of a packed right operand from DEPTH rows of floats, of which `real` columns exist.
    static Words pack(const float* rows, long, long) { return (Words)load(rows); }
    // W rows of a first form, transposed (v[c] has word c of every row), as columns `row` .. of a right operand.
    static void put_transposed(const Words* v, long row, Word* to, long ld) {
        for (int c = 0; c < W; c++) store(to + c * ld + row, v[c]);
    }
};

#if OPERANDS == BFLOAT16
// bfloat16 with the dot product of pairs: a word is two neighbours in depth. The first form has pairs of columns; the
// second has pairs of rows, for each column.
struct BFloat16 {
    using Sum = Vector;
    using Element = Word;
    static constexpr int DEPTH = 2;
    static constexpr int ACROSS = 2;
    static constexpr int HALVES = 1;
    static constexpr long SEGMENT = 512;
    static constexpr bool PLAIN = false;

    INLINE static Sum multiply_add(const Element& left, Words right, Sum sum) {
        return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32((int)left), (__m512bh)right);
    }
    static Matrix matrix(long, long columns) { return {nullptr, nullptr, stride(columns / 2), stride(columns)}; }
    static long first_words(const Matrix& m, long rows) { return rows * m.ld_first; }
    static long second_words(const Matrix& m, long rows) { return rows / 2 * m.ld_second; }
    static Matrix at(const Matrix& m, long i, long j) {
        return {m.first + i * m.ld_first + j / 2, m.second + i / 2 * m.ld_second + j, m.ld_first, m.ld_second};
    }
    static const Element* left(const Matrix& m) { return m.first; }
    static long left_ld(const Matrix& m) { return m.ld_first; }
    static const Element* transposed(const Matrix& m) { return m.second; }
    static long transposed_ld(const Matrix& m) { return m.ld_second; }
    static Right right(const Matrix& m) { return {m.second, m.ld_second, W}; }

    static Words pairs(Vector a, Vector b) {  // words (a[0], b[0]), (a[1], b[1]), ..
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
        return (Words)_mm512_permutexvar_epi16(interleaving(), both);
    }
    static __m512i interleaving() {  // 0, 16, 1, 17, ..
        return _mm512_add_epi32(_mm512_set1_epi32(16 << 16), _mm512_mullo_epi32((__m512i)lanes(), _mm512_set1_epi32(0x10001)));
    }
    static void keep(const Matrix& m, long i, long j, Vector a, Vector b) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
        _mm256_store_si256((__m256i*)(m.first + i * m.ld_first + j / 2), _mm512_castsi512_si256(both));
        _mm256_store_si256((__m256i*)(m.first + (i + 1) * m.ld_first + j / 2), _mm512_extracti64x4_epi64(both, 1));
    }
    static void put(const Matrix& m, long i, long j, Vector a, Vector b) {
        keep(m, i, j, a, b);
        store(m.second + i / 2 * m.ld_second + j, pairs(a, b));
    }
    static Vector get(const Matrix& m, long i, long j) {
        const __m256i pairs_of_row = _mm256_load_si256((const __m256i*)(m.first + i * m.ld_first + j / 2));
        return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(pairs_of_row), 16);
    }
    static void put_sums(const Matrix& m, long i, long j, Sum a, Sum b, bool) { put(m, i, j, a, b); }
    static void keep_sums(const Matrix& m, long i, long j, Sum a, Sum b, bool) { keep(m, i, j, a, b); }
    static Sum times(Sum s, const Matrix& m, long i, long j) { return s * get(m, i, j); }

    static Words pack(const float* rows, long ld, long) { return pairs(load(rows), load(rows + ld)); }
    static void put_transposed(const Words* v, long row, Word* to, long ld) {
        for (int c = 0; c < W; c++) store(to + c * ld + row, v[c]);
    }
};
#endif

#if OPERANDS == FLOAT16
// float16 with its own multiply-add, 32 columns at a time. A word is two neighbouring columns, and one form serves all.
// Sums of products stay in float16 for a segment of depth, whose rounding is that of bfloat16 operands.
struct Float16 {
    using Sum = Halves;
    using Element = Half;
    static constexpr int DEPTH = 1;
    static constexpr int ACROSS = 2;
    static constexpr int HALVES = 2;
    static constexpr long SEGMENT = 192;
    static constexpr bool PLAIN = false;

    // By hand, since compilers broadcast a half into a register, at the cost of a multiply-add; the operand's own
    // broadcast is free.
    INLINE static Sum multiply_add(const Element& left, Words right, Sum sum) {
        asm("vfmadd231ph %2%{1to32%}, %1, %0" : "+v"(sum) : "v"((__m512i)right), "m"(left));
        return sum;
    }
    static Matrix matrix(long, long columns) { return {nullptr, nullptr, stride(columns / 2), 0}; }
    static long first_words(const Matrix& m, long rows) { return rows * m.ld_first; }
    static long second_words(const Matrix&, long) { return 0; }
    static Matrix at(const Matrix& m, long i, long j) {
        return {m.first + i * m.ld_first + j / 2, nullptr, m.ld_first, m.ld_second};
    }
    static const Element* left(const Matrix& m) { return reinterpret_cast<const Half*>(m.first); }
    static long left_ld(const Matrix& m) { return 2 * m.ld_first; }
    static const Element* transposed(const Matrix& m) { return left(m); }
    static long transposed_ld(const Matrix& m) { return left_ld(m); }
    static Right right(const Matrix& m) { return {m.first, m.ld_first, W}; }

    static __m256i halves(Vector a) { return _mm512_cvtps_ph((__m512)a, _MM_FROUND_TO_NEAREST_INT); }
    static void put(const Matrix& m, long i, long j, Vector a, Vector b) {
        _mm256_storeu_si256((__m256i*)(m.first + i * m.ld_first + j / 2), halves(a));
        _mm256_storeu_si256((__m256i*)(m.first + (i + 1) * m.ld_first + j / 2), halves(b));
    }
    static void keep(const Matrix& m, long i, long j, Vector a, Vector b) { put(m, i, j, a, b); }
    static Vector get(const Matrix& m, long i, long j) {
        return (Vector)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(m.first + i * m.ld_first + j / 2)));
    }
    static void put_sum(Word* to, Sum s, bool all) {
        if (all)
            _mm512_storeu_si512(to, (__m512i)s);
        else
            _mm256_storeu_si256((__m256i*)to, _mm512_castsi512_si256((__m512i)s));
    }
    static void put_sums(const Matrix& m, long i, long j, Sum a, Sum b, bool all) {
        put_sum(m.first + i * m.ld_first + j / 2, a, all);
        put_sum(m.first + (i + 1) * m.ld_first + j / 2, b, all);
    }
    static void keep_sums(const Matrix& m, long i, long j, Sum a, Sum b, bool all) { put_sums(m, i, j, a, b, all); }
    static Sum times(Sum s, const Matrix& m, long i, long j) {
        return s * (Sum)_mm512_loadu_si512(m.first + i * m.ld_first + j / 2);
    }

    static Words pack(const float* rows, long, long real) {
        const __m256i low = halves(load(rows)), high = real > W ? halves(load(rows + W)) : _mm256_setzero_si256();
        return (Words)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    static void put_transposed(const Words* v, long row, Word* to, long ld) {
        for (int c = 0; c < W; c++) {
            const __m512i both = (__m512i)v[c];
            _mm256_storeu_si256((__m256i*)(to + 2 * c * ld + row / 2), _mm512_cvtepi32_epi16(both));
            _mm256_storeu_si256((__m256i*)(to + (2 * c + 1) * ld + row / 2),
                                _mm512_cvtepi32_epi16(_mm512_srli_epi32(both, 16)));
        }
    }
};
#endif

#if OPERANDS == FLOAT32
using F = Float32;
#elif OPERANDS == BFLOAT16
using F = BFloat16;
#else
using F = Float16;
#endif
constexpr int COLUMNS = W * F::HALVES;  // of a Sum
using Number = Lanes<F::Sum>::Number;

// A matrix of floats as an operand in the format PLAIN.
inline Matrix plain(float* at, long ld) { return {reinterpret_cast<Word*>(at), nullptr, ld, 0}; }

// ------------------------------------------------------------------------------------------- matrix products

// What is done with a product: rows i and i + 1, W columns from j.
struct Store {
    float* c;
    long ld;
    INLINE void operator()(long i, long j, Vector a, Vector b) const {
        store(c + i * ld + j, a);
        store(c + (i + 1) * ld + j, b);
    }
};
struct Add {
    float* c;
    long ld;
    INLINE void operator()(long i, long j, Vector a, Vector b) const {
        float *p = c + i * ld + j, *q = p + ld;
        store(p, load(p) + a);
        store(q, load(q) + b);
    }
};
struct AddTo {  // c = source + product
    float* c;
    const float* source;
    long ld;
    INLINE void operator()(long i, long j, Vector a, Vector b) const {
        const long p = i * ld + j, q = p + ld;
        store(c + p, load(source + p) + a);
        store(c + q, load(source + q) + b);
    }
};
struct AddScaledRow {  // c += scale[i] * product
    float* c;
    long ld;
    const float* scale;
    INLINE void operator()(long i, long j, Vector a, Vector b) const {
        float *p = c + i * ld + j, *q = p + ld;
        store(p, load(p) + a * scale[i]);
        store(q, load(q) + b * scale[i + 1]);
    }
};
struct Put {
    Matrix m;
    INLINE void operator()(long i, long j, Vector a, Vector b) const { F::put(m, i, j, a, b); }
};
struct PutSums {  // the same, of sums as they are where that is possible
    Matrix m;
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool all) const { F::put_sums(m, i, j, a, b, all); }
};
struct PutTimes {  // m = product * factor, element by element
    Matrix m, factor;
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool all) const {
        F::put_sums(m, i, j, F::times(a, factor, i, j), F::times(b, factor, i + 1, j), all);
    }
};
struct PutAdded {  // m = source + product
    Matrix m;
    const float* source;
    long ld;
    INLINE void operator()(long i, long j, Vector a, Vector b) const {
        F::put(m, i, j, load(source + i * ld + j) + a, load(source + (i + 1) * ld + j) + b);
    }
};
struct PutGelu {
    Matrix value, slope;
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool all) const {
        F::Sum ya, yb, da, db;
        gelu(a, ya, da);
        gelu(b, yb, db);
        F::put_sums(value, i, j, ya, yb, all);
        F::keep_sums(slope, i, j, da, db, all);
    }
};
struct StoreSums {  // sums as they are
    F::Sum* c;
    long ld;
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool) const {
        c[i * ld + j / COLUMNS] = a;
        c[(i + 1) * ld + j / COLUMNS] = b;
    }
};
// The gradient of probabilities p becomes that of the scores: scale p (gradient - delta), delta = sum of p gradient.
struct PutScores {
    Matrix m, p;
    const Number* delta;
    float scale;
    INLINE F::Sum gradient(long i, long j, F::Sum a) const {
        const auto all = filled<F::Sum>;
        return F::times((a - all(delta[i])) * all(scale), p, i, j);
    }
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool) const {
        F::put_sums(m, i, j, gradient(i, j, a), gradient(i + 1, j, b), true);
    }
};

// Whether an output takes sums in their own format.
template <class Out, class = void>
constexpr bool takes_sums = false;
template <class Out>
constexpr bool takes_sums<Out, std::void_t<decltype(&Out::take)>> = true;

// What a product is added to is fetched while it is summed, a line at a time: gradients come from the outer caches.
template <int R, int C>
struct Fetch {
    const float* at;
    long ld;
    static constexpr long LINES = R * (C * COLUMNS / LINE);
    INLINE void operator()(long k) const { __builtin_prefetch(at + k % R * ld + k / R * LINE, 1); }
};
struct FetchNothing {
    static constexpr long LINES = 0;
    INLINE void operator()(long) const {}
};

// R rows and C vectors of a product, held in registers over `depth` words of the operands.
template <int R, int C, bool TRANSPOSED, class Ahead = FetchNothing>
INLINE void sums(const F::Element* a, long lda, const Right& right, long depth, F::Sum (&sum)[R][C],
                 const Ahead& fetch = {}) {
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) sum[r][c] = F::Sum{};
    const Word* b = right.at;
    const auto add_word = [&]() INLINE_LAMBDA {
        Words v[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) v[c] = load(b + c * right.vector);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const F::Element& left = TRANSPOSED ? a[r] : a[r * lda];
#pragma GCC unroll 4
            for (int c = 0; c < C; c++) sum[r][c] = F::multiply_add(left, v[c], sum[r][c]);
        }
        a += TRANSPOSED ? lda : 1;
        b += right.row;
    };
    long k = 0;
    if constexpr (Ahead::LINES > 0) {
        for (const long n = std::min(depth, Ahead::LINES); k < n; k++) {
            fetch(k);
            __builtin_prefetch(a + 2 * LINE);  // for tiles to come
            add_word();
        }
        for (; k < depth; k++) {
            __builtin_prefetch(a + 2 * LINE);
            add_word();
        }
    }
    for (; k < depth; k++) add_word();
}

template <int R, int C, bool TRANSPOSED, class Out>
INLINE void tile(const F::Element* a, long lda, const Right& b, long depth, const Out& out, long i, long j,
                 long columns) {
    F::Sum sum[R][C];
    if constexpr (TRANSPOSED && (std::is_same_v<Out, Add> || std::is_same_v<Out, Store>))
        sums<R, C, TRANSPOSED>(a, lda, b, depth, sum, Fetch<R, C>{out.c + i * out.ld + j, out.ld});
    else
        sums<R, C, TRANSPOSED>(a, lda, b, depth, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; r += 2)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++)
#pragma GCC unroll 2
            for (int h = 0; h < F::HALVES; h++) {
                const bool all = j + c * COLUMNS + W < columns;
                if constexpr (takes_sums<Out>) {
                    if (h == 0) out.take(i + r, j + c * COLUMNS, sum[r][c], sum[r + 1][c], all);
                } else if (h == 0 || all) {
                    out(i + r, j + c * COLUMNS + h * W, part(sum[r][c], h), part(sum[r + 1][c], h));
                }
            }
}

// A segment of a tile's depth, added to its totals.
template <int R, int C, bool TRANSPOSED>
__attribute__((noinline)) void add_segment(const F::Element* a, long lda, Right b, long depth, bool first,
                                           Vector (*total)[C][F::HALVES]) {
    F::Sum sum[R][C];
    sums<R, C, TRANSPOSED>(a, lda, b, depth, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++)
#pragma GCC unroll 2
            for (int h = 0; h < F::HALVES; h++)
                total[r][c][h] = part(sum[r][c], h) + (first ? Vector{} : total[r][c][h]);
}

// A panel whose depth is too long for one sum, or for its right operand to stay in the nearest cache: a few rows at a
// time, segment after segment.
template <int C, bool TRANSPOSED, class Out>
void long_panel(const F::Element* a, long lda, const Right& b, long rows, long depth, const Out& out, long j,
                long columns) {
    constexpr long BLOCK = 4 * TILE_ROWS;
    const long segment = whole((depth - 1) / ((depth - 1) / F::SEGMENT + 1) + 1, TILE_ROWS);  // all of about one size
    Vector total[BLOCK][C][F::HALVES];
    for (long block = 0; block < rows; block += BLOCK) {
        const long n = std::min(BLOCK, rows - block);
        for (long k = 0; k < depth; k += segment)
            for (long r = 0; r < n; r += TILE_ROWS) {
                const long i = block + r;
                add_segment<TILE_ROWS, C, TRANSPOSED>(TRANSPOSED ? a + k * lda + i : a + i * lda + k, lda,
                                                      {b.at + k * b.row, b.row, b.vector}, std::min(segment, depth - k),
                                                      k == 0, total + r);
            }
        for (long r = 0; r < n; r += 2)
            for (int c = 0; c < C; c++) {
                const Vector *a = total[r][c], *b = total[r + 1][c];
                const long i = block + r, column = j + c * COLUMNS;
                if constexpr (takes_sums<Out>) {
                    out.take(i, column, joined<F::Sum>(a), joined<F::Sum>(b), column + W < columns);
                } else {
                    for (int h = 0; h < F::HALVES && column + h * W < columns; h++) out(i, column + h * W, a[h], b[h]);
                }
            }
    }
}

// C vectors of a product from column j, all its rows.
template <int C, bool TRANSPOSED, class Out>
__attribute__((noinline)) void panel(const F::Element* a, long lda, Right b, long rows, long depth, const Out& out,
                                     long j, long columns) {
    if (depth > F::SEGMENT) return long_panel<C, TRANSPOSED>(a, lda, b, rows, depth, out, j, columns);
    constexpr int TALL = C == 1 ? 2 * TILE_ROWS : TILE_ROWS;  // more sums than one column of tiles has, to hide latency
    const long step = TRANSPOSED ? 1 : lda;
    long i = 0;
    for (; i + TALL <= rows; i += TALL) tile<TALL, C, TRANSPOSED>(a + i * step, lda, b, depth, out, i, j, columns);
    if (i < rows) tile<TILE_ROWS, C, TRANSPOSED>(a + i * step, lda, b, depth, out, i, j, columns);
}

template <bool TRANSPOSED, class Out>
void multiply_words(const F::Element* a, long lda, Right b, long rows, long columns, long depth, const Out& out) {
    const long vectors = (columns + COLUMNS - 1) / COLUMNS;
    for (long v = 0; v < vectors;) {
        const long left = vectors - v, j = v * COLUMNS;
        const Right part{b.at + v * b.vector, b.row, b.vector};
        if (left == 1) {
            panel<1, TRANSPOSED>(a, lda, part, rows, depth, out, j, columns);
            v += 1;
        } else if (left == 2 || left == 4) {
            panel<2, TRANSPOSED>(a, lda, part, rows, depth, out, j, columns);
            v += 2;
        } else {
            panel<3, TRANSPOSED>(a, lda, part, rows, depth, out, j, columns);
            v += 3;
        }
    }
}

// a @ b, given to `out`. Rows are whole tiles, columns and depth whole vectors.
template <class Out>
void multiply(const Matrix& a, const Right& b, long rows, long columns, long depth, const Out& out) {
    multiply_words<false>(F::left(a), F::left_ld(a), b, rows, columns, depth / F::DEPTH, out);
}
// a^T @ b; rows are columns of a, and depth is its rows.
template <class Out>
void multiply_transposed(const Matrix& a, const Right& b, long rows, long columns, long depth, const Out& out) {
    multiply_words<true>(F::transposed(a), F::transposed_ld(a), b, rows, columns, depth / F::DEPTH, out);
}

// W x W words: v[j] gets word j of W rows, by exchanging ever smaller blocks.
inline void transpose_square(const Word* from, long ld, Words* v) {
    Vector x[W];
#pragma GCC unroll 16
    for (int i = 0; i < W; i++) x[i] = (Vector)load(from + i * ld);
    if constexpr (W > 8) exchange_blocks<W / 2 & 8>(x);
    if constexpr (W > 4) exchange_blocks<4>(x);
    exchange_blocks<2>(x);
    exchange_blocks<1>(x);
#pragma GCC unroll 16
    for (int i = 0; i < W; i++) v[i] = (Words)x[i];
}

// The right operand m^T, in `to`: `columns` of m are its depth. Whole squares are read and written.
inline Right transpose(const Matrix& m, long rows, long columns, Word* to, long ld) {
    Words v[W];
    for (long i = 0; i < rows; i += W)
        for (long j = 0; j < columns; j += W * F::ACROSS) {
            transpose_square(m.first + i * m.ld_first + j / F::ACROSS, m.ld_first, v);
            F::put_transposed(v, i, to + j / F::DEPTH * ld, ld);
        }
    return {to, ld, W};
}

// A weight (rows x columns) as a right operand in the order in which `multiply` reads it: for every vector of columns,
// all depth. Returns the end.
inline Word* pack(const float* from, long ld, long rows, long columns, Word* to) {
    for (long j = 0; j < columns; j += COLUMNS)
        for (long k = 0; k < rows; k += F::DEPTH, to += W) store(to, F::pack(from + k * ld + j, ld, columns - j));
    return to;
}
// The same of the weight transposed. `strip` holds COLUMNS x columns floats, columns rounded up to whole vectors.
inline void pack_transposed(const float* from, long ld, long rows, long columns, Word* to, float* strip) {
    for (long i = 0; i < rows; i += COLUMNS) {
        const long width = std::min<long>(COLUMNS, rows - i);
        for (long g = 0; g < width; g += W)
            for (long j = 0; j < columns; j += W) {
                Words v[W];
                transpose_square(reinterpret_cast<const Word*>(from + (i + g) * ld + j), ld, v);
                for (int c = 0; c < W; c++) store(strip + (j + c) * COLUMNS + g, (Vector)v[c]);
            }
        to = pack(strip, COLUMNS, columns, width, to);
    }
}
inline long packed_words(long depth, long columns) { return whole(columns, COLUMNS) / COLUMNS * (depth / F::DEPTH) * W; }
inline Right packed(const Word* at, long depth) { return {at, W, depth / F::DEPTH * W}; }

class Arena {
   public:
    float* take(long n) {
        float* at = base_ + used_;  // from null in the first round, which only counts
        used_ += whole(n, LINE);
        return at;
    }
    Word* words(long n) { return reinterpret_cast<Word*>(take(n)); }
    bool map() {
        bytes_ = whole(used_ * 4 + HUGE, HUGE) + HUGE;
        void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return false;
        start_ = at;
        base_ = reinterpret_cast<float*>(whole(reinterpret_cast<intptr_t>(at), HUGE));
#if defined(MADV_HUGEPAGE)
        madvise(at, bytes_, MADV_HUGEPAGE);  // fewer misses of the page table; a refusal does no harm
#endif
        used_ = 0;
        return true;
    }
    ~Arena() {
        if (start_) munmap(start_, bytes_);
    }

   private:
    static constexpr long HUGE = 2 << 20;
    void* start_ = nullptr;
    float* base_ = nullptr;
    long used_ = 0, bytes_ = 0;
};

inline uint64_t mix(uint64_t x) {  // splitmix64
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#if defined(__x86_64__)
// Numbers below the smallest normal float are taken as zero: they cost a hundred cycles each and mean nothing here.
struct FlushTiny {
    unsigned before = _mm_getcsr();
    FlushTiny() { _mm_setcsr(before | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before); }
};
#else
struct FlushTiny {
    FlushTiny() {}
};
#endif

// ------------------------------------------------------------------------------------------------- engine

// The weight of a linear map: its place in the padded vector, its padded sizes, how much of them products must sum over
// (true sizes, rounded up to whole tiles), and packed copies.
struct Weight {
    long at, inputs, outputs, sum_inputs, sum_outputs;
    Word *forward, *backward;
};

// A parameter: true sizes, and padded sizes in which heads are padded one by one; the weight that it is, if any.
struct Tensor {
    long row_groups, rows, padded_rows;
    long column_groups, columns, padded_columns;
    long at;  // in the padded vector
    bool matrix;
    Weight* weight;
    long ld() const { return column_groups * padded_columns; }
    long size() const { return row_groups * padded_rows * ld(); }
};

struct Block {
    long gain1, bias1, gain2, bias2;
    Weight qkv, out, up, down;
};

struct Layer {  // of an LSTM: the weight has the rows of the layer's input, then those of its state
    Weight weight;
    long bias;
};

struct Steps {  // what the backward pass needs of one layer of an LSTM; rows go by time, then by sequence
    Matrix inputs, gates;  // the layer's input and its state before; the gates (input, forget, cell, output)
    float* cell;
};

struct Saved {  // what the backward pass needs of one block
    float *input, *middle;             // the residual stream before attention and before the feed-forward layer
    float *statistics1, *statistics2;  // of the norms: means of the rows, then 1/deviations
    Matrix norm1, qkv;
    Matrix probabilities;  // of attention, by sequence, head, query
    Matrix attended, norm2, hidden, slope;  // the last of GELU
};

}  // namespace

struct Shape {
    int64_t n_layer, d_model, n_head, d_ff, n_ctx, n_vocab, n_reuse;
    int64_t lstm;  // 1: an LSTM, which has no heads and no feed-forward layer
};
struct Settings {
    double beta1, beta2, eps, weight_decay, clip, dropout, embedding_std;
    uint64_t seed;
};

class Engine {
   public:
    Engine(const Shape& shape, const Settings& settings) : shape_(shape), settings_(settings) {
        constexpr long unit = std::max(W, TILE_ROWS);
        T = shape.lstm ? shape.n_ctx : whole(shape.n_ctx, TILE_ROWS);
        heads = shape.lstm ? 1 : shape.n_head;
        d = whole(shape.d_model, unit);
        width = whole(shape.d_model, TILE_ROWS);
        head = whole(shape.d_model / heads, unit);
        sum_head = whole(shape.d_model / heads, TILE_ROWS);
        inner = heads * head;
        ff = whole(shape.d_ff, unit);
        vocab = whole(shape.n_vocab, unit);
        sequences = shape.lstm ? STEP_ROWS : std::max(1L, CHUNK_ROWS / T);
        rows = sequences * T;
        ld = stride(d);
        ld_across = stride(whole(T, W));
        vocab_chunk = std::min(vocab, VOCAB_CHUNK);
        loss_rows = std::max<long>(TILE_ROWS, std::min(rows, LOGITS / vocab_chunk / TILE_ROWS * TILE_ROWS));
        ld_logits = stride(whole(vocab_chunk, COLUMNS) / F::HALVES) / W;
        scale = 1.f / std::sqrt((float)(shape.d_model / heads));
        threshold = (uint32_t)std::min(4294967295.0, settings.dropout * 4294967296.0);
        keep_scale = (float)(1.0 / (1.0 - settings.dropout));
        describe();
    }

    bool allocate() {
        place();
        if (!arena_.map()) return false;
        place();
        return true;
    }

    // Copy between a flat vector in the order of layout.py and a padded one.
    void copy(int which, float* flat, bool in) {
        float* padded = which == 0 ? parameters : which == 1 ? first : which == 2 ? second : gradient;
        for (const Tensor& t : tensors_)
            for (long g = 0; g < t.row_groups; g++)
                for (long r = 0; r < t.rows; r++)
                    for (long h = 0; h < t.column_groups; h++, flat += t.columns) {
                        float* there = padded + t.at + (g * t.padded_rows + r) * t.ld() + h * t.padded_columns;
                        if (in)
                            std::memcpy(there, flat, t.columns * 4);
                        else
                            std::memcpy(flat, there, t.columns * 4);
                    }
        if (in && which == 0) stale_ = true;
    }

    // The mean loss; the gradient of the summed loss is left in `gradient`. `halves` (or null) gets the squared norms of
    // the gradients of the mean losses of the batch's two halves.
    double differentiate(const uint16_t* tokens, long batch, long step, double* halves) {
        refresh();
        const double count = (double)(batch * shape_.n_ctx);
        double loss;
        if (!halves) {
            loss = accumulate(gradient, tokens, 0, batch, step);
        } else {
            const long cut = batch / 2;
            loss = accumulate(gradient, tokens, 0, cut, step);
            loss += accumulate(half, tokens, cut, batch, step);
            halves[0] = square_norm(gradient) / std::pow((double)(cut * shape_.n_ctx), 2);
            halves[1] = square_norm(half) / std::pow((double)((batch - cut) * shape_.n_ctx), 2);
            for (long i = 0; i < size_; i += W) store(gradient + i, load(gradient + i) + load(half + i));
        }
        return loss / count;
    }

    // The gradient of the mean loss of `batch` sequences from that of the sum.
    void take_mean(long batch) {
        const float share = (float)(1 / (double)(batch * shape_.n_ctx));
        for (long i = 0; i < size_; i += W) store(gradient + i, load(gradient + i) * share);
    }

    // Clip the gradient and take one step of AdamW (Loshchilov and Hutter 2019), as torch.optim.AdamW does; return the
    // norm of the mean loss's gradient.
    double update(double lr, long step, long batch) {
        const double share = 1 / (double)(batch * shape_.n_ctx), norm = std::sqrt(square_norm(gradient)) * share;
        double clip = 1;
        if (settings_.clip > 0) clip = settings_.clip / (norm + 1e-6);
        if (clip > 1) clip = 1;  // a norm that is not a number stays one
        const double correction1 = 1 - std::pow(settings_.beta1, (double)step);
        const double correction2 = 1 - std::pow(settings_.beta2, (double)step);
        for (const Tensor& t : tensors_) {
            descend(t.at, t.size(), (float)(clip * share), (float)(1 - (t.matrix ? lr * settings_.weight_decay : 0)),
                    (float)(lr / correction1), (float)(1 / correction2));
            if (t.weight) pack_copies(*t.weight);  // while it is near
        }
        return norm;
    }

    // Add the loss of every position over `count` windows to `sums`.
    void evaluate(const uint16_t* tokens, long count, double* sums) {
        refresh();
        for (long b = 0; b < count; b += sequences) {
            const long n = std::min(sequences, count - b);
            const uint16_t* part = tokens + b * (shape_.n_ctx + 1);
            forward<false>(part, n, 0, 0);
            cross_entropy<false>(part, n);
            for (long i = 0; i < rows_of(n); i++)
                if (const Place p = place_of(i); p.time < shape_.n_ctx) sums[p.time] += losses[i];
        }
    }

   private:
    // Set `to` to the gradient of the summed loss of sequences from .. stop of a batch; return that loss. A sum, not a
    // mean: its numbers are in the middle of a 16-bit format's range.
    double accumulate(float* to, const uint16_t* tokens, long from, long stop, long step) {
        for (const Tensor& t : tensors_)
            if (!t.weight || t.weight == &embedding) std::memset(to + t.at, 0, t.size() * 4);
        into = to;
        double loss = 0;
        for (long b = from; b < stop; b += sequences) {
            const long n = std::min(sequences, stop - b);
            const uint16_t* part = tokens + b * (shape_.n_ctx + 1);
            forward<true>(part, n, b, step);
            loss += cross_entropy<true>(part, n);
            backward(part, n, b, step, b == from);
        }
        return loss;
    }

    // -------------------------------------------------------------------------------------- memory

    long add(long row_groups, long row_count, long padded_rows, long column_groups, long column_count,
             long padded_columns, bool matrix = true) {
        tensors_.push_back(
            {row_groups, row_count, padded_rows, column_groups, column_count, padded_columns, size_, matrix, nullptr});
        const long at = size_;
        size_ += tensors_.back().size();
        return at;
    }
    long add_vector() { return add(1, 1, 1, 1, shape_.d_model, d, false); }
    void add_weight(Weight& w, long row_groups, long row_count, long padded_rows, long column_groups, long column_count,
                      long padded_columns) {
        const long at = add(row_groups, row_count, padded_rows, column_groups, column_count, padded_columns);
        const auto sum = [](long groups, long size, long padded) {
            return groups == 1 ? whole(size, TILE_ROWS) : groups * padded;
        };
        w = {at,
             row_groups * padded_rows,
             column_groups * padded_columns,
             sum(row_groups, row_count, padded_rows),
             sum(column_groups, column_count, padded_columns),
             nullptr,
             nullptr};
        tensors_.back().weight = &w;
    }

    void describe() {
        const long n = shape_.d_model;
        add_weight(embedding, 1, shape_.n_vocab, vocab, 1, n, d);
        if (shape_.lstm)
            describe_lstm();
        else
            describe_transformer();
        gain = add_vector();
        bias = add_vector();
    }

    void describe_transformer() {
        const long n = shape_.d_model, n_head = n / heads;
        position = add(1, shape_.n_ctx, shape_.n_ctx, 1, n, d);
        if (shape_.n_reuse > 1) depth = add(1, shape_.n_reuse, shape_.n_reuse, 1, n, d);
        blocks_.resize(shape_.n_layer);
        for (Block& b : blocks_) {
            b.gain1 = add_vector();
            b.bias1 = add_vector();
            add_weight(b.qkv, 1, n, d, 3 * heads, n_head, head);
            add_weight(b.out, heads, n_head, head, 1, n, d);
            b.gain2 = add_vector();
            b.bias2 = add_vector();
            add_weight(b.up, 1, n, d, 1, shape_.d_ff, ff);
            add_weight(b.down, 1, shape_.d_ff, ff, 1, n, d);
        }
    }

    void describe_lstm() {
        const long n = shape_.d_model;
        layers_.resize(shape_.n_layer);
        for (Layer& l : layers_) {
            add_weight(l.weight, 2, n, d, 4, n, d);
            l.bias = add(1, 1, 1, 4, n, d, false);
        }
    }

    Matrix take(long row_count, long columns) {
        Matrix m = F::matrix(row_count, columns);
        m.first = arena_.words(F::first_words(m, row_count));
        m.second = arena_.words(F::second_words(m, row_count));
        return m;
    }

    void place() {
        Arena& a = arena_;
        parameters = a.take(size_);
        first = a.take(size_);
        second = a.take(size_);
        gradient = a.take(size_);
        for (const Tensor& t : tensors_)
            if (Weight* w = t.weight) {
                w->forward = a.words(packed_words(w->sum_inputs, w->outputs));
                w->backward = a.words(packed_words(w->sum_outputs, w->inputs));
            }
        strip = a.take(COLUMNS * std::max(std::max(4 * d, ff), 3 * inner));

        const long padded = rows + W;  // transposing reads whole squares
        final_input = a.take(padded * ld);
        final_statistics = a.take(2 * whole(rows, W));
        final_norm = a.take(padded * ld);
        stream = a.take(padded * ld);
        branch = a.take(padded * ld);
        if (!F::PLAIN) narrow = take(padded, d);

        scaled = take(loss_rows, d);
        exponentials = take(loss_rows, vocab_chunk);
        logits = reinterpret_cast<F::Sum*>(F::PLAIN ? exponentials.first : a.words(loss_rows * ld_logits * W));
        losses = a.take(rows);
        row_maximum = a.take(loss_rows);
        row_sum = a.take(loss_rows);
        row_target = a.take(loss_rows);
        row_scale = a.take(loss_rows);

        if (shape_.lstm)
            place_lstm(padded);
        else
            place_transformer(padded);
        half = a.take(size_);  // last, since it is touched only when noise is measured
    }

    void place_transformer(long padded) {
        Arena& a = arena_;
        saved_.resize(shape_.n_reuse * shape_.n_layer);
        for (Saved& s : saved_) {
            s.input = a.take(padded * ld);
            s.statistics1 = a.take(2 * whole(rows, W));
            s.norm1 = take(padded, d);
            s.qkv = take(padded, 3 * inner);
            s.probabilities = take(heads * sequences * T, whole(T, COLUMNS));
            s.attended = take(padded, inner);
            s.middle = a.take(padded * ld);
            s.statistics2 = a.take(2 * whole(rows, W));
            s.norm2 = take(padded, d);
            s.hidden = take(padded, ff);
            s.slope = take(padded, ff);
        }
        dattended = take(padded, inner);
        dqkv = take(padded, 3 * inner);
        dhidden = take(padded, ff);

        across = a.words(whole(head, W * F::ACROSS) * ld_across);
        dscores = take(QUERY_ROWS, whole(T, COLUMNS));
        ld_scores = whole(T, COLUMNS) / COLUMNS;
        scores = reinterpret_cast<F::Sum*>(a.take(QUERIES * ld_scores * W));
        if (T > QUERY_ROWS) {
            ld_head = stride(head);
            dkeys = a.take(T * ld_head);
            dvalues = a.take(T * ld_head);
        }
    }

    void place_lstm(long padded) {
        Arena& a = arena_;
        steps_.resize(shape_.n_layer);
        for (Steps& s : steps_) {
            s.inputs = take(padded, 2 * d);
            s.gates = take(padded, 4 * d);
            s.cell = a.take(padded * ld);
        }
        dgates = take(padded, 4 * d);
        ld_step = stride(4 * d);
        sums_of_step = a.take(STEP_ROWS * ld_step);
        dcell = a.take(STEP_ROWS * ld);
    }

    void pack_copies(const Weight& w) const {
        pack(parameters + w.at, w.outputs, w.sum_inputs, w.outputs, w.forward);
        pack_transposed(parameters + w.at, w.outputs, w.inputs, w.sum_outputs, w.backward, strip);
    }

    // Where a row of a chunk stands. Those of a Transformer go by sequence, those of an LSTM by time.
    struct Place {
        long sequence, time;
    };
    Place place_of(long i) const {
        if (shape_.lstm) return {i % sequences, i / sequences};
        return {i / T, i % T};
    }
    long rows_of(long n) const { return shape_.lstm ? rows : n * T; }  // of a chunk of n sequences

    void refresh() {
        if (!stale_) return;
        for (const Tensor& t : tensors_)
            if (t.weight) pack_copies(*t.weight);
        stale_ = false;
    }

    // ------------------------------------------------------------------------------------- dropout

    // The factor (0 or 1/(1 - rate)) of W elements: a hash of the key and the element's place, so that a mask can be
    // made again in the backward pass and in a run that was resumed.
    Vector mask(uint64_t key, long t, long j) const {
        Words x = (Words)lanes() + (uint32_t)((t << 16) + j);
        x = x * 0x9E3779B1u + (uint32_t)key;
        x = (x ^ (x >> 16)) * 0x21F0AAADu;
        x = ((x ^ (x >> 15)) + (uint32_t)(key >> 32)) * 0x735A2D97u;
        x ^= x >> 15;
        return (Vector)((Integers)splat(keep_scale) & (Integers)(x >= threshold));
    }
    uint64_t mask_key(long step, long sequence, long site) const {
        return mix(mix(mix(mix(settings_.seed) ^ (uint64_t)step) ^ (uint64_t)sequence) ^ (uint64_t)site);
    }
    // to = base + mask * from; base may be null.
    void drop(const float* from, const float* base, float* to, long n, long sequence, long step, long site) const {
        for (long s = 0; s < n; s++) {
            const uint64_t key = mask_key(step, sequence + s, site);
            for (long t = 0; t < T; t++) {
                const long at = (s * T + t) * ld;
                for (long j = 0; j < d; j += W) {
                    const Vector v = load(from + at + j) * mask(key, t, j);
                    store(to + at + j, base ? load(base + at + j) + v : v);
                }
            }
        }
    }
    bool dropping() const { return settings_.dropout > 0; }

    // A matrix of floats (m x d) as an operand.
    Matrix operand(float* x, long m) const {
        if (F::PLAIN) return plain(x, ld);
        for (long i = 0; i < m; i += 2)
            for (long j = 0; j < d; j += W) F::put(narrow, i, j, load(x + i * ld + j), load(x + (i + 1) * ld + j));
        return narrow;
    }

    // ---------------------------------------------------------------------------------- layer norm

    static constexpr float NORM_EPS = 1e-5f;

    // v where column j and the following ones exist, zero in the padding.
    Vector unpadded(Vector v, long j) const { return j + W > shape_.d_model ? below(v, shape_.d_model - j, 0) : v; }

    // Rows are taken W at a time, so that their sums are one vector. `statistics` gets the means, then 1/deviations.
    template <class Out>
    __attribute__((noinline)) void norm(const float* x, long g, long b, float* statistics, long m,
                                        const Out& out) const {
        const float share = 1.f / (float)shape_.d_model;
        const float *gains = parameters + g, *biases = parameters + b;
        float *means = statistics, *inverses = statistics + whole(rows, W);
        for (long i = 0; i < m; i += W, x += W * ld) {
            const long n = std::min<long>(W, m - i);
            Vector sum[W] = {};
            for (long r = 0; r < n; r++)
                for (long j = 0; j < d; j += W) sum[r] += load(x + r * ld + j);
            store(means + i, reduce_each(sum, Plus{}) * share);
            for (long r = 0; r < n; r++) {
                sum[r] = Vector{};
                for (long j = 0; j < d; j += W) {
                    const Vector v = unpadded(load(x + r * ld + j) - means[i + r], j);
                    sum[r] += v * v;
                }
            }
            store(inverses + i, inverse_root(reduce_each(sum, Plus{}) * share + NORM_EPS));
            for (long r = 0; r < n; r += 2)
                for (long j = 0; j < d; j += W) {
                    const Vector ya = (load(x + r * ld + j) - means[i + r]) * inverses[i + r];
                    const Vector yb = (load(x + (r + 1) * ld + j) - means[i + r + 1]) * inverses[i + r + 1];
                    const Vector scaling = load(gains + j), shift = load(biases + j);
                    out(i + r, j, ya * scaling + shift, yb * scaling + shift);
                }
        }
    }

    // dx (+)= the gradient through the norm; the gains' and biases' gradients are added up.
    template <bool ADD>
    __attribute__((noinline)) void norm_backward(const float* dy, const float* x, const float* statistics, long g,
                                                 long b, float* dx, long m) const {
        const float share = 1.f / (float)shape_.d_model;
        const float* gains = parameters + g;
        const float *means = statistics, *inverses = statistics + whole(rows, W);
        float *dgain = into + g, *dbias = into + b;
        for (long i = 0; i < m; i += W, x += W * ld, dy += W * ld, dx += W * ld) {
            const long n = std::min<long>(W, m - i);
            Vector sum[W] = {}, product[W] = {};
            for (long r = 0; r < n; r += 2)
                for (long j = 0; j < d; j += W) {
                    const Vector ua = (load(x + r * ld + j) - means[i + r]) * inverses[i + r];
                    const Vector ub = (load(x + (r + 1) * ld + j) - means[i + r + 1]) * inverses[i + r + 1];
                    const Vector da = load(dy + r * ld + j), db = load(dy + (r + 1) * ld + j), scaling = load(gains + j);
                    store(dgain + j, load(dgain + j) + da * ua + db * ub);
                    store(dbias + j, load(dbias + j) + (da + db));
                    sum[r] += da * scaling;
                    sum[r + 1] += db * scaling;
                    product[r] += da * scaling * ua;
                    product[r + 1] += db * scaling * ub;
                }
            float mean[W] __attribute__((aligned(64))), slope[W] __attribute__((aligned(64)));
            store(mean, reduce_each(sum, Plus{}) * share);
            store(slope, reduce_each(product, Plus{}) * share);
            for (long r = 0; r < n; r++)
                for (long j = 0; j < d; j += W) {
                    const Vector u = (load(x + r * ld + j) - means[i + r]) * inverses[i + r];
                    const Vector v = (load(dy + r * ld + j) * load(gains + j) - mean[r] - u * slope[r]) * inverses[i + r];
                    store(dx + r * ld + j, ADD ? load(dx + r * ld + j) + unpadded(v, j) : unpadded(v, j));
                }
        }
    }

    // ----------------------------------------------------------------------------------- attention

    static constexpr long QUERIES = 2 * TILE_ROWS;  // taken together; a multiple of W

    // Probabilities of m queries (whole tiles) from `i` over the first `columns` keys, from `scores`; zero after the
    // query's own key.
    void softmax(long i, long m, long columns, const Matrix& probabilities) const {
        constexpr int GROUP = 4;  // rows taken together, to hide latency
        const auto all = filled<F::Sum>;
        const float factor = scale * LOG2_E;
        F::Sum* const first = scores;
        const long stride = ld_scores, seen = i / COLUMNS, end = columns / COLUMNS;  // all see the vectors before `seen`
        alignas(64) float largest[QUERIES], inverse[QUERIES];
        Vector of_row[QUERIES];  // its largest score, then the sum of its exponentials, in parts
        if (m < QUERIES) std::fill(of_row + m, of_row + QUERIES, Vector{});
        for (long r = 0; r < m; r += GROUP) {
            const F::Sum* z = first + r * stride;
            F::Sum most[GROUP];
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) most[g] = below(z[g * stride + seen], i + r + g + 1 - seen * COLUMNS, -INFINITY);
            for (long j = seen + 1; j < end; j++)
#pragma GCC unroll 4
                for (int g = 0; g < GROUP; g++)
                    most[g] = maximum(most[g], below(z[g * stride + j], i + r + g + 1 - j * COLUMNS, -INFINITY));
            for (long j = 0; j < seen; j++)
#pragma GCC unroll 4
                for (int g = 0; g < GROUP; g++) most[g] = maximum(most[g], z[g * stride + j]);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) of_row[r + g] = maximum(part(most[g], 0), part(most[g], F::HALVES - 1));
        }
        for (long r = 0; r < QUERIES; r += W) store(largest + r, reduce_each(of_row + r, Larger{}) * factor);
        for (long r = 0; r < m; r += GROUP) {
            F::Sum* z = first + r * stride;
            F::Sum total[GROUP], shift[GROUP];
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) total[g] = F::Sum{}, shift[g] = all(largest[r + g]);
            for (long j = 0; j < end; j++) {
                F::Sum power[GROUP];
#pragma GCC unroll 4
                for (int g = 0; g < GROUP; g++) power[g] = exp2(z[g * stride + j] * all(factor) - shift[g]);
                if (j >= seen)
#pragma GCC unroll 4
                    for (int g = 0; g < GROUP; g++) power[g] = below(power[g], i + r + g + 1 - j * COLUMNS, 0);
#pragma GCC unroll 4
                for (int g = 0; g < GROUP; g++) total[g] += z[g * stride + j] = power[g];
            }
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) {
                of_row[r + g] = part(total[g], 0);
                if (F::HALVES == 2) of_row[r + g] += part(total[g], 1);
            }
        }
        for (long r = 0; r < QUERIES; r += W) store(inverse + r, 1.f / reduce_each(of_row + r, Plus{}));
        for (long r = 0; r < m; r += 2) {
            const F::Sum *a = first + r * stride, *b = a + stride;
            const F::Sum share_a = all(inverse[r]), share_b = all(inverse[r + 1]);
            for (long j = 0; j < end; j++) F::put_sums(probabilities, r, j * COLUMNS, a[j] * share_a, b[j] * share_b, true);
        }
    }
    // Those of the queries of a head from i on.
    Matrix probabilities_of(const Saved& s, long sequence, long h, long i) const {
        return F::at(s.probabilities, (sequence * heads + h) * T + i, 0);
    }

    __attribute__((noinline)) void attend(const Saved& s, long n) const {
        for (long q = 0; q < n; q++)
            for (long h = 0; h < heads; h++) {
                const Matrix query = F::at(s.qkv, q * T, h * head), key = F::at(s.qkv, q * T, inner + h * head);
                const Matrix value = F::at(s.qkv, q * T, 2 * inner + h * head);
                const Right key_columns = transpose(key, T, head, across, ld_across);
                for (long i = 0; i < T; i += QUERIES) {
                    const long m = std::min(QUERIES, T - i), columns = whole(i + m, COLUMNS);
                    const Matrix p = probabilities_of(s, q, h, i);
                    multiply(F::at(query, i, 0), key_columns, m, columns, sum_head, StoreSums{scores, ld_scores});
                    softmax(i, m, columns, p);
                    multiply(p, F::right(value), m, head, i + m, PutSums{F::at(s.attended, q * T + i, h * head)});
                }
            }
    }

    // dqkv from dattended
    __attribute__((noinline)) void attend_backward(const Saved& s, long n) const {
        for (long q = 0; q < n; q++)
            for (long h = 0; h < heads; h++) {
                const auto part = [&](const Matrix& m, long which) {
                    return F::at(m, q * T, which * inner + h * head);
                };
                const Matrix query = part(s.qkv, 0), key = part(s.qkv, 1), value = part(s.qkv, 2);
                const Matrix dquery = part(dqkv, 0), dkey = part(dqkv, 1), dvalue = part(dqkv, 2);
                const Matrix out = part(s.attended, 0), dout = part(dattended, 0);
                const Right value_columns = transpose(value, T, head, across, ld_across);
                for (long start = 0; start < T; start += QUERY_ROWS) {
                    const long stop = std::min(T, start + QUERY_ROWS);
                    for (long i = start; i < stop; i += QUERIES) {
                        const long m = std::min(QUERIES, stop - i), columns = whole(i + m, COLUMNS), row = i - start;
                        const Matrix p = probabilities_of(s, q, h, i), ds = F::at(dscores, row, 0);
                        Number delta[QUERIES];
                        Vector sum[QUERIES] = {};
                        for (long r = 0; r < m; r++)
                            for (long j = 0; j < head; j += W) sum[r] += F::get(out, i + r, j) * F::get(dout, i + r, j);
                        for (long r = 0; r < QUERIES; r += W) {
                            const Vector deltas = reduce_each(sum + r, Plus{});
                            for (long l = 0; l < W; l++) delta[r + l] = (Number)deltas[l];
                        }
                        multiply(F::at(dout, i, 0), value_columns, m, columns, sum_head,
                                 PutScores{ds, p, delta, scale});
                        multiply(ds, F::right(key), m, head, i + m, PutSums{F::at(dquery, i, 0)});
                    }
                    for (long j = 0; j < stop; j += QUERIES) {
                        const long m = std::min(QUERIES, stop - j), from = std::max(start, j), size = stop - from;
                        const Matrix p = F::at(probabilities_of(s, q, h, from), 0, j), ds = F::at(dscores, from - start, j);
                        const Right queries = F::right(F::at(query, from, 0)), douts = F::right(F::at(dout, from, 0));
                        if (stop < T) {  // later queries see these keys too
                            add_up(ds, queries, m, size, dkeys + j * ld_head, j >= start);
                            add_up(p, douts, m, size, dvalues + j * ld_head, j >= start);
                        } else if (j < start) {
                            multiply_transposed(ds, queries, m, head, size,
                                                PutAdded{F::at(dkey, j, 0), dkeys + j * ld_head, ld_head});
                            multiply_transposed(p, douts, m, head, size,
                                                PutAdded{F::at(dvalue, j, 0), dvalues + j * ld_head, ld_head});
                        } else {
                            multiply_transposed(ds, queries, m, head, size, PutSums{F::at(dkey, j, 0)});
                            multiply_transposed(p, douts, m, head, size, PutSums{F::at(dvalue, j, 0)});
                        }
                    }
                }
            }
    }
    void add_up(const Matrix& a, const Right& b, long m, long size, float* to, bool anew) const {
        if (anew)
            multiply_transposed(a, b, m, head, size, Store{to, ld_head});
        else
            multiply_transposed(a, b, m, head, size, Add{to, ld_head});
    }

    // ---------------------------------------------------------------------------------- the passes

    // From tokens to the final norm. Without TRAIN every block writes over the one before it.
    template <bool TRAIN>
    void forward(const uint16_t* tokens, long n, long sequence, long step) {
        if (shape_.lstm) return forward_lstm(tokens, n);
        const long m = n * T, layers = shape_.n_layer, total = layers * shape_.n_reuse;
        const bool drops = TRAIN && dropping();
        float* x = total ? saved_[0].input : final_input;
        for (long s = 0; s < n; s++)
            for (long t = 0; t < shape_.n_ctx; t++) {
                const float* e = parameters + embedding.at + (long)tokens[s * (shape_.n_ctx + 1) + t] * d;
                const float* p = parameters + position + t * d;
                for (long j = 0; j < d; j += W) store(x + (s * T + t) * ld + j, load(e + j) + load(p + j));
            }
        if (drops) drop(x, nullptr, x, n, sequence, step, 0);
        for (long k = 0; k < total; k++) {
            const Block& b = blocks_[k % layers];
            const Saved& s = saved_[TRAIN ? k : 0];
            if (shape_.n_reuse > 1 && k % layers == 0) {
                const float* p = parameters + depth + k / layers * d;
                for (long i = 0; i < m; i++)
                    for (long j = 0; j < d; j += W) store(x + i * ld + j, load(x + i * ld + j) + load(p + j));
            }
            const auto residual = [&](const Matrix& a, const Weight& w, const float* from, float* to, long site) {
                if (!drops) {
                    multiply(a, packed(w.forward, w.sum_inputs), m, d, w.sum_inputs, AddTo{to, from, ld});
                } else {
                    multiply(a, packed(w.forward, w.sum_inputs), m, d, w.sum_inputs, Store{branch, ld});
                    drop(branch, from, to, n, sequence, step, site);
                }
            };
            norm(x, b.gain1, b.bias1, s.statistics1, m, Put{s.norm1});
            multiply(s.norm1, packed(b.qkv.forward, width), m, 3 * inner, width, PutSums{s.qkv});
            attend(s, n);
            residual(s.attended, b.out, x, s.middle, 1 + 2 * k);
            norm(s.middle, b.gain2, b.bias2, s.statistics2, m, Put{s.norm2});
            multiply(s.norm2, packed(b.up.forward, width), m, ff, width, PutGelu{s.hidden, s.slope});
            float* next = k + 1 == total ? final_input : saved_[TRAIN ? k + 1 : 0].input;
            residual(s.hidden, b.down, s.middle, next, 2 + 2 * k);
            x = next;
        }
        norm(final_input, gain, bias, final_statistics, m, Store{final_norm, ld});
    }

    // The gradient of the weight that maps m rows of x to those of which dy is the gradient.
    void add_gradient(const Weight& w, const Matrix& x, const Matrix& dy, long m, bool anew) const {
        float* to = into + w.at;
        if (anew)
            multiply_transposed(x, F::right(dy), w.sum_inputs, w.outputs, m, Store{to, w.outputs});
        else
            multiply_transposed(x, F::right(dy), w.sum_inputs, w.outputs, m, Add{to, w.outputs});
    }

    // From the gradient of the final norm's output (in `branch`) to the gradients of all parameters. Those of the maps
    // are added to what is there, or with `anew` take its place.
    void backward(const uint16_t* tokens, long n, long sequence, long step, bool anew) {
        if (shape_.lstm) return backward_lstm(tokens, n, anew);
        const long m = n * T, layers = shape_.n_layer, total = layers * shape_.n_reuse;
        const auto dropped = [&](float* x, long site) {
            if (!dropping()) return x;
            drop(x, nullptr, branch, n, sequence, step, site);
            return branch;
        };
        norm_backward<false>(branch, final_input, final_statistics, gain, bias, stream, m);
        for (long k = total - 1; k >= 0; k--) {
            const Block& b = blocks_[k % layers];
            const Saved& s = saved_[k];
            const bool first = anew && k >= total - layers;  // use of the block

            Matrix dy = operand(dropped(stream, 2 + 2 * k), m);
            multiply(dy, packed(b.down.backward, width), m, ff, width, PutTimes{dhidden, s.slope});
            add_gradient(b.down, s.hidden, dy, m, first);
            add_gradient(b.up, s.norm2, dhidden, m, first);
            multiply(dhidden, packed(b.up.backward, b.up.sum_outputs), m, d, b.up.sum_outputs, Store{branch, ld});
            norm_backward<true>(branch, s.middle, s.statistics2, b.gain2, b.bias2, stream, m);

            dy = operand(dropped(stream, 1 + 2 * k), m);
            multiply(dy, packed(b.out.backward, width), m, inner, width, PutSums{dattended});
            add_gradient(b.out, s.attended, dy, m, first);
            attend_backward(s, n);
            add_gradient(b.qkv, s.norm1, dqkv, m, first);
            multiply(dqkv, packed(b.qkv.backward, 3 * inner), m, d, 3 * inner, Store{branch, ld});
            norm_backward<true>(branch, s.input, s.statistics1, b.gain1, b.bias1, stream, m);

            if (shape_.n_reuse > 1 && k % layers == 0) {
                float* p = into + depth + k / layers * d;
                for (long i = 0; i < m; i++)
                    for (long j = 0; j < d; j += W) store(p + j, load(p + j) + load(stream + i * ld + j));
            }
        }
        const float* dx = dropped(stream, 0);
        for (long s = 0; s < n; s++)
            for (long t = 0; t < shape_.n_ctx; t++) {
                float* e = into + embedding.at + (long)tokens[s * (shape_.n_ctx + 1) + t] * d;
                float* p = into + position + t * d;
                for (long j = 0; j < d; j += W) {
                    const Vector v = load(dx + (s * T + t) * ld + j);
                    store(e + j, load(e + j) + v);
                    store(p + j, load(p + j) + v);
                }
            }
    }

    // ---------------------------------------------------------------------------------------- LSTM

    // From tokens to the final norm, step by step. A layer's output, to which later layers add, is in `final_input`.
    void forward_lstm(const uint16_t* tokens, long n) {
        float* x = final_input;
        const float scaling = (float)(1 / settings_.embedding_std);
        for (long i = 0; i < rows; i++) {
            const Place p = place_of(i);
            const bool real = p.sequence < n;
            const float* e = parameters + embedding.at + (real ? tokens[p.sequence * (T + 1) + p.time] * d : 0);
            for (long j = 0; j < d; j += W) store(x + i * ld + j, real ? load(e + j) * scaling : Vector{});
        }
        for (long k = 0; k < shape_.n_layer; k++) {
            const Weight& w = layers_[k].weight;
            const Steps& s = steps_[k];
            for (long i = 0; i < rows; i += 2)
                for (long j = 0; j < d; j += W) F::put(s.inputs, i, j, load(x + i * ld + j), load(x + (i + 1) * ld + j));
            for (long i = 0; i < rows; i += STEP_ROWS) {
                multiply(F::at(s.inputs, i, 0), packed(w.forward, w.sum_inputs), STEP_ROWS, 4 * d, w.sum_inputs,
                         Store{sums_of_step, ld_step});
                step_forward(s, layers_[k].bias, i, x, k > 0);
            }
        }
        norm(x, gain, bias, final_statistics, rows, Store{final_norm, ld});
    }

    // Cell and state of the rows from i on, from the sums at their gates. The state is (added to) the layer's output.
    __attribute__((noinline)) void step_forward(const Steps& s, long bias_at, long i, float* x, bool add) const {
        for (long r = 0; r < STEP_ROWS; r += 2)
            for (long j = 0; j < d; j += W) {
                Vector gate[4][2], state[2];
                for (long p = 0; p < 2; p++) {
                    const float *sum = sums_of_step + (r + p) * ld_step + j, *shift = parameters + bias_at + j;
                    const long at = (i + r + p) * ld + j;
                    for (long q = 0; q < 4; q++) {
                        const Vector z = load(sum + q * d) + load(shift + q * d);
                        gate[q][p] = q == 2 ? tanh(z) : sigmoid(z);
                    }
                    const Vector before = i ? load(s.cell + at - STEP_ROWS * ld) : Vector{};
                    const Vector cell = gate[1][p] * before + gate[0][p] * gate[2][p];
                    state[p] = gate[3][p] * tanh(cell);
                    store(s.cell + at, cell);
                    store(x + at, add ? load(x + at) + state[p] : state[p]);
                }
                for (long q = 0; q < 4; q++) F::keep(s.gates, i + r, q * d + j, gate[q][0], gate[q][1]);
                if (i + STEP_ROWS < rows) F::put(s.inputs, i + STEP_ROWS + r, d + j, state[0], state[1]);
            }
    }

    // From the gradient of the final norm's output (in `branch`) to the gradients of all parameters.
    void backward_lstm(const uint16_t* tokens, long n, bool anew) {
        norm_backward<false>(branch, final_input, final_statistics, gain, bias, stream, rows);
        for (long k = shape_.n_layer - 1; k >= 0; k--) {
            const Weight& w = layers_[k].weight;
            std::memset(sums_of_step, 0, STEP_ROWS * ld_step * 4);
            std::memset(dcell, 0, STEP_ROWS * ld * 4);
            for (long i = rows - STEP_ROWS; i >= 0; i -= STEP_ROWS) {
                step_backward(steps_[k], layers_[k].bias, i);
                multiply(F::at(dgates, i, 0), packed(w.backward, w.sum_outputs), STEP_ROWS, 2 * d, w.sum_outputs,
                         Store{sums_of_step, ld_step});
                for (long r = 0; r < STEP_ROWS; r++)
                    for (long j = 0; j < d; j += W) {
                        float* dx = stream + (i + r) * ld + j;
                        const Vector v = load(sums_of_step + r * ld_step + j);
                        store(dx, k ? load(dx) + v : v);
                    }
            }
            add_gradient(w, steps_[k].inputs, dgates, rows, anew);
        }
        const float scaling = (float)(1 / settings_.embedding_std);
        for (long i = 0; i < rows; i++) {
            const Place p = place_of(i);
            if (p.sequence >= n) continue;
            float* e = into + embedding.at + tokens[p.sequence * (T + 1) + p.time] * d;
            for (long j = 0; j < d; j += W) store(e + j, load(e + j) + load(stream + i * ld + j) * scaling);
        }
    }

    // The gradient of the sums at the gates of the rows from i on. That of their state comes from the layer's output and
    // from the next step (in `sums_of_step`, after that of its input), that of their cell from the next step (`dcell`).
    __attribute__((noinline)) void step_backward(const Steps& s, long bias_at, long i) const {
        for (long r = 0; r < STEP_ROWS; r += 2)
            for (long j = 0; j < d; j += W) {
                Vector dz[4][2];
                for (long p = 0; p < 2; p++) {
                    const long at = (i + r + p) * ld + j;
                    const auto gate = [&](long q) { return F::get(s.gates, i + r + p, q * d + j); };
                    const Vector input = gate(0), forget = gate(1), candidate = gate(2), output = gate(3);
                    const Vector before = i ? load(s.cell + at - STEP_ROWS * ld) : Vector{};
                    const Vector shown = tanh(load(s.cell + at));
                    const Vector dstate = load(stream + at) + load(sums_of_step + (r + p) * ld_step + d + j);
                    float* later = dcell + (r + p) * ld + j;
                    const Vector dc = load(later) + dstate * output * (1.f - shown * shown);
                    store(later, dc * forget);
                    dz[0][p] = dc * candidate * input * (1.f - input);
                    dz[1][p] = dc * before * forget * (1.f - forget);
                    dz[2][p] = dc * input * (1.f - candidate * candidate);
                    dz[3][p] = dstate * shown * output * (1.f - output);
                }
                for (long q = 0; q < 4; q++) {
                    F::put(dgates, i + r, q * d + j, dz[q][0], dz[q][1]);
                    float* db = into + bias_at + q * d + j;
                    store(db, load(db) + dz[q][0] + dz[q][1]);
                }
            }
    }

    // ------------------------------------------------------------------------------- cross-entropy

    // The summed loss; each row's in `losses`. With TRAIN also its gradient, of the final norm's output (in `branch`)
    // and of the embedding. A vocabulary whose logits fit is read once; a larger one in chunks, twice. The gradient of
    // the logits is softmax minus one at the target: the target's part, the largest, is added in float32.
    template <bool TRAIN>
    double cross_entropy(const uint16_t* tokens, long n) {
        double sum = 0;
        const bool single = vocab_chunk == vocab;
        for (long start = 0; start < rows_of(n); start += loss_rows) {
            const long m = std::min(loss_rows, rows_of(n) - start);
            float *h = final_norm + start * ld, *dh = branch + start * ld;
            const Matrix left = operand(h, m);
            for (long i = 0; i < m; i++) row_maximum[i] = -INFINITY, row_sum[i] = 0;
            for (long v = 0; v < vocab; v += vocab_chunk) {
                const long size = std::min(vocab_chunk, vocab - v);
                multiply_logits(left, m, v, size);
                for (long i = 0; i < m; i++) {
                    const long y = target(tokens, n, start + i) - v;
                    if (y >= 0 && y < size) row_target[i] = reinterpret_cast<const Number*>(logits + i * ld_logits)[y];
                }
                for (long i = 0; i < m; i += 2) gather(i, v, size, TRAIN && single);
            }
            for (long i = 0; i < m; i++) {
                const bool real = target(tokens, n, start + i) >= 0;
                losses[start + i] = real ? (row_maximum[i] + std::log2(row_sum[i])) * LN_2 - row_target[i] : 0;
                row_scale[i] = real ? 1.f / row_sum[i] : 0;
                sum += losses[start + i];
            }
            if (!TRAIN) continue;
            for (long i = 0; i < m; i += 2)
                for (long j = 0; j < d; j += W)
                    F::put(scaled, i, j, load(h + i * ld + j) * row_scale[i],
                           load(h + (i + 1) * ld + j) * row_scale[i + 1]);
            for (long i = 0; i < m; i++) {
                const long y = target(tokens, n, start + i);
                const float* e = parameters + embedding.at + y * d;
                float* de = into + embedding.at + y * d;
                for (long j = 0; j < d; j += W) {
                    store(dh + i * ld + j, y < 0 ? Vector{} : -load(e + j));
                    if (y >= 0) store(de + j, load(de + j) - load(h + i * ld + j));
                }
            }
            for (long v = 0; v < vocab; v += vocab_chunk) {
                const long size = std::min(vocab_chunk, vocab - v);
                if (!single) {
                    multiply_logits(left, m, v, size);
                    for (long i = 0; i < m; i += 2)
                        exponentiate(i, v, size, [&](long j, Vector a, Vector b) { F::put(exponentials, i, j, a, b); });
                }
                Right e = packed(embedding.forward, embedding.sum_inputs);  // the chunk is some of its rows
                e.at += v / F::DEPTH * W;
                multiply(exponentials, e, m, d, std::min(size, embedding.sum_inputs - v), AddScaledRow{dh, ld, row_scale});
                multiply_transposed(exponentials, F::right(scaled), size, d, m, Add{into + embedding.at + v * d, d});
            }
        }
        return sum;
    }

    // The token that follows row i of a chunk of n sequences, or -1 in the padding.
    long target(const uint16_t* tokens, long n, long i) const {
        const Place p = place_of(i);
        return p.sequence < n && p.time < shape_.n_ctx ? tokens[p.sequence * (shape_.n_ctx + 1) + p.time + 1] : -1;
    }
    void multiply_logits(const Matrix& left, long m, long v, long size) const {
        const Word* e = embedding.backward + packed_words(width, v);
        multiply(left, packed(e, width), m, size, width, StoreSums{logits, ld_logits});
    }
    // Logits of rows i and i + 1 into the exponentials of their distance from the largest so far, and their sum.
    void gather(long i, long v, long size, bool keep) const {
        const long real = shape_.n_vocab - v;
        for (int r = 0; r < 2; r++) {
            const F::Sum* z = logits + (i + r) * ld_logits;
            F::Sum top = below(z[0], real, -INFINITY);
            for (long j = COLUMNS; j < std::min(size, real); j += COLUMNS)
                top = maximum(top, below(z[j / COLUMNS], real - j, -INFINITY));
            const Vector widest = maximum(part(top, 0), part(top, F::HALVES - 1));
            const float largest = std::max(row_maximum[i + r], reduce(widest, Larger{})[0] * LOG2_E);
            row_sum[i + r] *= std::exp2(row_maximum[i + r] - largest);
            row_maximum[i + r] = largest;
        }
        Vector total[2] = {};
        exponentiate(i, v, size, [&](long j, Vector a, Vector b) {
            total[0] += a;
            total[1] += b;
            if (keep) F::put(exponentials, i, j, a, b);
        });
        for (int r = 0; r < 2; r++) row_sum[i + r] += reduce(total[r], Plus{})[0];
    }
    // Give the exponentials of rows i and i + 1 to `out`, W columns at a time.
    template <class Out>
    void exponentiate(long i, long v, long size, const Out& out) const {
        const long real = shape_.n_vocab - v;
        const F::Sum *y = logits + i * ld_logits, *z = y + ld_logits;
        const float a = row_maximum[i], b = row_maximum[i + 1];
        for (long j = 0; j < size; j += COLUMNS, y++, z++)
            for (int h = 0; h < F::HALVES && j + h * W < size; h++) {
                Vector ey = exp2(part(*y, h) * LOG2_E - a), ez = exp2(part(*z, h) * LOG2_E - b);
                const long left = real - j - h * W;
                if (left < W) ey = below(ey, left, 0), ez = below(ez, left, 0);
                out(j + h * W, ey, ez);
            }
    }

    // ----------------------------------------------------------------------------------- optimizer

    double square_norm(const float* g) const {
        double total = 0;
        for (long start = 0; start < size_; start += 64 * W) {
            Vector sum = Vector{};
            for (long i = start; i < std::min(size_, start + 64 * W); i += W) sum += load(g + i) * load(g + i);
            total += reduce(sum, Plus{})[0];
        }
        return total;
    }

    __attribute__((noinline)) void descend(long at, long n, float factor, float decay, float rate, float correction) {
        const float b1 = (float)settings_.beta1, c1 = (float)(1 - settings_.beta1);
        const float b2 = (float)settings_.beta2, c2 = (float)(1 - settings_.beta2), eps = (float)settings_.eps;
        for (long i = at; i < at + n; i += W) {
            const Vector g = load(gradient + i) * factor;
            const Vector m = load(first + i) * b1 + g * c1, v = load(second + i) * b2 + g * (g * c2);
            store(first + i, m);
            store(second + i, v);
            const Vector square = v * correction + 1e-30f;  // far below any eps, so that zero has a root
            const Vector root = square * inverse_root(square);
            store(parameters + i, load(parameters + i) * decay - m * rate * reciprocal(root + eps));
        }
    }

   private:
    Shape shape_;
    Settings settings_;
    std::vector<Tensor> tensors_;
    std::vector<Block> blocks_;
    std::vector<Saved> saved_;
    std::vector<Layer> layers_;
    std::vector<Steps> steps_;
    Arena arena_;
    long size_ = 0;  // of the padded vector
    bool stale_ = true;     // the packed weights are older than the parameters
    long T, heads, d, head, inner, ff, vocab;  // padded
    long width;                                // d_model in whole tiles: what products sum over
    long sequences, rows;                      // in a chunk, at most
    long ld, ld_across, ld_scores, ld_head = 0, ld_logits, vocab_chunk, loss_rows;
    long sum_head;  // of a head's width: what products sum over
    float scale, keep_scale;
    uint32_t threshold;

    float *parameters, *first, *second, *gradient;
    float *half, *into;  // the gradient of half a batch; the gradient now added to
    Weight embedding;    // as a map from tokens to vectors: `forward` has the vocabulary as depth
    long position = 0, depth = 0, gain = 0, bias = 0;
    float *final_input, *final_statistics, *final_norm;
    float *stream, *branch;  // gradient of the residual stream; of one branch of it
    Matrix narrow, dattended, dqkv, dhidden;
    Matrix scaled, exponentials;  // final norm / sum of exponentials, by row
    F::Sum* logits;
    float *losses, *row_maximum, *row_sum, *row_target, *row_scale;
    Word* across;  // keys or values of one head, transposed
    Matrix dscores;
    F::Sum* scores;  // of a few queries
    float *dkeys, *dvalues;
    Matrix dgates;
    long ld_step = 0;
    float *sums_of_step, *dcell;
    float* strip;
};

extern "C" {

Engine* native_create(const Shape* shape, const Settings* settings) {
    Engine* engine = new Engine(*shape, *settings);
    if (engine->allocate()) return engine;
    delete engine;
    return nullptr;
}

void native_destroy(Engine* engine) { delete engine; }

// which: 0 parameters, 1 first moment, 2 second moment, 3 gradient
void native_copy(Engine* engine, int which, float* flat, int in) { engine->copy(which, flat, in); }

double native_gradient(Engine* engine, const uint16_t* tokens, int64_t batch, int64_t step) {
    FlushTiny flush;
    const double loss = engine->differentiate(tokens, batch, step, nullptr);
    engine->take_mean(batch);
    return loss;
}

// measured: loss, gradient norm and, with `noise`, the squared gradient norms of both halves of the batch
void native_step(Engine* engine, const uint16_t* tokens, int64_t batch, int64_t step, double lr, int noise,
                 double* measured) {
    FlushTiny flush;
    measured[0] = engine->differentiate(tokens, batch, step, noise ? measured + 2 : nullptr);
    measured[1] = engine->update(lr, step, batch);
}

void native_evaluate(Engine* engine, const uint16_t* tokens, int64_t count, double* sums) {
    FlushTiny flush;
    engine->evaluate(tokens, count, sums);
}
}
