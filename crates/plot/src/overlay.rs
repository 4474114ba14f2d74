//! A map of numbers as a picture, alone or laid over another.

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Rgb, RgbImage};

use crate::colours::{Lab, Shades};
use crate::grid::hatched;
use crate::{Colours, ValueScale};

/// Blends a map over a picture. `strength` (0 to 1) is the weight of the map's hue; its lightness has half that weight,
/// so that the picture stays visible.
///
/// The map is enlarged to the picture's size by bicubic interpolation. `limits` are the numbers of the first and the
/// last colour. Where the map has no number (NaN, or a row that is too short), the picture is unchanged.
pub fn overlay(image: &RgbImage, map: &[Vec<f64>], limits: (f64, f64), colours: Colours, strength: f64) -> RgbImage {
    let palette: Vec<Lab> = (0..=255).map(|index| Lab::from_rgb(colours.at(f64::from(index) / 255.0))).collect();
    let strength = strength.clamp(0.0, 1.0);
    let mut mixed = image.clone();
    for ((_, _, pixel), fraction) in
        mixed.enumerate_pixels_mut().zip(enlarged(map, image.dimensions(), limits, colours))
    {
        if let Some(fraction) = fraction.filter(|_| strength > 0.0) {
            let Lab([lightness, a, b]) = Lab::from_rgb(pixel.0);
            let Lab(over) = palette[(fraction * 255.0).round() as usize];
            let towards = |from: f64, to: f64, share: f64| from + (to - from) * share;
            let lightness = towards(lightness, over[0], strength / 2.0);
            pixel.0 = Lab([lightness, towards(a, over[1], strength), towards(b, over[2], strength)]).shown().rgb();
        }
    }
    mixed
}

/// Draws a map with this width and height, enlarged by bicubic interpolation, and hatched where it has no number.
///
/// `limits` are the numbers of the first and the last colour.
pub fn colourise(map: &[Vec<f64>], (width, height): (u32, u32), limits: (f64, f64), colours: Colours) -> RgbImage {
    let fractions = enlarged(map, (width, height), limits, colours);
    let mut image = RgbImage::new(width, height);
    for ((x, y, pixel), fraction) in image.enumerate_pixels_mut().zip(fractions) {
        *pixel = Rgb(fraction.map_or(hatched(x, y), |fraction| colours.at(fraction)));
    }
    image
}

/// For each pixel of the enlarged map, row by row, its fraction of the colour map; `None` where there is no number.
fn enlarged(
    map: &[Vec<f64>],
    (width, height): (u32, u32),
    (low, high): (f64, f64),
    colours: Colours,
) -> Vec<Option<f64>> {
    let shades = Shades::fit(colours, ValueScale::Linear, (Some(low), Some(high)), [low, high].into_iter());
    let columns = map.iter().map(Vec::len).max().unwrap_or(0);
    let (Some(shades), false) = (shades, columns == 0 || width == 0 || height == 0) else {
        return vec![None; width as usize * height as usize];
    };
    let fraction = |x: u32, y: u32| {
        let value = map[y as usize].get(x as usize).copied().filter(|value| !value.is_nan())?;
        let place = shades.scale.place(value).unwrap_or(if value > 0.0 { 1.0 } else { 0.0 });
        Some(shades.fraction(place) as f32)
    };
    // Missing numbers have no weight: the numbers and their presence (0 or 1) are enlarged separately, then divided.
    let spread = |of: fn(f32) -> f32| {
        let at = |x, y| Luma([fraction(x, y).map_or(0.0, of)]);
        let small = ImageBuffer::from_fn(columns as u32, map.len() as u32, at);
        imageops::resize(&small, width, height, FilterType::CatmullRom)
    };
    let (sums, presences) = (spread(|fraction| fraction), spread(|_| 1.0));
    let whole = |(sum, presence): (&Luma<f32>, &Luma<f32>)| {
        let (sum, presence) = (f64::from(sum.0[0]), f64::from(presence.0[0]));
        (presence > 0.5).then(|| (sum / presence).clamp(0.0, 1.0))
    };
    sums.pixels().zip(presences.pixels()).map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::colours::tests::lightness;

    const LIMITS: (f64, f64) = (0.0, 1.0);

    fn picture() -> RgbImage {
        RgbImage::from_fn(32, 24, |x, y| Rgb([(x * 8) as u8, (y * 10) as u8, if (x + y) % 2 == 0 { 230 } else { 20 }]))
    }

    fn ramp() -> Vec<Vec<f64>> {
        vec![vec![0.0, 0.5, 1.0]; 4]
    }

    #[test]
    fn without_strength_or_numbers_the_picture_is_as_it_was() {
        assert_eq!(overlay(&picture(), &ramp(), LIMITS, Colours::Sequential, 0.0), picture());
        assert_eq!(overlay(&picture(), &ramp(), LIMITS, Colours::Sequential, f64::NAN), picture());
        for map in [vec![], vec![vec![]], vec![vec![f64::NAN; 5]; 5]] {
            assert_eq!(overlay(&picture(), &map, LIMITS, Colours::Sequential, 1.0), picture());
        }
        assert_eq!(overlay(&picture(), &ramp(), (f64::NAN, 1.0), Colours::Sequential, 1.0).dimensions(), (32, 24));
        assert_eq!(overlay(&RgbImage::new(0, 0), &ramp(), LIMITS, Colours::Sequential, 1.0).dimensions(), (0, 0));
    }

    #[test]
    fn light_stays_lighter_than_dark_at_any_strength() {
        let map = vec![vec![0.3]];
        for strength in [0.2, 0.5, 1.0] {
            let mixed = overlay(&picture(), &map, LIMITS, Colours::Sequential, strength);
            let light = |image: &RgbImage, x, y| lightness(image.get_pixel(x, y).0);
            for y in 0..24 {
                for x in 1..32 {
                    let before = light(&picture(), x, y) - light(&picture(), x - 1, y);
                    let after = light(&mixed, x, y) - light(&mixed, x - 1, y);
                    let kept = before * (1.0 - strength / 2.0);
                    assert!((after - kept).abs() < 0.02, "{after} for {before} at {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn a_map_alone_has_its_colours_and_rises_smoothly() {
        let same = colourise(&ramp(), (3, 4), LIMITS, Colours::Sequential);
        assert_eq!([0, 1, 2].map(|x| same.get_pixel(x, 2).0), [0.0, 0.5, 1.0].map(|at| Colours::Sequential.at(at)));
        let large = colourise(&ramp(), (300, 40), LIMITS, Colours::Sequential);
        let light: Vec<_> = (0..300).map(|x| lightness(large.get_pixel(x, 20).0)).collect();
        assert!(light.windows(2).all(|pair| pair[0] <= pair[1] + 1e-3 && pair[1] - pair[0] < 0.02), "{light:?}");
    }

    #[test]
    fn numbers_beyond_the_limits_have_the_ends_colours_and_gaps_are_hatched() {
        let map = vec![vec![f64::NEG_INFINITY, -3.0, 5.0, f64::INFINITY, f64::NAN], vec![0.5]];
        let image = colourise(&map, (5, 2), LIMITS, Colours::Diverging);
        let [middle, high] = [0.5, 1.0].map(|at| Colours::Diverging.at(at));
        assert_eq!([0, 1, 2, 3].map(|x| image.get_pixel(x, 0).0), [middle, middle, high, high]);
        assert_eq!([image.get_pixel(4, 0).0, image.get_pixel(3, 1).0], [hatched(4, 0), hatched(3, 1)]);
    }

    #[test]
    fn a_gap_spreads_no_darkness() {
        let mut map = vec![vec![1.0; 8]; 8];
        map[3][3] = f64::NAN;
        let large = colourise(&map, (64, 64), LIMITS, Colours::Sequential);
        let full = Colours::Sequential.at(1.0);
        assert!(large.enumerate_pixels().all(|(x, y, pixel)| pixel.0 == full || pixel.0 == hatched(x, y)));
        assert_ne!(large.get_pixel(28, 28).0, full);
    }
}
