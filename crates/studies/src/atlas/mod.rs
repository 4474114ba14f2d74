//! The atlas: every sampler, measured on data whose exact probability flow is known.

mod faults;
mod figures;
mod readings;
mod tables;
mod world;

use anyhow::{Context, Result};
use latentrace_files::replace;
use latentrace_plot::write;
use std::path::{Path, PathBuf};

/// Measures every sampler. Writes the page `README.md` and its figures into the folder `output`, and the table of
/// readings into the file `table`. Returns the paths.
///
/// # Errors
/// A sampler cannot be run, or a file cannot be written.
pub fn measure(output: &Path, table: &Path) -> Result<Vec<PathBuf>> {
    let [straight, random] = tables::samplers()?;
    let of_readings = readings::table()?;
    let sections = [
        ("At a glance", GLANCE, tables::at_a_glance(&straight, &random)?),
        ("Error against work", WORK, tables::against_work(&straight)?),
        ("Error against spacing", SPACING, tables::against_spacing(&straight)?),
        ("Order of convergence", ORDER, tables::orders(&straight)?),
        ("The third order at few steps", THIRD, tables::third_order()?),
        ("From an image", STRENGTH, tables::against_strength(&straight)?),
        ("Networks in low precision", PRECISION, tables::in_low_precision(&straight)?),
        ("Variance of samplers that draw noise", VARIANCE, tables::variances(&random)?),
        ("What sets the two readings apart", READINGS, of_readings.clone()),
    ];
    let mut page = format!("# The samplers, measured\n\n{INTRODUCTION}");
    for (title, text, table) in sections {
        page += &format!("\n## {title}\n{text}\n{table}");
    }
    let path = output.join("README.md");
    let mut made = write(output, "glance", &figures::glance(&straight)).context("scheduler-atlas")?;
    made.extend(write(output, "errors", &figures::errors(&straight))?);
    made.extend(write(output, "strengths", &figures::strengths(&straight))?);
    made.extend(write(output, "variances", &figures::variances(&random))?);
    replace(&path, page.as_bytes()).with_context(|| path.display().to_string())?;
    replace(table, of_readings.as_bytes()).with_context(|| table.display().to_string())?;
    made.extend([path, table.to_path_buf()]);
    Ok(made)
}

const INTRODUCTION: &str = "\
`./just scheduler-atlas` writes this page. The data is a mixture of two normal distributions (weights 0.4 and 0.6, means −1
and 0.8, deviations 0.3 and 0.4), whose perfect denoiser and exact probability flow are known; the schedule is Stable
Diffusion's, with trailing times unless another spacing is named. The network goes by the time that it is told, as a real one
does. An error is the root mean square over 32 starts between where a sampler ends and where the exact flow of its first
sample ends. *diffusers* and *exact* are the two readings of a config; what sets them apart is the last table. A dash is a plan
that the reading has not.

Every run ends in a step to no noise, which is of first order in all but a few samplers: with trailing times most of an error
is that step's, and with Karras sigmas (`use_karras_sigmas`) it is shorter.
";

const GLANCE: &str = "\
20 steps in the exact reading; errors are at 20 network calls, whatever steps those are. The order is the one seen before the
last step. A variance is that of what is made of normal data, over the data's: a sampler that draws noise has no flow to be
held against, and 1 is right.

![Error by sampler, spacing and network calls](glance.png)
";

const WORK: &str = "\
Steps are as many as the number of network calls allows.

![Error against network calls](errors.png)
";

const SPACING: &str = "\
At 20 network calls, exact reading. `leading` starts below the largest sigma, and so from an easier flow.
";

const ORDER: &str = "\
The error down to sigma ¼ is divided by 2 to this power where 100 steps become 200; exact reading. What it has to be is asserted
in `crates/schedulers/tests/orders.rs`, for three predictions and two worlds; there, too, from sigma 200, where the first steps
of lower order weigh nothing and every solver shows the order of its theory. From Stable Diffusion's 14.6 they still show in the
third and fourth orders on even times.
";

const THIRD: &str = "\
The third order of DPM-Solver's multistep form as diffusers has it, and with the weights mended, beside the second. On
sigmas even in the logarithm, or Karras's, the mended one wants steps short enough for its polynomial: it comes nearer to the exact
flow on the way down from about 40 steps on, and below that diffusers' half weight does better, though not by design. `latentrace
schedule` says so. A variance is that of `sde-dpmsolver++` on normal data, over the data's. The last column is the third order of
`sde-dpmsolver`, which diffusers has not: at very few steps it makes noise of everything.
";

const STRENGTH: &str = "\
The last part of a run, from a sample of the data with noise added. A multistep sampler that keeps its order has no larger error
here than from noise. The figure has each class's leading times, the table the last of 40 steps on trailing times.

![Error against strength](strengths.png)
";

const PRECISION: &str = "\
How far the ends of 40 steps move when the network's outputs are rounded to the 11 bits of f16 or the 8 of bf16; samples and sums
are not. Exact reading. A clean sample is rounded by its own size, and the slope is its distance over sigma, so that predicting the
sample loses most where sigma is small; a velocity loses least. Weights of both signs multiply the loss: fourth-order LMS and
third-order DEIS.
";

const VARIANCE: &str = "\
For normal data of deviation 0.5 a plan is linear in its draws, so the variance of what it makes is known without drawing: here
over that of the data. 1 is right.

![Variance against steps](variances.png)
";

const READINGS: &str = "\
Each fault of diffusers 0.42.1 that the diffusers reading reproduces, and what it costs. It is diffusers with torch 2.11 and numpy 2,
on a processor with AVX2 or newer: numpy 1 keeps other sums in single precision, and without AVX2 torch rounds `linspace`, and
numpy logarithms, in another way, which moves some told times by one. Where diffusers fails altogether is in
[failures.md](failures.md).
";
