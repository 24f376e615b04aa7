// Values of the width of this processor's registers, and activations on them.

#ifndef ZIGGURAT_VECTORS_H
#define ZIGGURAT_VECTORS_H

#include <cstdint>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

using Vector __attribute__((vector_size(LANES * 4), aligned(4), may_alias)) = float;
using Integers __attribute__((vector_size(LANES * 4))) = int32_t;

using Words __attribute__((vector_size(LANES * 4))) = uint32_t;
using Halves __attribute__((vector_size(LANES * 2), aligned(2), may_alias)) = uint16_t;

// A bfloat16 is the upper half of a float; here it is kept as its bits.
using Bfloat16 = uint16_t;

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector v) { *reinterpret_cast<Vector*>(to) = v; }

inline Vector load(const Bfloat16* from) {
    const Words bits = __builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words) << 16;
    return reinterpret_cast<const Vector&>(bits);
}

// Rounded to the nearest, of two to the even one; what is no number stays none.
inline void store(Bfloat16* to, Vector v) {
#ifdef __AVX512BF16__
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
    const Words bits = (Words)v;
    const Words rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    const Words kept = v == v ? rounded : Words{} + 0x7fc0;
    *reinterpret_cast<Halves*>(to) = __builtin_convertvector(kept, Halves);
#endif
}

inline Vector all(float value) { return value - Vector{}; }
// Comparisons with NaN are false, so NaN passes through.
inline Vector at_least(Vector v, float low) { return v < low ? all(low) : v; }
inline Vector at_most(Vector v, float high) { return v > high ? all(high) : v; }

// What an activation makes of a value, and its derivative there.
struct Response {
    Vector value, slope;
};

struct Identity {
    static Vector apply(Vector v) { return v; }
    static Response respond(Vector v) { return {v, all(1)}; }
};

struct Relu {
    static Vector apply(Vector v) { return at_least(v, 0); }
    static Response respond(Vector v) { return {apply(v), v > 0 ? all(1) : all(0)}; }
};

struct Relu6 {
    static Vector apply(Vector v) { return at_most(at_least(v, 0), 6); }
};

struct Hardswish {
    static Vector apply(Vector v) { return v * Relu6::apply(v + 3) * (1.0f / 6); }
    static Response respond(Vector v) {
        const Vector between = v * (1.0f / 3) + 0.5f;
        return {apply(v), v < -3 ? all(0) : v > 3 ? all(1) : between};
    }
};

// v * P(Z <= v), Z normal. The error function is Abramowitz and Stegun's formula 7.1.26, whose
// error of 1.5e-7 is that of float32.
struct Gelu {
    static Vector apply(Vector v) { return respond(v).value; }

    static Response respond(Vector v) {
        const Vector z = (v < 0 ? -v : v) * 0.70710678f;
        const Vector t = 1 / (1 + 0.3275911f * z);
        Vector tail = 1.061405429f * t - 1.453152027f;
        tail = tail * t + 1.421413741f;
        tail = tail * t - 0.284496736f;
        tail = tail * t + 0.254829592f;
        const Vector bell = exponential(-z * z);
        tail = 0.5f * tail * t * bell;
        const Vector below = v < 0 ? tail : 1 - tail;  // P(Z <= v)
        return {v * below, below + v * bell * 0.39894228f};
    }

    // For v <= 0: 2^n * e^r, n an integer and |r| <= log(2) / 2, where six terms are enough.
    static Vector exponential(Vector v) {
        v = at_least(v, -87);  // the smallest normal float
        const Integers n = __builtin_convertvector(v * 1.44269504f - 0.5f, Integers);
        const Vector whole = __builtin_convertvector(n, Vector);
        const Vector r = v - whole * 0.693359375f + whole * 2.12194440e-4f;  // log(2), in two parts
        Vector sum = 1 + r * (1.0f / 6);
        sum = 1 + r * (1.0f / 5) * sum;
        sum = 1 + r * (1.0f / 4) * sum;
        sum = 1 + r * (1.0f / 3) * sum;
        sum = 1 + r * (1.0f / 2) * sum;
        sum = 1 + r * sum;
        const Integers power = (n + 127) << 23;
        return sum * reinterpret_cast<const Vector&>(power);
    }
};

}  // namespace

#endif
