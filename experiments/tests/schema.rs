//! The schema of specs, and the page that describes them, against the code that reads specs.

use jsonschema::Validator;
use latentrace_experiments::{Figure, Measure, Spec};
use latentrace_runs::{Cell, FIELDS};
use latentrace_schedulers::Class;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(home().join(path)).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&read("experiments/spec.schema.json")).unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// A text of TOML as the JSON that a schema sees.
fn json_of(text: &str) -> Value {
    let table: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    serde_json::to_value(table).unwrap()
}

/// What the schema says against a text.
fn faults(validator: &Validator, text: &str) -> Vec<String> {
    validator.iter_errors(&json_of(text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// A folder with the files that the examples of the documentation name.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["photo.png", "mask.png"] {
        std::fs::copy(home().join("data/pictures/init.png"), folder.path().join(name)).unwrap();
    }
    folder
}

/// Writes a spec into a folder and reads it.
fn opened(folder: &TempDir, text: &str) -> anyhow::Result<Spec> {
    let path = folder.path().join("spec.toml");
    std::fs::write(&path, text).unwrap();
    Spec::open(&path, &[])
}

/// The TOML blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let parts = page.split("```toml\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_string()).collect()
}

/// The pages that may have specs: README and docs.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(home().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = docs.map(|name| format!("docs/{}", name.to_str().unwrap())).filter(|name| name.ends_with(".md"));
    names.chain(["README.md".to_string()]).collect()
}

#[test]
fn every_spec_is_valid_and_names_the_schema() {
    let validator = validator();
    let folder = home().join("experiments/specs");
    let mut count = 0;
    for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(faults(&validator, &text), Vec::<String>::new(), "{}", path.display());
        let named = text.lines().next().and_then(|line| line.strip_prefix("#:schema "));
        let named = named.unwrap_or_else(|| panic!("{}: no line #:schema", path.display()));
        let schema = home().join("experiments/spec.schema.json").canonicalize().unwrap();
        assert_eq!(folder.join(named).canonicalize().unwrap(), schema, "{}", path.display());
        Spec::open(&path, &[]).unwrap().expand().unwrap();
        count += 1;
    }
    assert!(count >= 9, "{count} specs");
}

#[test]
fn every_spec_of_the_documentation_is_valid_and_has_cells() {
    let (validator, folder) = (validator(), folder());
    let schema = schema();
    let of_spec = keys(&schema["properties"]);
    let mut count = 0;
    for page in pages() {
        for block in blocks(&read(&page)) {
            let given = json_of(&block);
            let is_spec = keys(&given).iter().any(|key| of_spec.contains(key));
            if !is_spec {
                continue;
            }
            assert_eq!(faults(&validator, &block), Vec::<String>::new(), "{page}: {block}");
            opened(&folder, &block).and_then(|spec| spec.expand()).unwrap_or_else(|error| panic!("{page}: {error:#}"));
            count += 1;
        }
    }
    assert!(count >= 2, "{count} specs");
}

#[test]
fn the_schema_has_the_names_that_the_code_has() {
    let schema = schema();
    let fields: BTreeSet<&str> = FIELDS.into_iter().collect();
    for table in ["settings", "values"] {
        assert_eq!(keys(&schema["$defs"][table]["properties"]), fields, "{table}");
    }
    let options: BTreeSet<&str> = Class::ALL.into_iter().flat_map(Class::option_names).collect();
    assert_eq!(keys(&schema["$defs"]["scheduler"]["properties"]), options);
    assert_eq!(words(&schema["$defs"]["options"]["propertyNames"]["enum"]), options.into_iter().collect::<Vec<_>>());
    // A measure or figure that is added does not compile here until it is in the list.
    use Measure::{Adherence, Clipping, Colours, Contrast, Diversity, Saturation};
    let measures = [Adherence, Colours, Saturation, Contrast, Clipping, Diversity].map(|measure| match measure {
        Adherence | Colours | Saturation | Contrast | Clipping | Diversity => measure.name(),
    });
    assert_eq!(words(&schema["properties"]["measure"]["items"]["enum"]), measures);
    use Figure::{Curves, Grid, NoiseCurves, Schedulers, Trajectory};
    let all = [Grid, Curves, Figure::Adherence, Trajectory, NoiseCurves, Schedulers];
    let figures = all.map(|figure| match figure {
        Grid | Curves | Figure::Adherence | Trajectory | NoiseCurves | Schedulers => figure.name(),
    });
    assert_eq!(words(&schema["properties"]["figures"]["items"]["enum"]), figures);
}

#[test]
fn every_field_of_the_schema_is_described_and_its_default_and_examples_are_those_of_a_cell() {
    let (schema, validator) = (schema(), validator());
    for field in FIELDS {
        let about = &schema["$defs"][field];
        assert!(about["description"].as_str().is_some_and(|text| text.len() > 10), "{field}");
        if let Some(default) = about.get("default") {
            let cell: Cell = serde_json::from_value(json!({ field: default })).unwrap();
            assert_eq!(cell, Cell::default(), "{field}");
        }
        let examples = about["examples"].as_array().unwrap_or_else(|| panic!("{field}: no examples"));
        for example in examples {
            let spec = json!({ "name": "x", "fixed": { field: example } });
            assert!(validator.is_valid(&spec), "{spec}");
            let cell: Cell = serde_json::from_value(json!({ field: example })).unwrap();
            assert_ne!(cell, Cell::default(), "{field}: an example shows something else than the default");
        }
    }
    for (key, about) in schema["properties"].as_object().unwrap() {
        assert!(about["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
    }
}

/// The rows of the table of fields in `docs/specs.md`: field, default and example.
fn rows() -> Vec<[String; 3]> {
    let page = read("docs/specs.md");
    let section = page.split("## The fields of a cell").nth(1).unwrap().split("\n#").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let of = |line: &str| {
        let columns: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [field, _, _, default, example] = columns[..] else { panic!("not five columns: {line}") };
        [field, default, example].map(|text| text.to_string())
    };
    rows.map(of).collect()
}

/// What stands in backticks, if a text is that alone.
fn code(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`')
}

#[test]
fn the_page_on_specs_has_every_field_with_its_default_and_an_example_that_is_valid() {
    let (validator, rows) = (validator(), rows());
    let fields: Vec<&str> = rows.iter().map(|[field, ..]| code(field).unwrap()).collect();
    assert_eq!(fields, FIELDS, "in the order of the code");
    for [field, default, example] in &rows {
        let (field, example) = (code(field).unwrap(), code(example).unwrap());
        let spec = format!("name = \"x\"\n[fixed]\n{example}");
        assert_eq!(faults(&validator, &spec), Vec::<String>::new(), "{example}");
        let given = &json_of(&spec)["fixed"];
        assert_eq!(keys(given), BTreeSet::from([field]), "{example}");
        let cell: Cell = serde_json::from_value(given.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert_ne!(cell, Cell::default(), "{example}");
        if let Some(default) = code(default) {
            let given = &json_of(&format!("{field} = {default}"));
            assert_eq!(serde_json::from_value::<Cell>(given.clone()).unwrap(), Cell::default(), "{field}");
        }
    }
    let schema = schema();
    let of_file = read("docs/specs.md").split("## The file").nth(1).unwrap().split("\n## ").next().unwrap().to_string();
    let named: BTreeSet<&str> = of_file
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(|key| key.trim_matches(['[', ']']))
        .collect();
    assert_eq!(named, keys(&schema["properties"]));
}

/// Specs that both the schema and the program refuse.
const WRONG: [(&str, &str); 40] = [
    ("no name", "about = 'x'"),
    ("an empty name", "name = ''"),
    ("a name that is a path", "name = '../x'"),
    ("an unknown key", "name = 'x'\ncolour = 3"),
    ("a misspelt table", "name = 'x'\n[fix]\nsteps = 3"),
    ("fixed is no table", "name = 'x'\nfixed = 3"),
    ("zip is no list of tables", "name = 'x'\n[zip]\nseed = [1, 2]"),
    ("a zip of nothing", "name = 'x'\n[[zip]]"),
    ("an exclude of nothing", "name = 'x'\n[[exclude]]"),
    ("an unknown measure", "name = 'x'\nmeasure = ['adherance']"),
    ("a measure twice", "name = 'x'\nmeasure = ['contrast', 'contrast']"),
    ("an unknown figure", "name = 'x'\nfigures = ['gird']"),
    ("figures that are no list", "name = 'x'\nfigures = 'grid'"),
    ("no columns", "name = 'x'\ncolumns = 0"),
    ("a negative budget", "name = 'x'\nbudget = -1\ncapture = ['a.b']"),
    ("a budget of nothing", "name = 'x'\nbudget = 1000"),
    ("a reference without a figure", "name = 'x'\n[reference]\nsteps = 500"),
    ("negative steps", "name = 'x'\n[fixed]\nsteps = -1"),
    ("no steps", "name = 'x'\n[fixed]\nsteps = 0"),
    ("steps as text", "name = 'x'\n[fixed]\nsteps = 'many'"),
    ("half a step", "name = 'x'\n[fixed]\nsteps = 2.5"),
    ("a negative seed", "name = 'x'\n[fixed]\nseed = -1"),
    ("a seed in words", "name = 'x'\n[vary]\nseed = [1, 'two']"),
    ("a strength of nothing", "name = 'x'\n[fixed]\nimage = 'photo.png'\nstrength = 0"),
    ("too much strength", "name = 'x'\n[fixed]\nimage = 'photo.png'\nstrength = 1.5"),
    ("guidance as text", "name = 'x'\n[fixed]\nguidance = 'much'"),
    ("a window without an end", "name = 'x'\n[fixed]\nguidance = { weight = 8, sigma = [1] }"),
    ("a window with another key", "name = 'x'\n[fixed]\nguidance = { weight = 8, sigma = [1, 5], beyond = 2 }"),
    ("an unknown fit", "name = 'x'\n[fixed]\nimage = 'photo.png'\nfit = 'zoom'"),
    ("an unknown number format", "name = 'x'\n[fixed]\ndtype = 'f64'"),
    ("unknown kernels", "name = 'x'\n[fixed]\nkernels = 'fast'"),
    ("a size of nothing", "name = 'x'\n[fixed]\nheight = 0"),
    ("edits that are no list", "name = 'x'\n[fixed]\nedits = 'unet.mid_block.out => zero'"),
    ("an edit without an arrow", "name = 'x'\n[fixed]\nedits = ['unet.mid_block.out zero']"),
    ("a LoRA without a file", "name = 'x'\n[fixed]\nloras = [{ scale = 1 }]"),
    ("an unknown option", "name = 'x'\n[fixed]\nscheduler.use_karas_sigmas = true"),
    ("an unknown option that varies", "name = 'x'\n[vary]\nscheduler.use_karas_sigmas = [true, false]"),
    ("a value that varies alone", "name = 'x'\n[vary]\nseed = [1]"),
    ("a value twice", "name = 'x'\n[vary]\nguidance = [1, 4, 1.0]"),
    ("a misspelt range", "name = 'x'\n[vary]\nseed = { rang = [1, 9] }"),
];

#[test]
fn what_is_wrong_is_refused_by_the_schema_and_by_the_program() {
    let (validator, folder) = (validator(), folder());
    for (what, text) in WRONG {
        assert!(!faults(&validator, text).is_empty(), "{what}: the schema takes {text}");
        let error = opened(&folder, text).err().unwrap_or_else(|| panic!("{what}: the program takes {text}"));
        assert!(format!("{error:#}").contains("spec.toml"), "{what}: {error:#}");
    }
}

#[test]
fn what_is_right_is_taken_by_the_schema_and_by_the_program() {
    let (validator, folder) = (validator(), folder());
    let right = [
        "name = 'x'",
        "name = 'x'\n[fixed]\nseed = '18446744073709551615'",
        "name = 'x'\n[vary]\nseed = { range = ['9223372036854775806', '9223372036854775809'] }",
        "name = 'x'\n[vary]\nguidance = { logspace = [0.25, 16, 7] }\nsteps = { linspace = [10, 50, 5] }",
        "name = 'x'\n[vary]\nguidance = [1, { weight = 8, sigma = [0.3, 5] }, { sigma = [15, 1], weight = [1, 8] }]",
        "name = 'x'\n[fixed]\nprompt = 'a {size} cat'\n[vary]\nsize = ['small', 'large']",
        "name = 'x'\n[fixed]\nloras = ['a.safetensors:{scale}']\n[vary]\nscale = { linspace = [0, 1, 3] }",
        "name = 'x'\n[fixed]\nscheduler.rho = 5\n[vary]\nscheduler.sigmas = [[9.0, 0.0], [5.0, 0.0]]",
        "name = 'x'\n[[zip]]\nseed = [1, 1]\nsteps = [2, 3]",
        "name = 'x'\n[fixed]\nkernels = 'channels-last+linear-as-convolution'",
        "name = 'x'\n[fixed]\nimage = 'photo.png'\nmask = 'mask.png'\nfit = 'stretch'\nstrength = 1",
        "name = 'x'\nfigures = ['schedulers']\n[vary]\nsampler = ['lms', 'pndm']\n[reference]\nsteps = 500",
    ];
    for text in right {
        assert_eq!(faults(&validator, text), Vec::<String>::new(), "{text}");
        opened(&folder, text).and_then(|spec| spec.expand()).unwrap_or_else(|error| panic!("{text}: {error:#}"));
    }
}
