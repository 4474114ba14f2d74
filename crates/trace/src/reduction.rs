//! What is kept of a tensor.

use crate::Words;
use crate::call::Call;
use crate::error::{Result, rule};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Branch, Tap, is_shape_only, shape_only};

/// What is kept of a tensor, `[1, ..]`, one row at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Reduction {
    /// `head_mean`: the mean over the heads of an attention's `[1, heads, pixels, tokens]`, the axis kept.
    HeadMean,
    /// `tokens(a, b)`: of attention to text, the columns of some words.
    Tokens(Vec<String>),
    /// `down(n)`: averaged over pixels to at most `n` by `n`, the shape of the picture kept.
    Down(i64),
    /// `topk(n)`: the `n` numbers of largest magnitude, `[1, 2, n]` in f64: the numbers, and their places in the flat tensor.
    TopK(i64),
    /// `histogram(n)`: how many numbers lie in each of `n` bins between the least and the greatest that are finite,
    /// `[1, n]`.
    Histogram(i64),
}

/// How the numbers that are left are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In their own format.
    #[default]
    Full,
    /// `f16`: rounded to 16 bits.
    F16,
    /// `q8`: rounded to 256 levels between the least and the greatest.
    Q8,
    /// `stats`: not at all; the statistics in the index are kept.
    Stats,
}

/// What a reduction must know of the run.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// The prompts' tokens.
    pub words: Words,
    /// Height and width of the latents.
    pub latents: [i64; 2],
}

/// What reductions look like, for a hint.
const KNOWN: &str = "full, stats, head_mean, tokens(red, circle), down(32), topk(16), histogram(64), f16, q8";

/// Reads the reductions after the first `|` of a rule.
pub(crate) fn parse(rule_text: &str, parts: &[&str]) -> Result<(Vec<Reduction>, Storage)> {
    let (mut reductions, mut storage) = (Vec::new(), Storage::Full);
    for part in parts {
        let unknown = || rule(rule_text, format!("{} is no reduction", part.trim()), format!("reductions are {KNOWN}"));
        let call = Call::parse(part).ok_or_else(unknown)?;
        if storage != Storage::Full {
            return Err(rule(rule_text, format!("{} after the format", call.name), "stats, f16 and q8 come last"));
        }
        let count = || call.number().filter(|n| (1..=1 << 20).contains(n)).ok_or_else(unknown);
        match (call.name, call.arguments.is_empty()) {
            ("full", true) => {}
            ("stats", true) => storage = Storage::Stats,
            ("f16", true) => storage = Storage::F16,
            ("q8", true) => storage = Storage::Q8,
            ("head_mean", true) => reductions.push(Reduction::HeadMean),
            ("tokens", false) => {
                reductions.push(Reduction::Tokens(call.arguments.iter().map(|word| word.to_string()).collect()))
            }
            ("down", _) => reductions.push(Reduction::Down(count()?)),
            ("topk", _) => reductions.push(Reduction::TopK(count()?)),
            ("histogram", _) => reductions.push(Reduction::Histogram(count()?)),
            _ => return Err(unknown()),
        }
    }
    Ok((reductions, storage))
}

/// What the axes of a tap's tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axes {
    /// `[1, channels, height, width]`
    Picture,
    /// `[1, heads, pixels, tokens or features]`
    Heads,
    /// `[1, pixels, features]`
    Pixels,
    /// Anything else: vectors, text.
    Other,
}

impl Axes {
    fn of(tap: &Tap, rank: usize) -> Axes {
        let text = tap.name().starts_with("text_encoder.");
        match rank {
            4 if has_heads(tap) => Axes::Heads,
            4 => Axes::Picture,
            3 if !text => Axes::Pixels,
            _ => Axes::Other,
        }
    }
}

/// Whether a tap's second axis is the heads of an attention.
pub(crate) fn has_heads(tap: &Tap) -> bool {
    let word = tap.name().rsplit('.').next().unwrap_or_default();
    ["q", "k", "v", "scores", "probs"].contains(&word)
}

/// Whether a tap is of attention to text, whose last axis is the prompt's tokens.
pub(crate) fn attends_to_text(tap: &Tap) -> bool {
    [".attn2.probs", ".attn2.scores"].iter().any(|end| tap.name().ends_with(end))
}

impl Reduction {
    /// Holds that the reduction can be applied to a tap's tensors.
    pub(crate) fn check(&self, text: &str, tap: &Tap, scene: &Scene) -> Result<()> {
        let word = tap.name().rsplit('.').next().unwrap_or_default();
        match self {
            Reduction::HeadMean if !has_heads(tap) => Err(rule(
                text,
                format!("{} has no heads", tap.name()),
                "q, k, v, scores and probs of an attention have",
            )),
            Reduction::Tokens(_) if !attends_to_text(tap) => {
                let hint = "attn2.probs and attn2.scores of the UNet do";
                Err(rule(text, format!("{} does not attend to words", tap.name()), hint))
            }
            Reduction::Tokens(words) => scene.words.check(words, text),
            Reduction::Down(_) if tap.name().starts_with("text_encoder.") || (word == "k" || word == "v") => Err(rule(
                text,
                format!("{} has no pixels", tap.name()),
                "pictures, and q, scores and probs of the UNet have",
            )),
            _ => Ok(()),
        }
    }

    /// The reduced tensor, whose first axis is 1; of a tensor that has only a shape, its shape (said here where libtorch
    /// does not). `None` where nothing is left: none of the words is in the text of this branch.
    pub fn apply(&self, tap: &Tap, branch: Option<Branch>, tensor: Tensor, scene: &Scene) -> Option<Tensor> {
        Some(match self {
            Reduction::HeadMean => tensor.mean_dim(1, true, None::<Kind>),
            Reduction::Tokens(words) => {
                let axis = tensor.dim() as i64 - 1;
                let count = tensor.size()[axis as usize];
                let places =
                    scene.words.all_places(words, branch).into_iter().filter(|place| (0..count).contains(place));
                let columns: Vec<Tensor> = places.map(|place| tensor.narrow(axis, place, 1)).collect();
                if columns.is_empty() {
                    return None;
                }
                Tensor::cat(&columns, axis)
            }
            Reduction::Down(most) => down(Axes::of(tap, tensor.dim()), &tensor, *most, scene.latents),
            Reduction::TopK(count) if is_shape_only(&tensor) => {
                shape_only(&[1, 2, (*count).min(tensor.numel() as i64)], Kind::Double)
            }
            Reduction::TopK(count) => {
                let flat = tensor.flatten(0, -1);
                let (_, places) = flat.abs().topk((*count).min(flat.numel() as i64), 0, true, true);
                let numbers = flat.gather(0, &places, false);
                Tensor::stack(&[numbers.to_kind(Kind::Double), places.to_kind(Kind::Double)], 0).unsqueeze(0)
            }
            Reduction::Histogram(bins) if is_shape_only(&tensor) => shape_only(&[1, *bins], Kind::Float),
            Reduction::Histogram(bins) => {
                let flat = tensor.to_kind(Kind::Float).flatten(0, -1);
                flat.masked_select(&flat.isfinite()).histc(*bins).unsqueeze(0) // libtorch counts nothing where one is not
            }
        })
    }
}

/// The mean over blocks of pixels; where the sides of a block are no whole number of pixels, blocks overlap.
fn down(axes: Axes, tensor: &Tensor, most: i64, [height, width]: [i64; 2]) -> Tensor {
    let size = tensor.size();
    let fit = |height: i64, width: i64| {
        let longer = height.max(width).max(1);
        if longer <= most { [height, width] } else { [(height * most / longer).max(1), (width * most / longer).max(1)] }
    };
    // The picture that so many pixels are of, in the shape of the latents.
    let picture = |pixels: i64| {
        let side = ((pixels * height) as f64 / width.max(1) as f64).sqrt().round().max(1.0) as i64;
        if pixels % side == 0 { [side, pixels / side] } else { [1, pixels] }
    };
    match (axes, size.as_slice()) {
        (Axes::Picture, &[_, _, height, width]) => pooled(tensor, fit(height, width)),
        (Axes::Heads, &[_, heads, pixels, tokens]) => {
            let [height, width] = picture(pixels);
            let planes = tensor.permute([0, 1, 3, 2]).reshape([1, heads * tokens, height, width]);
            let [height, width] = fit(height, width);
            let small = pooled(&planes, [height, width]);
            small.reshape([1, heads, tokens, height * width]).permute([0, 1, 3, 2])
        }
        (Axes::Pixels, &[_, pixels, features]) => {
            let [height, width] = picture(pixels);
            let planes = tensor.permute([0, 2, 1]).reshape([1, features, height, width]);
            let [height, width] = fit(height, width);
            pooled(&planes, [height, width]).reshape([1, features, height * width]).permute([0, 2, 1])
        }
        _ => tensor.shallow_clone(),
    }
}

/// `[1, planes, height, width]` to another height and width.
fn pooled(planes: &Tensor, [height, width]: [i64; 2]) -> Tensor {
    if is_shape_only(planes) {
        return shape_only(&[1, planes.size()[1], height, width], planes.kind());
    }
    planes.adaptive_avg_pool2d([height, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::tch::Device;

    fn scene() -> Scene {
        let words =
            Words { conditional: vec!["a".into(), "red".into(), "cat".into()], unconditional: vec!["dog".into()] };
        Scene { words, latents: [4, 8] }
    }

    fn reduced(text: &str, name: &str, branch: Branch, tensor: Tensor) -> Option<Tensor> {
        let (reductions, _) = parse(text, &text.split('|').collect::<Vec<_>>()).unwrap();
        let tap = Tap::named(name);
        let tensor = Some(tensor);
        reductions.iter().fold(tensor, |tensor, reduction| reduction.apply(&tap, Some(branch), tensor?, &scene()))
    }

    #[test]
    fn each_reduction_keeps_what_it_says() {
        let probs = Tensor::arange(2 * 8 * 5, (Kind::Float, Device::Cpu)).view([1, 2, 8, 5]);
        let of = |text: &str, branch| reduced(text, "unet.x.attn2.probs", branch, probs.shallow_clone());
        let mean = of("head_mean", Branch::Conditional).unwrap();
        assert_eq!((mean.size(), mean.double_value(&[0, 0, 0, 0])), (vec![1, 1, 8, 5], 20.0));
        let cat = of("head_mean | tokens(cat)", Branch::Conditional).unwrap();
        assert_eq!(
            (cat.size(), cat.double_value(&[0, 0, 1, 0])),
            (vec![1, 1, 8, 1], 28.0),
            "column 3, after the start"
        );
        assert!(of("tokens(cat)", Branch::Unconditional).is_none(), "the negative prompt has no such word");
        // 2 by 4 pixels to 1 by 2: pixels 0, 1, 4 and 5 are one block; their first tokens are 0, 5, 20 and 25.
        let small = of("down(2)", Branch::Conditional).unwrap();
        assert_eq!((small.size(), small.double_value(&[0, 0, 0, 0])), (vec![1, 2, 2, 5], 12.5));
        let top = of("topk(2)", Branch::Conditional).unwrap();
        assert_eq!(Vec::<f64>::try_from(top.flatten(0, -1)).unwrap(), [79.0, 78.0, 79.0, 78.0]);
        let bins = of("histogram(4)", Branch::Conditional).unwrap();
        assert_eq!(Vec::<f32>::try_from(bins.flatten(0, -1)).unwrap(), [20.0; 4]);
        let picture = Tensor::ones([1, 3, 4, 8], (Kind::Float, Device::Cpu));
        assert_eq!(reduced("down(4)", "unet.out", Branch::Conditional, picture).unwrap().size(), [1, 3, 2, 4]);
    }

    #[test]
    fn shapes_are_reduced_as_numbers_are() {
        for text in ["head_mean | tokens(red, cat) | down(2)", "down(1)", "topk(3)"] {
            let of = |tensor| reduced(text, "unet.x.attn2.probs", Branch::Conditional, tensor).unwrap().size();
            let numbers = of(Tensor::ones([1, 2, 8, 5], (Kind::Float, Device::Cpu)));
            assert_eq!(of(shape_only(&[1, 2, 8, 5], Kind::Float)), numbers, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (text, name) in [
            ("head_mean", "unet.out"),
            ("tokens(red)", "unet.x.attn1.probs"),
            ("tokens(blue)", "unet.x.attn2.probs"),
            ("down(4)", "text_encoder.out"),
        ] {
            let (reductions, _) = parse(text, &[text]).unwrap();
            assert!(reductions[0].check(text, &Tap::named(name), &scene()).is_err(), "{text} of {name}");
        }
        for bad in ["mean", "down", "down(0)", "down(x)", "tokens", "topk(-1)", "stats(3)"] {
            let error = parse(bad, &[bad]).unwrap_err().to_string();
            assert!(error.contains("head_mean"), "{error}");
        }
        assert!(parse("q8 | down(2)", &["q8", "down(2)"]).is_err());
    }
}
