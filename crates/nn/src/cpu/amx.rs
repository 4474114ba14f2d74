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
use super::kernel::{Kernel, Layout, Part, Rows, Scratch, spread};
use super::lanes::{self, Earlier, Lanes};
use super::steps::step;
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

pub(super) struct Amx;

/// Rows of a tile, and words in a row.
const SIDE: usize = 16;
/// Queries of a block: the columns of two tiles.
const QUERIES: usize = 2 * SIDE;
/// Keys of a block.
const KEYS: usize = 128;

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
            queries: QUERIES,
            keys: KEYS,
            features,
            words,
            key_stride,
            value_stride: KEYS / 2,
            rows,
            all_keys: tokens.next_multiple_of(2 * SIDE) * key_stride,
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

    step!(Pairs16, 2, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma", pack_queries(from: Rows, layout: &Layout, scratch: &Scratch));
    step!(Pairs16, 2, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma", finish(to: Rows, layout: &Layout, scratch: &Scratch));

    unsafe fn pack_keys(&self, from: Rows, layout: &Layout, scratch: &Scratch) {
        let missing = from.count.next_multiple_of(2 * SIDE) - from.count;
        // Safety: the caller's; there is room for a multiple of 32 keys.
        unsafe {
            from.to_pairs(scratch.keys, layout.words, layout.key_stride);
            scratch.keys.add(from.count * layout.key_stride).write_bytes(0, missing * layout.key_stride);
        }
    }

    unsafe fn pack_values(&self, from: Rows, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's.
        unsafe { pack_values(from, layout, scratch) }
    }

    unsafe fn scores(&self, part: Part, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's.
        unsafe { scores(part, layout, scratch) }
    }

    unsafe fn exponentials(&self, part: Part, scale: f32, scratch: &Scratch) -> bool {
        // Safety: the caller's.
        unsafe { exponentials(part, scale, scratch) }
    }

    unsafe fn accumulate(&self, part: Part, earlier: Earlier, layout: &Layout, scratch: &Scratch) {
        // Safety: the caller's.
        unsafe { accumulate(part, earlier, layout, scratch) }
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
            some.to_row_pairs(scratch.spare, layout.rows, layout.rows);
            scratch.spare.add(pairs * layout.rows).write_bytes(0, (SIDE - pairs) * layout.rows);
            let (size, strides) = ([SIDE, layout.rows], [layout.rows, layout.value_stride]);
            lanes::transpose::<Pairs16>(scratch.spare, scratch.values.add(to), size, strides);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn scores(part: Part, layout: &Layout, scratch: &Scratch) {
    // Safety: the caller's; keys are packed in 32s.
    unsafe {
        let rows = part.count.next_multiple_of(2 * SIDE);
        let keys = First { start: scratch.keys.add(part.first * layout.key_stride), stride: layout.key_stride };
        product(keys, scratch.queries, layout.words / SIDE, scratch.scores, rows, false);
        let mut most = [Pairs16::splat(f32::NEG_INFINITY); 2];
        for key in 0..part.count {
            for vector in 0..2 {
                most[vector] = most[vector].max(Pairs16::load(scratch.scores.add((2 * key + vector) * SIDE)));
            }
        }
        for vector in 0..2 {
            most[vector].store(scratch.kept.block.add(vector * SIDE));
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn exponentials(part: Part, scale: f32, scratch: &Scratch) -> bool {
    let (pairs, all) = (part.count.div_ceil(2), part.count.next_multiple_of(2 * SIDE) / 2);
    // Safety: the caller's.
    unsafe {
        let grown = lanes::exponentials::<Pairs16, 2>(scratch.scores, part.count, scale, scratch.kept);
        scratch.scores.add(pairs * QUERIES).write_bytes(0, (all - pairs) * QUERIES);
        grown
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
unsafe fn accumulate(part: Part, earlier: Earlier, layout: &Layout, scratch: &Scratch) {
    // Safety: the caller's; values are packed by blocks.
    unsafe {
        if earlier == Earlier::Scaled {
            lanes::multiply::<Pairs16, 2>(scratch.sums, layout.features, scratch.kept.factor);
        }
        let start = scratch.values.add(part.first / 2 * layout.rows);
        let values = First { start, stride: layout.value_stride };
        let terms = part.count.div_ceil(2 * SIDE);
        product(values, scratch.scores, terms, scratch.sums, layout.rows, earlier != Earlier::None);
    }
}

/// The first factor of a product: rows of words, `stride` words apart.
#[derive(Clone, Copy)]
struct First {
    start: *const f32,
    stride: usize,
}

/// `sums` `[rows, 32 queries]` becomes the product of `first` `[rows, 16 terms words]` and `second`
/// `[16 terms words, 32 queries]`, or that is added.
#[inline(always)]
unsafe fn product(first: First, second: *const f32, terms: usize, sums: *mut f32, rows: usize, add: bool) {
    let mut row = 0;
    while row < rows {
        // Safety: the caller's.
        unsafe {
            let first = First { start: first.start.add(row * first.stride), ..first };
            let sums = sums.add(row * QUERIES);
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
unsafe fn product_of_rows<const TWO: bool>(
    first: First,
    mut second: *const f32,
    terms: usize,
    sums: *mut f32,
    add: bool,
) {
    let below = SIDE * QUERIES;
    // Safety: the caller's.
    unsafe {
        if add {
            load::<0>(sums, QUERIES);
            load::<1>(sums.add(SIDE), QUERIES);
            if TWO {
                load::<2>(sums.add(below), QUERIES);
                load::<3>(sums.add(below + SIDE), QUERIES);
            }
        } else {
            asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem, preserves_flags));
            if TWO {
                asm!("tilezero tmm2", "tilezero tmm3", options(nostack, nomem, preserves_flags));
            }
        }
        let mut start = first.start;
        for _ in 0..terms {
            load::<4>(start, first.stride);
            load::<6>(second, QUERIES);
            asm!("tdpbf16ps tmm0, tmm4, tmm6", options(nostack, nomem, preserves_flags));
            load::<7>(second.add(SIDE), QUERIES);
            asm!("tdpbf16ps tmm1, tmm4, tmm7", options(nostack, nomem, preserves_flags));
            if TWO {
                load::<5>(start.add(SIDE * first.stride), first.stride);
                asm!("tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7", options(nostack, nomem, preserves_flags));
            }
            start = start.wrapping_add(SIDE);
            second = second.wrapping_add(SIDE * QUERIES);
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
    // Safety: the caller's: 16 rows of 16 words, `QUERIES` apart, can be written.
    unsafe {
        asm!(
            "tilestored [{to} + {stride}*1], tmm{tile}",
            tile = const TILE, to = in(reg) to, stride = in(reg) 4 * QUERIES,
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
