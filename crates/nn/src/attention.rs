//! Multi-head attention by the fused kernel. Scores and probabilities are computed besides, for a probe that wants
//! them.

use crate::scores::Scores;
use crate::shapes::is_shape_only;
use crate::{Attends, Block, Kernels, Linear, ModuleValue, Pass, Result, Tap, Weights};
use tch::{Kind, Tensor};

/// Multi-head attention: `softmax(Q K^T / sqrt(d)) V` (Vaswani et al. 2017, equation 1).
pub struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: i64,
    causal: bool,
    upcast: bool,
    taps: Taps,
    kernels: Kernels,
}

struct Taps {
    q: Tap,
    k: Tap,
    v: Tap,
    scores: Tap,
    probs: Tap,
    out: Tap,
}

/// The shape of an attention layer, and what its checkpoint calls the four projections.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Features of the queries and of the output.
    pub width: i64,
    /// Features of the context, from which keys and values are computed.
    pub context: i64,
    /// What the context is.
    pub attends: Attends,
    /// Number of heads.
    pub heads: i64,
    /// Whether query, key and value projections have a bias.
    pub bias: bool,
    /// Whether a position attends only to itself and to earlier positions.
    pub causal: bool,
    /// Whether scores are computed in f32 where the network runs in a smaller format.
    pub upcast: bool,
    /// The names of the projections: query, key, value, output.
    pub names: [&'static str; 4],
}

impl AttentionShape {
    /// The names that diffusers gives the four projections.
    pub const DIFFUSERS: [&'static str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];
    /// The names that CLIP gives them.
    pub const CLIP: [&'static str; 4] = ["q_proj", "k_proj", "v_proj", "out_proj"];
}

impl Attention {
    /// Reads the four projections.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(weights: &Weights, shape: AttentionShape) -> Result<Attention> {
        let AttentionShape { width, context, attends, heads, bias, causal, upcast, names: [q, k, v, out] } = shape;
        Ok(Attention {
            to_q: Linear::load(&weights.at(q), width, width, bias)?,
            to_k: Linear::load(&weights.at(k), context, width, bias)?,
            to_v: Linear::load(&weights.at(v), context, width, bias)?,
            to_out: Linear::load(&weights.at(out), width, width, true)?,
            heads,
            causal,
            upcast,
            taps: Taps {
                q: weights.tap_of("q", ModuleValue::Query),
                k: weights.tap_of("k", ModuleValue::Key),
                v: weights.tap_of("v", ModuleValue::Value),
                scores: weights.tap_of("scores", ModuleValue::Scores(attends)),
                probs: weights.tap_of("probs", ModuleValue::Probs(attends)),
                out: weights.residual_tap("out"),
            },
            kernels: weights.kernels(),
        })
    }

    /// Attention from `x` `[batch, pixels, width]` to `context` `[batch, tokens, context]`.
    /// Returns `[batch, pixels, width]`.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, context: &Tensor) -> Tensor {
        let q = pass.tap(&self.taps.q, self.split(self.to_q.forward(x))); // [batch, heads, pixels, features]
        let k = pass.tap(&self.taps.k, self.split(self.to_k.forward(context))); // [batch, heads, tokens, features]
        let v = pass.tap(&self.taps.v, self.split(self.to_v.forward(context)));
        let upcast = self.upcast && q.kind() != Kind::Double;
        let (q, k) = if upcast { (q.to_kind(Kind::Float), k.to_kind(Kind::Float)) } else { (q, k) };
        let mixed = self.mix(pass, &q, &k, &v);
        let joined = mixed.to_kind(x.kind()).transpose(1, 2).flatten(2, 3); // [batch, pixels, width]
        let out = self.to_out.forward(&joined);
        pass.tap_residual(&self.taps.out, out, || x.zeros_like())
    }

    /// The values weighted by the probabilities, `[batch, heads, pixels, features]`.
    ///
    /// The result is the fused kernel's, so that recording scores or probabilities changes no bit. Only in the rows
    /// where a probe changes scores or probabilities is it the product of probabilities and values, in f32 at least.
    fn mix(&self, pass: &mut Pass, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        if is_shape_only(q) {
            // The fused kernel does not accept tensors without numbers.
            let scores = Scores::new(q, k, self.causal);
            return self.probabilities(pass, &scores).0.to_kind(v.kind()).matmul(v).to_kind(q.kind());
        }
        let changed = self.show(pass, q, k);
        let v = v.to_kind(q.kind());
        let fused = self.kernels.attention([q, k, &v], self.causal);
        match changed {
            None => fused,
            Some((probs, rows)) => {
                let multiplied = probs.matmul(&v.to_kind(probs.kind())).to_kind(q.kind());
                multiplied.where_self(&rows, &fused)
            }
        }
    }

    /// Shows scores and probabilities to the probe, if it wants them. If it returns other tensors: the probabilities, and
    /// which rows of the batch have changed, `[batch, 1, 1, 1]`.
    fn show(&self, pass: &mut Pass, q: &Tensor, k: &Tensor) -> Option<(Tensor, Tensor)> {
        let taps = [&self.taps.scores, &self.taps.probs];
        let wanted = taps.map(|tap| pass.wants(tap));
        if wanted == [false; 2] {
            return None;
        }
        let scores = Scores::new(q, k, self.causal);
        let takes_blocks = taps.iter().zip(wanted).all(|(tap, wanted)| !wanted || pass.takes_blocks(tap));
        if takes_blocks && scores.in_blocks() {
            self.show_blocks(pass, &scores, wanted);
            return None;
        }
        let (probs, changed) = self.probabilities(pass, &scores);
        let rows = changed.into_iter().flatten().reduce(|a, b| a.logical_or(&b))?;
        Some((probs, rows.view([-1, 1, 1, 1])))
    }

    /// Shows scores and probabilities in blocks, as far as they are wanted, so that none of them are in memory as a whole.
    fn show_blocks(&self, pass: &mut Pass, scores: &Scores, [wants_scores, wants_probs]: [bool; 2]) {
        for place in scores.places() {
            let block = |tensor| Block { tensor, whole: scores.whole, place };
            let of_scores = block(scores.block(place));
            if wants_scores {
                pass.block(&self.taps.scores, &of_scores);
            }
            if wants_probs {
                pass.block(&self.taps.probs, &block(scores.probabilities(&of_scores.tensor)));
            }
        }
    }

    /// The probabilities `[batch, heads, pixels, tokens]`, in f32 at least, as the probe returns them; and which rows
    /// of the scores and of the probabilities the probe has changed, where it returns another tensor.
    fn probabilities(&self, pass: &mut Pass, of: &Scores) -> (Tensor, [Option<Tensor>; 2]) {
        let scores = of.all();
        let seen = pass.tap(&self.taps.scores, scores.shallow_clone());
        let of_scores = changed_rows(&scores, &seen);
        drop(scores);
        let probs = of.probabilities(&seen);
        drop(seen);
        let seen = pass.tap(&self.taps.probs, probs.shallow_clone());
        let of_probs = changed_rows(&probs, &seen);
        (seen, [of_scores, of_probs])
    }

    fn split(&self, x: Tensor) -> Tensor {
        let size = x.size();
        x.view([size[0], size[1], self.heads, size[2] / self.heads]).transpose(1, 2)
    }
}

/// Which rows of a batch differ in any number, `[batch]`; `None` if a probe returned the tensor that it was given.
fn changed_rows(given: &Tensor, returned: &Tensor) -> Option<Tensor> {
    if given.data_ptr() == returned.data_ptr() {
        return None;
    }
    Some(given.eq_tensor(returned).flatten(1, -1).all_dim(1, false).logical_not())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Moment, Probe, seeded};
    use tch::Device;

    struct Watch(Vec<Tensor>);
    impl Probe for Watch {
        fn wants(&self, tap: &Tap, _: &Moment) -> bool {
            tap.name().ends_with("probs")
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            self.0.push(tensor.shallow_clone());
            tensor
        }
    }

    /// Attention of width 12 in 3 heads, from 5 pixels to `tokens` tokens, or a causal one.
    fn attention(kind: Kind, causal: bool) -> (Attention, Tensor, Tensor) {
        let weights = Weights::random("test", 3, kind, Device::Cpu);
        let names = AttentionShape::DIFFUSERS;
        let attends = Attends::Itself;
        let shape =
            AttentionShape { width: 12, context: 6, attends, heads: 3, bias: true, causal, upcast: false, names };
        let draw = |size: [i64; 3]| seeded(1, || Tensor::randn(size, (Kind::Float, Device::Cpu))).to_kind(kind);
        let tokens = if causal { 5 } else { 7 };
        (Attention::load(&weights, shape).unwrap(), draw([2, 5, 12]), draw([2, tokens, 6]))
    }

    #[test]
    fn looking_changes_no_bit_in_any_format_and_probabilities_sum_to_one() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double] {
            for causal in [false, true] {
                let (attention, x, context) = attention(kind, causal);
                let silent = attention.forward(&mut Pass::silent(), &x, &context);
                let mut watch = Watch(Vec::new());
                let watched = attention.forward(&mut Pass::watched(&mut watch), &x, &context);
                assert!(silent.equal(&watched), "{kind:?}");
                let sums = watch.0[0].sum_dim_intlist(-1, false, Kind::Double);
                assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-6); // at most 7 numbers in f32
                let first_sees_second = watch.0[0].double_value(&[0, 0, 0, 1]);
                assert_eq!(causal, first_sees_second == 0.0);
            }
        }
    }

    /// Changes a tap's second row of the batch by a function.
    struct Change<F>(&'static str, F);
    impl<F: Fn(Tensor) -> Tensor> Probe for Change<F> {
        fn wants(&self, tap: &Tap, _: &Moment) -> bool {
            tap.name().ends_with(self.0)
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            Tensor::cat(&[tensor.narrow(0, 0, 1), (self.1)(tensor.narrow(0, 1, 1))], 0)
        }
    }

    #[test]
    fn a_changed_row_is_multiplied_out_and_the_others_stay_the_fused_kernels() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let (attention, x, context) = attention(kind, false);
            let silent = attention.forward(&mut Pass::silent(), &x, &context);
            let with = |tap, change: &dyn Fn(Tensor) -> Tensor| {
                attention.forward(&mut Pass::watched(&mut Change(tap, change)), &x, &context)
            };
            for tap in ["scores", "probs"] {
                let same = with(tap, &|tensor| tensor * 1.0);
                assert!(same.equal(&silent), "{kind:?}, {tap}: an edit that changes no number changes no bit");
            }
            let zero = with("probs", &|tensor| tensor * 0.0);
            assert!(zero.get(0).equal(&silent.get(0)), "{kind:?}: the row that was not changed");
            let bias = attention.forward(&mut Pass::watched(&mut Change("v", |v: Tensor| v * 0.0)), &x, &context);
            assert!(zero.get(1).equal(&bias.get(1)), "{kind:?}: nothing attended to leaves the last layer's bias");
            // The product for a changed row equals the fused kernel's result up to rounding: that of a sum of 7
            // products of order one in f32, or that of the result to 8 bits.
            let nearly = with("probs", &|tensor| tensor * (1.0 + 1e-7));
            let size = silent.abs().max().double_value(&[]);
            let apart = (&nearly - &silent).abs().max().double_value(&[]) / size;
            assert!(apart < if kind == Kind::Float { 1e-6 } else { 1e-2 }, "{kind:?}: {apart:.1e}");
        }
    }

    /// Takes scores and probabilities, in blocks or whole, and puts blocks together.
    #[derive(Default)]
    struct Put {
        in_blocks: bool,
        all: [Option<Tensor>; 2],
        blocks: usize,
    }
    fn place(tap: &Tap) -> usize {
        usize::from(tap.name().ends_with("probs"))
    }
    impl Probe for Put {
        fn wants(&self, tap: &Tap, _: &Moment) -> bool {
            tap.name().ends_with("scores") || tap.name().ends_with("probs")
        }
        fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            self.all[place(tap)] = Some(tensor.copy());
            tensor
        }
        fn takes_blocks(&self, _: &Tap, _: &Moment) -> bool {
            self.in_blocks
        }
        fn visit_block(&mut self, tap: &Tap, _: Moment, block: &Block) {
            let crate::Place { row, head, first, queries } = block.place;
            let all = &mut self.all[place(tap)];
            assert_eq!(all.is_none(), block.is_first());
            let all =
                all.get_or_insert_with(|| Tensor::full(block.whole, f64::NAN, (block.tensor.kind(), Device::Cpu)));
            all.narrow(0, row, 1).narrow(1, head, 1).narrow(2, first, queries).copy_(&block.tensor);
            self.blocks += 1;
        }
    }

    /// Attention of 600 pixels to themselves, in 2 heads: more than a block.
    fn large(kind: Kind, causal: bool) -> (Attention, Tensor) {
        let weights = Weights::random("test", 3, kind, Device::Cpu);
        let names = AttentionShape::DIFFUSERS;
        let attends = Attends::Itself;
        let shape =
            AttentionShape { width: 16, context: 16, attends, heads: 2, bias: true, causal, upcast: false, names };
        let x = seeded(1, || Tensor::randn([2, 600, 16], (Kind::Float, Device::Cpu))) * 4.0;
        (Attention::load(&weights, shape).unwrap(), x.to_kind(kind))
    }

    #[test]
    fn blocks_have_the_bits_of_the_whole_and_are_as_in_f64() {
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half, Kind::Double] {
            for causal in [false, true] {
                let (attention, x) = large(kind, causal);
                let silent = attention.forward(&mut Pass::silent(), &x, &x);
                let seen = [true, false].map(|in_blocks| {
                    let mut put = Put { in_blocks, ..Put::default() };
                    let watched = attention.forward(&mut Pass::watched(&mut put), &x, &x);
                    assert!(silent.equal(&watched), "{kind:?}: watching changes no bit");
                    assert_eq!(put.blocks > 2, in_blocks);
                    put.all.map(Option::unwrap)
                });
                assert!(seen[0][0].equal(&seen[1][0]) && seen[0][1].equal(&seen[1][1]), "{kind:?}, causal {causal}");
                let [scores, probs] = &seen[0];
                let [q, k] = [&attention.to_q, &attention.to_k].map(|x_to| attention.split(x_to.forward(&x)));
                let exact = q.to_kind(Kind::Double).matmul(&k.to_kind(Kind::Double).transpose(2, 3)) / 8f64.sqrt();
                let later = Tensor::ones([600, 600], (Kind::Bool, Device::Cpu)).triu(1);
                let exact = if causal { exact.masked_fill(&later, f64::NEG_INFINITY) } else { exact };
                assert!(scores.isneginf().equal(&exact.isneginf()), "what comes later, and nothing else");
                let most = exact.nan_to_num(0.0, 0.0, 0.0).abs().max().double_value(&[]);
                // A sum of 8 products and its root: 10 roundings of 2^-24 of the greatest score, of which a probability has
                // the same relative error, and some of its own.
                let allowed = 10.0 * 2f64.powi(-24) * (most + 1.0);
                let apart =
                    (scores.to_kind(Kind::Double).nan_to_num(0.0, 0.0, 0.0) - exact.nan_to_num(0.0, 0.0, 0.0)).abs();
                assert!(apart.max().double_value(&[]) < allowed, "{kind:?}: {apart:?}");
                let apart = (probs.to_kind(Kind::Double) - exact.softmax(-1, Kind::Double)).abs();
                assert!(apart.max().double_value(&[]) < allowed, "{kind:?}: {apart:?}");
            }
        }
    }

    #[test]
    fn blocks_are_shown_only_if_nobody_needs_the_whole() {
        let (attention, x) = large(Kind::Float, false);
        let put = |in_blocks| Put { in_blocks, ..Put::default() };
        for (first, second) in [(true, true), (true, false), (false, true)] {
            let (mut first, mut second) = (put(first), put(second));
            let in_blocks = first.in_blocks && second.in_blocks;
            let _ = attention.forward(&mut Pass::watched(&mut crate::Both(&mut first, &mut second)), &x, &x);
            assert_eq!((first.blocks > 0, second.blocks > 0), (in_blocks, in_blocks));
            let [all, other] = [first.all, second.all].map(|all| all.map(Option::unwrap));
            assert!(all[0].equal(&other[0]) && all[1].equal(&other[1]));
        }
        // A probe that wants neither does not count, nor does a tap that nobody wants.
        let mut both = crate::Both(put(true), Watch(Vec::new()));
        let _ = attention.forward(&mut Pass::watched(&mut both), &x, &x);
        assert_eq!((both.0.blocks, both.1.0.len()), (0, 1), "the second watches the probabilities, whole");
        let mut both = crate::Both(put(true), Change("v", |v| v));
        let _ = attention.forward(&mut Pass::watched(&mut both), &x, &x);
        assert!(both.0.blocks > 0);
        // A small tensor is one that nothing is gained with.
        let (small, x, context) = self::attention(Kind::Float, false);
        let mut one = put(true);
        let _ = small.forward(&mut Pass::watched(&mut one), &x, &context);
        assert_eq!(one.blocks, 0);
        assert!(one.all.iter().all(Option::is_some));
    }
}
