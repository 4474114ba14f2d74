//! Tensors with a shape and a number format but without numbers: libtorch's *meta* device.

use crate::{Init, Result, Source};
use std::ffi::c_void;
use tch::{Device, Kind, Tensor};

/// A tensor with a shape and without numbers. Operations on it give the right shape and take no time and no memory. Its
/// numbers must not be read.
pub fn shape_only(shape: &[i64], kind: Kind) -> Tensor {
    const META: i32 = 14; // c10::DeviceType::Meta
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let mut tensor = std::ptr::null_mut();
    #[allow(unsafe_code)] // Safety: both arrays are `shape.len()` long, and a tensor comes back unless the call fails.
    unsafe {
        let failed = aoti_torch_empty_strided(
            shape.len() as i64,
            shape.as_ptr(),
            strides.as_ptr(),
            scalar_type(kind),
            META,
            0,
            &mut tensor,
        );
        assert!(failed == 0 && !tensor.is_null(), "libtorch makes no tensor of shape {shape:?} without numbers");
        Tensor::from_ptr(tensor.cast())
    }
}

/// Whether a tensor has no numbers.
pub fn is_shape_only(tensor: &Tensor) -> bool {
    tensor.numel() > 0 && tensor.data_ptr().is_null()
}

#[allow(unsafe_code)] // Safety: declared as in torch/csrc/inductor/aoti_torch/c/shim.h of libtorch 2.11.
unsafe extern "C" {
    fn aoti_torch_empty_strided(
        axes: i64,
        sizes: *const i64,
        strides: *const i64,
        scalar_type: i32,
        device_type: i32,
        device_index: i32,
        tensor: *mut *mut c_void,
    ) -> i32;
}

/// The number of c10::ScalarType.
fn scalar_type(kind: Kind) -> i32 {
    match kind {
        Kind::Uint8 => 0,
        Kind::Int8 => 1,
        Kind::Int16 => 2,
        Kind::Int => 3,
        Kind::Int64 => 4,
        Kind::Half => 5,
        Kind::Double => 7,
        Kind::Bool => 11,
        Kind::BFloat16 => 15,
        _ => 6, // f32
    }
}

/// The source of weights that have only shapes.
pub(crate) struct Shapes;

impl Source for Shapes {
    fn tensor(&self, _: &str, shape: &[i64], _: Init, kind: Kind, _: Device) -> Result<Tensor> {
        Ok(shape_only(shape, kind))
    }

    fn has(&self, _: &str) -> bool {
        true
    }

    fn unread(&self) -> Vec<String> {
        Vec::new()
    }

    fn place(&self, tensor: Tensor, _: Device) -> Tensor {
        shape_only(&tensor.size(), tensor.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attends, Attention, AttentionShape, Moment, Pass, Probe, Tap, Weights};

    struct Shapes(Vec<Vec<i64>>);
    impl Probe for Shapes {
        fn wants(&self, _: &Tap, _: &Moment) -> bool {
            true
        }
        fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
            self.0.push(tensor.size());
            tensor
        }
    }

    #[test]
    fn a_pass_without_numbers_has_every_shape() {
        let weights = Weights::shapes("test", Kind::BFloat16);
        let names = AttentionShape::DIFFUSERS;
        let shape = AttentionShape {
            width: 320,
            context: 768,
            attends: Attends::Text,
            heads: 8,
            bias: false,
            causal: false,
            upcast: true,
            names,
        };
        let attention = Attention::load(&weights, shape).unwrap();
        // A million pixels: the scores alone would be 5 GB.
        let x = shape_only(&[2, 1 << 20, 320], Kind::BFloat16);
        let context = shape_only(&[2, 77, 768], Kind::BFloat16);
        let mut shapes = Shapes(Vec::new());
        let out = attention.forward(&mut Pass::watched(&mut shapes), &x, &context);
        assert_eq!((out.size(), out.kind()), (vec![2, 1 << 20, 320], Kind::BFloat16));
        assert_eq!(shapes.0[0], [2, 8, 1 << 20, 40]);
        assert_eq!(shapes.0[3], [2, 8, 1 << 20, 77], "scores");
        assert_eq!(attention.forward(&mut Pass::silent(), &x, &context).size(), out.size());
    }
}
