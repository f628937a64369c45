// Formats of operands: what a word of a matrix holds, and how two words are multiplied and added to a sum.
//
// A product is a sum over depth of an element of the left operand, broadcast, times a vector of the right operand. An
// element is what is read and broadcast at once: one number, or two neighbours in depth. A matrix that is an operand is
// kept in one form that serves all, or in two:
//
//   first    for  X @ ..
//   second   for  X^T @ .. and  .. @ X
//
// Formats differ in what a word holds, so only they know the addresses.

#pragma once

#include "memory.hpp"
#include "vectors.hpp"

namespace {

// Names: ld, the leading dimension, is how many words (or floats) lie from row to row.
struct Matrix {
    Word *first, *second;
    long ld_first, ld_second;  // words from row to row
};

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
        const __m512i twice = _mm512_mullo_epi32((__m512i)lanes(), _mm512_set1_epi32(0x10001));  // each in both halves
        return _mm512_add_epi32(_mm512_set1_epi32(16 << 16), twice);
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

// A new matrix of zeros.
inline Matrix take_matrix(Arena& arena, long rows, long columns) {
    Matrix m = F::matrix(rows, columns);
    m.first = arena.words(F::first_words(m, rows));
    m.second = arena.words(F::second_words(m, rows));
    return m;
}

}  // namespace
