//! Training of both, in turns.

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

/// The training of both for the same seconds, in turns, so that a busy machine slows both alike.
pub struct Turns {
    budget: f64,
    state: PathBuf,
    log: Log,
}

/// What was noted about once a second, for each space.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Log {
    latents: Vec<Note>,
    pixels: Vec<Note>,
}

/// A moment of a training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Steps made in all.
    pub steps: u64,
    /// Seconds trained in all, the other's turns not counted.
    pub seconds: f64,
    /// The mean loss since the note before.
    pub loss: f64,
}

/// Seconds of a turn.
const TURN: f64 = 10.0;
/// Seconds between two notes.
const NOTE: f64 = 1.0;
/// Seconds between two saved states.
const SAVE: f64 = 60.0;

impl Turns {
    /// What was trained before in a folder, for a budget of so many seconds each.
    pub fn read(state: &Path, budget: f64) -> Result<Turns> {
        let path = state.join("progress.json");
        let log: Log = read(&path)?.unwrap_or_default();
        for (space, notes) in both([&log.latents, &log.pixels]) {
            let longer = notes.iter().rev().nth(1).filter(|note| note.seconds >= budget);
            ensure!(
                longer.is_none(),
                "{}: {} were trained for more than {budget} s\nhint: a larger --seconds-of-training, or another --output",
                path.display(),
                space.name()
            );
        }
        Ok(Turns { budget, state: state.into(), log })
    }

    /// Whether both had their seconds.
    pub fn done(&self) -> bool {
        Space::BOTH.iter().all(|space| self.last(*space).seconds >= self.budget)
    }

    /// The seconds that each has.
    pub fn budget(&self) -> f64 {
        self.budget
    }

    /// Where a training stands.
    pub fn last(&self, space: Space) -> Note {
        self.notes(space).last().copied().unwrap_or_default()
    }

    /// All that was noted of a training.
    pub fn notes(&self, space: Space) -> &[Note] {
        match space {
            Space::Latents => &self.log.latents,
            Space::Pixels => &self.log.pixels,
        }
    }

    /// Trains until both had their seconds: always the one that had fewer. Gives the trained networks.
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

    /// One turn of one of them.
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

    /// Goes on from the saved state. The log is written first, so it may be ahead of the state, and is then cut.
    fn resume(&mut self, space: Space, trainee: &mut Trainee) -> Result<()> {
        let path = self.path(space);
        trainee.resume(&path)?;
        let steps = trainee.steps();
        let notes = self.log(space);
        notes.retain(|note| note.steps <= steps);
        let noted = notes.last().map_or(0, |note| note.steps);
        let hint = "hint: progress.json beside it is of another run; begin in another --output";
        ensure!(noted == steps, "{}: step {steps}, of which there is no note\n{hint}", path.display());
        Ok(())
    }

    /// Keeps log and states, in this order.
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
    /// What a picture says of the training of its network.
    pub fn about(&self) -> serde_json::Value {
        json!({ "steps": self.steps, "seconds": self.seconds })
    }
}
