//! Vectors of AVX-512: products of f32, and products of bf16 by AVX512_BF16.

#![allow(unsafe_code)] // Instructions of the processor; `Engine::is_available` says whether it has them.

use super::kernel::{Kernel, Layout, Rows, Scratch};
use super::lanes::{EXP2, EXP2_BF16, Lanes, NEAR, polynomial};
use super::steps::{self, kernel_of_lanes, step};
use std::arch::x86_64::*;

/// Products of f32.
pub(super) struct Avx512;
/// Products of bf16.
pub(super) struct Avx512Bf16;

kernel_of_lanes!(Avx512, F32x16, 4, "avx512f,avx512bw,avx512dq,avx512vl,fma");
kernel_of_lanes!(Avx512Bf16, Pairs16, 4, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma");

#[derive(Clone, Copy)]
pub(super) struct F32x16(__m512);

/// As [`F32x16`]; the factors of a product are pairs of bf16.
#[derive(Clone, Copy)]
pub(super) struct Pairs16(__m512);

/// Rounded down, as `_mm512_scalef_ps` does; without exceptions.
const DOWN: i32 = 0x09;

// Safety of all functions: the caller's.
impl Lanes for F32x16 {
    const LANES: usize = 16;
    const PACKED: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        F32x16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        F32x16(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, times: Self, plus: Self) -> Self {
        F32x16(unsafe { _mm512_fmadd_ps(self.0, times.0, plus.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        F32x16(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn unless_near(self, other: Self) -> Self {
        F32x16(unsafe { unless_near(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        // Safety: the caller's. What is left of an infinite argument is zero; its power of two is exact.
        unsafe {
            let fraction = F32x16(_mm512_reduce_ps::<DOWN>(self.0));
            F32x16(_mm512_scalef_ps(polynomial(fraction, EXP2).0, self.0))
        }
    }
    #[inline(always)]
    unsafe fn dot(self, one: Self, each: Self) -> Self {
        F32x16(unsafe { _mm512_fmadd_ps(one.0, each.0, self.0) })
    }
    #[inline(always)]
    unsafe fn pack(first: Self, _: Self) -> Self {
        first
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, strides: [usize; 2]) {
        unsafe { transpose(from, to, strides) }
    }
}

impl Lanes for Pairs16 {
    const LANES: usize = 16;
    const PACKED: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Pairs16(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Pairs16(unsafe { _mm512_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Pairs16(unsafe { _mm512_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Pairs16(unsafe { _mm512_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, times: Self, plus: Self) -> Self {
        Pairs16(unsafe { _mm512_fmadd_ps(self.0, times.0, plus.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Pairs16(unsafe { _mm512_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn unless_near(self, other: Self) -> Self {
        Pairs16(unsafe { unless_near(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        // Safety: the caller's.
        unsafe {
            let fraction = Pairs16(_mm512_reduce_ps::<DOWN>(self.0));
            Pairs16(_mm512_scalef_ps(polynomial(fraction, EXP2_BF16).0, self.0))
        }
    }
    #[inline(always)]
    unsafe fn dot(self, one: Self, each: Self) -> Self {
        // Safety: the caller's; a word is a pair of bf16.
        unsafe {
            let (one, each) =
                (std::mem::transmute::<__m512, __m512bh>(one.0), std::mem::transmute::<__m512, __m512bh>(each.0));
            Pairs16(_mm512_dpbf16_ps(self.0, one, each))
        }
    }
    #[inline(always)]
    unsafe fn pack(first: Self, second: Self) -> Self {
        // Safety: the caller's. Rounds to the nearest, of two equally near ones to the greater: exponentials are positive.
        unsafe {
            let half = _mm512_set1_epi32(0x8000);
            let first = _mm512_srli_epi32::<16>(_mm512_add_epi32(_mm512_castps_si512(first.0), half));
            let second = _mm512_add_epi32(_mm512_castps_si512(second.0), half);
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            // (second & upper) | first
            Pairs16(_mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xf8>(first, second, upper)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, strides: [usize; 2]) {
        unsafe { transpose(from, to, strides) }
    }
}

/// `x`, or `reference` where `x` is less than `reference + NEAR`.
#[inline(always)]
unsafe fn unless_near(x: __m512, reference: __m512) -> __m512 {
    // Safety: the caller's.
    unsafe {
        let limit = _mm512_add_ps(reference, _mm512_set1_ps(NEAR));
        _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, limit), reference)
    }
}

/// Transposes 16 rows of 16 words.
#[inline(always)]
unsafe fn transpose(from: *const f32, to: *mut f32, strides: [usize; 2]) {
    // Safety: the caller's.
    unsafe {
        let mut rows = [_mm512_setzero_ps(); 16];
        for row in 0..16 {
            rows[row] = _mm512_loadu_ps(from.add(row * strides[0]));
        }
        // Each quarter of `quads[4 g + c]` holds the numbers of rows 4 g to 4 g + 3 in one column: that of column c of
        // the quarter.
        let mut quads = [_mm512_setzero_ps(); 16];
        for group in 0..4 {
            let [a, b, c, d] = [rows[4 * group], rows[4 * group + 1], rows[4 * group + 2], rows[4 * group + 3]];
            let [low, high] = [_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)].map(|x| _mm512_castps_pd(x));
            let [low_2, high_2] = [_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)].map(|x| _mm512_castps_pd(x));
            quads[4 * group] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low_2));
            quads[4 * group + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low_2));
            quads[4 * group + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high_2));
            quads[4 * group + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high_2));
        }
        for column in 0..4 {
            let [a, b, c, d] = [quads[column], quads[4 + column], quads[8 + column], quads[12 + column]];
            let (even, even_2) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
            let (odd, odd_2) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
            _mm512_storeu_ps(to.add(column * strides[1]), _mm512_shuffle_f32x4::<0x88>(even, even_2));
            _mm512_storeu_ps(to.add((4 + column) * strides[1]), _mm512_shuffle_f32x4::<0x88>(odd, odd_2));
            _mm512_storeu_ps(to.add((8 + column) * strides[1]), _mm512_shuffle_f32x4::<0xdd>(even, even_2));
            _mm512_storeu_ps(to.add((12 + column) * strides[1]), _mm512_shuffle_f32x4::<0xdd>(odd, odd_2));
        }
    }
}
