//! Low-rank changes of a layer (LoRA, Hu et al. 2021, arXiv 2106.09685): merged into its weight, or computed beside it.

use crate::{Error, Result};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// A change of a layer's weight, `factor up down`: `W x` becomes `W x + factor up (down x)`.
#[derive(Debug)]
pub struct LowRank {
    /// `[rank, inputs]`, or the kernel `[rank, inputs, height, width]` of a convolution.
    pub down: Tensor,
    /// `[outputs, rank]`
    pub up: Tensor,
    /// `alpha / rank`.
    pub factor: f64,
}

/// The scale of changes that are computed beside their layers. Whoever runs the network sets it before a forward pass.
#[derive(Clone, Debug, Default)]
pub struct SharedScale(Rc<Cell<f64>>);

impl SharedScale {
    /// Sets the scale. At 0 the layers compute nothing in addition.
    pub fn set(&self, scale: f64) {
        self.0.set(scale);
    }

    fn get(&self) -> f64 {
        self.0.get()
    }
}

/// How a change is applied.
#[derive(Clone, Debug)]
pub enum Applied {
    /// Added to the weight, times a scale, when the layer is loaded.
    Merged(f64),
    /// Computed beside the layer, times a scale that may change between forward passes.
    Beside(SharedScale),
}

/// The changes of a network's layers, each list by its layer's path in the checkpoint and in the order of application.
pub type Changes = BTreeMap<String, Vec<(LowRank, Applied)>>;

impl LowRank {
    /// The change of a weight of this shape, times a scale.
    fn delta(&self, shape: &[i64], scale: f64, kind: Kind, device: Device) -> Tensor {
        let place = |tensor: &Tensor| tensor.to_device(device).to_kind(kind);
        let product = place(&self.up).matmul(&place(&self.down).flatten(1, -1)); // [outputs, inputs height width]
        product.view(shape) * (scale * self.factor)
    }

    /// Whether the change is that of a weight of this shape.
    pub fn fits(&self, shape: &[i64]) -> bool {
        let (down, up) = (self.down.size(), self.up.size());
        let product: Vec<i64> = up.iter().take(1).chain(down.iter().skip(1)).copied().collect();
        up.len() == 2 && down.first() == up.last() && product == shape
    }
}

/// The weight of a layer with its changes that are merged. Sums are computed in f32 at least and rounded once.
///
/// # Errors
/// A change is of a weight of another shape.
pub(crate) fn merged(
    layer: &str,
    changes: &[(LowRank, Applied)],
    shape: &[i64],
    kind: Kind,
    device: Device,
    read: impl FnOnce(Kind) -> Result<Tensor>,
) -> Result<Tensor> {
    let wide = if kind == Kind::Double { Kind::Double } else { Kind::Float };
    let mut weight = read(if changes.iter().any(|(_, how)| matches!(how, Applied::Merged(_))) { wide } else { kind })?;
    for (change, how) in changes {
        if !change.fits(shape) {
            let found = [&change.up, &change.down].map(Tensor::size).concat();
            let (name, file) = (format!("{layer}.weight"), "a low-rank change".into());
            return Err(Error::Shape { name, expected: shape.into(), found, file });
        }
        if let Applied::Merged(scale) = how {
            weight = &weight + change.delta(shape, *scale, wide, device); // not in place: it may be a view of the file
        }
    }
    Ok(weight.to_kind(kind))
}

/// A change that is computed beside its layer.
pub(crate) struct Beside {
    down: Tensor,
    up: Tensor,
    factor: f64,
    scale: SharedScale,
}

impl Beside {
    /// The changes that are computed beside a layer, on its device and in its number format.
    pub(crate) fn of(changes: &[(LowRank, Applied)], kind: Kind, device: Device) -> Vec<Beside> {
        let place = |tensor: &Tensor| tensor.to_device(device).to_kind(kind);
        let beside = changes.iter().filter_map(|(LowRank { down, up, factor }, how)| match how {
            Applied::Merged(_) => None,
            Applied::Beside(scale) => {
                Some(Beside { down: place(down), up: place(up), factor: *factor, scale: scale.clone() })
            }
        });
        beside.collect()
    }

    /// A linear layer's output with this change.
    pub(crate) fn linear(&self, x: &Tensor, y: Tensor) -> Tensor {
        self.added(y, || x.linear::<Tensor>(&self.down, None).linear::<Tensor>(&self.up, None))
    }

    /// A convolution's output with this change.
    pub(crate) fn convolution(&self, x: &Tensor, y: Tensor, stride: i64, padding: i64) -> Tensor {
        self.added(y, || {
            let low = x.conv2d::<Tensor>(&self.down, None, [stride; 2], [padding; 2], [1, 1], 1);
            let up = self.up.unsqueeze(-1).unsqueeze(-1); // [outputs, rank, 1, 1]
            low.conv2d::<Tensor>(&up, None, [1, 1], [0, 0], [1, 1], 1)
        })
    }

    fn added(&self, y: Tensor, change: impl FnOnce() -> Tensor) -> Tensor {
        match self.scale.get() * self.factor {
            0.0 => y,
            scale => y + change() * scale,
        }
    }
}
