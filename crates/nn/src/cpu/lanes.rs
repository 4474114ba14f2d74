//! The parts of attention for processors with vectors: one query in each lane.
//!
//! Scores are computed as `K Q^T` `[keys, queries]`, and the result as `V^T P` `[features, queries]`. In both products
//! a vector holds one number of each of its queries, and the other factor is one number for all lanes. So no lane is
//! idle, whatever the number of features; maxima and sums over the keys are taken lane by lane; and keys and values
//! need no other order than they have.

#![allow(unsafe_code)] // Works on blocks of scratch memory by pointers. Each function says what they must point to.

/// A vector of f32.
///
/// # Safety
/// All functions: the processor has the instructions. Pointers: `LANES` words from there can be read or written.
pub(super) trait Lanes: Copy {
    /// Numbers in a vector.
    const LANES: usize;
    /// How many numbers a word of a product's factors holds: one f32, or two bf16.
    const PACKED: usize;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * times + plus`
    unsafe fn mul_add(self, times: Self, plus: Self) -> Self;
    unsafe fn max(self, other: Self) -> Self;
    /// `self`, or `other` where `self` is less than `other + NEAR`.
    unsafe fn unless_near(self, other: Self) -> Self;
    /// `2^self`, for arguments that are not positive (up to rounding). NaN gives NaN.
    unsafe fn exp2(self) -> Self;
    /// `self` plus the product of a word for all lanes and a word for each lane.
    unsafe fn dot(self, one: Self, each: Self) -> Self;
    /// The word for a product's factor: two vectors rounded to bf16 if a word holds two numbers, otherwise the first.
    unsafe fn pack(first: Self, second: Self) -> Self;
    /// Transposes a square of `LANES` words. Rows are `strides` words apart.
    unsafe fn transpose(from: *const f32, to: *mut f32, strides: [usize; 2]);
}

/// `2^x = 1 + x (C[0] + x (C[1] + ..))` for `x` in `[0, 1]`, with the smallest greatest relative error: 2.0e-9.
pub(super) const EXP2: [f32; 6] =
    [0.693_147_06, 0.240_229_31, 0.055_485_282, 0.009_675_452, 0.001_246_784_7, 0.000_216_129_12];
/// The same of lower degree, for what is rounded to bf16: 8.6e-5.
pub(super) const EXP2_BF16: [f32; 3] = [0.695_116_76, 0.227_645, 0.077_067_04];

/// `1 + x (C[0] + x (C[1] + ..))`
#[inline(always)]
pub(super) unsafe fn polynomial<L: Lanes, const N: usize>(x: L, coefficients: [f32; N]) -> L {
    // Safety: as this function.
    unsafe {
        let mut sum = L::splat(coefficients[N - 1]);
        let mut left = N - 1;
        while left > 0 {
            left -= 1;
            sum = sum.mul_add(x, L::splat(coefficients[left]));
        }
        sum.mul_add(x, L::splat(1.0))
    }
}

/// A query's exponentials are `2^(score - reference)`. Its reference is its greatest score, or one so near that no
/// exponential is greater than 2^8: most blocks of keys have a score that is a little greater than all before, and would have
/// earlier sums multiplied for nothing.
pub(super) const NEAR: f32 = 8.0;

/// Rows of a tile: with the vectors of a block of queries, as many sums as there are registers for.
pub(super) const ROWS: usize = 6;

/// A factor of a product, read word by word.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    pub(super) start: *const f32,
    /// Words between the rows of a tile.
    pub(super) row: usize,
    /// Words between the terms of a sum.
    pub(super) term: usize,
}

/// Adds to `R` rows of sums `[R, V vectors]` the products of `terms` words.
#[inline(always)]
unsafe fn tile<L: Lanes, const V: usize, const R: usize>(
    sums: &mut [[L; V]; R],
    one: Factor,
    each: *const f32,
    terms: usize,
) {
    let (mut one_at, mut each_at) = (one.start, each);
    for _ in 0..terms {
        // Safety: both factors have `terms` terms.
        unsafe {
            let mut queries = [L::splat(0.0); V];
            for vector in 0..V {
                queries[vector] = L::load(each_at.add(vector * L::LANES));
            }
            for row in 0..R {
                let word = L::splat(*one_at.add(row * one.row));
                for vector in 0..V {
                    sums[row][vector] = sums[row][vector].dot(word, queries[vector]);
                }
            }
            one_at = one_at.wrapping_add(one.term);
            each_at = each_at.add(V * L::LANES);
        }
    }
}

/// What is kept for each query of a block while the keys go by, `[queries]` each.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    /// The greatest score of the keys at hand.
    pub(super) block: *mut f32,
    /// What is subtracted from a score times the scale.
    pub(super) reference: *mut f32,
    /// The sum of the exponentials.
    pub(super) sum: *mut f32,
    /// By what earlier sums are multiplied, because the reference has grown.
    pub(super) factor: *mut f32,
}

/// The sizes of a block.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Keys at hand.
    pub(super) keys: usize,
    /// Words of a key, and of a query.
    pub(super) words: usize,
    /// Words between two keys.
    pub(super) stride: usize,
}

impl Kept {
    /// Of the queries from the first on.
    pub(super) fn from(self, first: usize) -> Kept {
        let Kept { block, reference, sum, factor } = self;
        let [block, reference, sum, factor] = [block, reference, sum, factor].map(|x| x.wrapping_add(first));
        Kept { block, reference, sum, factor }
    }
}

/// The scores `[keys, queries]` of a block of keys, and each query's greatest.
#[inline(always)]
pub(super) unsafe fn scores<L: Lanes, const V: usize>(
    keys: *const f32,
    queries: *const f32,
    block: Block,
    scores: *mut f32,
    kept: Kept,
) {
    // Safety: the caller's.
    unsafe {
        for vector in 0..V {
            L::splat(f32::NEG_INFINITY).store(kept.block.add(vector * L::LANES));
        }
        let mut at = 0;
        while at < block.keys {
            let one = Factor { start: keys.add(at * block.stride), row: block.stride, term: 1 };
            let scores = scores.add(at * V * L::LANES);
            match block.keys - at {
                1 => score_rows::<L, V, 1>(one, queries, block.words, scores, kept.block),
                2 => score_rows::<L, V, 2>(one, queries, block.words, scores, kept.block),
                3 => score_rows::<L, V, 3>(one, queries, block.words, scores, kept.block),
                4 => score_rows::<L, V, 4>(one, queries, block.words, scores, kept.block),
                5 => score_rows::<L, V, 5>(one, queries, block.words, scores, kept.block),
                _ => score_rows::<L, V, ROWS>(one, queries, block.words, scores, kept.block),
            }
            at += ROWS;
        }
    }
}

#[inline(always)]
unsafe fn score_rows<L: Lanes, const V: usize, const R: usize>(
    keys: Factor,
    queries: *const f32,
    words: usize,
    scores: *mut f32,
    greatest: *mut f32,
) {
    // Safety: the caller's.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        tile(&mut sums, keys, queries, words);
        for vector in 0..V {
            let mut most = L::load(greatest.add(vector * L::LANES));
            for row in 0..R {
                sums[row][vector].store(scores.add((row * V + vector) * L::LANES));
                most = most.max(sums[row][vector]);
            }
            most.store(greatest.add(vector * L::LANES));
        }
    }
}

/// Sets each query's reference for a block whose greatest scores are known, and multiplies its sum. Returns whether other
/// earlier sums must be multiplied.
#[inline(always)]
pub(super) unsafe fn refer<L: Lanes, const V: usize>(scale: f32, kept: Kept) -> bool {
    // Safety: the caller's.
    unsafe {
        let mut grown = false;
        for vector in 0..V {
            let at = vector * L::LANES;
            let before = L::load(kept.reference.add(at));
            let reference = L::load(kept.block.add(at)).mul(L::splat(scale)).unless_near(before);
            let factor = before.add(reference.mul(L::splat(-1.0))).exp2();
            reference.store(kept.reference.add(at));
            factor.store(kept.factor.add(at));
            L::load(kept.sum.add(at)).mul(factor).store(kept.sum.add(at));
            for lane in at..at + L::LANES {
                grown |= *kept.factor.add(lane) != 1.0;
            }
        }
        grown
    }
}

/// Scores `[keys, queries]` become probabilities times a constant of each query, `2^(scale score - reference)`, as words
/// of a product's factor. They are added to the sums.
#[inline(always)]
pub(super) unsafe fn exponentials<L: Lanes, const V: usize>(scores: *mut f32, keys: usize, scale: f32, kept: Kept) {
    // Safety: the caller's. Words are written where scores were read before.
    unsafe {
        let scale = L::splat(scale);
        let mut minus = [L::splat(0.0); V];
        let mut sums = [L::splat(0.0); V];
        for vector in 0..V {
            minus[vector] = L::load(kept.reference.add(vector * L::LANES)).mul(L::splat(-1.0));
            sums[vector] = L::load(kept.sum.add(vector * L::LANES));
        }
        let (mut from, mut to) = (scores.cast_const(), scores);
        for _ in 0..keys / L::PACKED {
            for vector in 0..V {
                let mut exponentials = [L::splat(0.0); 2];
                for packed in 0..L::PACKED {
                    let score = L::load(from.add((packed * V + vector) * L::LANES));
                    exponentials[packed] = score.mul_add(scale, minus[vector]).exp2();
                    sums[vector] = sums[vector].add(exponentials[packed]);
                }
                L::pack(exponentials[0], exponentials[1]).store(to.add(vector * L::LANES));
            }
            from = from.wrapping_add(L::PACKED * V * L::LANES);
            to = to.wrapping_add(V * L::LANES);
        }
        if !keys.is_multiple_of(L::PACKED) {
            for vector in 0..V {
                let score = L::load(from.add(vector * L::LANES));
                let exponential = score.mul_add(scale, minus[vector]).exp2();
                sums[vector] = sums[vector].add(exponential);
                L::pack(exponential, L::splat(0.0)).store(to.add(vector * L::LANES));
            }
        }
        for vector in 0..V {
            sums[vector].store(kept.sum.add(vector * L::LANES));
        }
    }
}

/// What becomes of the sums of earlier blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// There are none.
    None,
    /// They stay.
    Same,
    /// They are multiplied by each query's factor.
    Scaled,
}

/// Adds a block's values `[terms, features]`, weighted by `weights` `[terms, queries]`, to `sums` `[features, queries]`.
#[inline(always)]
pub(super) unsafe fn accumulate<L: Lanes, const V: usize>(
    values: Factor,
    features: usize,
    weights: *const f32,
    terms: usize,
    sums: *mut f32,
    earlier: (Earlier, Kept),
) {
    let mut at = 0;
    while at < features {
        // Safety: the caller's.
        unsafe {
            let values = Factor { start: values.start.add(at), ..values };
            let sums = sums.add(at * V * L::LANES);
            match features - at {
                1 => accumulate_rows::<L, V, 1>(values, weights, terms, sums, earlier),
                2 => accumulate_rows::<L, V, 2>(values, weights, terms, sums, earlier),
                3 => accumulate_rows::<L, V, 3>(values, weights, terms, sums, earlier),
                4 => accumulate_rows::<L, V, 4>(values, weights, terms, sums, earlier),
                5 => accumulate_rows::<L, V, 5>(values, weights, terms, sums, earlier),
                _ => accumulate_rows::<L, V, ROWS>(values, weights, terms, sums, earlier),
            }
        }
        at += ROWS;
    }
}

#[inline(always)]
unsafe fn accumulate_rows<L: Lanes, const V: usize, const R: usize>(
    values: Factor,
    weights: *const f32,
    terms: usize,
    sums: *mut f32,
    (earlier, kept): (Earlier, Kept),
) {
    // Safety: the caller's.
    unsafe {
        let mut held = [[L::splat(0.0); V]; R];
        if earlier != Earlier::None {
            for vector in 0..V {
                let factor = match earlier {
                    Earlier::Scaled => L::load(kept.factor.add(vector * L::LANES)),
                    _ => L::splat(1.0),
                };
                for row in 0..R {
                    held[row][vector] = L::load(sums.add((row * V + vector) * L::LANES)).mul(factor);
                }
            }
        }
        tile(&mut held, values, weights, terms);
        for row in 0..R {
            for vector in 0..V {
                held[row][vector].store(sums.add((row * V + vector) * L::LANES));
            }
        }
    }
}

/// Multiplies `[rows, queries]` by a factor of each query.
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes, const V: usize>(sums: *mut f32, rows: usize, factor: *const f32) {
    // Safety: the caller's.
    unsafe {
        for vector in 0..V {
            let factor = L::load(factor.add(vector * L::LANES));
            for row in 0..rows {
                let at = sums.add((row * V + vector) * L::LANES);
                L::load(at).mul(factor).store(at);
            }
        }
    }
}

/// Divides `[rows, queries]` by each query's sum.
#[inline(always)]
pub(super) unsafe fn divide<L: Lanes, const V: usize>(sums: *mut f32, rows: usize, kept: Kept) {
    // Safety: the caller's.
    unsafe {
        for query in 0..V * L::LANES {
            *kept.factor.add(query) = 1.0 / *kept.sum.add(query);
        }
        multiply::<L, V>(sums, rows, kept.factor);
    }
}

/// Transposes `[rows, columns]`, both multiples of the lanes. Rows are `strides` words apart.
#[inline(always)]
pub(super) unsafe fn transpose<L: Lanes>(
    from: *const f32,
    to: *mut f32,
    [rows, columns]: [usize; 2],
    strides: [usize; 2],
) {
    for row in (0..rows).step_by(L::LANES) {
        for column in (0..columns).step_by(L::LANES) {
            // Safety: the caller's.
            unsafe {
                L::transpose(from.add(row * strides[0] + column), to.add(column * strides[1] + row), strides);
            }
        }
    }
}
