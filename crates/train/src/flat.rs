//! All variables of a training in one flat tensor.

use latentrace_nn::tch::{Kind, Tensor, no_grad};

/// Where each variable lies in a flat tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    places: Vec<Place>,
    length: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct Place {
    name: String,
    shape: Vec<i64>,
    start: i64,
}

/// In numbers: every variable begins at a multiple of 64 bytes, which suits libtorch's kernels.
const ALIGNMENT: i64 = 16;

impl Layout {
    /// The layout of these variables, in their order.
    pub(crate) fn of(variables: &[(String, Tensor)]) -> Layout {
        let mut layout = Layout { places: Vec::new(), length: 0 };
        for (name, tensor) in variables {
            layout.places.push(Place { name: name.clone(), shape: tensor.size(), start: layout.length });
            layout.length += (tensor.numel() as i64 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        }
        layout
    }

    /// How long the flat tensor is.
    pub(crate) fn length(&self) -> i64 {
        self.length
    }

    /// The tensors in their order, one after another. Numbers between them are 0.
    pub(crate) fn gathered(&self, tensors: &[impl AsRef<Tensor>]) -> Tensor {
        let flat = Tensor::zeros([self.length], (Kind::Float, tensors[0].as_ref().device()));
        no_grad(|| {
            for ((_, mut view), tensor) in self.views(&flat).zip(tensors) {
                view.copy_(tensor.as_ref());
            }
        });
        flat
    }

    /// Makes the variables, which have this layout, views of a flat tensor.
    pub(crate) fn place(&self, variables: &mut [(String, Tensor)], flat: &Tensor) {
        no_grad(|| {
            for ((_, view), (_, tensor)) in self.views(flat).zip(variables) {
                tensor.set_data(&view);
            }
        });
    }

    /// The view of each variable, by its name.
    pub(crate) fn views<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = (&'a str, Tensor)> {
        self.places.iter().map(|Place { name, shape, start }| {
            let size = shape.iter().product();
            (name.as_str(), flat.narrow(0, *start, size).view(shape.as_slice()))
        })
    }
}
