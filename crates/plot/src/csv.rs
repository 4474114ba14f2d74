//! What the CSV files of figures have in common.

use latentrace_files::Field;

/// The shortest digits that read back as the same number; `NaN`, `inf` and `-inf` for the others.
pub(crate) fn number(value: f64) -> Field {
    let text = format!("{value:?}");
    text.strip_suffix(".0").map_or(text.as_str(), |whole| whole).into()
}

/// A label. One that begins or ends with a space is quoted, because some programs drop such spaces.
pub(crate) fn label(text: &str) -> Field {
    if text.trim() == text { text.into() } else { Field::quoted(text) }
}

/// The name, or a default if it is empty.
pub(crate) fn or<'a>(name: &'a str, otherwise: &'a str) -> &'a str {
    if name.is_empty() { otherwise } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_comes_back() {
        for value in [0.0, 1.0, -2.5, 0.1 + 0.2, 1e300, 5e-324, f64::MAX, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(number(value).number().to_bits(), value.to_bits(), "{}", number(value).text());
        }
        assert_eq!([f64::NAN, 3.0].map(number), ["NaN", "3"].map(Field::from));
    }

    #[test]
    fn outer_spaces_are_quoted() {
        let [spaced, plain] = [" spaced ", "pl ain"].map(label);
        assert_eq!([spaced, plain], [Field::quoted(" spaced "), Field::from("pl ain")]);
    }
}
