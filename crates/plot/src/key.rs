//! The scale of a map, drawn under its picture: a colour bar with the number of each end.

use image::{Rgb, RgbImage};

use crate::colours::Shades;
use crate::drawing::{Anchor, GREY, Rect, Text};
use crate::scale;
use crate::text::{self, ASCENT, LEADING, Weight};
use crate::{Colours, ValueScale};

/// The height of the bar, and of the gap above it and below it, in pixels.
const BAR: f64 = 9.0;
const GAP: f64 = 4.0;
/// The least gap between the two numbers.
const BETWEEN: f64 = 8.0;

/// The colours of a map, and the numbers of the first and the last of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Key {
    limits: (f64, f64),
    colours: Colours,
}

impl Key {
    /// `None` if a limit is not a number, since then the map has no colours.
    pub fn new(limits: (f64, f64), colours: Colours) -> Option<Key> {
        (limits.0.is_finite() && limits.1.is_finite()).then_some(Key { limits, colours })
    }

    /// The height of bar and numbers, with the gap above them, if captions have a font size of `size`.
    pub fn height(size: f64) -> f64 {
        2.0 * GAP + BAR + size * LEADING
    }

    /// Where the bar goes, if it and its numbers have the place under `top`.
    pub fn bar(left: f64, width: f64, top: f64) -> Rect {
        Rect { left, top: top + GAP, right: left + width, bottom: top + GAP + BAR }
    }

    /// Paints the bar, with the first colour at the left.
    pub fn paint(&self, onto: &mut RgbImage, bar: Rect) {
        let (low, high) = self.limits;
        let shades = Shades::fit(self.colours, ValueScale::Linear, (Some(low), Some(high)), [low, high].into_iter());
        let Some(shades) = shades else { return };
        let (left, top, width, height) = (bar.left as u32, bar.top as u32, bar.width() as u32, bar.height() as u32);
        for x in 0..width {
            for y in 0..height {
                let is_rim = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                let colour = if is_rim { GREY } else { shades.at((f64::from(x) + 0.5) / f64::from(width)) };
                onto.put_pixel(left + x, top + y, Rgb(colour));
            }
        }
    }

    /// The numbers under the bar; one in the middle if both are equal.
    pub fn numbers(&self, bar: Rect, size: f64) -> Vec<Text> {
        let (low, high) = self.limits;
        let [first, last] = self.labels(bar.width(), size);
        // Small print is better than a number that is not shown.
        let size = size.min(size * bar.width() / needed(&[first.clone(), last.clone()], size));
        let text = |words: &str, x: f64, anchor: Anchor| Text {
            anchor,
            ..Text::new(words, (x, bar.bottom + GAP + size * ASCENT), size)
        };
        match low == high {
            true => vec![text(&first, bar.centre().0, Anchor::Middle)],
            false => vec![text(&first, bar.left, Anchor::Start), text(&last, bar.right, Anchor::End)],
        }
    }

    /// The numbers, exact to a hundredth of their difference, or to a tenth if that is too wide.
    fn labels(&self, width: f64, size: f64) -> [String; 2] {
        let (low, high) = self.limits;
        let exact = scale::ends(low, high, 100.0);
        if needed(&exact, size) <= width { exact } else { scale::ends(low, high, 10.0) }
    }
}

/// The width of both numbers with a gap between them.
fn needed(labels: &[String; 2], size: f64) -> f64 {
    labels.iter().map(|label| text::width(label, size, Weight::Regular)).sum::<f64>() + BETWEEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paint::blank;

    fn bar(width: f64) -> Rect {
        Key::bar(10.0, width, 20.0)
    }

    fn numbers(limits: (f64, f64), width: f64) -> Vec<String> {
        let key = Key::new(limits, Colours::Sequential).unwrap();
        key.numbers(bar(width), 13.0).into_iter().map(|text| text.words).collect()
    }

    #[test]
    fn the_bar_has_the_colours_from_the_least_to_the_largest_value() {
        for colours in [Colours::Sequential, Colours::Diverging] {
            let (mut image, bar) = (blank(160, 60), bar(101.0));
            Key::new((-1.0, 1.0), colours).unwrap().paint(&mut image, bar);
            let at = |x: u32| image.get_pixel(x, 28).0;
            let far = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            for (x, fraction) in [(11, 0.0), (60, 0.5), (109, 1.0)] {
                assert!(far(at(x), colours.at(fraction)) < 12, "{:?} at {x}", at(x));
            }
            assert_eq!([at(9), at(111)], [[255; 3]; 2], "nothing beside the bar");
        }
    }

    #[test]
    fn a_map_between_unequal_limits_uses_the_part_of_the_colours_that_it_shows() {
        let mut image = blank(160, 60);
        Key::new((0.0, 1.0), Colours::Diverging).unwrap().paint(&mut image, bar(101.0));
        let [middle, high] = [0.5, 1.0].map(|at| Colours::Diverging.at(at));
        assert!(image.get_pixel(11, 28).0[2].abs_diff(middle[2]) < 8, "0 is white");
        assert!(image.get_pixel(109, 28).0[0].abs_diff(high[0]) < 8);
    }

    #[test]
    fn numbers_are_those_of_the_ends_and_stay_apart() {
        assert_eq!(numbers((0.0, 50.0), 128.0), ["0", "50"]);
        assert_eq!(numbers((-1.0, 0.5), 128.0), ["−1.00", "0.50"]);
        assert_eq!(numbers((0.00214, 0.03117), 128.0), ["0.0021", "0.0312"]);
        assert_eq!(numbers((2.14e-5, 3.117e-4), 400.0), ["0.21×10⁻⁴", "3.12×10⁻⁴"]);
        assert_eq!(numbers((2.14e-5, 3.117e-4), 128.0), ["0.2×10⁻⁴", "3.1×10⁻⁴"]);
        assert_eq!(numbers((0.25, 0.25), 128.0), ["0.250"]);
        assert_eq!(numbers((0.0, 0.0), 128.0), ["0"]);
        for limits in [(0.0, 50.0), (-1.5e-7, 2.5e-7), (-3e300, 3e300), (1.0, 1.0 + 1e-12), (f64::MIN_POSITIVE, 1.0)] {
            for width in [96.0, 128.0, 512.0] {
                let texts = Key::new(limits, Colours::Sequential).unwrap().numbers(bar(width), 13.0);
                let [first, last] = &texts[..] else { panic!("{} numbers", texts.len()) };
                let (first, last) = (first.bounds(), last.bounds());
                assert!(first.left >= 10.0 && first.right < last.left && last.right <= 10.0 + width, "{limits:?}");
                assert!(first.bottom <= 20.0 + Key::height(13.0), "they are within the height that is kept for them");
            }
        }
    }

    #[test]
    fn without_limits_there_is_no_key() {
        assert_eq!(Key::new((f64::INFINITY, f64::NEG_INFINITY), Colours::Sequential), None);
        assert_eq!(Key::new((f64::NAN, 1.0), Colours::Sequential), None);
    }
}
