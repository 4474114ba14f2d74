//! The lines of `index.jsonl`.

use crate::Statistics;
use latentrace_nn::Branch;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// The version of the format that this crate writes, and the last that it reads.
pub const FORMAT: u64 = 1;

/// A tensor of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The network call, counted from 0.
    pub call: usize,
    /// The sampler's step.
    pub step: usize,
    /// Which call of its step.
    #[serde(default)]
    pub evaluation: usize,
    /// The network's time.
    pub t: f64,
    /// The noise level, in `x = x0 + sigma * noise`.
    pub sigma: f64,
    /// The tap.
    pub tap: String,
    /// The branch of guidance, where the tensor belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "branch")]
    pub branch: Option<Branch>,
    /// The image.
    #[serde(default)]
    pub image: usize,
    /// What was kept of it, as the rule says: empty for all of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kept: String,
    /// The shape of what was kept.
    pub shape: Vec<usize>,
    /// The number format it had before it was stored.
    pub dtype: String,
    /// What its numbers were like before they were stored.
    pub statistics: Statistics,
    /// Where the numbers are, unless only the statistics were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
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
    /// CRC-32 of its bytes, as zlib computes it; a foreign trace may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32: Option<u32>,
    /// The least and the greatest number of a tensor in 256 levels, or of a histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
}

/// What makes a tensor comparable with one of another trace.
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
    /// What makes the tensor comparable.
    pub fn key(&self) -> Key {
        let Entry { call, tap, branch, image, kept, .. } = self;
        Key { call: *call, tap: tap.clone(), branch: *branch, image: *image, kept: kept.clone() }
    }
}

impl Key {
    /// `unet.mid_block.out/012/cond`: the tensor's name in its shard.
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
}

/// A line of the index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// Everything of this call and those before it is in the index.
    Complete { complete: usize },
    /// The record has ended.
    End { end: End },
    /// A tensor.
    Entry(Box<Entry>),
}

/// How a record ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Why the run stopped before its end, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many tensors the byte budget kept out.
    #[serde(default)]
    pub beyond_budget: u64,
}

impl Line {
    /// The line, with its own checksum at its end.
    pub(crate) fn write(&self, lines: &mut String) {
        let json = serde_json::to_string(self).unwrap_or_default(); // plain structs of plain values
        let body = json.strip_suffix('}').unwrap_or(&json);
        lines.push_str(body);
        let _ = writeln!(lines, "{CHECK}{:08x}\"}}", crc32fast::hash(body.as_bytes())); // to a String, which does not fail
    }

    /// Reads a line without its newline. A line without a checksum is a foreign one, and is read.
    pub(crate) fn read(text: &str) -> Result<Line, String> {
        if let Some(at) = text.rfind(CHECK) {
            let (body, check) = (&text[..at], &text[at + CHECK.len()..]);
            let check = check.strip_suffix("\"}").and_then(|check| u32::from_str_radix(check, 16).ok());
            if check != Some(crc32fast::hash(body.as_bytes())) {
                return Err("has changed since it was written".into());
            }
        }
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// What comes before a line's checksum.
pub(crate) const CHECK: &str = ",\"check\":\"";

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

    fn entry() -> Entry {
        Entry {
            call: 12,
            step: 11,
            evaluation: 0,
            t: 741.0,
            sigma: 3.25,
            tap: "unet.mid_block.out".into(),
            branch: Some(Branch::Conditional),
            image: 0,
            kept: "head_mean".into(),
            shape: vec![1, 2],
            dtype: "F32".into(),
            statistics: Statistics { mean: 0.5, rms: 1.0, min: -0.1, max: 2.0, nan: 1, inf: 0 },
            stored: Some(Stored {
                shard: "000012.safetensors".into(),
                name: "x".into(),
                dtype: "F32".into(),
                crc32: Some(7),
                range: None,
            }),
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_every_flipped_bit_is_seen() {
        for line in [
            Line::Entry(Box::new(entry())),
            Line::Complete { complete: 3 },
            Line::End { end: End { error: Some("NaN, \"x\"".into()), beyond_budget: 2 } },
        ] {
            let mut text = String::new();
            line.write(&mut text);
            let text = text.strip_suffix('\n').unwrap();
            assert_eq!(Line::read(text).unwrap(), line);
            for bit in 0..8 * text.len() {
                let mut bytes = text.as_bytes().to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                // A flip in the word "check" makes a foreign line of it, all else in place.
                assert!(Line::read(&changed).is_err() || Line::read(&changed).unwrap() == line, "{changed}");
            }
        }
        assert_eq!(entry().key().name(), "unet.mid_block.out/012/cond | head_mean");
    }

    #[test]
    fn a_foreign_line_needs_only_what_nothing_else_says() {
        let text = r#"{"call":0,"step":0,"t":981,"sigma":13.5,"tap":"unet.out","shape":[1],"dtype":"F32","statistics":{"mean":0,"rms":0,"min":0,"max":0},"stored":{"shard":"000000.safetensors","name":"a","dtype":"F32"}}"#;
        let Ok(Line::Entry(entry)) = Line::read(text) else { panic!("no entry") };
        assert_eq!((entry.branch, entry.image, entry.kept.as_str()), (None, 0, ""));
    }
}
