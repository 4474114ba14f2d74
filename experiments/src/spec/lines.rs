//! Where in a file a field stands.

use std::collections::HashMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The line of every field of a TOML file, by its path: `vary.guidance`, `exclude.0.seed`.
#[derive(Clone, Debug, Default)]
pub struct Lines(HashMap<String, usize>);

impl Lines {
    /// Finds them. Of a text that is not TOML there are none.
    pub fn of(text: &str) -> Lines {
        let mut lines = Lines::default();
        if let Ok(table) = DeTable::parse(text) {
            lines.table(text, "", table.get_ref());
        }
        lines
    }

    /// The line of a path, counted from 1, or of the nearest that contains it.
    pub fn line(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// The path of what stands at a byte of the text: the longest of those that begin in its line at or before it.
    pub fn path(&self, text: &str, byte: usize) -> Option<&str> {
        let line = line(text, byte);
        let of_line = self.0.iter().filter(|(_, at)| **at == line).map(|(path, _)| path.as_str());
        of_line.max_by_key(|path| path.len())
    }

    fn table(&mut self, text: &str, before: &str, table: &DeTable) {
        for (key, value) in table {
            let path =
                if before.is_empty() { key.get_ref().to_string() } else { format!("{before}.{}", key.get_ref()) };
            self.0.insert(path.clone(), line(text, key.span().start));
            self.value(text, &path, value);
        }
    }

    fn value(&mut self, text: &str, path: &str, value: &Spanned<DeValue>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(text, path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}.{index}");
                    self.0.insert(path.clone(), line(text, item.span().start));
                    self.value(text, &path, item);
                }
            }
            _ => (),
        }
    }
}

fn line(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_items_have_lines() {
        let text = "name = 'x'\n\n[vary]\nguidance = [1,\n  2]\n[[exclude]]\nseed = 3\n";
        let lines = Lines::of(text);
        let of = |path: &str| lines.line(path);
        assert_eq!((of("name"), of("vary.guidance"), of("vary.guidance.1")), (Some(1), Some(4), Some(5)));
        assert_eq!((of("exclude.0.seed"), of("vary.guidance.9"), of("fixed.seed")), (Some(7), Some(4), None));
    }
}
