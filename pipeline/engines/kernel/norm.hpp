// Layer norm (Ba, Kiros and Hinton 2016), each row for itself:
//
//   u = (x - mean(x)) / sqrt(variance(x) + 1e-5)        y = gain u + bias
//
//   dgain += sum over rows of dy u        dbias += sum over rows of dy
//   dx = (g - mean(g) - u mean(g u)) / sqrt(variance(x) + 1e-5)    where g = gain dy
//
//   x, y, dy, dx                (m x d_model) floats, `width` says how far apart; the padding stays zero
//   gain, bias, dgain, dbias    (d_model)
//   mean, inverse               (m): of the rows, the means and 1 / sqrt(variance + 1e-5)
//
// Rows are taken W at a time, so that their sums are one vector.

#pragma once

#include "chunk.hpp"
#include "functions.hpp"

namespace {

constexpr float NORM_EPS = 1e-5f;

// What the backward pass needs of the forward one, by row, in whole vectors.
struct Statistics {
    float *mean, *inverse;
};
inline Statistics take_statistics(Arena& arena, long rows) {
    Statistics s;
    s.mean = arena.take(whole(rows, W));
    s.inverse = arena.take(whole(rows, W));
    return s;
}

// v where column j and the following ones exist, zero in the padding.
inline Vector unpadded(Vector v, long j, long real) { return j + W > real ? below(v, real - j, 0) : v; }

// y is given to `out`, two rows at a time.
template <class Out>
NOINLINE void norm(const Width& width, const float* x, const float* gain, const float* bias, const Statistics& to,
                   long m, const Out& out) {
    const long real = width.real, d = width.padded, ld = width.ld;
    const float share = 1.f / (float)real;
    float *mean = to.mean, *inverse = to.inverse;
    for (long i = 0; i < m; i += W, x += W * ld) {
        const long n = std::min<long>(W, m - i);
        Vector sum[W] = {};
        for (long r = 0; r < n; r++)
            for (long j = 0; j < d; j += W) sum[r] += load(x + r * ld + j);
        store(mean + i, reduce_each(sum, Plus{}) * share);
        for (long r = 0; r < n; r++) {
            sum[r] = Vector{};
            for (long j = 0; j < d; j += W) {
                const Vector v = unpadded(load(x + r * ld + j) - mean[i + r], j, real);
                sum[r] += v * v;
            }
        }
        store(inverse + i, inverse_root(reduce_each(sum, Plus{}) * share + NORM_EPS));
        for (long r = 0; r < n; r += 2)
            for (long j = 0; j < d; j += W) {
                const Vector ya = (load(x + r * ld + j) - mean[i + r]) * inverse[i + r];
                const Vector yb = (load(x + (r + 1) * ld + j) - mean[i + r + 1]) * inverse[i + r + 1];
                const Vector scaling = load(gain + j), shift = load(bias + j);
                out(i + r, j, ya * scaling + shift, yb * scaling + shift);
            }
    }
}

// With ADD the gradient is added to dx, else it takes the place of what is there.
template <bool ADD>
NOINLINE void norm_backward(const Width& width, const float* dy, const float* x, const float* gain,
                            const Statistics& from, long m, float* dx, float* dgain, float* dbias) {
    const long real = width.real, d = width.padded, ld = width.ld;
    const float share = 1.f / (float)real;
    const float *mean = from.mean, *inverse = from.inverse;
    for (long i = 0; i < m; i += W, x += W * ld, dy += W * ld, dx += W * ld) {
        const long n = std::min<long>(W, m - i);
        Vector sum[W] = {}, product[W] = {};
        for (long r = 0; r < n; r += 2)
            for (long j = 0; j < d; j += W) {
                const Vector ua = (load(x + r * ld + j) - mean[i + r]) * inverse[i + r];
                const Vector ub = (load(x + (r + 1) * ld + j) - mean[i + r + 1]) * inverse[i + r + 1];
                const Vector da = load(dy + r * ld + j), db = load(dy + (r + 1) * ld + j), scaling = load(gain + j);
                store(dgain + j, load(dgain + j) + da * ua + db * ub);
                store(dbias + j, load(dbias + j) + (da + db));
                sum[r] += da * scaling;
                sum[r + 1] += db * scaling;
                product[r] += da * scaling * ua;
                product[r + 1] += db * scaling * ub;
            }
        float mean_g[W] __attribute__((aligned(64))), mean_gu[W] __attribute__((aligned(64)));
        store(mean_g, reduce_each(sum, Plus{}) * share);
        store(mean_gu, reduce_each(product, Plus{}) * share);
        for (long r = 0; r < n; r++)
            for (long j = 0; j < d; j += W) {
                const Vector u = (load(x + r * ld + j) - mean[i + r]) * inverse[i + r];
                const Vector g = load(dy + r * ld + j) * load(gain + j);
                const Vector v = (g - mean_g[r] - u * mean_gu[r]) * inverse[i + r];
                store(dx + r * ld + j, ADD ? load(dx + r * ld + j) + unpadded(v, j, real) : unpadded(v, j, real));
            }
    }
}

}  // namespace
