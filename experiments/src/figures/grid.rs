//! The figure `grid`: the pictures of an experiment in labelled rows and columns.

use super::Finished;
use crate::previews::enlargement;
use anyhow::{Context, Result};
use latentrace_plot::{Grid, RgbImage, Tile, save_png};
use std::path::{Path, PathBuf};

/// The largest side of a page in pixels. Some programs cannot open a larger picture.
const LARGEST: u32 = 8000;

/// Writes the grid of the cells' pictures. The columns are the last field that varies, and the rows all others; a
/// single field is wrapped after the number of columns in the spec. A cell that is excluded or failed is hatched. A
/// large grid has several pages.
///
/// # Errors
/// A picture cannot be read, or a file cannot be written.
pub fn grid(finished: &Finished) -> Result<Vec<PathBuf>> {
    let images: Vec<RgbImage> = finished.cells.iter().map(|cell| image(cell.run.picture())).collect::<Result<_>>()?;
    let scale = enlargement(&images);
    let title = finished.title.to_string();
    let grid = match finished.axes {
        [] | [_] => Grid { title: Some(title), scale, ..along(finished, images) },
        _ => Grid { title: Some(title), scale, ..table(finished, images) },
    };
    let pages = grid.pages(LARGEST);
    let name = |number: usize| if pages.len() > 1 { format!("grid-{}.png", number + 1) } else { "grid.png".into() };
    let mut made = Vec::new();
    for (number, page) in pages.iter().enumerate() {
        let path = finished.root.join(name(number));
        save_png(&path, &page.render(), &[("Description".into(), finished.title.into())])?;
        made.push(path);
    }
    Ok(made)
}

/// A grid for one field that varies: each of its values with a caption.
fn along(finished: &Finished, images: Vec<RgbImage>) -> Grid {
    let pictures = images.into_iter().zip(finished.cells);
    let cells = match finished.axes {
        [axis] => {
            let mut cells: Vec<Tile> = (0..axis.values.len()).map(|value| Tile::missing(axis.label(value))).collect();
            pictures.for_each(|(image, done)| cells[done.place[0]] = Tile::new(image, done.label.as_str()));
            cells
        }
        _ => pictures.map(|(image, done)| Tile::new(image, done.label.as_str())).collect(),
    };
    let columns = finished.columns.unwrap_or(cells.len()).clamp(1, cells.len().max(1));
    Grid { columns, cells, ..Grid::default() }
}

/// A grid for two or more fields: a row for each combination of all but the last.
fn table(finished: &Finished, images: Vec<RgbImage>) -> Grid {
    let Some((last, others)) = finished.axes.split_last() else { return Grid::default() };
    let columns = last.values.len();
    let row_of =
        |place: &[usize]| others.iter().zip(place).fold(0, |row, (axis, index)| row * axis.values.len() + index);
    let row_labels = others.iter().fold(vec![String::new()], |rows, axis| {
        let with = |row: &String, value| {
            if row.is_empty() { axis.label(value) } else { format!("{row}, {}", axis.label(value)) }
        };
        rows.iter().flat_map(|row| (0..axis.values.len()).map(move |value| with(row, value))).collect()
    });
    let mut cells = vec![Tile::missing(""); row_labels.len() * columns];
    for (image, done) in images.into_iter().zip(finished.cells) {
        cells[row_of(&done.place) * columns + done.place[others.len()]] = Tile::new(image, "");
    }
    let column_labels = (0..columns).map(|index| last.label(index)).collect();
    Grid { columns, cells, row_labels, column_labels, ..Grid::default() }
}

fn image(path: &Path) -> Result<RgbImage> {
    latentrace_plot::open_image(path).with_context(|| path.display().to_string())
}
