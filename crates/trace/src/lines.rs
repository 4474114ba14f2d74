//! Index lines on their way to the file. There may be hundreds for a call of a few milliseconds, so what is the same in
//! line after line is written once.

use crate::Statistics;
use crate::entry::{CHECK, Line, Stored};
use crate::numbers::Numbers;
use latentrace_nn::{Branch, Moment, Row, Tap};
use serde::Serialize;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

/// Lines, and the parts that many of them have.
#[derive(Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// The first part of every line of a moment.
    moment: Option<(Moment, Vec<u8>)>,
    /// The middle part of every line of a tensor.
    middles: HashMap<Middle, Vec<u8>>,
}

/// What the middle part of a line says: tap, branch, image, what was kept, the shape and the number format.
#[derive(PartialEq, Eq, Hash)]
struct Middle {
    tap: u32,
    branch: Option<Branch>,
    image: usize,
    kept: Arc<str>,
    shape: Vec<usize>,
    dtype: &'static str,
}

/// The fields of the first part, in the order of [`Entry`](crate::Entry).
#[derive(Serialize)]
struct When {
    call: usize,
    step: usize,
    evaluation: usize,
    t: f64,
    sigma: f64,
}

impl Lines {
    /// Adds the line of a tensor: what [`Line::write`] makes of its entry.
    #[allow(clippy::too_many_arguments)] // an entry's parts, which are not copied into one
    pub(crate) fn entry(
        &mut self,
        moment: &Moment,
        tap: &Tap,
        row: Row,
        kept: &Arc<str>,
        numbers: &Numbers,
        statistics: &Statistics,
        stored: Option<&Stored>,
    ) {
        let begin = self.bytes.len();
        if self.moment.as_ref().is_none_or(|(known, _)| known != moment) {
            let Moment { call, step, evaluation, t, sigma, .. } = *moment;
            self.moment = Some((*moment, without_end(json(&When { call, step, evaluation, t, sigma }))));
        }
        if let Some((_, first)) = &self.moment {
            self.bytes.extend_from_slice(first);
        }
        let shape = numbers.shape().to_vec();
        let Row { branch, image, .. } = row;
        let middle = Middle { tap: tap.id(), branch, image, kept: kept.clone(), shape, dtype: numbers.dtype_name() };
        let written = self.middles.entry(middle).or_insert_with_key(|middle| written(tap, middle));
        self.bytes.extend_from_slice(written);
        self.bytes.extend_from_slice(b",\"statistics\":");
        self.bytes.extend_from_slice(&json(statistics));
        if let Some(stored) = stored {
            self.bytes.extend_from_slice(b",\"stored\":");
            self.bytes.extend_from_slice(&json(stored));
        }
        let check = crc32fast::hash(&self.bytes[begin..]);
        let _ = writeln!(self.bytes, "{CHECK}{check:08x}\"}}"); // to memory, which does not fail
    }

    /// Adds another line.
    pub(crate) fn line(&mut self, line: &Line) {
        let mut text = String::new();
        line.write(&mut text);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Takes the lines.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// `,"tap":..` to `"dtype":..`.
fn written(tap: &Tap, middle: &Middle) -> Vec<u8> {
    let Middle { branch, image, kept, shape, dtype, .. } = middle;
    let mut text = format!(",\"tap\":{}", serde_json::Value::from(tap.name()));
    if let Some(branch) = branch {
        text += &format!(",\"branch\":\"{}\"", branch.name());
    }
    text += &format!(",\"image\":{image}");
    if !kept.is_empty() {
        text += &format!(",\"kept\":{}", serde_json::Value::from(kept.as_ref()));
    }
    text += &format!(",\"shape\":{},\"dtype\":\"{}\"", serde_json::Value::from(shape.clone()), dtype);
    text.into_bytes()
}

/// A plain struct of plain values as JSON.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// An object that more fields will follow.
fn without_end(mut json: Vec<u8>) -> Vec<u8> {
    json.pop();
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, Key};
    use latentrace_nn::tch::Tensor;

    #[test]
    fn a_line_in_parts_is_the_line_of_its_entry() {
        let numbers = Numbers::row(&Tensor::from_slice(&[1f32, -2.5, 0.1, f32::NAN]).view([2, 2]), 1).unwrap();
        let statistics = numbers.statistics();
        let tap = Tap::named("unet.\"odd\".out");
        let mut lines = Lines::default();
        let mut expected = String::new();
        for (call, branch, kept, stored) in [
            (0, None, "", None),
            (0, Some(Branch::Conditional), "head_mean | stats", None),
            (
                3,
                Some(Branch::Unconditional),
                "",
                Some(Stored {
                    shard: "a".into(),
                    name: "b".into(),
                    dtype: "F32".into(),
                    crc32: Some(1),
                    range: Some([0.0, 1e-9]),
                }),
            ),
        ] {
            let moment = Moment { call, step: 2, evaluation: 1, t: 980.5, sigma: 0.1, ..Moment::default() };
            let row = Row { index: 1, branch, image: call };
            lines.entry(&moment, &tap, row, &kept.into(), &numbers, &statistics, stored.as_ref());
            let key = Key { call, tap: tap.name().into(), branch, image: call, kept: kept.into() };
            let Key { tap, kept, .. } = key;
            let entry = Entry {
                call,
                step: 2,
                evaluation: 1,
                t: 980.5,
                sigma: 0.1,
                tap,
                branch,
                image: call,
                kept,
                shape: vec![1, 2],
                dtype: "F32".into(),
                statistics,
                stored,
            };
            Line::Entry(Box::new(entry)).write(&mut expected);
        }
        lines.line(&Line::Complete { complete: 3 });
        Line::Complete { complete: 3 }.write(&mut expected);
        assert_eq!(String::from_utf8(lines.take()).unwrap(), expected);
    }
}
