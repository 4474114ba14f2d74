//! A figure has an SVG, a PNG and the numbers behind both; [`write()`] puts all three on disk.

use std::path::{Path, PathBuf};

use image::RgbImage;
use latentrace_files::{Error, create_folder, png::save_png, replace_unsynced};

/// A figure that can be drawn at any size, and whose numbers can be written as CSV.
///
/// Sizes are in CSS pixels; the smallest font size is 11. The least size that is drawn is 240 x 180.
pub trait Drawable {
    /// The default width and height.
    fn size(&self) -> (u32, u32);

    /// The figure as a self-contained SVG document.
    fn svg(&self, width: u32, height: u32) -> String;

    /// The figure as pixels, `ratio` of them for each of the given width and height: 2 suits print and sharp screens.
    fn pixels(&self, width: u32, height: u32, ratio: u32) -> RgbImage;

    /// The figure as exactly `width` x `height` pixels.
    fn png(&self, width: u32, height: u32) -> RgbImage {
        self.pixels(width, height, 1)
    }

    /// The numbers of the figure as CSV, with a header line.
    fn csv(&self) -> String;
}

/// Writes `stem.svg`, `stem.png` (two pixels for each of the SVG) and `stem.csv` into a folder, and returns their
/// paths.
///
/// The folder is created if it does not exist. Each file appears whole or not at all.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn write(folder: &Path, stem: &str, figure: &impl Drawable) -> Result<Vec<PathBuf>, Error> {
    create_folder(folder)?;
    let (width, height) = figure.size();
    let path = |ending: &str| folder.join(format!("{stem}.{ending}"));
    let (svg, png, csv) = (path("svg"), path("png"), path("csv"));
    replace_unsynced(&svg, figure.svg(width, height).as_bytes())?;
    save_png(&png, &figure.pixels(width, height, 2), &[])?;
    replace_unsynced(&csv, figure.csv().as_bytes())?;
    Ok(vec![svg, png, csv])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Chart, Series};
    use std::fs;

    fn chart() -> Chart {
        Chart { series: vec![Series::new("loss", vec![(0.0, 1.0), (1.0, 0.5)])], ..Chart::default() }
    }

    #[test]
    fn three_files_under_one_stem_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made/here");
        let paths = write(&inner, "guidance-7.5", &chart()).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["guidance-7.5.csv", "guidance-7.5.png", "guidance-7.5.svg"]);
        assert_eq!(paths[2], inner.join("guidance-7.5.csv"));
        assert_eq!(fs::read_to_string(&paths[2]).unwrap(), chart().csv());
        let (width, height) = chart().size();
        assert_eq!(image::open(&paths[1]).unwrap().to_rgb8().dimensions(), (2 * width, 2 * height));
    }

    #[test]
    fn a_folder_that_is_a_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = write(file.path(), "loss", &chart()).unwrap_err().to_string();
        assert!(message.starts_with(&*file.path().to_string_lossy()), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn an_unwritable_folder_keeps_no_part_of_a_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
        if fs::write(folder.path().join("probe"), "").is_ok() {
            return; // root can write anywhere
        }
        let message = write(folder.path(), "loss", &chart()).unwrap_err().to_string();
        assert!(message.contains("loss.svg: could not be written"), "{message}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_name_that_cannot_be_taken_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("loss.png")).unwrap();
        let message = write(folder.path(), "loss", &chart()).unwrap_err().to_string();
        assert!(message.contains("loss.png: could not be written"), "{message}");
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "loss.svg, which was whole, and the folder in the way");
    }
}
