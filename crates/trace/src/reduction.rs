//! What is kept of a tensor.

use crate::Words;
use crate::call::Call;
use crate::error::{Result, rule};
use crate::words::check_places;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Branch, ModuleValue, Part, Role, Tap, is_shape_only, shape_only};

/// What is kept of a tensor, `[1, ..]`, one row at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Reduction {
    /// `head_mean`: the mean over the heads of `[1, heads, pixels, tokens]`; the axis is kept.
    HeadMean,
    /// `tokens(a, b)`: the columns of some words, of cross-attention.
    Tokens(Vec<String>),
    /// `down(n)`: averaged over blocks of pixels to at most `n` by `n` with the same aspect ratio.
    Down(i64),
    /// `topk(n)`: the `n` numbers of largest magnitude, `[1, n]`, and their places in the flattened tensor.
    TopK(i64),
    /// `histogram(n)`: how many numbers are in each of `n` bins between the least and the greatest finite number,
    /// `[1, n]`.
    Histogram(i64),
}

/// How the numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// In their own number format.
    #[default]
    Full,
    /// `f16`: rounded to 16 bits.
    F16,
    /// `q8`: rounded to 256 levels between the least and the greatest number.
    Q8,
    /// `stats`: not at all; only the statistics in the index are kept.
    Stats,
}

/// The reductions, for a hint.
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
        if let Some((earlier, hint)) = reductions.iter().find_map(|earlier| bars(earlier, call.name)) {
            return Err(rule(rule_text, format!("{} after {earlier}", call.name), hint));
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

/// Whether a reduction cannot be followed by another: its name, and a hint.
fn bars(earlier: &Reduction, later: &str) -> Option<(&'static str, &'static str)> {
    match (earlier, later) {
        (_, "full" | "f16" | "q8" | "stats") => None,
        (Reduction::TopK(_) | Reduction::Histogram(_), _) => {
            Some((earlier.name(), "topk and histogram come last; only a format may follow"))
        }
        (Reduction::Tokens(_), "tokens") => Some((earlier.name(), "name all words in one: tokens(a, b)")),
        _ => None,
    }
}

/// What the axes of a tap's tensor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axes {
    /// `[1, channels, height, width]`
    Picture,
    /// `[1, heads, pixels, tokens or features]`
    Heads([i64; 2]),
    /// `[1, pixels, features]`
    Pixels([i64; 2]),
    /// Anything else: vectors, text.
    Other,
}

impl Axes {
    /// The axes of a tensor of a rank, where the module works on a grid of pixels, see
    /// [`Moment::grid`](latentrace_nn::Moment::grid).
    fn of(tap: &Tap, rank: usize, grid: Option<[i64; 2]>) -> Axes {
        match (rank, grid) {
            (4, _) if has_heads(tap) => grid.filter(|_| !of_context(tap)).map_or(Axes::Other, Axes::Heads),
            (4, _) => Axes::Picture,
            (3, Some(grid)) => Axes::Pixels(grid),
            _ => Axes::Other,
        }
    }

    /// The grid whose pixels are one axis.
    fn grid(self) -> Option<[i64; 2]> {
        match self {
            Axes::Heads(grid) | Axes::Pixels(grid) => Some(grid),
            Axes::Picture | Axes::Other => None,
        }
    }
}

/// A reduced row of a batch.
#[derive(Debug)]
pub struct Reduced {
    /// The reduced tensor.
    pub tensor: Tensor,
    /// Height and width of the picture whose pixels are one axis: `[1, heads, pixels, ..]` or `[1, pixels, ..]`.
    pub grid: Option<[i64; 2]>,
    /// Of `topk`, the places of the numbers in the flattened tensor, `[1, n]` in i64.
    pub places: Option<Tensor>,
}

impl Reduced {
    /// A whole tensor that passes a tap, where the module works on a grid of pixels.
    pub fn whole(tap: &Tap, tensor: Tensor, grid: Option<[i64; 2]>) -> Reduced {
        let grid = Reduced::grid(tap, tensor.dim(), grid);
        Reduced { tensor, grid, places: None }
    }

    /// The grid whose pixels are an axis of a whole tensor of this rank, where the module works on a grid of pixels.
    pub(crate) fn grid(tap: &Tap, rank: usize, grid: Option<[i64; 2]>) -> Option<[i64; 2]> {
        Axes::of(tap, rank, grid).grid()
    }
}

/// Whether a tap's second axis is the heads of an attention.
pub(crate) fn has_heads(tap: &Tap) -> bool {
    tap.role().module().is_some_and(ModuleValue::has_heads)
}

/// Whether a tap's third axis is the context of an attention, not its pixels.
fn of_context(tap: &Tap) -> bool {
    matches!(tap.role(), Role::Module(_, ModuleValue::Key | ModuleValue::Value))
}

/// Whether a tap's last axis is the prompt's tokens.
fn attends_to_text(tap: &Tap) -> bool {
    tap.role().module().is_some_and(ModuleValue::attends_to_text)
}

/// Applies reductions one after another, see [`Reduction::apply`].
pub(crate) fn apply(
    reductions: &[Reduction],
    tap: &Tap,
    branch: Option<Branch>,
    from: Reduced,
    words: &Words,
) -> Option<Reduced> {
    reductions.iter().try_fold(from, |from, reduction| reduction.apply(tap, branch, from, words))
}

impl Reduction {
    /// Whether what it makes of a query of an attention does not depend on other queries.
    pub(crate) fn is_of_queries(&self) -> bool {
        matches!(self, Reduction::HeadMean | Reduction::Tokens(_))
    }

    /// Its name in a rule.
    fn name(&self) -> &'static str {
        match self {
            Reduction::HeadMean => "head_mean",
            Reduction::Tokens(_) => "tokens",
            Reduction::Down(_) => "down",
            Reduction::TopK(_) => "topk",
            Reduction::Histogram(_) => "histogram",
        }
    }

    /// Checks that the reduction can be applied at a tap, as far as the tap's role says.
    pub(crate) fn check(&self, text: &str, tap: &Tap) -> Result<()> {
        let no_pixels = tap.role().part() == Some(Part::TextEncoder) || of_context(tap);
        let (cause, hint) = match self {
            Reduction::HeadMean if !has_heads(tap) => {
                ("has no heads", "q, k, v, scores and probs of an attention have heads")
            }
            Reduction::Tokens(_) if !attends_to_text(tap) => {
                ("does not attend to words", "attn2.probs and attn2.scores of the UNet do")
            }
            Reduction::Down(_) if no_pixels => ("has no pixels", PIXELS),
            _ => return Ok(()),
        };
        Err(rule(text, format!("{} {cause}", tap.name()), hint))
    }

    /// Checks that the reduction can be applied to tensors of a shape, where the module works on a grid of pixels.
    pub(crate) fn check_shape(&self, text: &str, tap: &Tap, shape: &[i64], grid: Option<[i64; 2]>) -> Result<()> {
        self.check(text, tap)?;
        match self {
            Reduction::Down(_) if Axes::of(tap, shape.len(), grid) == Axes::Other => {
                Err(rule(text, format!("{} has no pixels", tap.name()), PIXELS))
            }
            Reduction::Tokens(words) => check_places(words, shape.last().copied().unwrap_or(0), text),
            _ => Ok(()),
        }
    }

    /// Reduces a tensor whose first axis is 1. Of a tensor that has only a shape, the result has only a shape too.
    /// `None` if nothing is left, because none of the words is in the text of the branch.
    pub fn apply(&self, tap: &Tap, branch: Option<Branch>, from: Reduced, words: &Words) -> Option<Reduced> {
        let Reduced { tensor, grid, .. } = from;
        let without_pixels = |tensor| Reduced { tensor, grid: None, places: None };
        Some(match self {
            Reduction::HeadMean => Reduced { tensor: tensor.mean_dim(1, true, None::<Kind>), grid, places: None },
            Reduction::Tokens(chosen) => {
                let axis = tensor.dim() as i64 - 1;
                let count = tensor.size()[axis as usize];
                let places = words.all_places(chosen, branch).into_iter().filter(|place| (0..count).contains(place));
                let columns: Vec<Tensor> = places.map(|place| tensor.narrow(axis, place, 1)).collect();
                if columns.is_empty() {
                    return None;
                }
                Reduced { tensor: Tensor::cat(&columns, axis), grid, places: None }
            }
            Reduction::Down(most) => down(Axes::of(tap, tensor.dim(), grid), tensor, *most),
            Reduction::TopK(count) => {
                let count = (*count).min(tensor.numel() as i64);
                if is_shape_only(&tensor) {
                    let places = Some(shape_only(&[1, count], Kind::Int64));
                    return Some(Reduced { tensor: shape_only(&[1, count], tensor.kind()), grid: None, places });
                }
                let flat = tensor.flatten(0, -1);
                let (_, places) = flat.abs().topk(count, 0, true, true);
                let numbers = flat.gather(0, &places, false).unsqueeze(0);
                Reduced { tensor: numbers, grid: None, places: Some(places.unsqueeze(0)) }
            }
            Reduction::Histogram(bins) if is_shape_only(&tensor) => {
                without_pixels(shape_only(&[1, *bins], Kind::Float))
            }
            Reduction::Histogram(bins) => {
                let flat = tensor.to_kind(Kind::Float).flatten(0, -1);
                // libtorch counts nothing if one number is not finite
                without_pixels(flat.masked_select(&flat.isfinite()).histc(*bins).unsqueeze(0))
            }
        })
    }
}

/// The tensors that have pixels, for a hint.
const PIXELS: &str = "pictures have pixels, and so have q, scores and probs of attention over a picture";

/// The mean over blocks of pixels. Blocks overlap if the side of a block is not a whole number of pixels. A tensor
/// without pixels is returned as it is.
fn down(axes: Axes, tensor: Tensor, most: i64) -> Reduced {
    let fit = |[height, width]: [i64; 2]| {
        let longer = height.max(width).max(1);
        if longer <= most { [height, width] } else { [(height * most / longer).max(1), (width * most / longer).max(1)] }
    };
    let size = tensor.size();
    match (axes, size.as_slice()) {
        (Axes::Picture, &[_, _, height, width]) => {
            Reduced { tensor: pooled(&tensor, fit([height, width])), grid: None, places: None }
        }
        (Axes::Heads(grid), &[_, heads, pixels, tokens]) if grid[0] * grid[1] == pixels => {
            let planes = tensor.permute([0, 1, 3, 2]).reshape([1, heads * tokens, grid[0], grid[1]]);
            let small = fit(grid);
            let tensor = pooled(&planes, small).reshape([1, heads, tokens, small[0] * small[1]]).permute([0, 1, 3, 2]);
            Reduced { tensor, grid: Some(small), places: None }
        }
        (Axes::Pixels(grid), &[_, pixels, features]) if grid[0] * grid[1] == pixels => {
            let planes = tensor.permute([0, 2, 1]).reshape([1, features, grid[0], grid[1]]);
            let small = fit(grid);
            let tensor = pooled(&planes, small).reshape([1, features, small[0] * small[1]]).permute([0, 2, 1]);
            Reduced { tensor, grid: Some(small), places: None }
        }
        _ => Reduced { tensor, grid: None, places: None },
    }
}

/// Pools `[1, planes, height, width]` to another height and width.
fn pooled(planes: &Tensor, [height, width]: [i64; 2]) -> Tensor {
    if is_shape_only(planes) {
        return shape_only(&[1, planes.size()[1], height, width], planes.kind());
    }
    planes.adaptive_avg_pool2d([height, width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prompt;
    use latentrace_nn::tch::Device;

    fn words() -> Words {
        let of = |text: &str| Prompt::new(text, &text.split(' ').map(str::to_string).collect::<Vec<_>>());
        Words { conditional: of("a red cat"), unconditional: of("dog") }
    }

    fn reduced(text: &str, name: &str, branch: Branch, tensor: Tensor, grid: [i64; 2]) -> Option<Reduced> {
        let (reductions, _) = parse(text, &text.split('|').map(str::trim).collect::<Vec<_>>()).unwrap();
        let tap = Tap::new(name, Role::of_name(name));
        let whole = Some(Reduced::whole(&tap, tensor, Some(grid)));
        reductions.iter().fold(whole, |from, reduction| reduction.apply(&tap, Some(branch), from?, &words()))
    }

    #[test]
    fn each_reduction_keeps_what_it_says() {
        let probs = Tensor::arange(2 * 8 * 5, (Kind::Float, Device::Cpu)).view([1, 2, 8, 5]);
        let of = |text: &str, branch| reduced(text, "unet.x.attn2.probs", branch, probs.shallow_clone(), [2, 4]);
        let mean = of("head_mean", Branch::Conditional).unwrap();
        assert_eq!((mean.tensor.size(), mean.tensor.double_value(&[0, 0, 0, 0])), (vec![1, 1, 8, 5], 20.0));
        assert_eq!(mean.grid, Some([2, 4]));
        let cat = of("head_mean | tokens(cat)", Branch::Conditional).unwrap().tensor;
        assert_eq!(
            (cat.size(), cat.double_value(&[0, 0, 1, 0])),
            (vec![1, 1, 8, 1], 28.0),
            "column 3, after the start"
        );
        assert!(of("tokens(cat)", Branch::Unconditional).is_none(), "the negative prompt has no such word");
        // 2 by 4 pixels to 1 by 2: pixels 0, 1, 4 and 5 are one block; their first tokens are 0, 5, 20 and 25.
        let small = of("down(2)", Branch::Conditional).unwrap();
        assert_eq!((small.tensor.size(), small.tensor.double_value(&[0, 0, 0, 0])), (vec![1, 2, 2, 5], 12.5));
        assert_eq!(small.grid, Some([1, 2]));
        let top = of("topk(2)", Branch::Conditional).unwrap();
        assert_eq!(Vec::<f32>::try_from(top.tensor.flatten(0, -1)).unwrap(), [79.0, 78.0]);
        assert_eq!(Vec::<i64>::try_from(top.places.unwrap().flatten(0, -1)).unwrap(), [79, 78]);
        let bins = of("histogram(4)", Branch::Conditional).unwrap();
        assert_eq!(Vec::<f32>::try_from(bins.tensor.flatten(0, -1)).unwrap(), [20.0; 4]);
        let picture = Tensor::ones([1, 3, 4, 8], (Kind::Float, Device::Cpu));
        let small = reduced("down(4)", "unet.out", Branch::Conditional, picture, [1, 1]).unwrap();
        assert_eq!((small.tensor.size(), small.grid), (vec![1, 3, 2, 4], None));
    }

    #[test]
    fn blocks_of_an_odd_grid_are_means_of_its_own_pixels() {
        // 15 pixels of 5 by 3, as 10 by 5 latents halve to: 3 by 5 would have as many, and other neighbours.
        let probs = Tensor::arange(15, (Kind::Float, Device::Cpu)).view([1, 1, 15, 1]);
        let of =
            |text: &str, grid| reduced(text, "unet.x.attn2.probs", Branch::Conditional, probs.shallow_clone(), grid);
        let numbers = |reduced: Option<Reduced>| Vec::<f32>::try_from(reduced.unwrap().tensor.flatten(0, -1)).unwrap();
        // 5 by 3 to 3 by 1: rows 0 and 1, 1 to 3, 3 and 4, each over all three columns.
        let small = of("down(3)", [5, 3]);
        assert_eq!(small.as_ref().unwrap().grid, Some([3, 1]));
        assert_eq!(numbers(small), [2.5, 7.0, 11.5]);
        assert_eq!(numbers(of("down(4) | down(3)", [5, 3])).len(), 3);
    }

    #[test]
    fn shapes_are_reduced_as_numbers_are() {
        for text in ["head_mean | tokens(red, cat) | down(2)", "down(1)", "topk(3)", "tokens(red) | histogram(5)"] {
            let of = |tensor| {
                let left = reduced(text, "unet.x.attn2.probs", Branch::Conditional, tensor, [2, 4]).unwrap();
                (left.tensor.size(), left.tensor.kind(), left.grid, left.places.map(|places| places.size()))
            };
            let numbers = of(Tensor::ones([1, 2, 8, 5], (Kind::Float, Device::Cpu)));
            assert_eq!(of(shape_only(&[1, 2, 8, 5], Kind::Float)), numbers, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (text, name) in [
            ("head_mean", "unet.out"),
            ("tokens(red)", "unet.x.attn1.probs"),
            ("down(4)", "text_encoder.out"),
            ("down(4)", "unet.x.attn2.k"),
        ] {
            let (reductions, _) = parse(text, &[text]).unwrap();
            assert!(reductions[0].check(text, &Tap::new(name, Role::of_name(name))).is_err(), "{text} of {name}");
        }
        let of_shape = |text: &str, name: &str, shape: &[i64], grid| {
            let (reductions, _) = parse(text, &[text]).unwrap();
            reductions[0]
                .check_shape(text, &Tap::new(name, Role::of_name(name)), shape, grid)
                .map_err(|error| error.to_string())
        };
        let probs = "unet.x.attn2.probs";
        assert!(of_shape("down(4)", probs, &[2, 8, 64, 77], Some([8, 8])).is_ok());
        assert!(of_shape("down(4)", "unet.time_embedding", &[1, 32], None).unwrap_err().contains("has no pixels"));
        assert!(of_shape("tokens(#76)", probs, &[2, 8, 64, 77], Some([8, 8])).is_ok());
        for place in ["#77", "#-1"] {
            let error = of_shape(&format!("tokens({place})"), probs, &[2, 8, 64, 77], Some([8, 8])).unwrap_err();
            assert!(error.contains("no such place\nhint: places are #0 to #76"), "{error}");
        }
        for bad in ["mean", "down", "down(0)", "down(x)", "tokens", "topk(-1)", "stats(3)"] {
            let error = parse(bad, &[bad]).unwrap_err().to_string();
            assert!(error.contains("head_mean"), "{error}");
        }
        assert!(parse("q8 | down(2)", &["q8", "down(2)"]).is_err());
    }

    #[test]
    fn a_reduction_follows_only_what_leaves_it_its_axes() {
        for bad in [
            "topk(4) | down(2)",
            "topk(4) | tokens(red)",
            "topk(4) | topk(2)",
            "topk(4) | histogram(2)",
            "histogram(4) | head_mean",
            "histogram(4) | topk(2)",
            "tokens(a) | tokens(red)",
            "tokens(a) | head_mean | tokens(red)",
        ] {
            let error = parse(bad, &bad.split(" | ").collect::<Vec<_>>()).unwrap_err().to_string();
            assert!(error.contains(" after ") && error.contains("hint: "), "{bad}: {error}");
        }
        for good in ["topk(4) | f16", "histogram(4) | q8", "tokens(a) | head_mean | down(2) | topk(3) | stats"] {
            assert!(parse(good, &good.split(" | ").collect::<Vec<_>>()).is_ok(), "{good}");
        }
    }
}
