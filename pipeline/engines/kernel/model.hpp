// What the engine asks of a model: all between the tokens and the final norm.
//
//   forward    tokens -> x      (rows x d_model) floats, the input of the final norm
//   backward   dx -> gradient   of all the model's parameters
//
// `parameters` and `gradient` are padded vectors (parameters.hpp). The embedding is the engine's, since the loss has it
// too; a model reads its rows and adds to its gradient.

#pragma once

#include "parameters.hpp"

namespace {

// Memory that the loss and the model use in turn.
struct Scratch {
    float* branch;  // (rows x d_model): a branch of the residual stream, or its gradient
    Matrix narrow;  // (rows x d_model): see operand()

    void place(Arena& arena, long rows, const Width& width) {
        branch = arena.take(rows * width.ld);
        if (!F::PLAIN) narrow = take_matrix(arena, rows, width.padded);
    }
};

struct Model {
    virtual ~Model() = default;
    // Take all memory; `rows` has what transposing reads past the last row.
    virtual void place(Arena& arena, long rows) = 0;
    // Without `train` there is no dropout, and no backward pass can follow.
    virtual void forward(const float* parameters, const Chunk& c, bool train, Scratch& scratch, float* x) = 0;
    // Add to the gradient. With `anew` that of linear maps takes the place of what is there. dx is written over.
    virtual void backward(const float* parameters, const Chunk& c, bool anew, Scratch& scratch, float* dx,
                          float* gradient) = 0;
};

}  // namespace
