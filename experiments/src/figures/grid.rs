//! The pictures of an experiment in labelled rows and columns.

use super::{Done, Finished};
use crate::spec::Spec;
use crate::store::enlargement;
use anyhow::{Context, Result};
use latentrace_plot::{Cell, Grid, RgbImage, save_png};
use std::path::{Path, PathBuf};

/// Writes the grid of the cells' pictures, with the title, columns and labels that the spec gives.
pub fn grid(finished: &Finished) -> Result<Vec<PathBuf>> {
    let Finished { root, spec, title, cells } = finished;
    let images: Vec<RgbImage> =
        cells.iter().map(|cell| image(&cell.folder.join("image.png"))).collect::<Result<_>>()?;
    let layout = Layout::of(spec, cells);
    let grid = Grid {
        title: Some(title.to_string()),
        columns: layout.columns,
        scale: enlargement(&images),
        cells: images.into_iter().zip(&layout.captions).map(|(image, caption)| Cell::new(image, caption)).collect(),
        row_labels: layout.rows,
        column_labels: layout.heads,
    };
    let path = root.join("grid.png");
    save_png(&path, &grid.render(), &[("Description".into(), title.to_string())])?;
    Ok(vec![path])
}

struct Layout {
    columns: usize,
    rows: Vec<String>,
    heads: Vec<String>,
    captions: Vec<String>,
}

impl Layout {
    /// Two fields that vary give rows and columns; otherwise each picture has its own caption, and rows and columns
    /// say from where to where they go.
    fn of(spec: &Spec, cells: &[Done]) -> Layout {
        let axes = spec.axes();
        let fastest = axes.last().and_then(|axis| spec.vary[*axis].as_array()).map_or(1, Vec::len);
        let stated = spec.columns.filter(|_| axes.len() != 2);
        let columns = stated.unwrap_or(fastest).min(cells.len().max(1));
        if axes.len() == 2 {
            let side = |axis: usize, cell: &Done| format!("{} {}", axes[axis], cell.cell.value(axes[axis]));
            return Layout {
                columns,
                rows: cells.iter().step_by(columns).map(|cell| side(0, cell)).collect(),
                heads: cells.iter().take(columns).map(|cell| side(1, cell)).collect(),
                captions: vec![String::new(); cells.len()],
            };
        }
        let span = |row: &[Done]| match (axes.as_slice(), row) {
            ([axis], [first, .., last]) => format!("{} to {}", first.cell.value(axis), last.cell.value(axis)),
            _ => String::new(),
        };
        let number = |column| format!("{} of {columns}", column + 1);
        Layout {
            columns,
            rows: cells.chunks(columns).map(span).collect(),
            heads: (0..columns).map(number).collect(),
            captions: cells.iter().map(|cell| cell.label.clone()).collect(),
        }
    }
}

fn image(path: &Path) -> Result<RgbImage> {
    latentrace_plot::open_image(path).with_context(|| path.display().to_string())
}
