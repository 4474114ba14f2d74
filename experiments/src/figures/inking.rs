//! The colours of cells: by what varies.

use super::Finished;
use super::ordered::{numbers, scale};
use crate::done::Done;
use crate::spec::Axis;
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
const NAMES: usize = 7;

impl Inking {
    /// By the first field that is ordered, other than the seed; otherwise by the first whose values are colours.
    pub(crate) fn of(finished: &Finished) -> Inking {
        let axes = || finished.axes.iter().enumerate();
        let ordered = axes().find_map(|(place, axis)| Some((place, order(axis)?)));
        if let Some((place, numbers)) = ordered {
            let scale = scale(&finished.axes[place].name, &numbers);
            return Inking::Ordered(place, numbers, scale);
        }
        let colours = axes().find_map(|(place, axis)| Some((place, colours(axis)?)));
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

    /// The scale of the colours, for [`Chart::colours`](latentrace_plot::Chart::colours).
    pub(crate) fn scale(&self) -> Option<ChartAxis> {
        match self {
            Inking::Ordered(.., scale) => Some(scale.clone()),
            Inking::Colours(..) | Inking::Names => None,
        }
    }

    /// Whether no two things have the same colour, if there are so many cells.
    pub(crate) fn tells_apart(&self, cells: usize) -> bool {
        match self {
            Inking::Ordered(..) | Inking::Colours(..) => true,
            Inking::Names => cells <= NAMES,
        }
    }
}

/// The numbers of an ordered field: at least three, all different. A seed is a name.
fn order(axis: &Axis) -> Option<Vec<f64>> {
    numbers(axis).filter(|numbers| axis.name != "seed" && numbers.len() > 2)
}

/// The colours of a field whose values are colours of the bundled model's world.
fn colours(axis: &Axis) -> Option<Vec<[u8; 3]>> {
    let of = |value: &String| Colour::ALL.into_iter().find(|colour| colour.to_string() == *value).map(Colour::rgb);
    axis.values.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_plot::Ink;
    use latentrace_runs::{Cell, RunFolder};
    use std::path::Path;

    fn axis(name: &str, values: &[&str]) -> Axis {
        Axis { name: name.into(), values: values.iter().map(|value| value.to_string()).collect(), fields: Vec::new() }
    }

    /// The inks of the cells at the places 0 and 1 of every axis, and whether nine cells are told apart.
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
        (ink(0), ink(1), inking.tells_apart(9))
    }

    #[test]
    fn colours_follow_the_ordered_field_or_the_colours_themselves() {
        let seeds = axis("seed", &["1", "2", "3"]);
        let guidance = axis("guidance", &["0.25", "1", "20"]);
        assert_eq!(inks(&[seeds.clone(), guidance]), (Ink::Number(0.25), Ink::Number(1.0), true));
        let colours = axis("colour", &["red", "blue"]);
        assert_eq!(inks(&[seeds.clone(), colours]), (Ink::Colour([220, 40, 40]), Ink::Colour([40, 80, 220]), true));
        assert_eq!(inks(&[axis("sampler", &["pndm", "lms"])]), (Ink::Name, Ink::Name, false));
        assert_eq!(inks(&[seeds]), (Ink::Name, Ink::Name, false), "a seed is a name");
        assert_eq!(inks(&[axis("guidance", &["1", "7.5"])]).0, Ink::Name, "two are told apart better by colour");
    }
}
