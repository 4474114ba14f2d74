//! The checker: from pixels to a scene. It knows the palette, the silhouettes and the anchors, but not the scene.

use serde::{Deserialize, Serialize};
use std::ops::Range;

use crate::draw::{Canvas, Silhouette, UNITS};
use crate::scene::{Colour, Position, Shape, Size, Thing};

/// What is seen in a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenScene {
    /// The palette colour of the majority of the border.
    pub background: Colour,
    /// The background's actual red, green and blue, 0 to 255.
    pub paper: [f64; 3],
    /// Everything that differs from the background, from the top left to the bottom right.
    pub things: Vec<SeenThing>,
}

/// One thing that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenThing {
    /// The nearest thing of the world.
    pub thing: Thing,
    /// The intersection over union with the ideal silhouette; 1 is perfect.
    pub iou: f64,
    /// By how much that is better than for the second best shape; near 0 the shape is a guess.
    pub margin: f64,
    /// Its centre in pixels.
    pub centre: (f64, f64),
    /// Its radius in pixels.
    pub radius: f64,
    /// Its actual red, green and blue, 0 to 255.
    pub ink: [f64; 3],
}

/// Reads a picture from its pixels alone.
///
/// The background is the majority of the border. The pixels that differ from it are split into connected pieces. A
/// piece has the palette colour nearest to the median of its inner pixels, and the shape whose ideal silhouette, with
/// the area and centre of mass of the piece, overlaps it best. Areas and centres of mass use the *share* of each pixel
/// that is covered, so that soft edges do not change them. Lengths scale with the width of the picture.
///
/// # Panics
/// If the picture is empty or its pixels are not `width * height * 3` bytes.
pub fn look(picture: &Canvas) -> SeenScene {
    let Canvas { width, height, ref pixels } = *picture;
    assert!(width > 0 && height > 0, "a picture of {width} x {height} pixels");
    assert_eq!(pixels.len(), width * height * 3, "bytes of a picture of {width} x {height} pixels");
    let field = Field { width, height, pixels: pixels.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect() };
    let (background, paper) = field.background();
    let pieces = field.pieces(paper);
    let mut things: Vec<SeenThing> =
        (0..pieces.count).filter_map(|piece| field.thing(&pieces.labels, piece, paper)).collect();
    things.sort_by(|a, b| (a.centre.0 + a.centre.1).total_cmp(&(b.centre.0 + b.centre.1)));
    SeenScene { background, paper, things }
}

const STANDS_OUT: f64 = 45.0; // RGB distance, half of the least distance of two palette colours
const STANDS_OUT_OF_ITS_BEST: f64 = 0.4; // of the largest distance nearby, so that soft edges join no pieces
const SPECK: f64 = 20.0; // square units

/// The pixels of the picture.
struct Field {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>, // [height * width]
}

/// Connected pieces of the pixels that differ from the background.
struct Pieces {
    labels: Vec<Option<usize>>, // [height * width]
    count: usize,
}

/// A rectangle of pixels.
struct Bounds {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Bounds {
    fn contains(&self, x: usize, y: usize) -> bool {
        self.columns.contains(&x) && self.rows.contains(&y)
    }
}

impl Field {
    /// The background's palette colour, and its actual colour in the picture (`paper`).
    fn background(&self) -> (Colour, [f64; 3]) {
        let near_edge = |at: usize, length: usize| at < 2 || at + 2 >= length;
        let border: Vec<[u8; 3]> = (0..self.pixels.len())
            .filter(|place| near_edge(place % self.width, self.width) || near_edge(place / self.width, self.height))
            .map(|place| self.pixels[place])
            .collect();
        let named: Vec<Colour> = border.iter().map(|&pixel| nearest_colour(pixel.map(f64::from))).collect();
        let votes = |colour: &Colour| named.iter().filter(|name| *name == colour).count();
        let colour = Colour::ALL.into_iter().max_by_key(votes).expect("a palette");
        let voters = border.iter().zip(&named).filter(|(_, name)| **name == colour).map(|(pixel, _)| *pixel);
        (colour, median(voters.collect()))
    }

    /// Connected pieces of the pixels that differ from the background.
    fn pieces(&self, paper: [f64; 3]) -> Pieces {
        let contrast: Vec<f64> = self.pixels.iter().map(|pixel| distance(pixel.map(f64::from), paper)).collect();
        let stands_out = |place: usize| {
            let best = || self.around(place, 2).map(|near| contrast[near]).fold(0.0, f64::max);
            contrast[place] > STANDS_OUT && contrast[place] > STANDS_OUT_OF_ITS_BEST * best()
        };
        let mut open: Vec<bool> = (0..self.pixels.len()).map(stands_out).collect();
        let mut pieces = Pieces { labels: vec![None; self.pixels.len()], count: 0 };
        for start in 0..open.len() {
            let mut found = if std::mem::take(&mut open[start]) {
                vec![start]
            } else {
                continue;
            };
            while let Some(place) = found.pop() {
                pieces.labels[place] = Some(pieces.count);
                let sides = self
                    .around(place, 1)
                    .filter(|near| near % self.width == place % self.width || near / self.width == place / self.width);
                found.extend(sides.filter(|&near| std::mem::take(&mut open[near])));
            }
            pieces.count += 1;
        }
        pieces
    }

    /// The thing that a piece shows; `None` if the piece is too small.
    fn thing(&self, labels: &[Option<usize>], piece: usize, paper: [f64; 3]) -> Option<SeenThing> {
        let scale = self.width as f64 / UNITS;
        let own = |place: usize| labels[place] == Some(piece);
        let places: Vec<usize> = (0..labels.len()).filter(|&place| own(place)).collect();
        if (places.len() as f64) < SPECK * scale * scale {
            return None;
        }

        let inner: Vec<usize> = places
            .iter()
            .copied()
            .filter(|&place| self.around(place, 1).filter(|&near| own(near)).count() == 9)
            .collect();
        let telling = if inner.len() < 5 { &places } else { &inner };
        let ink = median(telling.iter().map(|&place| self.pixels[place]).collect());

        // The share of ink in each pixel, with more contrast, so that noise on either side has no effect.
        let direction: [f64; 3] = std::array::from_fn(|c| ink[c] - paper[c]);
        let length: f64 = direction.iter().map(|d| d * d).sum();
        let bounds = self.bounds(&places);
        let coverage: Vec<f64> = (0..labels.len())
            .map(|place| {
                let is_near = bounds.contains(place % self.width, place / self.width);
                let rim = is_near && labels[place].is_none() && self.around(place, 1).any(own);
                if !own(place) && !rim {
                    return 0.0;
                }
                let along: f64 = (0..3).map(|c| (f64::from(self.pixels[place][c]) - paper[c]) * direction[c]).sum();
                (2.0 * (along / length) - 0.5).clamp(0.0, 1.0)
            })
            .collect();
        let area: f64 = coverage.iter().sum();
        if area < SPECK * scale * scale {
            return None;
        }
        let mean = |at: &dyn Fn(usize) -> usize| {
            coverage.iter().enumerate().map(|(place, share)| share * (at(place) as f64 + 0.5)).sum::<f64>() / area
        };
        let (x, y) = (mean(&|place| place % self.width), mean(&|place| place / self.width));

        let mut fits = Shape::ALL.map(|shape| {
            let radius = (area / shape.area()).sqrt();
            let silhouette = Silhouette { shape, centre: (x, y - shape.sag() * radius), radius };
            (self.overlap(&coverage, &silhouette), silhouette)
        });
        fits.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (iou, Silhouette { shape, centre, radius }) = fits[0];
        let size = if radius < Size::BETWEEN * scale { Size::Small } else { Size::Large };
        let away = |position: &Position| {
            let (x, y) = position.anchor(true);
            (x * scale - centre.0).powi(2) + (y * scale - centre.1).powi(2)
        };
        let position = Position::ALL.into_iter().min_by(|a, b| away(a).total_cmp(&away(b))).expect("positions");
        let thing = Thing { shape, colour: nearest_colour(ink), size, position };
        Some(SeenThing { thing, iou, margin: iou - fits[1].0, centre, radius, ink })
    }

    /// The columns and rows that some pixels and those around them are in.
    fn bounds(&self, places: &[usize]) -> Bounds {
        let around = |along: &dyn Fn(usize) -> usize| {
            let all = || places.iter().map(|&place| along(place));
            all().min().unwrap_or(0).saturating_sub(1)..all().max().unwrap_or(0) + 2
        };
        Bounds { columns: around(&|place| place % self.width), rows: around(&|place| place / self.width) }
    }

    /// Intersection over union of the coverage and a silhouette.
    fn overlap(&self, coverage: &[f64], silhouette: &Silhouette) -> f64 {
        let (mut both, mut either) = (0.0, 0.0);
        for (y, row) in coverage.chunks_exact(self.width).enumerate() {
            for (x, &share) in row.iter().enumerate() {
                let ideal = f64::from(silhouette.covers(x, y)) / 16.0;
                both += share.min(ideal);
                either += share.max(ideal);
            }
        }
        both / either
    }

    /// A pixel and those around it, up to `reach` away in both directions, inside the picture.
    fn around(&self, place: usize, reach: usize) -> impl Iterator<Item = usize> + use<> {
        let (width, x, y) = (self.width, place % self.width, place / self.width);
        let columns = x.saturating_sub(reach)..(x + reach + 1).min(self.width);
        let rows = y.saturating_sub(reach)..(y + reach + 1).min(self.height);
        rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
    }
}

fn nearest_colour(rgb: [f64; 3]) -> Colour {
    let away = |colour: &Colour| distance(colour.rgb().map(f64::from), rgb);
    Colour::ALL.into_iter().min_by(|a, b| away(a).total_cmp(&away(b))).expect("a palette")
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|c| (a[c] - b[c]).powi(2)).sum::<f64>().sqrt()
}

/// The median of each channel.
fn median(pixels: Vec<[u8; 3]>) -> [f64; 3] {
    std::array::from_fn(|c| {
        let mut values: Vec<u8> = pixels.iter().map(|pixel| pixel[c]).collect();
        let middle = values.len() / 2;
        f64::from(*values.select_nth_unstable(middle).1)
    })
}
