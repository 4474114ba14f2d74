//! Every engine that this processor has, against attention in f64.

use super::lanes::NEAR;
use super::*;
use crate::seeded;
use tch::{Kind, Tensor};

const FORMATS: [Kind; 2] = [Kind::Float, Kind::BFloat16];

/// Calls `test` for each engine and each format that it takes. Says which this processor lacks.
#[allow(clippy::print_stderr)] // a test that does not run says so
fn each_engine(test: impl Fn(Engine, Kind)) {
    for kind in FORMATS {
        for engine in Engine::ALL {
            match Format::of(kind).and_then(|format| engine.kernel(format)) {
                Some(_) => test(engine, kind),
                None => {
                    eprintln!("not tested: {engine:?} with tensors of {kind:?}: not for them, or not on this processor")
                }
            }
        }
    }
}

/// Numbers drawn from a seed, `[batch, heads, rows, features]`, in memory `[batch, rows, heads, features]`.
fn draw(seed: u64, [batch, heads, rows, features]: [i64; 4], kind: Kind) -> Tensor {
    seeded(seed, || Tensor::randn([batch, rows, heads, features], (Kind::Float, Device::Cpu)))
        .to_kind(kind)
        .transpose(1, 2)
}

/// q, k and v for `[batch, heads, pixels, tokens, features]`.
fn inputs(seed: u64, [batch, heads, pixels, tokens, features]: [i64; 5], kind: Kind) -> [Tensor; 3] {
    [(0, pixels), (1, tokens), (2, tokens)].map(|(i, rows)| draw(3 * seed + i, [batch, heads, rows, features], kind))
}

/// Attention in f64, and each row's sum of `probability * |value|`, to which errors are proportional.
fn exact([q, k, v]: &[Tensor; 3]) -> (Tensor, Tensor) {
    let [q, k, v] = [q, k, v].map(|x| x.to_kind(Kind::Double));
    let probs = (q.matmul(&k.transpose(2, 3)) / (q.size()[3] as f64).sqrt()).softmax(-1, Kind::Double);
    (probs.matmul(&v), probs.matmul(&v.abs()))
}

/// The error of a result that is allowed, in units of each number's sum of `probability * |value|`.
///
/// Of the format `e = 2^-24` or `2^-8` is half the distance of numbers next to one. In f32, a score has the error of a sum
/// of `features` products, and so has its exponential: at most `features e s` where `s` is the greatest sum of
/// `|query * key| / sqrt(features)`, which errors that are as often positive as negative stay far below; the sums over the
/// keys add as much. In bf16, probabilities and the result are rounded, each by `e`; all else is f32.
fn allowed([q, k, _]: &[Tensor; 3], kind: Kind) -> f64 {
    let size =
        |x: &Tensor| x.to_kind(Kind::Double).square().sum_dim_intlist(-1, false, Kind::Double).max().double_value(&[]);
    let greatest = (size(q) * size(k)).sqrt() / (q.size()[3] as f64).sqrt(); // Cauchy and Schwarz
    let of_sums = 2f64.powi(-24) * (8.0 + 4.0 * greatest);
    match kind {
        Kind::Float => of_sums,
        _ => of_sums + 2.5 * 2f64.powi(-8),
    }
}

/// The greatest error of a result, in units of what is allowed.
fn error(result: &Tensor, of: &[Tensor; 3]) -> f64 {
    let (exact, weight) = exact(of);
    let error = (result.to_kind(Kind::Double) - exact).abs() / (weight + 1e-30);
    error.max().double_value(&[]) / allowed(of, result.kind())
}

#[test]
fn results_are_those_of_f64_up_to_rounding() {
    let sizes = [
        [2, 2, 256, 256, 40],
        [1, 2, 128, 128, 80],
        [2, 1, 64, 64, 160],
        [2, 3, 100, 77, 40],
        [1, 1, 64, 77, 160],
        [1, 2, 96, 200, 64],
        [1, 1, 33, 130, 512],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1000, 3],
        [3, 1, 70, 1, 17],
    ];
    each_engine(|engine, kind| {
        for (seed, size) in sizes.into_iter().enumerate() {
            let inputs = inputs(seed as u64, size, kind);
            let [q, k, v] = &inputs;
            let result = engine.attention(q, k, v, 2).unwrap();
            assert_eq!((result.size(), result.kind()), (q.size(), kind));
            assert_eq!(result.stride(), Tensor::empty_like(q).stride(), "in memory as q");
            let error = error(&result, &inputs);
            assert!(error < 1.0, "{engine:?} {kind:?} {size:?}: {error:.2} of what is allowed");
        }
    });
}

#[test]
fn any_size_will_do() {
    let mut state = 1u64;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (state >> 33) as i64 % n as i64
    };
    let sizes: Vec<[i64; 5]> = (0..60).map(|_| [below(2), below(3), below(150), below(230), below(256)]).collect();
    each_engine(|engine, kind| {
        for (seed, size) in sizes.iter().enumerate() {
            let inputs = inputs(seed as u64, *size, kind);
            let result = engine.attention(&inputs[0], &inputs[1], &inputs[2], 2).unwrap();
            let error = error(&result, &inputs);
            assert!(error < 1.0, "{engine:?} {kind:?} {size:?}: {error:.2} of what is allowed");
        }
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    each_engine(|engine, kind| {
        for size in [[2, 3, 200, 150, 40], [1, 1, 70, 77, 33]] {
            let [q, k, v] = inputs(5, size, kind);
            let one = engine.attention(&q, &k, &v, 1).unwrap();
            for threads in [1, 2, 3, 8] {
                assert!(one.equal(&engine.attention(&q, &k, &v, threads).unwrap()), "{engine:?} {kind:?} {threads}");
            }
        }
    });
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    each_engine(|engine, kind| {
        let [q, k, v] = inputs(6, [2, 2, 130, 90, 24], kind);
        let all = engine.attention(&q, &k, &v, 1).unwrap();
        for (first, count) in [(0, 1), (3, 70), (129, 1)] {
            let some = engine.attention(&q.narrow(2, first, count), &k, &v, 1).unwrap();
            assert!(some.equal(&all.narrow(2, first, count)), "{engine:?} {kind:?} {first}");
        }
    });
}

#[test]
fn probabilities_sum_to_one() {
    each_engine(|engine, kind| {
        let [q, k, v] = inputs(7, [1, 2, 100, 300, 40], kind);
        let result = engine.attention(&(q * 3.0), &k, &v.ones_like(), 1).unwrap();
        let apart = (result.to_kind(Kind::Double) - 1.0).abs().max().double_value(&[]);
        // In f32, sums of 300 numbers in another order; in bf16, numbers rounded and their sum rounded.
        let least = if kind == Kind::Float { 300.0 * 2f64.powi(-24) } else { 2f64.powi(-7) };
        assert!(apart <= least, "{engine:?} {kind:?}: {apart:.1e}");
    });
}

#[test]
fn great_and_equal_scores() {
    each_engine(|engine, kind| {
        // Scores of up to +-1e4: one key takes all.
        let [q, k, v] = inputs(8, [1, 1, 70, 150, 16], kind);
        let scores = q.matmul(&k.transpose(2, 3)) / 4.0;
        let greatest = 1e4 / scores.abs().max().double_value(&[]);
        let inputs_ = [(&q * greatest).to_kind(kind), k.shallow_clone(), v.shallow_clone()];
        let result = engine.attention(&inputs_[0], &k, &v, 1).unwrap();
        let error = error(&result, &inputs_);
        assert!(error < 1.0, "{engine:?} {kind:?}: {error:.2} of what is allowed");
        // Equal scores, small and great: the mean of the values.
        let mean = v.to_kind(Kind::Double).mean_dim([2i64].as_slice(), true, Kind::Double).expand_as(&q);
        for score in [0.0, 1e4, -1e4] {
            let (q, k) = (q.full_like(score / 4.0), k.full_like(1.0));
            let result = engine.attention(&q, &k, &v, 1).unwrap();
            let apart = (result.to_kind(Kind::Double) - &mean).abs().max().double_value(&[]);
            let least = if kind == Kind::Float { 1e-6 } else { 2f64.powi(-9) };
            assert!(apart < least, "{engine:?} {kind:?} {score}: {apart:.1e}");
        }
    });
}

#[test]
fn scores_that_grow_from_block_to_block() {
    each_engine(|engine, kind| {
        let [q, k, v] = inputs(9, [1, 1, 40, 700, 8], kind);
        // Each key's score is greater than the last one's: by less than the reference moves by, and by more.
        for step in [f64::from(NEAR) / 4000.0, 0.05, 1.0] {
            let slope = Tensor::arange(700, (Kind::Double, Device::Cpu)).view([1, 1, 700, 1]) * step;
            let k = (k.to_kind(Kind::Double) * 0.01 + slope).to_kind(kind);
            let inputs = [q.abs() * 0.01 + 0.35, k, v.shallow_clone()].map(|x| x.to_kind(kind));
            let result = engine.attention(&inputs[0], &inputs[1], &v, 1).unwrap();
            let error = error(&result, &inputs);
            assert!(error < 1.0, "{engine:?} {kind:?} {step}: {error:.2} of what is allowed");
        }
    });
}

#[test]
fn what_is_not_a_number_stays_in_its_rows_and_columns() {
    each_engine(|engine, kind| {
        let [q, k, v] = inputs(10, [1, 1, 70, 100, 20], kind);
        let same = |result: &Tensor, by: &[&Tensor; 3]| {
            let [q, k, v] = by;
            let fused = Tensor::scaled_dot_product_attention::<Tensor>(q, k, v, None, 0.0, false, None, false);
            assert!(result.isnan().equal(&fused.isnan()), "{engine:?} {kind:?}");
            assert!(result.isnan().any().int64_value(&[]) == 1);
        };
        for (row, feature) in [(0, 0), (69, 19), (33, 7)] {
            let spoilt = |x: &Tensor| {
                let x = x.copy();
                let _ = x.narrow(2, row, 1).narrow(3, feature, 1).fill_(f64::NAN);
                x
            };
            let (bad_q, bad_k, bad_v) = (spoilt(&q), spoilt(&k), spoilt(&v));
            same(&engine.attention(&bad_q, &k, &v, 1).unwrap(), &[&bad_q, &k, &v]);
            same(&engine.attention(&q, &bad_k, &v, 1).unwrap(), &[&q, &bad_k, &v]);
            same(&engine.attention(&q, &k, &bad_v, 1).unwrap(), &[&q, &k, &bad_v]);
        }
    });
}

#[test]
fn tensors_are_read_where_they_are() {
    each_engine(|engine, kind| {
        let size = [2, 3, 50, 60, 19];
        let [q, k, v] = inputs(11, size, kind);
        let expected = engine.attention(&q, &k, &v, 1).unwrap();
        // One tensor with q, k and v beside each other, from an address that is no multiple of a word's on.
        let place = |x: &Tensor, order: &[i64; 4], back: &[i64; 4]| {
            let x = x.permute(order);
            let flat = Tensor::cat(&[Tensor::zeros([1], (kind, Device::Cpu)), x.flatten(0, -1)], 0);
            flat.narrow(0, 1, x.numel() as i64).view(x.size().as_slice()).permute(back)
        };
        for (order, back) in [([0, 1, 2, 3], [0, 1, 2, 3]), ([2, 0, 1, 3], [1, 2, 0, 3]), ([1, 2, 0, 3], [2, 0, 1, 3])]
        {
            let [q, k, v] = [&q, &k, &v].map(|x| place(x, &order, &back));
            assert!(expected.equal(&engine.attention(&q, &k, &v, 1).unwrap()), "{engine:?} {kind:?} {order:?}");
        }
        let wide = |x: &Tensor| Tensor::cat(&[x, x], 3).narrow(3, 19, 19);
        assert!(expected.equal(&engine.attention(&wide(&q), &wide(&k), &wide(&v), 1).unwrap()));
        // The same keys and values for all heads, without a copy.
        let [one_k, one_v] = [&k, &v].map(|x| x.narrow(1, 0, 1));
        let shared = engine.attention(&q, &one_k.expand_as(&k), &one_v.expand_as(&v), 1).unwrap();
        assert!(shared.narrow(1, 0, 1).equal(&expected.narrow(1, 0, 1)));
    });
}

#[test]
fn what_an_engine_cannot_is_left_to_libtorch() {
    let [q, k, v] = inputs(12, [1, 2, 64, 64, 8], Kind::Float);
    let with = |q: &Tensor, k: &Tensor, v: &Tensor| Engine::Portable.attention(q, k, v, 1).is_some();
    assert!(with(&q, &k, &v));
    assert!(!with(&q.to_kind(Kind::Double), &k.to_kind(Kind::Double), &v.to_kind(Kind::Double)));
    assert!(!with(&q, &k.to_kind(Kind::BFloat16), &v), "two formats");
    assert!(!with(&q, &k, &v.narrow(2, 0, 63)), "a value is missing");
    assert!(!with(&q.narrow(2, 0, 0), &k, &v), "no queries");
    assert!(!with(&q.get(0), &k, &v));
    assert!(!with(&q.copy().transpose(2, 3).contiguous().transpose(2, 3), &k, &v), "features apart");
    assert!(!with(&q.detach().set_requires_grad(true), &k, &v));
    assert!(!with(&crate::shape_only(&[1, 2, 64, 8], Kind::Float), &k, &v));
}
