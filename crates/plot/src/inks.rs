//! The colours of a figure's series.

use crate::colours::{Colours, Shades, contrast};
use crate::drawing::Colour;
use crate::{Chart, Series, ValueScale};

/// What the colour of a series says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Ink {
    /// Its name: a series has the same colour in all charts of a figure. Seven names differ in colour, 42 in colour and marker.
    #[default]
    Name,
    /// A number, on the scale of [`Chart::colours`], which has a bar in place of names in the legend.
    Number(f64),
    /// Itself: red, green, blue.
    Colour([u8; 3]),
}

/// The look of a series: a colour, and a shape for readers who cannot tell the colours apart.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub colour: Colour,
    pub shape: Shape,
    /// Whether it needs an outline to be seen on white.
    pub outlined: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    Wedge,
}

/// The colours of a figure. They say the same in all its charts.
pub(crate) struct Inks<'a> {
    /// The names of series that are coloured by name, with the index of their look.
    names: Vec<(&'a str, usize)>,
    /// The names of those that have a colour by themselves, likewise.
    coloured: Vec<(&'a str, usize)>,
    /// The label and the scale of the bar, if a series is coloured by a number.
    pub bar: Option<(&'a str, Shades)>,
}

impl<'a> Inks<'a> {
    /// The colours of a figure with these charts.
    pub fn of(charts: &'a [Chart]) -> Inks<'a> {
        let all = || charts.iter().flat_map(|chart| &chart.series);
        let names = assigned(charts, |ink| ink == Ink::Name);
        let coloured = assigned(charts, |ink| matches!(ink, Ink::Colour(_)));
        let numbers = all().filter_map(|series| match series.ink {
            Ink::Number(number) => Some(number),
            _ => None,
        });
        let axis = charts.iter().find_map(|chart| chart.colours.as_ref());
        let shades = axis.and_then(|axis| {
            let scale = if axis.log { ValueScale::Log } else { ValueScale::Linear };
            Shades::fit(Colours::Ordered, scale, (None, None), numbers)
        });
        Inks { names, coloured, bar: axis.map(|axis| axis.label.as_str()).zip(shades) }
    }

    /// The look of a series.
    pub fn look(&self, series: &Series) -> Look {
        let place = |names: &[(&str, usize)]| {
            names.iter().find(|(name, _)| *name == series.name).map_or(0, |(_, index)| *index)
        };
        match series.ink {
            Ink::Name => look(place(&self.names)),
            // A light colour that says what it is has an outline.
            Ink::Colour(colour) => Look { colour, outlined: contrast(colour) < 3.0, ..look(place(&self.coloured)) },
            Ink::Number(number) => {
                let place = |(_, shades): &(&str, Shades)| Some(shades.at(shades.scale.place(number)?));
                let colour = self.bar.as_ref().and_then(place).unwrap_or(UNKNOWN);
                Look { colour, shape: Shape::Circle, outlined: false }
            }
        }
    }

    /// Whether a series is explained by the bar, and so is not in the legend.
    pub fn is_on_bar(&self, series: &Series) -> bool {
        self.bar.is_some() && matches!(series.ink, Ink::Number(_))
    }
}

/// The names of the series with some ink, in the order in which they appear, each with the index of its look: the first that no other
/// name has, or beyond seven names the first that no name beside it in a chart has.
fn assigned(charts: &[Chart], is_meant: impl Fn(Ink) -> bool) -> Vec<(&str, usize)> {
    let mut found: Vec<(&str, usize)> = Vec::new();
    for series in charts.iter().flat_map(|chart| &chart.series).filter(|one| is_meant(one.ink)) {
        let name = series.name.as_str();
        if found.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let is_beside = |other: &str| {
            let has = |chart: &Chart, name: &str| chart.series.iter().any(|one| is_meant(one.ink) && one.name == name);
            charts.iter().any(|chart| has(chart, name) && has(chart, other))
        };
        let free = |index: &usize| found.iter().all(|(_, taken)| taken != index);
        let apart = |index: &usize| found.iter().all(|(other, taken)| taken != index || !is_beside(other));
        let first = || (0..DISTINCT).find(free).or_else(|| (0..DISTINCT).find(apart));
        let index = first().or_else(|| (DISTINCT..42).find(apart)).unwrap_or(found.len());
        found.push((name, index));
    }
    found
}

/// How many looks differ in colour.
const DISTINCT: usize = 7;

/// The colour of a number that is not on the scale.
const UNKNOWN: Colour = [0x80; 3];

/// The look of the name at an index; 42 of them differ. The colours are those of Okabe and Ito (2008), without their yellow, because
/// white hides it.
pub(crate) fn look(index: usize) -> Look {
    const COLOURS: [Colour; DISTINCT] = [
        [0x00, 0x72, 0xb2], // blue
        [0xd5, 0x5e, 0x00], // vermilion
        [0x00, 0x9e, 0x73], // bluish green
        [0xcc, 0x79, 0xa7], // reddish purple
        [0xe6, 0x9f, 0x00], // orange
        [0x56, 0xb4, 0xe9], // sky blue
        [0x00, 0x00, 0x00],
    ];
    use Shape::*;
    const SHAPES: [Shape; 6] = [Circle, Square, Triangle, Diamond, Cross, Wedge];
    Look { colour: COLOURS[index % COLOURS.len()], shape: SHAPES[index % SHAPES.len()], outlined: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChartAxis;

    #[test]
    fn looks_repeat_only_after_all_pairs() {
        let seen: std::collections::HashSet<_> = (0..42).map(|i| (look(i).colour, look(i).shape as u8)).collect();
        assert_eq!(seen.len(), 42);
    }

    #[test]
    fn a_series_has_one_colour_in_all_charts_of_a_figure() {
        let chart = |names: &[&str]| Chart {
            series: names.iter().map(|name| Series::new(*name, vec![(0.0, 1.0)])).collect(),
            ..Chart::default()
        };
        let charts = [chart(&["pndm", "lms", "euler"]), chart(&["euler", "pndm"])];
        let inks = Inks::of(&charts);
        let colour = |chart: usize, place: usize| inks.look(&charts[chart].series[place]).colour;
        assert_eq!([colour(1, 0), colour(1, 1)], [colour(0, 2), colour(0, 0)]);
        assert_ne!(colour(0, 0), colour(0, 1));
    }

    #[test]
    fn no_colour_is_there_twice_in_a_chart_of_seven() {
        let chart = |first: usize| Chart {
            series: (first..first + 7).map(|index| Series::new(format!("s{index}"), vec![(0.0, 1.0)])).collect(),
            ..Chart::default()
        };
        let charts = [chart(0), chart(5), chart(10)]; // seventeen names
        let inks = Inks::of(&charts);
        for chart in &charts {
            let colours: std::collections::HashSet<_> = chart.series.iter().map(|one| inks.look(one).colour).collect();
            assert_eq!(colours.len(), 7);
        }
    }

    #[test]
    fn numbers_are_on_one_scale_and_a_colour_is_itself() {
        let of = |number: f64| Series::new("x", vec![(0.0, 1.0)]).by(number);
        let colours = Some(ChartAxis::log("guidance"));
        let charts = [
            Chart { series: vec![of(1.0), of(10.0)], colours: colours.clone(), ..Chart::default() },
            Chart { series: vec![of(100.0), of(0.0)], colours, ..Chart::default() },
        ];
        let inks = Inks::of(&charts);
        let colour = |chart: usize, place: usize| inks.look(&charts[chart].series[place]).colour;
        assert_eq!(colour(0, 0), Colours::Ordered.at(0.0));
        assert_eq!(colour(0, 1), Colours::Ordered.at(0.5), "in the middle of a log scale");
        assert_eq!(colour(1, 0), Colours::Ordered.at(1.0));
        assert_eq!(colour(1, 1), UNKNOWN);
        assert!(inks.is_on_bar(&charts[0].series[0]));
        let red = Series::new("red", vec![(0.0, 1.0)]).coloured([220, 40, 40]);
        assert_eq!(Inks::of(&[]).look(&red).colour, [220, 40, 40]);
        let outlined = |colour: [u8; 3]| Inks::of(&[]).look(&red.clone().coloured(colour)).outlined;
        assert!(outlined([245, 245, 245]) && outlined([250, 230, 50]) && !outlined([220, 40, 40]));
    }
}
