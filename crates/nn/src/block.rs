//! Blocks of an attention's scores or probabilities, for a probe that does not need them all at once.

use tch::Tensor;

/// The scores or probabilities of some queries in one head.
///
/// The blocks of a tensor come in a fixed order: one row of the batch after another; in a row, one group of queries after
/// another; and for a group of queries, one head after another.
#[derive(Debug)]
pub struct Block {
    /// The numbers, `[1, 1, queries, tokens]`, in f32 at least.
    pub tensor: Tensor,
    /// The shape of the whole tensor, `[batch, heads, pixels, tokens]`.
    pub whole: [i64; 4],
    /// Where the block begins in it.
    pub place: Place,
}

/// Where a [`Block`] is in the whole tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The row of the batch.
    pub row: i64,
    /// The head.
    pub head: i64,
    /// The first query.
    pub first: i64,
    /// How many queries.
    pub queries: i64,
}

impl Block {
    /// Whether the tensor begins with it.
    pub fn is_first(&self) -> bool {
        let Place { row, head, first, .. } = self.place;
        [row, head, first] == [0; 3]
    }

    /// Whether it is the last head of its queries.
    pub fn ends_queries(&self) -> bool {
        self.place.head + 1 == self.whole[1]
    }

    /// Whether the tensor ends with it.
    pub fn is_last(&self) -> bool {
        let Place { row, first, queries, .. } = self.place;
        self.ends_queries() && row + 1 == self.whole[0] && first + queries == self.whole[2]
    }
}

/// How many bytes of f32 a block has at most, unless a query has more: scores and probabilities of a block fit the second
/// cache of a processor together.
pub(crate) const BYTES: i64 = 1 << 20;

/// The number of queries is a multiple of this, because matrix products are fast for such numbers.
const MULTIPLE: i64 = 16;

/// How many queries a block has.
pub(crate) fn queries([_, _, pixels, tokens]: [i64; 4]) -> i64 {
    let fit = BYTES / (4 * tokens.max(1)) / MULTIPLE * MULTIPLE;
    fit.max(MULTIPLE).min(pixels)
}

/// The places of all blocks of `queries` queries, in order.
pub(crate) fn places([batch, heads, pixels, _]: [i64; 4], queries: i64) -> impl Iterator<Item = Place> {
    let groups = move |row| {
        let firsts = (0..pixels).step_by(queries.max(1) as usize);
        firsts.flat_map(move |first| {
            (0..heads).map(move |head| Place { row, head, first, queries: queries.min(pixels - first) })
        })
    };
    (0..batch).flat_map(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn blocks_are_all_of_a_tensor_each_part_once_and_in_order() {
        for (whole, queries) in [([2, 3, 10, 5], 4), ([1, 1, 16, 77], 16), ([1, 2, 3, 1], 1)] {
            let seen = Tensor::zeros(whole, (Kind::Float, Device::Cpu));
            let places: Vec<Place> = places(whole, queries).collect();
            for (number, place) in places.iter().enumerate() {
                let tensor = Tensor::zeros([1], (Kind::Float, Device::Cpu));
                let block = Block { tensor, whole, place: *place };
                assert_eq!((block.is_first(), block.is_last()), (number == 0, number + 1 == places.len()));
                assert_eq!(block.ends_queries(), (number as i64 + 1) % whole[1] == 0);
                let Place { row, head, first, queries } = *place;
                let _ = seen.get(row).get(head).narrow(0, first, queries).g_add_scalar_(1.0);
            }
            assert!(seen.equal(&seen.ones_like()), "{whole:?}");
            assert!(places.is_sorted_by_key(|place| (place.row, place.first, place.head)));
        }
    }

    #[test]
    fn a_block_is_small() {
        assert_eq!(queries([2, 8, 4096, 4096]), 64, "1 MiB");
        assert_eq!(queries([2, 8, 256, 256]), 256, "a head");
        assert_eq!(queries([2, 8, 100, 1 << 20]), 16, "rather too large than of single queries");
        assert_eq!(queries([1, 1, 1, 0]), 1);
    }
}
