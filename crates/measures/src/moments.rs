//! The distribution of a tensor's numbers.

use crate::numbers::{double, list, mean, rms};
use latentrace_nn::tch::{Kind, Tensor};

/// The moments of all numbers of a tensor. A well-predicted noise is nearly standard normal and white: mean 0, standard
/// deviation 1, kurtosis 0, autocorrelation 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, with the divisor `n` and not `n - 1`.
    pub std: f64,
    /// The root mean square.
    pub rms: f64,
    /// The largest magnitude.
    pub absmax: f64,
    /// The excess kurtosis `E[(x - mean)⁴] / std⁴ - 3`: 0 for a normal distribution, -1.2 for a uniform one, and above
    /// zero for heavy tails. NaN if all numbers are equal.
    pub kurtosis: f64,
    /// The autocorrelation at lag 1 along the last dimension, an image's width: the mean of `(x_j - mean)(x_(j+1) -
    /// mean)` over neighbours, in units of the variance. NaN if there are none, or if all numbers are equal.
    pub autocorrelation: f64,
}

impl Moments {
    /// Computes them for a tensor of any shape. All are NaN if it has no elements.
    pub fn of(tensor: &Tensor) -> Moments {
        let x = double(tensor).atleast_1d(); // [.., width]
        let center = mean(&x);
        let away = &x - center;
        let variance = mean(&away.square());
        let pairs = (x.size().last().copied().unwrap_or(0) - 1).max(0);
        let neighbours = away.narrow(-1, 0, pairs) * away.slice(-1, 1, i64::MAX, 1);
        Moments {
            mean: center,
            std: variance.sqrt(),
            rms: rms(&x),
            absmax: if x.numel() == 0 { f64::NAN } else { x.abs().max().double_value(&[]) },
            kurtosis: mean(&away.square().square()) / variance.powi(2) - 3.0,
            autocorrelation: mean(&neighbours) / variance,
        }
    }
}

/// The share of a clean estimate's numbers outside `-range..=range`, which clipping to that range would change.
///
/// NaN if it has no elements. An element that is NaN does not count as outside.
pub fn clipped_share(denoised: &Tensor, range: f64) -> f64 {
    mean(&double(denoised).abs().gt(range))
}

/// The mean of each channel of `[batch, channels, ..]`. In latents a drift of these means is a drift of brightness and
/// colour. Empty for fewer than two dimensions.
pub fn channel_means(tensor: &Tensor) -> Vec<f64> {
    if tensor.dim() < 2 {
        return Vec::new();
    }
    list(&double(tensor).transpose(0, 1).flatten(1, -1).mean_dim(1, false, Kind::Double)) // [channels]
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::{seeded, tch::Device};

    #[test]
    fn an_alternation_about_three() {
        let tensor = Tensor::from_slice(&[1f32, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0, 1.0]).view([1, 1, 2, 4]);
        let moments = Moments::of(&tensor);
        // A fair coin has the least kurtosis there is, -2; each neighbour in a row is the opposite.
        let expected =
            Moments { mean: 3.0, std: 2.0, rms: 13f64.sqrt(), absmax: 5.0, kurtosis: -2.0, autocorrelation: -1.0 };
        assert_eq!(moments, expected);
        // The same numbers as rows 1 1 5 5 and 5 5 1 1: of three neighbours in a row two are equal and one opposite.
        let turned = tensor.view([1, 1, 4, 2]).transpose(2, 3);
        assert!((Moments::of(&turned).autocorrelation - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn white_noise_is_standard_and_white() {
        let draw = seeded(5, || Tensor::randn([1, 4, 128, 128], (Kind::Float, Device::Cpu)));
        let moments = Moments::of(&draw);
        let deviation = 1.0 / (draw.numel() as f64).sqrt(); // of a mean; sqrt(24) of them of a kurtosis
        assert!(moments.mean.abs() < 4.0 * deviation && (moments.std - 1.0).abs() < 4.0 * deviation);
        assert!(moments.autocorrelation.abs() < 4.0 * deviation);
        assert!(moments.kurtosis.abs() < 4.0 * 24f64.sqrt() * deviation);
        assert!(Moments::of(&draw.cumsum(-1, Kind::Float)).autocorrelation > 0.9);
    }

    #[test]
    fn odd_shapes() {
        let one = Moments::of(&Tensor::from(2.0f32));
        assert_eq!((one.mean, one.std, one.absmax), (2.0, 0.0, 2.0));
        assert!(one.kurtosis.is_nan() && one.autocorrelation.is_nan());
        let none = Moments::of(&Tensor::zeros([2, 0], (Kind::Float, Device::Cpu)));
        assert!(none.mean.is_nan() && none.absmax.is_nan() && none.autocorrelation.is_nan());
    }

    #[test]
    fn shares_and_channels() {
        let tensor = Tensor::from_slice(&[-2f32, -1.0, 0.0, 1.5, 8.0, 8.0, 8.0, 12.0]).view([1, 2, 2, 2]);
        assert_eq!(clipped_share(&tensor, 1.0), 0.75);
        assert_eq!(clipped_share(&tensor, 8.0), 0.125);
        assert_eq!(channel_means(&tensor), [-0.375, 9.0]);
        assert_eq!(channel_means(&tensor.flatten(0, -1)), [0.0; 0]);
    }
}
