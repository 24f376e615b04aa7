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
// (outputs / PANEL, inputs, PANEL), outputs padded with zeros; hidden channels are padded to a
// multiple of CHUNK. A plain C interface without PyTorch's headers builds in seconds.

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

// PIXELS rows of `a`, `stride` apart, times one panel, added to `sum`.
template <int PIXELS>
inline void multiply(const float* a, int64_t stride, const float* panel, int64_t depth,
                     Vector (&sum)[PIXELS][2]) {
    for (int64_t k = 0; k < depth; ++k) {
        const Vector left = load(panel + k * PANEL), right = load(panel + k * PANEL + LANES);
#pragma GCC unroll 16
        for (int i = 0; i < PIXELS; ++i) {
            const Vector value = all(a[i * stride + k]);
            sum[i][0] += value * left;
            sum[i][1] += value * right;
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
template <class Activation>
void expand(const float* x, int64_t channels, const float* panel, const float* bias,
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
void project(const float* hidden, const float* panel, int64_t pixels, float* out, int64_t stride) {
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
template <class Activation>
void depthwise(const float* wide, int64_t width, const Vector (&taps)[9], Vector bias,
               int64_t pixels, float* out) {
    for (int64_t i = 0; i < pixels; ++i) {
        Vector sum = bias;
#pragma GCC unroll 9
        for (int t = 0; t < 9; ++t) sum += taps[t] * load(wide + (t / 3 * width + i + t % 3) * CHUNK);
        store(out + i * CHUNK, sum);
    }
    // On its own: in the loop above, its long chain of operations would hold up the sums.
    for (int64_t i = 0; i < pixels; ++i) {
        store(out + i * CHUNK, Activation::apply(load(out + i * CHUNK)));
    }
}

struct Weights {
    const float *expand, *expand_bias;        // panels; (hidden)
    const float *depthwise, *depthwise_bias;  // (9, hidden); (hidden)
    const float *project, *project_bias;      // panels; (out)
};

struct Shape {
    int64_t batch, height, width, in, hidden, out;  // hidden and out are padded
    int64_t real_out;
};

struct Tile {
    int64_t top, bottom, left, right;
};

int64_t floats_of_tile(const Shape& s, int64_t rows, int64_t columns) {
    return (rows + 2) * (columns + 2) * CHUNK + rows * columns * (CHUNK + s.out);
}

// One tile of one image, from `x` to `y`.
template <class First, class Second>
void compute(const Shape& s, const Weights& w, const Tile& t, const float* x, float* y,
             float* buffer) {
    const int64_t rows = t.bottom - t.top, columns = t.right - t.left, width = columns + 2;
    float* wide = buffer;                              // (rows + 2, width, CHUNK)
    float* mixed = wide + (rows + 2) * width * CHUNK;  // (rows, columns, CHUNK)
    float* sums = mixed + rows * columns * CHUNK;      // (rows, columns, s.out)
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
                                  mixed + row * columns * CHUNK + p);
            }
        }
        for (int64_t p = 0; p < s.out; p += PANEL) {
            project(mixed, w.project + p * s.hidden + c * PANEL, rows * columns, sums + p, s.out);
        }
    }
    for (int64_t row = 0; row < rows; ++row) {
        for (int64_t column = 0; column < columns; ++column) {
            const float* from = sums + (row * columns + column) * s.out;
            float* to = y + ((t.top + row) * s.width + t.left + column) * s.real_out;
            for (int64_t k = 0; k < s.real_out; ++k) to[k] = from[k] + w.project_bias[k];
        }
    }
}

// Cut every image into tiles of about equal size, which the threads take one by one.
template <class First, class Second>
bool run(const Shape& s, const Weights& w, const float* x, float* y, int threads) {
    int64_t down = 1, across = 1;  // tiles of an image
    auto rows = [&] { return (s.height + down - 1) / down; };
    auto columns = [&] { return (s.width + across - 1) / across; };
    auto bytes = [&] {
        const int64_t input = (rows() + 2) * (columns() + 2) * s.in;
        return (floats_of_tile(s, rows(), columns()) + input) * int64_t(sizeof(float));
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

}  // namespace

extern "C" int ziggurat_panel() { return PANEL; }
extern "C" int ziggurat_chunk() { return CHUNK; }

// `shape` is (batch, height, width, in, hidden, out), hidden padded and out not. Returns 0 when
// done, 1 for a pair of activations that is not built, 2 when memory is short.
extern "C" int ziggurat_feed_forward(const float* x, const float* const* weights, float* y,
                                     const int64_t* shape, const char* activations, int threads) {
    const int64_t out = (shape[5] + PANEL - 1) / PANEL * PANEL;
    const Shape s{shape[0], shape[1], shape[2], shape[3], shape[4], out, shape[5]};
    const Weights w{weights[0], weights[1], weights[2], weights[3], weights[4], weights[5]};
    auto is = [&](const char* pair) { return std::strcmp(activations, pair) == 0; };
    bool done;
    if (is("hardswish hardswish")) {
        done = run<Hardswish, Hardswish>(s, w, x, y, threads);
    } else if (is("none gelu")) {
        done = run<Identity, Gelu>(s, w, x, y, threads);
    } else if (is("relu gelu")) {
        done = run<Relu, Gelu>(s, w, x, y, threads);
    } else if (is("relu relu")) {
        done = run<Relu, Relu>(s, w, x, y, threads);
    } else if (is("none relu6")) {
        done = run<Identity, Relu6>(s, w, x, y, threads);
    } else {
        return 1;
    }
    return done ? 0 : 2;
}
