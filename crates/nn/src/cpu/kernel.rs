//! What the driver of attention asks of a set of instructions.

#![allow(unsafe_code)] // Copies rows of tensors by pointers; the functions say what they must point to.

use super::Format;
use super::lanes::Kept;

/// The steps of attention for one block of queries. All work on scratch memory of [`Layout`]'s sizes.
///
/// # Safety
/// All functions but `layout`: the processor has the instructions; `layout` is from `layout`; each pointer points to
/// memory of the size that it says.
pub(super) trait Kernel: Sync {
    /// The sizes of scratch memory for keys and values of `tokens` tokens with `features` features.
    fn layout(&self, tokens: usize, features: usize) -> Layout;

    /// Called by each thread before its first step.
    unsafe fn begin(&self) {}

    /// Called by each thread after its last step.
    unsafe fn end(&self) {}

    /// Queries become the factor of a product, `[words, queries]`.
    unsafe fn pack_queries(&self, from: Rows, layout: &Layout, scratch: &Scratch);

    /// All keys become the factor of a product.
    unsafe fn pack_keys(&self, from: Rows, layout: &Layout, scratch: &Scratch);

    /// All values become the factor of a product.
    unsafe fn pack_values(&self, from: Rows, layout: &Layout, scratch: &Scratch);

    /// Sums over all keys: the exponentials, and the values weighted by them. `scale` is that of the scores.
    unsafe fn sum(&self, tokens: usize, scale: f32, layout: &Layout, scratch: &Scratch);

    /// Writes the weighted values, divided by the sum of the weights, to rows of the result.
    unsafe fn finish(&self, to: Rows, layout: &Layout, scratch: &Scratch);
}

/// The sizes of scratch memory. A word is an f32 or two bf16.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Queries of a block.
    pub(super) queries: usize,
    /// Keys of a block.
    pub(super) keys: usize,
    /// Features of a query, of a key and of a value.
    pub(super) features: usize,
    /// Words of a query and of a key.
    pub(super) words: usize,
    /// Words from a key to the next.
    pub(super) key_stride: usize,
    /// Words from a row of values to the next.
    pub(super) value_stride: usize,
    /// Rows of `Scratch::queries` and `Scratch::sums`, at most.
    pub(super) rows: usize,
    /// Words of all keys.
    pub(super) all_keys: usize,
    /// Words of all values.
    pub(super) all_values: usize,
}

impl Layout {
    fn sizes(&self) -> [usize; 9] {
        let columns = self.rows * self.queries;
        let [keys, queries] = [self.keys, self.queries];
        [self.all_keys, self.all_values, columns, columns, columns, keys * queries, queries, queries, 2 * queries]
            .map(|words| words.next_multiple_of(16))
    }

    /// Words of scratch memory.
    pub(super) fn total(&self) -> usize {
        self.sizes().iter().sum()
    }
}

/// Scratch memory of a thread.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    pub(super) keys: *mut f32,
    pub(super) values: *mut f32,
    /// `[words, queries]`
    pub(super) queries: *mut f32,
    /// `[features, queries]`
    pub(super) sums: *mut f32,
    /// Rows before or after they are transposed, `[queries, rows]`.
    pub(super) spare: *mut f32,
    /// `[keys of a block, queries]`
    pub(super) scores: *mut f32,
    pub(super) kept: Kept,
}

impl Scratch {
    /// Divides memory.
    ///
    /// # Safety
    /// `start` points to `layout.total()` words.
    pub(super) unsafe fn at(start: *mut f32, layout: &Layout) -> Scratch {
        let mut next = start;
        let [keys, values, queries, sums, spare, scores, block, reference, sum] = layout.sizes().map(|words| {
            let this = next;
            next = next.wrapping_add(words);
            this
        });
        // Safety: the last part has room for two.
        let factor = unsafe { sum.add(layout.queries) };
        Scratch { keys, values, queries, sums, spare, scores, kept: Kept { block, reference, sum, factor } }
    }
}

/// Rows of a tensor whose features are next to each other.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *mut u8,
    pub(super) format: Format,
    /// Bytes from a row to the next.
    pub(super) stride: isize,
    pub(super) count: usize,
    pub(super) features: usize,
}

impl Rows {
    #[inline(always)]
    fn row(&self, row: usize) -> *mut u8 {
        self.start.wrapping_offset(self.stride * row as isize)
    }

    /// Some consecutive rows.
    pub(super) fn part(&self, first: usize, count: usize) -> Rows {
        Rows { start: self.row(first), count, ..*self }
    }

    /// Copies the rows to f32, `stride` words apart. All words that are not of a row become zeros.
    #[inline(always)]
    pub(super) unsafe fn to_f32(&self, to: *mut f32, stride: usize) {
        // Safety: a row has `features` numbers. They may begin anywhere, hence the unaligned reads.
        unsafe {
            if self.features < stride {
                to.write_bytes(0, self.count * stride);
            }
            for row in 0..self.count {
                let (from, to) = (self.row(row), to.add(row * stride));
                match self.format {
                    Format::F32 => copy(from, to.cast(), 4 * self.features),
                    Format::Bf16 => {
                        for feature in 0..self.features {
                            let bits = from.cast::<u16>().add(feature).read_unaligned();
                            *to.add(feature) = f32::from_bits(u32::from(bits) << 16);
                        }
                    }
                }
            }
        }
    }

    /// Copies rows of bf16, `stride` words apart. All words that are not of a row become zeros.
    #[inline(always)]
    pub(super) unsafe fn to_pairs(&self, to: *mut f32, stride: usize) {
        // Safety: a row has `features` numbers of two bytes.
        unsafe {
            if self.features < 2 * stride {
                to.write_bytes(0, self.count * stride);
            }
            for row in 0..self.count {
                copy(self.row(row), to.add(row * stride).cast(), 2 * self.features);
            }
        }
    }

    /// Copies rows of bf16 two by two: word `i` holds number `i` of both. A missing row is zero. Pairs are
    /// `stride` words apart; all words that are not of a pair become zeros.
    #[inline(always)]
    pub(super) unsafe fn to_row_pairs(&self, to: *mut f32, stride: usize) {
        if self.features < stride {
            // Safety: the caller's.
            unsafe { to.write_bytes(0, self.count.div_ceil(2) * stride) };
        }
        for pair in 0..self.count.div_ceil(2) {
            // Safety: a row has `features` numbers of two bytes.
            unsafe {
                let to = to.add(pair * stride).cast::<u32>();
                let first = self.row(2 * pair).cast::<u16>();
                if 2 * pair + 1 < self.count {
                    let second = self.row(2 * pair + 1).cast::<u16>();
                    for feature in 0..self.features {
                        let low = u32::from(first.add(feature).read_unaligned());
                        let high = u32::from(second.add(feature).read_unaligned());
                        *to.add(feature) = low | high << 16;
                    }
                } else {
                    for feature in 0..self.features {
                        *to.add(feature) = u32::from(first.add(feature).read_unaligned());
                    }
                }
            }
        }
    }

    /// Writes the rows from f32, `stride` words apart.
    #[inline(always)]
    pub(super) unsafe fn write(&self, from: *const f32, stride: usize) {
        for row in 0..self.count {
            // Safety: a row has room for `features` numbers.
            unsafe {
                let from = from.add(row * stride);
                match self.format {
                    Format::F32 => copy(from.cast(), self.row(row), 4 * self.features),
                    Format::Bf16 => {
                        let to = self.row(row).cast::<u16>();
                        for feature in 0..self.features {
                            to.add(feature).write_unaligned(nearest_bf16(*from.add(feature)));
                        }
                    }
                }
            }
        }
    }
}

/// Copies bytes, a cache line at a time. Rows are too short for calls of `memcpy`.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // Safety: the caller's. The last piece begins where it ends with the last byte, so pieces may overlap.
    unsafe {
        if bytes >= 64 {
            for at in (0..bytes - 63).step_by(64) {
                copy_piece::<64>(from, to, at);
            }
            return copy_piece::<64>(from, to, bytes - 64);
        }
        if bytes >= 16 {
            for at in (0..bytes - 15).step_by(16) {
                copy_piece::<16>(from, to, at);
            }
            return copy_piece::<16>(from, to, bytes - 16);
        }
        for at in (0..bytes).step_by(2) {
            copy_piece::<2>(from, to, at);
        }
    }
}

#[inline(always)]
unsafe fn copy_piece<const BYTES: usize>(from: *const u8, to: *mut u8, at: usize) {
    // Safety: the caller's.
    unsafe { to.add(at).cast::<[u8; BYTES]>().write(from.add(at).cast::<[u8; BYTES]>().read()) }
}

/// The nearest bf16, of two equally near ones the even one. NaN stays NaN.
#[inline(always)]
fn nearest_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { 0x7fc0 } else { rounded as u16 }
}

/// Words from a row to the next: enough for `words`, and such that rows do not fall on the same places of a cache.
pub(super) fn spread(words: usize) -> usize {
    if words.is_multiple_of(128) { words + 16 } else { words }
}
