// What a model is, how wide its rows are, and how the rows of a chunk stand.
//
// A batch goes forward and backward in chunks of a few whole sequences, about CHUNK_ROWS rows, so that the activations
// of a chunk stay in the cache. A row is a position of a sequence.

#pragma once

#include <algorithm>
#include <cstdint>

#include "formats.hpp"

namespace {

constexpr long CHUNK_ROWS = 128;  // rows that go forward and backward together
constexpr long STEP_ROWS = 8;     // sequences of an LSTM that make a step together: whole tiles

struct Shape {
    int64_t n_layer, d_model, n_head, d_ff, n_ctx, n_vocab, n_reuse;
    int64_t lstm;  // 1: an LSTM, which has no heads and no feed-forward layer
};
struct Settings {
    double beta1, beta2, eps, weight_decay, clip, dropout, embedding_std, lr_hidden;
    uint64_t seed;
};

// Sizes are rounded up to whole vectors, and to whole tiles.
constexpr long UNIT = std::max(W, TILE_ROWS);

// Of the rows of the residual stream.
struct Width {
    long real;    // d_model
    long padded;  // in whole vectors, as rows are kept; the padding is zero
    long summed;  // in whole tiles: what products sum over
    long ld;      // floats from row to row

    explicit Width(long d_model)
        : real(d_model),
          padded(whole(d_model, UNIT)),
          summed(whole(d_model, TILE_ROWS)),
          ld(stride(padded)) {}
};

struct Place {
    long sequence, time;
};

// The rows of a chunk. Those of a Transformer go by sequence, whose length is rounded up to whole tiles; those of an
// LSTM by time, and there are always STEP_ROWS sequences, of which the last ones may be padding.
struct Rows {
    bool by_time;
    long n_ctx, T;         // a sequence's true and padded length
    long sequences, most;  // of a whole chunk: sequences and rows

    explicit Rows(const Shape& shape)
        : by_time(shape.lstm),
          n_ctx(shape.n_ctx),
          T(by_time ? n_ctx : whole(n_ctx, TILE_ROWS)),
          sequences(by_time ? STEP_ROWS : std::max(1L, CHUNK_ROWS / T)),
          most(sequences * T) {}

    long of(long n) const { return by_time ? most : n * T; }  // n sequences
    Place place(long i) const {
        if (by_time) return {i % sequences, i / sequences};
        return {i / T, i % T};
    }
};

// Some sequences of a batch.
struct Chunk {
    const uint16_t* tokens;  // n_ctx + 1 of each sequence
    long n;                  // sequences
    long sequence;           // the first one's number in the batch
    long step;               // of training, from 1
};

// The token that follows each row, or -1 in the padding.
inline void find_targets(const Rows& rows, const Chunk& c, int32_t* targets) {
    for (long i = 0; i < rows.of(c.n); i++) {
        const Place p = rows.place(i);
        const bool real = p.sequence < c.n && p.time < rows.n_ctx;
        targets[i] = real ? c.tokens[p.sequence * (rows.n_ctx + 1) + p.time + 1] : -1;
    }
}

}  // namespace
