// Threads that each have a buffer of their own.

#ifndef ZIGGURAT_THREADS_H
#define ZIGGURAT_THREADS_H

#include <cstdint>
#include <new>
#include <vector>

namespace {

// Call f(thread, buffer of so many floats) in every thread; false where memory is short.
template <class F>
bool with_buffers(int threads, int64_t floats, F&& f) {
    std::vector<float> buffers;
    try {
        buffers.resize(floats * threads);
    } catch (const std::bad_alloc&) {
        return false;
    }
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int thread = 0; thread < threads; ++thread) f(thread, buffers.data() + thread * floats);
    return true;
}

}  // namespace

#endif
