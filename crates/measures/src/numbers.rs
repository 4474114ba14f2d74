//! From tensors to numbers in double precision.

use latentrace_nn::tch::{Kind, Tensor};
use std::borrow::Borrow;

/// The tensor in double precision, without gradient.
pub(crate) fn double(tensor: &Tensor) -> Tensor {
    tensor.detach().to_kind(Kind::Double)
}

/// Each tensor as a vector; `None` if they differ in shape or device, or have no elements.
pub(crate) fn vectors<const N: usize>(tensors: [&Tensor; N]) -> Option<[Tensor; N]> {
    alike(&tensors).then(|| tensors.map(|tensor| double(tensor).flatten(0, -1)))
}

/// The tensors as the rows of a matrix; `None` if there are none, or if they differ in shape or device, or have no
/// elements.
pub(crate) fn rows<T: Borrow<Tensor>>(tensors: &[T]) -> Option<Tensor> {
    let flat = || tensors.iter().map(|tensor| double(tensor.borrow()).flatten(0, -1)).collect::<Vec<_>>();
    alike(tensors).then(|| Tensor::stack(&flat(), 0)) // [tensors, elements]
}

fn alike<T: Borrow<Tensor>>(tensors: &[T]) -> bool {
    let Some(first) = tensors.first().map(Borrow::borrow) else { return false };
    let fits = |tensor: &Tensor| tensor.size() == first.size() && tensor.device() == first.device();
    first.numel() > 0 && tensors.iter().all(|tensor| fits(tensor.borrow()))
}

/// All the numbers of a tensor, row by row.
pub(crate) fn list(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(double(tensor).flatten(0, -1)).expect("a vector in double precision")
}

/// The mean of a tensor's numbers; NaN if there are none.
pub(crate) fn mean(tensor: &Tensor) -> f64 {
    tensor.mean(Kind::Double).double_value(&[])
}

/// The root mean square.
pub(crate) fn rms(tensor: &Tensor) -> f64 {
    mean(&tensor.square()).sqrt()
}

/// The scalar product of two vectors.
pub(crate) fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.dot(b).double_value(&[])
}

/// The Euclidean length of each row of a matrix.
pub(crate) fn lengths(matrix: &Tensor) -> Tensor {
    matrix.square().sum_dim_intlist(-1, false, Kind::Double).sqrt()
}
