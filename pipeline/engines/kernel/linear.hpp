// Linear map:
//
//   y = x w        dx = dy w^T        dw = x^T dy
//
//   x, dx   (m x inputs)         operands; m is whole tiles
//   y, dy   (m x outputs)        operands, or what an output makes of them
//   w, dw   (inputs x outputs)   floats
//
// Weights are copied once a step into the order in which products read them, both ways round.

#pragma once

#include "chunk.hpp"
#include "packing.hpp"
#include "products.hpp"

namespace {

// A weight: its place in the padded vector of parameters, its padded sizes, how much of them products must sum over
// (true sizes, rounded up to whole tiles), and its packed copies.
struct Weight {
    long at, inputs, outputs, sum_inputs, sum_outputs;
    Word *copy, *transposed_copy;

    Right forward() const { return packed(copy, sum_inputs); }              // for x w
    Right backward() const { return packed(transposed_copy, sum_outputs); }  // for dy w^T

    void place(Arena& arena) {
        copy = arena.words(packed_words(sum_inputs, outputs));
        transposed_copy = arena.words(packed_words(sum_outputs, inputs));
    }
    // `strip` holds COLUMNS x outputs floats.
    void pack_copies(const float* parameters, float* strip) {
        pack(parameters + at, outputs, sum_inputs, outputs, copy);
        pack_transposed(parameters + at, outputs, inputs, sum_outputs, transposed_copy, strip);
    }
};

template <class Out>
void linear(const Matrix& x, const Weight& w, long m, const Out& y) {
    multiply(x, w.forward(), m, w.outputs, w.sum_inputs, y);
}

template <class Out>
void linear_backward(const Matrix& dy, const Weight& w, long m, const Out& dx) {
    multiply(dy, w.backward(), m, w.inputs, w.sum_outputs, dx);
}

// dw += x^T dy; with `anew`, dw = x^T dy.
inline void linear_gradient(const Matrix& x, const Matrix& dy, const Weight& w, long m, float* dw, bool anew) {
    if (anew)
        multiply_transposed(x, F::right(dy), w.sum_inputs, w.outputs, m, Store{dw, w.outputs});
    else
        multiply_transposed(x, F::right(dy), w.sum_inputs, w.outputs, m, Add{dw, w.outputs});
}

// m rows of floats as an operand: as they are where the format is PLAIN, else converted into `narrow`.
inline Matrix operand(float* x, long m, const Width& width, const Matrix& narrow) {
    const long d = width.padded, ld = width.ld;
    if (F::PLAIN) return {reinterpret_cast<Word*>(x), nullptr, ld, 0};
    for (long i = 0; i < m; i += 2)
        for (long j = 0; j < d; j += W) F::put(narrow, i, j, load(x + i * ld + j), load(x + (i + 1) * ld + j));
    return narrow;
}

}  // namespace
