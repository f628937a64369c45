// Cross-entropy of the next token, with logits from the embedding's own vectors:
//
//   z = h e^T        loss = log(sum over the vocabulary of exp(z)) - z[target]
//
//   dz = softmax(z) - (1 at the target)        dh = dz e        de += dz^T h
//
//   h, dh      (m x d_model) floats        the final norm's output; dh takes the place of what is there
//   e, de      (n_vocab x d_model) floats  the embedding; `weight` has it as a map from tokens to vectors
//   targets    (m) tokens, or -1 where a row is padding: its loss and gradient are zero
//   losses     (m) floats
//
// Logits exist for a block of rows at a time. Softmax is exp(z - largest) times 1 / (their sum), by row; that factor
// is applied to what is multiplied with the exponentials, not to them. So a vocabulary whose logits fit is gone through
// once. A larger one goes in chunks, twice: for the sums, then for the gradient. The part of dz at the target, the
// largest, is added in float32.

#pragma once

#include "functions.hpp"
#include "linear.hpp"

namespace {

constexpr long LOGITS = 128 * 1024;  // logits held at a time: half a megabyte
constexpr long VOCAB_CHUNK = 2048;   // columns of logits held at a time

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

// Sizes and working memory.
struct CrossEntropy {
    Width width;
    long n_vocab, vocab;      // true and padded
    long chunk, block;        // columns and rows of logits held at a time
    long ld_logits;           // in sums
    Matrix exponentials;      // exp(z - largest)
    F::Sum* logits;           // in the same memory where the format allows it
    Matrix scaled;            // h / sum
    float *largest, *sum;     // by row: log2(e) times the largest logit, the sum of the exponentials
    float *at_target, *scale;  // by row: the target's logit, 1 / sum

    CrossEntropy(const Width& width, long n_vocab, long rows)
        : width(width),
          n_vocab(n_vocab),
          vocab(whole(n_vocab, UNIT)),
          chunk(std::min(vocab, VOCAB_CHUNK)),
          block(std::max<long>(TILE_ROWS, std::min(rows, LOGITS / chunk / TILE_ROWS * TILE_ROWS))),
          ld_logits(stride(whole(chunk, COLUMNS) / F::HALVES) / W) {}

    void place(Arena& arena) {
        scaled = take_matrix(arena, block, width.padded);
        exponentials = take_matrix(arena, block, chunk);
        logits = reinterpret_cast<F::Sum*>(F::PLAIN ? exponentials.first : arena.words(block * ld_logits * W));
        largest = arena.take(block);
        sum = arena.take(block);
        at_target = arena.take(block);
        scale = arena.take(block);
    }

    // The summed loss of m rows, and each row's; `h` is an operand.
    double forward(const Matrix& h, const Weight& weight, const int32_t* targets, long m, float* losses) {
        double total = 0;
        for (long i = 0; i < m; i += block)
            total += losses_of(F::at(h, i, 0), weight, targets + i, std::min(block, m - i), losses + i, false);
        return total;
    }

    // The same, and the gradient of the summed loss; h is there as floats too.
    double forward_backward(const Matrix& h, const float* h_floats, const Weight& weight, const float* e,
                            const int32_t* targets, long m, float* losses, float* dh, float* de) {
        double total = 0;
        const bool once = chunk == vocab;
        for (long i = 0; i < m; i += block) {
            const long n = std::min(block, m - i), at = i * width.ld;
            const Matrix left = F::at(h, i, 0);
            total += losses_of(left, weight, targets + i, n, losses + i, once);
            subtract_targets(h_floats + at, e, targets + i, n, dh + at, de);
            backward(left, h_floats + at, weight, n, !once, dh + at, de);
        }
        return total;
    }

   private:
    // `largest`, `sum`, `at_target`, `scale` and losses of m rows; with `keep` (and one chunk) also `exponentials`.
    double losses_of(const Matrix& h, const Weight& weight, const int32_t* targets, long m, float* losses, bool keep) {
        double total = 0;
        for (long i = 0; i < m; i++) largest[i] = -INFINITY, sum[i] = 0;
        for (long v = 0; v < vocab; v += chunk) {
            const long size = std::min(chunk, vocab - v);
            multiply_logits(h, weight, m, v, size);
            for (long i = 0; i < m; i++) {
                const long y = targets[i] - v;
                if (y >= 0 && y < size) at_target[i] = reinterpret_cast<const Number*>(logits + i * ld_logits)[y];
            }
            for (long i = 0; i < m; i += 2) gather(i, v, size, keep);
        }
        for (long i = 0; i < m; i++) {
            const bool real = targets[i] >= 0;
            losses[i] = real ? (largest[i] + std::log2(sum[i])) * LN_2 - at_target[i] : 0;
            scale[i] = real ? 1.f / sum[i] : 0;
            total += losses[i];
        }
        return total;
    }

    void multiply_logits(const Matrix& h, const Weight& weight, long m, long v, long size) {
        Right e = weight.backward();  // the chunk is some of its columns
        e.at += packed_words(weight.sum_outputs, v);
        multiply(h, e, m, size, weight.sum_outputs, StoreSums{logits, ld_logits});
    }

    // Logits of rows i and i + 1 into the exponentials of their distance from the largest so far, and their sum.
    void gather(long i, long v, long size, bool keep) {
        const long real = n_vocab - v;
        for (int r = 0; r < 2; r++) {
            const F::Sum* z = logits + (i + r) * ld_logits;
            F::Sum top = below(z[0], real, -INFINITY);
            for (long j = COLUMNS; j < std::min(size, real); j += COLUMNS)
                top = maximum(top, below(z[j / COLUMNS], real - j, -INFINITY));
            const Vector widest = maximum(part(top, 0), part(top, F::HALVES - 1));
            const float now = std::max(largest[i + r], reduce(widest, Larger{})[0] * LOG2_E);
            sum[i + r] *= std::exp2(largest[i + r] - now);
            largest[i + r] = now;
        }
        Vector total[2] = {};
        exponentiate(i, v, size, [&](long j, Vector a, Vector b) {
            total[0] += a;
            total[1] += b;
            if (keep) F::put(exponentials, i, j, a, b);
        });
        for (int r = 0; r < 2; r++) sum[i + r] += reduce(total[r], Plus{})[0];
    }

    // Give the exponentials of rows i and i + 1 to `out`, W columns at a time.
    template <class Out>
    void exponentiate(long i, long v, long size, const Out& out) const {
        const long real = n_vocab - v;
        const F::Sum *y = logits + i * ld_logits, *z = y + ld_logits;
        const float a = largest[i], b = largest[i + 1];
        for (long j = 0; j < size; j += COLUMNS, y++, z++)
            for (int h = 0; h < F::HALVES && j + h * W < size; h++) {
                Vector ey = exp2(part(*y, h) * LOG2_E - a), ez = exp2(part(*z, h) * LOG2_E - b);
                const long left = real - j - h * W;
                if (left < W) ey = below(ey, left, 0), ez = below(ez, left, 0);
                out(j + h * W, ey, ez);
            }
    }

    // The part of the gradient at the targets: dh = -e[target], de[target] -= h.
    void subtract_targets(const float* h, const float* e, const int32_t* targets, long m, float* dh, float* de) const {
        const long d = width.padded, ld = width.ld;
        for (long i = 0; i < m; i++) {
            const long y = targets[i];
            for (long j = 0; j < d; j += W) {
                store(dh + i * ld + j, y < 0 ? Vector{} : -load(e + y * d + j));
                if (y >= 0) store(de + y * d + j, load(de + y * d + j) - load(h + i * ld + j));
            }
        }
    }

    // dh += softmax(z) e and de += softmax(z)^T h, from `largest` and `scale`; with `again` the exponentials are made
    // first, else they are there.
    void backward(const Matrix& left, const float* h, const Weight& weight, long m, bool again, float* dh, float* de) {
        const long d = width.padded, ld = width.ld;
        for (long i = 0; i < m; i += 2)
            for (long j = 0; j < d; j += W)
                F::put(scaled, i, j, load(h + i * ld + j) * scale[i], load(h + (i + 1) * ld + j) * scale[i + 1]);
        for (long v = 0; v < vocab; v += chunk) {
            const long size = std::min(chunk, vocab - v);
            if (again) {
                multiply_logits(left, weight, m, v, size);
                for (long i = 0; i < m; i += 2)
                    exponentiate(i, v, size, [&](long j, Vector a, Vector b) { F::put(exponentials, i, j, a, b); });
            }
            Right e = weight.forward();  // the chunk is some of its rows
            e.at += v / F::DEPTH * W;
            multiply(exponentials, e, m, d, std::min(size, weight.sum_inputs - v), AddScaledRow{dh, ld, scale});
            multiply_transposed(exponentials, F::right(scaled), size, d, m, Add{de + v * d, d});
        }
    }
};

}  // namespace
