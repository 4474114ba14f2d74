//! Selectors: which tensors, and when, as in `unet.**.attn2.probs @step[0:50:5] @sigma[1:15] @branch{cond}`.

use crate::error::{Result, rule};
use globset::{GlobBuilder, GlobMatcher};
use latentrace_nn::{Branch, Moment, Row, Tap};
use std::fmt;

/// A pattern of tap names, and windows that a tensor's moment must be in.
///
/// In the pattern, `*` stands for any characters within one part of a name, `**` for any parts, `{a,b}` for either. The
/// windows are `@step[a:b:k]`, a Python slice (`@step[3]` is one step, `@step[-5:]` the last five); likewise
/// `@eval[..]`, for the calls of a step, and `@image[..]`; `@sigma[low:high]`, both ends included; `@branch{cond}` and
/// `@branch{uncond}`.
#[derive(Clone, Debug)]
pub struct Selector {
    text: String,
    taps: Taps,
    windows: Vec<Window>,
}

impl PartialEq for Selector {
    /// Whether they are written alike.
    fn eq(&self, other: &Selector) -> bool {
        self.text == other.text
    }
}

/// Which taps a selector selects.
#[derive(Clone, Debug)]
enum Taps {
    /// Those whose name matches the pattern, after dots are replaced by slashes.
    Named(GlobMatcher),
    /// Those of the sampler's values.
    OfSampler,
}

/// A window of a selector.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Window {
    Step(Slice),
    Evaluation(Slice),
    Image(Slice),
    Sigma { low: f64, high: f64 },
    Branch(Branch),
}

/// A Python slice: start, stop, step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slice {
    from: Option<i64>,
    to: Option<i64>,
    stride: i64,
}

/// The windows, for a hint.
const WINDOWS: &str = "windows are @step[0:50:5], @eval[0], @image[0], @sigma[1:15], @branch{cond} and @branch{uncond}";

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    /// The pattern or a window cannot be parsed.
    pub fn parse(text: &str) -> Result<Selector> {
        let text = text.trim();
        let mut words = text.split_whitespace();
        let pattern = words.next().filter(|word| !word.starts_with('@'));
        let pattern = pattern.ok_or_else(|| match text {
            "" => rule("\"\"", "no tap name", "** selects every tap"),
            _ => rule(text, "no tap name before the windows", "** selects every tap"),
        })?;
        let names = GlobBuilder::new(&pattern.replace('.', "/"))
            .literal_separator(true)
            .build()
            .map_err(|error| {
                rule(text, error.to_string(), "** stands for any parts of a name, and stands alone between dots")
            })?
            .compile_matcher();
        let windows = words.map(|word| window(word).ok_or_else(|| rule(text, format!("{word} is no window"), WINDOWS)));
        Ok(Selector { text: text.into(), taps: Taps::Named(names), windows: windows.collect::<Result<_>>()? })
    }

    /// Selects every value of the sampler.
    pub(crate) fn of_sampler() -> Selector {
        Selector { text: "the sampler's values".into(), taps: Taps::OfSampler, windows: Vec::new() }
    }

    /// The selector as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a window counts the steps of a run or the calls of a step. With another sampler, or another number of
    /// steps, such a window selects other moments.
    pub fn counts_steps(&self) -> bool {
        self.windows.iter().any(|window| matches!(window, Window::Step(_) | Window::Evaluation(_)))
    }

    /// Whether it selects some moments of a run only.
    pub fn has_windows(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Whether a tap is selected, at any moment.
    pub fn names(&self, tap: &Tap) -> bool {
        match &self.taps {
            Taps::Named(names) => names.is_match(tap.name().replace('.', "/")),
            Taps::OfSampler => tap.role().is_of_sampler(),
        }
    }

    /// Whether a moment of a run of `steps` steps is in every window, apart from those for rows, see
    /// [`Selector::admits_row`].
    pub fn admits(&self, moment: &Moment, steps: usize) -> bool {
        self.windows.iter().all(|window| window.admits(moment, steps))
    }

    /// Whether a row of a tensor is selected. A row that both branches share is selected with either.
    pub fn admits_row(&self, row: &Row) -> bool {
        self.windows.iter().all(|window| window.admits_row(row))
    }

    /// The windows, in order.
    pub(crate) fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The error of a selector that selects no tap of a model, with the most similar names.
    pub fn fits_nothing<'a>(&self, taps: impl Iterator<Item = &'a str>) -> crate::Error {
        let hint = format!("{}; `latentrace taps` lists all", self.near(taps));
        rule(&self.text, "fits no tap of this model", hint)
    }

    /// The error of a selector that selects no tap of those that a run passes, with the most similar names.
    pub(crate) fn passes_nothing<'a>(&self, taps: impl Iterator<Item = &'a str>) -> crate::Error {
        let less = "`latentrace taps` lists all of the model, and a run with features, clip_skip or no guidance may pass fewer";
        rule(&self.text, "fits no tap that this run passes", format!("{}; {less}", self.near(taps)))
    }

    /// The names that are most similar, for a hint.
    fn near<'a>(&self, taps: impl Iterator<Item = &'a str>) -> String {
        let pattern = self.text.split_whitespace().next().unwrap_or_default();
        let mut near: Vec<(f64, &str)> = taps.map(|name| (strsim::jaro_winkler(pattern, name), name)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        near.dedup_by_key(|(_, name)| *name);
        let names: Vec<&str> = near.iter().take(3).map(|(_, name)| *name).collect();
        format!("near names: {}", names.join(", "))
    }
}

impl Window {
    /// Whether a moment of a run of `steps` steps is in it.
    pub(crate) fn admits(&self, moment: &Moment, steps: usize) -> bool {
        match self {
            Window::Step(slice) => slice.holds(moment.step, steps),
            Window::Evaluation(slice) => slice.holds(moment.evaluation, usize::MAX),
            Window::Sigma { low, high } => (*low..=*high).contains(&moment.sigma),
            Window::Image(_) | Window::Branch(_) => true,
        }
    }

    /// Whether a row is in it.
    pub(crate) fn admits_row(&self, row: &Row) -> bool {
        match self {
            Window::Branch(branch) => row.branch.is_none_or(|of| of == *branch),
            Window::Image(slice) => slice.holds(row.image, usize::MAX),
            _ => true,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = |end: &f64| if end.is_finite() { end.to_string() } else { String::new() };
        match self {
            Window::Step(slice) => write!(f, "@step[{slice}]"),
            Window::Evaluation(slice) => write!(f, "@eval[{slice}]"),
            Window::Image(slice) => write!(f, "@image[{slice}]"),
            Window::Sigma { low, high } => write!(f, "@sigma[{}:{}]", open(low), open(high)),
            Window::Branch(branch) => write!(f, "@branch{{{}}}", branch.name()),
        }
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: Option<i64>| end.map_or(String::new(), |end| end.to_string());
        match (self.from, self.to, self.stride) {
            (Some(one), to, 1) if to == one.checked_add(1).filter(|to| *to != 0) => write!(f, "{one}"),
            (from, to, 1) => write!(f, "{}:{}", end(from), end(to)),
            (from, to, stride) => write!(f, "{}:{}:{stride}", end(from), end(to)),
        }
    }
}

fn window(word: &str) -> Option<Window> {
    let inside = |name: &str, open: char, close: char| {
        word.strip_prefix('@')?.strip_prefix(name)?.strip_prefix(open)?.strip_suffix(close)
    };
    let slice = |name| inside(name, '[', ']').and_then(Slice::parse);
    if let Some(of) = inside("branch", '{', '}') {
        return match of {
            "cond" | "c" => Some(Window::Branch(Branch::Conditional)),
            "uncond" | "u" => Some(Window::Branch(Branch::Unconditional)),
            _ => None,
        };
    }
    if let Some(range) = inside("sigma", '[', ']') {
        let (low, high) = range.split_once(':')?;
        let end = |text: &str, open: f64| if text.is_empty() { Some(open) } else { text.parse().ok() };
        let (low, high): (f64, f64) = (end(low, f64::NEG_INFINITY)?, end(high, f64::INFINITY)?);
        return (low <= high).then_some(Window::Sigma { low, high });
    }
    slice("step")
        .map(Window::Step)
        .or_else(|| slice("eval").map(Window::Evaluation))
        .or_else(|| slice("image").map(Window::Image))
}

impl Slice {
    fn parse(text: &str) -> Option<Slice> {
        let end = |part: &str| if part.is_empty() { Some(None) } else { part.parse().ok().map(Some) };
        match text.split(':').collect::<Vec<_>>().as_slice() {
            [one] => {
                let one: i64 = one.parse().ok()?;
                let to = if one == -1 { None } else { Some(one.checked_add(1)?) };
                Some(Slice { from: Some(one), to, stride: 1 })
            }
            [from, to] => Some(Slice { from: end(from)?, to: end(to)?, stride: 1 }),
            [from, to, stride] => {
                let stride = end(stride)?.unwrap_or(1);
                (stride > 0).then_some(Slice { from: end(from)?, to: end(to)?, stride })
            }
            _ => None,
        }
    }

    /// Whether a number of `0..count` is in the slice.
    fn holds(&self, number: usize, count: usize) -> bool {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let from_start = |end: i64| if end < 0 { end.saturating_add(count).max(0) } else { end };
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let from = self.from.map_or(0, from_start);
        let to = self.to.map_or(count, from_start);
        number >= from && number < to && (number - from) % self.stride == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, name: &str) -> bool {
        Selector::parse(pattern).unwrap().names(&Tap::named(name))
    }

    #[test]
    fn stars_stand_for_parts_of_names() {
        let name = "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn2.probs";
        for pattern in ["**", "unet.**.attn2.probs", "unet.**.probs", "**.attn{1,2}.*", name, "unet.*_blocks.0.**"] {
            assert!(fits(pattern, name), "{pattern}");
        }
        for pattern in ["unet.*", "unet.**.attn1.probs", "*.probs", "down_blocks.**", "unet.**.attn2"] {
            assert!(!fits(pattern, name), "{pattern}");
        }
        assert!(fits("unet.**.out", "unet.out"), "** may stand for nothing");
    }

    #[test]
    fn windows_are_read_and_hold() {
        let selector = Selector::parse("unet.** @step[2:-1:3] @sigma[0.5:] @branch{cond} @eval[0]").unwrap();
        let at = |step, evaluation, sigma| Moment { step, evaluation, sigma, ..Moment::default() };
        assert!(selector.admits(&at(5, 0, 0.5), 10));
        assert!(!selector.admits(&at(4, 0, 0.5), 10), "not in the stride");
        assert!(!selector.admits(&at(5, 1, 0.5), 10), "not the first call");
        assert!(!selector.admits(&at(5, 0, 0.4), 10), "too little noise");
        assert!(!selector.admits(&at(5, 0, 0.5), 6), "the last step is not in it");
        let row = |branch| Row { index: 0, branch, image: 0 };
        assert!(selector.admits_row(&row(Some(Branch::Conditional))) && selector.admits_row(&row(None)));
        assert!(!selector.admits_row(&row(Some(Branch::Unconditional))));
        for (rule, counts) in
            [("a @step[1]", true), ("a @sigma[1:2] @eval[0]", true), ("a @sigma[1:2] @branch{cond}", false)]
        {
            assert_eq!(Selector::parse(rule).unwrap().counts_steps(), counts, "{rule}");
        }
    }

    #[test]
    fn a_window_is_shown_as_it_is_read() {
        for text in [
            "@step[3]",
            "@step[-1]",
            "@step[2:-1:3]",
            "@step[:5]",
            "@step[::2]",
            "@eval[0]",
            "@image[1:]",
            "@sigma[0.5:]",
            "@sigma[:3]",
            "@branch{cond}",
            "@branch{uncond}",
        ] {
            assert_eq!(window(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_says_what_can() {
        for text in [
            "",
            "@step[1]",
            "a @step",
            "a @step[1:2:0]",
            "a @branch{x}",
            "a @sigma[3:1]",
            "a @when[1]",
            "a.{b",
            "a @eval[x]",
        ] {
            let error = Selector::parse(text).unwrap_err().to_string();
            assert!(error.contains("hint: "), "{text}: {error}");
        }
        let nothing = Selector::parse("unet.mid_blok.out").unwrap();
        let error = nothing.fits_nothing(["vae.decoder.out", "unet.mid_block.out"].into_iter()).to_string();
        assert!(error.contains("near names: unet.mid_block.out"), "{error}");
    }

    proptest! {
        #[test]
        fn a_slice_is_what_python_makes_of_it(from in prop::option::of(-12i64..12), to in prop::option::of(-12i64..12), stride in 1i64..4, count in 1usize..10) {
            let length = count as i64;
            let bound = |end: i64| if end < 0 { (end + length).max(0) } else { end.min(length) };
            let (first, last) = (from.map_or(0, bound), to.map_or(length, bound));
            let expected: Vec<i64> = (0..length).filter(|n| *n >= first && *n < last && (n - first) % stride == 0).collect();
            let show = |end: Option<i64>| end.map(|end| end.to_string()).unwrap_or_default();
            let slice = Slice::parse(&format!("{}:{}:{stride}", show(from), show(to))).unwrap();
            let held: Vec<i64> = (0..length).filter(|&number| slice.holds(number as usize, count)).collect();
            prop_assert_eq!(held, expected);
        }
    }
}
