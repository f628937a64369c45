// Copies of matrices in the order in which products read their right operand.
//
//   transpose         the right operand m^T of an operand m, which is kept by rows
//   pack              a weight (depth x columns floats): for every vector of columns, all depth
//   pack_transposed   the same of a weight (columns x depth floats) transposed

#pragma once

#include "formats.hpp"

namespace {

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
inline long packed_words(long depth, long columns) {
    return whole(columns, COLUMNS) / COLUMNS * (depth / F::DEPTH) * W;
}
inline Right packed(const Word* at, long depth) { return {at, W, depth / F::DEPTH * W}; }

}  // namespace
