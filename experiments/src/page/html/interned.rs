//! Texts that occur in many runs, of which the page has each once.

use super::sources::base64;
use std::collections::HashMap;

/// Texts, each once.
#[derive(Default)]
pub struct Interned {
    places: HashMap<String, usize>,
    texts: Vec<String>,
}

impl Interned {
    /// The place of a text, which is added unless it is there.
    pub fn place(&mut self, text: String) -> usize {
        let next = self.texts.len();
        *self.places.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            next
        })
    }

    /// The place of a list of numbers, as the bytes of 32-bit floats in base 64: seven digits in half of what they take
    /// as text. A number that is not defined is NaN.
    pub fn series(&mut self, numbers: impl IntoIterator<Item = f64>) -> usize {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(|number| (number as f32).to_le_bytes()).collect();
        self.place(base64(&bytes))
    }

    /// The texts, in the order of their places.
    pub fn into_texts(self) -> Vec<String> {
        self.texts
    }
}

/// The parts of an indented JSON object, one for each of its entries. Joined by line breaks they are the object.
pub fn entries(pretty: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in pretty.lines() {
        let begins = line.strip_prefix("  ").is_some_and(|entry| entry.starts_with('"'));
        match parts.last_mut().filter(|_| !begins) {
            Some(part) => *part += &format!("\n{line}"),
            None => parts.push(line.into()),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn what_occurs_twice_is_there_once() {
        let mut all = Interned::default();
        assert_eq!([all.place("a".into()), all.place("b".into()), all.place("a".into())], [0, 1, 0]);
        assert_eq!((all.series([0.5, f64::NAN]), all.series([0.5, f64::NAN])), (2, 2));
        let texts = all.into_texts();
        assert_eq!(texts[..2], ["a", "b"]);
        let bytes = STANDARD.decode(&texts[2]).unwrap();
        let numbers: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert!(numbers[0] == 0.5 && numbers[1].is_nan());
    }

    #[test]
    fn the_entries_of_an_object_are_the_object() {
        let value = serde_json::json!({ "cell": { "prompt": "a\n  \"b\"", "seed": 1 }, "size": [64, 64], "calls": 2 });
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let parts = entries(&pretty);
        assert_eq!(parts.join("\n"), pretty);
        assert_eq!(parts.len(), 4, "the brace that begins it, and three entries: {parts:?}");
        assert_eq!(entries(""), Vec::<String>::new());
    }
}
