// Matrix products: C = A B and C = A^T B, in tiles of TILE_ROWS rows and up to 3 vectors that stay in registers.
//
//   A      (rows x depth), or (depth x rows) when it is transposed: read number by number and broadcast, so that a
//          transposed left operand costs nothing
//   B      (depth x columns): read in vectors
//   C      given to an output, two rows and one vector at a time, while it is in registers: what follows a product
//          (an addition, GELU, the derivative of softmax) is done there
//
// Rows are whole tiles; columns and depth are whole vectors. A depth above F::SEGMENT is summed in segments.

#pragma once

#include "formats.hpp"

namespace {

// What is done with a product. An output is called with rows i and i + 1, W columns from j, as floats; one that has a
// member `take` gets whole sums in their own format instead.
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
struct Put {
    Matrix m;
    INLINE void operator()(long i, long j, Vector a, Vector b) const { F::put(m, i, j, a, b); }
};
struct PutSums {  // the same, of sums as they are where that is possible
    Matrix m;
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool all) const { F::put_sums(m, i, j, a, b, all); }
};
struct PutAdded {  // m = source + product
    Matrix m;
    const float* source;
    long ld;
    INLINE void operator()(long i, long j, Vector a, Vector b) const {
        F::put(m, i, j, load(source + i * ld + j) + a, load(source + (i + 1) * ld + j) + b);
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

}  // namespace
