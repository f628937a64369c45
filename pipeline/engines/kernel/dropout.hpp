// Dropout (Srivastava et al. 2014) of the residual stream:
//
//   y = mask x        dx = mask dy        mask = 0 with probability `rate`, else 1 / (1 - rate)
//
//   x, y, dy, dx   (sequences x T x d_model) floats, a sequence's rows one after another
//
// A mask is a hash of the seed, the step, the sequence's number in the batch, the site (which dropout of the model it
// is) and the element's place. So it is made again in the backward pass, and in a run that was resumed.

#pragma once

#include "chunk.hpp"

namespace {

inline uint64_t mix(uint64_t x) {  // splitmix64
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

struct Dropout {
    uint64_t seed;
    uint32_t threshold;  // hashes below it drop an element
    float keep_scale;
    bool active;

    Dropout(double rate, uint64_t seed)
        : seed(seed),
          threshold((uint32_t)std::min(4294967295.0, rate * 4294967296.0)),
          keep_scale((float)(1.0 / (1.0 - rate))),
          active(rate > 0) {}

    uint64_t key(long step, long sequence, long site) const {
        return mix(mix(mix(mix(seed) ^ (uint64_t)step) ^ (uint64_t)sequence) ^ (uint64_t)site);
    }
    // Of W elements of row t from column j.
    Vector mask(uint64_t key, long t, long j) const {
        Words x = (Words)lanes() + (uint32_t)((t << 16) + j);
        x = x * 0x9E3779B1u + (uint32_t)key;
        x = (x ^ (x >> 16)) * 0x21F0AAADu;
        x = ((x ^ (x >> 15)) + (uint32_t)(key >> 32)) * 0x735A2D97u;
        x ^= x >> 15;
        return (Vector)((Integers)splat(keep_scale) & (Integers)(x >= threshold));
    }

    // to = base + mask * from; base may be null. It is its own backward pass.
    void apply(const Width& width, const float* from, const float* base, float* to, const Chunk& c, long T,
               long site) const {
        const long d = width.padded, ld = width.ld;
        for (long s = 0; s < c.n; s++) {
            const uint64_t own = key(c.step, c.sequence + s, site);
            for (long t = 0; t < T; t++) {
                const long at = (s * T + t) * ld;
                for (long j = 0; j < d; j += W) {
                    const Vector v = load(from + at + j) * mask(own, t, j);
                    store(to + at + j, base ? load(base + at + j) + v : v);
                }
            }
        }
    }
};

}  // namespace
