//! Reading a model's `config.json`. A value that is not supported is an error that names it.

use crate::{Error, Result};
use serde_json::{Map, Value};

/// A `config.json` in the diffusers layout, and its path.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    values: Map<String, Value>,
    ignored: Vec<String>,
}

/// A key of a configuration, and its supported values: those that are implemented or have no effect.
pub type Supported = (&'static str, &'static [&'static str]);

impl Config {
    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// The text is not a JSON object.
    pub fn parse(file: &str, text: &str) -> Result<Config> {
        let fail = |cause: String| Error::File { file: file.into(), cause };
        match serde_json::from_str(text).map_err(|error| fail(error.to_string()))? {
            Value::Object(values) => Ok(Config { file: file.into(), values, ignored: Vec::new() }),
            other => Err(fail(format!("expected a JSON object, found {other}"))),
        }
    }

    /// The configuration with keys that [`Config::check`] lets pass, whatever their values.
    pub fn ignoring(mut self, keys: &[String]) -> Config {
        self.ignored.extend_from_slice(keys);
        self
    }

    /// The configuration with another value of a key.
    pub fn with(mut self, key: &str, value: Value) -> Config {
        self.values.insert(key.into(), value);
        self
    }

    /// The object below a key, as a configuration of its own.
    pub fn below(&self, key: &str) -> Option<Config> {
        let values = self.value(key)?.as_object()?.clone();
        Some(Config { file: format!("{}: {key}", self.file), values, ignored: self.ignored.clone() })
    }

    /// The configuration as JSON.
    pub fn json(&self) -> Value {
        Value::Object(self.values.clone())
    }

    /// Whether a key is given, null or not.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The value of a key, if it is given and not null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// A positive integer.
    ///
    /// # Errors
    /// The value is missing and there is no default, or it is something else.
    pub fn size(&self, key: &str, default: Option<i64>) -> Result<i64> {
        let Some(value) = self.value(key) else {
            return default.ok_or_else(|| self.unsupported(key, "a whole number above 0"));
        };
        value
            .as_i64()
            .filter(|&size| 0 < size && size < 1 << 24)
            .ok_or_else(|| self.unsupported(key, "a whole number from 1 to 16777215"))
    }

    /// A finite number.
    ///
    /// # Errors
    /// The value is something else.
    pub fn number(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| self.unsupported(key, "a number"))
    }

    /// A boolean.
    ///
    /// # Errors
    /// The value is something else.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.value(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.unsupported(key, "true, false"))
    }

    /// A string.
    ///
    /// # Errors
    /// The value is something else.
    pub fn word(&self, key: &str, default: &str) -> Result<String> {
        let Some(value) = self.value(key) else { return Ok(default.into()) };
        value.as_str().map(str::to_string).ok_or_else(|| self.unsupported(key, "a string"))
    }

    /// A list of positive integers.
    ///
    /// # Errors
    /// The value is missing, empty or something else.
    pub fn sizes(&self, key: &str) -> Result<Vec<i64>> {
        let size = |value: &Value| value.as_i64().filter(|&size| 0 < size && size < 1 << 24);
        let list = self.value(key).and_then(Value::as_array);
        let sizes: Option<Vec<i64>> =
            list.filter(|list| !list.is_empty()).and_then(|list| list.iter().map(size).collect());
        sizes.ok_or_else(|| self.unsupported(key, "a list of whole numbers above 0"))
    }

    /// A list of strings.
    ///
    /// # Errors
    /// The value is missing, empty or something else.
    pub fn words(&self, key: &str) -> Result<Vec<String>> {
        let list = self.value(key).and_then(Value::as_array).filter(|list| !list.is_empty());
        let words = list.and_then(|list| list.iter().map(|value| value.as_str().map(str::to_string)).collect());
        words.ok_or_else(|| self.unsupported(key, "a list of strings"))
    }

    /// A positive integer for each of `count` blocks, from one number or a list.
    ///
    /// # Errors
    /// The value is missing or something else, or the list has another length.
    pub fn per_block(&self, key: &str, count: usize, default: Option<i64>) -> Result<Vec<i64>> {
        match self.value(key) {
            Some(Value::Array(list)) if list.len() == count => self.sizes(key),
            Some(Value::Array(_)) => {
                Err(self.unsupported(key, &format!("a number, or a list of {count}, one a block")))
            }
            _ => Ok(vec![self.size(key, default)?; count]),
        }
    }

    /// Checks that every key of the list has a supported value, if it is given, and that every other key is in `read`.
    ///
    /// # Errors
    /// A value or a key is not supported; the first is named.
    pub fn check(&self, read: &[&str], supported: &[Supported]) -> Result<()> {
        for (key, value) in &self.values {
            let text = value.to_string();
            let known = supported.iter().find(|(name, _)| name == key);
            if self.ignored.contains(key) && !read.contains(&key.as_str()) {
                continue;
            }
            let harmless = value.is_null() || key.starts_with('_') || read.contains(&key.as_str());
            match known {
                Some((_, values)) if values.is_empty() || values.contains(&text.as_str()) => {}
                Some((_, values)) if !value.is_null() => return Err(self.unsupported(key, &values.join(", "))),
                None if !harmless => return Err(self.unknown(key)),
                _ => {}
            }
        }
        Ok(())
    }

    fn unknown(&self, key: &str) -> Error {
        let known = "null, or no such key; a key that changes nothing can be ignored by its name";
        self.unsupported(key, known)
    }

    /// The error for a value of a key.
    pub fn unsupported(&self, key: &str, supported: &str) -> Error {
        let value = self.values.get(key).map_or("(missing)".to_string(), Value::to_string);
        Error::Unsupported { file: self.file.clone(), key: key.into(), value, supported: supported.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_key_the_value_and_what_would_work() {
        let config = Config::parse("unet/config.json", r#"{"act_fn":"mish","heads":[1,2],"new":3,"_note":1}"#).unwrap();
        let error = config.check(&["heads", "new"], &[("act_fn", &["\"silu\""])]).unwrap_err().to_string();
        assert_eq!(error, "unet/config.json: act_fn: unsupported value \"mish\"\nhint: supported: \"silu\"");
        let error = config.check(&["heads"], &[("act_fn", &[])]).unwrap_err().to_string();
        assert!(error.starts_with("unet/config.json: new: unsupported value 3"), "{error}");
        assert_eq!(config.per_block("heads", 2, None).unwrap(), [1, 2]);
        assert!(config.per_block("heads", 3, None).is_err());
        assert_eq!(config.per_block("absent", 3, Some(8)).unwrap(), [8, 8, 8]);
        assert!(config.size("absent", None).is_err() && config.flag("new", true).is_err());
    }
}
