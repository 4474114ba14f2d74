//! Comma-separated values, as RFC 4180 has them.

/// One line: the fields, quoted where they must be, and a line feed.
pub(crate) fn line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let fields: Vec<String> = fields.into_iter().map(quoted).collect();
    fields.join(",") + "\n"
}

/// The shortest digits that read back as the same number; `NaN`, `inf` and `-inf` for the others.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:?}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// The name of a column, or what to call it when it has none.
pub(crate) fn or<'a>(name: &'a str, otherwise: &'a str) -> &'a str {
    if name.is_empty() { otherwise } else { name }
}

fn quoted(field: &str) -> String {
    let plain = !field.contains([',', '"', '\n', '\r']) && field.trim() == field;
    if plain { field.to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The other direction, for tests: rows of fields.
    pub(crate) fn parse(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field, mut inside) = (Vec::new(), Vec::new(), String::new(), false);
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if inside && letters.peek() == Some(&'"') => {
                    letters.next();
                    field.push('"');
                }
                '"' => inside = !inside,
                ',' if !inside => row.push(std::mem::take(&mut field)),
                '\n' if !inside => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                other => field.push(other),
            }
        }
        rows
    }

    #[test]
    fn any_field_comes_back() {
        let fields = ["plain", "a, b", "say \"so\"", "two\nlines", " spaced ", "", "σ→0"];
        assert_eq!(parse(&line(fields)), [fields]);
    }

    #[test]
    fn any_number_comes_back() {
        for value in [0.0, 1.0, -2.5, 0.1 + 0.2, 1e300, 5e-324, f64::MAX, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(number(value).parse::<f64>().unwrap().to_bits(), value.to_bits(), "{}", number(value));
        }
        assert!(number(f64::NAN).parse::<f64>().unwrap().is_nan());
        assert_eq!(number(3.0), "3");
    }
}
