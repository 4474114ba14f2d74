//! Measures of the pictures of an experiment: numbers of each picture, and of groups of pictures with confidence
//! intervals.

use crate::done::Done;
use crate::parallel::of_each;
use anyhow::{Context, Result, bail};
use latentrace_measures::{Estimate, bits, clipped_pixels, contrast, pixel_distance, saturation};
use latentrace_plot::{RgbImage, open_image};
use latentrace_runs::{Cell, FIELDS};
use latentrace_shapes::{AskedScene, Canvas, Colour, SeenScene, Tally, adherence, look, parse};
use std::str::FromStr;
use std::sync::OnceLock;

/// A measure that a spec can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The share of the attributes in a caption of shapes that the picture shows.
    Adherence,
    /// The colours that the picture shows, on a thing or as the background.
    Colours,
    /// Mean chroma.
    Saturation,
    /// The standard deviation of the luma.
    Contrast,
    /// The share of pixels at 0 or 255.
    Clipping,
    /// The mean distance of pictures that differ in the seed alone. A single picture has none.
    Diversity,
}

const NAMES: [(&str, Measure); 6] = [
    ("adherence", Measure::Adherence),
    ("colours", Measure::Colours),
    ("saturation", Measure::Saturation),
    ("contrast", Measure::Contrast),
    ("clipping", Measure::Clipping),
    ("diversity", Measure::Diversity),
];

impl FromStr for Measure {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Measure> {
        if let Some((_, measure)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*measure);
        }
        bail!("{name}: unknown\n{}", latentrace_files::hint(name, NAMES.iter().map(|(known, _)| *known)))
    }
}

impl Measure {
    /// Its name in a spec.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, measure)| *measure == self).map_or("", |(name, _)| name)
    }
}

/// A complete cell with its picture.
pub struct Sight<'a> {
    /// The cell.
    pub done: &'a Done,
    image: RgbImage,
    /// What the prompt asks for; `None` if no picture can show it.
    asked: Option<AskedScene>,
    seen: OnceLock<SeenScene>,
    /// What each measure found, computed once.
    found: [OnceLock<Vec<(String, Found)>>; NAMES.len()],
}

impl Sight<'_> {
    /// Reads a cell's picture.
    ///
    /// # Errors
    /// The picture cannot be read.
    pub fn of(done: &Done) -> Result<Sight<'_>> {
        let path = done.run.picture();
        let image = open_image(path).with_context(|| path.display().to_string())?;
        Ok(Sight { done, image, asked: parse(&done.cell.prompt), seen: OnceLock::new(), found: Default::default() })
    }

    /// Reads the pictures of cells, and measures them, on all cores. Reads nothing if nothing is to be measured.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn of_all<'a>(cells: &'a [Done], measures: &[Measure]) -> Result<Vec<Sight<'a>>> {
        if measures.is_empty() {
            return Ok(Vec::new());
        }
        of_each(cells, |_, done| {
            let sight = Sight::of(done)?;
            measures.iter().for_each(|measure| _ = measure.found(&sight));
            Ok(sight)
        })
    }

    /// The scene that the checker sees in the picture, computed once. `None` if neither the model nor the prompt is of
    /// shapes.
    fn seen(&self) -> Option<&SeenScene> {
        let is_of_shapes = self.asked.as_ref().is_some_and(|asked| *asked != AskedScene::default());
        let is_bundled = self.done.cell.model.is_none();
        let (width, height) = (self.image.width() as usize, self.image.height() as usize);
        let picture = || Canvas { width, height, pixels: self.image.as_raw().clone() };
        let applies = width * height > 0 && (is_bundled || is_of_shapes);
        applies.then(|| self.seen.get_or_init(|| look(&picture())))
    }
}

/// A number of one picture: a share of right answers, or an amount.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Share(Tally),
    Amount(f64),
}

impl Measure {
    /// The numbers of one picture, by name. A number is NaN if it is not defined, such as a share of no answers.
    pub fn of_cell(&self, sight: &Sight) -> Vec<(String, f64)> {
        let value = |found| match found {
            Found::Share(tally) => tally.rate().unwrap_or(f64::NAN),
            Found::Amount(amount) => amount,
        };
        self.found(sight).iter().map(|(name, found)| (name.clone(), value(*found))).collect()
    }

    /// The statistics of a group of pictures, each with its 95 % interval and the kind of the interval.
    ///
    /// Shares are pooled over all answers, with Wilson's score interval. Amounts are averaged, with Student's interval.
    /// Diversity is the mean distance of all pairs that differ in the seed alone, with the jackknife's interval over
    /// the seeds. If more than the seed differs in the group, it is the mean over the sets that differ in the seed
    /// alone, with Student's interval.
    pub fn of_group(&self, group: &[&Sight]) -> Vec<Statistic> {
        if *self == Measure::Diversity {
            return diversity(group);
        }
        let found: Vec<&[(String, Found)]> = group.iter().map(|sight| self.found(sight)).collect();
        let names = found.first().map(|first| first.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
        let of = |(index, name): (usize, String)| pooled(name, found.iter().map(|numbers| numbers[index].1));
        names.unwrap_or_default().into_iter().enumerate().map(of).collect()
    }

    /// The numbers of one picture, computed once.
    fn found<'a>(&self, sight: &'a Sight) -> &'a [(String, Found)] {
        sight.found[*self as usize].get_or_init(|| self.find(sight))
    }

    fn find(&self, sight: &Sight) -> Vec<(String, Found)> {
        let amount =
            |name: &str, of: fn(&[u8]) -> f64| vec![(name.to_string(), Found::Amount(of(sight.image.as_raw())))];
        match self {
            Measure::Adherence => attributes(sight),
            Measure::Colours => colours(sight),
            Measure::Saturation => amount("saturation", saturation),
            Measure::Contrast => amount("contrast", contrast),
            Measure::Clipping => amount("clipped", clipped_pixels),
            Measure::Diversity => Vec::new(),
        }
    }
}

/// Whether a number of a picture or of a group has this name.
pub(crate) fn is_number(name: &str) -> bool {
    let amounts = ["saturation", "contrast", "clipped", "diversity", "diversity.bits"];
    amounts.contains(&name) || [RIGHT, SEEN].iter().any(|prefix| name.starts_with(prefix))
}

/// What the names of rates of right attributes begin with. A field that varies may be called `colour` too.
pub const RIGHT: &str = "right.";

/// What the names of rates of seen colours begin with.
pub const SEEN: &str = "seen.";

fn attributes(sight: &Sight) -> Vec<(String, Found)> {
    let score = sight.asked.as_ref().zip(sight.seen()).map(|(asked, seen)| adherence(asked, seen)).unwrap_or_default();
    let all = score.attributes().into_iter().chain([("whole", score.whole)]);
    all.map(|(name, tally)| (format!("{RIGHT}{name}"), Found::Share(tally))).collect()
}

fn colours(sight: &Sight) -> Vec<(String, Found)> {
    let of = |colour: Colour| match sight.seen() {
        None => Tally::default(),
        Some(SeenScene { background, things, .. }) => {
            let is_there = *background == colour || things.iter().any(|seen| seen.thing.colour == colour);
            Tally { right: usize::from(is_there), asked: 1 }
        }
    };
    Colour::ALL.map(|colour| (format!("{SEEN}{colour}"), Found::Share(of(colour)))).into()
}

/// A statistic of a group of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// Its name.
    pub name: String,
    /// The number of answers, pictures or sets of pictures that it is computed from.
    pub count: usize,
    /// The value with its interval.
    pub estimate: Estimate,
    /// The kind of the interval: `Wilson`, `Student`, `jackknife` or `none`.
    pub interval: &'static str,
}

fn pooled(name: String, found: impl Iterator<Item = Found>) -> Statistic {
    let (mut total, mut amounts) = (Tally::default(), Vec::new());
    for found in found {
        match found {
            Found::Share(tally) => total += tally,
            Found::Amount(amount) => amounts.push(amount),
        }
    }
    if !amounts.is_empty() {
        return Statistic {
            name,
            count: amounts.len(),
            estimate: not_below_zero(Estimate::mean(&amounts)),
            interval: "Student",
        };
    }
    let Some(value) = total.rate() else {
        return Statistic { name, count: 0, estimate: Estimate::bare(f64::NAN), interval: "none" };
    };
    let (low, high) = total.interval();
    Statistic { name, count: total.asked, estimate: Estimate { value, low, high }, interval: "Wilson" }
}

/// An estimate whose interval is cut at 0, since amounts and distances are not negative.
fn not_below_zero(estimate: Estimate) -> Estimate {
    if estimate.low < 0.0 { Estimate { low: 0.0, ..estimate } } else { estimate }
}

fn diversity(group: &[&Sight]) -> Vec<Statistic> {
    let sets = sets_of_seeds(group);
    let count = group.len();
    let apart = |set: &[&Sight]| match set {
        _ if set.len() < 2 => Estimate::bare(f64::NAN),
        _ => Estimate::jackknife(set.len(), |places| mean_distance(set, places)),
    };
    let entropy = |set: &Vec<&Sight>| {
        let seen: Option<Vec<_>> = set.iter().map(|sight| sight.seen().map(content)).collect();
        seen.filter(|seen| seen.len() > 1).map_or(f64::NAN, |seen| bits(&seen))
    };
    let (distances, entropies) = match sets.as_slice() {
        [set] => ((apart(set), "jackknife"), (Estimate::bare(entropy(set)), "none")),
        _ => {
            let over_sets = |of: Vec<f64>| (Estimate::mean(&of), "Student");
            (
                over_sets(sets.iter().map(|set| apart(set).value).collect()),
                over_sets(sets.iter().map(entropy).collect()),
            )
        }
    };
    let statistic = |name: &str, (estimate, interval)| Statistic {
        name: name.into(),
        count,
        estimate: not_below_zero(estimate),
        interval,
    };
    vec![statistic("diversity", distances), statistic("diversity.bits", entropies)]
}

fn mean_distance(set: &[&Sight], places: &[usize]) -> f64 {
    let pairs = places.iter().enumerate().flat_map(|(index, a)| places[index + 1..].iter().map(move |b| (*a, *b)));
    let far = |(a, b): (usize, usize)| pixel_distance(set[a].image.as_raw(), set[b].image.as_raw());
    let all: Vec<f64> = pairs.map(far).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

/// The content of a seen scene, without exact positions and sizes.
fn content(seen: &SeenScene) -> (Colour, Vec<latentrace_shapes::Thing>) {
    (seen.background, seen.things.iter().map(|seen| seen.thing).collect())
}

/// The pictures in sets that differ in the seed alone.
fn sets_of_seeds<'a, 'b>(group: &[&'a Sight<'b>]) -> Vec<Vec<&'a Sight<'b>>> {
    let mut sets: Vec<(Cell, Vec<&Sight>)> = Vec::new();
    for sight in group {
        let cell = Cell { seed: 0, ..sight.done.cell.clone() };
        match sets.iter_mut().find(|(known, _)| *known == cell) {
            Some((_, set)) => set.push(sight),
            None => sets.push((cell, vec![sight])),
        }
    }
    sets.into_iter().map(|(_, set)| set).collect()
}

/// The fields in which cells differ. The field that varies slowest comes first.
pub fn axes(cells: &[&Cell]) -> Vec<&'static str> {
    let first_other = |field: &&str| cells.iter().position(|cell| cell.value(field) != cells[0].value(field));
    let mut axes: Vec<(usize, &str)> =
        FIELDS.into_iter().filter_map(|field| Some((first_other(&field)?, field))).collect();
    axes.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
    axes.into_iter().map(|(_, field)| field).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_plot::save_png;
    use latentrace_runs::RunFolder;
    use latentrace_shapes::{Jitter, Scene};
    use std::path::Path;

    /// A complete cell with a caption, whose picture shows another caption's scene.
    fn done(folder: &Path, caption: &str, seed: u64, shown: &str) -> Done {
        let folder = folder.join(format!("{caption}-{seed}"));
        std::fs::create_dir_all(&folder).unwrap();
        let AskedScene { things, background } = parse(shown).unwrap();
        let thing = |asked: &latentrace_shapes::AskedThing| latentrace_shapes::Thing {
            shape: asked.shape.unwrap(),
            colour: asked.colour.unwrap(),
            size: asked.size.unwrap(),
            position: asked.position.unwrap(),
        };
        let scene = Scene { background: background.unwrap(), things: things.iter().map(thing).collect() };
        let picture = scene.draw(64, &mut Jitter::new(seed));
        let image = RgbImage::from_raw(64, 64, picture.pixels).unwrap();
        save_png(&folder.join("image.png"), &image, &[]).unwrap();
        let cell: Cell = serde_json::from_str(&format!(r#"{{"prompt":"{caption}","seed":{seed}}}"#)).unwrap();
        Done { cell, label: String::new(), place: Vec::new(), run: RunFolder::new(&folder) }
    }

    const RED: &str = "a large red circle on the left, white background";
    const BLUE: &str = "a large blue circle on the left, white background";

    fn value<'a>(numbers: &'a [(String, f64)], name: &str) -> &'a f64 {
        &numbers.iter().find(|(known, _)| known == name).unwrap().1
    }

    #[test]
    fn a_picture_answers_its_caption() {
        let folder = tempfile::tempdir().unwrap();
        let [right, wrong] = [done(folder.path(), RED, 1, RED), done(folder.path(), RED, 2, BLUE)];
        let of = |measure: Measure, done| measure.of_cell(&Sight::of(done).unwrap());
        let attributes = ["colour", "shape", "size", "position", "background", "whole"];
        let rates = |done| attributes.map(|name| *value(&of(Measure::Adherence, done), &format!("right.{name}")));
        assert_eq!(rates(&right), [1.0; 6]);
        assert_eq!(rates(&wrong), [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        let colours = of(Measure::Colours, &wrong);
        assert_eq!(
            [*value(&colours, "seen.blue"), *value(&colours, "seen.red"), *value(&colours, "seen.white")],
            [1.0, 0.0, 1.0]
        );
        let foreign = Done {
            place: Vec::new(),
            cell: Cell { prompt: "an oil painting".into(), model: Some("other".into()), ..right.cell.clone() },
            label: String::new(),
            run: right.run.clone(),
        };
        assert!(value(&of(Measure::Adherence, &foreign), "right.whole").is_nan());
        assert!(value(&of(Measure::Colours, &foreign), "seen.red").is_nan());
        let untold = Done {
            place: Vec::new(),
            cell: Cell { prompt: "a red red thing".into(), ..right.cell.clone() },
            label: String::new(),
            run: right.run.clone(),
        };
        assert!(value(&of(Measure::Adherence, &untold), "right.whole").is_nan(), "nothing can meet it");
        assert_eq!(*value(&of(Measure::Colours, &untold), "seen.red"), 1.0);
        assert!(*value(&of(Measure::Saturation, &foreign), "saturation") > 0.05);
    }

    #[test]
    fn a_group_pools_what_was_asked_and_pairs_what_differs_in_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        let cells =
            [(1, RED), (2, RED), (3, RED), (4, BLUE)].map(|(seed, shown)| done(folder.path(), RED, seed, shown));
        let sights: Vec<Sight> = cells.iter().map(|done| Sight::of(done).unwrap()).collect();
        let all: Vec<&Sight> = sights.iter().collect();
        let of =
            |measure: Measure, name: &str| measure.of_group(&all).into_iter().find(|found| found.name == name).unwrap();
        let colour = of(Measure::Adherence, "right.colour");
        // Wilson's interval of 3 of 4, from his formula with z² = 3.8415: 0.3006 to 0.9544.
        assert_eq!((colour.estimate.value, colour.count, colour.interval), (0.75, 4, "Wilson"));
        assert!((colour.estimate.low - 0.3006).abs() < 1e-4 && (colour.estimate.high - 0.9544).abs() < 1e-4);
        // Two different scenes, three to one.
        let entropy = 0.75 * (4f64 / 3.0).log2() + 0.25 * 2.0;
        assert!((of(Measure::Diversity, "diversity.bits").estimate.value - entropy).abs() < 1e-12);
        let pair = |a: usize, b: usize| pixel_distance(sights[a].image.as_raw(), sights[b].image.as_raw());
        let mean = (pair(0, 1) + pair(0, 2) + pair(0, 3) + pair(1, 2) + pair(1, 3) + pair(2, 3)) / 6.0;
        let apart = of(Measure::Diversity, "diversity");
        assert!((apart.estimate.value - mean).abs() < 1e-12 && apart.interval == "jackknife");
        assert!(Measure::Diversity.of_group(&all[..1])[0].estimate.value.is_nan());
    }

    #[test]
    fn captions_are_no_seeds() {
        let folder = tempfile::tempdir().unwrap();
        let cells = [(RED, 1), (BLUE, 1)].map(|(caption, seed)| done(folder.path(), caption, seed, caption));
        let sights: Vec<Sight> = cells.iter().map(|done| Sight::of(done).unwrap()).collect();
        let found = Measure::Diversity.of_group(&sights.iter().collect::<Vec<_>>());
        assert!(found[0].estimate.value.is_nan(), "no two differ in the seed alone: {found:?}");
    }

    #[test]
    fn axes_come_slowest_first() {
        let cell = |text: &str| serde_json::from_str::<Cell>(text).unwrap();
        let cells = ["4,1", "4,2", "8,1", "8,2"].map(|pair| {
            let (guidance, seed) = pair.split_once(',').unwrap();
            cell(&format!(r#"{{"guidance":{guidance},"seed":{seed}}}"#))
        });
        assert_eq!(axes(&cells.iter().collect::<Vec<_>>()), ["guidance", "seed"]);
        assert!(axes(&[]).is_empty());
    }

    #[test]
    fn an_unknown_measure_is_an_error_with_the_near_name() {
        assert!(NAMES.iter().all(|(name, measure)| name.parse::<Measure>().unwrap() == *measure));
        let error = |name: &str| name.parse::<Measure>().unwrap_err().to_string();
        assert!(error("colors").contains("did you mean colours?"), "{}", error("colors"));
        assert!(error("xyz").contains("adherence, colours"));
    }
}
