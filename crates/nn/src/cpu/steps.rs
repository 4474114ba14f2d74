//! The steps of attention for any vectors, and the macros that compile them for a processor's.

#![allow(unsafe_code)] // Works on scratch memory. All functions are as unsafe as the methods of `Kernel`.

use super::kernel::{Layout, Rows, Scratch, spread};
use super::lanes::{self, Block, Earlier, Factor, Lanes};

/// Keys of a block: the scores of so many keys and a block of queries stay in the first cache.
const KEYS: usize = 96;

/// The layout for vectors `L`, of which a block of queries has `V`.
pub(super) fn layout<L: Lanes, const V: usize>(tokens: usize, features: usize) -> Layout {
    let words = features.div_ceil(L::PACKED);
    let (key_stride, value_stride) = (spread(words), spread(features));
    Layout {
        queries: V * L::LANES,
        keys: KEYS,
        features,
        words,
        key_stride,
        value_stride,
        rows: features.next_multiple_of(L::LANES),
        all_keys: tokens * key_stride,
        all_values: tokens.div_ceil(L::PACKED) * value_stride,
    }
}

#[inline(always)]
pub(super) unsafe fn pack_queries<L: Lanes, const V: usize>(from: Rows, layout: &Layout, scratch: &Scratch) {
    let words = layout.words.next_multiple_of(L::LANES);
    // Safety: the caller's; `spare` and `queries` have room for `rows` words, at least `words`, of each query.
    unsafe {
        match L::PACKED {
            1 => from.to_f32(scratch.spare, words),
            _ => from.to_pairs(scratch.spare, words),
        }
        let missing = layout.queries - from.count;
        scratch.spare.add(from.count * words).write_bytes(0, missing * words);
        let (size, strides) = ([layout.queries, words], [words, layout.queries]);
        lanes::transpose::<L>(scratch.spare, scratch.queries, size, strides);
    }
}

#[inline(always)]
pub(super) unsafe fn pack_keys<L: Lanes, const V: usize>(from: Rows, layout: &Layout, scratch: &Scratch) {
    // Safety: the caller's.
    unsafe {
        match L::PACKED {
            1 => from.to_f32(scratch.keys, layout.key_stride),
            _ => from.to_pairs(scratch.keys, layout.key_stride),
        }
    }
}

#[inline(always)]
pub(super) unsafe fn pack_values<L: Lanes, const V: usize>(from: Rows, layout: &Layout, scratch: &Scratch) {
    // Safety: the caller's.
    unsafe {
        match L::PACKED {
            1 => from.to_f32(scratch.values, layout.value_stride),
            _ => from.to_row_pairs(scratch.values, layout.value_stride),
        }
    }
}

#[inline(always)]
pub(super) unsafe fn sum<L: Lanes, const V: usize>(tokens: usize, scale: f32, layout: &Layout, scratch: &Scratch) {
    let Scratch { queries, scores, sums, kept, .. } = *scratch;
    for first in (0..tokens).step_by(layout.keys) {
        let count = layout.keys.min(tokens - first);
        let block = Block { keys: count, words: layout.words, stride: layout.key_stride };
        let (row, terms) = (first / L::PACKED, count.div_ceil(L::PACKED)); // blocks begin at an even key
        // Safety: the caller's.
        unsafe {
            lanes::scores::<L, V>(scratch.keys.add(first * layout.key_stride), queries, block, scores, kept);
            let earlier = match (first, lanes::refer::<L, V>(scale, kept)) {
                (0, _) => Earlier::None,
                (_, false) => Earlier::Same,
                (_, true) => Earlier::Scaled,
            };
            lanes::exponentials::<L, V>(scores, count, scale, kept);
            let start = scratch.values.add(row * layout.value_stride);
            let values = Factor { start, row: 1, term: layout.value_stride };
            lanes::accumulate::<L, V>(values, layout.features, scores, terms, sums, (earlier, kept));
        }
    }
}

#[inline(always)]
pub(super) unsafe fn finish<L: Lanes, const V: usize>(to: Rows, layout: &Layout, scratch: &Scratch) {
    let columns = layout.features.next_multiple_of(L::LANES);
    // Safety: the caller's; `sums` and `spare` have room for `rows`, at least `columns`, words of each query. Those past
    // the features are zeros or numbers of an earlier call, and are not written to the result.
    unsafe {
        lanes::divide::<L, V>(scratch.sums, layout.features, scratch.kept);
        let (size, strides) = ([columns, layout.queries], [layout.queries, columns]);
        lanes::transpose::<L>(scratch.sums, scratch.spare, size, strides);
        to.write(scratch.spare, columns);
    }
}

/// A step of `Kernel`, by the function of the same name for any vectors, compiled for a processor with `$features`.
macro_rules! step {
    ($lanes:ty, $vectors:literal, $features:literal,
        $step:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?) => {
        unsafe fn $step(&self, $($argument: $type),*) $(-> $result)? {
            #[cfg_attr(target_arch = "x86_64", target_feature(enable = $features))]
            unsafe fn compiled($($argument: $type),*) $(-> $result)? {
                // Safety: the caller's.
                unsafe { $crate::cpu::steps::$step::<$lanes, $vectors>($($argument),*) }
            }
            // Safety: the caller's.
            unsafe { compiled($($argument),*) }
        }
    };
}

/// Implements `Kernel` for a type by vectors, of which a block of queries has `$vectors`, on a processor with `$features`.
macro_rules! kernel_of_lanes {
    ($kernel:ty, $lanes:ty, $vectors:literal, $features:literal) => {
        impl Kernel for $kernel {
            fn layout(&self, tokens: usize, features: usize) -> Layout {
                steps::layout::<$lanes, $vectors>(tokens, features)
            }

            step!($lanes, $vectors, $features, pack_queries(from: Rows, layout: &Layout, scratch: &Scratch));
            step!($lanes, $vectors, $features, pack_keys(from: Rows, layout: &Layout, scratch: &Scratch));
            step!($lanes, $vectors, $features, pack_values(from: Rows, layout: &Layout, scratch: &Scratch));
            step!($lanes, $vectors, $features, sum(tokens: usize, scale: f32, layout: &Layout, scratch: &Scratch));
            step!($lanes, $vectors, $features, finish(to: Rows, layout: &Layout, scratch: &Scratch));
        }
    };
}

pub(super) use {kernel_of_lanes, step};
