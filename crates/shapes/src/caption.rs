//! From a scene to its caption, and from a caption to what it asks for.

use serde::{Deserialize, Serialize};

use crate::scene::{Colour, Position, Scene, Shape, Size};
use crate::stream::Stream;

/// Which attributes a caption names; the same for both things of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detail {
    /// "small"
    pub size: bool,
    /// "red"
    pub colour: bool,
    /// "circle"; otherwise the caption says "thing".
    pub shape: bool,
    /// "on the left"
    pub position: bool,
    /// ", white background"
    pub background: bool,
}

impl Detail {
    /// All attributes.
    pub const FULL: Detail = Detail { size: true, colour: true, shape: true, position: true, background: true };

    /// No attribute: the caption is empty, as classifier-free guidance needs.
    pub const EMPTY: Detail = Detail { size: false, colour: false, shape: false, position: false, background: false };

    /// A random detail: 50 % full, 10 % empty, 40 % a random subset.
    pub fn random(stream: &mut Stream) -> Detail {
        let lot = stream.unit();
        if lot < 0.5 {
            return Detail::FULL;
        }
        if lot < 0.6 {
            return Detail::EMPTY;
        }
        let mut said = || stream.chance(0.5);
        Detail { size: said(), colour: said(), shape: said(), position: said(), background: said() }
    }
}

/// What a caption asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskedScene {
    /// The things named, at most two.
    pub things: Vec<AskedThing>,
    /// The background, if the caption names it.
    pub background: Option<Colour>,
}

/// What a caption asks of one thing; `None` for an attribute that it does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskedThing {
    /// The silhouette.
    pub shape: Option<Shape>,
    /// The colour.
    pub colour: Option<Colour>,
    /// The size.
    pub size: Option<Size>,
    /// The position.
    pub position: Option<Position>,
}

impl Scene {
    /// What a caption of this detail asks for.
    pub fn asked(&self, detail: Detail) -> AskedScene {
        if detail == Detail::EMPTY {
            return AskedScene::default();
        }
        let things = self.things.iter().map(|thing| AskedThing {
            shape: detail.shape.then_some(thing.shape),
            colour: detail.colour.then_some(thing.colour),
            size: detail.size.then_some(thing.size),
            position: detail.position.then_some(thing.position),
        });
        AskedScene { things: things.collect(), background: detail.background.then_some(self.background) }
    }

    /// The caption of the scene, always the same words in the same order: "a small red circle on the left and a large
    /// blue square on the right, white background".
    pub fn caption(&self, detail: Detail) -> String {
        self.asked(detail).to_string()
    }
}

impl std::fmt::Display for AskedScene {
    /// The caption.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, thing) in self.things.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { " and " })?;
            write!(f, "{thing}")?;
        }
        if let Some(background) = self.background {
            f.write_str(if self.things.is_empty() { "" } else { ", " })?;
            write!(f, "{background} background")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for AskedThing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let orange_first = self.size.is_none() && self.colour == Some(Colour::Orange);
        f.write_str(if orange_first { "an" } else { "a" })?;
        if let Some(size) = self.size {
            write!(f, " {size}")?;
        }
        if let Some(colour) = self.colour {
            write!(f, " {colour}")?;
        }
        write!(f, " {}", self.shape.map_or("thing", Shape::word))?;
        match self.position {
            Some(Position::Left) => f.write_str(" on the left"),
            Some(Position::Right) => f.write_str(" on the right"),
            Some(Position::Top) => f.write_str(" at the top"),
            Some(Position::Bottom) => f.write_str(" at the bottom"),
            Some(Position::Centre) => f.write_str(" in the centre"),
            None => Ok(()),
        }
    }
}

/// Parses a caption. Unknown words are ignored, so an empty caption and one about something else ask for nothing. "and"
/// begins the next thing, and a colour before "background" is that of the background.
///
/// `None` if no scene matches the caption: it names an attribute of one thing twice, or more than two things.
///
/// ```
/// let asked = latentrace_shapes::parse("a large circle at the top and a red thing").expect("can be met");
/// assert_eq!(asked.to_string(), "a large circle at the top and a red thing");
/// assert_eq!(asked.things[1].shape, None);
/// ```
pub fn parse(caption: &str) -> Option<AskedScene> {
    let caption = caption.to_lowercase();
    let words = || caption.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut asked = AskedScene::default();
    let mut thing: Option<AskedThing> = None;
    for (word, next) in words().zip(words().skip(1).map(Some).chain([None])) {
        if word == "and" {
            asked.things.extend(thing.take());
        } else if let Some(colour) = Colour::from_word(word) {
            match next {
                Some("background") => say(&mut asked.background, colour)?,
                _ => say(&mut thing.get_or_insert_default().colour, colour)?,
            }
        } else if let Some(shape) = Shape::from_word(word) {
            say(&mut thing.get_or_insert_default().shape, shape)?;
        } else if let Some(size) = Size::from_word(word) {
            say(&mut thing.get_or_insert_default().size, size)?;
        } else if let Some(position) = Position::from_word(word) {
            say(&mut thing.get_or_insert_default().position, position)?;
        } else if word == "thing" {
            thing.get_or_insert_default();
        }
    }
    asked.things.extend(thing);
    (asked.things.len() <= 2).then_some(asked)
}

/// Sets an attribute; `None` if it is already set.
fn say<T>(place: &mut Option<T>, value: T) -> Option<()> {
    if place.is_some() {
        return None;
    }
    *place = Some(value);
    Some(())
}
