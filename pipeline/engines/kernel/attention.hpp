// Causal attention (Vaswani et al. 2017) of one sequence and one head:
//
//   s = q k^T / sqrt(d_head)      p = softmax(s) over the keys up to the query's own      out = p v
//
//   dv = p^T dout        dp = dout v^T        ds = p (dp - delta) / sqrt(d_head)        dq = ds k        dk = ds^T q
//   delta = sum over d_head of out dout
//
// The derivative of softmax asks for delta = sum over keys of p dp. That is the same number, since dp = sum over d_head
// of dout v and out = sum over keys of p v; and it is found before dp is, so that ds is made of dp in registers.
//
//   qkv, dqkv        (n T x 3 heads head) operands: all queries' heads, then all keys', then all values'
//   out, dout        (n T x heads head)   operands
//   probabilities    (sequences heads T x T) operand, kept for the backward pass
//
// T is whole tiles and `head` is d_head in whole vectors: the padding of each head is zero. A few queries (QUERIES) are
// taken together. The keys after the last of them are not looked at, neither forward nor backward.

#pragma once

#include "functions.hpp"
#include "products.hpp"
#include "packing.hpp"

namespace {

constexpr long QUERIES = 2 * TILE_ROWS;  // taken together; a multiple of W
constexpr long QUERY_ROWS = 128;         // rows of ds held at a time in the backward pass

// ds = scale p (dp - delta), from dp.
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

// Probabilities of m queries (whole tiles) from `i` on over the first `columns` keys, zero after the query's own key.
// `scores` (m x columns, rows `ld` sums apart) are q k^T; they are written over.
NOINLINE inline void softmax(F::Sum* scores, long ld, long i, long m, long columns, float scale,
                             const Matrix& probabilities) {
    constexpr int GROUP = 4;  // rows taken together, to hide latency
    const auto all = filled<F::Sum>;
    const float factor = scale * LOG2_E;
    const long seen = i / COLUMNS, end = columns / COLUMNS;  // all see the vectors before `seen`
    alignas(64) float largest[QUERIES], inverse[QUERIES];
    Vector of_row[QUERIES];  // its largest score, then the sum of its exponentials, in parts
    if (m < QUERIES) std::fill(of_row + m, of_row + QUERIES, Vector{});
    for (long r = 0; r < m; r += GROUP) {
        const F::Sum* z = scores + r * ld;
        F::Sum most[GROUP];
#pragma GCC unroll 4
        for (int g = 0; g < GROUP; g++) most[g] = below(z[g * ld + seen], i + r + g + 1 - seen * COLUMNS, -INFINITY);
        for (long j = seen + 1; j < end; j++)
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++)
                most[g] = maximum(most[g], below(z[g * ld + j], i + r + g + 1 - j * COLUMNS, -INFINITY));
        for (long j = 0; j < seen; j++)
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) most[g] = maximum(most[g], z[g * ld + j]);
#pragma GCC unroll 4
        for (int g = 0; g < GROUP; g++) of_row[r + g] = maximum(part(most[g], 0), part(most[g], F::HALVES - 1));
    }
    for (long r = 0; r < QUERIES; r += W) store(largest + r, reduce_each(of_row + r, Larger{}) * factor);
    for (long r = 0; r < m; r += GROUP) {
        F::Sum* z = scores + r * ld;
        F::Sum total[GROUP], shift[GROUP];
#pragma GCC unroll 4
        for (int g = 0; g < GROUP; g++) total[g] = F::Sum{}, shift[g] = all(largest[r + g]);
        for (long j = 0; j < end; j++) {
            F::Sum power[GROUP];
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) power[g] = exp2(z[g * ld + j] * all(factor) - shift[g]);
            if (j >= seen)
#pragma GCC unroll 4
                for (int g = 0; g < GROUP; g++) power[g] = below(power[g], i + r + g + 1 - j * COLUMNS, 0);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) total[g] += z[g * ld + j] = power[g];
        }
#pragma GCC unroll 4
        for (int g = 0; g < GROUP; g++) {
            of_row[r + g] = part(total[g], 0);
            if (F::HALVES == 2) of_row[r + g] += part(total[g], 1);
        }
    }
    for (long r = 0; r < QUERIES; r += W) store(inverse + r, 1.f / reduce_each(of_row + r, Plus{}));
    for (long r = 0; r < m; r += 2) {
        const F::Sum *a = scores + r * ld, *b = a + ld;
        const F::Sum share_a = all(inverse[r]), share_b = all(inverse[r + 1]);
        for (long j = 0; j < end; j++)
            F::put_sums(probabilities, r, j * COLUMNS, a[j] * share_a, b[j] * share_b, true);
    }
}

// Sizes and working memory, which all blocks of a model share.
struct Attention {
    long T, heads, head, inner;  // inner = heads head
    long sum_head;               // d_head in whole tiles: what products sum over
    float scale;                 // 1 / sqrt(d_head)
    long ld_across, ld_scores, ld_head;
    Word* across;           // keys or values of one head, transposed
    F::Sum* scores;         // of a few queries
    Matrix dscores;         // ds of QUERY_ROWS queries
    float *dkeys, *dvalues;  // of one head, of the queries so far, where they take more than QUERY_ROWS

    Attention(long T, long heads, long d_head)
        : T(T),
          heads(heads),
          head(whole(d_head, UNIT)),
          inner(heads * head),
          sum_head(whole(d_head, TILE_ROWS)),
          scale(1.f / std::sqrt((float)d_head)),
          ld_across(stride(whole(T, W))),
          ld_scores(whole(T, COLUMNS) / COLUMNS),
          ld_head(stride(head)) {}

    void place(Arena& arena) {
        across = arena.words(whole(head, W * F::ACROSS) * ld_across);
        dscores = take_matrix(arena, QUERY_ROWS, whole(T, COLUMNS));
        scores = reinterpret_cast<F::Sum*>(arena.take(QUERIES * ld_scores * W));
        if (T <= QUERY_ROWS) return;
        dkeys = arena.take(T * ld_head);
        dvalues = arena.take(T * ld_head);
    }
    Matrix take_probabilities(Arena& arena, long sequences) const {
        return take_matrix(arena, heads * sequences * T, whole(T, COLUMNS));
    }

    // A sequence's head: its part of probabilities, and of one of queries (0), keys (1) and values (2).
    Matrix rows_of(const Matrix& probabilities, long sequence, long h) const {
        return F::at(probabilities, (sequence * heads + h) * T, 0);
    }
    Matrix part_of(const Matrix& m, long sequence, long h, long which) const {
        return F::at(m, sequence * T, which * inner + h * head);
    }

    // `probabilities` and `out` of n sequences, from qkv.
    NOINLINE void forward(const Matrix& qkv, long n, const Matrix& probabilities, const Matrix& out) {
        for (long q = 0; q < n; q++)
            for (long h = 0; h < heads; h++) {
                const Matrix query = part_of(qkv, q, h, 0), key = part_of(qkv, q, h, 1), value = part_of(qkv, q, h, 2);
                const Matrix p_of_head = rows_of(probabilities, q, h), out_of_head = part_of(out, q, h, 0);
                const Right key_columns = transpose(key, T, head, across, ld_across);
                for (long i = 0; i < T; i += QUERIES) {
                    const long m = std::min(QUERIES, T - i), columns = whole(i + m, COLUMNS);
                    const Matrix p = F::at(p_of_head, i, 0);
                    multiply(F::at(query, i, 0), key_columns, m, columns, sum_head, StoreSums{scores, ld_scores});
                    softmax(scores, ld_scores, i, m, columns, scale, p);
                    multiply(p, F::right(value), m, head, i + m, PutSums{F::at(out_of_head, i, 0)});
                }
            }
    }

    // dqkv from dout and from what the forward pass read and wrote.
    NOINLINE void backward(const Matrix& qkv, const Matrix& probabilities, const Matrix& out, const Matrix& dout,
                           long n, const Matrix& dqkv) {
        for (long q = 0; q < n; q++)
            for (long h = 0; h < heads; h++) {
                const Matrix value_rows = part_of(qkv, q, h, 2);
                const Right value_columns = transpose(value_rows, T, head, across, ld_across);
                for (long start = 0; start < T; start += QUERY_ROWS) {
                    const long stop = std::min(T, start + QUERY_ROWS);
                    backward_queries(part_of(qkv, q, h, 1), value_columns, rows_of(probabilities, q, h),
                                     part_of(out, q, h, 0), part_of(dout, q, h, 0), start, stop,
                                     part_of(dqkv, q, h, 0));
                    backward_keys(part_of(qkv, q, h, 0), rows_of(probabilities, q, h), part_of(dout, q, h, 0), start,
                                  stop, part_of(dqkv, q, h, 1), part_of(dqkv, q, h, 2));
                }
            }
    }

   private:
    // `dscores` of the queries from `start` to `stop`, and dq from it.
    INLINE void backward_queries(const Matrix& key, const Right& value_columns, const Matrix& probabilities,
                                 const Matrix& out, const Matrix& dout, long start, long stop, const Matrix& dquery) {
        for (long i = start; i < stop; i += QUERIES) {
            const long m = std::min(QUERIES, stop - i), columns = whole(i + m, COLUMNS), row = i - start;
            const Matrix p = F::at(probabilities, i, 0), ds = F::at(dscores, row, 0);
            Number delta[QUERIES];
            Vector sum[QUERIES] = {};
            for (long r = 0; r < m; r++)
                for (long j = 0; j < head; j += W) sum[r] += F::get(out, i + r, j) * F::get(dout, i + r, j);
            for (long r = 0; r < QUERIES; r += W) {
                const Vector deltas = reduce_each(sum + r, Plus{});
                for (long l = 0; l < W; l++) delta[r + l] = (Number)deltas[l];
            }
            multiply(F::at(dout, i, 0), value_columns, m, columns, sum_head, PutScores{ds, p, delta, scale});
            multiply(ds, F::right(key), m, head, i + m, PutSums{F::at(dquery, i, 0)});
        }
    }

    // What the queries from `start` to `stop`, of which `dscores` are, add to dk and dv. It is gathered in floats while
    // later queries are to come.
    INLINE void backward_keys(const Matrix& query, const Matrix& probabilities, const Matrix& dout, long start,
                              long stop, const Matrix& dkey, const Matrix& dvalue) {
        for (long j = 0; j < stop; j += QUERIES) {
            const long m = std::min(QUERIES, stop - j), from = std::max(start, j), size = stop - from;
            const Matrix p = F::at(probabilities, from, j), ds = F::at(dscores, from - start, j);
            const Right queries = F::right(F::at(query, from, 0)), douts = F::right(F::at(dout, from, 0));
            const long at = j * ld_head;
            if (stop < T) {
                add_up(ds, queries, m, size, dkeys + at, j >= start);
                add_up(p, douts, m, size, dvalues + at, j >= start);
            } else if (j < start) {
                multiply_transposed(ds, queries, m, head, size, PutAdded{F::at(dkey, j, 0), dkeys + at, ld_head});
                multiply_transposed(p, douts, m, head, size, PutAdded{F::at(dvalue, j, 0), dvalues + at, ld_head});
            } else {
                multiply_transposed(ds, queries, m, head, size, PutSums{F::at(dkey, j, 0)});
                multiply_transposed(p, douts, m, head, size, PutSums{F::at(dvalue, j, 0)});
            }
        }
    }
    void add_up(const Matrix& a, const Right& b, long m, long size, float* to, bool anew) {
        if (anew)
            multiply_transposed(a, b, m, head, size, Store{to, ld_head});
        else
            multiply_transposed(a, b, m, head, size, Add{to, ld_head});
    }
};

}  // namespace
