//! Vectors of AVX2 with FMA: products of f32.

#![allow(unsafe_code)] // Instructions of the processor; `Engine::kernel` looks whether it has them.

use super::kernel::{Kernel, Layout, Rows, Scratch};
use super::lanes::{EXP2, Lanes, NEAR, polynomial};
use super::steps::{self, kernel_of_lanes, step};
use std::arch::x86_64::*;

pub(super) struct Avx2;

kernel_of_lanes!(Avx2, F32x8, 2, "avx2,fma");

#[derive(Clone, Copy)]
pub(super) struct F32x8(__m256);

/// Rounded down, without exceptions.
const DOWN: i32 = 0x09;

// Safety of all functions: the caller's.
impl Lanes for F32x8 {
    const LANES: usize = 8;
    const PACKED: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        F32x8(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        F32x8(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, times: Self, plus: Self) -> Self {
        F32x8(unsafe { _mm256_fmadd_ps(self.0, times.0, plus.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        F32x8(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn unless_near(self, other: Self) -> Self {
        // Safety: the caller's.
        unsafe {
            let limit = _mm256_add_ps(other.0, _mm256_set1_ps(NEAR));
            F32x8(_mm256_blendv_ps(self.0, other.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, limit)))
        }
    }
    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        // Safety: the caller's.
        unsafe {
            let whole = _mm256_round_ps::<DOWN>(self.0);
            let power = polynomial(F32x8(_mm256_sub_ps(self.0, whole)), EXP2).0;
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
            let scaled = _mm256_mul_ps(power, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)));
            // Less than the smallest normal number is as good as zero; so is what an infinite argument gives.
            let least = _mm256_cmp_ps::<_CMP_LT_OQ>(whole, _mm256_set1_ps(-126.0));
            F32x8(_mm256_andnot_ps(least, scaled))
        }
    }
    #[inline(always)]
    unsafe fn dot(self, one: Self, each: Self) -> Self {
        F32x8(unsafe { _mm256_fmadd_ps(one.0, each.0, self.0) })
    }
    #[inline(always)]
    unsafe fn pack(first: Self, _: Self) -> Self {
        first
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, strides: [usize; 2]) {
        // Safety: the caller's.
        unsafe {
            let mut rows = [_mm256_setzero_ps(); 8];
            for row in 0..8 {
                rows[row] = _mm256_loadu_ps(from.add(row * strides[0]));
            }
            // Each half of `quads[4 g + c]` holds the numbers of rows 4 g to 4 g + 3 in one column: that of column c of the
            // half.
            let mut quads = [_mm256_setzero_ps(); 8];
            for group in 0..2 {
                let [a, b, c, d] = [rows[4 * group], rows[4 * group + 1], rows[4 * group + 2], rows[4 * group + 3]];
                let [low, high] = [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)].map(|x| _mm256_castps_pd(x));
                let [low_2, high_2] = [_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)].map(|x| _mm256_castps_pd(x));
                quads[4 * group] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, low_2));
                quads[4 * group + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, low_2));
                quads[4 * group + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, high_2));
                quads[4 * group + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, high_2));
            }
            for column in 0..4 {
                let (above, below) = (quads[column], quads[4 + column]);
                _mm256_storeu_ps(to.add(column * strides[1]), _mm256_permute2f128_ps::<0x20>(above, below));
                _mm256_storeu_ps(to.add((4 + column) * strides[1]), _mm256_permute2f128_ps::<0x31>(above, below));
            }
        }
    }
}
