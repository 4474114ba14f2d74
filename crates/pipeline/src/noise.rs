//! The noise of a run.

use latentrace_nn::seeded;
use latentrace_nn::tch::{Device, Kind, Tensor};

/// Every normal draw of a run, made ahead on the CPU from the image's own seed, in the order in which the reference
/// implementation draws: so a seed gives the numbers that PyTorch gives (`torch.Generator("cpu").manual_seed(seed)`),
/// and an image does not change with its neighbours or its device.
pub struct Draws {
    left: std::vec::IntoIter<Tensor>,
}

impl Draws {
    /// `count` draws of `shape`, one image's, from its seed.
    pub fn new(seed: u64, count: usize, shape: [i64; 4], device: Device) -> Draws {
        let draw = || Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_device(device);
        let drawn: Vec<Tensor> = seeded(seed, || (0..count).map(|_| draw()).collect());
        Draws { left: drawn.into_iter() }
    }
}

impl Iterator for Draws {
    type Item = Tensor;

    fn next(&mut self) -> Option<Tensor> {
        self.left.next()
    }
}
