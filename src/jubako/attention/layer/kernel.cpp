// Attention with the averaged map, in float32, for jubako/attention/layer/compiled.py, which says how it is called.
//
// A block of query rows meets all keys at a time. Its scores stay in the cache while they become weights, are added to
// the averaged map, and meet the values; heads turn fastest, so a row of the map is finished while it is there. Weights
// are divided by their sums last. Each thread takes the next block; none writes what another does, so results do not
// depend on how many there are. Products are made by the sgemm of the BLAS that the caller has.

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <vector>

namespace {

constexpr int LANES = 16;
constexpr int MOST_ROWS = 256;  // of a block
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
constexpr float FORBIDDEN = -std::numeric_limits<float>::infinity();

using Gemm = void (*)(const char *, const char *, const int *, const int *, const int *, const float *, const float *,
                      const int *, const float *, const int *, const float *, float *, const int *);
using SetThreads = int (*)(int);

}  // namespace

extern "C" struct Attention {
    const float *q, *k, *v;  // (B, H, L, D), scaled; (B, H, S, D) twice
    float *context;          // (B, L, H, D)
    float *averaged;         // (B, L, S), or null
    const float *mask;       // what is added to scores, or null
    int64_t mask_strides[3]; // of batch entries, heads and rows, in numbers; 0 where all have the same
    const int64_t *lengths;  // up to which key each batch entry has one that may be seen, or null
    int64_t batch, heads, queries, keys, size;
    int64_t is_causal, rows, threads;
    Gemm gemm;
    SetThreads set_threads;  // how many threads a product may take, for this thread; returns how many it might; or null
};

namespace {

Floats fill(float x) { return x - Floats{}; }

Floats load(const float *from) { return *reinterpret_cast<const Unaligned *>(from); }

void store(float *to, Floats x) { *reinterpret_cast<Unaligned *>(to) = x; }

// e to the power of x for x that is not above 0, to about an ulp; 0 below the least normal number; NaN of NaN.
Floats power(Floats x) {
    const Floats shift = fill(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    const Floats least = fill(-87.3f);
    Floats clamped = x < least ? least : x;
    Floats n = (clamped * 1.44269504f + shift) - shift;
    Floats r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
    Floats p = fill(1.38888889e-3f);
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 0.166666667f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
    Floats result = p * reinterpret_cast<Floats>(exponent);  // of vectors: the same bits
    return x < least ? Floats{} : result;
}

float largest(const float *x, int64_t count) {
    Floats most = fill(FORBIDDEN);
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) {
        Floats y = load(x + j);
        most = y > most ? y : most;
    }
    float result = FORBIDDEN;
    for (int lane = 0; lane < LANES; ++lane) result = most[lane] > result ? most[lane] : result;
    for (; j < count; ++j) result = x[j] > result ? x[j] : result;
    return result;
}

// Makes powers of scores in place; returns their sum.
float raise(float *x, int64_t count, float most) {
    Floats sums = Floats{};
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES) {
        Floats y = power(load(x + j) - most);
        sums += y;
        store(x + j, y);
    }
    float sum = 0.0f;
    if (j < count) {
        float rest[LANES] = {};
        std::memcpy(rest, x + j, (count - j) * sizeof(float));
        store(rest, power(load(rest) - most));
        for (int64_t i = 0; j < count; ++i, ++j) sum += x[j] = rest[i];
    }
    for (int lane = 0; lane < LANES; ++lane) sum += sums[lane];
    return sum;
}

bool forbids_all(const float *mask, int64_t count) {
    for (int64_t j = 0; j < count; ++j)
        if (!(mask[j] == FORBIDDEN)) return false;
    return true;
}

// Adds so many numbers times a factor to a row of the map, or begins it with them.
void add(float *to, const float *x, int64_t count, float factor, bool is_first) {
    if (is_first)
        for (int64_t j = 0; j < count; ++j) to[j] = x[j] * factor;
    else
        for (int64_t j = 0; j < count; ++j) to[j] += x[j] * factor;
}

void attend_block(const Attention &a, int64_t b, int64_t first, float *scores) {
    const int64_t last = first + a.rows < a.queries ? first + a.rows : a.queries;
    int64_t keys = a.lengths ? a.lengths[b] : a.keys;
    if (a.is_causal && keys > last) keys = last;
    const int rows = int(last - first), width = int(keys), size = int(a.size), stride = int(a.heads * a.size);
    const float one = 1.0f, none = 0.0f, share = 1.0f / float(a.heads);
    float *map = a.averaged ? a.averaged + (b * a.queries + first) * a.keys : nullptr;
    for (int64_t i = 0; map && i < rows; ++i)
        std::memset(map + i * a.keys + keys, 0, (a.keys - keys) * sizeof(float));
    for (int64_t h = 0; h < a.heads; ++h) {
        float *context = a.context + ((b * a.queries + first) * a.heads + h) * a.size;
        if (width == 0) {
            for (int i = 0; i < rows; ++i) std::memset(context + i * stride, 0, size * sizeof(float));
            continue;
        }
        const int64_t head = b * a.heads + h;
        const float *q = a.q + (head * a.queries + first) * a.size;
        const float *k = a.k + head * a.keys * a.size, *v = a.v + head * a.keys * a.size;
        a.gemm("T", "N", &width, &rows, &size, &one, k, &size, q, &size, &none, scores, &width);
        float inverse[MOST_ROWS];
        for (int i = 0; i < rows; ++i) {
            float *x = scores + int64_t(i) * width;
            const int64_t seen = a.is_causal && first + i + 1 < keys ? first + i + 1 : keys;
            bool is_blind = false;
            if (a.mask) {
                const float *mask = a.mask + b * a.mask_strides[0] + h * a.mask_strides[1] + (first + i) * a.mask_strides[2];
                for (int64_t j = 0; j < seen; ++j) x[j] += mask[j];
                is_blind = forbids_all(mask, seen);
            }
            inverse[i] = is_blind ? 0.0f : 1.0f / raise(x, seen, largest(x, seen));
            const int64_t weighed = is_blind ? 0 : seen;
            std::memset(x + weighed, 0, (width - weighed) * sizeof(float));
            if (map) add(map + i * a.keys, x, width, inverse[i] * share, h == 0);
        }
        a.gemm("N", "N", &size, &rows, &width, &one, v, &size, scores, &width, &none, context, &stride);
        for (int i = 0; i < rows; ++i)
            for (int d = 0; d < size; ++d) context[i * stride + d] *= inverse[i];
    }
}

void take_blocks(const Attention &a, std::atomic<int64_t> &next, std::atomic<bool> &failed) {
    const int before = a.set_threads ? a.set_threads(1) : 0;
    std::unique_ptr<float[]> scores(new (std::nothrow) float[a.rows * a.keys + LANES]);
    if (!scores) failed = true;
    const int64_t blocks = (a.queries + a.rows - 1) / a.rows;
    for (int64_t taken; !failed && (taken = next++) < a.batch * blocks;)
        attend_block(a, taken / blocks, taken % blocks * a.rows, scores.get());
    if (a.set_threads) a.set_threads(before);
}

}  // namespace

// 0, or 1 if there was no memory for the scores of a block or no thread to be had.
extern "C" int jubako_attend(const Attention *a) {
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    std::vector<std::thread> others;
    try {
        for (int64_t i = 1; i < a->threads; ++i) others.emplace_back([&] { take_blocks(*a, next, failed); });
    } catch (...) {
        failed = true;
    }
    take_blocks(*a, next, failed);
    for (auto &thread : others) thread.join();
    return failed;
}
