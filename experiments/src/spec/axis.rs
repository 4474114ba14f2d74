//! What varies in an experiment, as labels, figures and tables have it.

use super::groups::Group;
use super::values::number;
use crate::shown;
use serde::{Deserialize, Serialize};
use toml::Value;

/// A field that varies, or several that vary together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// The field; of several their names, as in `size, place`.
    pub name: String,
    /// Its values as the heads of rows and columns show them; of several fields `small, on the left`.
    pub values: Vec<String>,
    /// What a legend calls its values, if that is more than name and value: `size small, place on the left`.
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    /// Every field of it, for tables.
    #[serde(default)]
    pub fields: Vec<AxisField>,
}

/// A field that varies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AxisField {
    /// Its name, or the word that varies in a text.
    pub name: String,
    /// Its values as tables have them: an empty text is empty.
    pub values: Vec<String>,
}

impl Axis {
    /// The axis of a group of fields.
    pub(super) fn of(group: &Group) -> Axis {
        let field = |(name, values): &(String, Vec<Value>)| AxisField {
            name: name.clone(),
            values: values.iter().map(written).collect(),
        };
        let fields: Vec<AxisField> = group.fields.iter().map(field).collect();
        let shown: Vec<Vec<String>> = fields.iter().map(AxisField::shown).collect();
        let of_all = |say: &dyn Fn(&AxisField, &String) -> String| -> Vec<String> {
            let joined = |index: usize| {
                let each = fields.iter().zip(&shown).map(|(field, shown)| say(field, &shown[index]));
                each.collect::<Vec<_>>().join(", ")
            };
            (0..group.len()).map(joined).collect()
        };
        let (values, labels) = match fields.len() {
            1 => (shown[0].clone(), Vec::new()),
            _ => (of_all(&|_, value| value.clone()), of_all(&|field, value| format!("{} {value}", field.name))),
        };
        let name = fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
        Axis { name, values, labels, fields }
    }

    /// What a legend calls one of its values: `guidance 4`, or `size small, place on the left`.
    pub fn label(&self, index: usize) -> String {
        let own = || format!("{} {}", self.name, self.values[index]);
        self.labels.get(index).cloned().unwrap_or_else(own)
    }

    /// Its fields with their values. Of a sweep that an earlier version made, the axis itself.
    pub(crate) fn each(&self) -> Vec<(&str, &[String])> {
        match self.fields.as_slice() {
            [] => vec![(&self.name, &self.values)],
            fields => fields.iter().map(|field| (field.name.as_str(), field.values.as_slice())).collect(),
        }
    }

    /// Whether a field is one of it.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.each().iter().any(|(name, _)| *name == field)
    }
}

impl AxisField {
    /// Its values as labels show them. An empty text is `none`, unless that is another of them.
    fn shown(&self) -> Vec<String> {
        let empty = if self.values.iter().any(|value| value == "none") { "“”" } else { "none" };
        let named = |value: &String| if value.is_empty() { empty.into() } else { value.clone() };
        shown::values(&self.name, &self.values.iter().map(named).collect::<Vec<_>>())
    }
}

/// A value as a table has it: a text without quotes, a number with all its digits.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        other => number(other).map_or_else(|| said(other), |number| number.to_string()),
    }
}

/// What a label says of a value that is no number and no text.
fn said(value: &Value) -> String {
    let guidance = latentrace_pipeline::Guidance::deserialize(value.clone());
    guidance.map_or_else(|_| value.to_string(), |guidance| guidance.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;

    #[test]
    fn fields_that_vary_together_are_all_named() {
        let text = "name='x'\n[fixed]\nprompt='a {size} circle {place}'\n[[zip]]\nsize=['large','small']\nplace=['','on the left']";
        let sweep = spec(text).unwrap().expand().unwrap();
        let axis = &sweep.axes[0];
        assert_eq!(
            (axis.name.as_str(), axis.values.join(" | ")),
            ("size, place", "large, none | small, on the left".into())
        );
        assert_eq!(sweep.points[1].label(&sweep.axes), "size small, place on the left");
        assert_eq!(axis.fields[1].values, ["", "on the left"]);
        assert!(axis.has("place") && !axis.has("size, place"));
    }

    #[test]
    fn an_axis_of_an_earlier_version_has_the_label_of_its_value() {
        let axis: super::Axis = serde_json::from_str(r#"{ "name": "seed", "values": ["1", "2"] }"#).unwrap();
        assert_eq!(axis.label(1), "seed 2");
        assert_eq!(axis.each(), [("seed", ["1".to_string(), "2".to_string()].as_slice())]);
    }
}
