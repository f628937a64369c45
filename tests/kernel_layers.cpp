// The kernel's layers one by one, for tests/test_kernel_layers.py. Arrays are plain: rows one after another, without
// padding, floats. Each function pads what it is given, calls one layer, and takes the padding away again.

#include "engine.hpp"

namespace {

long rows_up(long n) { return whole(n, UNIT); }

// Take arrays from an arena: `take` is called twice, as memory.hpp says.
template <class Take>
void place(Arena& arena, const Take& take) {
    take();
    if (!arena.map()) std::abort();
    take();
}

void put_rows(const float* from, long rows, long columns, float* to, long ld) {
    for (long i = 0; i < rows; i++) std::memcpy(to + i * ld, from + i * columns, columns * 4);
}
void get_rows(const float* from, long ld, long rows, long columns, float* to) {
    for (long i = 0; i < rows; i++) std::memcpy(to + i * columns, from + i * ld, columns * 4);
}

// An operand of plain rows; what is beyond them becomes zero, up to whole vectors and an even number of rows.
void put_operand(const float* from, long rows, long columns, long ld, const Matrix& to) {
    alignas(64) float padded[2][W];
    for (long i = 0; i < rows; i += 2)
        for (long j = 0; j < columns; j += W) {
            for (long r = 0; r < 2; r++)
                for (long c = 0; c < W; c++)
                    padded[r][c] = i + r < rows && j + c < columns ? from[(i + r) * ld + j + c] : 0;
            F::put(to, i, j, load(padded[0]), load(padded[1]));
        }
}
void get_operand(const Matrix& from, long rows, long columns, long ld, float* to) {
    alignas(64) float padded[W];
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j += W) {
            store(padded, F::get(from, i, j));
            std::memcpy(to + i * ld + j, padded, std::min<long>(W, columns - j) * 4);
        }
}

}  // namespace

extern "C" {

long layer_lanes() { return W; }

// which: 0 2^x, 1 1 / x, 2 1 / sqrt(x), 3 sigmoid, 4 tanh, 5 GELU, 6 its derivative
void layer_function(long which, long n, const float* x, float* y) {
    for (long i = 0; i < n; i += W) {
        alignas(64) float lanes[W] = {};
        std::memcpy(lanes, x + i, std::min<long>(W, n - i) * 4);
        const Vector v = load(lanes);
        Vector value, slope;
        gelu(v, value, slope);
        const Vector results[] = {exp2(v), reciprocal(v), inverse_root(v), sigmoid(v), tanh(v), value, slope};
        store(lanes, results[which]);
        std::memcpy(y + i, lanes, std::min<long>(W, n - i) * 4);
    }
}

// c (rows x columns) = a b, or c += a b. With `transposed` a is (depth x rows).
void layer_multiply(long transposed, long add, long rows, long columns, long depth, const float* a, const float* b,
                    float* c) {
    const long m = rows_up(rows), n = rows_up(columns), k = rows_up(depth);
    Arena arena;
    Matrix left, right;
    float* product;
    place(arena, [&] {
        left = take_matrix(arena, transposed ? k : m, transposed ? m : k);
        right = take_matrix(arena, k, n);
        product = arena.take(m * n);
    });
    put_operand(a, transposed ? depth : rows, transposed ? rows : depth, transposed ? rows : depth, left);
    put_operand(b, depth, columns, columns, right);
    put_rows(c, rows, columns, product, n);
    const auto run = [&](const auto& out) {
        if (transposed)
            multiply_transposed(left, F::right(right), m, n, k, out);
        else
            multiply(left, F::right(right), m, n, k, out);
    };
    if (add)
        run(Add{product, n});
    else
        run(Store{product, n});
    get_rows(product, n, rows, columns, c);
}

// A weight of heads or of one group: y = x w, dx = dy w^T, dw += x^T dy (with `anew`, dw = x^T dy).
void layer_linear(long m, long inputs, long groups, long outputs, const float* x, const float* w, const float* dy,
                  long anew, float* y, float* dx, float* dw) {
    const long rows = rows_up(m), all = groups * outputs;
    Parameters parameters;
    Weight weight;
    parameters.add_weight(weight, 1, inputs, rows_up(inputs), groups, outputs, rows_up(outputs));
    const long ld = weight.outputs;
    Arena arena;
    Matrix x_, dy_;
    float *y_, *dx_, *dw_;
    place(arena, [&] {
        parameters.values = arena.take(parameters.size);
        parameters.place_copies(arena);
        x_ = take_matrix(arena, rows + W, weight.inputs);
        dy_ = take_matrix(arena, rows + W, weight.outputs);
        y_ = arena.take(rows * ld);
        dx_ = arena.take(rows * weight.inputs);
        dw_ = arena.take(parameters.size);
    });
    parameters.write(parameters.values, w);
    parameters.write(dw_, dw);
    parameters.pack_all();
    put_operand(x, m, inputs, inputs, x_);
    for (long g = 0; g < groups; g++)
        put_operand(dy + g * outputs, m, outputs, all, F::at(dy_, 0, g * rows_up(outputs)));
    linear(x_, weight, rows, Store{y_, ld});
    linear_backward(dy_, weight, rows, Store{dx_, weight.inputs});
    linear_gradient(x_, dy_, weight, rows, dw_, anew);
    for (long g = 0; g < groups; g++)
        for (long i = 0; i < m; i++)
            std::memcpy(y + i * all + g * outputs, y_ + i * ld + g * rows_up(outputs), outputs * 4);
    get_rows(dx_, weight.inputs, m, inputs, dx);
    parameters.read(dw_, dw);
}

// y, and the gradients from dy; with `add` that of x is added to dx.
void layer_norm(long m, long d_model, const float* x, const float* gain, const float* bias, const float* dy, long add,
                float* y, float* dx, float* dgain, float* dbias) {
    const Width width(d_model);
    const long rows = rows_up(m), ld = width.ld;
    Arena arena;
    float *x_, *y_, *dy_, *dx_, *vectors[4];
    Statistics statistics;
    place(arena, [&] {
        for (float** p : {&x_, &y_, &dy_, &dx_}) *p = arena.take((rows + W) * ld);
        for (float*& p : vectors) p = arena.take(width.padded);
        statistics = take_statistics(arena, rows);
    });
    put_rows(x, m, d_model, x_, ld);
    put_rows(dy, m, d_model, dy_, ld);
    put_rows(dx, m, d_model, dx_, ld);
    put_rows(gain, 1, d_model, vectors[0], 0);
    put_rows(bias, 1, d_model, vectors[1], 0);
    norm(width, x_, vectors[0], vectors[1], statistics, rows, Store{y_, ld});
    if (add)
        norm_backward<true>(width, dy_, x_, vectors[0], statistics, rows, dx_, vectors[2], vectors[3]);
    else
        norm_backward<false>(width, dy_, x_, vectors[0], statistics, rows, dx_, vectors[2], vectors[3]);
    get_rows(y_, ld, m, d_model, y);
    get_rows(dx_, ld, m, d_model, dx);
    get_rows(vectors[2], 0, 1, d_model, dgain);
    get_rows(vectors[3], 0, 1, d_model, dbias);
}

// qkv, dqkv (n x n_ctx x 3 x heads x d_head); out, dout (n x n_ctx x heads x d_head)
void layer_attention(long n, long n_ctx, long heads, long d_head, const float* qkv, const float* dout, float* out,
                     float* dqkv) {
    const long T = whole(n_ctx, TILE_ROWS), rows = n * T + W;
    Attention attention(T, heads, d_head);
    const long head = attention.head;
    Arena arena;
    Matrix qkv_, out_, dout_, dqkv_, probabilities;
    place(arena, [&] {
        for (Matrix* m : {&qkv_, &dqkv_}) *m = take_matrix(arena, rows, 3 * attention.inner);
        for (Matrix* m : {&out_, &dout_}) *m = take_matrix(arena, rows, attention.inner);
        probabilities = attention.take_probabilities(arena, n);
        attention.place(arena);
    });
    const long width = heads * d_head;
    for (long q = 0; q < n; q++) {
        const long at = q * n_ctx;
        for (long h = 0; h < 3 * heads; h++)
            put_operand(qkv + 3 * at * width + h * d_head, n_ctx, d_head, 3 * width, F::at(qkv_, q * T, h * head));
        for (long h = 0; h < heads; h++)
            put_operand(dout + at * width + h * d_head, n_ctx, d_head, width, F::at(dout_, q * T, h * head));
    }
    attention.forward(qkv_, n, probabilities, out_);
    attention.backward(qkv_, probabilities, out_, dout_, n, dqkv_);
    for (long q = 0; q < n; q++) {
        const long at = q * n_ctx;
        for (long h = 0; h < 3 * heads; h++)
            get_operand(F::at(dqkv_, q * T, h * head), n_ctx, d_head, 3 * width, dqkv + 3 * at * width + h * d_head);
        for (long h = 0; h < heads; h++)
            get_operand(F::at(out_, q * T, h * head), n_ctx, d_head, width, out + at * width + h * d_head);
    }
}

// to (n x T x d_model) = base + mask * from; T is whole tiles. `base` may be null.
void layer_dropout(double rate, uint64_t seed, long step, long sequence, long site, long n, long T, long d_model,
                   const float* from, const float* base, float* to) {
    const Width width(d_model);
    const long rows = n * T, ld = width.ld;
    Arena arena;
    float *from_, *base_, *to_;
    place(arena, [&] {
        for (float** p : {&from_, &base_, &to_}) *p = arena.take(rows * ld);
    });
    put_rows(from, rows, d_model, from_, ld);
    if (base) put_rows(base, rows, d_model, base_, ld);
    const Chunk c{nullptr, n, sequence, step};
    Dropout(rate, seed).apply(width, from_, base ? base_ : nullptr, to_, c, T, site);
    get_rows(to_, ld, rows, d_model, to);
}

// The summed loss; without `train` no gradients.
double layer_cross_entropy(long m, long d_model, long n_vocab, const float* h, const float* e, const int32_t* targets,
                           long train, float* losses, float* dh, float* de) {
    const Width width(d_model);
    const long rows = rows_up(m), ld = width.ld;
    CrossEntropy loss(width, n_vocab, rows);
    Parameters parameters;
    Weight weight;
    parameters.add_weight(weight, 1, n_vocab, loss.vocab, 1, d_model, width.padded);
    Arena arena;
    float *h_, *dh_, *de_, *losses_;
    int32_t* targets_;
    Matrix narrow{};
    place(arena, [&] {
        parameters.values = arena.take(parameters.size);
        parameters.place_copies(arena);
        de_ = arena.take(parameters.size);
        h_ = arena.take(rows * ld);
        dh_ = arena.take(rows * ld);
        losses_ = arena.take(rows);
        targets_ = reinterpret_cast<int32_t*>(arena.take(rows));
        if (!F::PLAIN) narrow = take_matrix(arena, rows, width.padded);
        loss.place(arena);
    });
    parameters.write(parameters.values, e);
    parameters.write(de_, de);
    parameters.pack_all();
    put_rows(h, m, d_model, h_, ld);
    std::fill(dh_, dh_ + rows * ld, 1e30f);  // what is there must not matter
    for (long i = 0; i < rows; i++) targets_[i] = i < m ? targets[i] : -1;
    const Matrix left = operand(h_, rows, width, narrow);
    const double total =
        train ? loss.forward_backward(left, h_, weight, parameters.values, targets_, rows, losses_, dh_, de_)
              : loss.forward(left, weight, targets_, rows, losses_);
    get_rows(losses_, 0, 1, m, losses);
    if (!train) return total;
    get_rows(dh_, ld, m, d_model, dh);
    parameters.read(de_, de);
    return total;
}

// One step on `n` numbers; returns the gradient's norm.
double layer_adamw(double beta1, double beta2, double eps, double clip, double weight_decay, double lr, long step,
                   long n, const float* g, float* p, float* m, float* v) {
    const long size = rows_up(n);
    Arena arena;
    float *g_, *p_, *m_, *v_;
    place(arena, [&] {
        for (float** x : {&g_, &p_, &m_, &v_}) *x = arena.take(size);
    });
    put_rows(g, 1, n, g_, 0);
    put_rows(p, 1, n, p_, 0);
    put_rows(m, 1, n, m_, 0);
    put_rows(v, 1, n, v_, 0);
    const double norm = std::sqrt(square_norm(g_, size));
    const AdamW adamw(beta1, beta2, eps, clipping(clip, norm), step);
    adamw.update(p_, m_, v_, g_, size, lr, weight_decay);
    get_rows(p_, 0, 1, n, p);
    get_rows(m_, 0, 1, n, m);
    get_rows(v_, 0, 1, n, v);
    return norm;
}

// All of a model but the final norm and the loss. `parameters` and `gradient` are flat: the embedding, then the model's
// own. x, dx (batch x n_ctx x d_model)
void layer_model(const Shape* shape, const Settings* settings, const float* parameters, const uint16_t* tokens,
                 long batch, long step, long train, const float* dx, float* x, float* gradient) {
    const Width width(shape->d_model);
    const Rows rows(*shape);
    const long ld = width.ld, d = width.real;
    Parameters all;
    Weight embedding;
    all.add_weight(embedding, 1, shape->n_vocab, rows_up(shape->n_vocab), 1, d, width.padded);
    std::unique_ptr<Model> model;
    if (shape->lstm)
        model = std::make_unique<Lstm>(*shape, *settings, rows, embedding, all);
    else
        model = std::make_unique<Transformer>(*shape, *settings, rows, embedding, all);
    Arena arena;
    Scratch scratch;
    float *gradient_, *x_, *dx_;
    place(arena, [&] {
        all.values = arena.take(all.size);
        gradient_ = arena.take(all.size);
        all.place_copies(arena);
        x_ = arena.take((rows.most + W) * ld);
        dx_ = arena.take((rows.most + W) * ld);
        scratch.place(arena, rows.most + W, width);
        model->place(arena, rows.most + W);
    });
    all.write(all.values, parameters);
    all.pack_all();
    FlushTiny flush;
    for (long b = 0; b < batch; b += rows.sequences) {
        const Chunk c{tokens + b * (shape->n_ctx + 1), std::min(rows.sequences, batch - b), b, step};
        std::memset(dx_, 0, rows.most * ld * 4);
        model->forward(all.values, c, train, scratch, x_);
        for (long i = 0; i < rows.of(c.n); i++) {
            const Place p = rows.place(i);
            if (p.sequence >= c.n || p.time >= rows.n_ctx) continue;
            const long at = ((b + p.sequence) * rows.n_ctx + p.time) * d;
            std::memcpy(x + at, x_ + i * ld, d * 4);
            std::memcpy(dx_ + i * ld, dx + at, d * 4);
        }
        if (train) model->backward(all.values, c, b == 0, scratch, dx_, gradient_);
    }
    all.read(gradient_, gradient);
}
}
