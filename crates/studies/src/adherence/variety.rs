//! How much a model varies what a caption leaves open.

use latentrace_shapes::{Colour, Detail, Position, Scene, SeenScene, Shape, Size, Tally};

/// An attribute of a scene with one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// The colour of the thing.
    Colour,
    /// Its shape.
    Shape,
    /// Its size.
    Size,
    /// Its position.
    Position,
    /// The background.
    Background,
}

/// How often two pictures of a caption differ in the attribute that it leaves open.
#[derive(Clone, Debug)]
pub struct Variety {
    /// The attribute.
    pub attribute: Attribute,
    /// Sampling steps.
    pub steps: usize,
    /// The guidance weight.
    pub guidance: f64,
    /// The pairs of pictures that show one thing each, and how many of them differ.
    pub pairs: Tally,
    /// The number of pairs of which a picture does not show one thing.
    pub unclear: usize,
    chances: f64,
}

impl Attribute {
    /// Every attribute.
    pub const ALL: [Attribute; 5] =
        [Attribute::Colour, Attribute::Shape, Attribute::Size, Attribute::Position, Attribute::Background];

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Attribute::Colour => "colour",
            Attribute::Shape => "shape",
            Attribute::Size => "size",
            Attribute::Position => "position",
            Attribute::Background => "background",
        }
    }

    /// A full caption without this attribute.
    pub fn left_open(self) -> Detail {
        let all = Detail::FULL;
        match self {
            Attribute::Colour => Detail { colour: false, ..all },
            Attribute::Shape => Detail { shape: false, ..all },
            Attribute::Size => Detail { size: false, ..all },
            Attribute::Position => Detail { position: false, ..all },
            Attribute::Background => Detail { background: false, ..all },
        }
    }

    /// The scenes that differ from a scene of one thing in this attribute alone, and the scene itself, as far as a training
    /// may show them. All are equally likely in the world.
    fn alternatives(self, scene: &Scene) -> usize {
        let with = |change: &dyn Fn(&mut Scene)| {
            let mut other = scene.clone();
            change(&mut other);
            other
        };
        let all: Vec<Scene> = match self {
            Attribute::Colour => Colour::ALL.map(|value| with(&|scene| scene.things[0].colour = value)).into(),
            Attribute::Shape => Shape::ALL.map(|value| with(&|scene| scene.things[0].shape = value)).into(),
            Attribute::Size => Size::ALL.map(|value| with(&|scene| scene.things[0].size = value)).into(),
            Attribute::Position => Position::ALL.map(|value| with(&|scene| scene.things[0].position = value)).into(),
            Attribute::Background => Colour::ALL.map(|value| with(&|scene| scene.background = value)).into(),
        };
        all.iter().filter(|scene| scene.valid() && !scene.unseen_pair()).count()
    }

    /// Whether two scenes of one thing differ in it; `None` if one of them does not show one thing.
    fn differs(self, [one, other]: [&SeenScene; 2]) -> Option<bool> {
        let ([a], [b]) = (&one.things[..], &other.things[..]) else { return None };
        let (a, b) = (a.thing, b.thing);
        Some(match self {
            Attribute::Colour => a.colour != b.colour,
            Attribute::Shape => a.shape != b.shape,
            Attribute::Size => a.size != b.size,
            Attribute::Position => a.position != b.position,
            Attribute::Background => one.background != other.background,
        })
    }
}

impl Variety {
    /// No pairs yet.
    pub(super) fn new(attribute: Attribute, steps: usize, guidance: f64) -> Variety {
        Variety { attribute, steps, guidance, pairs: Tally::default(), unclear: 0, chances: 0.0 }
    }

    /// Adds a pair of pictures of the scene's caption without the attribute.
    pub(super) fn add(&mut self, scene: &Scene, pair: [&SeenScene; 2]) {
        match self.attribute.differs(pair) {
            Some(differs) => {
                self.pairs += Tally { right: usize::from(differs), asked: 1 };
                self.chances += 1.0 - 1.0 / self.attribute.alternatives(scene).max(1) as f64;
            }
            None => self.unclear += 1,
        }
    }

    /// How often pairs would differ if every possible value were equally likely, as in the world. `None` without pairs.
    pub fn chance(&self) -> Option<f64> {
        (self.pairs.asked > 0).then(|| self.chances / self.pairs.asked as f64)
    }

    /// How often pairs differ relative to chance, with Wilson's interval of the pairs.
    pub fn relative(&self) -> Option<(f64, (f64, f64))> {
        let (rate, chance, (low, high)) = (self.pairs.rate()?, self.chance()?, self.pairs.interval());
        Some((rate / chance, (low / chance, high / chance)))
    }
}

/// Random held-out scenes of one thing.
pub(super) fn scenes(seed: u64, count: usize) -> Vec<Scene> {
    let one = |scene: &Scene| scene.held_out() && !scene.unseen_pair() && scene.things.len() == 1;
    super::scenes(seed, one).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_shapes::{Jitter, Stream, look};

    /// Pictures that are drawn of scenes of the world are as various as chance has it.
    #[test]
    fn drawn_pictures_differ_as_often_as_chance_has_it() {
        for attribute in Attribute::ALL {
            let mut variety = Variety::new(attribute, 0, 0.0);
            let mut stream = Stream::new(attribute as u64);
            for scene in scenes(3, 120) {
                let asked = scene.asked(attribute.left_open());
                let mut draw = || loop {
                    let other = Scene::random(&mut stream);
                    if other.asked(attribute.left_open()) == asked && !other.unseen_pair() {
                        return look(&other.draw(64, &mut Jitter::still()));
                    }
                };
                let pair = [draw(), draw()];
                variety.add(&scene, [&pair[0], &pair[1]]);
            }
            let (relative, _) = variety.relative().unwrap();
            // 120 pairs that differ with probability p: three standard deviations of the rate are 3 sqrt(p (1 - p) / 120).
            let chance = variety.chance().unwrap();
            let bound = 3.0 * (chance * (1.0 - chance) / 120.0).sqrt() / chance;
            assert!((relative - 1.0).abs() < bound, "{attribute:?}: {relative}, within {bound}");
            assert_eq!(variety.unclear, 0);
        }
    }
}
