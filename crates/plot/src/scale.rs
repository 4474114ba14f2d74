//! The scale of an axis: the position of a value between the ends, and the ticks.

use crate::ChartAxis;

/// The map from the values of an axis to 0..1. The low end is at 0, or at 1 if the axis is reversed.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    log: bool,
    reversed: bool,
    low: f64,           // low and high are log10 of the value on a log axis
    high: f64,          // low < high
    whole: bool,        // whether only whole numbers have ticks
    names: Vec<String>, // of the values 0, 1, 2, ..
    bend: f64,          // if above 0, the scale is linear below it and logarithmic above it, in both directions
}

/// A tick; `label` is empty for minor ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub at: f64, // 0..1
    pub label: String,
}

impl Scale {
    /// The scale of all values that can be drawn, with the share `room` added at both ends; `None` if there are none.
    pub fn fit(axis: &ChartAxis, values: impl Iterator<Item = f64>, room: f64) -> Option<Scale> {
        if !axis.names.is_empty() {
            return Some(Scale::named(axis));
        }
        let places = values.filter_map(|value| drawn(axis.log, value));
        let (low, high) =
            places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| (low.min(place), high.max(place)));
        if low > high {
            return None;
        }
        let least = if axis.log { 1e-9 } else { (1e-12 * high.abs().max(low.abs())).max(1e-290) };
        let pad = if high - low > least {
            (high - low) * room
        } else if axis.log {
            0.3
        } else {
            (high.abs() * 0.05).max(if high.abs() < 1e-280 { 1.0 } else { 0.0 })
        };
        Some(Scale {
            log: axis.log,
            reversed: axis.reversed,
            low: low - pad,
            high: high + pad,
            whole: axis.whole,
            names: Vec::new(),
            bend: 0.0,
        })
    }

    /// The scale of names: equal shares, with each name in the middle of its share.
    fn named(axis: &ChartAxis) -> Scale {
        let (names, high) = (axis.names.clone(), axis.names.len() as f64 - 0.5);
        Scale { log: false, reversed: axis.reversed, low: -0.5, high, whole: false, names, bend: 0.0 }
    }

    /// The scale from `-limit` to `limit` that is linear up to about `bend` and logarithmic beyond it: `sign(v) log10(1 + |v| / bend)`.
    pub fn signed(limit: f64, bend: f64) -> Scale {
        let high = bent(limit, bend);
        Scale { log: false, reversed: false, low: -high, high, whole: false, names: Vec::new(), bend }
    }

    /// The share of each name; `None` if the axis has no names.
    pub fn share(&self) -> Option<f64> {
        (!self.names.is_empty()).then(|| 1.0 / self.names.len() as f64)
    }

    /// The position of a value; `None` if it cannot be drawn: not finite, or not positive on a log axis.
    pub fn place(&self, value: f64) -> Option<f64> {
        let place =
            if self.bend > 0.0 { value.is_finite().then(|| bent(value, self.bend)) } else { drawn(self.log, value) };
        place.map(|place| self.fraction(place))
    }

    /// Ticks, of which at most `most` (but at least two) have labels.
    pub fn ticks(&self, most: usize) -> Vec<Tick> {
        let most = most.max(2);
        match self.log {
            _ if !self.names.is_empty() => self.named_ticks(most),
            _ if self.bend > 0.0 => self.signed_ticks(most),
            true => self.log_ticks(most),
            false => self.linear_ticks(most),
        }
    }

    /// Both scales, one of them widened at both ends, so that a unit is equally long on both when they are drawn
    /// `width` and `height` long; `None` if only one of them is logarithmic.
    pub fn equal(x: &Scale, y: &Scale, (width, height): (f64, f64)) -> Option<(Scale, Scale)> {
        let unit = ((x.high - x.low) / width).max((y.high - y.low) / height);
        (x.log == y.log).then(|| (x.spanning(unit * width), y.spanning(unit * height)))
    }

    fn spanning(&self, span: f64) -> Scale {
        let pad = ((span - (self.high - self.low)) / 2.0).max(0.0);
        Scale { low: self.low - pad, high: self.high + pad, ..self.clone() }
    }

    fn fraction(&self, place: f64) -> f64 {
        let fraction = (place - self.low) / (self.high - self.low);
        if self.reversed { 1.0 - fraction } else { fraction }
    }

    fn tick(&self, place: f64, label: String) -> Tick {
        Tick { at: self.fraction(place), label }
    }

    /// A tick for each name; if there are too many labels, every n-th has one.
    fn named_ticks(&self, most: usize) -> Vec<Tick> {
        let stride = self.names.len().div_ceil(most);
        let label = |(place, name): (usize, &String)| {
            self.tick(place as f64, if place % stride == 0 { name.clone() } else { String::new() })
        };
        self.names.iter().enumerate().map(label).collect()
    }

    /// 0, and powers of ten above the bend in both directions.
    fn signed_ticks(&self, most: usize) -> Vec<Tick> {
        let limit = self.bend * (10f64.powf(self.high) - 1.0);
        let (first, last) = (self.bend.log10().ceil() as i32, (limit.log10() + 1e-9).floor() as i32);
        let stride = ((last - first + 1).max(1) as usize).div_ceil((most / 2).max(1)) as i32;
        let decades = (first..=last).rev().filter(|decade| (last - decade) % stride == 0);
        let plain = is_plain(first) && is_plain(last);
        let both = decades.flat_map(|decade| {
            let (value, label) = (10f64.powi(decade), power_label(1, decade, plain));
            [(value, label.clone()), (-value, format!("−{label}"))]
        });
        let all = both.chain([(0.0, "0".to_string())]);
        all.map(|(value, label)| self.tick(bent(value, self.bend), label)).collect()
    }

    fn linear_ticks(&self, most: usize) -> Vec<Tick> {
        let (mut values, mut step) = round_values(self.low, self.high, most);
        if self.whole && step < 1.0 {
            values.retain(|value| value.fract() == 0.0);
            step = 1.0;
        }
        let labels = labels(&values, step);
        values.iter().zip(labels).map(|(&value, label)| self.tick(value, label)).collect()
    }

    fn log_ticks(&self, most: usize) -> Vec<Tick> {
        let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
        if last > first {
            return self.decades(first, last, most);
        }
        let within = |digit: i32, decade: i32| {
            let place = f64::from(digit).log10() + f64::from(decade);
            (self.low..=self.high).contains(&place).then_some((place, digit, decade))
        };
        let all: Vec<_> = (first - 1..=last + 1).flat_map(|k| (1..10).filter_map(move |d| within(d, k))).collect();
        let few: Vec<_> = all.iter().copied().filter(|(_, digit, _)| [1, 2, 5].contains(digit)).collect();
        let chosen = if few.len() >= 3 { &few } else { &all };
        if chosen.len() < 3 || chosen.len() > most {
            return self.round_values_on_log(most);
        }
        let plain = chosen.iter().all(|&(.., decade)| is_plain(decade));
        let labelled = |&(place, digit, decade): &(f64, i32, i32)| {
            let shown = chosen.iter().any(|other| other.0 == place);
            self.tick(place, if shown { power_label(digit, decade, plain) } else { String::new() })
        };
        all.iter().map(labelled).collect()
    }

    /// Powers of ten; every `stride`-th has a label.
    fn decades(&self, first: i32, last: i32, most: usize) -> Vec<Tick> {
        let count = (last - first + 1) as usize;
        let stride = count.div_ceil(most) as i32;
        let plain = is_plain(first) && is_plain(last);
        let mut ticks = Vec::new();
        for decade in first - 1..=last {
            if decade >= first {
                let shown = decade.rem_euclid(stride) == 0 || (stride > 1 && count < 4);
                let label = if shown { power_label(1, decade, plain) } else { String::new() };
                ticks.push(self.tick(f64::from(decade), label));
            }
            let between = (2..10).map(|digit| f64::from(digit).log10() + f64::from(decade));
            let between = between.filter(|place| count <= 6 && (self.low..=self.high).contains(place));
            ticks.extend(between.map(|place| self.tick(place, String::new())));
        }
        ticks
    }

    /// Ticks at round numbers, for a log axis that is too short for powers of ten.
    fn round_values_on_log(&self, most: usize) -> Vec<Tick> {
        let (values, step) = round_values(10f64.powf(self.low), 10f64.powf(self.high), most);
        let labels = labels(&values, step);
        let both = values.iter().zip(labels).filter(|(value, _)| **value > 0.0);
        both.map(|(value, label)| self.tick(value.log10(), label)).collect()
    }
}

fn bent(value: f64, bend: f64) -> f64 {
    (value.abs() / bend).ln_1p() / std::f64::consts::LN_10 * value.signum()
}

/// Whether an axis can show a value.
pub(crate) fn drawable(axis: &ChartAxis, value: f64) -> bool {
    drawn(axis.log, value).is_some()
}

/// A value in the units of the scale. It is clamped to 1e300, and to 1e-300 on a log axis, so that sums and powers stay
/// finite.
fn drawn(log: bool, value: f64) -> Option<f64> {
    match log {
        _ if !value.is_finite() => None,
        true => (value > 0.0).then(|| value.clamp(1e-300, 1e300).log10()),
        false => Some(value.clamp(-1e300, 1e300)),
    }
}

/// The multiples of 1, 2 or 5 times a power of ten between two numbers, at most `most`, and their step.
fn round_values(low: f64, high: f64, most: usize) -> (Vec<f64>, f64) {
    let least = (high - low) / most as f64;
    let decade = least.log10().floor() as i32;
    for (digit, decade) in [(1, decade), (2, decade), (5, decade), (1, decade + 1), (2, decade + 1)] {
        let step = f64::from(digit) * 10f64.powi(decade);
        let (first, last) = ((low / step).ceil(), (high / step).floor());
        if step >= least && last - first < most as f64 {
            let count = (last - first).max(-1.0) as usize + usize::from(last >= first);
            // Division by a whole power of ten gives 0.3 and not 0.30000000000000004.
            let value = |index: f64| match decade {
                ..0 => index * f64::from(digit) / 10f64.powi(-decade),
                0.. => index * step,
            };
            return ((0..count).map(|index| value(first + index as f64)).collect(), step);
        }
    }
    (vec![low, high], high - low)
}

/// Labels with enough digits to tell the values apart; with a power of ten for very large and very small values.
fn labels(values: &[f64], step: f64) -> Vec<String> {
    let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let fine = (step.log10() + 1e-9).floor() as i32;
    if largest > 0.0 && !(1e-3..1e6).contains(&largest) {
        let decade = (largest.log10() + 1e-12).floor() as i32;
        let digits = (decade - fine).clamp(0, 12) as usize;
        let label = |&value: &f64| match value == 0.0 {
            true => "0".to_owned(),
            false => format!("{}×10{}", signed(value / 10f64.powi(decade), digits), superscript(decade)),
        };
        return values.iter().map(label).collect();
    }
    values.iter().map(|&value| signed(value, (-fine).clamp(0, 15) as usize)).collect()
}

/// The labels of two limits, exact to a part of their difference, one of `parts`; if they are equal, of their size.
/// Whole numbers stay whole.
pub(crate) fn ends(low: f64, high: f64, parts: f64) -> [String; 2] {
    let (low, high) = (low.clamp(-1e300, 1e300), high.clamp(-1e300, 1e300));
    let span = if high == low { high.abs() } else { (high - low).abs() };
    let least = if low.fract() == 0.0 && high.fract() == 0.0 { 1.0 } else { 1e-300 };
    let step = (span / parts).max(least);
    let mut both = labels(&[low, high], step).into_iter();
    [both.next().unwrap_or_default(), both.next().unwrap_or_default()]
}

fn signed(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    if value < 0.0 { format!("−{text}") } else { text }
}

/// Whether a number of this decade is shorter in plain digits.
fn is_plain(decade: i32) -> bool {
    (-3..=4).contains(&decade)
}

fn power_label(digit: i32, decade: i32, plain: bool) -> String {
    match (plain, digit) {
        (true, _) => signed(f64::from(digit) * 10f64.powi(decade), (-decade).max(0) as usize),
        (false, 1) => format!("10{}", superscript(decade)),
        (false, _) => format!("{digit}×10{}", superscript(decade)),
    }
}

fn superscript(number: i32) -> String {
    let raised = |letter| match letter {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => char::from_u32('⁰' as u32 + digit as u32 - '0' as u32).unwrap_or(digit),
    };
    number.to_string().chars().map(raised).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels_of(axis: ChartAxis, values: &[f64], most: usize) -> Vec<String> {
        let scale = Scale::fit(&axis, values.iter().copied(), 0.02).unwrap();
        scale.ticks(most).into_iter().map(|tick| tick.label).filter(|label| !label.is_empty()).collect()
    }

    #[test]
    fn a_signed_scale_is_the_same_in_both_directions() {
        let scale = Scale::signed(100.0, 0.1);
        let at = |value: f64| scale.place(value).unwrap();
        assert_eq!([at(-100.0), at(0.0), at(100.0)], [0.0, 0.5, 1.0]);
        assert!([0.01, 0.3, 7.0, 99.0].iter().all(|value| (at(*value) + at(-value) - 1.0).abs() < 1e-12));
        assert!((at(100.0) - at(10.0)) / (at(10.0) - at(1.0)) < 1.1, "decades are equally long far from 0");
        assert_eq!(scale.place(f64::NAN), None);
        let labels: Vec<String> = scale.ticks(10).into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["100", "−100", "10", "−10", "1", "−1", "0.1", "−0.1", "0"]);
    }

    #[test]
    fn labels_are_what_a_reader_expects() {
        let linear = |values: &[f64]| labels_of(ChartAxis::linear(""), values, 6);
        assert_eq!(linear(&[0.0, 50.0]), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(linear(&[-1.0, 1.0]), ["−1.0", "−0.5", "0.0", "0.5", "1.0"]);
        assert_eq!(linear(&[0.1, 0.35]), ["0.10", "0.15", "0.20", "0.25", "0.30", "0.35"]);
        assert_eq!(linear(&[0.0, 4e-5]), ["0", "1×10⁻⁵", "2×10⁻⁵", "3×10⁻⁵", "4×10⁻⁵"]);
        assert_eq!(linear(&[0.0, 2.5e7]), ["0", "0.5×10⁷", "1.0×10⁷", "1.5×10⁷", "2.0×10⁷", "2.5×10⁷"]);
        let whole = |values: &[f64]| labels_of(ChartAxis::whole(""), values, 8);
        assert_eq!(whole(&[0.0, 3.0]), ["0", "1", "2", "3"], "there is no half of a call");
        assert_eq!(whole(&[0.0, 1.0]), ["0", "1"]);
        assert_eq!(whole(&[0.0, 50.0]), ["0", "10", "20", "30", "40", "50"]);
        let log = |values: &[f64]| labels_of(ChartAxis::log(""), values, 6);
        assert_eq!(log(&[0.03, 14.6]), ["0.1", "1", "10"]);
        assert_eq!(log(&[1e-8, 1e-2]), ["10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²"]);
        assert_eq!(log(&[1.0, 8.0]), ["1", "2", "5"]);
        assert_eq!(log(&[4.0, 6.0]), ["4", "5", "6"]);
        assert_eq!(log(&[4.0, 5.5]), ["4.0", "4.5", "5.0", "5.5"]);
    }

    #[test]
    fn every_drawable_value_lies_inside_and_ticks_do_too() {
        let numbers =
            [0.0, 5e-324, 1e-300, 1e-5, 0.1, 0.3, 1.0, 1.0 + 1e-15, 7.0, 1e5, 1e6 + 0.5, 1e16, 1e300, f64::MAX];
        for log in [false, true] {
            for reversed in [false, true] {
                for (first, second) in numbers.iter().flat_map(|a| numbers.iter().map(move |b| (*a, *b))) {
                    for (first, second) in [(first, second), (-first, second)] {
                        check(&ChartAxis { log, reversed, ..ChartAxis::default() }, &[first, second]);
                    }
                }
            }
        }
    }

    fn check(axis: &ChartAxis, values: &[f64]) {
        let Some(scale) = Scale::fit(axis, values.iter().copied(), 0.05) else {
            assert!(axis.log && values.iter().all(|value| *value <= 0.0));
            return;
        };
        for value in values {
            match scale.place(*value) {
                Some(place) => assert!((0.0..=1.0).contains(&place), "{value} of {values:?} at {place}"),
                None => assert!(axis.log && *value <= 0.0),
            }
        }
        for most in [2, 3, 6, 12] {
            let ticks = scale.ticks(most);
            assert!(ticks.iter().all(|tick| (-1e-9..=1.0 + 1e-9).contains(&tick.at)), "{values:?} {ticks:?}");
            let labels: Vec<_> = ticks.iter().map(|tick| &tick.label).filter(|label| !label.is_empty()).collect();
            assert!(labels.len() <= most.max(3), "{values:?} {most} {labels:?}");
            assert!(most < 6 || !labels.is_empty(), "{values:?} {axis:?} has no label");
            assert!(labels.windows(2).all(|pair| pair[0] != pair[1]), "{values:?} {labels:?}");
        }
    }

    #[test]
    fn names_stand_in_the_middle_of_equal_shares() {
        let scale = Scale::fit(&ChartAxis::names("", ["a", "b", "c", "d"]), [9.0].into_iter(), 0.05).unwrap();
        assert_eq!([0.0, 1.0, 3.0].map(|value| scale.place(value)), [Some(0.125), Some(0.375), Some(0.875)]);
        let labels = |most| scale.ticks(most).into_iter().map(|tick| tick.label).collect::<Vec<_>>();
        assert_eq!(labels(4), ["a", "b", "c", "d"]);
        assert_eq!(labels(3), ["a", "", "c", ""]);
    }

    #[test]
    fn reversed_is_reversed() {
        let axis = |reversed| ChartAxis { reversed, ..ChartAxis::default() };
        let place = |reversed, value| Scale::fit(&axis(reversed), [0.0, 10.0].into_iter(), 0.0).unwrap().place(value);
        assert_eq!(place(false, 2.5), Some(0.25));
        assert_eq!(place(true, 2.5), Some(0.75));
    }
}
