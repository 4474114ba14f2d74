//! The radially averaged power spectrum.

use crate::numbers::{double, list};
use latentrace_nn::tch::{Kind, Tensor};

/// The radially averaged power spectrum of images `[.., height, width]`: for each ring `k`, the mean over its
/// frequencies and all channels of `|FFT₂|² / (height width)`. White noise is flat at its variance.
///
/// Ring `k` contains the frequencies whose length, in cycles per longer side, rounds to `k`. So a ring is one
/// wavelength, `longer / k` pixels, in every direction and for every aspect ratio; the rings above `longer / 2` are the
/// corners. No window is applied. Empty for fewer than two dimensions or no elements.
pub fn spectrum(tensor: &Tensor) -> Vec<f64> {
    let size = tensor.size();
    let &[.., height, width] = size.as_slice() else { return Vec::new() };
    if tensor.numel() == 0 {
        return Vec::new();
    }
    let waves = double(tensor).fft_fft2(None::<i64>, [-2, -1], "ortho"); // its power is already divided by height·width
    let power = waves.abs().square().reshape([-1, height * width]).mean_dim(0, false, Kind::Double);
    let sizes = ring_sizes(height as usize, width as usize);
    let mut sums = vec![0.0; sizes.len()];
    for (ring, power) in rings(height as usize, width as usize).zip(list(&power)) {
        sums[ring] += power;
    }
    sums.iter().zip(sizes).map(|(sum, size)| sum / size as f64).collect()
}

/// The number of frequencies in each ring of [`spectrum`]; no ring is empty. Weighted with these numbers, the spectrum
/// sums to the image's mean square times `height width` (Parseval).
pub fn ring_sizes(height: usize, width: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    for ring in rings(height, width) {
        sizes.resize(sizes.len().max(ring + 1), 0);
        sizes[ring] += 1;
    }
    sizes
}

/// The ring of each frequency, in the order of the Fourier transform.
fn rings(height: usize, width: usize) -> impl Iterator<Item = usize> {
    let longer = height.max(width) as f64;
    let cycles = move |index: usize, side: usize| index.min(side - index) as f64 * longer / side as f64;
    let of_row = move |y| (0..width).map(move |x| cycles(y, height).hypot(cycles(x, width)).round() as usize);
    (0..height).flat_map(of_row)
}

/// The mean of a spectrum in each of `n` bands of (nearly) equally many rings, from low to high, and no more bands than
/// rings. Ring 0 is left out, because it is the image's mean (see [`channel_means`](crate::channel_means)).
pub fn bands(spectrum: &[f64], n: usize) -> Vec<f64> {
    let rings = spectrum.get(1..).unwrap_or(&[]);
    let n = n.min(rings.len());
    let band = |b: usize| &rings[b * rings.len() / n..(b + 1) * rings.len() / n];
    (0..n).map(band).map(|band| band.iter().sum::<f64>() / band.len() as f64).collect()
}

/// `k*`, the first ring in which the power of a clean image is below a noise floor: higher frequencies are hidden by
/// noise of that level. `None` if no ring is below.
///
/// For samples `x₀ + sigma noise` the floor is `sigma²`. In this view diffusion is an autoregression from low to high
/// frequencies (S. Dieleman, sander.ai, 2024-09-02).
pub fn crossing(spectrum: &[f64], floor: f64) -> Option<usize> {
    spectrum.iter().position(|power| *power < floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::{seeded, tch::Device};
    use proptest::prelude::*;
    use std::f64::consts::TAU;

    /// A wave with this many cycles in each direction.
    fn wave(height: i64, width: i64, down: f64, across: f64) -> Tensor {
        let ramp =
            |side: i64, cycles: f64| Tensor::arange(side, (Kind::Double, Device::Cpu)) * (TAU * cycles / side as f64);
        (ramp(height, down).view([-1, 1]) + ramp(width, across)).cos()
    }

    fn noise(size: &[i64]) -> Tensor {
        seeded(11, || Tensor::randn(size, (Kind::Float, Device::Cpu)))
    }

    #[test]
    fn a_wave_is_in_its_ring_alone() {
        // 3 down and 4 across in a square are 5 cycles. In 16x32, 4 down the shorter side are 8 cycles per longer side.
        let cases = [(32, 32, 0.0, 7.0, 7), (32, 32, 3.0, 4.0, 5), (16, 32, 4.0, 0.0, 8), (16, 32, 4.0, 6.0, 10)];
        for (height, width, down, across, ring) in cases {
            let wave = wave(height, width, down, across) * 2.0 + 3.0;
            let power = spectrum(&wave);
            let sizes = ring_sizes(height as usize, width as usize);
            let area = (height * width) as f64;
            for (k, (power, size)) in power.into_iter().zip(sizes).enumerate() {
                let expected = match k {
                    0 => 9.0 * area,                            // the mean, 3
                    k if k == ring => 2.0 * area / size as f64, // an amplitude of 2 has a mean square of 2
                    _ => 0.0,
                };
                assert!((power - expected).abs() < 1e-9, "ring {k}: {power}, expected {expected}");
            }
        }
    }

    #[test]
    fn white_noise_is_flat_at_its_variance() {
        let power = spectrum(&(noise(&[1, 64, 32, 48]) * 3.0));
        let sizes = ring_sizes(32, 48);
        assert_eq!(power.len(), 35); // the corner: 24 sqrt(2), rounded
        for (power, size) in power.iter().zip(sizes) {
            // The power at a frequency has an exponential distribution, and half of the frequencies mirror the others.
            let deviation = 9.0 * (2.0 / (64.0 * size as f64)).sqrt();
            assert!((power - 9.0).abs() < 5.0 * deviation, "{power}");
        }
        assert!(bands(&power, 4).iter().all(|band| (band - 9.0).abs() < 0.5));
    }

    #[test]
    fn bands_and_crossings() {
        assert_eq!(bands(&[100.0, 1.0, 3.0, 5.0, 7.0, 9.0], 2), [2.0, 7.0]);
        assert_eq!(bands(&[100.0, 1.0, 3.0], 5), [1.0, 3.0]);
        assert_eq!(bands(&[100.0], 3), [0.0; 0]);
        assert_eq!(bands(&[], 3), [0.0; 0]);
        assert_eq!(bands(&[1.0, 2.0], 0), [0.0; 0]);
        assert_eq!(crossing(&[9.0, 4.0, 1.0, 2.0, 0.5], 4.0), Some(2));
        assert_eq!(crossing(&[9.0, 4.0], 0.1), None);
        assert_eq!(spectrum(&Tensor::from(1f32)), [0.0; 0]);
    }

    proptest! {
        #[test]
        fn power_is_kept(channels in 1i64..4, height in 1i64..40, width in 1i64..40) {
            let image = noise(&[1, channels, height, width]);
            let sizes = ring_sizes(height as usize, width as usize);
            prop_assert!(sizes.iter().all(|size| *size > 0));
            let power = spectrum(&image);
            prop_assert_eq!(power.len(), sizes.len());
            let total: f64 = power.iter().zip(sizes).map(|(power, size)| power * size as f64).sum();
            let square = image.to_kind(Kind::Double).square().mean(Kind::Double).double_value(&[]);
            prop_assert!((total / (height * width) as f64 - square).abs() < 1e-12 * square);
        }
    }
}
