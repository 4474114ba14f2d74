//! All random numbers are drawn under one lock.

use std::sync::{Mutex, PoisonError};

/// Runs `draw` with libtorch's CPU generator seeded as by `torch.manual_seed(seed)`, for every seed that PyTorch
/// accepts. The generator uses only the lowest 32 bits of the seed: seeds 2^32 apart give the same numbers.
///
/// libtorch's generator is global (tch has no generator handle), so every draw of the workspace goes through this lock,
/// and no draw depends on an earlier one.
pub fn seeded<T>(seed: u64, draw: impl FnOnce() -> T) -> T {
    crate::cuda(); // seeding makes libtorch look for CUDA
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _held = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed as i64); // libtorch takes the bits as unsigned again
    draw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    /// PyTorch's `randn` of 16 numbers, from the definitions of its parts: the Mersenne twister (Matsumoto and
    /// Nishimura 1998), 24 bits of each number as a uniform one, and Box and Muller's (1958) pairs, eight apart.
    fn reference(seed: u64) -> [f64; 16] {
        const N: usize = 624;
        let mut state = [seed as u32; N];
        for i in 1..N {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        let uniform: [f64; 16] = std::array::from_fn(|i| {
            let mixed = (state[i] & 0x8000_0000) | (state[i + 1] & 0x7fff_ffff);
            let mut y = state[i + 397] ^ (mixed >> 1) ^ (if mixed & 1 == 1 { 0x9908_b0df } else { 0 });
            y ^= y >> 11;
            y ^= (y << 7) & 0x9d2c_5680;
            y ^= (y << 15) & 0xefc6_0000;
            y ^= y >> 18;
            f64::from(y & 0xff_ffff) / f64::from(1 << 24)
        });
        std::array::from_fn(|i| {
            let radius = (-2.0 * (1.0 - uniform[i % 8]).ln()).sqrt();
            let angle = std::f64::consts::TAU * uniform[i % 8 + 8];
            if i < 8 { radius * angle.cos() } else { radius * angle.sin() }
        })
    }

    #[test]
    fn every_seed_of_64_bits_is_taken_as_pytorch_takes_it() {
        for seed in [0, 193, (1 << 53) + 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX] {
            let drawn = seeded(seed, || Tensor::randn([16], (Kind::Float, Device::Cpu)));
            let drawn = Vec::<f32>::try_from(drawn).unwrap();
            for (found, expected) in drawn.iter().zip(reference(seed)) {
                // f32's logarithm, root, sine and product: a few times 6e-8 of numbers below 6.
                assert!((f64::from(*found) - expected).abs() < 2e-6, "seed {seed}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_seed_gives_the_numbers_that_pytorch_gives() {
        // torch.manual_seed(0); torch.randn((1, 4, 64, 64)).flatten()[:4]
        let draw = seeded(0, || Tensor::randn([1, 4, 64, 64], (Kind::Float, Device::Cpu)));
        let head = Vec::<f32>::try_from(draw.flatten(0, -1).slice(0, 0, 4, 1)).unwrap();
        assert_eq!(head, [-1.125_839_8, -1.152_360_2, -0.250_578_58, -0.433_878_8]);
    }
}
