//! Heat maps of words over layers, heads and steps.

use crate::numbers::list;
use latentrace_nn::tch::{Kind, Tensor};
use ndarray::Array2;
use std::collections::BTreeMap;

/// Heat maps of a prompt's tokens, after DAAM (Tang et al., ACL 2023): the attention to each token, interpolated to one
/// size (bicubic) and averaged over heads, layers and steps.
///
/// Interpolation and averaging are linear, up to the clamp that removes the undershoot below zero. So one sum is kept
/// for each size of grid, and it is interpolated and clamped once, when a map is computed. DAAM differs in two ways. It
/// clamps the sum of each head over the steps before it averages the heads, so its maps are higher where only some
/// heads undershoot. And it sums over steps instead of averaging; a map here is a share of attention, from 0 to 1.
#[derive(Debug)]
pub struct TokenMaps {
    height: usize,
    width: usize,
    heads: usize,
    tokens: Option<usize>,
    sums: BTreeMap<(usize, usize), Tensor>, // [pixels, tokens] for each (height, width), summed over heads
}

impl TokenMaps {
    /// Empty maps of this size; DAAM uses the size of the latents.
    pub fn new(height: usize, width: usize) -> TokenMaps {
        TokenMaps { height, width, heads: 0, tokens: None, sums: BTreeMap::new() }
    }

    /// Adds the attention of one row in one layer at one step: `[heads, pixels, tokens]`. The pixels are a grid of
    /// `(height, width)`, row by row. Every head of every call has the same weight.
    ///
    /// Returns false, and adds nothing, if the pixels are not that grid or the number of tokens differs from before.
    #[must_use = "false if nothing was added"]
    pub fn add(&mut self, probs: &Tensor, grid: (usize, usize)) -> bool {
        let size: Vec<usize> = probs.size().into_iter().map(|side| side as usize).collect();
        let &[heads, pixels, tokens] = size.as_slice() else { return false };
        if probs.numel() == 0 || pixels != grid.0 * grid.1 || self.tokens.is_some_and(|before| before != tokens) {
            return false;
        }
        let sum = probs.detach().sum_dim_intlist(0, false, Kind::Double); // [pixels, tokens]
        match self.sums.get_mut(&grid) {
            Some(before) => drop(before.g_add_(&sum.to_device(before.device()))),
            None => drop(self.sums.insert(grid, sum)),
        }
        self.heads += heads;
        self.tokens = Some(tokens);
        true
    }

    /// The map of a word `[height, width]`: the mean of its tokens' maps, clamped at zero.
    ///
    /// A grid finer than the map is averaged instead of interpolated. `None` if nothing was added, or if `tokens` is
    /// empty or has an index out of range.
    pub fn map(&self, tokens: &[usize]) -> Option<Array2<f64>> {
        let known = self.tokens?;
        if tokens.is_empty() || tokens.iter().any(|token| *token >= known) || self.height * self.width == 0 {
            return None;
        }
        let chosen: Vec<i64> = tokens.iter().map(|token| *token as i64).collect();
        let at_size = |(grid, sum): (&(usize, usize), &Tensor)| {
            let maps = sum.index_select(1, &Tensor::from_slice(&chosen).to_device(sum.device()));
            self.resize(&maps.tr().reshape([1, -1, grid.0 as i64, grid.1 as i64]))
        };
        let total = self.sums.iter().map(at_size).reduce(|sum, maps| sum + maps)?; // [1, tokens, height, width]
        let word = (total / self.heads as f64).clamp_min(0.0).mean_dim(1, false, Kind::Double);
        Array2::from_shape_vec((self.height, self.width), list(&word)).ok()
    }

    fn resize(&self, maps: &Tensor) -> Tensor {
        let size = [self.height as i64, self.width as i64];
        if maps.size()[2] > size[0] || maps.size()[3] > size[1] {
            return maps.adaptive_avg_pool2d(size);
        }
        maps.upsample_bicubic2d(size, false, None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::tch::Device;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn every_head_counts_alike_at_any_size() {
        let mut maps = TokenMaps::new(6, 12);
        assert_eq!(maps.map(&[0]), None);
        let layer = |heads, pixels, share: f64| Tensor::full([heads, pixels, 3], share, CPU);
        assert!(maps.add(&layer(1, 8, 0.5), (2, 4)));
        assert!(maps.add(&layer(1, 8, 0.125), (2, 4)));
        assert!(maps.add(&layer(2, 18, 0.25), (3, 6)));
        assert!(maps.add(&layer(4, 288, 0.0), (12, 24))); // finer than the map
        let map = maps.map(&[0, 2]).unwrap();
        assert_eq!(map.dim(), (6, 12));
        // (0.5 + 0.125 + 2·0.25 + 4·0) / 8 heads
        assert!(map.iter().all(|share| (share - 0.140_625).abs() < 1e-12), "{map}");
    }

    #[test]
    fn a_word_is_where_its_tokens_are_and_nowhere_below_zero() {
        // Only row 1, column 2 of 4x4 attends to token 1; all attend equally to token 2.
        let probs = Tensor::zeros([1, 16, 3], CPU);
        let _ = probs.select(2, 2).fill_(0.5);
        let _ = probs.select(2, 1).narrow(1, 6, 1).fill_(1.0);
        let mut maps = TokenMaps::new(16, 16);
        assert!(maps.add(&probs, (4, 4)));
        let plain = probs.select(2, 1).view([1, 1, 4, 4]).upsample_bicubic2d([16, 16], false, None, None);
        assert!(plain.min().double_value(&[]) < -0.01); // the undershoot that is clamped
        let map = maps.map(&[1]).unwrap();
        for ((row, column), share) in map.indexed_iter() {
            let inside = (4..8).contains(&row) && (8..12).contains(&column);
            let expected = plain.double_value(&[0, 0, row as i64, column as i64]).max(0.0);
            assert!((share - expected).abs() < 1e-6, "{row}, {column}: {share}, expected {expected}");
            assert!(!inside || *share > 0.3, "{row}, {column}: {share}");
        }
        let word = maps.map(&[1, 2]).unwrap();
        assert!(word.iter().zip(&map).all(|(word, share)| (word - (share + 0.5) / 2.0).abs() < 1e-12));
    }

    #[test]
    fn what_does_not_fit_is_not_added() {
        let mut maps = TokenMaps::new(4, 4);
        let probs = Tensor::full([2, 4, 3], 0.25, CPU);
        assert!(!maps.add(&probs, (2, 3)) && !maps.add(&probs.get(0), (2, 2)));
        assert!(maps.add(&probs, (2, 2)) && !maps.add(&probs.narrow(2, 0, 2), (2, 2)));
        assert_eq!(maps.map(&[3]), None);
        assert_eq!(maps.map(&[]), None);
        assert_eq!(maps.map(&[1]).unwrap(), Array2::from_elem((4, 4), 0.25));
        assert_eq!(TokenMaps::new(0, 4).map(&[1]), None);
    }
}
