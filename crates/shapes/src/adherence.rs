//! How well a picture matches its caption.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::caption::{AskedScene, AskedThing};
use crate::look::{SeenScene, SeenThing};

/// Counts for each attribute, of one picture or many: they add with `+=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adherence {
    /// Colours of things.
    pub colour: Tally,
    /// Shapes of things.
    pub shape: Tally,
    /// Sizes of things.
    pub size: Tally,
    /// Positions of things.
    pub position: Tally,
    /// Backgrounds.
    pub background: Tally,
    /// Pictures in which everything asked for is right, and no thing is missing or extra.
    pub whole: Tally,
    /// Things that were asked for and not seen. Each of their attributes that was asked for counts as wrong above.
    pub missing: usize,
    /// Things that were seen and not asked for, in pictures for which at least one thing was asked for.
    pub extra: usize,
}

/// A number of right answers, and of questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many were right.
    pub right: usize,
    /// How many were asked for.
    pub asked: usize,
}

/// Compares a caption with what is seen in a picture. Things are paired so that the most attributes are right; among
/// equally good pairings, the first in the order of the caption and of the picture counts.
pub fn adherence(asked: &AskedScene, seen: &SeenScene) -> Adherence {
    let mut score = pair(&asked.things, &seen.things.iter().collect::<Vec<_>>());
    if asked.things.is_empty() {
        score.extra = 0; // no thing was asked for
    }
    score.background = Tally::of(asked.background, Some(seen.background));
    let all = score.attributes().into_iter().fold(Tally::default(), |mut sum, (_, tally)| {
        sum += tally;
        sum
    });
    if !asked.things.is_empty() || asked.background.is_some() {
        let flawless = all.right == all.asked && score.missing == 0 && score.extra == 0;
        score.whole = Tally { right: usize::from(flawless), asked: 1 };
    }
    score
}

/// The best pairing of the things asked for with the things seen. It tries the first with each thing seen, or with none
/// if there are too few, and pairs the rest in the same way.
fn pair(asked: &[AskedThing], seen: &[&SeenThing]) -> Adherence {
    let Some((first, rest)) = asked.split_first() else {
        return Adherence { extra: seen.len(), ..Adherence::default() };
    };
    let mut options = Vec::new();
    for place in 0..seen.len() {
        let mut others = seen.to_vec();
        let mut score = compare(first, Some(others.remove(place)));
        score += pair(rest, &others);
        options.push(score);
    }
    if seen.len() < asked.len() {
        let mut score = compare(first, None);
        score += pair(rest, seen);
        options.push(score);
    }
    let right = |score: &Adherence| score.attributes().iter().map(|(_, tally)| tally.right).sum::<usize>();
    // `max_by_key` returns the last of equals, and the first is wanted: reverse.
    options.into_iter().rev().max_by_key(right).expect("an option: some are seen, or too few")
}

fn compare(asked: &AskedThing, seen: Option<&SeenThing>) -> Adherence {
    let thing = seen.map(|seen| seen.thing);
    Adherence {
        colour: Tally::of(asked.colour, thing.map(|thing| thing.colour)),
        shape: Tally::of(asked.shape, thing.map(|thing| thing.shape)),
        size: Tally::of(asked.size, thing.map(|thing| thing.size)),
        position: Tally::of(asked.position, thing.map(|thing| thing.position)),
        missing: usize::from(thing.is_none()),
        ..Adherence::default()
    }
}

impl Adherence {
    /// The attributes with their names.
    pub fn attributes(&self) -> [(&'static str, Tally); 5] {
        [
            ("colour", self.colour),
            ("shape", self.shape),
            ("size", self.size),
            ("position", self.position),
            ("background", self.background),
        ]
    }
}

impl AddAssign for Adherence {
    fn add_assign(&mut self, other: Adherence) {
        self.colour += other.colour;
        self.shape += other.shape;
        self.size += other.size;
        self.position += other.position;
        self.background += other.background;
        self.whole += other.whole;
        self.missing += other.missing;
        self.extra += other.extra;
    }
}

impl fmt::Display for Adherence {
    /// A line for each attribute, then whole pictures, then missing and extra things.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, tally) in self.attributes() {
            writeln!(f, "{name:<10} {tally}")?;
        }
        writeln!(f, "{:<10} {}", "whole", self.whole)?;
        write!(f, "{:<10} {} missing, {} extra", "things", self.missing, self.extra)
    }
}

impl Tally {
    /// The tally of one attribute: empty if it was not asked for.
    fn of<T: PartialEq>(asked: Option<T>, seen: Option<T>) -> Tally {
        Tally { right: usize::from(asked.is_some() && asked == seen), asked: usize::from(asked.is_some()) }
    }

    /// The share that is right; `None` if nothing was asked.
    pub fn rate(self) -> Option<f64> {
        (self.asked > 0).then(|| self.right as f64 / self.asked as f64)
    }

    /// Wilson's 95 % interval of the rate; from 0 to 1 if nothing was asked.
    ///
    /// E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    pub fn interval(self) -> (f64, f64) {
        let Some(rate) = self.rate() else {
            return (0.0, 1.0);
        };
        let (z, n) = (1.959_963_984_540_054_f64, self.asked as f64);
        let shrink = 1.0 + z * z / n;
        let middle = (rate + z * z / (2.0 * n)) / shrink;
        let half = z / shrink * (rate * (1.0 - rate) / n + z * z / (4.0 * n * n)).sqrt();
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.right += other.right;
        self.asked += other.asked;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rate) = self.rate() else {
            return f.write_str("not asked");
        };
        let (low, high) = self.interval();
        write!(
            f,
            "{:5.1} % ({:.1} to {:.1}, {} of {})",
            100.0 * rate,
            100.0 * low,
            100.0 * high,
            self.right,
            self.asked
        )
    }
}
