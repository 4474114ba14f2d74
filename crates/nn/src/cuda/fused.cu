// Kernels for 16-bit tensors on a GPU in the channels-last layout: [batch, pixels, channels] in memory. They are compiled
// when they are first needed, once for each format: BF16 is defined for bfloat16, and not for float16.
//
// Sums and functions are f32. Where a kernel does the work of several operations of libtorch, it rounds where they round:
// so a module gives the same bits whether or not somebody looks at the tensors between.

typedef unsigned short number;

struct alignas(16) Eight {
    number at[8];
};

__device__ __forceinline__ float widen(number x) {
#ifdef BF16
    return __uint_as_float((unsigned)x << 16);
#else
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x));
    return wide;
#endif
}

// Rounds to the nearest, ties to even.
__device__ __forceinline__ number narrow(float x) {
#ifdef BF16
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (number)0x7fff; // NaN
    return (number)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#else
    number narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow) : "f"(x));
    return narrow;
#endif
}

__device__ __forceinline__ float rounded(float x) {
    return widen(narrow(x));
}

__device__ __forceinline__ Eight load(const number* from, long index) {
    return reinterpret_cast<const Eight*>(from)[index];
}

__device__ __forceinline__ void store(number* to, long index, const Eight& eight) {
    reinterpret_cast<Eight*>(to)[index] = eight;
}

// Adds over the first `lanes` lanes of a warp, a power of two, always in the same order. Every lane has the sum.
__device__ __forceinline__ float sum_lanes(float x, int lanes) {
    for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

// Eight channels of what is still to be added to a tensor: a bias, and a time embedding. Either may be absent.
struct Pending {
    float bias[8], time[8];
    bool has_bias, has_time;

    __device__ __forceinline__ Pending(const number* biases, const number* times, long vector)
        : has_bias(biases != nullptr), has_time(times != nullptr) {
        Eight b = {}, t = {};
        if (has_bias) b = load(biases, vector);
        if (has_time) t = load(times, vector);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            bias[i] = widen(b.at[i]);
            time[i] = widen(t.at[i]);
        }
    }

    __device__ __forceinline__ float add(number x, int i) const {
        float value = widen(x);
        if (has_bias) value = rounded(value + bias[i]);
        if (has_time) value = rounded(value + time[i]);
        return value;
    }
};

// What is subtracted from every number of a group before its moments are summed: one of its numbers, so that a mean far
// from zero takes no digits. `x` is the image.
__device__ __forceinline__ float pivot_of(const number* x, const number* biases, const number* times, int channel) {
    float value = widen(x[channel]);
    if (biases != nullptr) value = rounded(value + widen(biases[channel]));
    if (times != nullptr) value = rounded(value + widen(times[channel]));
    return value;
}

// The sum and the sum of squares of each group's distances to its pivot, over a part of the pixels:
// partial [batch, groups, parts]. Grid: parts of `part` pixels, batch. A block has channels / 8 threads for each of several
// rows of pixels. Shared memory: two floats for each row and channel.
extern "C" __global__ void group_moments(const number* __restrict__ x, const number* __restrict__ biases,
                                         const number* __restrict__ times, int times_stride, float2* __restrict__ partial,
                                         int pixels, int channels, int groups, int part) {
    extern __shared__ float2 shared[]; // [row][channel in vector][vector]
    const int vectors = channels / 8, rows = blockDim.x / vectors, width = channels / groups;
    const int vector = threadIdx.x % vectors, row = threadIdx.x / vectors;
    const int first = blockIdx.x * part, count = min(part, pixels - first), image = blockIdx.y;
    const number* time = times == nullptr ? nullptr : times + (long)image * times_stride;
    const Pending pending(biases, time, vector);
    const number* start = x + (long)image * pixels * channels;
    const long base = (long)first * vectors + vector;

    float pivot[8], sum[8] = {}, squares[8] = {};
#pragma unroll
    for (int i = 0; i < 8; i++) pivot[i] = pivot_of(start, biases, time, (vector * 8 + i) / width * width);
#pragma unroll 4
    for (int pixel = row; pixel < count; pixel += rows) {
        const Eight eight = load(start, base + (long)pixel * vectors);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float apart = pending.add(eight.at[i], i) - pivot[i];
            sum[i] += apart;
            squares[i] += apart * apart;
        }
    }
#pragma unroll
    for (int i = 0; i < 8; i++) shared[(row * 8 + i) * vectors + vector] = make_float2(sum[i], squares[i]);
    __syncthreads();

    for (int cell = threadIdx.x; cell < channels; cell += blockDim.x) {
        float2 total = shared[cell];
        for (int other = 1; other < rows; other++) {
            const float2 more = shared[other * channels + cell];
            total.x += more.x;
            total.y += more.y;
        }
        shared[cell] = total;
    }
    __syncthreads();

    const int lane = threadIdx.x % 32;
    for (int group = threadIdx.x / 32; group < groups; group += blockDim.x / 32) {
        float2 total = make_float2(0.0f, 0.0f);
        for (int i = lane; i < width; i += 32) {
            const int channel = group * width + i;
            const float2 more = shared[channel % 8 * vectors + channel / 8];
            total.x += more.x;
            total.y += more.y;
        }
        total.x = sum_lanes(total.x, 32);
        total.y = sum_lanes(total.y, 32);
        if (lane == 0) partial[((long)image * groups + group) * gridDim.x + blockIdx.x] = total;
    }
}

// Normalises each group by the moments of all parts, scales, shifts, and applies SiLU if asked to. Grid: chunks of `chunk`
// pixels, batch. Shared memory: two floats for each group.
extern "C" __global__ void group_apply(const number* __restrict__ x, const number* __restrict__ biases,
                                       const number* __restrict__ times, int times_stride, const float2* __restrict__ partial,
                                       const number* __restrict__ weight, const number* __restrict__ shift,
                                       number* __restrict__ y, int pixels, int channels, int groups, int parts, int chunk,
                                       float epsilon, int silu) {
    extern __shared__ float2 shared[]; // mean and reciprocal deviation of each group
    const int vectors = channels / 8, rows = blockDim.x / vectors, width = channels / groups;
    const int vector = threadIdx.x % vectors, row = threadIdx.x / vectors, lane = threadIdx.x % 32;
    const int first = blockIdx.x * chunk, count = min(chunk, pixels - first), image = blockIdx.y;
    const number* time = times == nullptr ? nullptr : times + (long)image * times_stride;
    const number* start = x + (long)image * pixels * channels;
    for (int group = threadIdx.x / 32; group < groups; group += blockDim.x / 32) {
        float2 total = make_float2(0.0f, 0.0f);
#pragma unroll 4
        for (int i = lane; i < parts; i += 32) {
            const float2 more = partial[((long)image * groups + group) * parts + i];
            total.x += more.x;
            total.y += more.y;
        }
        total.x = sum_lanes(total.x, 32);
        total.y = sum_lanes(total.y, 32);
        if (lane == 0) {
            const float numbers = (float)pixels * width, apart = total.x / numbers;
            const float variance = fmaxf(total.y / numbers - apart * apart, 0.0f);
            shared[group] = make_float2(pivot_of(start, biases, time, group * width) + apart, rsqrtf(variance + epsilon));
        }
    }
    __syncthreads();

    const Pending pending(biases, time, vector);
    const Eight weights = load(weight, vector), shifts = load(shift, vector);
    float mean[8], scale[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float2 of_group = shared[(vector * 8 + i) / width];
        mean[i] = of_group.x;
        scale[i] = of_group.y * widen(weights.at[i]);
    }
    const long base = ((long)image * pixels + first) * vectors + vector;
#pragma unroll 2
    for (int pixel = row; pixel < count; pixel += rows) {
        Eight eight = load(x, base + (long)pixel * vectors);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float value = pending.add(eight.at[i], i);
            number normed = narrow((value - mean[i]) * scale[i] + widen(shifts.at[i]));
            if (silu) {
                const float wide = widen(normed);
                normed = narrow(wide / (1.0f + expf(-wide)));
            }
            eight.at[i] = normed;
        }
        store(y, base + (long)pixel * vectors, eight);
    }
}

// Normalises each row of `width` numbers, scales and shifts. With `added`, the row is the sum of both, which is written to
// `sum`. A row has `lanes` lanes of a warp, a power of two, and a lane at most eight vectors of it.
extern "C" __global__ void layer_norm(const number* __restrict__ x, const number* __restrict__ added, number* __restrict__ sum,
                                      const number* __restrict__ weight, const number* __restrict__ shift,
                                      number* __restrict__ y, int rows, int width, int lanes, float epsilon) {
    const int own = (blockIdx.x * blockDim.x + threadIdx.x) / lanes, lane = threadIdx.x % lanes, vectors = width / 8;
    const int row = min(own, rows - 1); // a lane without a row of its own takes part in the sums, and writes nothing
    const long base = (long)row * vectors;
    Eight eight[8];
    float total = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const int vector = lane + lanes * k;
        if (vector < vectors) eight[k] = load(x, base + vector);
    }
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const int vector = lane + lanes * k;
        if (vector < vectors) {
            if (added != nullptr) {
                const Eight other = load(added, base + vector);
#pragma unroll
                for (int i = 0; i < 8; i++) eight[k].at[i] = narrow(widen(eight[k].at[i]) + widen(other.at[i]));
                if (own < rows) store(sum, base + vector, eight[k]);
            }
#pragma unroll
            for (int i = 0; i < 8; i++) total += widen(eight[k].at[i]);
        }
    }
    const float mean = sum_lanes(total, lanes) / width;
    float squares = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        if (lane + lanes * k < vectors) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float apart = widen(eight[k].at[i]) - mean;
                squares += apart * apart;
            }
        }
    }
    const float scale = rsqrtf(sum_lanes(squares, lanes) / width + epsilon);
    if (own >= rows) return;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const int vector = lane + lanes * k;
        if (vector < vectors) {
            const Eight weights = load(weight, vector), shifts = load(shift, vector);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float apart = widen(eight[k].at[i]) - mean;
                eight[k].at[i] = narrow(apart * scale * widen(weights.at[i]) + widen(shifts.at[i]));
            }
            store(y, base + vector, eight[k]);
        }
    }
}

// a * gelu(b) for rows of a and b side by side: x [rows, 2 width] to y [rows, width].
extern "C" __global__ void gated_gelu(const number* __restrict__ x, number* __restrict__ y, long count, int width) {
    const long index = (long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    const int vectors = width / 8;
    const long row = index / vectors, vector = index % vectors;
    const Eight a = load(x, row * 2 * vectors + vector), b = load(x, (row * 2 + 1) * vectors + vector);
    Eight eight;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float gate = widen(b.at[i]);
        const float open = gate * 0.5f * (1.0f + erff(gate * 0.70710678118654752440f));
        eight.at[i] = narrow(widen(a.at[i]) * rounded(open));
    }
    store(y, index, eight);
}

// (a + bias_a) + (b + bias_b) for rows of `width` channels; either bias may be absent.
extern "C" __global__ void biased_sum(const number* __restrict__ a, const number* __restrict__ bias_a,
                                      const number* __restrict__ b, const number* __restrict__ bias_b, number* __restrict__ y,
                                      long count, int width) {
    const long index = (long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    const long vector = index % (width / 8);
    const Pending of_a(bias_a, nullptr, vector), of_b(bias_b, nullptr, vector);
    const Eight left = load(a, index), right = load(b, index);
    Eight eight;
#pragma unroll
    for (int i = 0; i < 8; i++) eight.at[i] = narrow(of_a.add(left.at[i], i) + of_b.add(right.at[i], i));
    store(y, index, eight);
}

// Each pixel of x [batch, height, width, channels] four times: y [batch, 2 height, 2 width, channels].
extern "C" __global__ void doubled(const number* __restrict__ x, number* __restrict__ y, long count, int height, int width,
                                   int channels) {
    const long index = (long)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= count) return;
    const int vectors = channels / 8, vector = index % vectors;
    const long pixel = index / vectors;
    const int across = pixel % (2 * width);
    const long down = pixel / (2 * width), image = down / (2 * height);
    const long from = (image * height + down % (2 * height) / 2) * width + across / 2;
    store(y, index, load(x, from * vectors + vector));
}
