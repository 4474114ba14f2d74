//! What serde says of a value, in the words of the other errors: `expected a whole number, found "two"`.

use toml::Value;

/// What serde expects by a name of Rust, and what a reader of TOML calls it.
const EXPECTED: [(&str, &str); 11] = [
    ("usize", "a whole number from 0 on"),
    ("u64", "a whole number from 0 on"),
    ("u32", "a whole number from 0 on"),
    ("i64", "a whole number"),
    ("f64", "a number"),
    ("f32", "a number"),
    ("a string", "a text in quotes"),
    ("path string", "a path in quotes"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("a map", "a table"),
];

/// The message of an error of serde.
pub(super) fn plain(message: &str) -> String {
    let wrong = ["invalid type: ", "invalid value: "].into_iter().find_map(|start| message.strip_prefix(start));
    if let Some((found, expected)) = wrong.and_then(|rest| rest.split_once(", expected ")) {
        let expected = EXPECTED.iter().find(|(rust, _)| *rust == expected).map_or(expected, |(_, words)| words);
        return format!("expected {expected}, found {}", self::found(found));
    }
    let variant = message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "));
    if let Some((found, expected)) = variant {
        let known = expected.strip_prefix("one of ").unwrap_or(expected).replace('`', "");
        return format!("expected {known}, found {}", found.replace('`', ""));
    }
    message.into()
}

/// A value in an error, on one line.
pub(super) fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string().replace('\n', " ");
    if text.chars().count() > MOST { text.chars().take(MOST).chain(['…']).collect() } else { text }
}

/// What was found: the value itself, without its kind.
fn found(found: &str) -> String {
    let kinds = ["integer ", "floating point ", "boolean ", "string ", "character "];
    match kinds.into_iter().find_map(|kind| found.strip_prefix(kind)) {
        Some(value) => value.trim_matches('`').into(),
        None if found == "sequence" => "a list".into(),
        None if found == "map" => "a table".into(),
        None => found.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;
    use serde::Deserialize;
    use std::path::PathBuf;
    use toml::Table;
    use toml::Value;

    fn of<T: for<'a> Deserialize<'a>>(text: &str) -> String {
        let table: Table = toml::from_str(&format!("x = {text}")).unwrap();
        plain(T::deserialize(table["x"].clone()).err().unwrap().message())
    }

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Fit {
        Crop,
        Stretch,
    }

    #[test]
    fn no_word_of_rust_is_left() {
        assert_eq!(of::<usize>("'two'"), "expected a whole number from 0 on, found \"two\"");
        assert_eq!(of::<u64>("-2"), "expected a whole number from 0 on, found -2");
        assert_eq!(of::<usize>("4.5"), "expected a whole number from 0 on, found 4.5");
        assert_eq!(of::<f64>("true"), "expected a number, found true");
        assert_eq!(of::<String>("[1]"), "expected a text in quotes, found a list");
        assert_eq!(of::<PathBuf>("3"), "expected a path in quotes, found 3");
        assert_eq!(of::<bool>("{ a = 1 }"), "expected true or false, found a table");
        assert_eq!(of::<Vec<Value>>("'grid'"), "expected a list, found \"grid\"");
        assert_eq!(of::<Fit>("'pad'"), "expected crop or stretch, found pad");
        assert_eq!(plain("anything else"), "anything else");
    }
}
