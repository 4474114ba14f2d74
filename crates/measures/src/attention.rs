//! Measures of attention probabilities.

use crate::numbers::{double, list, mean};
use latentrace_nn::tch::{Kind, Tensor};

/// The attention to each token of `[rows, heads, pixels, tokens]`: the mean over rows, heads and pixels. Sums to 1.
///
/// Empty unless there are four dimensions.
pub fn mass(probs: &Tensor) -> Vec<f64> {
    if probs.dim() != 4 {
        return Vec::new();
    }
    list(&probs.detach().mean_dim(&[0i64, 1, 2][..], false, Kind::Double)) // [tokens]
}

/// The entropy `-sum_k p_k ln p_k` of a pixel's attention over the tokens, in nats, as the mean over rows, heads and
/// pixels of `[.., tokens]`: 0 if each pixel attends to one token, `ln tokens` if it attends to all equally.
///
/// Ren et al. (arXiv 2403.11052) average before they take the entropy: theirs is [`entropy`] of [`mass`], and never
/// less.
pub fn token_entropy(probs: &Tensor) -> f64 {
    mean(&double(probs).atleast_1d().special_entr().sum_dim_intlist(-1, false, Kind::Double))
}

/// The entropy `-sum p ln p` of weights, normalised to sum to 1, in nats; NaN if all are zero.
pub fn entropy(weights: &[f64]) -> f64 {
    let total: f64 = weights.iter().sum();
    let term = |p: f64| if p == 0.0 { 0.0 } else { -p * p.ln() };
    if total == 0.0 { f64::NAN } else { weights.iter().map(|weight| term(weight / total)).sum() }
}

/// The position and extent of a token's attention map: the mean over rows and heads, as a distribution over the pixels.
///
/// Coordinates go from 0 to 1 in both directions, and a pixel is the point in its middle. All numbers are NaN if no
/// pixel attends to the token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The x coordinate of the centroid, 0 (left) to 1.
    pub x: f64,
    /// The y coordinate of the centroid, 0 (top) to 1.
    pub y: f64,
    /// The root mean square distance from the centroid: 0 for one pixel, `1/sqrt(6)` for a uniform map of many pixels.
    pub spread: f64,
    /// The entropy over the pixels, in nats: 0 for one pixel, `ln pixels` for a uniform map.
    pub entropy: f64,
}

/// The [`Place`] of each token of `[rows, heads, pixels, tokens]`. The pixels are a grid of `(height, width)`, row by
/// row.
///
/// Empty if the shape is another.
pub fn places(probs: &Tensor, (height, width): (usize, usize)) -> Vec<Place> {
    let size = probs.size();
    let &[_, _, pixels, _] = size.as_slice() else { return Vec::new() };
    if pixels == 0 || pixels as usize != height * width {
        return Vec::new();
    }
    let maps = list(&probs.detach().mean_dim(&[0i64, 1][..], false, Kind::Double).tr()); // [tokens, pixels]
    maps.chunks(height * width).map(|map| Place::of(map, height, width)).collect()
}

impl Place {
    fn of(map: &[f64], height: usize, width: usize) -> Place {
        let total: f64 = map.iter().sum();
        let middle = |index: usize, side: usize| (index as f64 + 0.5) / side as f64;
        let pixels = || map.iter().enumerate().map(|(pixel, weight)| (pixel, weight / total));
        let x = pixels().map(|(pixel, share)| share * middle(pixel % width, width)).sum::<f64>();
        let y = pixels().map(|(pixel, share)| share * middle(pixel / width, height)).sum::<f64>();
        let square = |pixel| (middle(pixel % width, width) - x).powi(2) + (middle(pixel / width, height) - y).powi(2);
        let spread = pixels().map(|(pixel, share)| share * square(pixel)).sum::<f64>().sqrt();
        Place { x, y, spread, entropy: entropy(map) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::{seeded, tch::Device};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn even_attention_has_the_greatest_entropy_and_no_place() {
        let (height, width, tokens) = (4, 6, 8);
        let probs = Tensor::full([2, 3, 24, tokens], 1.0 / tokens as f64, CPU);
        assert_eq!(mass(&probs), [0.125; 8]);
        assert!((token_entropy(&probs) - 8f64.ln()).abs() < 1e-14);
        let places = places(&probs, (height, width));
        assert_eq!(places.len(), 8);
        for place in places {
            // A uniform distribution over n points of a side has the variance (1 - 1/n²) / 12.
            let spread = ((1.0 - 1.0 / 16.0 + 1.0 - 1.0 / 36.0) / 12.0f64).sqrt();
            let expected = [0.5, 0.5, spread, 24f64.ln()];
            let found = [place.x, place.y, place.spread, place.entropy];
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14), "{place:?}");
        }
    }

    #[test]
    fn attention_to_one_token_has_none() {
        // Row 1, column 2 of 2x4 attends to token 1, all others to token 0, and none to token 2.
        let mut probs = Tensor::zeros([1, 1, 8, 3], CPU);
        let _ = probs.select(3, 0).fill_(1.0);
        probs.narrow(2, 6, 1).copy_(&Tensor::from_slice(&[0f32, 1.0, 0.0]).view([1, 1, 1, 3]));
        probs = probs.repeat([2, 5, 1, 1]);
        assert_eq!(mass(&probs), [0.875, 0.125, 0.0]);
        assert_eq!(token_entropy(&probs), 0.0);
        let places = places(&probs, (2, 4));
        assert_eq!(places[1], Place { x: 0.625, y: 0.75, spread: 0.0, entropy: 0.0 });
        assert!((places[0].entropy - 7f64.ln()).abs() < 1e-14);
        assert!(places[2].x.is_nan() && places[2].spread.is_nan() && places[2].entropy.is_nan());
    }

    #[test]
    fn the_entropy_of_the_mean_is_never_less() {
        let probs = seeded(2, || Tensor::randn([2, 4, 9, 7], CPU)).softmax(-1, Kind::Float);
        assert!((mass(&probs).iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(entropy(&mass(&probs)) > token_entropy(&probs));
    }

    #[test]
    fn a_grid_that_does_not_fit_has_no_places() {
        let probs = Tensor::ones([1, 1, 6, 2], CPU);
        assert_eq!(places(&probs, (2, 2)), []);
        assert_eq!(places(&probs.squeeze(), (2, 3)), []);
        assert_eq!(mass(&probs.squeeze()), [0.0; 0]);
        assert!(entropy(&[]).is_nan() && entropy(&[0.0, 0.0]).is_nan());
    }
}
