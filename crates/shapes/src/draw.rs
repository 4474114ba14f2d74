//! Draws a scene as pixels.

use crate::scene::{Position, Scene, Shape, Size};
use crate::stream::Stream;

/// The pixels of a picture: rows from the top, pixels from the left, red, green and blue of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * 3` bytes.
    pub pixels: Vec<u8>, // [height, width, 3]
}

/// Every length of the world is in units of this part of a picture's side, so that pictures of all sizes show the same.
pub(crate) const UNITS: f64 = 64.0;

impl Canvas {
    /// The colour of one pixel.
    ///
    /// # Panics
    /// If the pixel is outside the picture.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width, "column {x} of a picture {} wide", self.width);
        let start = (y * self.width + x) * 3;
        [self.pixels[start], self.pixels[start + 1], self.pixels[start + 2]]
    }
}

/// The random part of a drawing: a thing is up to a 32nd of the side away from its anchor in each direction, and its
/// radius differs by up to 4 %.
#[derive(Clone, Debug)]
pub struct Jitter {
    stream: Option<Stream>,
}

impl Jitter {
    /// The jitter of a seed.
    pub fn new(seed: u64) -> Jitter {
        Jitter::from(Stream::new(seed))
    }

    /// No jitter: everything is at its anchor and has its nominal size.
    pub fn still() -> Jitter {
        Jitter { stream: None }
    }

    /// A number in [-1, 1), or 0 without jitter.
    fn next(&mut self) -> f64 {
        self.stream.as_mut().map_or(0.0, Stream::signed)
    }
}

impl From<Stream> for Jitter {
    fn from(stream: Stream) -> Jitter {
        Jitter { stream: Some(stream) }
    }
}

impl Scene {
    /// Draws the scene in `side` x `side` pixels, with edges smoothed by 4x4 samples per pixel. Things are inside the frame
    /// and never touch (in pictures of at least 32 pixels).
    pub fn draw(&self, side: usize, jitter: &mut Jitter) -> Canvas {
        let unit = side as f64 / UNITS; // in pixels
        let pixels = self.background.rgb().repeat(side * side);
        let mut picture = Canvas { width: side, height: side, pixels };
        let alone = self.things.len() == 1;
        for thing in &self.things {
            let (x, y) = thing.position.anchor(alone);
            let centre = (x + 2.0 * jitter.next(), y + 2.0 * jitter.next());
            let radius = thing.size.radius(alone) * (1.0 + 0.04 * jitter.next());
            let centre = (unit * centre.0, unit * centre.1);
            let silhouette = Silhouette { shape: thing.shape, centre, radius: unit * radius };
            for (place, pixel) in picture.pixels.chunks_exact_mut(3).enumerate() {
                let covered = silhouette.covers(place % side, place / side);
                for (value, ink) in pixel.iter_mut().zip(thing.colour.rgb()) {
                    let sum = u32::from(*value) * (16 - covered) + u32::from(ink) * covered;
                    *value = ((sum + 8) / 16) as u8;
                }
            }
        }
        picture
    }
}

/// A shape with a position and a size, in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silhouette {
    pub(crate) shape: Shape,
    pub(crate) centre: (f64, f64),
    pub(crate) radius: f64,
}

impl Silhouette {
    /// How many of a pixel's 4x4 samples are inside.
    pub(crate) fn covers(&self, x: usize, y: usize) -> u32 {
        let (left, top) = (x as f64 - self.centre.0, y as f64 - self.centre.1);
        let reach = self.radius + 1.0;
        if left.abs() > reach || top.abs() > reach {
            return 0;
        }
        let at = |start: f64, sample: u32| (start + 0.125 + 0.25 * f64::from(sample)) / self.radius;
        (0..16).filter(|sample| self.shape.contains(at(left, sample % 4), at(top, sample / 4))).count() as u32
    }
}

impl Shape {
    const SQUARE: f64 = 0.88; // half a side
    const TRIANGLE: f64 = 0.9; // half the height; half the base is 1
    const ARM: f64 = 0.34; // half the width of an arm of the cross

    /// Whether the shape with radius 1 at the origin contains a point; y goes down. All shapes are within -1..1 in x
    /// and y.
    fn contains(self, x: f64, y: f64) -> bool {
        let (across, along) = (x.abs(), y.abs());
        match self {
            Shape::Circle => x * x + y * y <= 1.0,
            Shape::Square => across <= Shape::SQUARE && along <= Shape::SQUARE,
            Shape::Triangle => along <= Shape::TRIANGLE && across <= (y + Shape::TRIANGLE) / (2.0 * Shape::TRIANGLE),
            Shape::Cross => across.min(along) <= Shape::ARM && across.max(along) <= 1.0,
        }
    }

    /// The area at radius 1.
    pub(crate) fn area(self) -> f64 {
        match self {
            Shape::Circle => std::f64::consts::PI,
            Shape::Square => 4.0 * Shape::SQUARE * Shape::SQUARE,
            Shape::Triangle => 2.0 * Shape::TRIANGLE,
            Shape::Cross => 8.0 * Shape::ARM - 4.0 * Shape::ARM * Shape::ARM,
        }
    }

    /// How far the centre of mass is below the centre at radius 1.
    pub(crate) fn sag(self) -> f64 {
        match self {
            Shape::Triangle => Shape::TRIANGLE / 3.0,
            Shape::Circle | Shape::Square | Shape::Cross => 0.0,
        }
    }
}

impl Size {
    /// The radius between small and large.
    pub(crate) const BETWEEN: f64 = 10.2;

    /// The radius in units.
    fn radius(self, alone: bool) -> f64 {
        match (self, alone) {
            (Size::Small, _) => 8.5,
            (Size::Large, true) => 14.3,
            (Size::Large, false) => 12.2,
        }
    }
}

impl Position {
    /// The anchor of a thing, in units. Two things are a little further from the centre than one.
    pub(crate) fn anchor(self, alone: bool) -> (f64, f64) {
        let middle = UNITS / 2.0;
        let out = if alone { 15.0 } else { 16.0 };
        match self {
            Position::Left => (middle - out, middle),
            Position::Right => (middle + out, middle),
            Position::Top => (middle, middle - out),
            Position::Bottom => (middle, middle + out),
            Position::Centre => (middle, middle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a thing can extend from its anchor with any jitter.
    fn reach(size: Size, alone: bool) -> f64 {
        2.0 + 1.04 * size.radius(alone)
    }

    #[test]
    fn no_jitter_moves_a_thing_out_of_the_frame() {
        for (position, size, alone) in Position::ALL
            .into_iter()
            .flat_map(|position| Size::ALL.map(|size| (position, size)))
            .flat_map(|(position, size)| [(position, size, true), (position, size, false)])
        {
            let (x, y) = position.anchor(alone);
            let reach = reach(size, alone);
            let low = x.min(y) - reach;
            let high = x.max(y) + reach;
            assert!(low >= 0.0 && high <= UNITS, "{size} {position}: from {low} to {high}");
        }
    }

    #[test]
    fn no_jitter_joins_two_things() {
        let (left, right) = (Position::Left.anchor(false).0, Position::Right.anchor(false).0);
        let gap = right - left - 2.0 * reach(Size::Large, false);
        assert!(gap > 2.0, "{gap} units between two large things");
    }

    #[test]
    fn sizes_never_overlap() {
        let largest_small = 1.04 * Size::Small.radius(true);
        let smallest_large = 0.96 * Size::Large.radius(false);
        assert!(largest_small < 0.9 * Size::BETWEEN && Size::BETWEEN < 0.9 * smallest_large);
    }

    /// Areas, centres of mass and extents of the ideal silhouettes, counted on a fine grid.
    #[test]
    fn areas_and_sags_are_those_of_the_silhouettes() {
        let steps = 2400;
        let at = |step: usize| 1.2 * (2.0 * (step as f64 + 0.5) / f64::from(steps as u32) - 1.0);
        let cell = (2.4 / f64::from(steps as u32)).powi(2);
        for shape in Shape::ALL {
            let (mut area, mut moment) = (0.0, 0.0);
            for (x, y) in (0..steps).flat_map(|row| (0..steps).map(move |column| (at(column), at(row)))) {
                if shape.contains(x, y) {
                    assert!(x.abs() <= 1.0 && y.abs() <= 1.0, "{shape} reaches to {x}, {y}");
                    area += cell;
                    moment += cell * y;
                }
            }
            assert!((area - shape.area()).abs() < 2e-3 * area, "{shape}: area {area}, not {}", shape.area());
            assert!((moment / area - shape.sag()).abs() < 2e-3, "{shape}: sag {}, not {}", moment / area, shape.sag());
        }
    }
}
