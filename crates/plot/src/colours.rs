//! Colour maps.

use crate::drawing::Colour;
use crate::scale::{Scale, drawable};
use crate::{ChartAxis, ValueScale};

/// A colour map.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Colours {
    /// From dark to light: viridis, by van der Walt and Smith (2015). Equal steps look equal.
    #[default]
    Sequential,
    /// From dark blue through purple to red: the part of plasma, by Smith and van der Walt (2015), that white paper does not hide, for
    /// lines. Each colour has a contrast of at least 3 to white.
    Ordered,
    /// From dark blue through white to dark red: RdBu, by Brewer (2003). White is at 0, or at 1 on a log scale.
    Diverging,
}

impl Colours {
    /// The colour at a fraction (0 to 1) of the map, from low to high.
    pub fn at(self, fraction: f64) -> [u8; 3] {
        let anchors = self.anchors();
        let last = anchors.len() - 1;
        let place = fraction.clamp(0.0, 1.0) * last as f64;
        let index = (place as usize).min(last - 1);
        let [low, high] = [anchors[index], anchors[index + 1]].map(Lab::from_rgb);
        low.towards(high, place - index as f64).rgb()
    }

    fn anchors(self) -> &'static [Colour] {
        match self {
            Colours::Sequential => &[
                [0x44, 0x01, 0x54],
                [0x47, 0x2d, 0x7b],
                [0x3b, 0x52, 0x8b],
                [0x2c, 0x72, 0x8e],
                [0x21, 0x90, 0x8c],
                [0x27, 0xad, 0x81],
                [0x5d, 0xc8, 0x63],
                [0xaa, 0xdc, 0x32],
                [0xfd, 0xe7, 0x25],
            ],
            Colours::Ordered => &[
                [0x0d, 0x08, 0x87],
                [0x46, 0x03, 0x9f],
                [0x72, 0x01, 0xa8],
                [0x9c, 0x17, 0x9e],
                [0xbd, 0x37, 0x86],
                [0xd8, 0x57, 0x6b],
            ],
            Colours::Diverging => &[
                [0x05, 0x30, 0x61],
                [0x21, 0x66, 0xac],
                [0x43, 0x93, 0xc3],
                [0x92, 0xc5, 0xde],
                [0xd1, 0xe5, 0xf0],
                [0xf7, 0xf7, 0xf7],
                [0xfd, 0xdb, 0xc7],
                [0xf4, 0xa5, 0x82],
                [0xd6, 0x60, 0x4d],
                [0xb2, 0x18, 0x2b],
                [0x67, 0x00, 0x1f],
            ],
        }
    }
}

/// A colour map together with the scale that it is used on.
pub(crate) struct Shades {
    pub scale: Scale,
    colours: Colours,
    middle: f64, // the place on the scale of a diverging map's middle
}

impl Shades {
    /// The shades between two limits; `None` if no value can be drawn. A limit defaults to the end of the values.
    ///
    /// On a diverging map a limit that is not given mirrors the given one, or the value farthest from the middle.
    pub fn fit(
        colours: Colours,
        scale: ValueScale,
        limits: (Option<f64>, Option<f64>),
        values: impl Iterator<Item = f64>,
    ) -> Option<Shades> {
        let log = scale == ValueScale::Log;
        let axis = ChartAxis { log, ..ChartAxis::default() };
        let mirrored = |value: f64| if log { 1.0 / value.clamp(1e-300, 1e300) } else { -value };
        let ends = values.filter(|value| drawable(&axis, *value)).map(|value| (value, value));
        let (mut least, mut most) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        if scale == ValueScale::SignedLog {
            let limit = limits.0.into_iter().chain(limits.1).chain([least, most]).map(f64::abs).fold(1e-300, f64::max);
            return Some(Shades { scale: Scale::signed(limit, limit * 1e-3), colours, middle: 0.5 });
        }
        if colours == Colours::Diverging {
            (least, most) = (least.min(mirrored(most)), most.max(mirrored(least)));
        }
        let given = |limit: Option<f64>| limit.filter(|limit| drawable(&axis, *limit));
        let other = |limit: f64, end: f64| if colours == Colours::Diverging { mirrored(limit) } else { end };
        let (low, high) = match (given(limits.0), given(limits.1)) {
            (Some(low), Some(high)) => (low, high),
            (Some(low), None) => (low, other(low, most.max(low))),
            (None, Some(high)) => (other(high, least.min(high)), high),
            (None, None) => (least, most),
        };
        let scale = Scale::fit(&axis, [low, high].into_iter(), 0.0)?;
        let middle = scale.place(if log { 1.0 } else { 0.0 })?;
        Some(Shades { scale, colours, middle })
    }

    /// The fraction of the colour map (0 to 1) at a place on the scale (0 to 1).
    pub fn fraction(&self, place: f64) -> f64 {
        let place = place.clamp(0.0, 1.0);
        match self.colours {
            Colours::Sequential | Colours::Ordered => place,
            Colours::Diverging => 0.5 + 0.5 * (place - self.middle) / self.middle.abs().max((1.0 - self.middle).abs()),
        }
    }

    /// The colour at a place on the scale (0 to 1).
    pub fn at(&self, place: f64) -> Colour {
        self.colours.at(self.fraction(place))
    }
}

/// How light a colour is on a screen, from 0 to 1: the relative luminance of WCAG 2.
pub(crate) fn luminance(colour: Colour) -> f64 {
    let linear = |part: u8| match f64::from(part) / 255.0 {
        low if low <= 0.04045 => low / 12.92,
        high => ((high + 0.055) / 1.055).powf(2.4),
    };
    let [red, green, blue] = colour.map(linear);
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// The contrast of a colour to white paper, from 1 to 21 (WCAG 2); lines need 3.
pub(crate) fn contrast(colour: Colour) -> f64 {
    1.05 / (luminance(colour) + 0.05)
}

/// A colour in Oklab (Ottosson 2020): lightness, green to red, blue to yellow. Equal distances look equal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lab(pub [f64; 3]);

impl Lab {
    pub fn from_rgb(colour: Colour) -> Lab {
        let [r, g, b] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        let l = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b).cbrt();
        let m = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b).cbrt();
        let s = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b).cbrt();
        Lab([
            0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
            1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
            0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s,
        ])
    }

    /// The colour in sRGB; each channel is clamped.
    pub fn rgb(self) -> Colour {
        self.linear().map(|part| {
            let part = part.clamp(0.0, 1.0);
            let part = if part <= 0.0031308 { part * 12.92 } else { 1.055 * part.powf(1.0 / 2.4) - 0.055 };
            (part * 255.0).round() as u8
        })
    }

    /// The colour itself if it is within sRGB, otherwise a greyer one of the same lightness.
    pub fn shown(self) -> Lab {
        let shows = |lab: Lab| lab.linear().iter().all(|part| (-1e-4..=1.0001).contains(part));
        if shows(self) {
            return self;
        }
        let grey = Lab([self.0[0], 0.0, 0.0]);
        let (mut least, mut most) = (0.0, 1.0);
        for _ in 0..6 {
            let middle = (least + most) / 2.0;
            if shows(grey.towards(self, middle)) { least = middle } else { most = middle }
        }
        grey.towards(self, least)
    }

    pub fn towards(self, other: Lab, share: f64) -> Lab {
        Lab([0, 1, 2].map(|index| self.0[index] + (other.0[index] - self.0[index]) * share))
    }

    /// Linear red, green and blue.
    fn linear(self) -> [f64; 3] {
        let [lightness, a, b] = self.0;
        let l = (lightness + 0.3963377774 * a + 0.2158037573 * b).powi(3);
        let m = (lightness - 0.1055613458 * a - 0.0638541728 * b).powi(3);
        let s = (lightness - 0.0894841775 * a - 1.2914855480 * b).powi(3);
        [
            4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The lightness of a colour, 0 to 1.
    pub(crate) fn lightness(colour: Colour) -> f64 {
        Lab::from_rgb(colour).0[0]
    }

    #[test]
    fn lines_on_the_ordered_map_are_seen_on_white() {
        assert!((contrast([0; 3]) - 21.0).abs() < 1e-9 && (contrast([255; 3]) - 1.0).abs() < 1e-9);
        assert!((contrast([0x77; 3]) - 4.48).abs() < 0.01); // the grey that WCAG's own examples give
        for place in 0..=100 {
            let found = contrast(Colours::Ordered.at(f64::from(place) / 100.0));
            assert!(found >= 3.0, "{place}: {found}");
        }
    }

    #[test]
    fn every_colour_comes_back() {
        for red in (0..=255).step_by(15) {
            for green in (0..=255).step_by(15) {
                for blue in (0..=255).step_by(15) {
                    let lab = Lab::from_rgb([red, green, blue]);
                    assert_eq!(lab.rgb(), [red, green, blue]);
                    assert_eq!(lab.shown().rgb(), [red, green, blue]);
                }
            }
        }
        let beyond = Lab([0.9, 0.3, -0.3]).shown();
        assert!((lightness(beyond.rgb()) - 0.9).abs() < 0.01, "greyer, not darker");
    }

    #[test]
    fn a_higher_number_is_lighter_or_farther_from_white() {
        let shades =
            |colours: Colours| (0..=100).map(|i| lightness(colours.at(f64::from(i) / 100.0))).collect::<Vec<_>>();
        assert!(shades(Colours::Sequential).windows(2).all(|pair| pair[0] < pair[1]));
        let diverging = shades(Colours::Diverging);
        assert!(diverging[..=50].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(diverging[50..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!((0..50).all(|i| (diverging[i] - diverging[100 - i]).abs() < 0.1), "both sides weigh the same");
    }

    #[test]
    fn equal_steps_look_equally_large() {
        let labs: Vec<_> = (0..=32).map(|i| Lab::from_rgb(Colours::Sequential.at(f64::from(i) / 32.0)).0).collect();
        let step = |pair: &[[f64; 3]]| (0..3).map(|i| (pair[1][i] - pair[0][i]).powi(2)).sum::<f64>().sqrt();
        let steps: Vec<_> = labs.windows(2).map(step).collect();
        let (least, most) = steps.iter().fold((f64::MAX, 0.0), |(a, b), step| (step.min(a), step.max(b)));
        assert!(most < 2.0 * least, "{least} to {most}");
    }

    #[test]
    fn limits_are_the_given_ones_else_the_values() {
        let ends = |colours, log, limits, values: &[f64]| {
            let scale = if log { ValueScale::Log } else { ValueScale::Linear };
            let shades = Shades::fit(colours, scale, limits, values.iter().copied()).unwrap();
            let places = |value: f64| (shades.scale.place(value).unwrap() * 1000.0).round() / 1000.0;
            values.iter().map(|value| places(*value)).collect::<Vec<_>>()
        };
        let none = (None, None);
        assert_eq!(ends(Colours::Sequential, false, none, &[1.0, 2.0, 3.0]), [0.0, 0.5, 1.0]);
        assert_eq!(ends(Colours::Sequential, false, (Some(-1.0), None), &[1.0, 3.0]), [0.5, 1.0]);
        assert_eq!(ends(Colours::Sequential, true, (Some(0.0), Some(100.0)), &[1.0, 10.0]), [0.0, 0.5]);
        assert_eq!(ends(Colours::Diverging, false, none, &[-1.0, 0.0, 3.0]), [0.333, 0.5, 1.0]);
        assert_eq!(ends(Colours::Diverging, true, none, &[0.1, 1.0, 10.0]), [0.0, 0.5, 1.0]);
        assert_eq!(ends(Colours::Diverging, false, (None, Some(4.0)), &[0.0, 2.0]), [0.5, 0.75]);
        assert!(Shades::fit(Colours::Sequential, ValueScale::Log, none, [0.0, -1.0, f64::NAN].into_iter()).is_none());
    }

    #[test]
    fn the_middle_is_white_whatever_the_limits() {
        for limits in [(-1.0, 1.0), (-1.0, 8.0), (-8.0, 1.0), (0.0, 3.0)] {
            let shades = Shades::fit(
                Colours::Diverging,
                ValueScale::Linear,
                (Some(limits.0), Some(limits.1)),
                [0.0].into_iter(),
            );
            let shades = shades.unwrap();
            assert_eq!(shades.at(shades.scale.place(0.0).unwrap()), [0xf7; 3], "{limits:?}");
        }
    }
}
