//! The values of a field that varies: a list, or what makes one.

use anyhow::{Result, bail, ensure};
use std::collections::HashSet;
use toml::{Table, Value};

/// More values of one field than anyone means.
const MOST: usize = 10_000_000;

/// The values that a spec gives: `[1, 2]`, `{ range = [1, 9] }` and `{ range = [0, 1, 0.25] }` with both ends,
/// `{ linspace = [0, 10, 5] }`, and `{ logspace = [0.25, 16, 7] }`, whose ratios are equal.
pub fn values(value: &Value) -> Result<Vec<Value>> {
    let list = match value {
        Value::Array(list) => list.clone(),
        Value::Table(table) => made(table)?,
        other => bail!("expected a list or {{ range = [1, 9] }}, found {other}"),
    };
    ensure!(!list.is_empty(), "an empty list leaves no cell");
    Ok(list)
}

/// Whether a value is one that makes a list, or tries to.
pub fn makes(value: &Value) -> bool {
    let kinds = ["range", "linspace", "logspace"];
    value.as_table().is_some_and(|table| kinds.iter().any(|kind| table.contains_key(*kind)))
}

/// The first value that is equal to an earlier one; 1 is 1.0.
pub fn twice(values: &[Value]) -> Option<&Value> {
    let mut seen = HashSet::new();
    let same = |value: &Value| match number(value) {
        Some(number) if value.is_float() && number.fract() == 0.0 && number.abs() < 9e15 => {
            format!("{}", number as i64)
        }
        _ => value.to_string(), // texts are in quotes
    };
    values.iter().find(|value| !seen.insert(same(value)))
}

fn made(table: &Table) -> Result<Vec<Value>> {
    let (Some((kind, arguments)), 1) = (table.iter().next(), table.len()) else {
        bail!("expected one of range, linspace and logspace, found {table}");
    };
    if let Some(exact) = whole(kind, arguments)? {
        return exact.into_iter().map(integer_value).collect();
    }
    let numbers: Option<Vec<f64>> =
        arguments.as_array().and_then(|list| list.iter().map(number).collect::<Option<_>>());
    let Some(numbers) = numbers.filter(|numbers| numbers.iter().all(|number| number.is_finite())) else {
        bail!("{kind}: expected a list of numbers, found {arguments}");
    };
    let made = match (kind.as_str(), numbers.as_slice()) {
        ("range", [from, to]) => range(*from, *to, 1.0)?,
        ("range", [from, to, step]) => range(*from, *to, *step)?,
        ("linspace", [from, to, count]) => {
            spaced(*count, |share| from + (to - from) * share).map_err(|error| error.context("linspace"))?
        }
        ("logspace", [from, to, count]) => {
            ensure!(*from > 0.0 && *to > 0.0, "logspace: expected ends above 0, found {from} and {to}");
            spaced(*count, |share| from * (to / from).powf(share)).map_err(|error| error.context("logspace"))?
        }
        ("range", _) => bail!("range: expected [first, last] or [first, last, step], found {arguments}"),
        ("linspace" | "logspace", _) => bail!("{kind}: expected [first, last, how many], found {arguments}"),
        _ => bail!("{kind}: expected range, linspace or logspace"),
    };
    let rounded: Vec<Value> = made.iter().copied().map(shortest).collect();
    let are_one = |at: &usize| made[at - 1] != made[*at] && rounded[at - 1] == rounded[*at];
    if let Some(at) = (1..made.len()).find(are_one) {
        let (one, other, both) = (digits(made[at - 1], 12), digits(made[at], 12), &rounded[at]);
        bail!("{kind}: {one} and {other} are both written {both}, with six digits\nhint: a list keeps all digits");
    }
    Ok(rounded)
}

/// Whole numbers made of whole numbers, exactly: a float ends at 2^53, and a seed at 2^64. Nothing where one of them is
/// none, or where the values between the ends of a `linspace` would be none.
fn whole(kind: &str, arguments: &Value) -> Result<Option<Vec<i128>>> {
    let list: Option<Vec<i128>> = arguments.as_array().and_then(|list| list.iter().map(integer).collect());
    let (from, to, step) = match (kind, list.as_deref()) {
        ("range", Some([from, to])) => (*from, *to, 1),
        ("range", Some([from, to, step])) => (*from, *to, *step),
        ("linspace", Some([from, to, count])) if *count > 1 && (to - from) % (count - 1) == 0 && to != from => {
            (*from, *to, (to - from) / (count - 1))
        }
        _ => return Ok(None),
    };
    ensure!(
        step != 0 && (to - from) / step >= 0 && (to - from).signum() * step.signum() >= 0,
        "{kind}: steps of {step} from {from} never reach {to}"
    );
    let last = (to - from) / step;
    ensure!(last < MOST as i128, "{kind}: {last} steps, more than {MOST}");
    Ok(Some((0..=last).map(|index| from + step * index).collect()))
}

/// A whole number as TOML has it: beyond its integers, which end at 2^63 - 1, as a string.
fn integer_value(number: i128) -> Result<Value> {
    match i64::try_from(number) {
        Ok(number) => Ok(Value::Integer(number)),
        Err(_) if u64::try_from(number).is_ok() => Ok(Value::String(number.to_string())),
        Err(_) => bail!("{number} is beyond the whole numbers from {} to {}", i64::MIN, u64::MAX),
    }
}

fn range(from: f64, to: f64, step: f64) -> Result<Vec<f64>> {
    ensure!(step != 0.0 && (to - from) / step >= 0.0, "range: steps of {step} from {from} never reach {to}");
    let last = ((to - from) / step + 1e-9).floor(); // 0.1 is no binary fraction, so a last step may fall short
    ensure!(last < MOST as f64, "range: {last} steps, more than {MOST}");
    Ok((0..=last as usize).map(|index| from + step * index as f64).collect())
}

fn spaced(count: f64, value: impl Fn(f64) -> f64) -> Result<Vec<f64>> {
    ensure!(
        count.fract() == 0.0 && (1.0..=MOST as f64).contains(&count),
        "expected a whole number of values from 1 to {MOST}, found {count}"
    );
    let last = (count - 1.0).max(1.0);
    Ok((0..count as usize).map(|index| value(index as f64 / last)).collect())
}

/// Six digits, so that a label and a folder's name are those a person would write; whole numbers stay whole.
fn shortest(number: f64) -> Value {
    let rounded = if number.fract() == 0.0 { number } else { digits(number, 6) };
    match rounded.fract() == 0.0 && rounded.abs() < 9e15 {
        true => Value::Integer(rounded as i64),
        false => Value::Float(rounded),
    }
}

/// A number rounded to so many significant digits.
fn digits(number: f64, count: usize) -> f64 {
    format!("{number:.*e}", count - 1).parse().unwrap_or(number)
}

/// A whole number, also where a string holds one that TOML's integers end before.
pub fn integer(value: &Value) -> Option<i128> {
    let text = |text: &str| text.parse::<u64>().ok().map(i128::from);
    value.as_integer().map(i128::from).or_else(|| value.as_str().and_then(text))
}

/// An integer or a float as a float.
pub fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|integer| integer as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Value>> {
        values(&toml::from_str::<Table>(&format!("x = {text}")).unwrap()["x"])
    }

    #[test]
    fn a_value_that_is_given_twice_is_found() {
        let twice = |text: &str| twice(&of(text).unwrap()).map(Value::to_string);
        assert_eq!(twice("[1, 2, 1.0]").unwrap(), "1.0");
        assert_eq!(twice("[\"a\", \"b\", \"a\"]").unwrap(), "\"a\"");
        assert_eq!(twice("[0.5, { weight = 1 }, { weight = 1 }]").unwrap(), "{ weight = 1 }");
        assert_eq!(twice("{ linspace = [1, 1, 2] }").unwrap(), "1");
        for different in ["[1, 1.5, \"1\", \"1.0\"]", "{ range = [1, 9] }", "[[], [\"a => zero\"]]"] {
            assert_eq!(twice(different), None, "{different}");
        }
    }

    #[test]
    fn lists_are_made() {
        let numbers = |text: &str| of(text).unwrap().iter().map(|value| number(value).unwrap()).collect::<Vec<_>>();
        assert_eq!(numbers("{ range = [1, 4] }"), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(numbers("{ range = [0, 1, 0.1] }").len(), 11);
        assert_eq!(numbers("{ range = [0, 1, 0.1] }")[3], 0.3, "as a person would write it");
        assert_eq!(numbers("{ range = [5, 1, -2] }"), [5.0, 3.0, 1.0]);
        assert_eq!(numbers("{ linspace = [0, 10, 5] }"), [0.0, 2.5, 5.0, 7.5, 10.0]);
        assert_eq!(numbers("{ logspace = [0.25, 16, 7] }"), [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]);
        assert!(of("{ range = [1, 2] }").unwrap().iter().all(Value::is_integer));
        let exact = of("{ range = [9007199254740993, 9007199254740997, 2] }").unwrap();
        let exact: Vec<i128> = exact.iter().filter_map(integer).collect();
        assert_eq!(exact, [9_007_199_254_740_993, 9_007_199_254_740_995, 9_007_199_254_740_997]);
        assert_eq!(numbers("{ linspace = [1, 2, 3] }"), [1.0, 1.5, 2.0]);
        assert_eq!(numbers("{ linspace = [3, 3, 2] }"), [3.0, 3.0]);
        assert_eq!(numbers("{ range = [5, 5] }"), [5.0]);
    }

    #[test]
    fn values_that_six_digits_do_not_tell_apart_are_refused() {
        for (text, says) in [
            (
                "{ range = [0.1, 0.1000002, 0.0000001] }",
                "range: 0.1 and 0.1000001 are both written 0.1, with six digits",
            ),
            ("{ linspace = [1000000, 1000001, 3] }", "linspace: 1000000 and 1000000.5 are both written 1000000"),
            ("{ logspace = [1, 1.000001, 3] }", "are both written 1, "),
        ] {
            let error = format!("{:#}", of(text).unwrap_err());
            assert!(error.contains(says) && error.ends_with("hint: a list keeps all digits"), "{text}: {error}");
        }
        assert_eq!(of("[0.1, 0.1000001]").unwrap(), [Value::Float(0.1), Value::Float(0.1000001)]);
        assert_eq!(of("{ range = [1000000, 1000002] }").unwrap().len(), 3, "whole numbers keep all digits");
    }

    #[test]
    fn what_makes_no_list_says_so() {
        for bad in [
            "[]",
            "3",
            "{}",
            "{ rang = [1, 2] }",
            "{ range = [1, 5, -1] }",
            "{ range = [1, 2, 0] }",
            "{ range = 3 }",
            "{ range = [0, 1e300] }",
            "{ range = [0, 9223372036854775807] }",
            "{ range = [2, 1] }",
            "{ linspace = [0, 1, 2.5] }",
            "{ logspace = [0, 1, 3] }",
            "{ linspace = [1, 2] }",
            "{ range = [nan, 2] }",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
