//! Interventions: `unet.mid_block.out @step[10:20] @branch{cond} => scale(0.5)`.

use crate::call::Call;
use crate::error::{Error, Result, rule};
use crate::reduction::has_heads;
use crate::{Key, Selector, Trace, Words};
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Attends, ModuleValue, Moment, Part, Probe, Row, Tap, seeded};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What is done to a tensor, one row at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// `zero`: every number becomes 0.
    Zero,
    /// `mean`: every channel is replaced by its mean over the pixels (in an attention, every feature by its mean over
    /// the pixels).
    Mean,
    /// `scale(f)`: times a number.
    Scale(f64),
    /// `add(x)`: plus a number.
    Add(f64),
    /// `add(TRACE, f)`: plus `f` times the tensor of another run with the same call, tap, branch and image.
    AddFrom(PathBuf, f64),
    /// `noise(s)` or `noise(s, seed)`: plus normal noise of `s` times the tensor's own standard deviation.
    Noise(f64, u64),
    /// `replace(TRACE)`: the tensor of another run with the same call, tap, branch and image.
    Replace(PathBuf),
    /// `skip`: the module is left out, and the stream that it adds to is passed on. For the outputs of residual
    /// modules.
    Skip,
    /// `mask(a, b)`: no pixel attends to these words. For the scores of cross-attention.
    Mask(Vec<String>),
    /// `reweight(a, f)`: attention to a word times a number (Hertz et al. 2022, section 3.2). For the probabilities of
    /// cross-attention.
    Reweight(String, f64),
}

/// The edits, for a hint.
const KNOWN: &str =
    "zero, mean, scale(0.5), add(0.1), add(TRACE, 0.5), noise(0.1), replace(TRACE), skip, mask(red), reweight(red, 2)";

/// An edit rule, `selector => edit`: which tensors to change, and how. It is parsed once, with [`FromStr`];
/// [`Display`](std::fmt::Display) and serde write it exactly as it was given.
#[derive(Clone, Debug)]
pub struct EditRule {
    text: String,
    pub(crate) selector: Selector,
    pub(crate) edit: Edit,
}

impl EditRule {
    /// Reads a rule such as `unet.mid_block.out @step[10:20] => scale(0.5)`.
    ///
    /// # Errors
    /// The selector or the edit cannot be read.
    pub fn parse(text: &str) -> Result<EditRule> {
        let (selector, edit) = text.split_once("=>").ok_or_else(|| {
            rule(text, "no => between what is selected and what is done to it", format!("edits are {KNOWN}"))
        })?;
        let unknown = || rule(text, format!("{} is no edit", edit.trim()), format!("edits are {KNOWN}"));
        let edit = Edit::parse(edit).ok_or_else(unknown)?;
        Ok(EditRule { text: text.into(), selector: Selector::parse(selector)?, edit })
    }

    /// The rule as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Which tensors, and when.
    pub fn selector(&self) -> &Selector {
        &self.selector
    }

    /// What is done to these tensors.
    pub fn edit(&self) -> &Edit {
        &self.edit
    }

    /// Whether a window of the selector counts steps, see [`Selector::counts_steps`].
    pub fn counts_steps(&self) -> bool {
        self.selector.counts_steps()
    }

    /// The trace of another run that the rule takes tensors from: that of `replace(TRACE)` or `add(TRACE, f)`.
    pub fn reads(&self) -> Option<&Path> {
        match &self.edit {
            Edit::Replace(path) | Edit::AddFrom(path, _) => Some(path),
            _ => None,
        }
    }

    /// The same rule with another trace in the place of the one that it reads. A rule that reads none stays as it is.
    pub fn reading(self, trace: &Path) -> EditRule {
        let (selector, path) = (self.selector.text(), trace.display());
        let (text, edit) = match self.edit {
            Edit::Replace(_) => (format!("{selector} => replace({path})"), Edit::Replace(trace.into())),
            Edit::AddFrom(_, factor) => {
                (format!("{selector} => add({path}, {factor})"), Edit::AddFrom(trace.into(), factor))
            }
            edit => (self.text, edit),
        };
        EditRule { text, edit, selector: self.selector }
    }
}

impl FromStr for EditRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<EditRule> {
        EditRule::parse(text)
    }
}

as_text!(EditRule);

impl Edit {
    fn parse(text: &str) -> Option<Edit> {
        // A path may contain any character, so edits with a path are parsed first.
        let inside = |name: &str| text.trim().strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')').map(str::trim);
        if let Some(path) = inside("replace").filter(|path| !path.is_empty()) {
            return Some(Edit::Replace(path.into()));
        }
        if let Some((path, scale)) = inside("add").and_then(|both| both.rsplit_once(',')) {
            return Some(Edit::AddFrom(path.trim().into(), finite(scale)?));
        }
        let call = Call::parse(text)?;
        match (call.name, call.arguments.as_slice()) {
            ("zero", []) => Some(Edit::Zero),
            ("mean", []) => Some(Edit::Mean),
            ("skip", []) => Some(Edit::Skip),
            ("scale", [factor]) => Some(Edit::Scale(finite(factor)?)),
            ("add", [number]) => Some(Edit::Add(finite(number)?)),
            ("noise", [deviation]) => Some(Edit::Noise(finite(deviation)?, 0)),
            ("noise", [deviation, seed]) => Some(Edit::Noise(finite(deviation)?, seed.parse().ok()?)),
            ("mask", [_, ..]) => Some(Edit::Mask(call.arguments.iter().map(|word| word.to_string()).collect())),
            ("reweight", [word, factor]) => Some(Edit::Reweight(word.to_string(), finite(factor)?)),
            _ => None,
        }
    }

    /// Checks that the edit is possible at a tap.
    pub(crate) fn check(&self, text: &str, tap: &Tap) -> Result<()> {
        let name = tap.name();
        let value = tap.role().module();
        match self {
            Edit::Skip if !tap.is_residual() => {
                let hint = "residual modules can be left out: the `out` of a resnet, an attention, a feed-forward or a transformer";
                Err(rule(text, format!("{name} cannot be skipped"), hint))
            }
            Edit::Mask(_) if value != Some(ModuleValue::Scores(Attends::Text)) => {
                Err(rule(text, format!("{name} holds no scores of words"), "mask is for unet.**.attn2.scores"))
            }
            Edit::Reweight(..) if value != Some(ModuleValue::Probs(Attends::Text)) => Err(rule(
                text,
                format!("{name} holds no probabilities of words"),
                "reweight is for unet.**.attn2.probs",
            )),
            _ => Ok(()),
        }
    }

    /// The words of the prompt that it names.
    pub(crate) fn words(&self) -> &[String] {
        match self {
            Edit::Mask(words) => words,
            Edit::Reweight(word, _) => std::slice::from_ref(word),
            _ => &[],
        }
    }
}

fn finite(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A probe that changes what its rules select, in the order of the rules.
pub struct Edits {
    rules: Vec<EditRule>,
    /// The rules that select each tap, by [`Tap::id`].
    selected: HashMap<u32, Vec<usize>>,
    traces: HashMap<PathBuf, Trace>,
    words: Words,
    steps: usize,
    /// The first call that is edited.
    begin: usize,
    failed: Option<Error>,
}

impl Edits {
    /// The edits of a run of `steps` steps on a model with these taps. A [`Course`](crate::Course) counts before the
    /// run how often each rule will change something.
    ///
    /// # Errors
    /// A rule selects no tap or does not fit what it selects, or its trace cannot be opened or lacks a tap that it
    /// selects.
    pub fn new(rules: &[EditRule], taps: &[Tap], words: Words, steps: usize) -> Result<Edits> {
        let mut selected: HashMap<u32, Vec<usize>> = HashMap::new();
        let mut traces = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let of_rule: Vec<&Tap> = taps.iter().filter(|tap| rule.selector.names(tap)).collect();
            if of_rule.is_empty() {
                return Err(rule.selector.fits_nothing(taps.iter().map(Tap::name)));
            }
            words.check(rule.edit.words(), &rule.text)?;
            for tap in &of_rule {
                rule.edit.check(&rule.text, tap)?;
                selected.entry(tap.id()).or_default().push(index);
            }
            if let Some(path) = rule.reads() {
                if !traces.contains_key(path) {
                    traces.insert(path.to_path_buf(), Trace::open(path)?);
                }
                holds_all(&traces[path], &rule.text, &of_rule)?;
            }
        }
        Ok(Edits { rules: rules.to_vec(), selected, traces, words, steps, begin: 0, failed: None })
    }

    /// The same edits for a run whose calls before `call` are taken from a record: these were edited already. Only
    /// texts and pictures are edited as always, because every run encodes and decodes them itself.
    pub fn beginning_at(self, call: usize) -> Edits {
        Edits { begin: call, ..self }
    }

    /// Returns the first error of the run. An edit that fails leaves its tensor unchanged.
    ///
    /// # Errors
    /// The trace of another run lacks a tensor, or has it in another shape.
    pub fn outcome(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn admitted(&self, tap: &Tap, moment: &Moment) -> impl Iterator<Item = usize> {
        let known = moment.call < self.begin && !is_computed_again(tap);
        let rules = self.selected.get(&tap.id()).filter(|_| !known).map(Vec::as_slice).unwrap_or_default();
        rules.iter().copied().filter(|&rule| self.rules[rule].selector.admits(moment, self.steps))
    }

    /// Applies `edit` to the rows that a rule selects; the other rows are unchanged.
    fn rows(
        &self,
        rule: &EditRule,
        moment: &Moment,
        tensor: Tensor,
        mut edit: impl FnMut(Row, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let rows = moment.rows(tensor.size().first().copied().unwrap_or(0));
        let each = rows.into_iter().map(|row| {
            let part = tensor.narrow(0, row.index, 1);
            if rule.selector.admits_row(&row) { edit(row, part) } else { Ok(part) }
        });
        Ok(Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0))
    }

    fn apply(&self, index: usize, tap: &Tap, moment: Moment, tensor: Tensor) -> Result<Tensor> {
        let rule = &self.rules[index];
        self.rows(rule, &moment, tensor, |row, part| {
            let other = |path: &PathBuf| self.other(path, tap, &moment, row, &part);
            Ok(match &rule.edit {
                Edit::Zero => part.zeros_like(),
                Edit::Mean => mean(tap, &part),
                Edit::Scale(factor) => part * *factor,
                Edit::Add(number) => part + *number,
                Edit::AddFrom(path, factor) => &part + other(path)? * *factor,
                Edit::Noise(deviation, seed) => noised(&part, *deviation, stream(*seed, &rule.text, tap, &moment, row)),
                Edit::Replace(path) => other(path)?,
                Edit::Skip => part, // see `leave_out`
                Edit::Mask(of) => columns(&part, &self.words.all_places(of, row.branch), f64::NEG_INFINITY, 1.0),
                Edit::Reweight(word, factor) => columns(&part, &self.words.places(word, row.branch), 0.0, *factor),
            })
        })
    }

    /// The tensor of another run with the same call, tap, branch and image, in the number format and on the device of
    /// `like`.
    fn other(&self, path: &PathBuf, tap: &Tap, moment: &Moment, row: Row, like: &Tensor) -> Result<Tensor> {
        let key = Key {
            call: moment.call,
            tap: tap.name().into(),
            branch: row.branch,
            image: row.image,
            kept: String::new(),
        };
        let absent = |hint: String| Error::Absent { name: key.name(), folder: path.display().to_string(), hint };
        let trace = &self.traces[path];
        let entry = trace.find(&key).ok_or_else(|| absent("that run had fewer calls, or did not keep it".into()))?;
        let tensor = trace.tensor(entry)?;
        match tensor.size() == like.size() {
            true => Ok(tensor.to_kind(like.kind()).to_device(like.device())),
            false => {
                Err(absent(format!("it is there in shape {:?}, and {:?} is called for", tensor.size(), like.size())))
            }
        }
    }
}

impl Probe for Edits {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        self.admitted(tap, moment).next().is_some()
    }

    fn visit(&mut self, tap: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
        let mut tensor = tensor;
        for index in self.admitted(tap, &moment).collect::<Vec<_>>() {
            if self.rules[index].edit == Edit::Skip {
                continue;
            }
            match self.apply(index, tap, moment, tensor.shallow_clone()) {
                Ok(edited) => tensor = edited,
                Err(error) => _ = self.failed.get_or_insert(error),
            }
        }
        tensor
    }

    fn leave_out(&mut self, tap: &Tap, moment: Moment, tensor: Tensor, without: &dyn Fn() -> Tensor) -> Tensor {
        let mut tensor = tensor;
        for index in self.admitted(tap, &moment).collect::<Vec<_>>() {
            let rule = &self.rules[index];
            if rule.edit == Edit::Skip {
                let without = without();
                let left_out = |row: Row, _| Ok(without.narrow(0, row.index, 1));
                match self.rows(rule, &moment, tensor.shallow_clone(), left_out) {
                    Ok(edited) => tensor = edited,
                    Err(error) => _ = self.failed.get_or_insert(error),
                }
            }
        }
        tensor
    }

    fn stop(&mut self, _: &Moment) -> Option<String> {
        self.failed.as_ref().map(Error::to_string)
    }
}

/// Whether a tensor is of the network whose calls a run may take from a record.
pub(crate) fn is_of_denoiser(tap: &Tap) -> bool {
    matches!(tap.role().part(), Some(Part::Unet | Part::Other))
}

/// Whether a run that takes calls from a record still computes what passes a tap: so it is for text encoders and for the VAE.
pub(crate) fn is_computed_again(tap: &Tap) -> bool {
    matches!(tap.role().part(), Some(Part::TextEncoder | Part::Vae))
}

/// Checks that a trace has whole tensors of every tap.
fn holds_all(trace: &Trace, text: &str, taps: &[&Tap]) -> Result<()> {
    let whole = |tap: &Tap| trace.of_tap(tap.name()).any(|entry| entry.kept.is_empty() && entry.stored.is_some());
    match taps.iter().find(|tap| !whole(tap)) {
        None => Ok(()),
        Some(tap) => Err(Error::Absent {
            name: format!("{text}: {}", tap.name()),
            folder: trace.folder().display().to_string(),
            hint: format!("record that run with --capture {}", tap.name()),
        }),
    }
}

/// Every channel or feature replaced by its mean over the pixels.
fn mean(tap: &Tap, part: &Tensor) -> Tensor {
    let axes: &[i64] = match part.dim() {
        4 if has_heads(tap) => &[2],
        4 => &[2, 3],
        3 => &[1],
        _ => &[-1],
    };
    part.mean_dim(axes, true, None::<Kind>).expand_as(part).contiguous()
}

/// Plus normal noise of `deviation` times the tensor's own standard deviation.
fn noised(part: &Tensor, deviation: f64, seed: u64) -> Tensor {
    let noise = seeded(seed, || Tensor::randn(part.size(), (Kind::Float, Device::Cpu))).to_device(part.device());
    let size = part.to_kind(Kind::Float).std(false);
    (part.to_kind(Kind::Float) + noise * size * deviation).to_kind(part.kind())
}

/// A separate seed for every rule, tap, call and row, so that no noise depends on that of another edit.
fn stream(seed: u64, rule: &str, tap: &Tap, moment: &Moment, row: Row) -> u64 {
    let words = format!("{seed} {rule} {} {} {} {:?}", tap.name(), moment.call, row.image, row.branch);
    let hash = words
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash >> 1
}

/// The columns at some places of the last axis times `factor`, plus `shift`.
fn columns(part: &Tensor, places: &[i64], shift: f64, factor: f64) -> Tensor {
    let count = part.size()[part.dim() - 1];
    let options = (part.kind(), part.device());
    let (factors, shifts) = (Tensor::ones([count], options), Tensor::zeros([count], options));
    for &place in places.iter().filter(|place| (0..count).contains(*place)) {
        let _ = factors.get(place).fill_(factor);
        let _ = shifts.get(place).fill_(shift);
    }
    part * factors + shifts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_another_record_in_the_place_of_its_own() {
        let read = |rule: &str| EditRule::parse(rule).unwrap();
        let put = |rule: &str| read(rule).reading(Path::new("/new, (odd)/b"));
        assert_eq!(put("a.** @step[1:2] => replace(old)").text(), "a.** @step[1:2] => replace(/new, (odd)/b)");
        assert_eq!(put("a => add(old, 0.25)").text(), "a => add(/new, (odd)/b, 0.25)");
        assert_eq!(put("a =>  add( 0.25)").text(), "a =>  add( 0.25)");
        for rule in ["a => replace(x)", "a @step[2] => add( x , 1)"] {
            assert_eq!(put(rule).reads(), Some(Path::new("/new, (odd)/b")));
            assert_eq!(put(rule).edit(), read(put(rule).text()).edit(), "what is written is what it does");
        }
        assert_eq!(read("a => scale(2)").reads(), None);
        assert!(EditRule::parse("a => halve").is_err());
    }

    #[test]
    fn a_rule_is_shown_written_and_read_exactly_as_it_was_given() {
        for text in
            ["unet.**  @step[1]=>scale( 0.50 )", " a.out @sigma[1:]  =>  add( /x y/z , 2e-1)", "a=>reweight(red,2)"]
        {
            let Ok(rule) = text.parse::<EditRule>() else { panic!("{text}") };
            assert_eq!((rule.to_string().as_str(), rule.text()), (text, text));
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(json, serde_json::to_string(text).unwrap());
            let again: EditRule = serde_json::from_str(&json).unwrap();
            assert_eq!((again.edit(), again.selector(), &again), (rule.edit(), rule.selector(), &rule));
        }
        assert_ne!(EditRule::parse("a => zero").unwrap(), EditRule::parse("a  => zero").unwrap(), "as text");
        let error = serde_json::from_str::<EditRule>("\"a => halve\"").unwrap_err().to_string();
        assert!(error.contains("a => halve: halve is no edit\nhint: edits are zero"), "{error}");
        let counts = |text: &str| EditRule::parse(text).unwrap().counts_steps();
        assert!(counts("a @step[1] => zero") && counts("a @eval[0] => zero") && !counts("a @sigma[1:] => zero"));
    }
}
