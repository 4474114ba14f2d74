//! Checks of a description. A record may come from anywhere and may have been changed, and its values are given to
//! libtorch.

use super::{Description, ForkPoint, Phase, PhaseSettings, Text, TimeIds};
use anyhow::{Context, Result, bail, ensure};
use latentrace_pipeline::nn::{Role, SamplerValue};
use latentrace_pipeline::{Model, Size, check_guidance};
use latentrace_trace::Trace;

/// Upper bounds that no model or text reaches: channels of latents, tokens of a text, bytes of a token.
const MOST_CHANNELS: i64 = 1024;
const MOST_TOKENS: usize = 4096;
const LONGEST_TOKEN: usize = 1024;

impl Description {
    /// Checks every field, and that the record agrees with them.
    pub(super) fn check(&self, trace: &Trace) -> Result<()> {
        self.check_shape()?;
        check_settings(&self.settings())?;
        self.check_time_ids()?;
        for (name, hash) in [("model.blake3", &self.model.blake3)]
            .into_iter()
            .chain(self.traces.iter().map(|trace| ("traces.blake3", &trace.blake3)))
        {
            let is_hash = hash.len() == 64 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
            ensure!(is_hash, "{name}: expected 64 hexadecimal digits, found {:?}", shown(hash));
        }
        self.kernels()?;
        if let Some(fork) = &self.fork {
            self.check_fork(fork)?;
        }
        let plan = self.plan().context("the plan")?;
        ensure!(
            plan.calls() == self.calls,
            "calls: run.json says {}, and its settings make {}",
            self.calls,
            plan.calls()
        );
        self.check_record(trace)
    }

    /// Checks that the sizes of the picture and of its latents agree.
    fn check_shape(&self) -> Result<()> {
        let ([channels, height, width], [rows, columns]) = (self.latents, self.size);
        ensure!(
            (1..=MOST_CHANNELS).contains(&channels) && height >= 1 && width >= 1,
            "latents: expected 1 to {MOST_CHANNELS} channels, and a height and width of 1 or more, found {:?}",
            self.latents
        );
        let factor = rows / height;
        let fits =
            factor >= 1 && [height.checked_mul(factor), width.checked_mul(factor)] == [Some(rows), Some(columns)];
        ensure!(fits, "size: {:?} pixels do not agree with latents of {:?}", self.size, [height, width]);
        let latents = Size { height: rows, width: columns }.latents(factor).context("size")?;
        ensure!(latents == [height, width], "latents: expected {latents:?} for this size, found {:?}", [height, width]);
        for (name, asked, found) in [("height", self.cell.height, rows), ("width", self.cell.width, columns)] {
            ensure!(asked.is_none_or(|asked| asked == found), "size: {name} {found}, but the cell has {asked:?}");
        }
        Ok(())
    }

    /// Checks that what the UNet was told is 5 or 6 finite numbers.
    fn check_time_ids(&self) -> Result<()> {
        let Some(TimeIds { prompt, negative }) = &self.time_ids else { return Ok(()) };
        for (name, ids) in [("prompt", prompt), ("negative", negative)] {
            let are_ids = [5, 6].contains(&ids.len()) && ids.iter().all(|id| id.is_finite());
            ensure!(are_ids, "time_ids.{name}: expected 5 or 6 finite numbers, found {ids:?}");
        }
        Ok(())
    }

    fn check_fork(&self, ForkPoint { call, level, past, .. }: &ForkPoint) -> Result<()> {
        if let Some(level) = level {
            let is_level = level.sigma > 0.0 && level.sigma.is_finite() && level.t.is_finite();
            ensure!(is_level, "fork.level: expected a finite time and a sigma above 0, found {level:?}");
        }
        let is_whole = |call: usize| call <= self.calls;
        ensure!(
            level.is_some() || is_whole(*call),
            "fork.call: expected at most {}, the calls of the run, found {call}",
            self.calls
        );
        let mut before = 0;
        for (index, Phase { until, settings }) in past.iter().flatten().enumerate() {
            ensure!(
                *until > before && is_whole(*until),
                "fork.past.{index}.until: expected {} to {}, found {until}",
                before + 1,
                self.calls
            );
            before = *until;
            let Some(settings) = settings else { continue };
            let cell = &settings.cell;
            let check = || {
                check_settings(settings)?;
                ensure!(
                    (cell.steps, cell.reading) == (self.cell.steps, self.cell.reading),
                    "cell: {} steps in the {:?} reading, but the run itself has {} in the {:?}",
                    cell.steps,
                    cell.reading,
                    self.cell.steps,
                    self.cell.reading
                );
                Ok(())
            };
            check().with_context(|| format!("fork.past.{index}.settings"))?;
        }
        Ok(())
    }

    /// Checks that the record's calls and shapes agree with the description.
    fn check_record(&self, trace: &Trace) -> Result<()> {
        ensure!(
            trace.complete() <= self.calls,
            "calls: {}, but {} are whole in the record",
            self.calls,
            trace.complete()
        );
        let [channels, height, width] = self.latents.map(|size| size as usize);
        let channels_of = |role| if role == Role::Sampler(SamplerValue::Mask) { 1 } else { channels };
        for entry in trace.entries() {
            ensure!(entry.call < self.calls, "calls: {}, but the record has {}", self.calls, entry.key().name());
            ensure!(
                !entry.is_of_flight_recorder() || entry.shape == [1, channels_of(entry.role()), height, width],
                "latents: {:?}, but {} has shape {:?}",
                self.latents,
                entry.key().name(),
                entry.shape
            );
        }
        Ok(())
    }

    /// Checks that a model makes latents of the recorded shape.
    ///
    /// # Errors
    /// It does not.
    pub fn check_model(&self, model: &Model) -> Result<()> {
        let [rows, columns] = self.size;
        let [height, width] = Size { height: rows, width: columns }.latents(model.checkpoint.vae.config.factor())?;
        let own = [model.checkpoint.vae.config.latent_channels, height, width];
        ensure!(
            own == self.latents,
            "latents: {:?}, but {} makes {own:?}",
            self.latents,
            model.checkpoint.place().display()
        );
        Ok(())
    }
}

fn check_settings(settings: &PhaseSettings) -> Result<()> {
    let PhaseSettings { cell, prompt, negative, prompt_2, negative_2 } = settings;
    check_guidance(&cell.guidance)?; // the error names the field
    ensure!(cell.steps > 0, "cell.steps: expected 1 or more, found 0");
    cell.check_mask().context("cell")?;
    if let Some(strength) = cell.strength {
        ensure!(
            strength > 0.0 && strength <= 1.0,
            "cell.strength: expected a number above 0 and at most 1, found {strength}"
        );
    }
    let second = [("prompt_2", prompt_2), ("negative_2", negative_2)];
    let second = second.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
    for (name, Text { tokens, .. }) in [("prompt", prompt), ("negative", negative)].into_iter().chain(second) {
        ensure!(
            tokens.len() <= MOST_TOKENS,
            "{name}.tokens: expected at most {MOST_TOKENS} tokens, found {}",
            tokens.len()
        );
        if let Some(token) = tokens.iter().find(|token| token.len() > LONGEST_TOKEN) {
            bail!("{name}.tokens: expected at most {LONGEST_TOKEN} bytes each, found {:?} and more", shown(token));
        }
    }
    Ok(())
}

/// The first 80 characters of a text.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
