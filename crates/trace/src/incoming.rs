//! What rules make of an attention's scores or probabilities that come in blocks.

use crate::reduction::{Reduced, Storage, apply};
use crate::rule::Rule;
use crate::totals::Totals;
use crate::{Reduction, Words};
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_nn::{Block, Place, Row, Tap, set_threads};

/// What a rule makes of a row `[1, heads, pixels, tokens]` that comes in blocks.
///
/// The first reductions of a rule may be of each query alone: they are applied to one block after another. If nothing but
/// statistics is wanted of what is left, sums over it are kept. Otherwise it is put together, and the other reductions are
/// applied to it.
pub(crate) struct Incoming {
    /// The index of the rule.
    pub(crate) rule: usize,
    /// The row.
    pub(crate) row: Row,
    /// The heads of the queries at hand, where a reduction needs all heads.
    heads: Vec<Tensor>,
    left: Option<Left>,
}

/// What is left of a row.
pub(crate) enum Left {
    /// Sums over the numbers, and the shape and number format of what they are of.
    Sums(Totals, [i64; 4], Kind),
    /// The numbers, `[1, heads, pixels, tokens]`. Of a row that is not complete, those that have come are in their places.
    Numbers(Tensor),
}

impl Incoming {
    /// Before the first block.
    pub(crate) fn new(rule: usize, row: Row) -> Incoming {
        Incoming { rule, row, heads: Vec::new(), left: None }
    }

    /// Takes a block of the row, for which `rule` is the rule.
    pub(crate) fn take(&mut self, rule: &Rule, tap: &Tap, block: &Block, words: &Words) {
        let (of_queries, rest) = rule.parts();
        let [_, mut heads, pixels, _] = block.whole;
        let Place { mut head, first, .. } = block.place;
        let mut part = block.tensor.shallow_clone();
        if of_queries.contains(&Reduction::HeadMean) {
            self.heads.push(part);
            if !block.ends_queries() {
                return;
            }
            part = Tensor::cat(&std::mem::take(&mut self.heads), 1);
            (head, heads) = (0, 1);
        }
        let from = Reduced { tensor: part, grid: None, places: None };
        let Some(Reduced { tensor, .. }) = apply(of_queries, tap, self.row.branch, from, words) else { return };
        let shape = [1, heads, pixels, tensor.size()[3]];
        match rule.storage == Storage::Stats && rest.is_empty() {
            true => self.sum(&tensor, shape),
            false => self.put(&tensor, [head, first], shape),
        }
    }

    /// Adds numbers to the sums over all of a shape.
    fn sum(&mut self, part: &Tensor, shape: [i64; 4]) {
        let before = match self.left {
            Some(Left::Sums(sums, ..)) => sums,
            _ => Totals::default(),
        };
        self.left = Some(Left::Sums(before.and(Totals::of(part, set_threads())), shape, part.kind()));
    }

    /// Puts numbers `[1, some heads, some queries, tokens]` to their place in all of a shape.
    fn put(&mut self, part: &Tensor, [head, first]: [i64; 2], shape: [i64; 4]) {
        let empty = || Left::Numbers(Tensor::empty(shape, (part.kind(), part.device())));
        if let Left::Numbers(all) = self.left.get_or_insert_with(empty) {
            let size = part.size();
            all.narrow(1, head, size[1]).narrow(2, first, size[2]).copy_(part);
        }
    }

    /// What is left of the row after all its blocks; nothing if none of a rule's words is in the text of its branch.
    pub(crate) fn end(self) -> Option<Left> {
        self.left
    }
}
