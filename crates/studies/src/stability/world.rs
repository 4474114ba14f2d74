//! Networks to be sampled with guidance, and the Jacobians of their clean estimates.

use latentrace_pipeline::nn::seeded;
use latentrace_pipeline::nn::tch::{Device, Kind, Tensor};
use latentrace_pipeline::schedulers::{self, Config, Limit};
use std::convert::Infallible;

/// A network with and without a condition, and a start.
pub trait World {
    /// Its name in tables and figures.
    fn name(&self) -> &str;

    /// The schedule and the prediction; other samplers are classes of this config.
    fn config(&self) -> &Config;

    /// Normal draws of a run, `[1, ..]` each; the first is the start.
    fn draws(&self, count: usize) -> Vec<Tensor>;

    /// The guided output of the network for samples `[rows, ..]` at unit variance and a time.
    fn output(&self, guidance: f64, t: f64, input: &Tensor) -> Tensor;

    /// `∂D/∂x` without and with the condition, at a sample `[1, ..]` of `x = x₀ + sigma·noise`.
    fn jacobians(&self, sigma: f64, x: &Tensor) -> [Jacobian; 2];

    /// Whether every element of a sample is a system of its own.
    fn is_separable(&self) -> bool;

    /// How far apart two runs start that are compared, over the size of the start.
    fn nearness(&self) -> f64;

    /// The guided clean estimate of samples `[rows, ..]`.
    fn denoised(&self, guidance: f64, sigma: f64, x: &Tensor) -> Tensor {
        let config = self.config();
        let (p, q) = config.prediction().denoising(sigma);
        x * p + self.output(guidance, config.schedule().time(sigma), &(x / sigma.hypot(1.0))) * q
    }
}

/// A tensor of a run, or a block of differences.
pub struct Sample(pub Tensor);

impl schedulers::Tensor for Sample {
    type Error = Infallible;

    fn sum(terms: &[(f64, &Sample)]) -> Result<Sample, Infallible> {
        let scaled = terms.iter().map(|(weight, Sample(tensor))| tensor * *weight);
        Ok(Sample(scaled.reduce(|sum, term| sum + term).unwrap_or_else(|| Tensor::from(0.0))))
    }

    fn hold(&self, limit: Limit) -> Result<Sample, Infallible> {
        let numbers: Vec<f64> = Vec::try_from(self.0.to_kind(Kind::Double).flatten(0, -1)).unwrap_or_default();
        Ok(Sample(Tensor::from_slice(&limit.hold(&numbers)).to_kind(self.0.kind()).view_as(&self.0)))
    }
}

/// The most elements of which all differences are carried.
const ALL: i64 = 256;

/// How many differences are carried of more elements.
const SOME: i64 = 128;

/// How many differences are carried of a sample of so many elements.
pub fn carried(elements: i64) -> i64 {
    if elements <= ALL { elements } else { SOME }
}

/// The derivative of a clean estimate by the sample.
pub enum Jacobian {
    /// Every element by itself, `[elements]`.
    Diagonal(Tensor),
    /// `[elements, elements]`, a row for each element of the estimate.
    Whole(Tensor),
}

impl Jacobian {
    fn numbers(&self) -> &Tensor {
        match self {
            Jacobian::Diagonal(numbers) | Jacobian::Whole(numbers) => numbers,
        }
    }

    /// `a` of one and `b` of another Jacobian of the same form.
    pub fn mixed(&self, a: f64, other: &Jacobian, b: f64) -> Jacobian {
        let sum = self.numbers() * a + other.numbers() * b;
        match self {
            Jacobian::Diagonal(_) => Jacobian::Diagonal(sum),
            Jacobian::Whole(_) => Jacobian::Whole(sum),
        }
    }

    /// A block of differences multiplied by it.
    pub fn times(&self, block: &Tensor) -> Tensor {
        match self {
            Jacobian::Diagonal(numbers) => numbers * block,
            Jacobian::Whole(numbers) => numbers.matmul(block),
        }
    }

    /// The block of differences that is carried: all of length 1, the identity; of more elements than [`ALL`], [`SOME`] random ones that
    /// are orthogonal, `[elements, differences]`, times the root of how many more elements there are. So what one direction dominates
    /// has its norm, up to about the root of `2 / SOME`, and what all directions share has too large a one.
    pub fn unit(&self) -> Tensor {
        match self {
            Jacobian::Diagonal(numbers) => Tensor::ones_like(numbers),
            Jacobian::Whole(numbers) => {
                let (elements, options) = (numbers.size()[0], (numbers.kind(), numbers.device()));
                let count = carried(elements);
                if count == elements {
                    return Tensor::eye(elements, options);
                }
                let drawn = seeded(elements as u64, || Tensor::randn([elements, count], (Kind::Float, Device::Cpu)));
                let (orthogonal, _) = Tensor::linalg_qr(&drawn, "reduced");
                orthogonal.to_device(options.1).to_kind(options.0) * (elements as f64 / count as f64).sqrt()
            }
        }
    }

    /// The eigenvalues, complex. Of a whole matrix those of the largest size, as many as are needed to see the least stable.
    pub fn eigenvalues(&self) -> Tensor {
        match self {
            Jacobian::Diagonal(numbers) => Tensor::complex(numbers, &numbers.zeros_like()),
            Jacobian::Whole(numbers) => {
                let all = numbers.to_device(Device::Cpu).to_kind(Kind::Double).linalg_eigvals();
                let (_, places) = all.abs().topk(all.size()[0].min(16), 0, true, true);
                all.index_select(0, &places)
            }
        }
    }
}

/// The norm of a block, and what it enlarges so: the weights of its columns, a vector of length 1. For elements by themselves it is the
/// largest of theirs, and every weight is 1. Infinite if a number is not finite.
pub fn largest(block: &Tensor) -> (f64, Tensor) {
    if block.dim() == 1 {
        let most = block.abs().max().double_value(&[]);
        return (if most.is_finite() { most } else { f64::INFINITY }, block.ones_like());
    }
    // Power iteration on BᵀB from a vector that has a part in every direction. Singular values that are close make the vector
    // uncertain, not the norm: after 20 rounds it is low by a few per cent at most.
    let scale = block.abs().max().double_value(&[]);
    let columns = block.size()[1];
    let mut direction = (Tensor::arange(columns, (Kind::Float, block.device())) * 12.9898).sin() + 0.1;
    direction = &direction / direction.norm();
    if !scale.is_finite() || scale == 0.0 {
        return (if scale == 0.0 { 0.0 } else { f64::INFINITY }, direction);
    }
    let block = block / scale;
    let mut length = 0.0;
    for _ in 0..20 {
        let image = block.mv(&direction);
        length = image.norm().double_value(&[]);
        let back = block.tr().mv(&image);
        direction = &back / back.norm();
    }
    (length * scale, direction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_a_block_is_its_largest_singular_value() {
        let block = seeded(3, || Tensor::randn([40, 40], (Kind::Float, Device::Cpu)));
        let (norm, direction) = largest(&block);
        let (_, singular, _) = block.svd(true, true);
        let want = singular.max().double_value(&[]);
        assert!(norm <= want * (1.0 + 1e-5) && norm > want * 0.97, "{norm} {want}");
        assert!((block.mv(&direction).norm().double_value(&[]) - norm).abs() < 0.03 * want);
        assert_eq!(largest(&(&block * f64::INFINITY)).0, f64::INFINITY);
        assert_eq!(largest(&Tensor::from_slice(&[1.0, -3.0, 2.0])).0, 3.0);
    }

    #[test]
    fn some_differences_of_many_see_what_one_direction_dominates() {
        let vectors = seeded(5, || [(); 2].map(|()| Tensor::randn([1000], (Kind::Float, Device::Cpu))));
        let [to, from] = vectors.map(|vector| &vector / vector.norm());
        let jacobian = Jacobian::Whole(to.outer(&from) * 30.0 + Tensor::eye(1000, (Kind::Float, Device::Cpu)) * 0.5);
        let (norm, _) = largest(&jacobian.times(&jacobian.unit()));
        // Four times the deviation of the share of 128 of 1000 directions in one, 30·√(2/128)/2, and half of 2.8 for the rest.
        assert!((norm - 30.0).abs() < 7.5 + 1.4, "{norm}");
    }
}
