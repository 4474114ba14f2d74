//! Index lines before they are written to the file. A call of a few milliseconds may have hundreds, so the parts that
//! many lines have in common are formatted once.

use crate::Statistics;
use crate::entry::{Line, Stored, finish};
use crate::numbers::Form;
use latentrace_nn::{Branch, Moment, Row, Tap};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Lines, and the parts that many of them have.
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// The number of the next line.
    next: u64,
    /// CRC-32 of `run.json`, for the first line.
    run_crc32: u32,
    /// The first part of every line of a moment.
    moment: Option<(Moment, Vec<u8>)>,
    /// The middle part of every line of a tensor, by tap, branch, image, and the address of the rule's text.
    middles: HashMap<(u32, Option<Branch>, usize, usize), Middle>,
}

/// `,"tap":..` to `"dtype":..`, and the values in it that may be others in the next call.
struct Middle {
    text: Vec<u8>,
    form: Form,
    grid: Option<[i64; 2]>,
    /// Keeps the text alive, so that its address stays its own.
    _kept: Arc<str>,
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
    /// The lines of an empty index.
    pub(crate) fn new(run_crc32: u32) -> Lines {
        Lines { bytes: Vec::new(), next: 1, run_crc32, moment: None, middles: HashMap::new() }
    }

    /// Adds the line of a tensor, the same as [`Line::write`] writes for its entry.
    #[allow(clippy::too_many_arguments)] // the parts of an entry, without copying them into one
    pub(crate) fn entry(
        &mut self,
        moment: &Moment,
        tap: &Tap,
        row: Row,
        kept: &Arc<str>,
        form: &Form,
        statistics: &Statistics,
        [stored, places]: [Option<&Stored>; 2],
    ) {
        let begin = self.bytes.len();
        let known = self.moment.as_ref().is_some_and(|(known, _)| Moment { grid: known.grid, ..*moment } == *known);
        if !known {
            let Moment { call, step, evaluation, t, sigma, .. } = *moment;
            self.moment = Some((*moment, without_end(json(&When { call, step, evaluation, t, sigma }))));
        }
        if let Some((_, first)) = &self.moment {
            self.bytes.extend_from_slice(first);
        }
        let key = (tap.id(), row.branch, row.image, kept.as_ptr() as usize);
        let middle = self.middles.entry(key).or_insert_with(|| Middle::new(tap, row, kept, moment.grid, form));
        if (&middle.form, middle.grid) != (form, moment.grid) {
            *middle = Middle::new(tap, row, kept, moment.grid, form);
        }
        self.bytes.extend_from_slice(&middle.text);
        self.bytes.extend_from_slice(b",\"statistics\":");
        let _ = serde_json::to_writer(&mut self.bytes, statistics); // to memory, which does not fail
        for (name, stored) in [(&b",\"stored\":"[..], stored), (b",\"places\":", places)] {
            if let Some(stored) = stored {
                self.bytes.extend_from_slice(name);
                self.bytes.extend_from_slice(&json(stored));
            }
        }
        finish(begin, self.next, self.run_crc32, &mut self.bytes);
        self.next += 1;
    }

    /// Adds another line.
    pub(crate) fn line(&mut self, line: &Line) {
        line.write(self.next, self.run_crc32, &mut self.bytes);
        self.next += 1;
    }

    /// Takes the lines out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Middle {
    fn new(tap: &Tap, row: Row, kept: &Arc<str>, grid: Option<[i64; 2]>, form: &Form) -> Middle {
        let mut text = format!(",\"tap\":{},\"role\":\"{}\"", serde_json::Value::from(tap.name()), tap.role());
        if let Some(branch) = row.branch {
            text += &format!(",\"branch\":\"{}\"", branch.name());
        }
        text += &format!(",\"image\":{}", row.image);
        if !kept.is_empty() {
            text += &format!(",\"kept\":{}", serde_json::Value::from(kept.as_ref()));
        }
        text += &format!(",\"shape\":{}", serde_json::Value::from(form.shape.clone()));
        if let Some([height, width]) = grid {
            text += &format!(",\"grid\":[{height},{width}]");
        }
        text += &format!(",\"dtype\":\"{}\"", form.dtype_name());
        Middle { text: text.into_bytes(), form: form.clone(), grid, _kept: kept.clone() }
    }
}

/// JSON of a struct of plain values.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A JSON object without its closing brace.
fn without_end(mut json: Vec<u8>) -> Vec<u8> {
    json.pop();
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Numbers;
    use crate::{Entry, Key};
    use latentrace_nn::tch::Tensor;
    use latentrace_nn::{Attends, ModuleValue, Part, Role};

    #[test]
    fn a_line_in_parts_is_the_line_of_its_entry() {
        let numbers = Numbers::row(&Tensor::from_slice(&[1f32, -2.5, 0.1, f32::NAN]).view([2, 2]), 1).unwrap();
        let statistics = numbers.statistics();
        let role = Role::Module(Part::Unet, ModuleValue::Probs(Attends::Text));
        let tap = Tap::new("unet.\"odd\".out", role);
        let mut lines = Lines::new(5);
        let mut expected = Vec::new();
        for (number, (call, branch, kept, stored)) in [
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
        ]
        .into_iter()
        .enumerate()
        {
            let grid = branch.map(|_| [2, call as i64 + 1]);
            let moment = Moment { call, step: 2, evaluation: 1, t: 980.5, sigma: 0.1, grid, ..Moment::default() };
            let places = stored.as_ref().map(|stored: &Stored| Stored { dtype: "I64".into(), ..stored.clone() });
            let row = Row { index: 1, branch, image: call };
            let parts = [stored.as_ref(), places.as_ref()];
            lines.entry(&moment, &tap, row, &kept.into(), numbers.form(), &statistics, parts);
            let key = Key { call, tap: tap.name().into(), branch, image: call, kept: kept.into() };
            let Key { tap, kept, .. } = key;
            let entry = Entry {
                call,
                step: 2,
                evaluation: 1,
                t: 980.5,
                sigma: 0.1,
                tap,
                role: Some(role),
                branch,
                image: call,
                kept,
                shape: vec![1, 2],
                grid: grid.map(|sides| sides.map(|side| side as usize)),
                dtype: "F32".into(),
                statistics,
                stored,
                places,
            };
            Line::Entry(Box::new(entry)).write(1 + number as u64, 5, &mut expected);
        }
        let complete = Line::Complete { complete: 3, beyond_budget: 0 };
        lines.line(&complete);
        complete.write(4, 5, &mut expected);
        assert_eq!(String::from_utf8(lines.take()).unwrap(), String::from_utf8(expected).unwrap());
    }
}
