//! The atlas: every sampler, measured on data whose exact probability flow is known.

mod faults;
mod figures;
mod readings;
mod tables;
mod world;

pub(crate) use tables::{Sampler, samplers};
pub(crate) use world::{CONFIG as ATLAS_CONFIG, STARTS, mixture, normals};

use anyhow::{Context, Result};
use latentrace_files::replace;
use latentrace_plot::write;
use std::path::{Path, PathBuf};

/// Measures every sampler. Writes the page `README.md` and its figures into the folder `output`, and the table of
/// readings into the file `table`. Returns the paths, also of a text that is as it was and is not written again.
///
/// # Errors
/// A sampler cannot be run, or a file cannot be written.
pub fn measure(output: &Path, table: &Path) -> Result<Vec<PathBuf>> {
    let [straight, random] = samplers()?;
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
    replace_changed(&path, &page)?;
    replace_changed(table, &of_readings)?;
    made.extend([path, table.to_path_buf()]);
    Ok(made)
}

/// Writes a text, unless the file has it already. A crate that includes the file, and every crate above it, is compiled
/// again when the file is written, also with the same text.
fn replace_changed(path: &Path, text: &str) -> Result<()> {
    if std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes()) {
        return Ok(());
    }
    Ok(replace(path, text.as_bytes())?)
}

const INTRODUCTION: &str = "\
`./just scheduler-atlas` writes this page. The data is a mixture of two normal distributions (weights 0.4 and 0.6, means −1
and 0.8, deviations 0.3 and 0.4), whose perfect denoiser and exact probability flow are known. The schedule is Stable
Diffusion's, with trailing times unless another spacing is named. The network computes with the time that it is given, as a
real one does. An error is the root mean square difference, over 32 starts, of a sampler's results and the ends of the exact
flow of its first samples. *diffusers* and *exact* are the two readings of a config; the last table lists their differences.
A dash is a plan that the reading does not have.

[stability.md](stability.md) says at which guidance each sampler breaks, and why.

Every run ends with a step to zero noise, which is of first order in all but a few samplers. With trailing times this step is
most of the error; with Karras sigmas (`use_karras_sigmas`) it is shorter.
";

const GLANCE: &str = "\
20 steps in the exact reading; errors are at 20 network calls, with any number of steps. The order is the one before the last
step. A sampler is *stable to* the most negative real eigenvalue of the Jacobian of the clean estimate, times the step in log
sigma, at which a step enlarges nothing ([stability.md](stability.md)). A variance is that of the results for normal data, over
the data's. It is given for samplers that draw noise, which have no exact flow to compare with; 1 is right.

![Error by sampler, spacing and network calls](glance.png)
";

const WORK: &str = "\
The number of steps is the largest that the number of network calls allows.

![Error against network calls](errors.png)
";

const SPACING: &str = "\
At 20 network calls, exact reading. `leading` starts below the largest sigma, so its flow is easier.
";

const ORDER: &str = "\
From 100 to 200 steps, the error down to sigma ¼ is divided by 2 to this power; exact reading. `crates/schedulers/tests/orders.rs`
checks the orders, for three predictions and two data distributions. It also checks them from sigma 200, where the first steps
of lower order have no weight and every solver has its theoretical order. From Stable Diffusion's 14.6 these steps still lower
the third and fourth orders on even times.
";

const THIRD: &str = "\
The third order of multistep DPM-Solver in diffusers and with corrected weights, compared with the second order. On exponential
or Karras sigmas the corrected weights need steps short enough for their polynomial. They are more accurate from about 40 steps
on; below that diffusers' half weight is better, though not by design, and `latentrace schedule` says so. A variance is that of
`sde-dpmsolver++` on normal data, over the data's. The last column is the third order of `sde-dpmsolver`, which diffusers does
not have: at very few steps its results are mostly noise.
";

const STRENGTH: &str = "\
The last part of a run, from a sample of the data with noise added. A multistep sampler that keeps its order has no larger error
here than from noise. The figure is for each class's leading times, the table for the last of 40 steps on trailing times.

![Error against strength](strengths.png)
";

const PRECISION: &str = "\
How far the results of 40 steps move if the network's outputs are rounded to the 11 bits of f16 or the 8 of bf16, while samples and
sums are not; exact reading. The rounding error of a predicted clean sample is relative to the sample's size, and the slope divides
it by sigma, so predicting the sample loses most at small sigma; predicting a velocity loses least. Weights of both signs increase
the loss: fourth-order LMS and third-order DEIS.
";

const VARIANCE: &str = "\
For normal data of deviation 0.5 a plan is linear in its draws, so the variance of its results is computed without drawing. The
table has this variance over that of the data; 1 is right.

![Variance against steps](variances.png)
";

const READINGS: &str = "\
Each fault of diffusers 0.42.1 that the diffusers reading reproduces, and its effect. The reading is that of diffusers with torch 2.11
and numpy 2, on a processor with AVX2 or newer. numpy 1 computes other sums in single precision; without AVX2, torch's `linspace` and
numpy's logarithms are rounded differently, which changes some times by one. [failures.md](failures.md) lists what fails in diffusers.
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, read_to_string};
    use std::time::SystemTime;

    #[test]
    fn a_text_that_is_there_already_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readings.md");
        replace_changed(&path, "one").unwrap();
        let written = || path.metadata().unwrap().modified().unwrap();
        let long_ago = SystemTime::UNIX_EPOCH;
        File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        replace_changed(&path, "one").unwrap();
        assert_eq!(written(), long_ago);
        replace_changed(&path, "two").unwrap();
        assert_ne!(written(), long_ago);
        assert_eq!(read_to_string(&path).unwrap(), "two");
        assert!(replace_changed(&folder.path().join("nowhere/readings.md"), "one").is_err());
    }
}
