//! Alternating training of both networks.

use super::Heard;
use super::{both, read};
use anyhow::{Context, Result, ensure};
use latentrace_files::replace;
use latentrace_pipeline::Unet;
use latentrace_train::{Space, Trainee};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The training of both networks for the same time, in turns, so a busy machine slows both alike.
pub struct Turns {
    budget: f64,
    state: PathBuf,
    log: Log,
}

/// The log of each training, with about one note a second.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Log {
    latents: Vec<Note>,
    pixels: Vec<Note>,
}

/// The state of a training at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The number of training steps so far.
    pub steps: u64,
    /// The training time so far in seconds, without the turns of the other network.
    pub seconds: f64,
    /// The mean loss since the last note.
    pub loss: f64,
}

/// The length of a turn, in seconds.
const TURN: f64 = 10.0;
/// The time between notes, in seconds.
const NOTE: f64 = 1.0;
/// The time between saved states, in seconds.
const SAVE: f64 = 60.0;

impl Turns {
    /// Reads the log in a folder, for a budget of `budget` seconds each.
    ///
    /// # Errors
    /// The log cannot be read, or a training is longer than the budget.
    pub fn read(state: &Path, budget: f64) -> Result<Turns> {
        let path = state.join("progress.json");
        let log: Log = read(&path)?.unwrap_or_default();
        for (space, notes) in both([&log.latents, &log.pixels]) {
            let longer = notes.iter().rev().nth(1).filter(|note| note.seconds >= budget);
            ensure!(
                longer.is_none(),
                "{}: {} were trained for more than {budget} s\nhint: use a larger --seconds-of-training, or another --output",
                path.display(),
                space.name()
            );
        }
        Ok(Turns { budget, state: state.into(), log })
    }

    /// Whether both trainings have used their budget.
    pub fn done(&self) -> bool {
        Space::BOTH.iter().all(|space| self.last(*space).seconds >= self.budget)
    }

    /// The training time of each network, in seconds.
    pub fn budget(&self) -> f64 {
        self.budget
    }

    /// The last note of a training.
    pub fn last(&self, space: Space) -> Note {
        self.notes(space).last().copied().unwrap_or_default()
    }

    /// All notes of a training.
    pub fn notes(&self, space: Space) -> &[Note] {
        match space {
            Space::Latents => &self.log.latents,
            Space::Pixels => &self.log.pixels,
        }
    }

    /// Trains until both have used their budget. Each turn goes to the network with less training time. Returns the
    /// trained networks.
    pub fn train(mut self, mut two: [Trainee; 2], batch: u64, tell: &dyn Fn(Heard)) -> Result<(Turns, [Unet; 2])> {
        for space in Space::BOTH {
            self.resume(space, &mut two[space as usize])?;
        }
        let mut saved = Instant::now();
        while !self.done() {
            let [latents, pixels] = Space::BOTH.map(|space| self.last(space).seconds);
            let space = if latents <= pixels { Space::Latents } else { Space::Pixels };
            self.turn(space, &mut two[space as usize])?;
            if saved.elapsed().as_secs_f64() >= SAVE || self.done() {
                self.save(&two)?;
                self.say(batch, tell);
                saved = Instant::now();
            }
        }
        Ok((self, two.map(Trainee::finish)))
    }

    /// One turn of one network.
    fn turn(&mut self, space: Space, trainee: &mut Trainee) -> Result<()> {
        let before = self.last(space).seconds;
        let (end, began) = ((before + TURN).min(self.budget), Instant::now());
        let (mut noted, mut losses) = (before, Vec::new());
        loop {
            losses.push(trainee.step()?);
            let seconds = before + began.elapsed().as_secs_f64();
            if seconds >= (noted + NOTE).min(end) {
                let loss = losses.iter().sum::<f64>() / losses.len() as f64;
                self.log(space).push(Note { steps: trainee.steps(), seconds, loss });
                (noted, losses) = (seconds, Vec::new());
            }
            if seconds >= end {
                return Ok(());
            }
        }
    }

    /// Continues from the saved state. The log is written before the state, so notes after the state are removed.
    fn resume(&mut self, space: Space, trainee: &mut Trainee) -> Result<()> {
        let path = self.path(space);
        trainee.resume(&path)?;
        let steps = trainee.steps();
        let notes = self.log(space);
        notes.retain(|note| note.steps <= steps);
        let noted = notes.last().map_or(0, |note| note.steps);
        let hint = "hint: progress.json beside it is of another run; use another --output";
        ensure!(noted == steps, "{}: step {steps}, but progress.json has no note of it\n{hint}", path.display());
        Ok(())
    }

    /// Writes the log, and then the states.
    fn save(&self, two: &[Trainee; 2]) -> Result<()> {
        let log = serde_json::to_string(&self.log).context("the log as JSON")?;
        replace(&self.state.join("progress.json"), log.as_bytes())?;
        for (space, trainee) in both([&two[0], &two[1]]) {
            trainee.save(&self.path(space))?;
        }
        Ok(())
    }

    fn say(&self, batch: u64, tell: &dyn Fn(Heard)) {
        for space in Space::BOTH {
            let Note { steps, seconds, loss } = self.last(space);
            let (name, budget) = (space.name(), self.budget);
            let samples = steps * batch;
            tell(Heard::Line(format!("{name}: {seconds:.0} of {budget} s, {samples} samples, loss {loss:.4}")));
        }
    }

    fn path(&self, space: Space) -> PathBuf {
        self.state.join(format!("{}.safetensors", space.name()))
    }

    fn log(&mut self, space: Space) -> &mut Vec<Note> {
        match space {
            Space::Latents => &mut self.log.latents,
            Space::Pixels => &mut self.log.pixels,
        }
    }
}

impl Note {
    /// The training of a picture's network, for the picture's provenance.
    pub fn about(&self) -> serde_json::Value {
        json!({ "steps": self.steps, "seconds": self.seconds })
    }
}
