//! The figures of the page.

use super::limits::{Behaviour, Case, Criterion};
use super::region::{boundary, steady};
use crate::atlas::Sampler;
use latentrace_plot::{Chart, ChartAxis, Panels, Series};

/// The samplers of each panel, by what they remember. Left out are those that equal one of them: DDIM is Euler, DDPM ancestral
/// Euler, IPNDM after its start PNDM.
pub const FAMILIES: [(&str, &[&str]); 4] = [
    ("remember nothing", &["euler", "heun", "dpm2", "dpm++2s", "dpm++3s", "dpm_fast"]),
    ("remember slopes", &["pndm", "lms", "deis", "deis3"]),
    ("remember estimates", &["dpm++2m", "dpm++3m", "dpm_solver_2m", "unipc", "unipc_bh1"]),
    ("draw noise", &["euler_a", "dpm2_a", "dpm++2s_a", "dpm++sde", "sa_solver", "dpm++2m_sde", "dpm++3m_sde"]),
];

/// The ratios of sigma of the figure of regions, with the number of even steps over Stable Diffusion's schedule.
pub const RATIOS: [(f64, usize); 2] = [(0.883, 50), (0.733, 20)];

/// The regions of stability: a row for each ratio, a panel for each family.
pub fn regions(samplers: &[Sampler]) -> Panels {
    let chart = |(ratio, steps): (f64, usize), (family, names): (&str, &[&str])| {
        let series = |name: &&str| {
            let (_, config) = samplers.iter().find(|(sampler, _)| sampler == name)?;
            Some(Series::new(*name, boundary(&steady(config, ratio).ok()?, ratio)))
        };
        Chart {
            title: format!("{family}; sigma times {ratio}, as in {steps} even steps"),
            x: ChartAxis::linear("real part of an eigenvalue of ∂D/∂x"),
            y: ChartAxis::linear("imaginary part"),
            series: names.iter().filter_map(series).collect(),
            equal: true,
            ..Chart::default()
        }
    };
    let charts = FAMILIES.iter().flat_map(|family| RATIOS.map(|ratio| chart(ratio, *family))).collect();
    Panels {
        title: "Where a step enlarges nothing: inside of each curve".into(),
        columns: 2,
        charts,
        ..Panels::default()
    }
}

/// The smallest unstable weight against the number of steps: predicted on the left, what is `seen` on the right.
pub fn limits(title: &str, cases: &[Case], weights: &[f64], seen: (&str, Criterion)) -> Panels {
    let most = weights.last().copied().unwrap_or(1.0);
    let kinds: [(&str, Criterion); 2] = [("product of the matrices", Behaviour::is_predicted), seen];
    let chart = |(family, names): (&str, &[&str]), (kind, has): (&str, Criterion)| {
        let series = |name: &&str| {
            let of = cases.iter().filter(|case| case.sampler == *name);
            let point = |case: &Case| (case.steps as f64, case.first(has).unwrap_or(f64::NAN));
            Series::new(*name, of.map(point).collect()).marked()
        };
        Chart {
            title: format!("{family}: {kind}"),
            x: ChartAxis::log("steps"),
            y: ChartAxis::log("smallest unstable weight").showing(1.0, most),
            series: names.iter().filter(|name| cases.iter().any(|case| case.sampler == **name)).map(series).collect(),
            ..Chart::default()
        }
    };
    let is_measured = |names: &[&str]| cases.iter().any(|case| names.contains(&case.sampler));
    let families = FAMILIES.iter().filter(|(_, names)| is_measured(names));
    let charts = families.flat_map(|family| kinds.map(|kind| chart(*family, kind))).collect();
    Panels {
        title: format!("{title}; no point where every weight up to {most} is stable"),
        columns: 2,
        charts,
        ..Panels::default()
    }
}
