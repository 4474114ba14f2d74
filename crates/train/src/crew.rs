//! The threads that compute the gradient of a batch, each a part of it.

use crate::error::{Error, Result};
use crate::flat::Layout;
use crate::optimizer::{Optimizer, gradient};
use latentrace_nn::hold_threads;
use latentrace_nn::tch::{Tensor, no_grad};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

/// A network of its own, and what it is trained on.
pub(crate) trait Part {
    /// The variables by `part/name`, in the same order for every part.
    fn variables(&self) -> Vec<(String, Tensor)>;
    /// The mean loss of this part of a step's batch.
    fn loss(&mut self, step: u64) -> Result<Tensor>;
}

/// Makes a part in the thread that computes it, because networks stay in their thread.
pub(crate) type Start<'a> = Box<dyn FnOnce() -> Result<Box<dyn Part + 'a>> + Send + 'a>;

/// The asking for steps, and the loss and flat gradient of each.
type Member = (Sender<u64>, Receiver<Result<(f64, Tensor)>>);

/// The threads. The variables of all are the same numbers: views of the optimizer's weights.
pub(crate) struct Crew {
    members: Vec<Member>,
}

impl Crew {
    /// Starts a thread for each part. They end when the crew is dropped.
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

    /// The loss of a step, and its flat gradient: the means of those of the parts, summed in their order.
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
        let parts = self.members.len() as f64;
        Ok((loss / parts, gradient / parts))
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
    let made = start().map(|part| {
        let mut variables = part.variables();
        layout.place(&mut variables, weights);
        (part, variables)
    });
    let (mut part, variables) = match made {
        Ok(made) => made,
        Err(error) => {
            answers.send(Err(error)).ok();
            return;
        }
    };
    while let Ok(step) = asked.recv() {
        let answer = part.loss(step).map(|loss| {
            let gradient = gradient(&loss, &variables, layout);
            (loss.double_value(&[]), gradient)
        });
        if answers.send(answer).is_err() {
            return;
        }
    }
}
