//! The network's two outputs, and what returns them: the UNet, or a record.

use crate::condition::Conditions;
use crate::counts;
use crate::error::Result;
use crate::sharing::Batch;
use crate::tripwire::hint;
use latentrace_checkpoints::Scale;
use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_nn::{Branch, Pass, Rows, SharedScale};
use latentrace_schedulers::Level;
use latentrace_unet::Unet;

/// The network's outputs for one sample, `[1, 4, height, width]` each, in f32.
#[derive(Debug)]
pub enum Outputs {
    /// The outputs for both texts.
    Both {
        /// Without the prompt.
        unconditional: Tensor,
        /// With the prompt.
        conditional: Tensor,
    },
    /// The output with the prompt. A guidance weight of 1 needs no other.
    Conditional(Tensor),
    /// The output without the prompt. A guidance weight of 0 needs no other.
    Unconditional(Tensor),
}

impl Outputs {
    /// The guided output, with which the sampler continues: `u + w (c - u)` for every real `w` (see
    /// [`Guidance`](crate::Guidance)).
    pub fn guide(&self, weight: f64) -> Tensor {
        match self {
            Outputs::Both { unconditional, conditional } => unconditional + (conditional - unconditional) * weight,
            Outputs::Conditional(output) | Outputs::Unconditional(output) => output.shallow_clone(),
        }
    }

    /// The one or two tensors.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.by_branch().map(|(_, output)| output)
    }

    /// The one or two tensors, each with its branch.
    pub(crate) fn by_branch(&self) -> impl Iterator<Item = (Branch, &Tensor)> {
        let (unconditional, conditional) = match self {
            Outputs::Both { unconditional, conditional } => (Some(unconditional), Some(conditional)),
            Outputs::Conditional(output) => (None, Some(output)),
            Outputs::Unconditional(output) => (Some(output), None),
        };
        let unconditional = unconditional.map(|output| (Branch::Unconditional, output));
        unconditional.into_iter().chain(conditional.map(|output| (Branch::Conditional, output)))
    }

    /// The outputs on another device.
    pub fn to_device(self, device: Device) -> Outputs {
        self.map(&mut |_, tensor| tensor.to_device(device))
    }

    /// The outputs, each mapped by a function of its branch.
    pub(crate) fn map(self, tap: &mut dyn FnMut(Branch, Tensor) -> Tensor) -> Outputs {
        match self {
            Outputs::Both { unconditional, conditional } => Outputs::Both {
                unconditional: tap(Branch::Unconditional, unconditional),
                conditional: tap(Branch::Conditional, conditional),
            },
            Outputs::Conditional(output) => Outputs::Conditional(tap(Branch::Conditional, output)),
            Outputs::Unconditional(output) => Outputs::Unconditional(tap(Branch::Unconditional, output)),
        }
    }

    fn shallow_clone(&self) -> Outputs {
        match self {
            Outputs::Both { unconditional, conditional } => {
                Outputs::Both { unconditional: unconditional.shallow_clone(), conditional: conditional.shallow_clone() }
            }
            Outputs::Conditional(output) => Outputs::Conditional(output.shallow_clone()),
            Outputs::Unconditional(output) => Outputs::Unconditional(output.shallow_clone()),
        }
    }
}

/// The network that a plan calls.
pub(crate) trait Network {
    /// The outputs of every image for the input `[images, 4, height, width]` of a call. Empty if there are no more
    /// outputs.
    fn outputs(&mut self, pass: &mut Pass, call: usize, input: &Tensor, level: Level) -> Result<Vec<Outputs>>;

    /// A hint for the error of an output that is not finite.
    fn hint(&self) -> &'static str;
}

/// The UNet with the changes of it whose scale depends on the noise level.
#[derive(Clone, Copy)]
pub(crate) struct Denoiser<'a> {
    pub(crate) unet: &'a Unet,
    pub(crate) varying: &'a [(SharedScale, Scale)],
}

impl Denoiser<'_> {
    /// One call on `[rows, 4, height, width]` and the conditions of as many rows. The UNet runs in its own number format,
    /// and the result is f32.
    fn call(self, pass: &mut Pass, input: &Tensor, level: Level, conditions: &Conditions) -> Tensor {
        self.varying.iter().for_each(|(shared, scale)| shared.set(scale.at(level.sigma)));
        let _scaled = Scaled(self.varying);
        let (kind, device) = (self.unet.kind(), self.unet.device());
        let times = Tensor::full([1], level.t, (Kind::Float, device)); // no copy, for which the host would wait
        self.unet.forward(pass, &input.to_kind(kind), &times, conditions.as_condition()).to_kind(Kind::Float)
    }
}

/// Scales that are set for a call. Dropped, also where the call fails, they are 0: the UNet by itself is without them.
struct Scaled<'a>(&'a [(SharedScale, Scale)]);

impl Drop for Scaled<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|(shared, _)| shared.set(0.0));
    }
}

/// The UNet for one image: it computes both outputs in one batch, or the one for the prompt, and all its tensors pass their taps.
pub(crate) struct Guided<'a> {
    pub(crate) denoiser: Denoiser<'a>,
    /// Those of the negative prompt and of the prompt, or of the prompt alone.
    pub(crate) conditions: Conditions,
}

impl Network for Guided<'_> {
    fn outputs(&mut self, pass: &mut Pass, _: usize, input: &Tensor, level: Level) -> Result<Vec<Outputs>> {
        let is_guided = self.conditions.rows() == 2;
        let (input, rows) = match is_guided {
            true => (Tensor::cat(&[input, input], 0), Rows::Branches),
            false => (input.shallow_clone(), Rows::Branch(Branch::Conditional)),
        };
        pass.set_rows(rows);
        let outputs = self.denoiser.call(pass, &input, level, &self.conditions);
        pass.set_rows(Rows::Images);
        counts::add_many(|counts| &mut counts.rows, self.conditions.rows() as usize);
        Ok(vec![match is_guided {
            true => Outputs::Both { unconditional: outputs.narrow(0, 0, 1), conditional: outputs.narrow(0, 1, 1) },
            false => Outputs::Conditional(outputs),
        }])
    }

    fn hint(&self) -> &'static str {
        hint(self.denoiser.unet.kind())
    }
}

/// The UNet for several images. Rows that are equal are computed once. No tensor inside the UNet passes a tap, because
/// a row may belong to several images.
pub(crate) struct Shared<'a> {
    pub(crate) denoiser: Denoiser<'a>,
    /// Every different condition, a row each.
    pub(crate) conditions: Conditions,
    pub(crate) batch: Batch<'a>,
}

impl Network for Shared<'_> {
    fn outputs(&mut self, pass: &mut Pass, call: usize, input: &Tensor, level: Level) -> Result<Vec<Outputs>> {
        let Shared { denoiser, conditions, batch } = self;
        let again = pass.moment().again;
        batch.outputs(call, again, |rows| {
            let images: Vec<i64> = rows.iter().map(|row| row.image as i64).collect();
            let samples = input.index_select(0, &Tensor::from_slice(&images).to_device(input.device()));
            let picked = conditions.picked(&rows.iter().map(|row| row.condition as i64).collect::<Vec<_>>());
            match again {
                true => denoiser.call(pass, &samples, level, &picked),
                false => denoiser.call(&mut Pass::silent(), &samples, level, &picked),
            }
        })
    }

    fn hint(&self) -> &'static str {
        hint(self.denoiser.unet.kind())
    }
}

/// Known outputs of one image, followed by those of another network.
pub(crate) struct Past<'a> {
    pub(crate) outputs: &'a [Outputs],
    pub(crate) then: Option<&'a mut dyn Network>,
}

impl Network for Past<'_> {
    fn outputs(&mut self, pass: &mut Pass, call: usize, input: &Tensor, level: Level) -> Result<Vec<Outputs>> {
        match (self.outputs.get(call), &mut self.then) {
            (Some(known), _) => Ok(vec![known.shallow_clone()]),
            (None, Some(network)) => network.outputs(pass, call, input, level),
            (None, None) => Ok(Vec::new()),
        }
    }

    fn hint(&self) -> &'static str {
        self.then.as_ref().map_or("the record has numbers that are not finite", |network| network.hint())
    }
}
