//! Scores and probabilities of attention, for probes: the whole tensors, or one block after another.

use crate::Place;
use crate::block::{BYTES, places, queries};
use crate::shapes::is_shape_only;
use crate::strips::wide;
use tch::{Device, Kind, Tensor};

/// The queries and keys of an attention.
pub(crate) struct Scores {
    /// `[batch, heads, pixels, features]`, in f32 at least, as the fused kernel sums.
    q: Tensor,
    /// `[batch, heads, features, tokens]`, in the same format.
    k: Tensor,
    /// Whether a pixel attends only to itself and to earlier ones.
    causal: bool,
    /// Queries of a block.
    queries: i64,
    /// The shape of all scores.
    pub(crate) whole: [i64; 4],
}

impl Scores {
    /// Of `q` `[batch, heads, pixels, features]` and `k` `[batch, heads, tokens, features]`.
    pub(crate) fn new(q: &Tensor, k: &Tensor, causal: bool) -> Scores {
        let kind = wide(q.kind());
        let (size, tokens) = (q.size(), k.size()[2]);
        let whole = [size[0], size[1], size[2], tokens];
        let (q, k) = (q.to_kind(kind), k.to_kind(kind).transpose(2, 3));
        let scores = Scores { q, k, causal, queries: queries(whole), whole };
        match scores.in_blocks() {
            true => Scores { k: scores.k.contiguous(), ..scores }, // or each product would copy all keys of a head
            false => scores,
        }
    }

    /// Whether they are computed in blocks, be it to show these or to put them together: if they are more than a block
    /// should be. A network that is trained needs them whole, and a GPU has the memory.
    pub(crate) fn in_blocks(&self) -> bool {
        let readable = !is_shape_only(&self.q) && self.q.device() == Device::Cpu && !self.q.requires_grad();
        readable && 4 * self.whole.iter().product::<i64>() > BYTES
    }

    /// The places of the blocks, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        places(self.whole, self.queries)
    }

    /// All scores, `[batch, heads, pixels, tokens]`. They have the same bits as those of blocks, which need not be so if a
    /// matrix product of another size made them.
    pub(crate) fn all(&self) -> Tensor {
        if !self.in_blocks() {
            return self.scaled(self.q.matmul(&self.k), 0);
        }
        let all = Tensor::empty(self.whole, (self.q.kind(), Device::Cpu));
        for place in self.places() {
            let Place { row, head, first, queries } = place;
            all.narrow(0, row, 1).narrow(1, head, 1).narrow(2, first, queries).copy_(&self.block(place));
        }
        all
    }

    /// The scores of a block, `[1, 1, queries, tokens]`.
    pub(crate) fn block(&self, Place { row, head, first, queries }: Place) -> Tensor {
        let of_head = |x: &Tensor| x.get(row).get(head);
        let products = of_head(&self.q).narrow(0, first, queries).mm(&of_head(&self.k));
        self.scaled(products.view([1, 1, queries, -1]), first)
    }

    /// The scores of some queries, of which the first is pixel `first`, from the products of queries and keys.
    fn scaled(&self, mut products: Tensor, first: i64) -> Tensor {
        let scores = products.g_div_scalar_((self.q.size()[3] as f64).sqrt());
        if !self.causal {
            return scores;
        }
        let later = scores.get(0).get(0).ones_like().triu(1 + first).to_kind(Kind::Bool); // [queries, tokens]
        scores.masked_fill(&later, f64::NEG_INFINITY)
    }

    /// The probabilities of scores, whole or of a block.
    pub(crate) fn probabilities(&self, scores: &Tensor) -> Tensor {
        scores.softmax(-1, self.q.kind())
    }
}
