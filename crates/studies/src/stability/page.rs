//! The page and its tables.

use super::figures::RATIOS;
use super::limits::{ASTRAY, Behaviour, Case, Criterion, NEAR, TENFOLD};
use super::region::{real_limit, steady};
use super::{SHOWN, tried};
use crate::atlas::Sampler;
use anyhow::{Context, Result, ensure};
use latentrace_files::{Table, fields};
use latentrace_measures::Alternation;
use std::fmt::Write;

/// What was asked of the model.
pub struct About<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The seed.
    pub seed: u64,
    /// The number of elements of a sample.
    pub elements: usize,
    /// At how many levels of a solution its Jacobian is computed.
    pub levels: usize,
    /// How many differences at the start are carried through a plan's matrices.
    pub differences: usize,
    /// The guidance weights that were tried.
    pub weights: &'a [f64],
}

/// What is seen in worlds in closed form, with its name in figures.
pub const SEPARATE: (&str, Criterion) = ("two runs from nearby starts", Behaviour::is_observed);

/// What is seen on a model, with its name in figures.
pub const ASTRAY_TOO: (&str, Criterion) = ("far from the exact result", Behaviour::is_far);

/// The page, from the cases of normal data, of the mixture and of the model.
pub fn page(samplers: &[Sampler], [normal, mixture, model]: [&[Case]; 3], about: &About) -> String {
    let About { prompt, seed, elements, levels, weights, .. } = about;
    let weights: Vec<String> = weights.iter().map(f64::to_string).collect();
    let weights = weights.join(", ");
    let shown = |cases: &[Case], seen: Criterion, what: &str| {
        format!("{}\n{}", limits(cases, &SHOWN), accuracy(cases, seen, what))
    };
    let separate = |cases: &[Case]| shown(cases, Behaviour::is_observed, "nearby starts separate");
    [
        format!("# Why samplers break under guidance\n\n{INTRODUCTION}"),
        format!("## Regions\n{REGIONS}\n{}", regions(samplers)),
        format!("## Prediction and observation\n{}", columns()),
        format!("## Normal data\n{NORMAL}\n{}", separate(normal)),
        format!("## The mixture\n{MIXTURE}\n{}", separate(mixture)),
        format!(
            "## The model\nThe bundled model with the prompt “{prompt}”, seed {seed}, and the levels of its own scheduler. A sample has \
             {elements} numbers, so a Jacobian has {elements} rows; it is computed by central differences at {levels} levels of each solution, \
             and interpolated between them. {} Weights {weights} were tried. All numbers are in \
             [stability-model.csv](stability-model.csv).\n\n![Smallest unstable weight with the model, by steps](stability-model.png)\n\n{SATURATES}\n\n{}",
            carried(about),
            shown(model, Behaviour::is_far, "results go astray or nearby starts separate")
        ),
        format!("## The alarm\n{}\n{}", alarm_text(), alarm(&[normal, mixture, model])),
    ]
    .join("\n")
}

/// What is carried through the matrices, in words.
fn carried(about: &About) -> String {
    match about.differences == about.elements {
        true => "All differences at the start are carried through a plan's matrices.".into(),
        false => format!(
            "Of the differences at the start, {} random orthogonal ones are carried through a plan's matrices: where one direction \
             dominates, the norm of the product is right to about {:.0} %, which moves its limit by less than the next weight.",
            about.differences,
            100.0 * (2.0 / about.differences as f64).sqrt()
        ),
    }
}

const INTRODUCTION: &str = "\
`./just stability` measures what this page says, and writes it.

In `x = x₀ + sigma·noise` (the latents divided by `√ᾱ`) the probability-flow ODE is `dx/d ln sigma = x − D(x, sigma)`, where `D` is
the network's clean estimate. A small difference `δ` of two solutions follows `dδ/d ln sigma = (1 − J) δ` with `J = ∂D/∂x`. Guidance
with the weight `w` makes it `J_w = J_u + w (J_c − J_u)`. With a prompt the network knows more, so its estimate depends less on
the sample: `J_c` is smaller than `J_u`, and `J_w` has eigenvalues far below zero if `w` is large. The exact flow then contracts
fast, towards the same picture from all starts nearby. An explicit formula with steps that are too long for that does not contract.
It goes too far, to the other side, and further with each step: the clean estimates alternate, and grow. The picture that comes
out is the solver's, not the model's.
";

const REGIONS: &str = "\
Each step of a plan multiplies the sample's difference and what the sampler remembers by a matrix, which is read off the plan's own
coefficients (`latentrace_schedulers::stability`). For an eigenvalue `μ` of `J` the step enlarges nothing if all eigenvalues of this
matrix are at most 1 in size. The exact flow contracts where the real part of `μ` is below 1.

![Regions of stability of every sampler at two step ratios](stability-regions.png)

The table has the most negative real `μ` of each region, times the length of the step in log sigma. For small steps they are the
limits of the textbooks (Hairer and Wanner, *Solving Ordinary Differential Equations II*): Euler and two-stage methods −2,
Adams-Bashforth of two, three and four steps −1, −6/11 and −3/10. A step of `dpm++2s` and `dpm++3s` spans two and three levels, so its
limit is listed per level. `edm_sde` adds as much noise in a short step as in a long one, so it has no limit for small steps.
PNDM uses the weights of even steps in sigma. On steps that are even in log sigma they are wrong, and its region shrinks to half
where LMS, with exact weights, gains.
";

const NORMAL: &str = "\
Both the data and the data under the condition are normal, about 0.8, with deviations 1.5 and 0.18; 13 weights from 1 to 96. The
Jacobian is the same at every sample, so the product predicts what is seen, up to rounding: a difference that the flow contracts
below the last place of a double comes back from there.
";

const MIXTURE: &str = "\
The atlas's mixture of two normal distributions. With the condition it is N(0.8, 0.1²), a quarter as wide as the part that it is
in. Jacobians are in closed form. All numbers are in [stability-mixture.csv](stability-mixture.csv).

![Smallest unstable weight on the mixture, by steps](stability-mixture.png)
";

const SATURATES: &str = "\
On a network two runs from nearby starts need not separate where the product grows. The product is taken along the exact solution. A run
that has left it oscillates as far as the network lets it, and there differences no longer grow: both runs have the same oscillation. So
here what is seen is that the result is *astray*.";

fn columns() -> String {
    format!(
        "The smallest guidance weight, of those that were tried, at which

- *frozen*: some step's matrix by itself enlarges something, at an eigenvalue of `J_w` where the step begins;
- *product*: the product of all matrices from the start to some step has a norm of more than {TENFOLD} times that of the exact flow, along a
  solution in small steps;
- *seen*: two runs from nearby starts, which differ in the direction that the product enlarges most, separate by as much;
- *astray*: the result is further from the exact one than {ASTRAY} of its size, for whatever reason (not for samplers that draw noise);
- *alarm*: the run's clean estimates alternate, see [below](#the-alarm) (likewise).

A dash is none. Of samplers that draw noise it is the deterministic part: both runs draw the same.

The frozen criterion is several times too pessimistic. Eigenvalues are far below zero only over some levels, and what grows there
must first grow out of what the levels before have contracted. The product has all of that.
"
    )
}

fn alarm_text() -> String {
    format!(
        "A run's table `scalars.csv` has for each step how much of the clean estimate alternates: the second difference of the estimates
of three steps, over four times the estimate's size (`alternation`), and the cosine of this difference and the one before
(`alternation_cosine`). `generate`, `vary`, `fork`, `resume` and sweeps warn where {} such differences in a row are all {} or more
and their cosines average {} or less, and that goes on until {:.0} % of the steps or more: what alternates only before has room to settle.
Smooth runs have small differences.

The table counts runs of this page by samplers that draw no noise. A run is *far* if nearby starts separate tenfold or the result is
astray. It is *near* if nothing says that it is unstable, neither the product nor what is seen, and the result is within {NEAR} of the
exact one; some such runs alternate for a few steps, and the steps after them contract again. Far runs without the alarm are, for the
most part, those of few steps that are inaccurate before they alternate, and of methods of two stages (Heun, DPM2): there a difference
grows without a change of sign. With other captions and seeds `latentrace run alarm` counts the same of the model, against Heun's
method in 200 steps; the model's card has the figures.
",
        Alternation::WINDOW,
        Alternation::SHARE,
        Alternation::COSINE,
        100.0 * Alternation::REACHED
    )
}

/// How often the alarm agrees with what is seen.
fn alarm(worlds: &[&[Case]; 3]) -> String {
    let mut text = String::from(
        "| | far runs | of these with the alarm | near runs | of these with the alarm |\n|---|---|---|---|---|\n",
    );
    let runs = |cases: &'_ [Case]| cases.iter().flat_map(|case| case.behaviour.clone()).collect::<Vec<Behaviour>>();
    for (name, cases) in ["normal data", "mixture", "model"].iter().zip(worlds) {
        let runs = runs(cases).into_iter().filter(|one| one.error.is_some());
        let (far, rest): (Vec<Behaviour>, Vec<Behaviour>) = runs.partition(Behaviour::is_far);
        let near = rest.into_iter().filter(Behaviour::is_near).collect();
        let counts = [far, near].map(|runs| (runs.len(), runs.iter().filter(|one| one.is_alarmed()).count()));
        _ = writeln!(text, "| {name} | {} |", counts.map(|(all, alarmed)| format!("{all} | {alarmed}")).join(" | "));
    }
    let drawn: Vec<Behaviour> = worlds.iter().flat_map(|cases| runs(cases)).filter(|one| one.error.is_none()).collect();
    let stable: Vec<&Behaviour> = drawn.iter().filter(|one| !one.is_observed()).collect();
    let alternating = stable.iter().filter(|one| one.alternation >= Alternation::SHARE).count();
    text + &format!(
        "\nSamplers that draw noise raise no alarm. Noise is a new difference at every step, and a stable step that multiplies it by nearly \
         −1 makes the estimates alternate too: they do in {alternating} of {} runs in which nearby starts do not separate.\n",
        stable.len()
    )
}

/// The limits of every sampler with the model: what [`super::remark`] reads.
pub fn limits_table(cases: &[Case]) -> Table {
    let mut table = Table::new(["sampler", "steps", "predicted", "seen"]);
    let shown = |weight: Option<f64>| weight.map_or(String::new(), |weight| weight.to_string());
    for case in cases {
        let [predicted, seen] = [case.first(Behaviour::is_predicted), case.first(Behaviour::is_far)].map(shown);
        table.row(fields![case.sampler, case.steps, predicted, seen]);
    }
    table
}

/// The real limits of every sampler.
fn regions(samplers: &[Sampler]) -> String {
    let mut text = String::from("| sampler | small steps |");
    RATIOS.iter().for_each(|(ratio, steps)| _ = write!(text, " ratio {ratio} ({steps} steps) |"));
    text += "\n|---|---|---|---|\n";
    for (name, config) in samplers {
        _ = write!(text, "| {name} |");
        for ratio in [0.999].into_iter().chain(RATIOS.map(|(ratio, _)| ratio)) {
            let limit = steady(config, ratio).ok().and_then(|companion| real_limit(&companion, ratio));
            _ = write!(text, " {} |", limit.map_or("–".into(), |limit| format!("{limit:.2}")));
        }
        text.push('\n');
    }
    text
}

/// The smallest weight of each kind, for some numbers of steps.
fn limits(cases: &[Case], steps: &[usize]) -> String {
    let kinds: [(&str, Criterion); 5] = [
        ("frozen", Behaviour::is_frozen_unstable),
        ("product", Behaviour::is_predicted),
        ("seen", Behaviour::is_observed),
        ("astray", Behaviour::is_astray),
        ("alarm", Behaviour::is_alarmed),
    ];
    let mut text = String::from("| sampler |");
    for steps in steps {
        kinds.iter().for_each(|(kind, _)| _ = write!(text, " {steps}: {kind} |"));
    }
    text += &format!("\n|---|{}\n", "---|".repeat(kinds.len() * steps.len()));
    let mut names: Vec<&str> = cases.iter().map(|case| case.sampler).collect();
    names.dedup();
    for name in names {
        _ = write!(text, "| {name} |");
        for steps in steps {
            let case = cases.iter().find(|case| case.sampler == name && case.steps == *steps);
            for (kind, has) in kinds {
                let first = case.and_then(|case| case.first(has)).map_or("–".into(), |weight| weight.to_string());
                let is_of_the_exact = ["astray", "alarm"].contains(&kind);
                let has_none =
                    is_of_the_exact && case.is_none_or(|case| case.behaviour.iter().all(|one| one.error.is_none()));
                _ = write!(text, " {} |", if has_none { String::new() } else { first });
            }
        }
        text.push('\n');
    }
    text
}

/// How near the two predictions are to what is `seen`, in words. `what` happens there.
fn accuracy(cases: &[Case], seen: Criterion, what: &str) -> String {
    let tried = tried(cases);
    let place = |weight: Option<f64>| tried.iter().position(|tried| Some(*tried) == weight).unwrap_or(tried.len());
    let is_limited = |case: &&Case| case.first(seen).is_some() || case.first(Behaviour::is_predicted).is_some();
    let found: Vec<&Case> = cases.iter().filter(is_limited).collect();
    let away = |case: &&&Case| {
        let [product, seen] = [case.first(Behaviour::is_predicted), case.first(seen)].map(place);
        product.abs_diff(seen)
    };
    let within = |most: usize| found.iter().filter(|case| away(case) <= most).count();
    let ratio = |case: &&Case| Some(case.first(seen)? / case.first(Behaviour::is_frozen_unstable)?);
    let mut ratios: Vec<f64> = found.iter().filter_map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let mut text = format!(
        "Of {} samplers with a number of steps, {} have a limit, seen or predicted by the product. The product names the weight at \
         which {what} in {} of them, and it or a neighbouring one in {}.",
        cases.len(),
        found.len(),
        within(0),
        within(1)
    );
    if let (Some(least), Some(middle), Some(most)) = (ratios.first(), ratios.get(ratios.len() / 2), ratios.last()) {
        text += &format!(
            " What is seen is {middle:.1} times what the frozen criterion says in the median, and {least:.1} to {most:.1} times in all."
        );
    }
    text + "\n"
}

/// The columns of [`numbers`].
const NUMBERS: [&str; 8] = ["sampler", "steps", "guidance", "frozen", "product", "separation", "error", "alternation"];

/// Every number, a row for each sampler, number of steps and weight.
pub fn numbers(cases: &[Case]) -> Table {
    let mut table = Table::new(NUMBERS);
    for Case { sampler, steps, behaviour } in cases {
        for one in behaviour {
            let short = |number: f64| format!("{number:.3e}");
            let error = one.error.map_or(String::new(), short);
            let numbers = [one.frozen, one.product, one.separation, one.alternation];
            let [frozen, product, separation, alternation] = numbers.map(short);
            table.row(fields![*sampler, *steps, one.guidance, frozen, product, separation, error, alternation]);
        }
    }
    table
}

/// The cases of a table of [`numbers`], which has four digits of each.
///
/// # Errors
/// It has other columns, a sampler that is not one of `samplers`, or steps that are no whole number.
pub fn cases(table: &Table, samplers: &[Sampler]) -> Result<Vec<Case>> {
    let columns: Vec<&str> = table.columns().collect();
    ensure!(columns == NUMBERS, "the columns {}: expected {}", columns.join(", "), NUMBERS.join(", "));
    let mut cases: Vec<Case> = Vec::new();
    for row in table.rows() {
        let [sampler, steps, numbers @ ..] = row.as_slice() else { continue };
        let known = samplers.iter().find(|(name, _)| *name == sampler.text());
        let (sampler, _) = known.with_context(|| format!("sampler {}: not in the atlas", sampler.text()))?;
        let steps = steps.text().parse().with_context(|| format!("steps {}", steps.text()))?;
        let [guidance, frozen, product, separation, error, alternation] =
            [0, 1, 2, 3, 4, 5].map(|place: usize| numbers[place].number());
        let error = (!numbers[4].text().is_empty()).then_some(error);
        let one = Behaviour { guidance, frozen, product, separation, error, alternation };
        match cases.last_mut() {
            Some(last) if (last.sampler, last.steps) == (*sampler, steps) => last.behaviour.push(one),
            _ => cases.push(Case { sampler, steps, behaviour: vec![one] }),
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::samplers;

    #[test]
    fn the_table_of_numbers_is_read_as_it_was_written() {
        let all: Vec<Sampler> = samplers().unwrap().into_iter().flatten().collect();
        let one = |guidance: f64, error: Option<f64>| Behaviour {
            guidance,
            frozen: 0.5,
            product: f64::INFINITY,
            separation: 12.25,
            error,
            alternation: 0.125,
        };
        let kept = [
            Case { sampler: "pndm", steps: 20, behaviour: vec![one(2.0, Some(0.75)), one(4.0, Some(f64::NAN))] },
            Case { sampler: "pndm", steps: 50, behaviour: vec![one(2.0, Some(0.0))] },
            Case { sampler: "euler_a", steps: 50, behaviour: vec![one(2.0, None)] },
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.csv");
        numbers(&kept).write(&path).unwrap();
        let read = cases(&Table::read(&path).unwrap(), &all).unwrap();
        assert_eq!(format!("{read:?}"), format!("{kept:?}"));
        let mut unknown = Table::new(NUMBERS);
        unknown.row(["other", "20", "1", "1", "1", "1", "", "0"]);
        assert_eq!(cases(&unknown, &all).unwrap_err().to_string(), "sampler other: not in the atlas");
        assert!(cases(&Table::new(["sampler"]), &all).is_err());
    }
}
