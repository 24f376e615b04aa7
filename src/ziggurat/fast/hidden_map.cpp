// The middle of a feed-forward block, while it learns:
//
//     second(depthwise(first(hidden)))        depthwise: 3x3, each channel by itself
//     gelu(hidden)                            in blocks without a convolution
//
// Only `hidden` is kept for the backward pass. That one computes the map after the middle again,
// which the weights of the next layer need for their gradient, and in the same pass over memory the
// gradients of `hidden`, of the 3x3 weights and of the biases. CHUNK channels of a row are worked on
// at a time: the three rows that a convolution sees stay in the cache of a core.
//
// Maps lie in memory as (B, H, W, C), in float32 or bfloat16; 3x3 weights as (9, C), in float32, in
// which everything is computed.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "threads.h"
#include "vectors.h"

namespace {

constexpr int64_t CHUNK = 64;
constexpr int VECTORS = CHUNK / LANES;
constexpr int TAPS = 9;

struct Shape {
    int64_t batch, height, width, channels;
};

struct Weights {
    const float *taps, *bias;
};

// Gradients of each channel: TAPS rows for the taps, then the biases of convolution and expansion.
enum { OF_BIAS = TAPS, OF_HIDDEN, SUMS };

// CHUNK channels of the last three rows of a map, with a border of zeros to the left and right.
class Rows {
  public:
    Rows(float* data, int64_t width) : data_(data), width_(width) {
        std::memset(data, 0, floats(width) * sizeof(float));
    }

    static int64_t floats(int64_t width) { return 3 * (width + 2) * CHUNK; }

    // The pixel left of the first one of row y.
    float* border(int64_t y) const { return data_ + (y + 3) % 3 * (width_ + 2) * CHUNK; }
    float* row(int64_t y) const { return border(y) + CHUNK; }
    void clear(int64_t y) const { std::memset(row(y), 0, width_ * CHUNK * sizeof(float)); }

    // LANES channels from v on of row y: bias + taps on the rows y - 1 to y + 1.
    void convolve(int64_t y, int64_t v, const Vector (&taps)[TAPS], Vector bias, float* out) const {
        const float* rows[] = {border(y - 1) + v, border(y) + v, border(y + 1) + v};
        for (int64_t x = 0; x < width_; ++x) {
            Vector sum = bias;
#pragma GCC unroll 9
            for (int t = 0; t < TAPS; ++t) {
                sum += taps[t] * load(rows[t / 3] + (x + t % 3) * CHUNK);
            }
            store(out + x * CHUNK + v, sum);
        }
    }

    // Add to `sum` the gradient of each tap on row y, whose outputs have the gradients `slopes`.
    void correlate(int64_t y, int64_t v, const float* slopes, Vector* sum) const {
        const float* rows[] = {border(y - 1) + v, border(y) + v, border(y + 1) + v};
        Vector total[TAPS];  // in registers
        std::copy(sum, sum + TAPS, total);
        for (int64_t x = 0; x < width_; ++x) {
            const Vector slope = load(slopes + x * CHUNK + v);
#pragma GCC unroll 9
            for (int t = 0; t < TAPS; ++t) {
                total[t] += slope * load(rows[t / 3] + (x + t % 3) * CHUNK);
            }
        }
        std::copy(total, total + TAPS, sum);
    }

  private:
    float* data_;
    int64_t width_;
};

// CHUNK channels of one image; `hidden` and what comes out begin with the first of them.
template <class First, class Second, class Number>
class Task {
  public:
    Task(const Shape& s, const Weights& w, const Number* hidden, float* buffer)
        : s_(s), w_(w), hidden_(hidden), rows_(buffer, s.width),
          slopes_(buffer + Rows::floats(s.width), s.width),
          line_(buffer + 2 * Rows::floats(s.width)) {}

    static int64_t floats(int64_t width) { return 2 * Rows::floats(width) + width * CHUNK; }

    void forward(Number* out) {
        read(-1), read(0);
        for (int64_t y = 0; y < s_.height; ++y) {
            read(y + 1);
            convolve(y);
            each_vector(y, [&](int64_t at, int64_t far, int) {
                store(out + far, Second::apply(load(line_ + at)));
            });
        }
    }

    // `gradient` is that of the output, and is overwritten with that of `hidden`.
    void backward(Number* out, Number* gradient, float* sums) {
        Vector total[VECTORS][SUMS] = {};
        read(-1), read(0);
        for (int64_t y = 0; y <= s_.height; ++y) {
            if (y < s_.height) {
                read(y + 1);
                convolve(y);
                float* slopes = slopes_.row(y);
                each_vector(y, [&](int64_t at, int64_t far, int v) {
                    const Response response = Second::respond(load(line_ + at));
                    const Vector slope = load(gradient + far) * response.slope;
                    store(out + far, response.value);
                    store(slopes + at, slope);
                    total[v][OF_BIAS] += slope;
                });
                for (int v = 0; v < VECTORS; ++v) {
                    rows_.correlate(y, v * LANES, slopes, total[v]);
                }
            } else {
                slopes_.clear(y);
            }
            if (y == 0) continue;
            // The row above has all that its gradient depends on, and its own is no longer needed.
            for (int v = 0; v < VECTORS; ++v) {
                Vector flipped[TAPS];
                for (int t = 0; t < TAPS; ++t) flipped[t] = tap(TAPS - 1 - t, v);
                slopes_.convolve(y - 1, v * LANES, flipped, all(0), line_);
            }
            each_vector(y - 1, [&](int64_t at, int64_t far, int v) {
                const Vector slope = load(line_ + at) * First::respond(load(hidden_ + far)).slope;
                store(gradient + far, slope);
                total[v][OF_HIDDEN] += slope;
            });
        }
        for (int v = 0; v < VECTORS; ++v) {
            for (int i = 0; i < SUMS; ++i) store(sums + i * s_.channels + v * LANES, total[v][i]);
        }
    }

  private:
    Vector tap(int t, int v) const { return load(w_.taps + t * s_.channels + v * LANES); }

    // Call f(place in a row of CHUNK channels, place in a map, number of the vector).
    template <class F>
    void each_vector(int64_t y, F&& f) const {
        for (int64_t x = 0; x < s_.width; ++x) {
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) {
                const int64_t start = (y * s_.width + x) * s_.channels;
                f(x * CHUNK + v * LANES, start + v * LANES, v);
            }
        }
    }

    void read(int64_t y) {
        if (y < 0 || y >= s_.height) {
            rows_.clear(y);
            return;
        }
        float* row = rows_.row(y);
        each_vector(y, [&](int64_t at, int64_t far, int) {
            store(row + at, First::apply(load(hidden_ + far)));
        });
    }

    void convolve(int64_t y) {
        for (int v = 0; v < VECTORS; ++v) {
            Vector taps[TAPS];
            for (int t = 0; t < TAPS; ++t) taps[t] = tap(t, v);
            rows_.convolve(y, v * LANES, taps, load(w_.bias + v * LANES), line_);
        }
    }

    const Shape& s_;
    Weights w_;
    const Number* hidden_;
    Rows rows_, slopes_;
    float* line_;
};

// What is known of a call; `gradient` and `sums` are null in the forward pass.
template <class Number>
struct Maps {
    const Number* hidden;
    Number *out, *gradient;
    float* sums;
};

// The threads take chunks of channels of images; sums of an image do not depend on their number.
template <class First, class Second, class Number>
bool convolve(const Shape& s, const Weights& w, const Maps<Number>& m, int threads) {
    using Part = Task<First, Second, Number>;
    const int64_t chunks = s.channels / CHUNK, tasks = s.batch * chunks;
    const int64_t floats = Part::floats(s.width);
    return with_buffers(threads, floats, [&](int thread, float* buffer) {
        for (int64_t i = tasks * thread / threads; i < tasks * (thread + 1) / threads; ++i) {
            const int64_t image = i / chunks, c = i % chunks * CHUNK;
            const int64_t at = image * s.height * s.width * s.channels + c;
            Part part(s, {w.taps + c, w.bias + c}, m.hidden + at, buffer);
            if (m.gradient) {
                part.backward(m.out + at, m.gradient + at, m.sums + image * SUMS * s.channels + c);
            } else {
                part.forward(m.out + at);
            }
        }
    });
}

// Pixel by pixel; the sums are left to the caller.
template <class Number>
bool apply_gelu(const Shape& s, const Maps<Number>& m, int threads) {
    const int64_t vectors = s.batch * s.height * s.width * s.channels / LANES;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < vectors; ++i) {
        const Response response = Gelu::respond(load(m.hidden + i * LANES));
        store(m.out + i * LANES, response.value);
        if (m.gradient) {
            store(m.gradient + i * LANES, load(m.gradient + i * LANES) * response.slope);
        }
    }
    return true;
}

template <class Number>
int run(void* const* maps, const float* const* weights, const int64_t* shape,
        const char* activations, int threads) {
    const Shape s{shape[0], shape[1], shape[2], shape[3]};
    const Weights w{weights[0], weights[1]};
    const Maps<Number> m{static_cast<const Number*>(maps[0]), static_cast<Number*>(maps[1]),
                         static_cast<Number*>(maps[2]), static_cast<float*>(maps[3])};
    auto is = [&](const char* name) { return std::strcmp(activations, name) == 0; };
    bool done;
    if (is("hardswish hardswish")) {
        done = convolve<Hardswish, Hardswish>(s, w, m, threads);
    } else if (is("none gelu")) {
        done = convolve<Identity, Gelu>(s, w, m, threads);
    } else if (is("relu gelu")) {
        done = convolve<Relu, Gelu>(s, w, m, threads);
    } else if (is("gelu")) {
        done = apply_gelu(s, m, threads);
    } else {
        return 1;
    }
    return done ? 0 : 2;
}

}  // namespace

extern "C" int ziggurat_hidden_chunk() { return CHUNK; }

// `shape` is (batch, height, width, channels), channels a multiple of CHUNK; `weights` are taps and
// bias; `maps` are hidden, output and gradient, of bfloat16 or float32, and the sums, the last two
// null in the forward pass. Returns 0 when done, 1 for activations that are not built, 2 when memory
// is short.
extern "C" int ziggurat_hidden_map(void* const* maps, const float* const* weights,
                                   const int64_t* shape, const char* activations, int is_bfloat16,
                                   int threads) {
    const auto run_as = is_bfloat16 ? run<Bfloat16> : run<float>;
    return run_as(maps, weights, shape, activations, threads);
}
