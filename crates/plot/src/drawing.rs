//! A figure as a list of marks in plain numbers: the layout makes it, and the painter reads it.

use crate::text::{self, Weight};

/// A figure before it is painted. Later marks are painted over earlier ones, and text over all marks.
pub(crate) struct Drawing {
    pub width: u32,
    pub height: u32,
    /// What readers are told who do not see it.
    pub title: String,
    pub marks: Vec<Mark>,
    pub texts: Vec<Text>,
}

/// x from the left, y down from the top.
pub(crate) type Point = (f64, f64);

/// Red, green, blue.
pub(crate) type Colour = [u8; 3];

pub(crate) const BLACK: Colour = [0x1a; 3];
pub(crate) const WHITE: Colour = [0xff; 3];
pub(crate) const GREY: Colour = [0x59; 3];
pub(crate) const FAINT: Colour = [0xdd; 3];
pub(crate) const FAINTER: Colour = [0xee; 3];

/// One shape.
pub(crate) enum Mark {
    /// An open line through the points.
    Line { points: Vec<Point>, width: f64, colour: Colour },
    /// The polygon between the points.
    Area { points: Vec<Point>, colour: Colour },
    /// A filled circle.
    Disc { centre: Point, radius: f64, colour: Colour },
}

/// One line of text; `at` is on its baseline.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub words: String,
    pub at: Point,
    pub size: f64,
    pub weight: Weight,
    pub colour: Colour,
    pub anchor: Anchor,
    /// Whether it is turned to read upwards, like the label of a vertical axis.
    pub upwards: bool,
}

/// Which part of a text is at its point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A rectangle with vertical and horizontal sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Drawing {
    pub fn new(width: u32, height: u32) -> Drawing {
        Drawing {
            width: width.max(240),
            height: height.max(180),
            title: String::new(),
            marks: Vec::new(),
            texts: Vec::new(),
        }
    }

    pub fn frame(&self) -> Rect {
        Rect { left: 0.0, top: 0.0, right: self.width.into(), bottom: self.height.into() }
    }

    pub fn line(&mut self, points: &[Point], width: f64, colour: Colour) {
        self.marks.push(Mark::Line { points: points.to_vec(), width, colour });
    }

    pub fn area(&mut self, points: &[Point], colour: Colour) {
        self.marks.push(Mark::Area { points: points.to_vec(), colour });
    }
}

impl Text {
    /// Regular black text that starts at a point. Characters that cannot be drawn become spaces.
    pub fn new(words: &str, at: Point, size: f64) -> Text {
        let words = words.chars().map(|letter| if unprintable(letter) { ' ' } else { letter }).collect();
        Text { words, at, size, weight: Weight::Regular, colour: BLACK, anchor: Anchor::Start, upwards: false }
    }

    pub fn width(&self) -> f64 {
        text::width(&self.words, self.size, self.weight)
    }

    /// The distance from the start of the text to its point, in the reading direction.
    pub fn lead(&self) -> f64 {
        match self.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => self.width() / 2.0,
            Anchor::End => self.width(),
        }
    }

    /// The box from the top of the tallest letter to the bottom of the deepest.
    #[cfg(test)]
    pub fn bounds(&self) -> Rect {
        let (along, before) = (self.width(), self.lead());
        let (up, down) = (text::ASCENT * self.size, text::DESCENT * self.size);
        let (x, y) = self.at;
        match self.upwards {
            false => Rect { left: x - before, right: x - before + along, top: y - up, bottom: y + down },
            true => Rect { left: x - up, right: x + down, top: y + before - along, bottom: y + before },
        }
    }
}

impl Rect {
    pub fn width(&self) -> f64 {
        self.right - self.left
    }

    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub fn centre(&self) -> Point {
        ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0)
    }

    /// Its four corners, clockwise from the upper left.
    pub fn corners(&self) -> [Point; 4] {
        [(self.left, self.top), (self.right, self.top), (self.right, self.bottom), (self.left, self.bottom)]
    }

    pub fn inset(&self, by: f64) -> Rect {
        Rect { left: self.left + by, top: self.top + by, right: self.right - by, bottom: self.bottom - by }
    }
}

/// Characters that have no glyph or that XML forbids.
fn unprintable(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
impl Drawing {
    /// Checks that no two texts overlap, and that all are within the frame.
    pub fn check_texts_apart(&self) {
        let (frame, Drawing { width, height, .. }) = (self.frame(), self);
        let bounds: Vec<_> = self.texts.iter().map(|text| (&text.words, text.bounds())).collect();
        for (index, (words, a)) in bounds.iter().enumerate() {
            let inside = a.left >= 0.0 && a.top >= 0.0 && a.right <= frame.right && a.bottom <= frame.bottom;
            assert!(inside, "{words:?} at {a:?} in {width} x {height}");
            for (others, b) in &bounds[index + 1..] {
                let apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
                assert!(apart, "{words:?} {a:?} and {others:?} {b:?} in {width} x {height}");
            }
        }
    }
}
