//! Pictures in labelled rows and columns.

use image::{Rgb, RgbImage};

use crate::Colours;
use crate::drawing::{Anchor, Colour, GREY, Rect, Text};
use crate::key::Key;
use crate::paint::blank;
use crate::text::{self, ASCENT, LEADING, Weight};

/// Pictures in labelled rows and columns, each with its caption under it.
///
/// Pictures of one grid can differ in size; each is centred in its cell. A missing picture is drawn as hatching. If the
/// grid has row or column labels, every labelled cell is drawn, whether it has a picture or not.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// The title above the grid.
    pub title: Option<String>,
    /// The number of columns; 0 counts as 1.
    pub columns: usize,
    /// The pictures, row by row.
    pub cells: Vec<Tile>,
    /// The label of each row; may be empty.
    pub row_labels: Vec<String>,
    /// The label of each column; may be empty.
    pub column_labels: Vec<String>,
    /// Pixels of the grid for each pixel of a picture, in both directions; 0 counts as 1.
    pub scale: u32,
}

/// A picture and its caption.
#[derive(Clone, Debug, Default)]
pub struct Tile {
    /// The picture. One without pixels is a missing picture.
    pub image: RgbImage,
    /// The text under the picture, wrapped to its width.
    pub caption: String,
    pub(crate) key: Option<Key>,
}

impl Tile {
    /// A picture and its caption.
    pub fn new(image: RgbImage, caption: impl Into<String>) -> Tile {
        Tile { image, caption: caption.into(), key: None }
    }

    /// Puts a colour bar under the picture of a map. `limits` are the numbers of the first and the last colour, as in
    /// [`overlay()`](crate::overlay()). There is no bar if one of them is not a finite number.
    pub fn with_scale(self, limits: (f64, f64), colours: Colours) -> Tile {
        Tile { key: Key::new(limits, colours), ..self }
    }

    /// A missing picture with its caption.
    pub fn missing(caption: impl Into<String>) -> Tile {
        Tile::new(RgbImage::default(), caption)
    }

    fn is_missing(&self) -> bool {
        self.image.width() == 0 || self.image.height() == 0
    }
}

impl Grid {
    /// Draws the grid.
    pub fn render(&self) -> RgbImage {
        let layout = self.layout();
        let mut image = blank(layout.width, layout.height);
        for (index, place) in &layout.places {
            match self.cells.get(*index).filter(|tile| !tile.is_missing()) {
                Some(tile) => enlarge(&mut image, &tile.image, *place, self.scale()),
                None => hatch(&mut image, *place),
            }
        }
        for (key, bar) in &layout.bars {
            key.paint(&mut image, *bar);
        }
        for text in &layout.texts {
            text::draw(&mut image, text, 1.0);
        }
        image
    }

    /// Width and height of the drawn grid in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        let layout = self.layout();
        (layout.width, layout.height)
    }

    fn scale(&self) -> u32 {
        self.scale.max(1)
    }

    /// The numbers of rows and columns, including labelled rows without pictures.
    pub(crate) fn shape(&self) -> (usize, usize) {
        let columns = self.columns.max(1);
        (self.cells.len().div_ceil(columns).max(self.row_labels.len()), columns)
    }

    /// The largest width and the largest height of the pictures, enlarged.
    fn largest(&self) -> (u32, u32) {
        let shown = self.cells.iter().filter(|tile| !tile.is_missing());
        let sizes = shown.map(|tile| (tile.image.width() * self.scale(), tile.image.height() * self.scale()));
        match sizes.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))) {
            Some((width, height)) => (width, height),
            None => (128, 128),
        }
    }

    fn layout(&self) -> Layout {
        let (rows, columns) = self.shape();
        let picture = self.largest();
        let across = f64::from(picture.0.max(NARROWEST));
        let size = (across / 22.0).round().clamp(13.0, 28.0);
        let widest = |label: &String| text::width(label, size, Weight::Bold).min(across.max(180.0)).ceil();
        let beside = self.row_labels.iter().map(widest).fold(0.0, f64::max);
        let left = MARGIN + if beside > 0.0 { beside + GAP } else { 0.0 };
        let width = left + columns as f64 * (across + GAP) - GAP + MARGIN;
        let mut layout =
            Layout { width: width as u32, height: 0, places: Vec::new(), bars: Vec::new(), texts: Vec::new() };

        let mut top = self.head(&mut layout, left, across, size);
        for row in 0..rows {
            let label = self.row_labels.get(row).map_or("", String::as_str);
            let lines = text::wrap(label, size, Weight::Bold, beside.max(1.0));
            let spare = f64::from(picture.1) - lines.len() as f64 * size * LEADING;
            let from = (left - GAP, top + spare.max(0.0) / 2.0);
            let end = layout.column(&lines, from, size, Weight::Bold, Anchor::End);
            top = self.row(&mut layout, row, (left, top), across, size).max(end) + GAP;
        }
        let end = if rows > 0 { top - GAP } else { top };
        layout.height = (end + MARGIN).ceil() as u32;
        layout
    }

    /// Places the title and the column labels, and returns the y coordinate below them.
    fn head(&self, layout: &mut Layout, left: f64, across: f64, size: f64) -> f64 {
        let width = f64::from(layout.width);
        let title = self.title.as_deref().unwrap_or_default();
        let large = (size * 1.25).round();
        let lines = text::wrap(title, large, Weight::Bold, width - 2.0 * MARGIN);
        let mut top = layout.column(&lines, (width / 2.0, MARGIN), large, Weight::Bold, Anchor::Middle);
        top += if lines.is_empty() { 0.0 } else { GAP };

        let labels: Vec<_> = self
            .column_labels
            .iter()
            .take(self.shape().1)
            .map(|label| text::wrap(label, size, Weight::Bold, across))
            .collect();
        let head = labels.iter().map(Vec::len).max().unwrap_or(0);
        for (column, lines) in labels.iter().enumerate() {
            let middle = left + column as f64 * (across + GAP) + across / 2.0;
            let from = top + (head - lines.len()) as f64 * size * LEADING; // aligned at the bottom
            layout.column(lines, (middle, from), size, Weight::Bold, Anchor::Middle);
        }
        top + if head > 0 { head as f64 * size * LEADING + 4.0 } else { 0.0 }
    }

    /// Places one row of pictures and captions, and returns the y coordinate below it.
    fn row(&self, layout: &mut Layout, row: usize, from: (f64, f64), across: f64, size: f64) -> f64 {
        let (_, columns) = self.shape();
        let picture = self.largest();
        let table = !self.row_labels.is_empty() || !self.column_labels.is_empty();
        let below = from.1 + f64::from(picture.1);
        let is_keyed = self.cells.iter().skip(row * columns).take(columns).any(|tile| tile.key.is_some());
        let mut end = below + if is_keyed { Key::height(size) } else { 0.0 };
        let captions = end + 4.0;
        for column in 0..columns {
            let index = row * columns + column;
            let tile = self.cells.get(index);
            if tile.is_none() && !table {
                break;
            }
            let left = from.0 + column as f64 * (across + GAP);
            let present = tile.filter(|tile| !tile.is_missing());
            let (width, height) =
                present.map_or(picture, |tile| (tile.image.width() * self.scale(), tile.image.height() * self.scale()));
            let x = (left + (across - f64::from(width)) / 2.0).floor();
            let y = (from.1 + f64::from(picture.1 - height) / 2.0).floor();
            let place = Rect { left: x, top: y, right: x + f64::from(width), bottom: y + f64::from(height) };
            layout.places.push((index, place));
            if present.is_none() {
                let text = Text::new("missing", (place.centre().0, place.centre().1 + 4.0), size.min(16.0));
                layout.texts.push(Text { anchor: Anchor::Middle, colour: GREY, ..text });
            }
            if let Some(key) = present.and_then(|tile| tile.key) {
                let width = place.width().max(f64::from(NARROWEST));
                layout.key(key, Key::bar((left + (across - width) / 2.0).floor(), width, below), size);
            }
            let lines = text::wrap(tile.map_or("", |tile| &tile.caption), size, Weight::Regular, across);
            let under = layout.column(&lines, (left + across / 2.0, captions), size, Weight::Regular, Anchor::Middle);
            end = if lines.is_empty() { end } else { end.max(under) };
        }
        end
    }
}

/// Draws pictures in one row, or in several if one would be wider than about 1600 pixels.
///
/// The captions belong to the pictures in order. There may be fewer captions than pictures.
pub fn strip(images: &[RgbImage], captions: &[String], scale: u32) -> RgbImage {
    let caption = |index: usize| captions.get(index).cloned().unwrap_or_default();
    let cells = images.iter().enumerate().map(|(index, image)| Tile::new(image.clone(), caption(index))).collect();
    let mut grid = Grid { cells, columns: 1, scale, ..Grid::default() };
    let across = f64::from(grid.largest().0.max(NARROWEST)) + GAP;
    let most = ((1600.0 + GAP - 2.0 * MARGIN) / across) as usize;
    grid.columns = most.clamp(1, images.len().max(1));
    grid.render()
}

const MARGIN: f64 = 18.0;
const GAP: f64 = 12.0;
/// The least width, in pixels, to which a caption is wrapped.
const NARROWEST: u32 = 96;

struct Layout {
    width: u32,
    height: u32,
    places: Vec<(usize, Rect)>, // the index of a tile, and where its picture goes
    bars: Vec<(Key, Rect)>,
    texts: Vec<Text>,
}

impl Layout {
    fn key(&mut self, key: Key, bar: Rect, size: f64) {
        self.texts.extend(key.numbers(bar, size));
        self.bars.push((key, bar));
    }

    /// Adds lines of text under each other, and returns the y coordinate below them.
    fn column(&mut self, lines: &[String], from: (f64, f64), size: f64, weight: Weight, anchor: Anchor) -> f64 {
        for (index, line) in lines.iter().enumerate() {
            let at = (from.0, from.1 + size * (ASCENT + LEADING * index as f64));
            self.texts.push(Text { weight, anchor, ..Text::new(line, at, size) });
        }
        from.1 + lines.len() as f64 * size * LEADING
    }
}

fn enlarge(onto: &mut RgbImage, image: &RgbImage, place: Rect, scale: u32) {
    let (left, top) = (place.left as u32, place.top as u32);
    for y in 0..image.height() * scale {
        for x in 0..image.width() * scale {
            onto.put_pixel(left + x, top + y, *image.get_pixel(x / scale, y / scale));
        }
    }
}

fn hatch(onto: &mut RgbImage, place: Rect) {
    for y in place.top as u32..place.bottom as u32 {
        for x in place.left as u32..place.right as u32 {
            onto.put_pixel(x, y, Rgb(hatched(x, y)));
        }
    }
}

/// The colour of a pixel of the hatching.
pub(crate) fn hatched(x: u32, y: u32) -> Colour {
    const GROUND: Colour = [0xf6; 3];
    const LINES: Colour = [0xe4; 3];
    if (x + y) % 12 < 2 { LINES } else { GROUND }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 7 + seed) as u8, (y * 5) as u8, (seed * 40) as u8]))
    }

    fn grids() -> Vec<Grid> {
        let long = "guidance 7.5, negative prompt \"blurry, low quality\", seed 193, scheduler pndm";
        let mut grids = Vec::new();
        for (width, height, scale) in [(64, 64, 1), (64, 64, 3), (512, 300, 1), (8, 200, 0)] {
            for caption in ["", "seed 193", long] {
                for labels in [0, 2] {
                    let mut cells: Vec<_> = (0..5).map(|i| Tile::new(picture(width, height, i), caption)).collect();
                    cells[2] = Tile::missing(caption);
                    cells[3].image = picture(width / 2, height / 2 + 1, 9);
                    cells[3] = cells[3].clone().with_scale((0.125, 3e-9), Colours::Sequential);
                    grids.push(Grid {
                        title: Some(long.into()),
                        columns: 3,
                        cells,
                        row_labels: vec![long.into(); labels],
                        column_labels: vec![long.into(); labels],
                        scale,
                    });
                }
            }
        }
        grids
    }

    #[test]
    fn nothing_overlaps_and_nothing_is_clipped() {
        for grid in grids() {
            let layout = grid.layout();
            let frame = Rect { left: 0.0, top: 0.0, right: layout.width.into(), bottom: layout.height.into() };
            let pictures = layout.places.iter().map(|(index, place)| (index.to_string(), *place));
            let texts = layout.texts.iter().filter(|text| text.words != "missing");
            let bars = layout.bars.iter().map(|(key, place)| (format!("{key:?}"), *place));
            let boxes: Vec<_> =
                pictures.chain(bars).chain(texts.map(|text| (text.words.clone(), text.bounds()))).collect();
            for (index, (name, a)) in boxes.iter().enumerate() {
                let inside =
                    a.left >= 8.0 && a.top >= 8.0 && a.right <= frame.right - 8.0 && a.bottom <= frame.bottom - 8.0;
                assert!(inside, "{name} {a:?} in {frame:?}");
                for (other, b) in &boxes[index + 1..] {
                    let apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
                    assert!(apart, "{name} {a:?} and {other} {b:?}");
                }
            }
        }
    }

    #[test]
    fn every_picture_is_found_enlarged_at_its_place() {
        for grid in grids() {
            let image = grid.render();
            for (index, place) in grid.layout().places {
                let Some(tile) = grid.cells.get(index).filter(|tile| !tile.is_missing()) else { continue };
                let scale = grid.scale.max(1);
                assert_eq!(place.width(), f64::from(tile.image.width() * scale));
                for (x, y) in [(0, 0), (tile.image.width() * scale - 1, tile.image.height() * scale - 1), (5, 9)] {
                    let shown = image.get_pixel(place.left as u32 + x, place.top as u32 + y);
                    let (x, y) = (x / scale, y / scale);
                    if x < tile.image.width() && y < tile.image.height() {
                        assert_eq!(shown, tile.image.get_pixel(x, y), "tile {index} at {x}, {y}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_plain_grid_has_the_size_that_its_parts_add_up_to() {
        let cells = (0..4).map(|i| Tile::new(picture(100, 80, i), "")).collect();
        let grid = Grid { columns: 2, cells, scale: 2, ..Grid::default() };
        assert_eq!(grid.render().dimensions(), (18 + 200 + 12 + 200 + 18, 18 + 160 + 12 + 160 + 18));
    }

    #[test]
    fn a_caption_has_ink_in_its_box() {
        let tile = Tile::new(picture(64, 64, 1), "seed 193");
        let grid = Grid { columns: 1, cells: vec![tile], scale: 1, ..Grid::default() };
        let (image, bounds) = (grid.render(), grid.layout().texts[0].bounds());
        let ink = |(x, y, pixel): &(u32, u32, &Rgb<u8>)| {
            let (x, y) = (f64::from(*x), f64::from(*y));
            pixel.0[0] < 100 && x >= bounds.left && x <= bounds.right && y >= bounds.top && y <= bounds.bottom
        };
        assert!(image.enumerate_pixels().filter(ink).count() > 60);
        assert!(grid.layout().texts[0].size >= 13.0);
    }

    #[test]
    fn a_scale_is_under_its_picture_and_captions_of_a_row_stay_in_line() {
        let tile = |caption: &str| Tile::new(picture(128, 128, 1), caption);
        let cells = vec![tile("the picture"), tile("red").with_scale((0.0, 2.0), Colours::Sequential), tile("under")];
        let grid = Grid { columns: 2, cells, scale: 1, ..Grid::default() };
        let layout = grid.layout();
        let [(_, bar)] = layout.bars[..] else { panic!("{} bars", layout.bars.len()) };
        let pictures: Vec<Rect> = layout.places.iter().map(|(_, place)| *place).collect();
        assert!(bar.top > pictures[1].bottom && bar.left == pictures[1].left && bar.width() == 128.0);
        let at = |words: &str| layout.texts.iter().find(|text| text.words == words).expect(words).at;
        assert_eq!(at("the picture").1, at("red").1);
        assert!(at("0").1 > bar.bottom && at("0").1 < at("red").1 && at("2").1 == at("0").1);
        assert!(at("under").1 - pictures[2].bottom < at("red").1 - pictures[1].bottom, "a row without maps has no gap");
        let image = grid.render();
        let inner = image.get_pixel(bar.right as u32 - 3, bar.centre().1 as u32).0;
        assert!(inner[0] > 230 && inner[2] < 60, "{inner:?} is the yellow of the largest value");
        assert!(tile("").with_scale((f64::NAN, 1.0), Colours::Sequential).key.is_none());
    }

    #[test]
    fn a_labelled_table_shows_its_empty_places_and_an_unlabelled_one_has_none() {
        let cells = |count| (0..count).map(|i| Tile::new(picture(64, 64, i), "")).collect::<Vec<_>>();
        let plain = Grid { columns: 2, cells: cells(3), scale: 1, ..Grid::default() };
        assert_eq!(plain.layout().places.len(), 3);
        let labels = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let table = Grid { row_labels: labels, ..plain };
        assert_eq!(table.layout().places.len(), 6);
        assert_eq!(table.layout().texts.iter().filter(|text| text.words == "missing").count(), 3);
    }

    #[test]
    fn a_strip_wraps_before_it_is_too_wide() {
        let images = vec![picture(64, 64, 0); 60];
        let image = strip(&images, &["first".into()], 2);
        assert!((1400..=1600).contains(&image.width()), "{}", image.width());
        assert!(image.height() > 5 * 128);
        assert!(strip(&images[..3], &[], 2).width() < 500);
        assert!(strip(&[picture(2000, 10, 0)], &[], 1).width() > 2000);
    }

    #[test]
    fn nothing_at_all_is_still_a_picture() {
        for grid in [Grid::default(), Grid { cells: vec![Tile::missing("")], ..Grid::default() }] {
            assert!(grid.render().width() > 0 && grid.render().height() > 0);
        }
        assert!(strip(&[], &[], 1).height() > 0);
    }
}
