//! Attention over blocks of queries and blocks of keys, without the matrix of all scores (Milakov and Gimelshein 2018;
//! Dao et al. 2022).

#![allow(unsafe_code)] // Hands memory of tensors and scratch memory to the kernels; each use says why it is safe.

use super::Format;
use super::kernel::{Kernel, Layout, Rows, Scratch};
use super::pool;
use std::cell::RefCell;

/// The tensors of a call. All have the same format; features are next to each other.
pub(super) struct Call {
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) pixels: usize,
    pub(super) tokens: usize,
    pub(super) features: usize,
    pub(super) format: Format,
    /// `[batch, heads, pixels, features]`
    pub(super) q: Place,
    /// `[batch, heads, tokens, features]`
    pub(super) k: Place,
    /// `[batch, heads, tokens, features]`
    pub(super) v: Place,
    /// `[batch, heads, pixels, features]`
    pub(super) out: Place,
}

/// Where a tensor is: its first number, and the bytes from a batch row, a head, and a row to the next.
pub(super) struct Place {
    pub(super) start: *mut u8,
    pub(super) strides: [isize; 3],
}

// Safety: threads read q, k and v, and each row of the result is written by one of them.
unsafe impl Sync for Call {}

impl Call {
    fn rows(&self, place: &Place, pair: usize, first: usize, count: usize) -> Rows {
        let [batch, head, row] = place.strides;
        let offset = batch * (pair / self.heads) as isize + head * (pair % self.heads) as isize + row * first as isize;
        let start = place.start.wrapping_offset(offset);
        Rows { start, format: self.format, stride: row, count, features: self.features }
    }
}

/// Computes the result on up to `threads` threads. It does not depend on their number: a block of queries is one
/// thread's work, and its steps are always the same.
///
/// # Safety
/// The processor has the kernel's instructions. The places are those of tensors of the sizes given, which live until the
/// call returns, and no one else uses the result.
pub(super) unsafe fn attend(call: &Call, kernel: &dyn Kernel, threads: usize) {
    let layout = kernel.layout(call.tokens, call.features);
    let blocks = call.pixels.div_ceil(layout.queries); // of each batch row and head
    pool::share(threads, call.batch * call.heads * blocks, &|items| {
        with_scratch(&layout, |scratch| {
            let mut packed = None;
            // Safety: the caller's.
            unsafe { kernel.begin() };
            for item in items {
                let (pair, block) = (item / blocks, item % blocks);
                // Safety: the caller's, and the scratch memory has the layout's sizes.
                unsafe {
                    if packed != Some(pair) {
                        kernel.pack_keys(call.rows(&call.k, pair, 0, call.tokens), &layout, scratch);
                        kernel.pack_values(call.rows(&call.v, pair, 0, call.tokens), &layout, scratch);
                        packed = Some(pair);
                    }
                    let first = block * layout.queries;
                    let count = layout.queries.min(call.pixels - first);
                    let [q, out] = [&call.q, &call.out].map(|place| call.rows(place, pair, first, count));
                    attend_block(q, out, call.tokens, kernel, &layout, scratch);
                }
            }
            // Safety: the caller's.
            unsafe { kernel.end() };
        });
    });
}

/// Computes the rows `out` of the result for a block of queries `q`. Keys and values are packed already.
unsafe fn attend_block(q: Rows, out: Rows, tokens: usize, kernel: &dyn Kernel, layout: &Layout, scratch: &Scratch) {
    let scale = (std::f64::consts::LOG2_E / (layout.features as f64).sqrt()) as f32; // exponentials are powers of two
    // Safety: the caller's.
    unsafe {
        kernel.pack_queries(q, layout, scratch);
        std::slice::from_raw_parts_mut(scratch.kept.reference, layout.queries).fill(f32::NEG_INFINITY);
        std::slice::from_raw_parts_mut(scratch.kept.sum, layout.queries).fill(0.0);
        kernel.sum(tokens, scale, layout, scratch);
        kernel.finish(out, layout, scratch);
    }
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([f32; 16]);

/// Scratch memory that a thread keeps for its next call, in bytes at most.
const KEPT: usize = 8 << 20;

/// Calls `work` with this thread's scratch memory.
fn with_scratch(layout: &Layout, work: impl FnOnce(&Scratch)) {
    thread_local! {
        static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    }
    LINES.with_borrow_mut(|lines| {
        let needed = layout.total().div_ceil(16);
        if lines.len() < needed {
            *lines = Vec::new(); // frees the old memory first
            lines.resize(needed, Line([0.0; 16]));
        }
        // Safety: there are `layout.total()` words.
        work(&unsafe { Scratch::at(lines.as_mut_ptr().cast(), layout) });
        if size_of_val(lines.as_slice()) > KEPT {
            *lines = Vec::new();
        }
    });
}
