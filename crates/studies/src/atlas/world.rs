//! Data whose exact probability flow is known, and the errors of plans on it.

use latentrace_pipeline::schedulers::truth::Mixture;
use latentrace_pipeline::schedulers::{Config, Plan, Reading, Val, evaluate};

/// The number of starts; an error is the root mean square over these.
pub const STARTS: usize = 32;

/// Stable Diffusion's training schedule, with trailing spacing.
pub const CONFIG: &str = r#"{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "timestep_spacing": "trailing", "clip_sample": false, "skip_prk_steps": true, "set_alpha_to_one": true}"#;

/// Every spacing of noise levels.
pub const SPACINGS: [&str; 7] = ["leading", "linspace", "trailing", "ays", "karras", "exponential", "beta"];

/// Both readings, with their names.
pub const READINGS: [(Reading, &str); 2] = [(Reading::Diffusers, "diffusers"), (Reading::Exact, "exact")];

/// The data of the atlas.
pub fn mixture() -> Mixture {
    Mixture::new(vec![(0.4, -1.0, 0.3), (0.6, 0.8, 0.4)])
}

/// Nearly the quantiles of the standard normal distribution: those of a logistic distribution near it, which have a
/// closed form.
pub fn normals() -> Vec<f64> {
    let quantile = |index: usize| (index as f64 + 0.5) / STARTS as f64;
    (0..STARTS).map(quantile).map(|share| (share / (1.0 - share)).ln() / 1.702).collect()
}

/// The quantiles of the data, as many as there are starts: the exact flow from a very large sigma keeps quantiles.
fn data() -> Vec<f64> {
    const FAR: f64 = 1e7;
    normals().iter().map(|x| mixture().flow(x * FAR, FAR, 0.0)).collect()
}

/// The config with one of [`SPACINGS`]. Karras, exponential and beta sigmas cover the whole training range.
pub fn spaced(config: &Config, spacing: &str) -> Option<Config> {
    let config = match spacing {
        "karras" | "exponential" | "beta" => {
            config.with("timestep_spacing", "linspace").ok()?.with(&format!("use_{spacing}_sigmas"), true)
        }
        _ => config.with("timestep_spacing", spacing),
    };
    config.ok()
}

/// Every value of a plan that calls the perfect network of a mixture. As a real network, it computes with the time that
/// it is given.
fn values(
    world: &Mixture,
    config: &Config,
    plan: &Plan,
    given: &[f64],
    draws: &[Vec<f64>],
    round: impl Fn(f64) -> f64,
) -> Vec<Vec<f64>> {
    let schedule = config.schedule();
    evaluate(plan, given, draws, |_, time, input| {
        let sigma = schedule.level(time).sigma;
        input.iter().map(|x| round(world.output(config.prediction(), *x, sigma))).collect()
    })
}

/// The results of a plan that draws noise only once, and the ends of the exact flow of its first samples. `round` is
/// applied to the network's outputs.
pub fn ends(config: &Config, plan: &Plan, image: &[f64], round: impl Fn(f64) -> f64) -> [Vec<f64>; 2] {
    let world = mixture();
    let values = values(&world, config, plan, image, &vec![normals(); plan.draws()], round);
    let first = plan.steps()[0];
    let flow = |x: &f64| world.flow(*x, first.level.sigma, 0.0);
    [value(&values, plan.result()).clone(), value(&values, first.sample).iter().map(flow).collect()]
}

/// The root mean square difference of two lists.
pub fn distance([one, other]: [Vec<f64>; 2]) -> f64 {
    let square = |(one, other): (&f64, &f64)| (one - other).powi(2);
    (one.iter().zip(&other).map(square).sum::<f64>() / one.len() as f64).sqrt()
}

/// The error of a plan that draws noise only once.
pub fn error(config: &Config, plan: &Plan, image: Option<&[f64]>) -> f64 {
    distance(ends(config, plan, image.unwrap_or(&[]), |output| output))
}

/// The error of an inversion from images to noise, at unit variance.
pub fn inversion_error(config: &Config, plan: &Plan) -> Option<f64> {
    let world = mixture();
    let images = data();
    let values = values(&world, config, plan, &images, &[], |output| output);
    let sigma = config.levels(plan.calls()).ok()?[0].sigma;
    let noised = images.iter().map(|x| world.flow(*x, 0.0, sigma) / sigma.hypot(1.0)).collect();
    Some(distance([value(&values, plan.result()).clone(), noised]))
}

/// The distance of a plan's results from the quantiles of the data, whatever its first samples are.
pub fn miss(config: &Config, plan: &Plan) -> f64 {
    let [ends, _] = ends(config, plan, &[], |output| output);
    distance([ends, data()])
}

/// The variance of a plan's results over that of the data, N(0, 1/4). For normal data a plan is linear in its draws, so
/// the variance is computed without drawing.
pub fn variance(config: &Config, plan: &Plan) -> f64 {
    let draws = plan.draws();
    let units: Vec<Vec<f64>> =
        (0..draws).map(|draw| (0..draws).map(|other| f64::from(u8::from(draw == other))).collect()).collect();
    let values = values(&Mixture::normal(0.0, 0.5), config, plan, &[], &units, |output| output);
    value(&values, plan.result()).iter().map(|weight| weight * weight).sum::<f64>() / 0.25
}

/// The largest error, in log odds, of a plan that draws noise only once, down to sigma 1/4.
pub fn strays(config: &Config, plan: &Plan) -> f64 {
    mixture().strays(config, plan, &[1.3, -0.4], &[2.0, 1.0, 0.5, 0.25]).into_iter().fold(0.0, f64::max)
}

/// The largest number of steps with which a config makes at most `calls` network calls.
pub fn steps_for(config: &Config, calls: usize, reading: Reading) -> Option<usize> {
    (1..=calls).rev().find(|steps| config.plan(*steps, reading).is_ok_and(|plan| plan.calls() <= calls))
}

/// The error at a number of network calls.
pub fn error_at(config: &Config, calls: usize, reading: Reading) -> Option<f64> {
    let steps = steps_for(config, calls, reading)?;
    Some(error(config, &config.plan(steps, reading).ok()?, None))
}

/// A number rounded to a number of significant bits.
pub fn rounded(x: f64, bits: i32) -> f64 {
    if x == 0.0 || bits >= 53 {
        return x;
    }
    let unit = 2f64.powi(x.abs().log2().floor() as i32 + 1 - bits);
    (x / unit).round_ties_even() * unit
}

fn value(values: &[Vec<f64>], val: Val) -> &Vec<f64> {
    &values[val.0 as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_bits() {
        // The spacing of f16 is 2^-10 in [1, 2), of bf16 2^-7.
        assert_eq!(
            [rounded(1.0 + 0.6 / 1024.0, 11), rounded(-3.0 - 0.6 / 64.0, 8)],
            [1.0 + 1.0 / 1024.0, -3.0 - 1.0 / 64.0]
        );
        assert_eq!([rounded(0.0, 8), rounded(0.1, 53)], [0.0, 0.1]);
    }

    #[test]
    fn one_call_ends_on_the_clean_estimate() {
        let config = Config::from_json_as(CONFIG, "euler").unwrap();
        let plan = config.plan(1, Reading::Exact).unwrap();
        let sigma = plan.steps()[0].level.sigma;
        let [ends, _] = ends(&config, &plan, &[], |output| output);
        for (end, noise) in ends.into_iter().zip(normals()) {
            let clean = mixture().denoised(noise * sigma.hypot(1.0), sigma);
            assert!((end - clean).abs() < 1e-12, "{end} {clean}");
        }
    }
}
