//! One field of a table.

use std::borrow::Cow;

/// One field of a [`Table`](crate::Table): text.
///
/// A number becomes the text of Rust's `Display`, or with an exponent if it is nearer to 0 than 1e-5; either reads back
/// as the same number. A float that is not finite, and
/// `None`, become an empty field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    text: String,
    quoted: bool,
}

/// An array of [`Field`]s from values of different types: a row for [`Table::row`](crate::Table::row).
#[macro_export]
macro_rules! fields {
    ($($value:expr),* $(,)?) => { [$($crate::Field::from($value)),*] };
}

impl Field {
    /// Text that is written in quotes, even where CSV does not need them.
    pub fn quoted(text: impl Into<String>) -> Field {
        Field { text: text.into(), quoted: true }
    }

    /// The text, without quotes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number; NaN if the text is not a number, as of an empty field.
    pub fn number(&self) -> f64 {
        self.text.parse().unwrap_or(f64::NAN)
    }

    /// Whether it is a finite number as this program writes it. Others, such as `007`, are texts.
    pub(crate) fn is_number(&self) -> bool {
        let digits = self.digits().as_bytes();
        let begins = match digits {
            [b'0', next, ..] => !next.is_ascii_digit(),
            [first, ..] => first.is_ascii_digit(),
            [] => false,
        };
        begins && !self.quoted && self.number().is_finite()
    }

    /// Whether it is a whole number, if it is a number.
    pub(crate) fn is_whole(&self) -> bool {
        let digits = self.digits();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The text after the sign, if it has one.
    fn digits(&self) -> &str {
        self.text.strip_prefix('-').unwrap_or(&self.text)
    }

    /// Whether the field is to be written in quotes in any case.
    pub(crate) fn is_quoted(&self) -> bool {
        self.quoted
    }
}

impl From<String> for Field {
    fn from(text: String) -> Field {
        Field { text, quoted: false }
    }
}

impl From<&str> for Field {
    fn from(text: &str) -> Field {
        text.to_owned().into()
    }
}

impl From<&String> for Field {
    fn from(text: &String) -> Field {
        text.clone().into()
    }
}

impl From<Cow<'_, str>> for Field {
    fn from(text: Cow<str>) -> Field {
        text.into_owned().into()
    }
}

impl<T: Into<Field>> From<Option<T>> for Field {
    fn from(value: Option<T>) -> Field {
        value.map(T::into).unwrap_or_default()
    }
}

macro_rules! from_display {
    ($($kind:ty),*) => { $(
        impl From<$kind> for Field {
            fn from(value: $kind) -> Field {
                value.to_string().into()
            }
        }
    )* };
}

from_display!(bool, i32, i64, u8, u32, u64, usize);

macro_rules! from_float {
    ($($kind:ty),*) => { $(
        impl From<$kind> for Field {
            fn from(value: $kind) -> Field {
                match value.abs() {
                    // `Display` writes all zeros of a small number.
                    small if small > 0.0 && small < 1e-5 => format!("{value:e}").into(),
                    size if size.is_finite() => value.to_string().into(),
                    _ => Field::default(),
                }
            }
        }
    )* };
}

from_float!(f32, f64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_that_is_not_finite_is_an_empty_field() {
        let row = fields![f64::NAN, f64::INFINITY, f32::NEG_INFINITY, None::<f64>, Some(0.5), Some(f64::NAN), 3usize];
        assert_eq!(row.each_ref().map(Field::text), ["", "", "", "", "0.5", "", "3"]);
        assert!(row[0].number().is_nan());
    }

    #[test]
    fn a_small_number_is_short() {
        let row = fields![3.469446951953614e-18, -1e-7f32, 0.00001, 0.0, -0.25];
        assert_eq!(row.each_ref().map(Field::text), ["3.469446951953614e-18", "-1e-7", "0.00001", "0", "-0.25"]);
    }

    proptest! {
        #[test]
        fn a_finite_number_reads_back_to_the_bit(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(Field::from(value).number().to_bits(), bits);
        }
    }
}
