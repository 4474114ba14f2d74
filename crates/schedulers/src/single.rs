//! Single-precision arithmetic as in numpy and torch: some times depend on the last bit.

/// torch's `linspace`: each number from the nearer end, by a fused multiply-add.
///
/// torch does so on processors with AVX2 or newer, at every length. On others the product is rounded by itself, and about a hundred
/// of a thousand numbers differ by one unit in the last place.
pub(crate) fn linspace(start: f32, end: f32, len: usize) -> impl Iterator<Item = f32> {
    let step = (end - start) / (len.max(2) - 1) as f32;
    (0..len).map(move |index| match index < len / 2 {
        true => step.mul_add(index as f32, start),
        false => (-step).mul_add((len - 1 - index) as f32, end),
    })
}

/// numpy's natural logarithm of a positive number: a ratio of polynomials of the mantissa, with an error of up to three units in
/// the last place, the same on AVX2 and AVX-512.
pub(crate) fn ln(x: f32) -> f32 {
    const ABOVE: [f32; 6] = [0.0, 1.0, 2.112_677_6, 1.480_000_6, 0.380_883_78, 0.025_899_792];
    const BELOW: [f32; 6] = [1.0, 2.612_677_6, 2.453_006, 0.986_494_3, 0.154_647_63, 0.005_875_095_3];
    let (mantissa, exponent) = halves(x);
    let z = mantissa - 1.0;
    let polynomial = |terms: [f32; 6]| terms.into_iter().rev().reduce(|sum, term| sum.mul_add(z, term)).unwrap_or(0.0);
    exponent.mul_add(std::f32::consts::LN_2, polynomial(ABOVE) / polynomial(BELOW))
}

/// A positive number as `mantissa · 2^exponent`, the mantissa above `√½` and at most `√2`.
fn halves(x: f32) -> (f32, f32) {
    // Subnormal numbers are scaled up first.
    let (x, shift) = if x < f32::MIN_POSITIVE { (x * 2f32.powi(32), -32.0) } else { (x, 0.0) };
    let exponent = (x.to_bits() >> 23) as f32 - 126.0;
    let mantissa = f32::from_bits(x.to_bits() & 0x007f_ffff | 0x3f00_0000); // in ½..1
    match mantissa <= std::f32::consts::FRAC_1_SQRT_2 {
        true => (2.0 * mantissa, exponent - 1.0 + shift),
        false => (mantissa, exponent + shift),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_numpys() {
        // Bits from numpy 2.4.6 on AVX-512; the last two are more than two units in the last place from the logarithm.
        let known = [
            (1.0, 0),
            (14.614647, 0x402b_a649),
            (0.029167, 0xc062_38cf),
            (4096.0, 0x4105_1592),
            (0.707_106_77, 0xbeb1_7218),
            (1e-10, 0xc1b8_34f1),
            (0.781_079_35, 0xbe7d_022a),
            (0.813_005_15, 0xbe53_fc7e),
        ];
        for (x, bits) in known {
            assert_eq!(ln(x).to_bits(), bits, "{x}");
        }
    }
}
