// The decoder-only Transformer (GPT-2's blocks) and its recurrent kin, whose blocks are used n_reuse times:
//
//   x = dropout(embedding[token] + position[t])
//   every use of the blocks:   x += depth[use]           (recurrent only)
//   every block:               x += dropout(out(attention(qkv(norm1(x)))))
//                              x += dropout(down(gelu(up(norm2(x)))))
//
//   x, and its gradient dx      (n T x d_model) floats: the residual stream
//   norm1, norm2                (n T x d_model) operands
//   qkv                         (n T x 3 heads head) operand: attention.hpp
//   hidden, slope               (n T x d_ff) operands: GELU of up's sums, and its derivative
//
// Linear maps have no biases. Backward, dx goes through the blocks in the other order; each branch's gradient is added.

#pragma once

#include "attention.hpp"
#include "dropout.hpp"
#include "model.hpp"
#include "norm.hpp"

namespace {

struct PutGelu {  // value = gelu(product), slope = its derivative
    Matrix value, slope;
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool all) const {
        F::Sum ya, yb, da, db;
        gelu(a, ya, da);
        gelu(b, yb, db);
        F::put_sums(value, i, j, ya, yb, all);
        F::keep_sums(slope, i, j, da, db, all);
    }
};
struct PutTimes {  // m = product * factor, element by element
    Matrix m, factor;
    INLINE void take(long i, long j, F::Sum a, F::Sum b, bool all) const {
        F::put_sums(m, i, j, F::times(a, factor, i, j), F::times(b, factor, i + 1, j), all);
    }
};

class Transformer : public Model {
   public:
    // `embedding` must stay where it is.
    Transformer(const Shape& shape, const Settings& settings, const Rows& rows, const Weight& embedding,
                Parameters& parameters)
        : width_(shape.d_model),
          rows_(rows),
          embedding_(embedding),
          dropout_(settings.dropout, settings.seed),
          attention_(rows.T, shape.n_head, shape.d_model / shape.n_head),
          ff_(whole(shape.d_ff, UNIT)),
          n_reuse_(shape.n_reuse),
          blocks_(shape.n_layer),
          saved_(shape.n_reuse * shape.n_layer) {
        const long n = width_.real, d = width_.padded, heads = shape.n_head, head = attention_.head;
        position_ = parameters.add_rows(shape.n_ctx, width_);
        if (n_reuse_ > 1) depth_ = parameters.add_rows(n_reuse_, width_);
        for (Block& b : blocks_) {
            b.gain1 = parameters.add_vector(width_);
            b.bias1 = parameters.add_vector(width_);
            parameters.add_weight(b.qkv, 1, n, d, 3 * heads, n / heads, head);
            parameters.add_weight(b.out, heads, n / heads, head, 1, n, d);
            b.gain2 = parameters.add_vector(width_);
            b.bias2 = parameters.add_vector(width_);
            parameters.add_weight(b.up, 1, n, d, 1, shape.d_ff, ff_);
            parameters.add_weight(b.down, 1, shape.d_ff, ff_, 1, n, d);
        }
    }

    void place(Arena& arena, long rows) override {
        const long inner = attention_.inner;
        for (Saved& s : saved_) {
            s.input = arena.take(rows * width_.ld);
            s.statistics1 = take_statistics(arena, rows_.most);
            s.norm1 = take_matrix(arena, rows, width_.padded);
            s.qkv = take_matrix(arena, rows, 3 * inner);
            s.probabilities = attention_.take_probabilities(arena, rows_.sequences);
            s.attended = take_matrix(arena, rows, inner);
            s.middle = arena.take(rows * width_.ld);
            s.statistics2 = take_statistics(arena, rows_.most);
            s.norm2 = take_matrix(arena, rows, width_.padded);
            s.hidden = take_matrix(arena, rows, ff_);
            s.slope = take_matrix(arena, rows, ff_);
        }
        dattended_ = take_matrix(arena, rows, inner);
        dqkv_ = take_matrix(arena, rows, 3 * inner);
        dhidden_ = take_matrix(arena, rows, ff_);
        attention_.place(arena);
    }

    // Without `train` every block writes over what the one before it saved.
    void forward(const float* parameters, const Chunk& c, bool train, Scratch& scratch, float* last) override {
        const long layers = blocks_.size(), total = saved_.size();
        const bool drops = train && dropout_.active;
        float* x = total ? saved_[0].input : last;
        embed(parameters, c, x);
        if (drops) dropout_.apply(width_, x, nullptr, x, c, rows_.T, 0);
        for (long k = 0; k < total; k++) {
            if (n_reuse_ > 1 && k % layers == 0) add_depth(parameters + depth_ + k / layers * width_.padded, c, x);
            float* next = k + 1 == total ? last : saved_[train ? k + 1 : 0].input;
            const Saved& s = saved_[train ? k : 0];
            forward_block(parameters, blocks_[k % layers], s, c, drops ? 1 + 2 * k : 0, scratch.branch, x, next);
            x = next;
        }
    }

    void backward(const float* parameters, const Chunk& c, bool anew, Scratch& scratch, float* dx,
                  float* gradient) override {
        const long layers = blocks_.size(), total = saved_.size();
        for (long k = total - 1; k >= 0; k--) {
            const bool first = anew && k >= total - layers;  // use of the block
            backward_block(parameters, blocks_[k % layers], saved_[k], c, 1 + 2 * k, first, scratch, dx, gradient);
            if (n_reuse_ > 1 && k % layers == 0) add_up(dx, c, gradient + depth_ + k / layers * width_.padded);
        }
        embed_backward(dropped(dx, c, 0, scratch.branch), c, gradient);
    }

   private:
    struct Block {
        long gain1, bias1, gain2, bias2;  // places in the padded vector
        Weight qkv, out, up, down;
    };

    struct Saved {  // what the backward pass needs of one use of one block
        float *input, *middle;  // the residual stream before attention and before the feed-forward layer
        Statistics statistics1, statistics2;
        Matrix norm1, qkv, probabilities, attended, norm2, hidden, slope;
    };

    // to = from + dropout(a w); `site` 0 is no dropout.
    void add_branch(const Matrix& a, const Weight& w, const Chunk& c, long site, float* branch, const float* from,
                    float* to) {
        const long m = rows_.of(c.n), ld = width_.ld;
        if (!site) return linear(a, w, m, AddTo{to, from, ld});
        linear(a, w, m, Store{branch, ld});
        dropout_.apply(width_, branch, from, to, c, rows_.T, site);
    }

    // A block's first dropout is at `site`, its second at the next; 0 is none.
    void forward_block(const float* parameters, const Block& b, const Saved& s, const Chunk& c, long site,
                       float* branch, const float* x, float* next) {
        const long m = rows_.of(c.n);
        norm(width_, x, parameters + b.gain1, parameters + b.bias1, s.statistics1, m, Put{s.norm1});
        linear(s.norm1, b.qkv, m, PutSums{s.qkv});
        attention_.forward(s.qkv, c.n, s.probabilities, s.attended);
        add_branch(s.attended, b.out, c, site, branch, x, s.middle);
        norm(width_, s.middle, parameters + b.gain2, parameters + b.bias2, s.statistics2, m, Put{s.norm2});
        linear(s.norm2, b.up, m, PutGelu{s.hidden, s.slope});
        add_branch(s.hidden, b.down, c, site ? site + 1 : 0, branch, s.middle, next);
    }

    // dx, of the block's output, becomes that of its input.
    void backward_block(const float* parameters, const Block& b, const Saved& s, const Chunk& c, long site, bool anew,
                        Scratch& scratch, float* dx, float* gradient) {
        const long m = rows_.of(c.n), ld = width_.ld;
        float* branch = scratch.branch;
        const auto add_gradient = [&](const Weight& w, const Matrix& x, const Matrix& dy) {
            linear_gradient(x, dy, w, m, gradient + w.at, anew);
        };

        Matrix dy = operand(dropped(dx, c, site + 1, branch), m, width_, scratch.narrow);
        linear_backward(dy, b.down, m, PutTimes{dhidden_, s.slope});
        add_gradient(b.down, s.hidden, dy);
        add_gradient(b.up, s.norm2, dhidden_);
        linear_backward(dhidden_, b.up, m, Store{branch, ld});
        norm_backward<true>(width_, branch, s.middle, parameters + b.gain2, s.statistics2, m, dx, gradient + b.gain2,
                            gradient + b.bias2);

        dy = operand(dropped(dx, c, site, branch), m, width_, scratch.narrow);
        linear_backward(dy, b.out, m, PutSums{dattended_});
        add_gradient(b.out, s.attended, dy);
        attention_.backward(s.qkv, s.probabilities, s.attended, dattended_, c.n, dqkv_);
        add_gradient(b.qkv, s.norm1, dqkv_);
        linear_backward(dqkv_, b.qkv, m, Store{branch, ld});
        norm_backward<true>(width_, branch, s.input, parameters + b.gain1, s.statistics1, m, dx, gradient + b.gain1,
                            gradient + b.bias1);
    }

    // dx where there is no dropout, else mask dx, in `branch`.
    float* dropped(float* dx, const Chunk& c, long site, float* branch) const {
        if (!dropout_.active) return dx;
        dropout_.apply(width_, dx, nullptr, branch, c, rows_.T, site);
        return branch;
    }

    // x = embedding[token] + position[t]. Padding rows keep what they have: no real row depends on them.
    void embed(const float* parameters, const Chunk& c, float* x) const {
        const long d = width_.padded, ld = width_.ld;
        for (long s = 0; s < c.n; s++)
            for (long t = 0; t < rows_.n_ctx; t++) {
                const float* e = parameters + embedding_.at + (long)c.tokens[s * (rows_.n_ctx + 1) + t] * d;
                const float* p = parameters + position_ + t * d;
                for (long j = 0; j < d; j += W) store(x + (s * rows_.T + t) * ld + j, load(e + j) + load(p + j));
            }
    }
    void embed_backward(const float* dx, const Chunk& c, float* gradient) const {
        const long d = width_.padded, ld = width_.ld;
        for (long s = 0; s < c.n; s++)
            for (long t = 0; t < rows_.n_ctx; t++) {
                float* e = gradient + embedding_.at + (long)c.tokens[s * (rows_.n_ctx + 1) + t] * d;
                float* p = gradient + position_ + t * d;
                for (long j = 0; j < d; j += W) {
                    const Vector v = load(dx + (s * rows_.T + t) * ld + j);
                    store(e + j, load(e + j) + v);
                    store(p + j, load(p + j) + v);
                }
            }
    }

    // x += p in every row; and its backward pass, sum += dx.
    void add_depth(const float* p, const Chunk& c, float* x) const {
        const long d = width_.padded, ld = width_.ld;
        for (long i = 0; i < rows_.of(c.n); i++)
            for (long j = 0; j < d; j += W) store(x + i * ld + j, load(x + i * ld + j) + load(p + j));
    }
    void add_up(const float* dx, const Chunk& c, float* sum) const {
        const long d = width_.padded, ld = width_.ld;
        for (long i = 0; i < rows_.of(c.n); i++)
            for (long j = 0; j < d; j += W) store(sum + j, load(sum + j) + load(dx + i * ld + j));
    }

    Width width_;
    Rows rows_;
    const Weight& embedding_;
    Dropout dropout_;
    Attention attention_;
    long ff_, n_reuse_;  // d_ff padded
    std::vector<Block> blocks_;
    std::vector<Saved> saved_;
    long position_, depth_ = 0;  // places in the padded vector
    Matrix dattended_, dqkv_, dhidden_;
};

}  // namespace
