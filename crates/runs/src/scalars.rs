//! Numbers measured at each network call of a recorded run: the table `scalars.csv`.

use crate::description::Description;
use anyhow::Result;
use latentrace_files::{Field, Table, replace_unsynced};
use latentrace_measures::{Alternation, Commitment, GuidanceParts, KAPPA, Moments, channel_means, clipped_share};
use latentrace_pipeline::nn::tch::Tensor;
use latentrace_pipeline::nn::{Conditioning, SamplerValue};
use latentrace_pipeline::schedulers::Prediction;
use latentrace_trace::{Entry, Trace};
use std::path::{Path, PathBuf};

/// The file of a record's folder that keeps the table.
const FILE: &str = "scalars.csv";

/// The columns before the means of the clean estimate's channels, which are `mean_0`, `mean_1`, ..
pub const COLUMNS: [&str; 21] = [
    "call",
    "step",
    "evaluation",
    "t",
    "sigma",
    "rms_x",
    "rms_epsilon",
    "std_epsilon",
    "kurtosis_epsilon",
    "autocorrelation_epsilon",
    "rms_epsilon_difference",
    "guidance_cosine",
    "guidance_parallel",
    "guidance_orthogonal",
    "guidance_rescale",
    "guidance_projection",
    "rms_denoised",
    "denoised_beyond_3",
    "commitment",
    "alternation",
    "alternation_cosine",
];

/// The label of a column for readers.
pub fn label(name: &str) -> String {
    let text = match name {
        "sigma" => "noise level σ",
        "rms_x" => "size of the sample x",
        "rms_epsilon" => "size of the predicted noise ε",
        "std_epsilon" => "standard deviation of ε",
        "kurtosis_epsilon" => "kurtosis of ε",
        "autocorrelation_epsilon" => "autocorrelation of ε",
        "rms_epsilon_difference" => "what the prompt changes, εc − εu",
        "guidance_cosine" => "cosine of εc and εu",
        "guidance_parallel" => "guidance along the clean estimate",
        "guidance_orthogonal" => "guidance across the clean estimate",
        "guidance_rescale" => "guidance, rescaling factor",
        "guidance_projection" => "guidance, projection",
        "rms_denoised" => "size of the clean estimate x₀",
        "denoised_beyond_3" => "share of x₀ beyond 3",
        "commitment" => "how much is decided",
        "alternation" => "share of x₀ that alternates",
        "alternation_cosine" => "cosine of its changes",
        _ => return name.replace('_', " "),
    };
    text.into()
}

/// A table of numbers with named columns.
pub struct Scalars {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// A row for each call.
    pub rows: Vec<Vec<f64>>,
}

impl Scalars {
    /// Measures every complete call of a trace.
    ///
    /// # Errors
    /// The trace lacks a value of the sampler.
    pub fn of(trace: &Trace, description: &Description) -> Result<Scalars> {
        let prediction = description.request()?.scheduler.prediction();
        let samples: Vec<&Entry> =
            trace.values(SamplerValue::Sample).filter(|entry| entry.call < trace.complete()).collect();
        let mut rows = Vec::new();
        let mut estimates = Vec::new();
        for entry in samples {
            let (row, denoised) = row(trace, entry, prediction)?;
            rows.push(row);
            estimates.push(denoised);
        }
        let end = trace.values(SamplerValue::Latents).next().map(|entry| trace.tensor(entry)).transpose()?;
        let curve = end.as_ref().and_then(|end| Commitment::of(&estimates, end, KAPPA)).map(|found| found.curve);
        let channels = estimates.first().map_or(0, |first| first.size()[1]);
        let alternation = alternation(&rows, &estimates);
        for (index, (row, denoised)) in rows.iter_mut().zip(&estimates).enumerate() {
            row.push(curve.as_ref().map_or(f64::NAN, |curve| curve[index]));
            row.extend(alternation[index]);
            row.extend(channel_means(denoised));
        }
        let means = (0..channels).map(|channel| format!("mean_{channel}"));
        Ok(Scalars { columns: COLUMNS.iter().map(|name| name.to_string()).chain(means).collect(), rows })
    }

    /// Reads the table in a record's folder, or measures the record if there is none.
    ///
    /// # Errors
    /// The table cannot be read, or the record cannot be measured.
    pub fn kept(trace: &Trace, description: &Description) -> Result<Scalars> {
        match trace.folder().join(FILE).is_file() {
            true => Scalars::read(trace.folder()),
            false => Scalars::of(trace, description),
        }
    }

    /// Reads the table in a record's folder.
    ///
    /// # Errors
    /// There is no table, or it cannot be read.
    pub fn read(folder: &Path) -> Result<Scalars> {
        let table = Table::read(&folder.join(FILE))?;
        let row = |fields: &Vec<Field>| fields.iter().map(Field::number).collect();
        let columns = table.columns().map(str::to_owned).collect();
        Ok(Scalars { columns, rows: table.rows().iter().map(row).collect() })
    }

    /// Writes the table into a folder, and returns its file. A number that is not defined is an empty field.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(FILE);
        let mut table = Table::new(&self.columns);
        self.rows.iter().for_each(|row| _ = table.row(row.iter().copied()));
        replace_unsynced(&path, &table.into_bytes())?; // it can be computed again from the record
        Ok(path)
    }

    /// The call from which the clean estimates alternate from step to step (see [`Alternation::begins`]): the run's solver was
    /// unstable. `None` if they do not, or if the table is of an earlier version.
    pub fn alternates(&self) -> Option<usize> {
        let columns = ["call", "alternation", "alternation_cosine"].map(String::from);
        let is_first = self.column("evaluation").into_iter().map(|evaluation| evaluation == 0.0);
        let rows = self.only(&columns).into_iter().zip(is_first).filter(|(_, is_first)| *is_first);
        let rows: Vec<Vec<f64>> = rows.map(|(row, _)| row).collect();
        let [share, cosine] = [1, 2].map(|place| rows.iter().map(|row| row[place]).collect::<Vec<f64>>());
        Alternation::in_columns(&share, &cosine).map(|place| rows[place][0] as usize)
    }

    /// A column by its name; empty if there is no such column.
    pub fn column(&self, name: &str) -> Vec<f64> {
        match self.columns.iter().position(|known| known == name) {
            Some(place) => self.rows.iter().filter_map(|row| row.get(place).copied()).collect(),
            None => Vec::new(),
        }
    }

    /// The rows with some of the columns only. A column that does not exist is NaN.
    pub fn only(&self, names: &[String]) -> Vec<Vec<f64>> {
        let places: Vec<Option<usize>> =
            names.iter().map(|name| self.columns.iter().position(|known| known == name)).collect();
        let of = |row: &Vec<f64>| {
            places.iter().map(|place| place.and_then(|place| row.get(place)).copied().unwrap_or(f64::NAN)).collect()
        };
        self.rows.iter().map(of).collect()
    }
}

/// The share and the cosine of [`Alternation`] for each call, from the clean estimates of the first call of each step. NaN for
/// other calls.
fn alternation(rows: &[Vec<f64>], estimates: &[Tensor]) -> Vec<[f64; 2]> {
    let evaluation = 2; // its place in COLUMNS
    let firsts: Vec<usize> = (0..rows.len()).filter(|index| rows[*index][evaluation] == 0.0).collect();
    let found = Alternation::of(&firsts.iter().map(|index| &estimates[*index]).collect::<Vec<_>>());
    let mut of_calls = vec![[f64::NAN; 2]; rows.len()];
    for (place, index) in firsts.into_iter().enumerate() {
        of_calls[index] = [found.share[place], found.cosine[place]];
    }
    of_calls
}

/// The numbers of a call, except for those that need the final latents, and its clean estimate `[1, 4, height, width]`.
fn row(trace: &Trace, entry: &Entry, prediction: Prediction) -> Result<(Vec<f64>, Tensor)> {
    use Conditioning::{Conditional, Guided, Unconditional};
    use SamplerValue::{Denoised, Epsilon, Output, Sample};
    let of = |value| trace.value(value, entry.call);
    let (sample, denoised) = (of(Sample)?, of(Denoised)?);
    let guided = of(Epsilon(Guided))?;
    let (p, q) = prediction.denoising(entry.sigma);
    let nan = GuidanceParts {
        difference: f64::NAN,
        cosine: f64::NAN,
        parallel: f64::NAN,
        orthogonal: f64::NAN,
        rescale: f64::NAN,
        projection: f64::NAN,
    };
    let has = |of| trace.has_value(Epsilon(of), entry.call);
    let guidance = match has(Unconditional) && has(Conditional) {
        true => {
            let conditionally = &sample * p + of(Output(Conditional))? * q;
            let [u, c] = [of(Epsilon(Unconditional))?, of(Epsilon(Conditional))?];
            GuidanceParts::of(&u, &c, &guided, &conditionally).unwrap_or(nan)
        }
        false => nan, // in a batch, a call with a guidance weight of 0 or 1 has only one of them
    };
    let epsilon = Moments::of(&guided);
    let row = vec![
        entry.call as f64,
        entry.step as f64,
        entry.evaluation as f64,
        entry.t,
        entry.sigma,
        Moments::of(&sample).rms,
        epsilon.rms,
        epsilon.std,
        epsilon.kurtosis,
        epsilon.autocorrelation,
        guidance.difference,
        guidance.cosine,
        guidance.parallel,
        guidance.orthogonal,
        guidance.rescale,
        guidance.projection,
        Moments::of(&denoised).rms,
        clipped_share(&denoised, 3.0),
    ];
    Ok((row, denoised))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_that_alternate_are_found_in_the_table() {
        let columns = ["call", "evaluation", "alternation", "alternation_cosine"].map(String::from).into();
        let rows = |share: f64| (0..20).map(|call| vec![call as f64, f64::from(call % 2), share, -1.0]).collect();
        let mut table = Scalars { columns, rows: rows(0.3) };
        table.rows[0][2] = f64::NAN;
        assert_eq!(table.alternates(), Some(2)); // call 1 is the second of its step
        table.rows = rows(0.05);
        assert_eq!(table.alternates(), None);
        let columns = ["call", "evaluation"].map(String::from).into();
        assert_eq!(Scalars { columns, rows: vec![vec![0.0, 0.0]; 9] }.alternates(), None);
    }

    #[test]
    fn the_file_has_empty_fields_for_numbers_that_are_not_defined() {
        let folder = tempfile::tempdir().unwrap();
        let columns = ["call", "sigma", "guidance_cosine"].map(String::from).into();
        let written = Scalars { columns, rows: vec![vec![0.0, 14.6146, f64::NAN], vec![1.0, 1e-7, -0.25]] };
        let path = written.write(folder.path()).unwrap();
        let expected = "call,sigma,guidance_cosine\n0,14.6146,\n1,1e-7,-0.25\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        let read = Scalars::read(folder.path()).unwrap();
        assert_eq!(read.columns, written.columns);
        assert_eq!(read.column("sigma"), [14.6146, 1e-7]);
        assert!(read.column("guidance_cosine")[0].is_nan() && read.column("guidance_cosine")[1] == -0.25);
        assert!(read.column("t").is_empty());
    }
}
