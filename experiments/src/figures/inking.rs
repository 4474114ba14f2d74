//! The colours of cells: by what varies.

use super::Finished;
use super::ordered::{numbers, scale};
use crate::done::Done;
use latentrace_plot::{ChartAxis, Series};
use latentrace_shapes::Colour;

/// How the curves of cells are coloured.
pub(crate) enum Inking {
    /// By an ordered field: which axis, its numbers, and its scale.
    Ordered(usize, Vec<f64>, ChartAxis),
    /// By a field whose values are colours: which axis, and the colours.
    Colours(usize, Vec<[u8; 3]>),
    /// Each cell in a colour of its own.
    Names,
}

/// How many names have colours of their own.
pub(super) const NAMES: usize = 7;

impl Inking {
    /// By the first field that is ordered, other than the seed; otherwise by the first whose values are colours. Of fields
    /// that vary together, each is one.
    pub(crate) fn of(finished: &Finished) -> Inking {
        let axes = finished.axes.iter().enumerate();
        let fields: Vec<_> =
            axes.flat_map(|(place, axis)| axis.each().into_iter().map(move |field| (place, field))).collect();
        let ordered = fields.iter().find_map(|(place, (name, values))| Some((place, name, order(name, values)?)));
        if let Some((place, name, numbers)) = ordered {
            let scale = scale(name, &numbers);
            return Inking::Ordered(*place, numbers, scale);
        }
        let colours = fields.iter().find_map(|(place, (_, values))| Some((*place, colours(values)?)));
        colours.map_or(Inking::Names, |(place, colours)| Inking::Colours(place, colours))
    }

    /// A cell's curve in its colour.
    pub(crate) fn ink(&self, done: &Done, series: Series) -> Series {
        let of = |axis: &usize| done.place.get(*axis).copied();
        match self {
            Inking::Ordered(axis, numbers, _) => of(axis).map_or(series.clone(), |index| series.by(numbers[index])),
            Inking::Colours(axis, colours) => of(axis).map_or(series.clone(), |index| series.coloured(colours[index])),
            Inking::Names => series,
        }
    }

    /// What differs between curves of one colour: the names of all fields but the one that is coloured by.
    pub(crate) fn besides(&self, finished: &Finished) -> Vec<String> {
        let coloured = match self {
            Inking::Ordered(axis, ..) | Inking::Colours(axis, _) => *axis,
            Inking::Names => return Vec::new(),
        };
        let others = finished.axes.iter().enumerate().filter(|(place, _)| *place != coloured);
        others.map(|(_, axis)| axis.name.clone()).collect()
    }

    /// The scale of the colours, for [`Chart::colours`](latentrace_plot::Chart::colours).
    pub(crate) fn scale(&self) -> Option<ChartAxis> {
        match self {
            Inking::Ordered(.., scale) => Some(scale.clone()),
            Inking::Colours(..) | Inking::Names => None,
        }
    }

    /// Whether curves of so many cells can be told apart: each has a colour of its own, or one of a scale, or few share a colour that
    /// means something.
    pub(crate) fn tells_apart(&self, cells: usize) -> bool {
        match self {
            Inking::Ordered(..) => true,
            Inking::Colours(_, colours) => cells <= NAMES * colours.len(),
            Inking::Names => cells <= NAMES,
        }
    }
}

/// The numbers of an ordered field: at least three, all different. A seed is a name.
fn order(name: &str, values: &[String]) -> Option<Vec<f64>> {
    numbers(values).filter(|numbers| name != "seed" && numbers.len() > 2 && are_different(values))
}

/// The colours of a field whose values are colours of the bundled model's world.
fn colours(values: &[String]) -> Option<Vec<[u8; 3]>> {
    let of = |value: &String| Colour::ALL.into_iter().find(|colour| colour.to_string() == *value).map(Colour::rgb);
    if are_different(values) { values.iter().map(of).collect() } else { None }
}

/// Whether a field has each of its values once: one that varies together with others may have it again.
fn are_different(values: &[String]) -> bool {
    (1..values.len()).all(|place| !values[..place].contains(&values[place]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Axis;
    use latentrace_plot::Ink;
    use latentrace_runs::{Cell, RunFolder};
    use std::path::Path;

    fn axis(name: &str, values: &[&str]) -> Axis {
        Axis { name: name.into(), values: values.iter().map(|value| value.to_string()).collect(), ..Axis::default() }
    }

    /// The inks of the cells at the places 0 and 1 of every axis, and whether fifteen cells are told apart.
    fn inks(axes: &[Axis]) -> (Ink, Ink, bool) {
        let finished = Finished {
            root: Path::new(""),
            title: "",
            axes,
            columns: None,
            measures: &[],
            cells: &[],
            sights: &[],
            references: &[],
        };
        let inking = Inking::of(&finished);
        let ink = |index: usize| {
            let place = vec![index; axes.len()];
            let run = RunFolder::new(Path::new(""));
            let done = Done { cell: Cell::default(), label: String::new(), place, run };
            inking.ink(&done, Series::new("", Vec::new())).ink
        };
        (ink(0), ink(1), inking.tells_apart(15))
    }

    #[test]
    fn colours_follow_the_ordered_field_or_the_colours_themselves() {
        let seeds = axis("seed", &["1", "2", "3"]);
        let guidance = axis("guidance", &["0.25", "1", "20"]);
        assert_eq!(inks(&[seeds.clone(), guidance]), (Ink::Number(0.25), Ink::Number(1.0), true));
        let colours = axis("colour", &["red", "blue", "green"]);
        assert_eq!(inks(&[seeds.clone(), colours]), (Ink::Colour([220, 40, 40]), Ink::Colour([40, 80, 220]), true));
        assert!(!inks(&[axis("colour", &["red", "blue"])]).2, "eight curves of a colour are not told apart");
        assert_eq!(inks(&[axis("sampler", &["pndm", "lms"])]), (Ink::Name, Ink::Name, false));
        assert_eq!(inks(&[seeds]), (Ink::Name, Ink::Name, false), "a seed is a name");
        assert_eq!(inks(&[axis("guidance", &["1", "7.5"])]).0, Ink::Name, "two are told apart better by colour");
    }
}
