// AdamW (Loshchilov and Hutter 2019), as torch.optim.AdamW does it, for the gradient g of step t:
//
//   m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
//   p = (1 - lr weight_decay) p - lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
//
// Before that the gradient is clipped: g = g min(1, clip / (|g| + 1e-6)), where clip is above 0.
//
//   p, m, v, g   flat, whole vectors

#pragma once

#include "functions.hpp"

namespace {

// Sums of 64 vectors are float32, their sum is float64.
inline double square_norm(const float* g, long size) {
    double total = 0;
    for (long start = 0; start < size; start += 64 * W) {
        Vector sum = Vector{};
        for (long i = start; i < std::min(size, start + 64 * W); i += W) sum += load(g + i) * load(g + i);
        total += reduce(sum, Plus{})[0];
    }
    return total;
}

// The factor that clips a gradient of this norm; a norm that is not a number stays one.
inline double clipping(double clip, double norm) {
    const double factor = clip > 0 ? clip / (norm + 1e-6) : 1;
    return factor > 1 ? 1 : factor;
}

// One step's numbers, the same for all parameters.
struct AdamW {
    float beta1, rest1, beta2, rest2, eps;  // rest = 1 - beta
    float factor;                           // of the gradient, for clipping
    double divisor;                         // of the rate: 1 - beta1^t
    float correction;                       // 1 / (1 - beta2^t)

    AdamW(double beta1, double beta2, double eps, double factor, long step)
        : beta1((float)beta1),
          rest1((float)(1 - beta1)),
          beta2((float)beta2),
          rest2((float)(1 - beta2)),
          eps((float)eps),
          factor((float)factor),
          divisor(1 - std::pow(beta1, (double)step)),
          correction((float)(1 / (1 - std::pow(beta2, (double)step)))) {}

    NOINLINE void update(float* p, float* m, float* v, const float* g, long n, double lr, double weight_decay) const {
        const float b1 = beta1, c1 = rest1, b2 = beta2, c2 = rest2, e = eps;
        const float scale = factor, c = correction;
        const float rate = (float)(lr / divisor), decay = (float)(1 - lr * weight_decay);
        for (long i = 0; i < n; i += W) {
            const Vector slope = load(g + i) * scale;
            const Vector mean = load(m + i) * b1 + slope * c1, variance = load(v + i) * b2 + slope * (slope * c2);
            store(m + i, mean);
            store(v + i, variance);
            const Vector square = variance * c + 1e-30f;  // far below any eps, so that zero has a root
            const Vector root = square * inverse_root(square);
            store(p + i, load(p + i) * decay - mean * rate * reciprocal(root + e));
        }
    }
};

}  // namespace
