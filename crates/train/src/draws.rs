//! The seeds of what is random in a training.

use latentrace_shapes::Stream;

/// What is random in a training. Each has its own stream of numbers.
#[derive(Clone, Copy)]
pub(crate) enum Draws {
    /// Which pictures, noise levels and noise.
    Batch = 1,
    /// Which parts of a caption are told.
    Captions = 2,
    /// Which pictures, and noise, of the decoder by itself.
    Decoder = 3,
}

impl Draws {
    /// The stream of a part of a step's batch. It depends on these numbers alone.
    pub(crate) fn stream(self, seed: u64, step: u64, part: usize) -> Stream {
        let own = Stream::numbered(seed, self as u64).bits();
        Stream::numbered(Stream::numbered(own, step).bits(), part as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// libtorch's generator takes the lowest 32 bits of a seed, so they must differ from step to step.
    #[test]
    fn steps_parts_and_draws_have_seeds_of_their_own() {
        let mut seeds = BTreeSet::new();
        for draws in [Draws::Batch, Draws::Captions] {
            for (step, part) in (0..5000).flat_map(|step| [(step, 0), (step, 1)]) {
                seeds.insert(draws.stream(7, step, part).bits() as u32);
            }
        }
        // Of 20,000 random numbers below 2^32, 0.05 pairs are equal on average.
        assert!(seeds.len() >= 20_000 - 2, "{}", seeds.len());
    }
}
