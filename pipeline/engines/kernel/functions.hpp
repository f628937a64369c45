// Elementary functions of vectors: 2^x, 1 / x, 1 / sqrt(x), the logistic function, tanh and GELU.
//
// For 16-bit operands their errors may be larger, since what is made of them is rounded to 16 bits.

#pragma once

#include "vectors.hpp"

namespace {

// 2^x, to 1e-7 of itself (3e-6 for 16-bit operands). A NaN stays a NaN. Below the smallest normal number the result is
// zero or nearly so. The polynomials are the minimax ones on -1/2 .. 1/2.
inline Vector exp2(Vector x) {
#if defined(__AVX512F__)
    const Vector n = (Vector)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Vector r = x - n;
#else
    x = maximum(splat(-126.f), minimum(splat(127.f), x));
    const Vector shifted = x + 12582912.f;  // 1.5 x 2^23: the integer is in the low bits
    const Vector r = x - (shifted - 12582912.f);
#endif
#if OPERANDS == FLOAT32
    Vector p = splat(1.3276472e-3f);
    p = p * r + 9.6755413e-3f;
    p = p * r + 5.5507133e-2f;
    p = p * r + 2.4022120e-1f;
    p = p * r + 6.9314697e-1f;
    p = p * r + 1.0000001e+0f;
#else
    Vector p = splat(9.5701019e-3f);
    p = p * r + 5.5917860e-2f;
    p = p * r + 2.4024745e-1f;
    p = p * r + 6.9312181e-1f;
    p = p * r + 9.9999926e-1f;
#endif
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
    return OPERANDS == FLOAT32 ? y + y * (1.f - x * y) : y;  // one step of Newton, or 6e-5 of itself
#else
    return 1.f / x;
#endif
}

// 1 / sqrt(x) for a normal number.
inline Vector inverse_root(Vector x) {
#if defined(__AVX512F__)
    const Vector y = (Vector)_mm512_rsqrt14_ps((__m512)x);
    return y * (1.5f - 0.5f * x * y * y);  // one step of Newton
#else
    for (int i = 0; i < W; i++) x[i] = 1.f / std::sqrt(x[i]);
    return x;
#endif
}

constexpr float LOG2_E = 1.44269504088896341f;
constexpr float LN_2 = 0.693147180559945309f;
constexpr float GELU_A = 1.5957691216057308f, GELU_B = 0.044715f;

// 1 / (1 + 2^x)
inline Vector logistic(Vector x) { return reciprocal(1.f + exp2(minimum(splat(125.f), x))); }
inline Vector sigmoid(Vector x) { return logistic(x * -LOG2_E); }
inline Vector tanh(Vector x) { return 2.f * sigmoid(2.f * x) - 1.f; }

// GELU (tanh form) is u s with s = sigmoid(2 sqrt(2/pi) (u + 0.044715 u^3)); its derivative comes from the same s.
inline void gelu(Vector u, Vector& value, Vector& slope) {
    const Vector square = u * u;
    const Vector exponent = u * (square * (-GELU_A * GELU_B * LOG2_E) - GELU_A * LOG2_E);
    const Vector s = logistic(exponent);
    value = u * s;
    slope = s + (value - value * s) * (square * (3.f * GELU_A * GELU_B) + GELU_A);
}

#if OPERANDS == FLOAT16
// The same for 32 lanes of float16.
inline Halves exp2(Halves x) {
    const auto c = filled<Halves>;
    const Halves n = _mm512_roundscale_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = x - n;
    const Halves p = ((c(5.517167e-2f) * r + c(2.4261112e-1f)) * r + c(6.9326099e-1f)) * r + c(1.f);
    return _mm512_scalef_ph(p, n);
}
inline void gelu(Halves u, Halves& value, Halves& slope) {
    const auto c = filled<Halves>;
    const Halves near = _mm512_max_ph(_mm512_min_ph(u, c(16)), c(-16)), square = near * near;  // no square overflows
    const Halves exponent = near * (square * c(-GELU_A * GELU_B * LOG2_E) - c(GELU_A * LOG2_E));
    const Halves s = _mm512_rcp_ph(exp2(_mm512_min_ph(exponent, c(15))) + c(1));
    value = u * s;
    slope = s + (value - value * s) * (square * c(3.f * GELU_A * GELU_B) + c(GELU_A));
}
#endif

}  // namespace
