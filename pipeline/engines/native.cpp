// A whole training step of a small decoder-only Transformer in one thread: forward, backward, clipping, AdamW.
//
// The model is that of pipeline/models/transformer.py and the parameters are laid out as in pipeline/models/layout.py.
// What makes it fast, in order of what it gives:
//
// 1. A chunk of about 128 rows (one sequence, or a few) goes forward and backward alone, so that its activations stay
//    in the cache; its weight gradients are added to one flat vector.
// 2. One register-blocked kernel multiplies matrices. The left operand is read element by element and broadcast, so a
//    transposed left operand costs nothing; the right operand is read in vectors. Weights are copied once a step into
//    the order in which the kernel reads them, both ways round.
// 3. What follows a product (GELU and its derivative, the residual sum) is done on the kernel's registers.
// 4. Logits exist for a few rows at a time; their gradient overwrites them.
//
// Every dimension is rounded up to whole vectors inside ("padded"). The padding of a weight is zero, gets a zero
// gradient, and so stays zero: no kernel has a special case for odd sizes.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include <sys/mman.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// ---------------------------------------------------------------------------------------------------- vectors

#if defined(__AVX512F__)
constexpr int W = 16;         // floats in a vector
constexpr int TILE_ROWS = 8;  // rows of the product held in registers, 3 vectors wide: 24 of 32 registers
#elif defined(__AVX__)
constexpr int W = 8;
constexpr int TILE_ROWS = 4;  // 12 of 16 registers
#elif defined(__ARM_NEON)
constexpr int W = 4;
constexpr int TILE_ROWS = 8;
#else
constexpr int W = 4;
constexpr int TILE_ROWS = 4;
#endif
constexpr int TILE_VECTORS = 3;
constexpr long LINE = 16;            // floats in a cache line
constexpr long DEPTH_BLOCK = 256;    // rows of the right operand that stay in the first cache
constexpr long CHUNK_ROWS = 128;     // rows that go forward and backward together
constexpr long LOGITS = 128 * 1024;  // logits held at a time: half a megabyte
constexpr long QUERY_ROWS = 128;     // rows of attention scores held at a time in the backward pass

typedef float Vector __attribute__((vector_size(W * 4), may_alias));
typedef int32_t Integers __attribute__((vector_size(W * 4), may_alias));
typedef uint32_t Naturals __attribute__((vector_size(W * 4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }
inline Vector splat(float x) { return x - Vector{}; }

template <int... I>
inline Integers lane_numbers(std::integer_sequence<int, I...>) {
    return Integers{I...};
}
inline Integers lanes() { return lane_numbers(std::make_integer_sequence<int, W>{}); }

inline Vector choose(Integers mask, Vector yes, Vector no) {
    return (Vector)((mask & (Integers)yes) | (~mask & (Integers)no));
}

// The lanes below `count` of v; zero elsewhere.
inline Vector keep_lanes(Vector v, long count) { return (Vector)((Integers)v & (lanes() < (int32_t)count)); }

// Where one is not a number, b.
inline Vector maximum(Vector a, Vector b) {
#if defined(__AVX512F__)
    return (Vector)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return choose(a > b, a, b);
#endif
}
inline Vector minimum(Vector a, Vector b) {
#if defined(__AVX512F__)
    return (Vector)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return choose(a < b, a, b);
#endif
}

template <int S, int... I>
inline Vector swap_lanes(Vector v, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(v, v, (I ^ S)...);
}
template <int S>
inline Vector swapped(Vector v) {
    return swap_lanes<S>(v, std::make_integer_sequence<int, W>{});
}

// The sum of all lanes, in every lane.
inline Vector lane_sum(Vector v) {
    if constexpr (W > 8) v += swapped<W / 2 & 8>(v);
    if constexpr (W > 4) v += swapped<4>(v);
    v += swapped<2>(v);
    return v + swapped<1>(v);
}
inline float lane_maximum(Vector v) {
    if constexpr (W > 8) v = maximum(v, swapped<W / 2 & 8>(v));
    if constexpr (W > 4) v = maximum(v, swapped<4>(v));
    v = maximum(v, swapped<2>(v));
    return maximum(v, swapped<1>(v))[0];
}

// 2^x to about 1e-7. A NaN stays a NaN. Below the smallest normal number the result is zero or nearly so.
inline Vector exp2(Vector x) {
#if defined(__AVX512F__)
    const Vector n = (Vector)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vector r = x - n;
#else
    x = maximum(splat(-126.f), minimum(splat(127.f), x));
    const Vector shifted = x + 12582912.f;  // 1.5 x 2^23: the integer is in the low bits
    const Vector r = x - (shifted - 12582912.f);
#endif
    Vector p = splat(1.5345812204242600e-4f);
    p = p * r + 1.3399931219698897e-3f;
    p = p * r + 9.6184889570410280e-3f;
    p = p * r + 5.5503287769636304e-2f;
    p = p * r + 2.4022646890634677e-1f;
    p = p * r + 6.9314720573726870e-1f;
    p = p * r + 1.f;
#if defined(__AVX512F__)
    return (Vector)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return (Vector)((Integers)p + ((Integers)shifted << 23));
#endif
}

// 1 / x for a normal number.
inline Vector reciprocal(Vector x) {
#if defined(__AVX512F__)
    const Vector y = (Vector)_mm512_rcp14_ps((__m512)x);
    return y + y * (1.f - x * y);  // one step of Newton
#else
    return 1.f / x;
#endif
}

constexpr float LOG2_E = 1.44269504088896341f;
constexpr float LN_2 = 0.693147180559945309f;

// GELU (tanh form) is u s with s = sigmoid(2 sqrt(2/pi) (u + 0.044715 u^3)); its derivative comes from the same s.
inline void gelu(Vector u, Vector& value, Vector& slope) {
    constexpr float a = 1.5957691216057308f, b = 0.044715f;
    const Vector square = u * u;
    const Vector exponent = u * (square * (-a * b * LOG2_E) - a * LOG2_E);
    const Vector s = reciprocal(1.f + exp2(minimum(splat(125.f), exponent)));
    value = u * s;
    slope = s + (value - value * s) * (square * (3.f * a * b) + a);
}

// ------------------------------------------------------------------------------------------- matrix products

// The right operand of a product: element (k, vector j) is at k * row + j * vector.
struct Right {
    const float* at;
    long row, vector;
};
inline Right rows_of(const float* at, long ld) { return {at, ld, W}; }

// What is done with a vector of the product at (row, column). `Next` is used for the second and later blocks of depth.
struct Add {
    float* c;
    long ld;
    using Next = Add;
    Next next() const { return *this; }
    void operator()(long i, long j, Vector v) const { store(c + i * ld + j, load(c + i * ld + j) + v); }
};
struct Store {
    float* c;
    long ld;
    using Next = Add;
    Next next() const { return {c, ld}; }
    void operator()(long i, long j, Vector v) const { store(c + i * ld + j, v); }
};
struct AddTo {  // c = source + product
    float* c;
    const float* source;
    long ld;
    using Next = Add;
    Next next() const { return {c, ld}; }
    void operator()(long i, long j, Vector v) const { store(c + i * ld + j, load(source + i * ld + j) + v); }
};
struct AddScaledRow {
    float* c;
    long ld;
    const float* scale;
    using Next = AddScaledRow;
    Next next() const { return *this; }
    void operator()(long i, long j, Vector v) const {
        store(c + i * ld + j, load(c + i * ld + j) + v * scale[i]);
    }
};
struct StoreScaledRow {
    float* c;
    long ld;
    const float* scale;
    using Next = AddScaledRow;
    Next next() const { return {c, ld, scale}; }
    void operator()(long i, long j, Vector v) const { store(c + i * ld + j, v * scale[i]); }
};
struct Times {  // c = product * factor, element by element; the depth is never split
    float* c;
    const float* factor;
    long ld;
    using Next = void;
    void operator()(long i, long j, Vector v) const { store(c + i * ld + j, v * load(factor + i * ld + j)); }
};
struct Gelu {
    float *value, *slope;
    long ld;
    using Next = void;
    void operator()(long i, long j, Vector v) const {
        Vector y, dy;
        gelu(v, y, dy);
        store(value + i * ld + j, y);
        store(slope + i * ld + j, dy);
    }
};

// R rows and C vectors of the product, held in registers over the whole depth.
template <int R, int C, bool TRANSPOSED, class Out>
__attribute__((always_inline)) inline void tile(const float* a, long lda, Right b, long depth, const Out& out, long i,
                                                long j) {
    Vector sum[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) sum[r][c] = Vector{};
    const float* right = b.at;
    for (long k = 0; k < depth; k++) {
        Vector v[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) v[c] = load(right + c * b.vector);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
            const Vector left = splat(TRANSPOSED ? a[r] : a[r * lda]);
#pragma GCC unroll 4
            for (int c = 0; c < C; c++) sum[r][c] += left * v[c];
        }
        a += TRANSPOSED ? lda : 1;
        right += b.row;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int c = 0; c < C; c++) out(i + r, j + c * W, sum[r][c]);
}

template <int C, bool TRANSPOSED, class Out>
__attribute__((noinline)) void columns(const float* a, long lda, Right b, long rows, long depth, const Out& out,
                                       long j) {
    const long step = TRANSPOSED ? 1 : lda;
    long i = 0;
    for (; i + TILE_ROWS <= rows; i += TILE_ROWS)
        tile<TILE_ROWS, C, TRANSPOSED>(a + i * step, lda, b, depth, out, i, j);
    if (TILE_ROWS > 4 && i + 4 <= rows) {
        tile<4, C, TRANSPOSED>(a + i * step, lda, b, depth, out, i, j);
        i += 4;
    }
    for (; i < rows; i++) tile<1, C, TRANSPOSED>(a + i * step, lda, b, depth, out, i, j);
}

template <bool TRANSPOSED, class Out>
void multiply_block(const float* a, long lda, Right b, long rows, long vectors, long depth, const Out& out) {
    for (long j = 0; j < vectors;) {
        const long left = vectors - j;
        const Right part{b.at + j * b.vector, b.row, b.vector};
        if (left == 1) {
            columns<1, TRANSPOSED>(a, lda, part, rows, depth, out, j * W);
            j += 1;
        } else if (left == 2 || left == 4) {
            columns<2, TRANSPOSED>(a, lda, part, rows, depth, out, j * W);
            j += 2;
        } else {
            columns<3, TRANSPOSED>(a, lda, part, rows, depth, out, j * W);
            j += 3;
        }
    }
}

// The product of a (rows x depth, or its transpose when TRANSPOSED) and b (depth x vectors * W).
template <bool TRANSPOSED = false, class Out>
void multiply(const float* a, long lda, Right b, long rows, long vectors, long depth, const Out& out) {
    if constexpr (std::is_void_v<typename Out::Next>) {
        multiply_block<TRANSPOSED>(a, lda, b, rows, vectors, depth, out);
    } else {
        const long blocks = std::max(1L, (depth + DEPTH_BLOCK - 1) / DEPTH_BLOCK);
        const long block = (depth + blocks - 1) / blocks;
        multiply_block<TRANSPOSED>(a, lda, b, rows, vectors, std::min(block, depth), out);
        for (long k = block; k < depth; k += block)
            multiply_block<TRANSPOSED>(a + (TRANSPOSED ? k * lda : k), lda, {b.at + k * b.row, b.row, b.vector}, rows,
                                       vectors, std::min(block, depth - k), out.next());
    }
}

template <int S, bool HIGH, int... I>
inline Vector exchange_lanes(Vector a, Vector b, std::integer_sequence<int, I...>) {
    if constexpr (HIGH)
        return __builtin_shufflevector(a, b, ((I & S) ? W + I : I + S)...);
    else
        return __builtin_shufflevector(a, b, ((I & S) ? W + I - S : I)...);
}

template <int S>
inline void exchange_blocks(Vector* v) {
#pragma GCC unroll 16
    for (int i = 0; i < W; i++)
        if (!(i & S)) {
            const Vector a = v[i], b = v[i + S];
            v[i] = exchange_lanes<S, false>(a, b, std::make_integer_sequence<int, W>{});
            v[i + S] = exchange_lanes<S, true>(a, b, std::make_integer_sequence<int, W>{});
        }
}

// W x W floats: to[j][i] = from[i][j], by exchanging ever smaller blocks.
inline void transpose_square(const float* from, long ld_from, float* to, long ld_to) {
    Vector v[W];
#pragma GCC unroll 16
    for (int i = 0; i < W; i++) v[i] = load(from + i * ld_from);
    if constexpr (W > 8) exchange_blocks<W / 2 & 8>(v);
    if constexpr (W > 4) exchange_blocks<4>(v);
    exchange_blocks<2>(v);
    exchange_blocks<1>(v);
#pragma GCC unroll 16
    for (int i = 0; i < W; i++) store(to + i * ld_to, v[i]);
}

// to (columns x rows) = from (rows x columns) transposed; columns and both strides are whole vectors. The last square
// writes up to W - 1 columns more than there are rows, from rows of `from` that exist but mean nothing.
void transpose(const float* from, long ld_from, float* to, long ld_to, long rows, long columns) {
    for (long i = 0; i < rows; i += W)
        for (long j = 0; j < columns; j += W) transpose_square(from + i * ld_from + j, ld_from, to + j * ld_to + i, ld_to);
}

// A weight in the order in which `multiply` reads it: for every vector of columns, all rows.
void pack(const float* from, long ld, long rows, long columns, float* to) {
    for (long j = 0; j < columns; j += W)
        for (long k = 0; k < rows; k++, to += W) store(to, load(from + k * ld + j));
}
// The same of the weight transposed; both dimensions are whole vectors.
void pack_transposed(const float* from, long ld, long rows, long columns, float* to) {
    for (long i = 0; i < rows; i += W)
        for (long j = 0; j < columns; j += W) transpose_square(from + i * ld + j, ld, to + i * columns + j * W, W);
}
inline Right packed(const float* at, long depth) { return {at, W, depth * W}; }

// ------------------------------------------------------------------------------------------------- dimensions

inline long whole(long n, long unit) { return (n + unit - 1) / unit * unit; }
// A row stride of an odd number of cache lines, so that a column of rows falls on all sets of a cache.
inline long stride(long n) { return whole(n, LINE) / LINE % 2 ? whole(n, LINE) : whole(n, LINE) + LINE; }

// A parameter: true sizes, and padded sizes in which heads are padded one by one.
struct Tensor {
    long row_groups, rows, padded_rows;
    long column_groups, columns, padded_columns;
    long at;  // in the padded vector
    bool matrix;
    long ld() const { return column_groups * padded_columns; }
    long size() const { return row_groups * padded_rows * ld(); }
};

struct Block {
    long gain1, bias1, qkv, out, gain2, bias2, up, down;  // offsets in the padded vector
    float *qkv_forward, *out_forward, *up_forward, *down_forward;
    float *qkv_backward, *out_backward, *up_backward, *down_backward;
};

struct Saved {  // what the backward pass needs of one block, rows x ...
    float *input, *norm1, *qkv, *attended, *middle, *norm2, *hidden, *slope;
    float *statistics1, *statistics2;  // mean and 1/deviation by row
    float* maximum;                    // by head and row: largest score and 1/sum of the exponentials
};

class Arena {
   public:
    float* take(long n) {
        float* at = base_ ? base_ + used_ : nullptr;
        used_ += whole(n, LINE);
        return at;
    }
    bool map() {
        bytes_ = whole(used_ * 4 + HUGE, HUGE) + HUGE;
        void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) return false;
        start_ = at;
        base_ = reinterpret_cast<float*>(whole(reinterpret_cast<intptr_t>(at), HUGE));
#if defined(MADV_HUGEPAGE)
        madvise(at, bytes_, MADV_HUGEPAGE);  // fewer misses of the page table; a refusal does no harm
#endif
        used_ = 0;
        return true;
    }
    ~Arena() {
        if (start_) munmap(start_, bytes_);
    }

   private:
    static constexpr long HUGE = 2 << 20;
    void* start_ = nullptr;
    float* base_ = nullptr;
    long used_ = 0, bytes_ = 0;
};

inline uint64_t mix(uint64_t x) {  // splitmix64
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#if defined(__x86_64__)
// Numbers below the smallest normal float are taken as zero: they cost a hundred cycles each and mean nothing here.
struct FlushTiny {
    unsigned before = _mm_getcsr();
    FlushTiny() { _mm_setcsr(before | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before); }
};
#else
struct FlushTiny {
    FlushTiny() {}
};
#endif

}  // namespace

// ------------------------------------------------------------------------------------------------------- engine

struct Shape {
    int64_t n_layer, d_model, n_head, d_ff, n_ctx, n_vocab, n_reuse;
};
struct Settings {
    double beta1, beta2, eps, weight_decay, clip, dropout;
    uint64_t seed;
};

class Engine {
   public:
    Engine(const Shape& shape, const Settings& settings) : shape_(shape), settings_(settings) {
        T = shape.n_ctx;
        heads = shape.n_head;
        d = whole(shape.d_model, W);
        head = whole(shape.d_model / heads, W);
        inner = heads * head;
        ff = whole(shape.d_ff, W);
        vocab = whole(shape.n_vocab, W);
        sequences = std::max(1L, CHUNK_ROWS / T);
        rows = sequences * T;
        ld = stride(d);
        ld_inner = stride(inner);
        ld_qkv = stride(3 * inner);
        ld_ff = stride(ff);
        ld_keys = stride(whole(T, W));
        vocab_chunk = std::min(vocab, LOGITS / 64);
        loss_rows = std::max(8L, std::min(whole(rows, 8), LOGITS / vocab_chunk / 8 * 8));
        ld_logits = stride(vocab_chunk);
        scale = 1.f / std::sqrt((float)(shape.d_model / heads));
        threshold = (uint32_t)std::min(4294967295.0, settings.dropout * 4294967296.0);
        keep_scale = (float)(1.0 / (1.0 - settings.dropout));
        describe();
    }

    bool allocate() {
        place();
        if (!arena_.map()) return false;
        place();
        return true;
    }

    // Copy between a flat vector in the order of layout.py and a padded one.
    void copy(int which, float* flat, bool in) {
        float* padded = which == 0 ? parameters : which == 1 ? first : which == 2 ? second : gradient;
        for (const Tensor& t : tensors_)
            for (long g = 0; g < t.row_groups; g++)
                for (long r = 0; r < t.rows; r++)
                    for (long h = 0; h < t.column_groups; h++, flat += t.columns) {
                        float* there = padded + t.at + (g * t.padded_rows + r) * t.ld() + h * t.padded_columns;
                        if (in)
                            std::memcpy(there, flat, t.columns * 4);
                        else
                            std::memcpy(flat, there, t.columns * 4);
                    }
        if (in && which == 0) stale_ = true;
    }

    // The mean loss; its gradient is left in `gradient`. `halves` (or null) gets the squared norms of the gradients of
    // the mean losses of the batch's two halves.
    double differentiate(const uint16_t* tokens, long batch, long step, double* halves) {
        refresh();
        if (!halves) return accumulate(gradient, tokens, 0, batch, batch, step) / (double)(batch * T);
        const long cut = batch / 2;
        double loss = accumulate(gradient, tokens, 0, cut, batch, step);
        loss += accumulate(half, tokens, cut, batch, batch, step);
        halves[0] = square_norm(gradient) * std::pow((double)batch / (double)cut, 2);
        halves[1] = square_norm(half) * std::pow((double)batch / (double)(batch - cut), 2);
        for (long i = 0; i < size_; i += W) store(gradient + i, load(gradient + i) + load(half + i));
        return loss / (double)(batch * T);
    }

    // Clip the gradient and take one step of AdamW (Loshchilov and Hutter 2019), as torch.optim.AdamW does; return the
    // gradient's norm before.
    double update(double lr, long step) {
        const double norm = std::sqrt(square_norm(gradient));
        double clip = 1;
        if (settings_.clip > 0) clip = settings_.clip / (norm + 1e-6);
        if (clip > 1) clip = 1;  // a norm that is not a number stays one
        const double correction1 = 1 - std::pow(settings_.beta1, (double)step);
        const double correction2 = 1 - std::pow(settings_.beta2, (double)step);
        for (const Tensor& t : tensors_)
            descend(t.at, t.size(), (float)clip, (float)(1 - (t.matrix ? lr * settings_.weight_decay : 0)),
                    (float)(lr / correction1), (float)std::sqrt(correction2));
        stale_ = true;
        return norm;
    }

    // Add the loss of every position over `count` windows to `sums`.
    void evaluate(const uint16_t* tokens, long count, double* sums) {
        refresh();
        for (long b = 0; b < count;) {
            const long n = std::min(sequences, count - b);
            forward<false>(tokens + b * (T + 1), n, 0, 0);
            cross_entropy<false>(tokens + b * (T + 1), n, 0.f);
            for (long i = 0; i < n * T; i++) sums[i % T] += losses[i];
            b += n;
        }
    }

   private:
    // Set `to` to the part that sequences from .. stop have in the gradient of the batch's mean loss; return the sum of
    // their losses.
    double accumulate(float* to, const uint16_t* tokens, long from, long stop, long batch, long step) {
        std::memset(to, 0, size_ * 4);
        into = to;
        double loss = 0;
        for (long b = from; b < stop; b += sequences) {
            const long n = std::min(sequences, stop - b);
            const uint16_t* part = tokens + b * (T + 1);
            forward<true>(part, n, b, step);
            loss += cross_entropy<true>(part, n, 1.f / (float)(batch * T));
            backward(part, n, b, step);
        }
        return loss;
    }

    // -------------------------------------------------------------------------------------- memory

    long add(long row_groups, long row_count, long padded_rows, long column_groups, long column_count,
             long padded_columns, bool matrix = true) {
        tensors_.push_back({row_groups, row_count, padded_rows, column_groups, column_count, padded_columns, size_, matrix});
        const long at = size_;
        size_ += tensors_.back().size();
        return at;
    }

    void describe() {
        const long n = shape_.d_model, n_head = n / heads;
        embedding = add(1, shape_.n_vocab, vocab, 1, n, d);
        position = add(1, T, T, 1, n, d);
        if (shape_.n_reuse > 1) depth = add(1, shape_.n_reuse, shape_.n_reuse, 1, n, d);
        blocks_.resize(shape_.n_layer);
        for (Block& b : blocks_) {
            b.gain1 = add(1, 1, 1, 1, n, d, false);
            b.bias1 = add(1, 1, 1, 1, n, d, false);
            b.qkv = add(1, n, d, 3 * heads, n_head, head);
            b.out = add(heads, n_head, head, 1, n, d);
            b.gain2 = add(1, 1, 1, 1, n, d, false);
            b.bias2 = add(1, 1, 1, 1, n, d, false);
            b.up = add(1, n, d, 1, shape_.d_ff, ff);
            b.down = add(1, shape_.d_ff, ff, 1, n, d);
        }
        gain = add(1, 1, 1, 1, n, d, false);
        bias = add(1, 1, 1, 1, n, d, false);
    }

    void place() {
        Arena& a = arena_;
        parameters = a.take(size_);
        first = a.take(size_);
        second = a.take(size_);
        gradient = a.take(size_);
        for (Block& b : blocks_) {
            b.qkv_forward = a.take(d * 3 * inner);
            b.qkv_backward = a.take(d * 3 * inner);
            b.out_forward = a.take(inner * d);
            b.out_backward = a.take(inner * d);
            b.up_forward = a.take(d * ff);
            b.up_backward = a.take(d * ff);
            b.down_forward = a.take(ff * d);
            b.down_backward = a.take(ff * d);
        }
        unembed = a.take(d * vocab);
        unembed_backward = a.take(vocab * d);
        saved_.resize(shape_.n_reuse * shape_.n_layer);
        const long padded = rows + W;  // transposing reads whole squares
        for (Saved& s : saved_) {
            s.input = a.take(padded * ld);
            s.statistics1 = a.take(2 * rows);
            s.norm1 = a.take(padded * ld);
            s.qkv = a.take(padded * ld_qkv);
            s.maximum = a.take(2 * heads * rows);
            s.attended = a.take(padded * ld_inner);
            s.middle = a.take(padded * ld);
            s.statistics2 = a.take(2 * rows);
            s.norm2 = a.take(padded * ld);
            s.hidden = a.take(padded * ld_ff);
            s.slope = a.take(padded * ld_ff);
        }
        final_input = a.take(padded * ld);
        final_statistics = a.take(2 * rows);
        final_norm = a.take(padded * ld);
        stream = a.take(padded * ld);
        branch = a.take(padded * ld);
        inner_gradient = a.take(padded * ld_inner);
        wide = a.take(padded * std::max(ld_ff, ld_qkv));
        scaled = a.take(loss_rows * ld);
        logits = a.take(loss_rows * ld_logits);
        losses = a.take(rows);
        row_maximum = a.take(loss_rows);
        row_sum = a.take(loss_rows);
        row_target = a.take(loss_rows);
        row_scale = a.take(loss_rows);
        keys = a.take(head * ld_keys);
        values = a.take(head * ld_keys);
        probabilities = a.take(QUERY_ROWS * ld_keys);
        differences = a.take(QUERY_ROWS * ld_keys);
        half = a.take(size_);  // last, since it is touched only when noise is measured
    }

    void refresh() {
        if (!stale_) return;
        for (Block& b : blocks_) {
            pack(parameters + b.qkv, 3 * inner, d, 3 * inner, b.qkv_forward);
            pack_transposed(parameters + b.qkv, 3 * inner, d, 3 * inner, b.qkv_backward);
            pack(parameters + b.out, d, inner, d, b.out_forward);
            pack_transposed(parameters + b.out, d, inner, d, b.out_backward);
            pack(parameters + b.up, ff, d, ff, b.up_forward);
            pack_transposed(parameters + b.up, ff, d, ff, b.up_backward);
            pack(parameters + b.down, d, ff, d, b.down_forward);
            pack_transposed(parameters + b.down, d, ff, d, b.down_backward);
        }
        pack_transposed(parameters + embedding, d, vocab, d, unembed);
        pack(parameters + embedding, d, vocab, d, unembed_backward);
        stale_ = false;
    }

    // ------------------------------------------------------------------------------------- dropout

    // The factor (0 or 1/(1 - rate)) of W elements: a hash of the key and the element's place, so that a mask can be
    // made again in the backward pass and in a run that was resumed.
    Vector mask(uint64_t key, long t, long j) const {
        Naturals x = (Naturals)lanes() + (uint32_t)((t << 16) + j);
        x = x * 0x9E3779B1u + (uint32_t)key;
        x = (x ^ (x >> 16)) * 0x21F0AAADu;
        x = ((x ^ (x >> 15)) + (uint32_t)(key >> 32)) * 0x735A2D97u;
        x ^= x >> 15;
        return (Vector)((Integers)splat(keep_scale) & (Integers)(x >= threshold));
    }
    uint64_t mask_key(long step, long sequence, long site) const {
        return mix(mix(mix(mix(settings_.seed) ^ (uint64_t)step) ^ (uint64_t)sequence) ^ (uint64_t)site);
    }
    // to = base + mask * from; base may be null.
    void drop(const float* from, const float* base, float* to, long n, long sequence, long step, long site) const {
        for (long s = 0; s < n; s++) {
            const uint64_t key = mask_key(step, sequence + s, site);
            for (long t = 0; t < T; t++) {
                const long at = (s * T + t) * ld;
                for (long j = 0; j < d; j += W) {
                    const Vector v = load(from + at + j) * mask(key, t, j);
                    store(to + at + j, base ? load(base + at + j) + v : v);
                }
            }
        }
    }
    bool dropping() const { return settings_.dropout > 0; }

    // ---------------------------------------------------------------------------------- layer norm

    static constexpr float NORM_EPS = 1e-5f;

    __attribute__((noinline)) void norm(const float* x, long g, long b, float* y, float* statistics, long n) const {
        const float share = 1.f / (float)shape_.d_model;
        const long last = d - W, tail = shape_.d_model - last;
        const float *gains = parameters + g, *biases = parameters + b;
        for (long i = 0; i < n; i++, x += ld, y += ld) {
            Vector sum = load(x);
            for (long j = W; j < d; j += W) sum += load(x + j);
            const Vector mean = lane_sum(sum) * share;
            Vector square = Vector{};
            for (long j = 0; j < last; j += W) {
                const Vector v = load(x + j) - mean;
                square += v * v;
            }
            const Vector v = keep_lanes(load(x + last) - mean, tail);
            square += v * v;
            const float inverse = 1.f / std::sqrt(lane_sum(square)[0] * share + NORM_EPS);
            for (long j = 0; j < d; j += W)
                store(y + j, (load(x + j) - mean) * inverse * load(gains + j) + load(biases + j));
            statistics[2 * i] = mean[0];
            statistics[2 * i + 1] = inverse;
        }
    }

    // dx = source + the gradient through the norm (source may be null); gains' and biases' gradients are added up.
    template <bool ADD>
    __attribute__((noinline)) void norm_backward(const float* dy, const float* x, const float* statistics, long g,
                                                 long b, float* dx, long n) const {
        const float share = 1.f / (float)shape_.d_model;
        const long last = d - W, tail = shape_.d_model - last;
        const float* gains = parameters + g;
        float *dgain = into + g, *dbias = into + b;
        for (long i = 0; i < n; i++, x += ld, dy += ld, dx += ld) {
            const float mean = statistics[2 * i], inverse = statistics[2 * i + 1];
            Vector sum = Vector{}, product = Vector{};
            for (long j = 0; j < d; j += W) {
                const Vector unit = (load(x + j) - mean) * inverse, up = load(dy + j);
                store(dgain + j, load(dgain + j) + up * unit);
                store(dbias + j, load(dbias + j) + up);
                const Vector v = up * load(gains + j);
                sum += v;
                product += v * unit;
            }
            sum = lane_sum(sum) * share;
            product = lane_sum(product) * share;
            for (long j = 0; j < d; j += W) {
                const Vector unit = (load(x + j) - mean) * inverse;
                Vector v = (load(dy + j) * load(gains + j) - sum - unit * product) * inverse;
                if (j == last) v = keep_lanes(v, tail);
                store(dx + j, ADD ? load(dx + j) + v : v);
            }
        }
    }

    // ----------------------------------------------------------------------------------- attention

    // exp of the scores of query i (within its sequence) in place, zero after key i and up to `vectors`.
    void exponentials(float* s, long i, long vectors, float& largest, float& total) const {
        const float factor = scale * LOG2_E;
        const long last = i / W;
        Vector top = choose(lanes() <= (int32_t)(i - last * W), load(s + last * W), splat(-INFINITY));
        for (long j = 0; j < last; j++) top = maximum(top, load(s + j * W));
        largest = lane_maximum(top) * factor;
        Vector sum = Vector{};
        for (long j = 0; j < last; j++) {
            const Vector e = exp2(load(s + j * W) * factor - largest);
            store(s + j * W, e);
            sum += e;
        }
        const Vector e = keep_lanes(exp2(load(s + last * W) * factor - largest), i - last * W + 1);
        store(s + last * W, e);
        for (long j = last + 1; j < vectors; j++) store(s + j * W, Vector{});
        total = lane_sum(sum + e)[0];
    }

    __attribute__((noinline)) void attend(const Saved& s, long n) const {
        for (long q = 0; q < n; q++)
            for (long h = 0; h < heads; h++) {
                const float* query = s.qkv + q * T * ld_qkv + h * head;
                const float *key = query + inner, *value = query + 2 * inner;
                float* out = s.attended + q * T * ld_inner + h * head;
                float* statistics = s.maximum + 2 * (h * rows + q * T);
                transpose(key, ld_qkv, keys, ld_keys, T, head);
                for (long i = 0; i < T; i += TILE_ROWS) {
                    const long m = std::min<long>(TILE_ROWS, T - i), vectors = (i + m - 1) / W + 1;
                    float* p = probabilities;
                    multiply(query + i * ld_qkv, ld_qkv, rows_of(keys, ld_keys), m, vectors, head, Store{p, ld_keys});
                    float inverse[TILE_ROWS];
                    for (long r = 0; r < m; r++) {
                        float largest, total;
                        exponentials(p + r * ld_keys, i + r, vectors, largest, total);
                        inverse[r] = 1.f / total;
                        statistics[2 * (i + r)] = largest;
                        statistics[2 * (i + r) + 1] = inverse[r];
                    }
                    multiply(p, ld_keys, rows_of(value, ld_qkv), m, head / W, i + m,
                             StoreScaledRow{out + i * ld_inner, ld_inner, inverse});
                }
            }
    }

    // dqkv (in `wide`) from the gradient of the attended values (in `inner_gradient`).
    __attribute__((noinline)) void attend_backward(const Saved& s, long n) const {
        const float factor = scale * LOG2_E;
        for (long q = 0; q < n; q++)
            for (long h = 0; h < heads; h++) {
                const long at = q * T * ld_qkv + h * head;
                const float *query = s.qkv + at, *key = query + inner, *value = query + 2 * inner;
                float *dquery = wide + at, *dkey = dquery + inner, *dvalue = dquery + 2 * inner;
                const float* out = s.attended + q * T * ld_inner + h * head;
                const float* dout = inner_gradient + q * T * ld_inner + h * head;
                const float* statistics = s.maximum + 2 * (h * rows + q * T);
                transpose(key, ld_qkv, keys, ld_keys, T, head);
                transpose(value, ld_qkv, values, ld_keys, T, head);
                for (long start = 0; start < T; start += QUERY_ROWS) {
                    const long stop = std::min(T, start + QUERY_ROWS);
                    for (long i = start; i < stop; i += TILE_ROWS) {
                        const long m = std::min<long>(TILE_ROWS, stop - i), vectors = (i + m - 1) / W + 1;
                        float* p = probabilities + (i - start) * ld_keys;
                        float* dp = differences + (i - start) * ld_keys;
                        multiply(query + i * ld_qkv, ld_qkv, rows_of(keys, ld_keys), m, vectors, head,
                                 Store{p, ld_keys});
                        multiply(dout + i * ld_inner, ld_inner, rows_of(values, ld_keys), m, vectors, head,
                                 Store{dp, ld_keys});
                        for (long r = 0; r < m; r++) {
                            const float largest = statistics[2 * (i + r)], inverse = statistics[2 * (i + r) + 1];
                            Vector delta = Vector{};
                            for (long j = 0; j < head; j += W)
                                delta += load(out + (i + r) * ld_inner + j) * load(dout + (i + r) * ld_inner + j);
                            delta = lane_sum(delta);
                            float *pr = p + r * ld_keys, *dpr = dp + r * ld_keys;
                            for (long j = 0; j < vectors; j++) {
                                Vector e = exp2(load(pr + j * W) * factor - largest) * inverse;
                                if (j * W + W > i + r + 1) e = keep_lanes(e, i + r + 1 - j * W);
                                store(pr + j * W, e);
                                store(dpr + j * W, e * (load(dpr + j * W) - delta) * scale);
                            }
                        }
                        multiply(dp, ld_keys, rows_of(key, ld_qkv), m, head / W, i + m,
                                 Store{dquery + i * ld_qkv, ld_qkv});
                    }
                    for (long j = 0; j < stop; j += TILE_ROWS) {
                        const long m = std::min<long>(TILE_ROWS, stop - j), from = std::max(start, j);
                        const float* p = probabilities + (from - start) * ld_keys + j;
                        const float* dp = differences + (from - start) * ld_keys + j;
                        const Right queries = rows_of(query + from * ld_qkv, ld_qkv);
                        const Right douts = rows_of(dout + from * ld_inner, ld_inner);
                        if (j >= start) {
                            multiply<true>(dp, ld_keys, queries, m, head / W, stop - from,
                                           Store{dkey + j * ld_qkv, ld_qkv});
                            multiply<true>(p, ld_keys, douts, m, head / W, stop - from,
                                           Store{dvalue + j * ld_qkv, ld_qkv});
                        } else {
                            multiply<true>(dp, ld_keys, queries, m, head / W, stop - from,
                                           Add{dkey + j * ld_qkv, ld_qkv});
                            multiply<true>(p, ld_keys, douts, m, head / W, stop - from,
                                           Add{dvalue + j * ld_qkv, ld_qkv});
                        }
                    }
                }
            }
    }

    // ---------------------------------------------------------------------------------- the passes

    // From tokens to the final norm. Without TRAIN every block writes over the one before it.
    template <bool TRAIN>
    void forward(const uint16_t* tokens, long n, long sequence, long step) {
        const long m = n * T, layers = shape_.n_layer, total = layers * shape_.n_reuse;
        const bool drops = TRAIN && dropping();
        float* x = total ? saved_[0].input : final_input;
        for (long s = 0; s < n; s++)
            for (long t = 0; t < T; t++) {
                const float* e = parameters + embedding + (long)tokens[s * (T + 1) + t] * d;
                const float* p = parameters + position + t * d;
                for (long j = 0; j < d; j += W) store(x + (s * T + t) * ld + j, load(e + j) + load(p + j));
            }
        if (drops) drop(x, nullptr, x, n, sequence, step, 0);
        for (long k = 0; k < total; k++) {
            const Block& b = blocks_[k % layers];
            const Saved& s = saved_[TRAIN ? k : 0];
            if (shape_.n_reuse > 1 && k % layers == 0) {
                const float* p = parameters + depth + k / layers * d;
                for (long i = 0; i < m; i++)
                    for (long j = 0; j < d; j += W) store(x + i * ld + j, load(x + i * ld + j) + load(p + j));
            }
            norm(x, b.gain1, b.bias1, s.norm1, s.statistics1, m);
            multiply(s.norm1, ld, packed(b.qkv_forward, d), m, 3 * inner / W, d, Store{s.qkv, ld_qkv});
            attend(s, n);
            residual(s.attended, ld_inner, b.out_forward, inner, x, s.middle, m, drops, n, sequence, step, 1 + 2 * k);
            norm(s.middle, b.gain2, b.bias2, s.norm2, s.statistics2, m);
            multiply(s.norm2, ld, packed(b.up_forward, d), m, ff / W, d, Gelu{s.hidden, s.slope, ld_ff});
            float* next = k + 1 == total ? final_input : saved_[TRAIN ? k + 1 : 0].input;
            residual(s.hidden, ld_ff, b.down_forward, ff, s.middle, next, m, drops, n, sequence, step, 2 + 2 * k);
            x = next;
        }
        norm(final_input, gain, bias, final_norm, final_statistics, m);
    }

    // to = x + dropout(a @ weight)
    void residual(const float* a, long lda, const float* weight, long depth_of, const float* x, float* to, long m,
                  bool drops, long n, long sequence, long step, long site) const {
        if (drops) {
            multiply(a, lda, packed(weight, depth_of), m, d / W, depth_of, Store{branch, ld});
            drop(branch, x, to, n, sequence, step, site);
        } else {
            multiply(a, lda, packed(weight, depth_of), m, d / W, depth_of, AddTo{to, x, ld});
        }
    }

    // From the gradient of the final norm's output (in `branch`) to the gradients of all parameters.
    void backward(const uint16_t* tokens, long n, long sequence, long step) {
        const long m = n * T, layers = shape_.n_layer, total = layers * shape_.n_reuse;
        const bool drops = dropping();
        norm_backward<false>(branch, final_input, final_statistics, gain, bias, stream, m);
        for (long k = total - 1; k >= 0; k--) {
            const Block& b = blocks_[k % layers];
            const Saved& s = saved_[k];

            const float* dy = stream;
            if (drops) drop(stream, nullptr, branch, n, sequence, step, 2 + 2 * k), dy = branch;
            multiply(dy, ld, packed(b.down_backward, d), m, ff / W, d, Times{wide, s.slope, ld_ff});
            multiply<true>(s.hidden, ld_ff, rows_of(dy, ld), ff, d / W, m, Add{into + b.down, d});
            multiply<true>(s.norm2, ld, rows_of(wide, ld_ff), d, ff / W, m, Add{into + b.up, ff});
            multiply(wide, ld_ff, packed(b.up_backward, ff), m, d / W, ff, Store{branch, ld});
            norm_backward<true>(branch, s.middle, s.statistics2, b.gain2, b.bias2, stream, m);

            dy = stream;
            if (drops) drop(stream, nullptr, branch, n, sequence, step, 1 + 2 * k), dy = branch;
            multiply(dy, ld, packed(b.out_backward, d), m, inner / W, d, Store{inner_gradient, ld_inner});
            multiply<true>(s.attended, ld_inner, rows_of(dy, ld), inner, d / W, m, Add{into + b.out, d});
            attend_backward(s, n);
            multiply<true>(s.norm1, ld, rows_of(wide, ld_qkv), d, 3 * inner / W, m, Add{into + b.qkv, 3 * inner});
            multiply(wide, ld_qkv, packed(b.qkv_backward, 3 * inner), m, d / W, 3 * inner, Store{branch, ld});
            norm_backward<true>(branch, s.input, s.statistics1, b.gain1, b.bias1, stream, m);

            if (shape_.n_reuse > 1 && k % layers == 0) {
                float* p = into + depth + k / layers * d;
                for (long i = 0; i < m; i++)
                    for (long j = 0; j < d; j += W) store(p + j, load(p + j) + load(stream + i * ld + j));
            }
        }
        if (drops) drop(stream, nullptr, stream, n, sequence, step, 0);
        for (long s = 0; s < n; s++)
            for (long t = 0; t < T; t++) {
                float* e = into + embedding + (long)tokens[s * (T + 1) + t] * d;
                float* p = into + position + t * d;
                for (long j = 0; j < d; j += W) {
                    const Vector v = load(stream + (s * T + t) * ld + j);
                    store(e + j, load(e + j) + v);
                    store(p + j, load(p + j) + v);
                }
            }
    }

    // ------------------------------------------------------------------------------- cross-entropy

    // The summed loss; each row's in `losses`. With TRAIN also the gradient, times `share`, of the final norm's output
    // (in `branch`) and of the embedding. A vocabulary whose logits fit is read once; a larger one in chunks, twice.
    template <bool TRAIN>
    double cross_entropy(const uint16_t* tokens, long n, float share) {
        double sum = 0;
        const bool single = vocab_chunk == vocab;
        for (long start = 0; start < n * T; start += loss_rows) {
            const long m = std::min(loss_rows, n * T - start);
            const float* h = final_norm + start * ld;
            for (long i = 0; i < m; i++) row_maximum[i] = -INFINITY, row_sum[i] = 0;
            for (long v = 0; v < vocab; v += vocab_chunk) {
                const long size = std::min(vocab_chunk, vocab - v);
                multiply(h, ld, packed(unembed + v * d, d), m, size / W, d, Store{logits, ld_logits});
                for (long i = 0; i < m; i++) gather(i, target(tokens, start + i) - v, v, size);
            }
            for (long i = 0; i < m; i++) {
                losses[start + i] = (row_maximum[i] + std::log2(row_sum[i])) * LN_2 - row_target[i];
                sum += losses[start + i];
            }
            if (!TRAIN) continue;
            for (long i = 0; i < m; i++) {
                row_scale[i] = share / row_sum[i];
                for (long j = 0; j < d; j += W) store(scaled + i * ld + j, load(h + i * ld + j) * row_scale[i]);
            }
            for (long v = 0; v < vocab; v += vocab_chunk) {
                const long size = std::min(vocab_chunk, vocab - v);
                if (!single) {
                    multiply(h, ld, packed(unembed + v * d, d), m, size / W, d, Store{logits, ld_logits});
                    for (long i = 0; i < m; i++) exponentiate(i, v, size);
                }
                for (long i = 0; i < m; i++) {
                    const long y = target(tokens, start + i) - v;
                    if (y >= 0 && y < size) logits[i * ld_logits + y] -= row_sum[i];
                }
                // unembed_backward is packed over the whole vocabulary: a chunk is some of its rows
                const Right e{unembed_backward + v * W, W, vocab * W};
                if (v == 0)
                    multiply(logits, ld_logits, e, m, d / W, size, StoreScaledRow{branch + start * ld, ld, row_scale});
                else
                    multiply(logits, ld_logits, e, m, d / W, size, AddScaledRow{branch + start * ld, ld, row_scale});
                multiply<true>(logits, ld_logits, rows_of(scaled, ld), size, d / W, m, Add{into + embedding + v * d, d});
            }
        }
        return sum;
    }

    long target(const uint16_t* tokens, long i) const { return tokens[i / T * (T + 1) + i % T + 1]; }

    // Take a chunk of row i's logits into its largest value and its sum of exponentials, which replace the logits.
    void gather(long i, long y, long v, long size) {
        float* z = logits + i * ld_logits;
        if (y >= 0 && y < size) row_target[i] = z[y];
        const long real = std::min(size, shape_.n_vocab - v), last = size - W;  // the padding is in the last vector
        if (real < size) store(z + last, choose(lanes() < (int32_t)(real - last), load(z + last), splat(-INFINITY)));
        Vector top = load(z);
        for (long j = W; j < size; j += W) top = maximum(top, load(z + j));
        const float largest = std::max(row_maximum[i], lane_maximum(top) * LOG2_E);
        Vector total = Vector{};
        for (long j = 0; j < size; j += W) {
            const Vector e = exp2(load(z + j) * LOG2_E - largest);
            store(z + j, e);
            total += e;
        }
        if (real < size) store(z + last, keep_lanes(load(z + last), real - last));
        row_sum[i] = row_sum[i] * std::exp2(row_maximum[i] - largest) + lane_sum(total)[0];
        row_maximum[i] = largest;
    }
    void exponentiate(long i, long v, long size) {
        float* z = logits + i * ld_logits;
        for (long j = 0; j < size; j += W) store(z + j, exp2(load(z + j) * LOG2_E - row_maximum[i]));
        const long real = std::min(size, shape_.n_vocab - v), last = size - W;
        if (real < size) store(z + last, keep_lanes(load(z + last), real - last));
    }

    // ----------------------------------------------------------------------------------- optimizer

    double square_norm(const float* g) const {
        double total = 0;
        for (long start = 0; start < size_; start += 64 * W) {
            Vector sum = Vector{};
            for (long i = start; i < std::min(size_, start + 64 * W); i += W) sum += load(g + i) * load(g + i);
            total += lane_sum(sum)[0];
        }
        return total;
    }

    __attribute__((noinline)) void descend(long at, long n, float clip, float decay, float rate, float root) {
        const float b1 = (float)settings_.beta1, c1 = (float)(1 - settings_.beta1);
        const float b2 = (float)settings_.beta2, c2 = (float)(1 - settings_.beta2);
        const float eps = (float)settings_.eps, inverse = 1.f / root;
        float *__restrict p = parameters + at, *__restrict m1 = first + at, *__restrict m2 = second + at;
        const float* __restrict g0 = gradient + at;
        for (long i = 0; i < n; i++) {
            const float g = g0[i] * clip;
            m1[i] = m1[i] * b1 + g * c1;
            m2[i] = m2[i] * b2 + g * g * c2;
            p[i] = p[i] * decay - rate * m1[i] / (std::sqrt(m2[i]) * inverse + eps);
        }
    }

   public:
    float *parameters = nullptr, *first = nullptr, *second = nullptr, *gradient = nullptr;

   private:
    Shape shape_;
    Settings settings_;
    std::vector<Tensor> tensors_;
    std::vector<Block> blocks_;
    std::vector<Saved> saved_;
    Arena arena_;
    long size_ = 0;
    bool stale_ = true;
    long T, heads, d, head, inner, ff, vocab, sequences, rows;  // padded, but for T, heads, sequences and rows
    long ld, ld_inner, ld_qkv, ld_ff, ld_keys, ld_logits, vocab_chunk, loss_rows;
    float scale, keep_scale;
    uint32_t threshold;
    long embedding = 0, position = 0, depth = 0, gain = 0, bias = 0;
    float *half, *into;  // the gradient of half a batch; the gradient now added to
    float *unembed, *unembed_backward;
    float *final_input, *final_statistics, *final_norm;
    float *stream, *branch, *inner_gradient, *wide;  // gradients: residual stream, one branch, heads, widest layer
    float *scaled, *logits, *losses, *row_maximum, *row_sum, *row_target, *row_scale;
    float *keys, *values, *probabilities, *differences;  // of one head, the first two transposed
};

extern "C" {

Engine* native_create(const Shape* shape, const Settings* settings) {
    Engine* engine = new Engine(*shape, *settings);
    if (engine->allocate()) return engine;
    delete engine;
    return nullptr;
}

void native_destroy(Engine* engine) { delete engine; }

// which: 0 parameters, 1 first moment, 2 second moment, 3 gradient
void native_copy(Engine* engine, int which, float* flat, int in) { engine->copy(which, flat, in); }

double native_gradient(Engine* engine, const uint16_t* tokens, int64_t batch, int64_t step) {
    FlushTiny flush;
    return engine->differentiate(tokens, batch, step, nullptr);
}

// measured: loss, gradient norm and, with `noise`, the squared gradient norms of both halves of the batch
void native_step(Engine* engine, const uint16_t* tokens, int64_t batch, int64_t step, double lr, int noise,
                 double* measured) {
    FlushTiny flush;
    measured[0] = engine->differentiate(tokens, batch, step, noise ? measured + 2 : nullptr);
    measured[1] = engine->update(lr, step);
}

void native_evaluate(Engine* engine, const uint16_t* tokens, int64_t count, double* sums) {
    FlushTiny flush;
    engine->evaluate(tokens, count, sums);
}
}
