//! The page of an earlier state of an experiment, which is removed.

use super::REPORT;
use super::full::remove_beside;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// What was removed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Removed {
    /// The page.
    page: PathBuf,
    /// The folder of its full pictures, if there were any.
    pictures: Option<PathBuf>,
}

/// Removes the page in the folder of an experiment, and the full pictures that were written beside it. `None` if there is no page.
///
/// # Errors
/// A file cannot be removed.
pub(crate) fn remove(root: &Path) -> Result<Option<Removed>> {
    let page = root.join(REPORT);
    if !page.is_file() {
        return Ok(None);
    }
    let pictures = remove_beside(&page)?; // before the page, which says that they are ours
    std::fs::remove_file(&page).with_context(|| page.display().to_string())?;
    Ok(Some(Removed { page, pictures }))
}

impl Removed {
    /// What was removed, and what makes it again.
    pub(crate) fn said(&self, root: &Path) -> String {
        let (page, root) = (self.page.display(), root.display());
        let (with, full) = match &self.pictures {
            Some(folder) => (format!(", with the full pictures in {}", folder.display()), " --full"),
            None => (String::new(), ""),
        };
        format!(
            "{page} showed an earlier state of this experiment, and was removed{with}\nhint: latentrace report {root}{full} writes it again"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_with_its_pictures_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let pictures = root.join("report-pictures");
        let make = |name: &str| std::fs::write(root.join(name), "").unwrap();
        assert_eq!(remove(root).unwrap(), None, "there is no page");

        make("report.html");
        let alone = remove(root).unwrap().unwrap().said(root);
        assert!(
            alone.contains("report.html showed an earlier state of this experiment, and was removed\nhint: "),
            "{alone}"
        );
        assert!(!alone.contains("--full") && !root.join("report.html").exists());

        make("report.html");
        std::fs::create_dir(&pictures).unwrap();
        for name in ["0001-picture.js", "0001-frames.js"] {
            make(&format!("report-pictures/{name}"));
        }
        let both = remove(root).unwrap().unwrap().said(root);
        assert!(both.contains(&format!("removed, with the full pictures in {}\n", pictures.display())), "{both}");
        assert!(both.ends_with("--full writes it again") && !pictures.exists(), "{both}");
    }

    #[test]
    fn a_folder_of_somebody_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let pictures = root.join("report-pictures");
        std::fs::create_dir(&pictures).unwrap();
        std::fs::write(root.join("report.html"), "").unwrap();
        std::fs::write(pictures.join("mine.png"), "").unwrap();
        assert_eq!(remove(root).unwrap().unwrap().pictures, None);
        assert!(pictures.join("mine.png").is_file());

        std::fs::write(root.join("report.html"), "").unwrap();
        std::fs::write(pictures.join("0001-picture.js"), "").unwrap();
        assert_eq!(remove(root).unwrap().unwrap().pictures, Some(pictures.clone()));
        assert!(pictures.join("mine.png").is_file() && !pictures.join("0001-picture.js").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (folder.path().join("sweep"), folder.path().join("elsewhere"));
        for made in [&root, &elsewhere] {
            std::fs::create_dir(made).unwrap();
        }
        std::fs::write(root.join("report.html"), "").unwrap();
        std::fs::write(elsewhere.join("0001-picture.js"), "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("report-pictures")).unwrap();
        assert_eq!(remove(&root).unwrap().unwrap().pictures, None);
        assert!(elsewhere.join("0001-picture.js").is_file());
    }
}
