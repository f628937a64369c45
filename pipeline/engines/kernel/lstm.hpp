// LSTM (Hochreiter and Schmidhuber 1997, with forget gates) in layers; from the second on a layer's input is added to
// its output:
//
//   i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of [x_t, h_(t-1)] w + b
//   c_t = f c_(t-1) + i g        h_t = o tanh(c_t)        the first layer's x_t = embedding[token] / embedding_std
//
//   dh_t  from the layer's output and from step t + 1        dc = dc_(t+1) f_(t+1) + dh o (1 - tanh(c)^2)
//   d of the sums at the gates:  dc g i (1 - i)    dc c_(t-1) f (1 - f)    dc i (1 - g^2)    dh tanh(c) o (1 - o)
//
//   inputs         (T sequences x 2 d_model) operand: a layer's input x_t, and its state h_(t-1)
//   gates, dgates  (T sequences x 4 d_model) operands: i, f, g, o
//   cell           (T sequences x d_model) floats
//   w              (2 d_model x 4 d_model), b (4 d_model)
//
// Rows go by time, then by sequence: STEP_ROWS sequences make a step together.

#pragma once

#include "functions.hpp"
#include "model.hpp"

namespace {

class Lstm : public Model {
   public:
    // `embedding` must stay where it is.
    Lstm(const Shape& shape, const Settings& settings, const Rows& rows, const Weight& embedding,
         Parameters& parameters)
        : width_(shape.d_model),
          rows_(rows),
          embedding_(embedding),
          scaling_((float)(1 / settings.embedding_std)),
          ld_step_(stride(4 * width_.padded)),
          layers_(shape.n_layer) {
        const long n = width_.real, d = width_.padded;
        for (Layer& l : layers_) {
            parameters.add_weight(l.weight, 2, n, d, 4, n, d);
            l.bias = parameters.add(1, 1, 1, 4, n, d, false);
        }
    }

    void place(Arena& arena, long rows) override {
        for (Layer& l : layers_) {
            l.inputs = take_matrix(arena, rows, 2 * width_.padded);
            l.gates = take_matrix(arena, rows, 4 * width_.padded);
            l.cell = arena.take(rows * width_.ld);
        }
        dgates_ = take_matrix(arena, rows, 4 * width_.padded);
        sums_ = arena.take(STEP_ROWS * ld_step_);
        dcell_ = arena.take(STEP_ROWS * width_.ld);
    }

    // A layer's output, to which later layers add, is in x.
    void forward(const float* parameters, const Chunk& c, bool, Scratch&, float* x) override {
        const long rows = rows_.most, d = width_.padded, ld = width_.ld;
        embed(parameters, c, x);
        for (const Layer& l : layers_) {
            for (long i = 0; i < rows; i += 2)
                for (long j = 0; j < d; j += W)
                    F::put(l.inputs, i, j, load(x + i * ld + j), load(x + (i + 1) * ld + j));
            for (long i = 0; i < rows; i += STEP_ROWS) {
                linear(F::at(l.inputs, i, 0), l.weight, STEP_ROWS, Store{sums_, ld_step_});
                step_forward(l, parameters + l.bias, i, x, &l != &layers_[0]);
            }
        }
    }

    void backward(const float*, const Chunk& c, bool anew, Scratch&, float* dx, float* gradient) override {
        const long rows = rows_.most, d = width_.padded, ld = width_.ld;
        for (long k = layers_.size() - 1; k >= 0; k--) {
            const Layer& l = layers_[k];
            std::memset(sums_, 0, STEP_ROWS * ld_step_ * 4);
            std::memset(dcell_, 0, STEP_ROWS * ld * 4);
            for (long i = rows - STEP_ROWS; i >= 0; i -= STEP_ROWS) {
                step_backward(l, i, dx, gradient + l.bias);
                linear_backward(F::at(dgates_, i, 0), l.weight, STEP_ROWS, Store{sums_, ld_step_});
                for (long r = 0; r < STEP_ROWS; r++)
                    for (long j = 0; j < d; j += W) {
                        float* to = dx + (i + r) * ld + j;
                        const Vector v = load(sums_ + r * ld_step_ + j);
                        store(to, k ? load(to) + v : v);
                    }
            }
            linear_gradient(l.inputs, dgates_, l.weight, rows, gradient + l.weight.at, anew);
        }
        embed_backward(dx, c, gradient);
    }

   private:
    struct Layer {
        Weight weight;  // the rows of the layer's input, then those of its state
        long bias;      // place in the padded vector
        Matrix inputs, gates;
        float* cell;
    };

    // x = embedding[token] / embedding_std, zero where there is no sequence.
    void embed(const float* parameters, const Chunk& c, float* x) const {
        const long d = width_.padded, ld = width_.ld;
        for (long i = 0; i < rows_.most; i++) {
            const Place p = rows_.place(i);
            const bool real = p.sequence < c.n;
            const long token = real ? c.tokens[p.sequence * (rows_.T + 1) + p.time] : 0;
            const float* e = parameters + embedding_.at + token * d;
            for (long j = 0; j < d; j += W) store(x + i * ld + j, real ? load(e + j) * scaling_ : Vector{});
        }
    }
    void embed_backward(const float* dx, const Chunk& c, float* gradient) const {
        const long d = width_.padded, ld = width_.ld;
        for (long i = 0; i < rows_.most; i++) {
            const Place p = rows_.place(i);
            if (p.sequence >= c.n) continue;
            float* e = gradient + embedding_.at + c.tokens[p.sequence * (rows_.T + 1) + p.time] * d;
            for (long j = 0; j < d; j += W) store(e + j, load(e + j) + load(dx + i * ld + j) * scaling_);
        }
    }

    // Cell and state of the rows from i on, from the sums at their gates (`sums_`). The state is (added to) x.
    NOINLINE void step_forward(const Layer& l, const float* bias, long i, float* x, bool add) {
        const long d = width_.padded, ld = width_.ld;
        for (long r = 0; r < STEP_ROWS; r += 2)
            for (long j = 0; j < d; j += W) {
                Vector gate[4][2], state[2];
                for (long p = 0; p < 2; p++) {
                    const float *sum = sums_ + (r + p) * ld_step_ + j, *shift = bias + j;
                    const long at = (i + r + p) * ld + j;
                    for (long q = 0; q < 4; q++) {
                        const Vector z = load(sum + q * d) + load(shift + q * d);
                        gate[q][p] = q == 2 ? tanh(z) : sigmoid(z);
                    }
                    const Vector before = i ? load(l.cell + at - STEP_ROWS * ld) : Vector{};
                    const Vector cell = gate[1][p] * before + gate[0][p] * gate[2][p];
                    state[p] = gate[3][p] * tanh(cell);
                    store(l.cell + at, cell);
                    store(x + at, add ? load(x + at) + state[p] : state[p]);
                }
                for (long q = 0; q < 4; q++) F::keep(l.gates, i + r, q * d + j, gate[q][0], gate[q][1]);
                if (i + STEP_ROWS < rows_.most) F::put(l.inputs, i + STEP_ROWS + r, d + j, state[0], state[1]);
            }
    }

    // `dgates_` of the rows from i on, and the bias's gradient. dh comes from the layer's output (dx) and from the next
    // step (in `sums_`, after that step's input), dc from the next step (`dcell_`).
    NOINLINE void step_backward(const Layer& l, long i, const float* dx, float* dbias) {
        const long d = width_.padded, ld = width_.ld;
        for (long r = 0; r < STEP_ROWS; r += 2)
            for (long j = 0; j < d; j += W) {
                Vector dz[4][2];
                for (long p = 0; p < 2; p++) {
                    const long at = (i + r + p) * ld + j;
                    const auto gate = [&](long q) { return F::get(l.gates, i + r + p, q * d + j); };
                    const Vector input = gate(0), forget = gate(1), candidate = gate(2), output = gate(3);
                    const Vector before = i ? load(l.cell + at - STEP_ROWS * ld) : Vector{};
                    const Vector shown = tanh(load(l.cell + at));
                    const Vector dstate = load(dx + at) + load(sums_ + (r + p) * ld_step_ + d + j);
                    float* later = dcell_ + (r + p) * ld + j;
                    const Vector dc = load(later) + dstate * output * (1.f - shown * shown);
                    store(later, dc * forget);
                    dz[0][p] = dc * candidate * input * (1.f - input);
                    dz[1][p] = dc * before * forget * (1.f - forget);
                    dz[2][p] = dc * input * (1.f - candidate * candidate);
                    dz[3][p] = dstate * shown * output * (1.f - output);
                }
                for (long q = 0; q < 4; q++) {
                    F::put(dgates_, i + r, q * d + j, dz[q][0], dz[q][1]);
                    float* db = dbias + q * d + j;
                    store(db, load(db) + dz[q][0] + dz[q][1]);
                }
            }
    }

    Width width_;
    Rows rows_;
    const Weight& embedding_;
    float scaling_;  // 1 / embedding_std
    long ld_step_;
    std::vector<Layer> layers_;
    Matrix dgates_;
    float *sums_, *dcell_;  // of one step: its products, and the gradient of its cell
};

}  // namespace
