//! Multi-head attention, fused unless somebody asks for its probabilities.

use crate::shapes::is_shape_only;
use crate::{Linear, Pass, Result, Tap, Weights};
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
    /// Features of what is attended to.
    pub context: i64,
    /// Number of heads.
    pub heads: i64,
    /// Whether query, key and value projections have a bias.
    pub bias: bool,
    /// Whether a position sees only itself and those before it.
    pub causal: bool,
    /// Whether scores are computed in f32 where the network runs in less.
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
        let AttentionShape { width, context, heads, bias, causal, upcast, names: [q, k, v, out] } = shape;
        Ok(Attention {
            to_q: Linear::load(&weights.at(q), width, width, bias)?,
            to_k: Linear::load(&weights.at(k), context, width, bias)?,
            to_v: Linear::load(&weights.at(v), context, width, bias)?,
            to_out: Linear::load(&weights.at(out), width, width, true)?,
            heads,
            causal,
            upcast,
            taps: Taps {
                q: weights.tap("q"),
                k: weights.tap("k"),
                v: weights.tap("v"),
                scores: weights.tap("scores"),
                probs: weights.tap("probs"),
                out: weights.residual_tap("out"),
            },
        })
    }

    /// Lets `x` `[batch, pixels, width]` attend to `context` `[batch, tokens, context]`; gives `[batch, pixels, width]`.
    pub fn forward(&self, pass: &mut Pass, x: &Tensor, context: &Tensor) -> Tensor {
        let q = pass.tap(&self.taps.q, self.split(self.to_q.forward(x))); // [batch, heads, pixels, features]
        let k = pass.tap(&self.taps.k, self.split(self.to_k.forward(context))); // [batch, heads, tokens, features]
        let v = pass.tap(&self.taps.v, self.split(self.to_v.forward(context)));
        let upcast = self.upcast && q.kind() != Kind::Double;
        let (q, k) = if upcast { (q.to_kind(Kind::Float), k.to_kind(Kind::Float)) } else { (q, k) };
        // The fused kernel has no form without numbers.
        let by_steps = pass.wants(&self.taps.probs) || pass.wants(&self.taps.scores) || is_shape_only(&q);
        let mixed = if by_steps {
            self.step_by_step(pass, &q, &k, &v)
        } else {
            let v = v.to_kind(q.kind());
            Tensor::scaled_dot_product_attention::<Tensor>(&q, &k, &v, None, 0.0, self.causal, None, false)
        };
        let joined = mixed.to_kind(x.kind()).transpose(1, 2).flatten(2, 3); // [batch, pixels, width]
        let out = self.to_out.forward(&joined);
        pass.tap_residual(&self.taps.out, out, || x.zeros_like())
    }

    /// The same as the fused kernel, by way of scores and probabilities that a probe can see and change.
    fn step_by_step(&self, pass: &mut Pass, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let features = q.size()[3] as f64;
        let mut scores = q.matmul(&k.transpose(2, 3)) / features.sqrt(); // [batch, heads, pixels, tokens]
        if self.causal {
            let later = scores.get(0).get(0).ones_like().triu(1).to_kind(Kind::Bool); // [pixels, tokens]
            scores = scores.masked_fill(&later, f64::NEG_INFINITY);
        }
        let scores = pass.tap(&self.taps.scores, scores);
        let probs = pass.tap(&self.taps.probs, scores.softmax(-1, Kind::Float));
        probs.to_kind(v.kind()).matmul(v)
    }

    fn split(&self, x: Tensor) -> Tensor {
        let size = x.size();
        x.view([size[0], size[1], self.heads, size[2] / self.heads]).transpose(1, 2)
    }
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

    #[test]
    fn the_fused_path_and_the_watched_path_agree_and_probabilities_sum_to_one() {
        for (causal, tokens) in [(false, 7), (true, 5)] {
            let weights = Weights::random("test", 3, Kind::Float, Device::Cpu);
            let names = AttentionShape::DIFFUSERS;
            let shape = AttentionShape { width: 12, context: 6, heads: 3, bias: true, causal, upcast: false, names };
            let attention = Attention::load(&weights, shape).unwrap();
            let draw = |size: [i64; 3]| seeded(1, || Tensor::randn(size, (Kind::Float, Device::Cpu)));
            let (x, context) = (draw([2, 5, 12]), draw([2, tokens, 6]));
            let fused = attention.forward(&mut Pass::silent(), &x, &context);
            let mut watch = Watch(Vec::new());
            let watched = attention.forward(&mut Pass::watched(&mut watch), &x, &context);
            // Both sum at most 12 products of order one in f32: a few units in the last place.
            assert!((fused - watched).abs().max().double_value(&[]) < 1e-6);
            let sums = watch.0[0].sum_dim_intlist(-1, false, Kind::Float);
            assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-6);
            let first_sees_second = watch.0[0].double_value(&[0, 0, 0, 1]);
            assert_eq!(causal, first_sees_second == 0.0);
        }
    }
}
