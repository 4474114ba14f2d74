//! Products of bf16 by the tiles of AMX; the rest by AVX-512.
//!
//! A tile has 16 rows of 64 bytes. `tdpbf16ps` adds to 16x16 sums of f32 the products of 16 rows of 32 bf16 and of 16
//! rows of 16 pairs of bf16. Keys are the first factor as they are, and queries the second, in the order that AVX512_BF16
//! takes too. So scores, exponentials and sums have the same places as for vectors; values alone must be transposed.
//!
//! Rust has no intrinsics for tiles. No compiler uses the eight tile registers by itself, so they keep their contents from
//! one `asm!` to the next.

#![allow(unsafe_code)] // Instructions of the processor; `is_available` says whether it has them.

use super::avx512::Pairs16;
use super::kernel::{Kernel, Layout, Rows, Scratch, spread};
use super::lanes::{self, Kept, Lanes};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

pub(super) struct Amx;

/// Rows of a tile, and words in a row.
const SIDE: usize = 16;
/// Queries of a half of a block: the columns of two tiles.
const HALF: usize = 2 * SIDE;
/// Keys whose scores are computed at once: the rows of two tiles.
const STEP: usize = 2 * SIDE;
/// Keys of a block.
const KEYS: usize = 2 * STEP;

/// Whether the processor has tiles for bf16, and the system lets this process use them.
pub(super) fn is_available() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        const TILE_AND_BF16: u32 = 1 << 24 | 1 << 22;
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const TILE_DATA: libc::c_long = 18;
        // Leaf 7 is there: the processor has AVX-512. `Engine::kernel` has looked.
        let has = __cpuid_count(7, 0).edx & TILE_AND_BF16 == TILE_AND_BF16;
        // Safety: asks for the permission to use tiles; it allocates nothing and changes no state that is in use.
        has && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
    })
}

impl Kernel for Amx {
    fn layout(&self, tokens: usize, features: usize) -> Layout {
        let words = features.next_multiple_of(2 * SIDE) / 2;
        let rows = features.next_multiple_of(SIDE);
        let key_stride = spread(words);
        Layout {
            queries: 2 * HALF,
            keys: KEYS,
            features,
            words,
            key_stride,
            value_stride: KEYS / 2,
            rows,
            all_keys: tokens.next_multiple_of(STEP) * key_stride,
            all_values: tokens.next_multiple_of(KEYS) / 2 * rows,
        }
    }

    unsafe fn begin(&self) {
        // Safety: the caller's. Reads 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, preserves_flags, readonly)) }
    }

    unsafe fn end(&self) {
        // Safety: the caller's.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }

    unsafe fn pack_queries(&self, from: Rows, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's.
        unsafe { pack_queries(from, layout, scratch) }
    }

    unsafe fn pack_keys(&self, from: Rows, layout: &Layout, scratch: &Scratch) {
        let missing = from.count.next_multiple_of(2 * SIDE) - from.count;
        // Safety: the caller's; there is room for a multiple of 32 keys.
        unsafe {
            from.to_pairs(scratch.keys, layout.key_stride);
            scratch.keys.add(from.count * layout.key_stride).write_bytes(0, missing * layout.key_stride);
        }
    }

    unsafe fn pack_values(&self, from: Rows, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's.
        unsafe { pack_values(from, layout, scratch) }
    }

    unsafe fn sum(&self, tokens: usize, scale: f32, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's.
        unsafe { sum(tokens, scale, layout, scratch) }
    }

    unsafe fn finish(&self, to: Rows, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's.
        unsafe { finish(to, layout, scratch) }
    }
}

/// Queries of the two halves become `[words, 32 queries]` each.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn pack_queries(from: Rows, layout: &Layout, scratch: &Scratch) {
    let words = layout.words;
    // Safety: the caller's.
    unsafe {
        from.to_pairs(scratch.spare, words);
        scratch.spare.add(from.count * words).write_bytes(0, (2 * HALF - from.count) * words);
        for half in 0..2 {
            let (rows, to) = (scratch.spare.add(half * HALF * words), scratch.queries.add(half * HALF * words));
            lanes::transpose::<Pairs16>(rows, to, [HALF, words], [words, HALF]);
        }
    }
}

/// The values of 32 keys at a time become `[features, 16 pairs of keys]`; those of a block lie together,
/// `[features, pairs of keys]`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn pack_values(from: Rows, layout: &Layout, scratch: &Scratch) {
    for first in (0..from.count).step_by(2 * SIDE) {
        let some = from.part(first, (2 * SIDE).min(from.count - first));
        let pairs = some.count.div_ceil(2);
        let to = first / KEYS * layout.rows * layout.value_stride + first % KEYS / 2;
        // Safety: the caller's; `spare` has room for 16 rows.
        unsafe {
            some.to_row_pairs(scratch.spare, layout.rows);
            scratch.spare.add(pairs * layout.rows).write_bytes(0, (SIDE - pairs) * layout.rows);
            let (size, strides) = ([SIDE, layout.rows], [layout.rows, layout.value_stride]);
            lanes::transpose::<Pairs16>(scratch.spare, scratch.values.add(to), size, strides);
        }
    }
}

/// Divides the sums, and writes them as rows of the result.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn finish(to: Rows, layout: &Layout, scratch: &Scratch) {
    let rows = layout.rows;
    for half in 0..2 {
        let (first, last) = (half * HALF, to.count.min((half + 1) * HALF));
        if first < last {
            // Safety: the caller's.
            unsafe {
                let sums = scratch.sums.add(first * rows);
                lanes::divide::<Pairs16, 2>(sums, layout.features, scratch.kept.from(first));
                lanes::transpose::<Pairs16>(sums, scratch.spare, [rows, HALF], [HALF, rows]);
                to.part(first, last - first).write(scratch.spare, rows);
            }
        }
    }
}

/// The two halves take turns: while the tiles compute scores of one, the vectors compute exponentials of the other.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn sum(tokens: usize, scale: f32, layout: &Layout, scratch: &Scratch) {
    let halves = [Half::of(0, layout, scratch), Half::of(1, layout, scratch)];
    let block = |first: usize| Keys { first, count: KEYS.min(tokens.saturating_sub(first)) };
    // Safety: the caller's; blocks are of the keys that there are.
    unsafe {
        for step in 0..block(0).steps() {
            halves[0].scores(block(0), step, layout, scratch);
            halves[0].greatest(block(0), step);
        }
        for first in (0..tokens).step_by(KEYS) {
            let (now, next) = (block(first), block(first + KEYS));
            halves[0].turn(now, (&halves[1], now), scale, layout, scratch);
            halves[1].turn(now, (&halves[0], next), scale, layout, scratch);
        }
    }
}

/// A block of keys.
#[derive(Clone, Copy)]
struct Keys {
    first: usize,
    count: usize,
}

impl Keys {
    fn steps(self) -> usize {
        self.count.div_ceil(STEP)
    }
}

/// The memory of half a block of queries.
struct Half {
    queries: *const f32,
    scores: *mut f32,
    sums: *mut f32,
    kept: Kept,
}

impl Half {
    fn of(half: usize, layout: &Layout, scratch: &Scratch) -> Half {
        let first = half * HALF;
        Half {
            queries: scratch.queries.wrapping_add(first * layout.words),
            scores: scratch.scores.wrapping_add(first * KEYS),
            sums: scratch.sums.wrapping_add(first * layout.rows),
            kept: scratch.kept.from(first),
        }
    }

    /// Sums over a block of keys whose scores are there; beside, the scores of another half for its next block.
    #[inline(always)]
    unsafe fn turn(&self, keys: Keys, beside: (&Half, Keys), scale: f32, layout: &Layout, scratch: &Scratch) {
        let (other, of) = beside;
        // Safety: the caller's.
        unsafe {
            let grown = lanes::refer::<Pairs16, 2>(scale, self.kept);
            for step in 0..keys.steps().max(of.steps()) {
                if step < of.steps() {
                    other.scores(of, step, layout, scratch);
                }
                if step < keys.steps() {
                    let count = STEP.min(keys.count - step * STEP);
                    self.exponentials(step, count, scale);
                }
                if step < of.steps() {
                    other.greatest(of, step);
                }
            }
            self.accumulate(keys, grown, layout, scratch);
        }
    }

    /// Scores of 32 keys.
    #[inline(always)]
    unsafe fn scores(&self, keys: Keys, step: usize, layout: &Layout, scratch: &Scratch) {
        let start = scratch.keys.wrapping_add((keys.first + step * STEP) * layout.key_stride);
        let first = First { start, stride: layout.key_stride };
        let scores = self.scores.wrapping_add(step * STEP * HALF);
        // Safety: the caller's; keys are packed in 32s.
        unsafe {
            let queries = Second { start: self.queries, term: SIDE * HALF };
            product_of_rows::<true>(first, queries, layout.words / SIDE, scores, false)
        }
    }

    /// Each query's greatest score, of those of 32 keys and of those before in the block.
    #[inline(always)]
    unsafe fn greatest(&self, keys: Keys, step: usize) {
        let count = STEP.min(keys.count - step * STEP);
        // Safety: the caller's.
        unsafe {
            for vector in 0..2 {
                let mut greatest = match step {
                    0 => Pairs16::splat(f32::NEG_INFINITY),
                    _ => Pairs16::load(self.kept.block.add(vector * SIDE)),
                };
                let scores = self.scores.add(step * STEP * HALF + vector * SIDE);
                for key in 0..count {
                    greatest = greatest.max(Pairs16::load(scores.add(key * HALF)));
                }
                greatest.store(self.kept.block.add(vector * SIDE));
            }
        }
    }

    /// Exponentials of the scores of 32 keys, as words `[pairs of keys, queries]`.
    #[inline(always)]
    unsafe fn exponentials(&self, step: usize, count: usize, scale: f32) {
        // Safety: the caller's.
        unsafe {
            let scores = self.scores.add(step * STEP * HALF);
            lanes::exponentials::<Pairs16, 2>(scores, count, scale, self.kept);
            if count < STEP {
                let pairs = count.div_ceil(2);
                scores.add(pairs * HALF).write_bytes(0, (STEP / 2 - pairs) * HALF);
            }
        }
    }

    /// Adds the weighted values of a block of keys.
    #[inline(always)]
    unsafe fn accumulate(&self, keys: Keys, grown: bool, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's; values are packed by blocks.
        unsafe {
            let add = keys.first > 0;
            if add && grown {
                lanes::multiply::<Pairs16, 2>(self.sums, layout.features, self.kept.factor);
            }
            let start = scratch.values.add(keys.first / 2 * layout.rows);
            let values = First { start, stride: layout.value_stride };
            let weights = Second { start: self.scores, term: STEP * HALF };
            product(values, weights, keys.steps(), self.sums, layout.rows, add);
        }
    }
}

/// The first factor of a product: rows of words, `stride` words apart.
#[derive(Clone, Copy)]
struct First {
    start: *const f32,
    stride: usize,
}

/// The second factor: `[words, 32 queries]` for each 16 words, `term` words apart.
#[derive(Clone, Copy)]
struct Second {
    start: *const f32,
    term: usize,
}

/// `sums` `[rows, 32 queries]` becomes the product of `first` `[rows, 16 terms words]` and `second`
/// `[16 terms words, 32 queries]`, or that is added.
#[inline(always)]
unsafe fn product(first: First, second: Second, terms: usize, sums: *mut f32, rows: usize, add: bool) {
    let mut row = 0;
    while row < rows {
        // Safety: the caller's.
        unsafe {
            let first = First { start: first.start.add(row * first.stride), ..first };
            let sums = sums.add(row * HALF);
            match rows - row {
                SIDE => product_of_rows::<false>(first, second, terms, sums, add),
                _ => product_of_rows::<true>(first, second, terms, sums, add),
            }
        }
        row += 2 * SIDE;
    }
}

/// The same for 16 rows, or for 32.
#[inline(always)]
unsafe fn product_of_rows<const TWO: bool>(first: First, second: Second, terms: usize, sums: *mut f32, add: bool) {
    let below = SIDE * HALF;
    // Safety: the caller's.
    unsafe {
        if add {
            load::<0>(sums, HALF);
            load::<1>(sums.add(SIDE), HALF);
            if TWO {
                load::<2>(sums.add(below), HALF);
                load::<3>(sums.add(below + SIDE), HALF);
            }
        } else {
            asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem, preserves_flags));
            if TWO {
                asm!("tilezero tmm2", "tilezero tmm3", options(nostack, nomem, preserves_flags));
            }
        }
        let (mut start, mut second, term) = (first.start, second.start, second.term);
        for _ in 0..terms {
            load::<4>(start, first.stride);
            load::<6>(second, HALF);
            asm!("tdpbf16ps tmm0, tmm4, tmm6", options(nostack, nomem, preserves_flags));
            load::<7>(second.add(SIDE), HALF);
            asm!("tdpbf16ps tmm1, tmm4, tmm7", options(nostack, nomem, preserves_flags));
            if TWO {
                load::<5>(start.add(SIDE * first.stride), first.stride);
                asm!(
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    options(nostack, nomem, preserves_flags)
                );
            }
            start = start.wrapping_add(SIDE);
            second = second.wrapping_add(term);
        }
        store::<0>(sums);
        store::<1>(sums.add(SIDE));
        if TWO {
            store::<2>(sums.add(below));
            store::<3>(sums.add(below + SIDE));
        }
    }
}

/// Loads a tile from rows `stride` words apart.
#[inline(always)]
unsafe fn load<const TILE: u8>(from: *const f32, stride: usize) {
    // Safety: the caller's: 16 rows of 16 words can be read.
    unsafe {
        asm!(
            "tileloadd tmm{tile}, [{from} + {stride}*1]",
            tile = const TILE, from = in(reg) from, stride = in(reg) stride.wrapping_mul(4),
            options(nostack, preserves_flags, readonly),
        );
    }
}

/// Stores a tile of sums.
#[inline(always)]
unsafe fn store<const TILE: u8>(to: *mut f32) {
    // Safety: the caller's: 16 rows of 16 words, `HALF` apart, can be written.
    unsafe {
        asm!(
            "tilestored [{to} + {stride}*1], tmm{tile}",
            tile = const TILE, to = in(reg) to, stride = in(reg) 4 * HALF,
            options(nostack, preserves_flags),
        );
    }
}

/// The shape of all tiles, as `ldtilecfg` takes it.
#[repr(align(64))]
struct Config([u8; 64]);

static CONFIG: Config = {
    let mut bytes = [0; 64];
    bytes[0] = 1; // the palette of eight tiles
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 4 * SIDE as u8; // bytes of a row
        bytes[48 + tile] = SIDE as u8; // rows
        tile += 1;
    }
    Config(bytes)
};
