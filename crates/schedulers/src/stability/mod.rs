//! What a plan makes of a small difference of two samples.
//!
//! In `x = x₀ + sigma·noise` the probability-flow ODE is `dx/d ln sigma = x − D(x, sigma)`, where `D` is the clean estimate
//! (arXiv 2206.00364, eq. 1 and 3). So a small difference `δ` of two solutions follows `dδ/d ln sigma = (1 − J) δ` with the
//! Jacobian `J = ∂D/∂x`. With guidance (arXiv 2207.12598, eq. 6) it is `J_w = J_u + w (J_c − J_u)`, whose eigenvalues can be far
//! below zero if `w` is large: the exact flow then contracts fast, and an explicit formula leaves its region of stability.
//!
//! A plan is linear in samples and outputs. So it takes the differences that it still needs at the beginning of a step to those at
//! the beginning of the next by a matrix, the [`Companion`] matrix of linear multistep methods (Hairer and Wanner, *Solving
//! Ordinary Differential Equations II*, section V.1). [`Config::companions`](crate::Config::companions) has it for one eigenvalue of `J`,
//! [`Config::carry`](crate::Config::carry) multiplies all of them with Jacobians that change from call to call.

mod carry;
mod companion;

pub use companion::Companion;
