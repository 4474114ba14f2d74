//! The pictures of an experiment: the grid, and the curves of its steps.

use crate::scalars::COLUMNS;
use crate::spec::Spec;
use crate::store::{enlargement, trace_of};
use anyhow::{Context, Result};
use latentrace_plot::{Axis, Cell, Chart, Grid, Panels, RgbImage, Series, save_png, write};
use std::path::{Path, PathBuf};

/// A cell that is done.
pub struct Done {
    /// What the grid and the legend call it.
    pub label: String,
    /// The values of the fields that vary.
    pub values: Vec<String>,
    /// Its folder.
    pub folder: PathBuf,
}

/// Writes the grid of the cells' pictures, with the title, columns and labels that the spec gives.
pub fn grid(root: &Path, spec: &Spec, title: &str, cells: &[Done]) -> Result<PathBuf> {
    let images: Vec<RgbImage> =
        cells.iter().map(|cell| image(&cell.folder.join("image.png"))).collect::<Result<_>>()?;
    let layout = Layout::of(spec, cells);
    let grid = Grid {
        title: Some(title.into()),
        columns: layout.columns,
        scale: enlargement(&images),
        cells: images.into_iter().zip(&layout.captions).map(|(image, caption)| Cell::new(image, caption)).collect(),
        row_labels: layout.rows,
        column_labels: layout.heads,
    };
    let path = root.join("grid.png");
    save_png(&path, &grid.render(), &[("Description".into(), title.into())])?;
    Ok(path)
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
            let side = |axis: usize, cell: &Done| format!("{} {}", axes[axis], cell.values[axis]);
            return Layout {
                columns,
                rows: cells.iter().step_by(columns).map(|cell| side(0, cell)).collect(),
                heads: cells.iter().take(columns).map(|cell| side(1, cell)).collect(),
                captions: vec![String::new(); cells.len()],
            };
        }
        let span = |row: &[Done]| match (axes.as_slice(), row) {
            ([_], [first, .., last]) => format!("{} to {}", first.values[0], last.values[0]),
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

/// Writes the curves of sigma, sample, predicted noise and guidance over the calls, for every cell.
pub fn curves(root: &Path, title: &str, cells: &[Done]) -> Result<Vec<PathBuf>> {
    let tables: Vec<(String, Vec<Vec<f64>>)> = cells
        .iter()
        .map(|cell| Ok((cell.label.clone(), table(&trace_of(&cell.folder).join("scalars.csv"))?)))
        .collect::<Result<_>>()?;
    let chart = |heading: &str, column: usize, y: Axis| Chart {
        title: heading.into(),
        x: Axis::linear("network call"),
        y,
        series: tables
            .iter()
            .map(|(label, rows)| {
                let points = rows.iter().filter_map(|row| Some((*row.first()?, *row.get(column)?))).collect();
                Series::new(label.clone(), points)
            })
            .collect(),
        ..Chart::default()
    };
    let of = |name: &str| COLUMNS.iter().position(|column| *column == name).unwrap_or_default();
    let panels = Panels {
        title: title.into(),
        charts: vec![
            chart("noise level", of("sigma"), Axis::log("sigma")),
            chart("sample |x|", of("rms_x"), Axis::log("rms of x")),
            chart("predicted noise |ε|", of("rms_epsilon"), Axis::linear("rms of ε")),
            chart("what the prompt changes |εc − εu|", of("rms_epsilon_difference"), Axis::log("rms of εc − εu")),
        ],
        columns: 2,
    };
    Ok(write(root, "curves", &panels)?)
}

fn table(path: &Path) -> Result<Vec<Vec<f64>>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let row = |line: &str| line.split(',').map(|cell| cell.parse().unwrap_or(f64::NAN)).collect();
    Ok(text.lines().skip(1).map(row).collect())
}
