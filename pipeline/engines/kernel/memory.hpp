// Memory: how arrays are padded, one mapping for all of them, and the processor's way with tiny numbers.

#pragma once

#include <cstdint>

#include <sys/mman.h>

#include "vectors.hpp"

namespace {

constexpr long LINE = 16;  // floats in a cache line

// n rounded up to a whole number of units.
inline long whole(long n, long unit) { return (n + unit - 1) / unit * unit; }
// A row stride of an odd number of cache lines, so that a column of rows falls on all sets of a cache.
inline long stride(long n) { return whole(n, LINE) / LINE % 2 ? whole(n, LINE) : whole(n, LINE) + LINE; }

// One mapping from which arrays are taken, each on a cache line of its own. Arrays are taken twice, in the same order:
// first from an arena without memory, which only counts; then, after map(), for good.
class Arena {
   public:
    float* take(long n) {
        float* at = base_ + used_;  // from null in the first round, which only counts
        used_ += whole(n, LINE);
        return at;
    }
    Word* words(long n) { return reinterpret_cast<Word*>(take(n)); }
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
