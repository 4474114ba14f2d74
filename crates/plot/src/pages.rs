//! A grid that is too large for one picture, split into pages.

use crate::{Grid, Tile};

impl Grid {
    /// Splits the grid into grids of at most about `side` pixels in width and height, in reading order: pages to the
    /// right come before pages below. Each title ends with the page number. A page has at least one picture, however
    /// large.
    pub fn pages(&self, side: u32) -> Vec<Grid> {
        let (rows, columns) = self.shape();
        let (width, height) = self.size();
        let fit = |count: usize, length: u32| match length > side {
            true => ((count as f64 * f64::from(side) / f64::from(length)) as usize).max(1),
            false => count.max(1),
        };
        let (across, down) = (fit(columns, width), fit(rows, height));
        let starts =
            (0..rows).step_by(down).flat_map(|row| (0..columns).step_by(across).map(move |column| (row, column)));
        let mut pages: Vec<Grid> = starts
            .map(|(row, column)| self.part(row, column, down, across))
            .filter(|page| !page.cells.is_empty())
            .collect();
        if pages.len() < 2 {
            return vec![self.clone()];
        }
        let count = pages.len();
        for (number, page) in pages.iter_mut().enumerate() {
            let title = self.title.iter().map(|title| format!("{title}, ")).collect::<String>();
            page.title = Some(format!("{title}page {} of {count}", number + 1));
        }
        pages
    }

    /// `down` rows from `row` and `across` columns from `column`, with their labels.
    fn part(&self, row: usize, column: usize, down: usize, across: usize) -> Grid {
        let (rows, columns) = self.shape();
        let (end, right) = ((row + down).min(rows), (column + across).min(columns));
        let labels =
            |all: &[String], from: usize, to: usize| all.get(from..to.min(all.len())).unwrap_or_default().to_vec();
        let is_table = !self.row_labels.is_empty() || !self.column_labels.is_empty();
        let places = (row..end).flat_map(|row| (column..right).map(move |column| row * columns + column));
        let cells = places.filter_map(|index| match self.cells.get(index) {
            Some(tile) => Some(tile.clone()),
            None => is_table.then(|| Tile::missing("")),
        });
        Grid {
            title: None,
            columns: right - column,
            cells: cells.collect(),
            row_labels: labels(&self.row_labels, row, end),
            column_labels: labels(&self.column_labels, column, right),
            scale: self.scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    #[test]
    fn every_picture_is_on_one_page_under_its_labels() {
        let picture = |index: usize| RgbImage::from_pixel(64, 64, Rgb([index as u8, (index / 256) as u8, 7]));
        let (rows, columns) = (40, 30);
        let grid = Grid {
            title: Some("all".into()),
            columns,
            cells: (0..rows * columns - 5).map(|index| Tile::new(picture(index), index.to_string())).collect(),
            row_labels: (0..rows).map(|row| format!("row {row}")).collect(),
            column_labels: (0..columns).map(|column| format!("column {column}")).collect(),
            scale: 1,
        };
        let pages = grid.pages(1200);
        assert!(pages.len() > 4);
        assert_eq!(pages[1].title.as_deref(), Some(format!("all, page 2 of {}", pages.len()).as_str()));
        let mut found = Vec::new();
        for page in &pages {
            let (width, height) = page.render().dimensions();
            assert!(width <= 1300 && height <= 1300, "{width} x {height}");
            for (index, tile) in page.cells.iter().enumerate().filter(|(_, tile)| !tile.caption.is_empty()) {
                let number: usize = tile.caption.parse().unwrap();
                assert_eq!(page.row_labels[index / page.columns], format!("row {}", number / columns));
                assert_eq!(page.column_labels[index % page.columns], format!("column {}", number % columns));
                found.push(number);
            }
        }
        found.sort_unstable();
        assert_eq!(found, (0..rows * columns - 5).collect::<Vec<_>>());
    }

    #[test]
    fn what_fits_is_one_page_as_it_was() {
        let cells = vec![Tile::new(RgbImage::new(64, 64), "one"); 3];
        let grid = Grid { title: Some("few".into()), columns: 2, cells, scale: 1, ..Grid::default() };
        let pages = grid.pages(4000);
        assert_eq!((pages.len(), pages[0].title.as_deref(), pages[0].cells.len()), (1, Some("few"), 3));
        assert_eq!(grid.pages(10).len(), 3, "one picture each, and no page without any");
    }
}
