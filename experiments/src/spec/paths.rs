//! Paths in a spec, which are meant from the folder of its file.

use latentrace_runs::is_id;
use latentrace_trace::EditRule;
use std::path::Path;
use toml::{Table, Value};

/// The fields whose values are paths or ids of models on the hub.
const OF_HUB: [&str; 8] =
    ["model", "text_encoder", "text_encoder_2", "unet", "vae", "tokenizer", "tokenizer_2", "config"];

/// Takes the paths of a table from a folder.
pub(super) fn resolve(table: &mut Table, beside: &Path) {
    for key in ["image", "mask", "features", "embeddings"] {
        if let Some(path) = table.get_mut(key) {
            join(path, beside, &|_| true);
        }
    }
    // The id of a model on the hub looks like a path; a path that exists wins.
    let is_path = |text: &str| beside.join(text).exists() || !is_id(Path::new(text));
    for key in OF_HUB {
        if let Some(value) = table.get_mut(key) {
            join(value, beside, &is_path);
        }
    }
    if let Some(loras) = table.get_mut("loras") {
        join(loras, beside, &|text| is_path(without_scale(text)));
    }
    if let Some(value) = table.get_mut("edits") {
        read_beside(value, beside);
    }
    if let Some(value) = table.get_mut("sampler") {
        // What is no path is a name, or the text of a config.
        join(value, beside, &|text| !text.starts_with('{') && (text.contains('/') || text.ends_with(".json")));
    }
}

/// Takes every text of a value that is a path from a folder.
fn join(value: &mut Value, beside: &Path, is_path: &dyn Fn(&str) -> bool) {
    match value {
        Value::String(path) if is_path(path) => *path = beside.join(&path).display().to_string(),
        Value::Array(list) => list.iter_mut().for_each(|value| join(value, beside, is_path)),
        // A LoRA with a scale that depends on the noise level.
        Value::Table(table) => table.get_mut("file").into_iter().for_each(|file| join(file, beside, is_path)),
        _ => (),
    }
}

/// A LoRA of a spec without its scale, which may be a word in braces.
fn without_scale(text: &str) -> &str {
    let is_scale = |scale: &str| scale.trim().parse::<f64>().is_ok() || scale.trim().starts_with('{');
    text.rsplit_once(':').filter(|(_, scale)| is_scale(scale)).map_or(text, |(file, _)| file)
}

/// The records that edits read are meant from the spec's folder. A rule that cannot be read is left as it is, and
/// refused where it is used.
fn read_beside(edits: &mut Value, beside: &Path) {
    match edits {
        Value::String(rule) => {
            if let Ok(read) = EditRule::parse(rule)
                && let Some(path) = read.reads().map(|path| beside.join(path))
            {
                *rule = read.reading(&path).to_string();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| read_beside(value, beside)),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Spec;
    use super::*;

    #[test]
    fn a_label_names_the_file_of_a_path_and_the_cell_keeps_the_path() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir(at("specs")).unwrap();
        std::fs::write(at("specs/spec.toml"), "name='x'\n[vary]\nimage=['../a.png', 'b.png']").unwrap();
        let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/pictures/init.png");
        for name in ["a.png", "specs/b.png"] {
            std::fs::copy(&photo, at(name)).unwrap();
        }
        let expanded = Spec::open(&at("specs/spec.toml"), &[]).unwrap().expand().unwrap();
        assert_eq!(expanded.axes[0].values, ["a.png", "b.png"]);
        assert_eq!(expanded.points[0].label(&expanded.axes), "image a.png");
        assert_eq!(expanded.points[0].cell.image, Some(at("specs/../a.png")));
        assert_eq!(
            expanded.axes[0].fields[0].values[0],
            at("specs/../a.png").display().to_string(),
            "a table has it too"
        );
    }

    #[test]
    fn parts_are_meant_from_the_specs_folder_and_ids_of_the_hub_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("mine/tokenizer_2")).unwrap();
        for field in OF_HUB {
            for (value, is_path) in [("mine/tokenizer_2", true), ("../other", true), ("owner/model", false)] {
                let mut table = Table::from_iter([(field.to_string(), Value::from(value))]);
                resolve(&mut table, folder.path());
                let expected = if is_path { folder.path().join(value).display().to_string() } else { value.into() };
                assert_eq!(table[field].as_str(), Some(expected.as_str()), "{field}");
            }
        }
    }

    #[test]
    fn records_that_edits_read_are_meant_from_the_specs_folder() {
        let text = "name='x'\n[vary]\nedits=[['a => replace(b.trace)', 'a => zero'], ['a => add(../c, 0.5)', 'a => replace(/d)']]";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spec.toml");
        std::fs::write(&path, text).unwrap();
        let points = Spec::open(&path, &[]).unwrap().expand().unwrap().points;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let edits = |index: usize| points[index].cell.edits.iter().map(EditRule::to_string).collect::<Vec<_>>();
        assert_eq!(edits(0), [format!("a => replace({})", at("b.trace")), "a => zero".into()]);
        assert_eq!(edits(1), [format!("a => add({}, 0.5)", at("../c")), "a => replace(/d)".into()]);
    }
}
