//! What decides the outputs of a run's network calls, known before the run. Runs whose calls have equal lineages can share their
//! outputs.

mod name;
mod symbolic;

pub use name::Lineage;

use crate::Prepared;
use latentrace_checkpoints::Scale;
use latentrace_nn::{Branch, SamplerValue};
use symbolic::Symbolic;

/// How images are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Alone: the result does not depend on the other images. Both rows of a call are computed, in one batch of two.
    #[default]
    Alone,
    /// In a batch with others: the result is the same up to rounding, because the batch size changes the order of sums. A row is
    /// computed only if the guidance weight needs it.
    Batched,
}

/// The networks that a run uses, each by a text that is equal only for equal numbers: of weights, number format and device. Empty for
/// runs of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Networks {
    /// The text encoders.
    pub text_encoder: String,
    /// The UNet without the changes in `varying`.
    pub unet: String,
    /// The VAE.
    pub vae: String,
    /// The changes of the UNet whose scale depends on the noise level. At the scale 0 a change is none.
    pub varying: Vec<(String, Scale)>,
}

/// Where in a run a probe changes or sees a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// In a text encoder.
    Texts,
    /// In the VAE.
    Pictures,
    /// In the UNet, at a call.
    Call(usize),
    /// At a value of the sampler, at a call.
    Value(SamplerValue, usize),
}

/// A rule by which a probe changes a tensor, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Act {
    /// The rule, with the content of all that it reads: rules with equal texts change equal tensors alike.
    pub rule: String,
    /// Where.
    pub at: At,
}

/// All that decides a run besides what has been [prepared](Prepared).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setting {
    /// How it is run.
    pub mode: Mode,
    /// Its networks.
    pub networks: Networks,
    /// What changes its tensors, in the order of application.
    pub acts: Vec<Act>,
    /// Where its tensors are recorded. What is seen inside a network has to be computed, whoever else has computed it.
    pub seen: Vec<At>,
    /// The bytes of a row of the network's output.
    pub bytes: usize,
}

/// The lineages of what a run needs of its networks.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// The negative prompt and the prompt, where the text encoders run on them.
    pub(crate) texts: [Option<Lineage>; 2],
    /// What the UNet takes with the negative prompt and with the prompt. Without a negative prompt both are that of the prompt.
    pub(crate) conditions: [Lineage; 2],
    /// Whether a text encoder is seen.
    pub(crate) texts_seen: bool,
    /// How it is run.
    pub mode: Mode,
    /// The network calls.
    pub calls: Vec<Call>,
    /// The bytes of a row of the network's output.
    pub bytes: usize,
}

/// What a run needs of a network call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// The output for the negative prompt. In a batch, a guidance weight of 1 needs none; and a UNet of SDXL's kind needs none at the
    /// constant weight 1.
    pub unconditional: Option<Lineage>,
    /// The output for the prompt. In a batch, a guidance weight of 0 needs none.
    pub conditional: Option<Lineage>,
    /// Whether the UNet is seen at this call, so that the call has to be made.
    pub seen: bool,
}

impl Call {
    /// The rows, without those that are not needed.
    pub fn rows(&self) -> impl Iterator<Item = Lineage> {
        self.unconditional.into_iter().chain(self.conditional)
    }

    /// The rows that another run may have computed.
    pub(crate) fn taken(&self) -> impl Iterator<Item = Lineage> {
        self.rows().filter(|_| !self.seen)
    }

    /// The row of a branch.
    pub(crate) fn row(&self, branch: Branch) -> Option<Lineage> {
        match branch {
            Branch::Unconditional => self.unconditional,
            Branch::Conditional => self.conditional,
        }
    }
}

impl Lines {
    /// The text of a branch, if the text encoders run on it.
    pub(crate) fn text(&self, branch: Branch) -> Option<Lineage> {
        self.texts[branch as usize]
    }

    /// What the UNet takes with the text of a branch.
    pub(crate) fn condition(&self, branch: Branch) -> Lineage {
        self.conditions[branch as usize]
    }

    /// How many rows the network computes for the run by itself.
    pub fn evaluations(&self) -> usize {
        let of_call = |call: &Call| match (self.mode, call.unconditional == call.conditional) {
            (Mode::Batched, true) => 1,
            _ => call.rows().count(),
        };
        self.calls.iter().map(of_call).sum()
    }

    /// The lineages of a run. The plan is executed as the run will execute it, with lineages in the place of tensors.
    pub fn of(prepared: &Prepared, setting: &Setting) -> Lines {
        Symbolic { prepared, setting }.lines()
    }
}
