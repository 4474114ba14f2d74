//! Measures of the tensors of a recorded run: pure functions from tensors to numbers.
//!
//! - One network call: [`GuidanceParts`]; one tensor: [`Moments`] and [`spectrum`]; two tensors: [`cosine`],
//!   [`relative_l1`], [`relative_l2`] and [`relative_error`].
//! - A whole run: [`Commitment`] (when each pixel is decided), [`Alternation`] (whether the solver was stable), [`Trajectory`]
//!   and [`Pca`] (the path of the sample), [`TokenMaps`], [`mass`], [`entropy`] and [`places`] (attention to words).
//! - The picture: [`saturation`], [`contrast`], [`clipped_pixels`] and [`pixel_distance`].
//! - A few runs: [`Estimate`], a number with its confidence interval.
//!
//! Names and formulas are those of the papers, which each item cites. `eps_u`, `eps_c` and `eps_g` are the
//! unconditional, conditional and guided noise that a call predicts, and `x̂₀` is its estimate of the clean sample.
//! Nothing here knows a model, a trace or a file.
//!
//! One decision: a measure never stops a run. If it is not defined, a number is NaN (the angle to a zero vector), a
//! list is empty, and a structure is `None` (tensors that differ in shape or device, or have no elements). All sums are
//! in double precision on the tensors' device, whatever the kind of the tensors.
//!
//! ```
//! use latentrace_measures::{GuidanceParts, Trajectory};
//! use latentrace_nn::tch::Tensor;
//!
//! let [u, c] = [[1f32, 0.0, 0.0, 0.0], [1.0, 0.6, 0.8, 0.0]].map(|noise| Tensor::from_slice(&noise));
//! let guided = &u + (&c - &u) * 7.5;
//! let clean = Tensor::from_slice(&[0f32, 0.0, -2.0, 0.0]);
//! let guidance = GuidanceParts::of(&u, &c, &guided, &clean).expect("tensors of one shape");
//! println!("{guidance:#.3?}");
//! assert!((guidance.difference - 0.5).abs() < 1e-6); // a length of 1 in four dimensions
//! assert!((guidance.parallel - 0.4).abs() < 1e-6); // 0.8 of it is along the clean estimate
//! assert!((guidance.orthogonal - 0.3).abs() < 1e-6);
//!
//! let points = [[0f64, 0.0], [3.0, 4.0], [6.0, 0.0]].map(|point| Tensor::from_slice(&point));
//! let trajectory = Trajectory::of(&points, &[2.0, 1.0, 0.0]).expect("a level for each point");
//! assert_eq!(trajectory.deviation, [0.0, 4.0, 0.0]);
//! ```

mod alternation;
mod attention;
mod commitment;
mod guidance;
mod intervals;
mod moments;
mod numbers;
mod pca;
mod pixels;
mod similarity;
mod spectrum;
mod token_maps;
mod trajectory;

pub use alternation::Alternation;
pub use attention::{Place, entropy, mass, places, token_entropy};
pub use commitment::{Commitment, KAPPA};
pub use guidance::GuidanceParts;
pub use intervals::{CONFIDENCE, Estimate, student_quantile};
pub use moments::{Moments, channel_means, clipped_share};
pub use pca::Pca;
pub use pixels::{bits, clipped_pixels, contrast, pixel_distance, saturation};
pub use similarity::{cosine, headroom, relative_error, relative_l1, relative_l2};
pub use spectrum::{bands, crossing, ring_sizes, spectrum};
pub use token_maps::TokenMaps;
pub use trajectory::Trajectory;
