//! The threads that compute the gradient of a batch, each a share of it.

use crate::error::{Error, Result};
use crate::flat::Layout;
use crate::optimizer::{Optimizer, gradient};
use latentrace_nn::tch::{Device, Tensor, no_grad};
use latentrace_nn::{Replay, hold_threads};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// The parts of a batch that one thread computes.
pub(crate) type Parts = Range<usize>;

/// The shares of a recipe's `threads` parts: one each on the CPU. A GPU computes all at once, which takes it as long as one.
pub(crate) fn shares(threads: usize, device: Device) -> Vec<Parts> {
    match device {
        Device::Cpu => (0..threads).map(|part| part..part + 1).collect(),
        _ => std::iter::once(0..threads).collect(),
    }
}

/// A network of its own, and what it is trained on.
pub(crate) trait Share {
    /// The variables by `part/name`, in the same order for every share.
    fn variables(&self) -> Vec<(String, Tensor)>;
    /// The tensors on which the loss of this share of a step's batch depends, on the CPU.
    fn batch(&self, step: u64) -> Result<Vec<Tensor>>;
    /// The mean loss of such a share, whose tensors are where the variables are.
    fn loss(&self, batch: &[Tensor]) -> Tensor;
}

/// Makes a share in the thread that computes it, because networks stay in their thread.
pub(crate) type Start<'a> = Box<dyn FnOnce() -> Result<Box<dyn Share + 'a>> + Send + 'a>;

/// The asking for steps, and the loss and flat gradient of each.
type Member = (Sender<u64>, Receiver<Result<(f64, Tensor)>>);

/// The threads. The variables of all are the same numbers: views of the optimizer's weights.
pub(crate) struct Crew {
    members: Vec<Member>,
}

impl Crew {
    /// Starts a thread for each share. They end when the crew is dropped.
    pub(crate) fn start<'scope, 'a: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        starts: Vec<Start<'a>>,
        optimizer: &Optimizer,
    ) -> Crew {
        let members = starts.into_iter().map(|start| {
            let (asks, asked) = channel();
            let (answers, answered) = channel();
            let (layout, weights) = (optimizer.layout().clone(), optimizer.weights());
            scope.spawn(move || work(start, &layout, &weights, &asked, &answers));
            (asks, answered)
        });
        Crew { members: members.collect() }
    }

    /// The loss of a step, and its flat gradient: the means of those of the shares, summed in their order.
    pub(crate) fn gradient(&self, step: u64) -> Result<(f64, Tensor)> {
        for (asks, _) in &self.members {
            asks.send(step).map_err(|_| Error::Thread)?;
        }
        let mut sum: Option<(f64, Tensor)> = None;
        for (_, answers) in &self.members {
            let (loss, gradient) = answers.recv().map_err(|_| Error::Thread)??;
            sum = Some(match sum {
                Some((total, mut flat)) => (total + loss, no_grad(|| flat.g_add_(&gradient))),
                None => (loss, gradient),
            });
        }
        let (loss, gradient) = sum.ok_or(Error::Thread)?;
        let shares = self.members.len() as f64;
        Ok((loss / shares, gradient / shares))
    }
}

/// Computes the steps that are asked for. An error is the answer to the next of them.
fn work(
    start: Start,
    layout: &Layout,
    weights: &Tensor,
    asked: &Receiver<u64>,
    answers: &Sender<Result<(f64, Tensor)>>,
) {
    let _one = hold_threads(1);
    let made = start().map(|share| Worker::new(share, layout, weights));
    let mut worker = match made {
        Ok(worker) => worker,
        Err(error) => {
            answers.send(Err(error)).ok();
            return;
        }
    };
    while let Ok(step) = asked.recv() {
        if answers.send(worker.step(step)).is_err() {
            return;
        }
    }
}

/// A share with what its thread keeps from step to step.
struct Worker<'a> {
    share: Box<dyn Share + 'a>,
    variables: Vec<(String, Tensor)>,
    layout: &'a Layout,
    device: Device,
    replay: Replay,
    /// The batch of the step that is expected next.
    next: Option<(u64, Result<Vec<Tensor>>)>,
}

impl<'a> Worker<'a> {
    fn new(share: Box<dyn Share + 'a>, layout: &'a Layout, weights: &Tensor) -> Worker<'a> {
        let mut variables = share.variables();
        layout.place(&mut variables, weights);
        Worker { share, variables, layout, device: weights.device(), replay: Replay::of_every_format(), next: None }
    }

    /// The loss of a step, and its flat gradient.
    fn step(&mut self, step: u64) -> Result<(f64, Tensor)> {
        let batch = match self.next.take() {
            Some((prepared, batch)) if prepared == step => batch?,
            _ => self.share.batch(step)?,
        };
        let inputs: Vec<Tensor> = batch.iter().map(|tensor| tensor.to_device(self.device)).collect();
        // [1 + length]: one tensor, since that is what can be replayed
        let both = self.replay.run(&inputs.iter().collect::<Vec<_>>(), |inputs| {
            let loss = self.share.loss(inputs);
            let gradient = gradient(&loss, &self.variables, self.layout);
            Tensor::cat(&[loss.detach().view(1), gradient], 0)
        });
        // While a GPU computes. On a CPU it is done already.
        self.next = Some((step + 1, self.share.batch(step + 1)));
        Ok((both.double_value(&[0]), both.narrow(0, 1, self.layout.length())))
    }
}
