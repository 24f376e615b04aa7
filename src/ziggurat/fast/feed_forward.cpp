// A feed-forward block with a depthwise 3x3 convolution in the middle, as one kernel:
//
//     project(second(depthwise(first(expand(x)))))
//
// The map in the middle has 4 to 8 times as many channels as x. Written as five operators it
// travels to memory and back four times, which takes longer than the arithmetic. Here one tile of
// the image is finished before the next begins, CHUNK hidden channels at a time: every hidden
// value is made and used in the cache. A tile makes the hidden values one pixel around it, too.
//
// Maps lie in memory as (B, H, W, C). A matrix (inputs, outputs) comes as panels
// (outputs / PANEL, inputs / DEPTH, PANEL, DEPTH), outputs padded with zeros; hidden channels are
// padded to a multiple of CHUNK. A plain C interface without PyTorch's headers builds in seconds.
//
// Products are of float32, or of bfloat16 where the processor multiplies pairs of them. Sums, the
// convolution, and activations are of float32 in both.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "threads.h"
#include "vectors.h"

namespace {

// A product accumulates BLOCK pixels x PANEL outputs in registers: 24 of 32, or 12 of 16.
constexpr int BLOCK = LANES == 16 ? 12 : 6;
constexpr int PANEL = 2 * LANES;
constexpr int64_t CHUNK = 64;
// Bytes of a tile's buffers and of its part of x: they share a core's cache with the weights.
constexpr int64_t CACHE = 640 * 1024;
constexpr int64_t SMALLEST_TILE = 64;  // pixels; below, the border would be most of the work

// One instruction's part of a product: DEPTH inputs of a pixel times their weights.
template <class Value>
struct Product;

template <>
struct Product<float> {
    static constexpr int DEPTH = 1;
    static Vector inputs(const float* from) { return all(*from); }
    static Vector weights(const float* from) { return load(from); }
    static Vector add(Vector sum, Vector x, Vector w) { return sum + x * w; }
};

#ifdef __AVX512BF16__
template <>
struct Product<Bfloat16> {
    static constexpr int DEPTH = 2;
    static __m512bh inputs(const Bfloat16* from) {
        int32_t pair;
        std::memcpy(&pair, from, sizeof pair);
        return (__m512bh)_mm512_set1_epi32(pair);
    }
    static __m512bh weights(const Bfloat16* from) { return (__m512bh)_mm512_loadu_si512(from); }
    static Vector add(Vector sum, __m512bh x, __m512bh w) {
        return (Vector)_mm512_dpbf16_ps((__m512)sum, x, w);
    }
};
#endif

// PIXELS rows of `a`, `stride` apart, times one panel, added to `sum`.
template <int PIXELS, class Value>
inline void multiply(const Value* a, int64_t stride, const Value* panel, int64_t depth,
                     Vector (&sum)[PIXELS][2]) {
    using P = Product<Value>;
    for (int64_t k = 0; k < depth; k += P::DEPTH) {
        const auto left = P::weights(panel + k * PANEL);
        const auto right = P::weights(panel + k * PANEL + LANES * P::DEPTH);
#pragma GCC unroll 16
        for (int i = 0; i < PIXELS; ++i) {
            const auto value = P::inputs(a + i * stride + k);
            sum[i][0] = P::add(sum[i][0], value, left);
            sum[i][1] = P::add(sum[i][1], value, right);
        }
    }
}

// Call f(start, count) for blocks of about equal size; `count` is known to the compiler.
template <class F, int COUNT = BLOCK>
inline void with_count(int64_t count, F&& f) {
    if (count == COUNT) {
        f(std::integral_constant<int, COUNT>{});
    } else if constexpr (COUNT > 1) {
        with_count<F&, COUNT - 1>(count, f);
    }
}

template <class F>
inline void in_blocks(int64_t pixels, F&& f) {
    const int64_t blocks = (pixels + BLOCK - 1) / BLOCK;
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t start = pixels * b / blocks, end = pixels * (b + 1) / blocks;
        with_count(end - start, [&](auto count) { f(start, count); });
    }
}

// out = activation(x * panel + bias); a pixel of `out` has CHUNK channels.
template <class Activation, class Value>
void expand(const Value* x, int64_t channels, const Value* panel, const float* bias,
            int64_t pixels, float* out) {
    in_blocks(pixels, [&](int64_t start, auto count) {
        constexpr int n = count;
        Vector sum[n][2];
#pragma GCC unroll 16
        for (auto& pixel : sum) pixel[0] = load(bias), pixel[1] = load(bias + LANES);
        multiply<n>(x + start * channels, channels, panel, channels, sum);
        float* to = out + start * CHUNK;
#pragma GCC unroll 16
        for (auto& pixel : sum) {
            store(to, Activation::apply(pixel[0]));
            store(to + LANES, Activation::apply(pixel[1]));
            to += CHUNK;
        }
    });
}

// out += hidden * panel; a pixel of `out` has `stride` channels.
template <class Value>
void project(const Value* hidden, const Value* panel, int64_t pixels, float* out, int64_t stride) {
    in_blocks(pixels, [&](int64_t start, auto count) {
        constexpr int n = count;
        Vector sum[n][2];
        float* at = out + start * stride;
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) {
            sum[i][0] = load(at + i * stride), sum[i][1] = load(at + i * stride + LANES);
        }
        multiply<n>(hidden + start * CHUNK, CHUNK, panel, CHUNK, sum);
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) {
            store(at + i * stride, sum[i][0]), store(at + i * stride + LANES, sum[i][1]);
        }
    });
}

// One row of LANES channels: 3x3 weights `taps` on `wide`, whose rows are `width` pixels long.
template <class Activation, class Value>
void depthwise(const float* wide, int64_t width, const Vector (&taps)[9], Vector bias,
               int64_t pixels, float* sums, Value* out) {
    for (int64_t i = 0; i < pixels; ++i) {
        Vector sum = bias;
#pragma GCC unroll 9
        for (int t = 0; t < 9; ++t) sum += taps[t] * load(wide + (t / 3 * width + i + t % 3) * CHUNK);
        store(sums + i * LANES, sum);
    }
    // On its own: in the loop above, its long chain of operations would hold up the sums.
    for (int64_t i = 0; i < pixels; ++i) {
        store(out + i * CHUNK, Activation::apply(load(sums + i * LANES)));
    }
}

template <class Value>
struct Weights {
    const Value* expand;  // panels
    const float* expand_bias;
    const float* depthwise;  // (9, hidden)
    const float* depthwise_bias;
    const Value* project;  // panels
    const float* project_bias;
};

struct Shape {
    int64_t batch, height, width, in, hidden, out;  // hidden and out are padded
    int64_t real_out;
};

struct Tile {
    int64_t top, bottom, left, right;
};

int64_t floats_of_tile(const Shape& s, int64_t rows, int64_t columns) {
    const int64_t pixels = rows * columns;
    return (rows + 2) * (columns + 2) * CHUNK + pixels * (CHUNK + s.out) + columns * LANES;
}

// y = sums + bias, rounded.
template <class Value>
void finish(const float* sums, const float* bias, int64_t channels, Value* y) {
    int64_t k = 0;
    for (; k + LANES <= channels; k += LANES) store(y + k, load(sums + k) + load(bias + k));
    for (; k < channels; ++k) {
        Value same[LANES];
        store(same, all(sums[k] + bias[k]));
        y[k] = same[0];
    }
}

// One tile of one image, from `x` to `y`.
template <class First, class Second, class Value>
void compute(const Shape& s, const Weights<Value>& w, const Tile& t, const Value* x, Value* y,
             float* buffer) {
    const int64_t rows = t.bottom - t.top, columns = t.right - t.left, width = columns + 2;
    float* wide = buffer;                             // (rows + 2, width, CHUNK)
    float* sums = wide + (rows + 2) * width * CHUNK;  // (rows, columns, s.out)
    float* row_sums = sums + rows * columns * s.out;  // (columns, LANES)
    Value* mixed = reinterpret_cast<Value*>(row_sums + columns * LANES);  // (rows, columns, CHUNK)
    // Beyond the border of the image the hidden map is zero; it is written inside only.
    std::memset(wide, 0, (rows + 2) * width * CHUNK * sizeof(float));
    std::memset(sums, 0, rows * columns * s.out * sizeof(float));
    const int64_t top = std::max<int64_t>(t.top - 1, 0), bottom = std::min(t.bottom + 1, s.height);
    const int64_t left = std::max<int64_t>(t.left - 1, 0), right = std::min(t.right + 1, s.width);
    for (int64_t c = 0; c < s.hidden; c += CHUNK) {
        for (int64_t p = 0; p < CHUNK; p += PANEL) {
            for (int64_t row = top; row < bottom; ++row) {
                const int64_t at = (row - t.top + 1) * width + left - t.left + 1;
                expand<First>(x + (row * s.width + left) * s.in, s.in, w.expand + (c + p) * s.in,
                              w.expand_bias + c + p, right - left, wide + at * CHUNK + p);
            }
        }
        for (int64_t p = 0; p < CHUNK; p += LANES) {
            Vector taps[9];
            for (int i = 0; i < 9; ++i) taps[i] = load(w.depthwise + i * s.hidden + c + p);
            const Vector bias = load(w.depthwise_bias + c + p);
            for (int64_t row = 0; row < rows; ++row) {
                depthwise<Second>(wide + row * width * CHUNK + p, width, taps, bias, columns,
                                  row_sums, mixed + row * columns * CHUNK + p);
            }
        }
        for (int64_t p = 0; p < s.out; p += PANEL) {
            project(mixed, w.project + p * s.hidden + c * PANEL, rows * columns, sums + p, s.out);
        }
    }
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = 0; column < columns; ++column) {
            finish(sums + (row * columns + column) * s.out, w.project_bias, s.real_out,
                   y + ((t.top + row) * s.width + t.left + column) * s.real_out);
        }
    }
}

// Cut every image into tiles of about equal size, which the threads take one by one.
template <class First, class Second, class Value>
bool run(const Shape& s, const Weights<Value>& w, const Value* x, Value* y, int threads) {
    int64_t down = 1, across = 1;  // tiles of an image
    auto rows = [&] { return (s.height + down - 1) / down; };
    auto columns = [&] { return (s.width + across - 1) / across; };
    auto bytes = [&] {
        const int64_t input = (rows() + 2) * (columns() + 2) * s.in * int64_t(sizeof(Value));
        return floats_of_tile(s, rows(), columns()) * int64_t(sizeof(float)) + input;
    };
    while (bytes() > CACHE && rows() * columns() > SMALLEST_TILE) {
        ++(rows() >= columns() ? down : across);
    }
    // Few tiles are to be a multiple of the threads, so that none waits for the others.
    while (s.batch * down * across < 4 * threads && s.batch * down * across % threads &&
           rows() * columns() > SMALLEST_TILE) {
        ++down;
    }
    const int64_t tiles = s.batch * down * across;
    const int64_t floats = floats_of_tile(s, rows(), columns());
    return with_buffers(threads, floats, [&](int thread, float* buffer) {
        for (int64_t i = thread; i < tiles; i += threads) {
            const int64_t image = i / (down * across), d = i / across % down, a = i % across;
            const Tile t{s.height * d / down, s.height * (d + 1) / down,  //
                         s.width * a / across, s.width * (a + 1) / across};
            const int64_t pixels = image * s.height * s.width;
            compute<First, Second>(s, w, t, x + pixels * s.in, y + pixels * s.real_out, buffer);
        }
    });
}

// `weights` are in the order of `Weights`. Returns 0 when done, 1 for a pair of activations that is
// not built, 2 when memory is short.
template <class Value>
int choose(const void* x, const void* const* weights, void* y, const int64_t* shape,
           const char* activations, int threads) {
    const int64_t out = (shape[5] + PANEL - 1) / PANEL * PANEL;
    const Shape s{shape[0], shape[1], shape[2], shape[3], shape[4], out, shape[5]};
    auto matrix = [&](int i) { return static_cast<const Value*>(weights[i]); };
    auto numbers = [&](int i) { return static_cast<const float*>(weights[i]); };
    const Weights<Value> w{matrix(0),  numbers(1), numbers(2),
                           numbers(3), matrix(4),  numbers(5)};
    const auto* from = static_cast<const Value*>(x);
    auto* to = static_cast<Value*>(y);
    auto is = [&](const char* pair) { return std::strcmp(activations, pair) == 0; };
    bool done;
    if (is("hardswish hardswish")) {
        done = run<Hardswish, Hardswish>(s, w, from, to, threads);
    } else if (is("none gelu")) {
        done = run<Identity, Gelu>(s, w, from, to, threads);
    } else if (is("relu gelu")) {
        done = run<Relu, Gelu>(s, w, from, to, threads);
    } else if (is("relu relu")) {
        done = run<Relu, Relu>(s, w, from, to, threads);
    } else if (is("none relu6")) {
        done = run<Identity, Relu6>(s, w, from, to, threads);
    } else {
        return 1;
    }
    return done ? 0 : 2;
}

}  // namespace

extern "C" int ziggurat_panel() { return PANEL; }
extern "C" int ziggurat_chunk() { return CHUNK; }

// Bfloat16 inputs that are multiplied at a time; 0 where this processor has no such products.
extern "C" int ziggurat_bfloat16_depth() {
#ifdef __AVX512BF16__
    return Product<Bfloat16>::DEPTH;
#else
    return 0;
#endif
}

// `shape` is (batch, height, width, in, hidden, out), hidden padded and out not. Maps and matrices
// are of float32 or of bfloat16, biases and the convolution's weights always of float32.
extern "C" int ziggurat_feed_forward(const void* x, const void* const* weights, void* y,
                                     const int64_t* shape, const char* activations,
                                     int is_bfloat16, int threads) {
#ifdef __AVX512BF16__
    if (is_bfloat16) return choose<Bfloat16>(x, weights, y, shape, activations, threads);
#endif
    return is_bfloat16 ? 1 : choose<float>(x, weights, y, shape, activations, threads);
}
