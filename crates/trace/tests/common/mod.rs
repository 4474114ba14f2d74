//! A run without a model: tensors that pass taps, call by call.

use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Branch, Moment, Pass, Probe, Role, Rows, Tap, seeded};
use latentrace_trace::{Capture, Key, Layout, Prompt, Recorder, Result, Rule, Trace, Words, Writer};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor that passes a tap.
pub struct Passing {
    pub tap: Tap,
    pub moment: Moment,
    pub tensor: Tensor,
}

/// A run: what passes, in order.
pub struct Run {
    pub taps: Vec<Tap>,
    pub passing: Vec<Passing>,
    pub calls: usize,
}

/// Normal noise of a seed.
pub fn noise(seed: u64, shape: &[i64]) -> Tensor {
    seeded(seed, || Tensor::randn(shape, (Kind::Float, Device::Cpu)))
}

impl Run {
    pub const STEPS: usize = 3;

    /// Two calls a step; each image has a text for both branches, taps of several shapes and formats, and the sampler.
    pub fn new(calls: usize, images: i64) -> Run {
        Run::changed(calls, images, |_, _, tensor| tensor)
    }

    /// The same, with each tensor changed.
    pub fn changed(calls: usize, images: i64, change: impl Fn(&str, usize, Tensor) -> Tensor) -> Run {
        let mut run = Run { taps: Vec::new(), passing: Vec::new(), calls };
        for call in 0..calls {
            let moment = Moment {
                call,
                step: call / 2,
                evaluation: call % 2,
                t: 999.0 - 333.3 * call as f64,
                sigma: 14.6 / (1.0 + call as f64 / 3.0),
                ..Moment::default()
            };
            let mut pass = |name: &str, rows: Rows, tensor: Tensor| {
                let grid = name.ends_with(".probs").then_some([3, 3]);
                run.pass(name, Moment { rows, grid, ..moment }, change(name, call, tensor));
            };
            let draw = |place: u64, shape: &[i64]| noise(100 * call as u64 + place, shape);
            let sample = draw(0, &[images, 4, 3, 3]);
            pass("sampler.sample", Rows::Images, sample.shallow_clone());
            if call == 0 {
                pass("text_encoder.out", Rows::Branch(Branch::Unconditional), draw(1, &[1, 5, 6]));
                pass("text_encoder.out", Rows::Branch(Branch::Conditional), draw(2, &[1, 5, 6]));
            }
            pass("unet.time_embedding", Rows::Branches, draw(3, &[1, 8]));
            pass("unet.mid_block.out", Rows::Branches, draw(4, &[2 * images, 3, 4, 4]));
            pass("unet.half.out", Rows::Branches, draw(5, &[2 * images, 7]).to_kind(Kind::BFloat16));
            let probs = draw(6, &[2 * images, 2, 9, 5]).softmax(-1, Kind::Float);
            pass("unet.x.attn2.probs", Rows::Branches, probs);
            pass("sampler.epsilon.guided", Rows::Images, draw(7, &[images, 4, 3, 3]));
            pass("sampler.denoised", Rows::Images, sample);
        }
        run
    }

    pub fn empty() -> Run {
        Run { taps: Vec::new(), passing: Vec::new(), calls: 0 }
    }

    /// Adds a tensor that passes.
    pub fn pass(&mut self, name: &str, moment: Moment, tensor: Tensor) {
        let tap = match self.taps.iter().find(|tap| tap.name() == name) {
            Some(tap) => tap.clone(),
            None => tap(name),
        };
        if self.taps.iter().all(|known| known.name() != name) {
            self.taps.push(tap.clone());
        }
        self.calls = self.calls.max(moment.call + 1);
        self.passing.push(Passing { tap, moment, tensor });
    }

    /// Passes everything through a probe, and returns what it returns.
    pub fn play(&self, probe: &mut dyn Probe) -> Vec<Tensor> {
        self.play_from(0, probe)
    }

    /// The same from a call on.
    pub fn play_from(&self, call: usize, probe: &mut dyn Probe) -> Vec<Tensor> {
        let mut pass = Pass::watched(probe);
        let rest = self.passing.iter().filter(|passing| passing.moment.call >= call);
        rest.map(|Passing { tap, moment, tensor }| {
            pass.set_moment(*moment);
            pass.tap(tap, tensor.shallow_clone())
        })
        .collect()
    }

    /// A recorder of the run.
    pub fn recorder(&self, rules: &[&str], budget: Option<u64>, writer: Writer) -> Result<Recorder> {
        let rules = rules.iter().map(|text| Rule::parse(text)).collect::<Result<_>>()?;
        Recorder::new(&Capture { rules, budget }, &self.taps, words(), Run::STEPS, writer)
    }

    /// Records the run, and returns how many tensors did not fit the budget.
    pub fn record(&self, folder: &Path, rules: &[&str], budget: Option<u64>, layout: Layout) -> Result<u64> {
        let writer = Writer::create(folder, &about(), layout)?;
        let mut recorder = self.recorder(rules, budget, writer)?;
        for (out, passing) in self.play(&mut recorder).iter().zip(&self.passing) {
            assert_eq!(out.data_ptr(), passing.tensor.data_ptr(), "recording returns the same tensor");
        }
        recorder.end(None)
    }

    /// The whole tensor of every key of the run, cut into rows by hand.
    pub fn rows(&self) -> BTreeMap<Key, Tensor> {
        let mut rows = BTreeMap::new();
        for Passing { tap, moment, tensor } in &self.passing {
            let count = tensor.size()[0];
            for index in 0..count {
                let half = count / 2;
                let (branch, image) = match moment.rows {
                    Rows::Branches if count == 1 => (None, 0),
                    Rows::Branches if index < half => (Some(Branch::Unconditional), index),
                    Rows::Branches => (Some(Branch::Conditional), index - half),
                    Rows::Branch(branch) => (Some(branch), index),
                    Rows::Images => (None, index),
                };
                let image = moment.image + image as usize;
                rows.insert(key(tap.name(), moment.call, branch, image), tensor.narrow(0, index, 1));
            }
        }
        rows
    }
}

/// A tap with the role that its name has in a model.
pub fn tap(name: &str) -> Tap {
    Tap::new(name, Role::of_name(name))
}

pub fn key(tap: &str, call: usize, branch: Option<Branch>, image: usize) -> Key {
    Key { call, tap: tap.into(), branch, image, kept: String::new() }
}

/// The tokens of two prompts of five places, the start token's and an end token's among them.
pub fn words() -> Words {
    Words { conditional: prompt("a red cat"), unconditional: prompt("a dog") }
}

/// A text of which every word is a token.
pub fn prompt(text: &str) -> Prompt {
    Prompt::new(text, &text.split(' ').map(str::to_string).collect::<Vec<_>>())
}

pub fn about() -> serde_json::Value {
    serde_json::json!({ "prompt": "a red cat", "seed": 5 })
}

/// A tensor's bytes, row by row.
pub fn bits(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Whether two tensors are the same in format, shape and every bit.
pub fn same(a: &Tensor, b: &Tensor) -> bool {
    (a.kind(), a.size()) == (b.kind(), b.size()) && bits(a) == bits(b)
}

/// Checks that every entry with numbers can be read and is bit by bit what passed; returns how many there are.
pub fn holds_what_passed(trace: &Trace, rows: &BTreeMap<Key, Tensor>) -> usize {
    let stored = trace.entries().iter().filter(|entry| entry.stored.is_some());
    stored
        .map(|entry| {
            let read = trace.tensor(entry).unwrap();
            let passed = &rows[&Key { kept: String::new(), ..entry.key() }];
            assert!(same(&read, passed), "{}", entry.key().name());
        })
        .count()
}

/// The numbers of a tensor.
pub fn list(tensor: &Tensor) -> Vec<f64> {
    tensor.to_kind(Kind::Double).flatten(0, -1).try_into().unwrap()
}
