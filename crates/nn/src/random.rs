//! The one lock under which random numbers are drawn.

use std::sync::{Mutex, PoisonError};

/// Runs `draw` with libtorch's CPU generator freshly seeded, as `torch.manual_seed(seed)` would leave it.
///
/// libtorch's generator is global here (tch has no generator handle), so every draw of the workspace goes through this
/// lock, and no draw depends on what was drawn before it.
pub fn seeded<T>(seed: u64, draw: impl FnOnce() -> T) -> T {
    crate::cuda(); // seeding asks libtorch whether there is CUDA
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _held = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed as i64);
    draw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_seed_gives_the_numbers_that_pytorch_gives() {
        // torch.manual_seed(0); torch.randn((1, 4, 64, 64)).flatten()[:4]
        let draw = seeded(0, || Tensor::randn([1, 4, 64, 64], (Kind::Float, Device::Cpu)));
        let head = Vec::<f32>::try_from(draw.flatten(0, -1).slice(0, 0, 4, 1)).unwrap();
        assert_eq!(head, [-1.125_839_8, -1.152_360_2, -0.250_578_58, -0.433_878_8]);
    }
}
