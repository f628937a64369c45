// A whole training step in one thread: chunks forward and backward, then clipping and AdamW.
//
//   tokens -> model -> x -> final norm -> h -> cross-entropy        gradients the other way, added up over chunks
//
// What makes it fast, in order of what it gives:
//
// 1. A chunk of about 128 rows (one sequence, or a few) goes forward and backward alone, so that its activations stay
//    in the cache; its weight gradients are added to one flat vector.
// 2. One register-blocked kernel multiplies matrices (products.hpp). Weights are copied once a step into the order in
//    which it reads them, both ways round.
// 3. Operands can have 16 bits, where the processor multiplies those faster than 32 (formats.hpp). Weights, their
//    gradients, the residual stream, norms and losses have 32 bits always.
// 4. What follows a product (GELU and its derivative, the residual sum) is done on the kernel's registers, and that and
//    softmax in 16 bits where sums have 16 bits anyway.
// 5. Weight gradients, which are too many for the near caches, are fetched ahead of their use.
// 6. Logits exist for a few rows at a time.

#pragma once

#include <memory>

#include "adamw.hpp"
#include "cross_entropy.hpp"
#include "lstm.hpp"
#include "transformer.hpp"

namespace {

class Engine {
   public:
    Engine(const Shape& shape, const Settings& settings)
        : settings_(settings),
          width_(shape.d_model),
          rows_(shape),
          loss_(width_, shape.n_vocab, rows_.most) {
        parameters_.add_weight(embedding_, 1, shape.n_vocab, loss_.vocab, 1, width_.real, width_.padded);
        if (shape.lstm)
            model_ = std::make_unique<Lstm>(shape, settings, rows_, embedding_, parameters_);
        else
            model_ = std::make_unique<Transformer>(shape, settings, rows_, embedding_, parameters_);
        gain_ = parameters_.add_vector(width_);
        bias_ = parameters_.add_vector(width_);
    }
    Engine(const Engine&) = delete;  // the model and the table of parameters point into it

    bool allocate() {
        place();
        if (!arena_.map()) return false;
        place();
        return true;
    }

    // which: 0 parameters, 1 first moment, 2 second moment, 3 gradient
    void read(int which, float* flat) { parameters_.read(vector(which), flat); }
    void write(int which, const float* flat) {
        parameters_.write(vector(which), flat);
        if (which == 0) stale_ = true;
    }

    // The mean loss; the gradient of the summed loss is left in `gradient_`. `halves` (or null) gets the squared norms
    // of the gradients of the mean losses of the batch's two halves.
    double differentiate(const uint16_t* tokens, long batch, long step, double* halves) {
        refresh();
        const long size = parameters_.size;
        double loss;
        if (!halves) {
            loss = accumulate(gradient_, tokens, 0, batch, step);
        } else {
            const long cut = batch / 2;
            loss = accumulate(gradient_, tokens, 0, cut, step);
            loss += accumulate(half_, tokens, cut, batch, step);
            halves[0] = square_norm(gradient_, size) / std::pow(positions(cut), 2);
            halves[1] = square_norm(half_, size) / std::pow(positions(batch - cut), 2);
            for (long i = 0; i < size; i += W) store(gradient_ + i, load(gradient_ + i) + load(half_ + i));
        }
        return loss / positions(batch);
    }

    // The gradient of the mean loss of `batch` sequences from that of the sum.
    void take_mean(long batch) {
        const float share = (float)(1 / positions(batch));
        for (long i = 0; i < parameters_.size; i += W) store(gradient_ + i, load(gradient_ + i) * share);
    }

    // Clip the gradient and take one step, of rate lr, and lr x lr_hidden for hidden matrices; return the norm of the
    // mean loss's gradient.
    double update(double lr, long step, long batch) {
        const double share = 1 / positions(batch);
        const double norm = std::sqrt(square_norm(gradient_, parameters_.size)) * share;
        const Settings& s = settings_;
        const AdamW adamw(s.beta1, s.beta2, s.eps, clipping(s.clip, norm) * share, step);
        for (const Tensor& t : parameters_.tensors) {
            adamw.update(parameters_.values + t.at, first_moment_ + t.at, second_moment_ + t.at, gradient_ + t.at,
                         t.size(), hidden(t) ? lr * s.lr_hidden : lr, t.matrix ? s.weight_decay : 0);
            parameters_.pack(t);  // while it is near
        }
        return norm;
    }

    // Add the loss of every position over `count` windows to `sums`.
    void evaluate(const uint16_t* tokens, long count, double* sums) {
        refresh();
        for (long b = 0; b < count; b += rows_.sequences) {
            const Chunk c = chunk(tokens, b, count, 0);
            const long m = rows_.of(c.n);
            loss_.forward(forward(c, false), embedding_, targets_, m, losses_);
            for (long i = 0; i < m; i++)
                if (const Place p = rows_.place(i); p.time < rows_.n_ctx) sums[p.time] += losses_[i];
        }
    }

   private:
    void place() {
        const long size = parameters_.size, padded = rows_.most + W;  // transposing reads whole squares
        parameters_.values = arena_.take(size);
        first_moment_ = arena_.take(size);
        second_moment_ = arena_.take(size);
        gradient_ = arena_.take(size);
        parameters_.place_copies(arena_);

        x_ = arena_.take(padded * width_.ld);
        statistics_ = take_statistics(arena_, rows_.most);
        h_ = arena_.take(padded * width_.ld);
        dx_ = arena_.take(padded * width_.ld);
        scratch_.place(arena_, padded, width_);
        loss_.place(arena_);
        losses_ = arena_.take(rows_.most);
        targets_ = reinterpret_cast<int32_t*>(arena_.take(rows_.most));
        model_->place(arena_, padded);
        half_ = arena_.take(size);  // last, since it is touched only when noise is measured
    }

    float* vector(int which) {
        return which == 0 ? parameters_.values : which == 1 ? first_moment_ : which == 2 ? second_moment_ : gradient_;
    }

    // Whether it is a hidden matrix, as the roles of pipeline.models have it.
    bool hidden(const Tensor& t) const { return t.weight && t.weight != &embedding_; }

    double positions(long batch) const { return (double)(batch * rows_.n_ctx); }

    void refresh() {
        if (stale_) parameters_.pack_all();
        stale_ = false;
    }

    // The sequences from b on of those before `stop`.
    Chunk chunk(const uint16_t* tokens, long b, long stop, long step) const {
        return {tokens + b * (rows_.n_ctx + 1), std::min(rows_.sequences, stop - b), b, step};
    }

    // From tokens to the final norm, in `h_`; return it as an operand.
    Matrix forward(const Chunk& c, bool train) {
        const float* p = parameters_.values;
        const long m = rows_.of(c.n);
        model_->forward(p, c, train, scratch_, x_);
        norm(width_, x_, p + gain_, p + bias_, statistics_, m, Store{h_, width_.ld});
        find_targets(rows_, c, targets_);
        return operand(h_, m, width_, scratch_.narrow);
    }

    // Set `to` to the gradient of the summed loss of sequences from .. stop of a batch; return that loss. A sum, not a
    // mean: its numbers are in the middle of a 16-bit format's range.
    double accumulate(float* to, const uint16_t* tokens, long from, long stop, long step) {
        const float* p = parameters_.values;
        float* dh = scratch_.branch;
        for (const Tensor& t : parameters_.tensors)  // the first chunk sets the gradients of hidden matrices
            if (!hidden(t)) std::memset(to + t.at, 0, t.size() * 4);
        double loss = 0;
        for (long b = from; b < stop; b += rows_.sequences) {
            const Chunk c = chunk(tokens, b, stop, step);
            const long m = rows_.of(c.n), e = embedding_.at;
            const Matrix h = forward(c, true);
            loss += loss_.forward_backward(h, h_, embedding_, p + e, targets_, m, losses_, dh, to + e);
            norm_backward<false>(width_, dh, x_, p + gain_, statistics_, m, dx_, to + gain_, to + bias_);
            model_->backward(p, c, b == from, scratch_, dx_, to);
        }
        return loss;
    }

    Settings settings_;
    Width width_;
    Rows rows_;
    CrossEntropy loss_;
    Parameters parameters_;
    Weight embedding_;  // as a map from tokens to vectors: its inputs are the vocabulary
    std::unique_ptr<Model> model_;
    long gain_, bias_;  // of the final norm: places in the padded vector
    Arena arena_;
    bool stale_ = true;  // the packed weights are older than the parameters
    float *first_moment_, *second_moment_, *gradient_;  // padded vectors
    float* half_;                                       // likewise: the gradient of half a batch
    float *x_, *h_, *dx_;                               // of the final norm: input, output, the input's gradient
    Statistics statistics_;
    Scratch scratch_;
    float* losses_;
    int32_t* targets_;
};

}  // namespace
