//! Layers on large pictures, computed a strip of rows at a time. A layer then needs little memory besides its input and its output.
//!
//! A strip's rows are what they are in the whole picture, up to the rounding of a convolution: it reads the row above and the
//! row below, and the mean and variance of a norm are those of the whole picture.

use crate::kernels::channels_last_empty;
use crate::{Kernels, Layout};
use std::cell::Cell;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// How a picture is divided into strips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strips {
    height: i64,
    /// How many rows a strip has; the last may have fewer.
    rows: i64,
}

thread_local! {
    /// The bytes of a strip, where a test sets them.
    static ASKED: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Does `work` with strips of at most so many bytes, but of at least one row, for every picture that is larger. It is for tests:
/// otherwise the size of a strip follows from the device.
pub fn with_strips_of<T>(bytes: i64, work: impl FnOnce() -> T) -> T {
    struct Reset(Option<i64>);
    impl Drop for Reset {
        fn drop(&mut self) {
            ASKED.set(self.0);
        }
    }
    let _reset = Reset(ASKED.replace(Some(bytes)));
    work()
}

impl Strips {
    /// The strips of a layer from `x` `[batch, .., .., ..]` to pictures `[outputs, height, width]`. `None` if they are small
    /// enough to be computed at once: neither has more than `large` bytes. A strip of the larger has at most `bytes`, but at least
    /// `FEWEST` rows.
    pub(crate) fn of(x: &Tensor, output: [i64; 3], [large, bytes]: [i64; 2]) -> Option<Strips> {
        const FEWEST: i64 = 8; // with fewer rows, a third and more of what a strip reads would be the rows around it
        let ([large, bytes], fewest) = match ASKED.get() {
            Some(asked) => ([asked; 2], 1),
            None => ([large, bytes], FEWEST),
        };
        let size = x.size();
        let [outputs, height, width] = output;
        let numbers = (outputs * height * width).max(size[1..].iter().product());
        let total = numbers * x.kind().elt_size_in_bytes() as i64;
        let rows = (bytes / (total / height.max(1)).max(1)).clamp(fewest, height.max(fewest));
        (total > large && rows < height).then_some(Strips { height, rows })
    }

    /// The rows of each strip.
    pub(crate) fn each(self) -> impl Iterator<Item = Range<i64>> {
        let Strips { height, rows } = self;
        (0..height).step_by(rows as usize).map(move |start| start..(start + rows).min(height))
    }

    /// Rows with the one above and the one below, where the picture has them.
    pub(crate) fn around(self, rows: &Range<i64>) -> Range<i64> {
        (rows.start - 1).max(0)..(rows.end + 1).min(self.height)
    }

    /// The rows around `rows`, with a row of zeros where the picture ends.
    pub(crate) fn padded(self, around: Tensor, rows: &Range<i64>) -> Tensor {
        let (above, below) = (i64::from(rows.start == 0), i64::from(rows.end == self.height));
        if above + below == 0 { around } else { around.constant_pad_nd([0, 0, above, below]) }
    }

    /// Writes a picture `[batch, channels, height, width]` strip by strip. `strip` computes some rows of an image,
    /// `[1, channels, rows, width]`. It has read what it needs before the strip above is written, so that `out` may be what it
    /// reads from.
    pub(crate) fn fill(self, out: &Tensor, mut strip: impl FnMut(i64, &Range<i64>) -> Tensor) {
        for image in 0..out.size()[0] {
            let mut waiting: Option<(Range<i64>, Tensor)> = None;
            for rows in self.each() {
                let done = strip(image, &rows);
                if let Some((above, done)) = waiting.replace((rows, done)) {
                    part(out, image, &above).copy_(&done);
                }
            }
            if let Some((last, done)) = waiting {
                part(out, image, &last).copy_(&done);
            }
        }
    }
}

/// Some rows of an image of `[batch, channels, height, width]`, `[1, channels, rows, width]`: a view.
pub(crate) fn part(x: &Tensor, image: i64, rows: &Range<i64>) -> Tensor {
    x.narrow(0, image, 1).narrow(2, rows.start, rows.end - rows.start)
}

/// Rows `[1, channels, rows, width]` without gaps in memory, as libtorch's norms need them. Rows with their channels last have none,
/// and others are copied.
pub(crate) fn dense(rows: Tensor) -> Tensor {
    let are_last = rows.stride()[1] == 1 && rows.size()[1] > 1;
    if are_last { rows } else { rows.contiguous() }
}

/// A picture without values, `[batch, channels, height, width]`, in memory as kernels have it.
pub(crate) fn blank(kernels: Kernels, like: &Tensor, [channels, height, width]: [i64; 3]) -> Tensor {
    let (batch, options) = (like.size()[0], (like.kind(), like.device()));
    match kernels.layout {
        Layout::ChannelsLast => channels_last_empty([batch, channels, height, width], options),
        Layout::Planar => Tensor::empty([batch, channels, height, width], options),
    }
}

/// The mean and the variance of each group of an image's channels, each `[channels]`: the values for a channel are those of its
/// group. They are f32, or f64 for pictures in f64.
pub(crate) struct Moments {
    pub(crate) mean: Tensor,
    pub(crate) variance: Tensor,
}

impl Moments {
    /// Of an image of `x` `[batch, channels, height, width]`. Each strip has its own mean and variance; that of their means is added in f64
    /// (Chan, Golub and LeVeque 1979).
    pub(crate) fn of(x: &Tensor, image: i64, strips: Strips, groups: i64) -> Moments {
        let kind = wide(x.kind());
        let channels = x.size()[1];
        let ones = Tensor::ones([channels], (kind, x.device()));
        let zeros = ones.zeros_like();
        let (mut means, mut variances, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for rows in strips.each() {
            let strip = dense(part(x, image, &rows));
            // On a GPU libtorch takes no parameters of another number format than the picture's.
            let strip = if x.device() == Device::Cpu { strip } else { strip.to_kind(kind) };
            let pixels = (rows.end - rows.start) * x.size()[3];
            // libtorch returns the mean and 1 / sqrt(variance + epsilon) beside the normalised numbers.
            let (_, mean, inverse) =
                strip.native_group_norm(Some(&ones), Some(&zeros), 1, channels, pixels, groups, 0.0);
            means.push(mean.view([-1]).to_kind(Kind::Double));
            variances.push(inverse.view([-1]).to_kind(Kind::Double).pow_tensor_scalar(-2));
            counts.push(pixels as f64);
        }
        let (means, variances) = (Tensor::stack(&means, 0), Tensor::stack(&variances, 0)); // [strips, groups]
        let shares = Tensor::from_slice(&counts).to_device(x.device()).unsqueeze(1) / counts.iter().sum::<f64>();
        let average = |of: &Tensor| (of * &shares).sum_dim_intlist([0i64].as_slice(), true, Kind::Double); // [1, groups]
        let mean = average(&means);
        let variance = average(&(variances + (&means - &mean).square()));
        let of_channels =
            |of: Tensor| of.view([-1]).to_kind(kind).repeat_interleave_self_int(channels / groups, None, None);
        Moments { mean: of_channels(mean), variance: of_channels(variance) }
    }
}

/// The number format in which a norm computes: f32, or f64.
pub(crate) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}
