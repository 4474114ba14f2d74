//! Fields whose values are numbers: what they are, and the axis that shows them.

use latentrace_plot::ChartAxis;

/// The numbers of a field, in the order of its values. `None` if one of the values is no number.
pub(crate) fn numbers(values: &[String]) -> Option<Vec<f64>> {
    let number = |value: &String| value.parse().ok().filter(|number: &f64| number.is_finite());
    values.iter().map(number).collect()
}

/// The axis of a chart for the numbers of a field.
pub(crate) fn scale(name: &str, numbers: &[f64]) -> ChartAxis {
    if spans_decades(numbers) { ChartAxis::log(name) } else { ChartAxis::linear(name) }
}

/// Whether numbers need a logarithmic axis.
fn spans_decades(numbers: &[f64]) -> bool {
    let (low, high) = numbers.iter().fold((f64::INFINITY, 0.0f64), |(low, high), x| (low.min(*x), high.max(*x)));
    low > 0.0 && high / low >= 12.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_numeric_if_every_value_is_a_number() {
        let of = |values: &[&str]| numbers(&values.iter().map(|value| value.to_string()).collect::<Vec<_>>());
        assert_eq!(of(&["4", "0.25", "-1"]), Some(vec![4.0, 0.25, -1.0]));
        assert_eq!(of(&["4", "none"]), None);
        assert_eq!(of(&["1", "inf"]), None, "a word that a number may be written as is a word");
        assert_eq!(of(&["nan"]), None);
    }

    #[test]
    fn numbers_that_span_decades_have_a_logarithmic_axis() {
        assert!(spans_decades(&[0.25, 20.0]) && !spans_decades(&[1.0, 10.0]) && !spans_decades(&[0.0, 100.0]));
        assert!(scale("guidance", &[0.25, 20.0]).log && !scale("guidance", &[1.0, 10.0]).log);
    }
}
