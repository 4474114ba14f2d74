//! Rules as text: they are displayed, compared and serialised exactly as they were written.

/// Implements `Display`, `PartialEq`, `Serialize` and `Deserialize` for a rule that has `text` and `FromStr`.
macro_rules! as_text {
    ($rule:ident) => {
        impl std::fmt::Display for $rule {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.text())
            }
        }

        impl PartialEq for $rule {
            fn eq(&self, other: &$rule) -> bool {
                self.text() == other.text()
            }
        }

        impl Eq for $rule {}

        impl serde::Serialize for $rule {
            fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                to.serialize_str(self.text())
            }
        }

        impl<'de> serde::Deserialize<'de> for $rule {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<$rule, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
