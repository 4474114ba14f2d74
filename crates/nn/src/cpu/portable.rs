//! Vectors of any processor, as arrays. Not fast; the tests hold the others against it.

#![allow(unsafe_code)] // Reads and writes scratch memory by pointers, as the functions of `Lanes` say.

use super::kernel::{Kernel, Layout, Rows, Scratch};
use super::lanes::{EXP2, Lanes, NEAR, polynomial};
use super::steps::{self, kernel_of_lanes, step};

pub(super) struct Portable;

kernel_of_lanes!(Portable, F32x8, 1, "sse2");

#[derive(Clone, Copy)]
struct F32x8([f32; 8]);

impl F32x8 {
    #[inline(always)]
    fn with(self, other: Self, each: impl Fn(f32, f32) -> f32) -> Self {
        let mut to = self.0;
        for lane in 0..8 {
            to[lane] = each(self.0[lane], other.0[lane]);
        }
        F32x8(to)
    }
}

// Safety of all functions: the caller's.
impl Lanes for F32x8 {
    const LANES: usize = 8;
    const PACKED: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        F32x8([x; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        F32x8(unsafe { from.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.with(other, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.with(other, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn mul_add(self, times: Self, plus: Self) -> Self {
        self.with(times, |x, y| x * y).with(plus, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.with(other, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn unless_near(self, other: Self) -> Self {
        self.with(other, |x, reference| if x < reference + NEAR { reference } else { x })
    }
    #[inline(always)]
    unsafe fn exp2(self) -> Self {
        let whole = F32x8(self.0.map(f32::floor));
        // Safety: no pointers.
        let power = unsafe { polynomial(self.with(whole, |x, whole| x - whole), EXP2) };
        power.with(whole, |power, whole| match whole {
            // An infinite argument has no fraction; less than the smallest normal number is as good as zero.
            ..-126.0 => 0.0,
            _ => power * f32::from_bits(((whole as i32).wrapping_add(127) as u32) << 23),
        })
    }
    #[inline(always)]
    unsafe fn dot(self, one: Self, each: Self) -> Self {
        unsafe { one.mul_add(each, self) }
    }
    #[inline(always)]
    unsafe fn pack(first: Self, _: Self) -> Self {
        first
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, to: *mut f32, strides: [usize; 2]) {
        for row in 0..8 {
            for column in 0..8 {
                unsafe { *to.add(column * strides[1] + row) = *from.add(row * strides[0] + column) };
            }
        }
    }
}
