//! The lines of `index.jsonl`.

use crate::Statistics;
use latentrace_nn::{Branch, Role};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// The format version that this crate writes, and the latest that it reads.
pub const FORMAT: u64 = 1;

/// A tensor of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The network call, counted from 0.
    pub call: usize,
    /// The sampler's step.
    pub step: usize,
    /// Which call of its step, counted from 0.
    #[serde(default)]
    pub evaluation: usize,
    /// The timestep that the network is given.
    pub t: f64,
    /// The noise level, in `x = x0 + sigma * noise`.
    pub sigma: f64,
    /// The tap.
    pub tap: String,
    /// What the tensor is, as the line says. Older records do not say it: see [`Entry::role`].
    #[serde(default, skip_serializing_if = "Option::is_none", with = "role")]
    pub role: Option<Role>,
    /// The branch of guidance, if the tensor belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "branch")]
    pub branch: Option<Branch>,
    /// The image.
    #[serde(default)]
    pub image: usize,
    /// What was kept of it, as the rule says; empty if all was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kept: String,
    /// The shape of what was kept.
    pub shape: Vec<usize>,
    /// Height and width of the picture whose pixels, row by row, are one axis: the third of four, or the second of
    /// three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<[usize; 2]>,
    /// The number format before it was stored.
    pub dtype: String,
    /// Statistics of the numbers before they were stored.
    pub statistics: Statistics,
    /// Where the numbers are; `None` if only the statistics were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    /// Of a `topk`, where the places of its numbers are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<Stored>,
}

/// Where an entry's numbers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The file in `shards/`.
    pub shard: String,
    /// The tensor's name in it.
    pub name: String,
    /// The number format there.
    pub dtype: String,
    /// CRC-32 of its bytes, as zlib computes it. A trace of another program may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32: Option<u32>,
    /// The least and the greatest number, for a tensor stored in 256 levels and for a histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
}

impl Stored {
    /// The bytes of a tensor of this shape.
    fn bytes(&self, shape: &[usize]) -> u64 {
        let each = match self.dtype.as_str() {
            "F64" | "I64" => 8,
            "F32" => 4,
            "U8" => 1,
            _ => 2,
        };
        shape.iter().fold(each, |bytes: u64, &size| bytes.saturating_mul(size as u64))
    }
}

/// What identifies a tensor, in this trace and in others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The network call.
    pub call: usize,
    /// The tap.
    pub tap: String,
    /// The branch of guidance.
    pub branch: Option<Branch>,
    /// The image.
    pub image: usize,
    /// What was kept.
    pub kept: String,
}

impl Entry {
    /// What identifies the tensor.
    pub fn key(&self) -> Key {
        let Entry { call, tap, branch, image, kept, .. } = self;
        Key { call: *call, tap: tap.clone(), branch: *branch, image: *image, kept: kept.clone() }
    }

    /// What the tensor is. Where the line does not say it, it follows from the tap's name.
    pub fn role(&self) -> Role {
        self.role.unwrap_or_else(|| Role::of_name(&self.tap))
    }

    /// What is stored of it: its numbers, and the places of a `topk`.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Stored> {
        self.stored.iter().chain(&self.places)
    }

    /// The bytes that it takes in its shard.
    pub fn bytes(&self) -> u64 {
        self.parts().map(|stored| stored.bytes(&self.shape)).sum()
    }

    /// Whether it is one of the whole values of the sampler that every record has and no budget counts.
    pub fn is_of_flight_recorder(&self) -> bool {
        self.role().is_of_sampler() && self.kept.is_empty()
    }
}

impl Key {
    /// The tensor's name in its shard, such as `unet.mid_block.out/012/cond`.
    pub fn name(&self) -> String {
        let mut name = format!("{}/{:03}", self.tap, self.call);
        if let Some(branch) = self.branch {
            name += "/";
            name += branch.name();
        }
        if self.image > 0 {
            name += &format!("/image {}", self.image);
        }
        if !self.kept.is_empty() {
            name += " | ";
            name += &self.kept;
        }
        name
    }

    /// The name in the shard of the places of a `topk`.
    pub(crate) fn name_of_places(&self) -> String {
        format!("{}, places", self.name())
    }

    /// The call in a name that was made by [`Key::name`].
    pub(crate) fn call_of(name: &str) -> Option<usize> {
        name.split('/').nth(1)?.split(' ').next()?.parse().ok()
    }
}

/// A line of the index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// Everything of this call and of those before it is in the index.
    Complete {
        complete: usize,
        /// How many tensors did not fit the byte budget so far.
        #[serde(default, skip_serializing_if = "is_zero")]
        beyond_budget: u64,
    },
    /// The record has ended.
    End { end: End },
    /// A tensor.
    Entry(Box<Entry>),
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How a record ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Why the run stopped before its end, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many tensors did not fit the byte budget.
    #[serde(default)]
    pub beyond_budget: u64,
}

/// A line as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Read {
    pub(crate) line: Line,
    /// Its number, counted from 1. Lines of other programs and of older records have none.
    pub(crate) number: Option<u64>,
    /// The CRC-32 of `run.json`, from the first line.
    pub(crate) run_crc32: Option<u32>,
}

impl Line {
    /// Writes the line with its number and checksum at its end, and the first with the CRC-32 of `run.json`.
    pub(crate) fn write(&self, number: u64, run_crc32: u32, lines: &mut Vec<u8>) {
        let begin = lines.len();
        let _ = serde_json::to_writer(&mut *lines, self); // plain values, to memory: does not fail
        lines.pop(); // the closing brace: more fields follow
        finish(begin, number, run_crc32, lines);
    }

    /// Reads a line that has no newline.
    pub(crate) fn read(text: &str) -> Result<Read, String> {
        let mut body = text;
        if let Some(at) = text.rfind(CHECK) {
            let check = text[at + CHECK.len()..].strip_suffix("\"}");
            let check = check.and_then(|check| u32::from_str_radix(check, 16).ok());
            body = &text[..at];
            if check != Some(crc32fast::hash(body.as_bytes())) {
                return Err("has changed since it was written".into());
            }
        }
        let (body, number) = last(body, NUMBER);
        let (_, run_crc32) = last(body, RUN);
        let line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Read { line, number, run_crc32 })
    }
}

/// Completes a line that begins at `begin` and lacks its closing brace.
pub(crate) fn finish(begin: usize, number: u64, run_crc32: u32, lines: &mut Vec<u8>) {
    if number == 1 {
        let _ = write!(lines, "{RUN}{run_crc32}"); // to memory, which does not fail
    }
    let _ = write!(lines, "{NUMBER}{number}");
    let check = crc32fast::hash(&lines[begin..]);
    let _ = writeln!(lines, "{CHECK}{check:08x}\"}}");
}

/// The text before the last field of a line and the number in that field, if the field has this name.
fn last<'a, N: std::str::FromStr>(body: &'a str, name: &str) -> (&'a str, Option<N>) {
    let at = body.rfind(name);
    match at.and_then(|at| Some((&body[..at], body[at + name.len()..].parse().ok()?))) {
        Some((before, number)) => (before, Some(number)),
        None => (body, None),
    }
}

/// Precedes the CRC-32 of `run.json` in the first line.
const RUN: &str = ",\"run_crc32\":";

/// Precedes a line's number, its second-last field.
const NUMBER: &str = ",\"line\":";

/// Precedes a line's checksum, its last field.
const CHECK: &str = ",\"check\":\"";

mod role {
    use super::Role;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(role: &Option<Role>, to: S) -> Result<S::Ok, S::Error> {
        match role {
            Some(role) => to.collect_str(role),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Role>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

mod branch {
    use super::Branch;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(branch: &Option<Branch>, to: S) -> Result<S::Ok, S::Error> {
        match branch {
            Some(branch) => to.serialize_str(branch.name()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Branch>, D::Error> {
        match Option::<String>::deserialize(from)?.as_deref() {
            None => Ok(None),
            Some("cond") => Ok(Some(Branch::Conditional)),
            Some("uncond") => Ok(Some(Branch::Unconditional)),
            Some(other) => Err(D::Error::custom(format!("branch {other}: expected cond or uncond"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::{ModuleValue, Part};

    fn entry() -> Entry {
        Entry {
            call: 12,
            step: 11,
            evaluation: 0,
            t: 741.0,
            sigma: 3.25,
            tap: "unet.mid_block.out".into(),
            role: Some(Role::Module(Part::Unet, ModuleValue::Residual)),
            branch: Some(Branch::Conditional),
            image: 0,
            kept: "head_mean".into(),
            shape: vec![1, 2],
            grid: Some([2, 1]),
            dtype: "F32".into(),
            statistics: Statistics { mean: 0.5, rms: 1.0, min: -0.1, max: 2.0, nan: 1, inf: 0 },
            stored: Some(Stored {
                shard: "000012.safetensors".into(),
                name: "x".into(),
                dtype: "F32".into(),
                crc32: Some(7),
                range: None,
            }),
            places: None,
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_every_flipped_bit_is_seen() {
        for line in [
            Line::Entry(Box::new(entry())),
            Line::Complete { complete: 3, beyond_budget: 0 },
            Line::Complete { complete: 3, beyond_budget: 9 },
            Line::End { end: End { error: Some("NaN, \"x\"".into()), beyond_budget: 2 } },
        ] {
            let written = |number| {
                let mut text = Vec::new();
                line.write(number, 77, &mut text);
                String::from_utf8(text).unwrap().trim_end().to_string()
            };
            let read = |number, run_crc32| Read { line: line.clone(), number: Some(number), run_crc32 };
            assert_eq!(Line::read(&written(1)).unwrap(), read(1, Some(77)));
            let text = written(417);
            assert_eq!(Line::read(&text).unwrap(), read(417, None));
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["line"], 417, "any reader finds it");
            for bit in 0..8 * text.len() {
                let mut bytes = text.as_bytes().to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                // A flip in the word "check" makes it a line without checksum; all else is as it was.
                assert!(Line::read(&changed).is_err() || Line::read(&changed).unwrap().line == line, "{changed}");
            }
        }
        assert_eq!(entry().key().name(), "unet.mid_block.out/012/cond | head_mean");
    }

    #[test]
    fn a_tensors_name_says_its_call() {
        for (image, kept) in [(0, ""), (0, "tokens(a/9)"), (3, ""), (1, "q8")] {
            let key = Key { image, kept: kept.into(), ..entry().key() };
            assert_eq!(Key::call_of(&key.name()), Some(12), "{}", key.name());
            assert_eq!(Key::call_of(&Key { branch: None, ..key }.name()), Some(12));
        }
        assert_eq!((Key::call_of("foreign"), Key::call_of("a/b")), (None, None));
    }

    #[test]
    fn a_foreign_line_needs_only_what_nothing_else_says() {
        let text = r#"{"call":0,"step":0,"t":981,"sigma":13.5,"tap":"unet.out","shape":[1],"dtype":"F32","statistics":{"mean":0,"rms":0,"min":0,"max":0},"stored":{"shard":"000000.safetensors","name":"a","dtype":"F32"}}"#;
        let Ok(Read { line: Line::Entry(entry), number: None, run_crc32: None }) = Line::read(text) else {
            panic!("no entry")
        };
        assert_eq!((entry.branch, entry.image, entry.kept.as_str()), (None, 0, ""));
    }
}
