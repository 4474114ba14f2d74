//! Settings as titles, labels and the report show them: paths without detours. Keys and records keep what was given.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The fields whose values are paths.
const PATHS: [&str; 11] = [
    "image",
    "mask",
    "features",
    "model",
    "text_encoder",
    "text_encoder_2",
    "unet",
    "vae",
    "tokenizer",
    "tokenizer_2",
    "config",
];

/// Those whose values are always files, and never the id of a model.
const FILES: &[&str] = &["image", "mask", "features"];

/// The longest value of a title, in characters.
const LONGEST: usize = 40;

/// A value of a field; a path without detours.
pub(crate) fn value(field: &str, value: &str) -> String {
    if PATHS.contains(&field) { direct(value) } else { value.into() }
}

/// The values of a field as labels show them. Of a file and of an absolute path the name is enough, unless two values share it.
pub(crate) fn values(field: &str, values: &[String]) -> Vec<String> {
    if !PATHS.contains(&field) {
        return values.to_vec();
    }
    let paths: Vec<String> = values.iter().map(|value| direct(value)).collect();
    let short = |path: &String| if FILES.contains(&field) { name(path) } else { shortened(path) };
    let names: Vec<String> = paths.iter().map(short).collect();
    let mut owners: HashMap<&String, &String> = HashMap::new();
    let are_clear = names.iter().zip(&paths).all(|(name, path)| *owners.entry(name).or_insert(path) == path);
    if are_clear { names } else { paths }
}

/// A value of a field in a title: of a long path the name of the file, of another long text its beginning.
pub(crate) fn in_title(field: &str, value: &str) -> String {
    let is_long = |text: &str| text.chars().count() > LONGEST;
    let shown = match PATHS.contains(&field) {
        true => Some(shortened(&direct(value))).filter(|path| !is_long(path)).unwrap_or_else(|| name(value)),
        false => value.into(),
    };
    if is_long(&shown) { shown.chars().take(LONGEST).chain(['…']).collect() } else { shown }
}

/// An absolute path as its last name; a relative one, which a reader may type, as it is.
fn shortened(path: &str) -> String {
    if Path::new(path).is_absolute() { name(path) } else { path.into() }
}

/// The last name of a path.
fn name(path: &str) -> String {
    Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy().into_owned())
}

/// A path without `.` and without the folders that `..` leaves again. A path stays as it is where a link on the way makes that
/// another file.
fn direct(path: &str) -> String {
    let mut parts = PathBuf::new();
    for part in Path::new(path).components() {
        match (part, parts.components().next_back()) {
            (Component::CurDir, _) | (Component::ParentDir, Some(Component::RootDir)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => _ = parts.pop(),
            (part, _) => parts.push(part),
        }
    }
    let of = |path: &Path| path.canonicalize().ok();
    match parts.as_os_str().is_empty() || of(&parts) != of(Path::new(path)) {
        true => path.into(),
        false => parts.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn a_path_has_no_detours() {
        for (path, shown) in [
            ("experiments/specs/../../data/no-init.png", "data/no-init.png"),
            ("./a/./b.png", "a/b.png"),
            ("a/../../b.png", "../b.png"),
            ("../../b.png", "../../b.png"),
            ("/a/../../b.png", "/b.png"),
            ("a/..", "a/.."),
            ("none", "none"),
            ("CompVis/stable-diffusion-v1-4", "CompVis/stable-diffusion-v1-4"),
        ] {
            assert_eq!(direct(path), shown, "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_through_a_link_keeps_its_detour_where_it_would_be_another_file() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("real/specs")).unwrap();
        std::fs::write(at("real/init.png"), "").unwrap();
        std::fs::write(at("init.png"), "").unwrap();
        std::os::unix::fs::symlink(at("real/specs"), at("specs")).unwrap();
        let text = |path: &str| at(path).display().to_string();
        assert_eq!(direct(&text("specs/../init.png")), text("specs/../init.png"));
        assert_eq!(direct(&text("real/specs/../init.png")), text("real/init.png"));
    }

    #[test]
    fn a_file_is_named_alone_where_no_other_has_its_name() {
        let two = texts(&["/a/x/../one.png", "/b/two.png", "none"]);
        assert_eq!(values("image", &two), ["one.png", "two.png", "none"]);
        let same = texts(&["/a/x/../one.png", "/b/one.png"]);
        assert_eq!(values("image", &same), ["/a/one.png", "/b/one.png"]);
        assert_eq!(values("image", &texts(&["s/../a/one.png", "./b.png"])), ["one.png", "b.png"]);
        assert_eq!(values("image", &texts(&["s/../a/one.png", "./one.png"])), ["a/one.png", "one.png"]);
        let models = texts(&["s/../models/a", "CompVis/stable-diffusion-v1-4", "/models/b"]);
        assert_eq!(values("model", &models), ["models/a", "CompVis/stable-diffusion-v1-4", "b"]);
        assert_eq!(values("prompt", &texts(&["/a/b", "a/../b"])), ["/a/b", "a/../b"], "a text is no path");
    }

    #[test]
    fn a_title_has_room_for_a_path_that_a_reader_would_type() {
        assert_eq!(in_title("image", "experiments/specs/../../data/pictures/init.png"), "data/pictures/init.png");
        assert_eq!(in_title("image", "/home/me/init.png"), "init.png");
        assert_eq!(in_title("image", &format!("{}/init.png", "folder/".repeat(9))), "init.png");
        let long = "x".repeat(60);
        assert_eq!(in_title("sampler", &long), format!("{}…", "x".repeat(40)));
        assert_eq!(in_title("guidance", "6 at 1 to 5"), "6 at 1 to 5");
    }
}
