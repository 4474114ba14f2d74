//! Integrals of interpolating polynomials: the weights of multistep samplers.

/// `∫₀ˡᵉⁿᵍᵗʰ e^(−rate·u) ℓⱼ(u) du` for each Lagrange basis polynomial `ℓⱼ` on `nodes`, at most six of them. The length can be
/// infinite if the rate is above zero.
pub(crate) fn lagrange_integrals(nodes: &[f64], rate: f64, length: f64) -> Vec<f64> {
    // If the exponential hardly changes, moments lose all their digits to cancellation and Gauss quadrature is accurate to the last
    // place. If it changes a lot, it is the other way round.
    if rate * length.abs() < 1.0 {
        return (0..nodes.len()).map(|j| gauss(|u| (-rate * u).exp() * basis(nodes, j, u), length)).collect();
    }
    let moments = moments(nodes.len(), rate, length);
    let integral = |j: usize| coefficients(nodes, j).iter().zip(&moments).map(|(c, m)| c * m).sum();
    (0..nodes.len()).map(integral).collect()
}

/// `ℓⱼ(u)`.
fn basis(nodes: &[f64], j: usize, u: f64) -> f64 {
    let others = nodes.iter().enumerate().filter(|(k, _)| *k != j);
    others.map(|(_, node)| (u - node) / (nodes[j] - node)).product()
}

/// The coefficients of `ℓⱼ`, the constant first.
fn coefficients(nodes: &[f64], j: usize) -> Vec<f64> {
    let mut polynomial = vec![1.0];
    for (_, node) in nodes.iter().enumerate().filter(|(k, _)| *k != j) {
        let scale = 1.0 / (nodes[j] - node);
        let shifted = [&[0.0], polynomial.as_slice()].concat();
        let held = [polynomial.as_slice(), &[0.0]].concat();
        polynomial = shifted.iter().zip(held).map(|(up, same)| scale * (up - node * same)).collect();
    }
    polynomial
}

/// `∫₀ˡᵉⁿᵍᵗʰ e^(−rate·u) uᵏ du` for `k` below `count`, each from the one before by parts.
fn moments(count: usize, rate: f64, length: f64) -> Vec<f64> {
    let end = (-rate * length).exp();
    let mut moments = vec![-(-rate * length).exp_m1() / rate];
    for k in 1..count {
        let boundary = if end == 0.0 { 0.0 } else { end * length.powi(k as i32) };
        moments.push((k as f64 * moments[k - 1] - boundary) / rate);
    }
    moments
}

/// The integral from 0 to `length` by eight-point Gauss-Legendre.
fn gauss(f: impl Fn(f64) -> f64, length: f64) -> f64 {
    const POINTS: [(f64, f64); 4] = [
        (0.183_434_642_495_649_8, 0.362_683_783_378_362),
        (0.525_532_409_916_329, 0.313_706_645_877_887_3),
        (0.796_666_477_413_626_7, 0.222_381_034_453_374_47),
        (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
    ];
    let half = length / 2.0;
    POINTS.iter().map(|(x, w)| w * half * (f(half * (1.0 + x)) + f(half * (1.0 - x)))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same integral by Simpson's rule on many intervals.
    fn simpson(nodes: &[f64], j: usize, rate: f64, length: f64) -> f64 {
        let parts = 2000;
        let f = |i: usize| {
            let u = length * i as f64 / parts as f64;
            (-rate * u).exp() * basis(nodes, j, u)
        };
        let inner = (1..parts).map(|i| f(i) * if i % 2 == 1 { 4.0 } else { 2.0 });
        (f(0) + f(parts) + inner.sum::<f64>()) * length / parts as f64 / 3.0
    }

    #[test]
    fn moments_and_gauss_agree_with_simpson() {
        let nodes = [0.0, -0.4, -1.1, -1.5];
        for (rate, length) in
            [(0.0, 0.7), (0.0, -0.7), (1.0, 0.3), (2.0, 0.4999), (2.0, 0.5001), (2.0, 6.0), (1.0, 3.0)]
        {
            for (j, found) in lagrange_integrals(&nodes, rate, length).into_iter().enumerate() {
                let want = simpson(&nodes, j, rate, length);
                // Simpson's error is length·(length/2000)⁴/180·max f'''', about 1e-12 here.
                assert!((found - want).abs() < 1e-10 * (1.0 + want.abs()), "{rate} {length} {j}: {found} {want}");
            }
        }
    }

    #[test]
    fn an_infinite_length_is_the_limit_of_long_ones() {
        let near = lagrange_integrals(&[0.0, -0.4], 1.0, 50.0);
        let infinite = lagrange_integrals(&[0.0, -0.4], 1.0, f64::INFINITY);
        assert!(near.iter().zip(&infinite).all(|(a, b)| (a - b).abs() < 1e-12), "{near:?} {infinite:?}");
    }

    #[test]
    fn a_short_step_loses_no_digits() {
        // Nodes 1e-3 apart: the weights of four nodes are those of Adams and Bashforth, up to the exponential's 1e-3.
        let step = 1e-3;
        let nodes = [0.0, -step, -2.0 * step, -3.0 * step];
        let want = [55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0];
        for (found, want) in lagrange_integrals(&nodes, 1e-9, step).into_iter().zip(want) {
            assert!((found / step - want).abs() < 1e-11, "{found} {want}");
        }
    }
}
