//! AdamW and a moving average of the weights, for all variables at once.

use crate::error::{Result, file};
use crate::recipe::PhaseRecipe;

use latentrace_nn::tch::{Kind, Tensor, no_grad};
use latentrace_nn::{Variables, write_safetensors};
use safetensors::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// AdamW (Loshchilov and Hutter 2019) with gradient clipping and an exponential moving average. Every variable is a
/// view of one flat tensor, so a step is a dozen operations for any number of variables.
pub(crate) struct Optimizer {
    variables: Vec<Variable>,
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    average: Tensor,
    /// Steps done.
    pub(crate) step: u64,
}

struct Variable {
    name: String,
    tensor: Tensor,
    start: i64,
}

const BETAS: (f64, f64) = (0.9, 0.99);
const DECAY: f64 = 0.01;
const EPS: f64 = 1e-8;
const CLIP: f64 = 1.0;
/// In numbers: every variable begins at a multiple of 64 bytes, which suits libtorch's kernels.
const ALIGNMENT: i64 = 16;

impl Optimizer {
    pub(crate) fn new(parts: &[(&str, &Variables)]) -> Optimizer {
        let mut variables = Vec::new();
        let mut start = 0;
        for (part, named) in parts {
            for (name, tensor) in named.named() {
                let size = tensor.numel() as i64;
                variables.push(Variable { name: format!("{part}/{name}"), tensor, start });
                start += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            }
        }
        let device = variables[0].tensor.device();
        let mut optimizer = Optimizer {
            weights: Tensor::zeros([start], (Kind::Float, device)),
            first: Tensor::zeros([start], (Kind::Float, device)),
            second: Tensor::zeros([start], (Kind::Float, device)),
            average: Tensor::zeros([start], (Kind::Float, device)),
            variables,
            step: 0,
        };
        no_grad(|| {
            for variable in &mut optimizer.variables {
                let mut place = view(&optimizer.weights, variable);
                place.copy_(&variable.tensor);
                variable.tensor.set_data(&place);
            }
            optimizer.average.copy_(&optimizer.weights);
        });
        optimizer
    }

    /// Makes one step that reduces `loss`, with the learning rate and averaging of `phase`.
    pub(crate) fn descend(&mut self, loss: &Tensor, phase: &PhaseRecipe) {
        let inputs: Vec<&Tensor> = self.variables.iter().map(|variable| &variable.tensor).collect();
        let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
        no_grad(|| {
            let gradient = self.flat(&gradients);
            let norm = gradient.norm();
            let gradient = gradient * (norm.clamp_min(CLIP).reciprocal() * CLIP);
            let rate = phase.learning_rate_at(self.step);
            self.step += 1;
            let corrections = [BETAS.0, BETAS.1].map(|beta| 1.0 - beta.powi(self.step.min(1 << 20) as i32));
            let _ = self.first.lerp_(&gradient, 1.0 - BETAS.0);
            let _ = self.second.lerp_(&gradient.square(), 1.0 - BETAS.1);
            let scale = (&self.second / corrections[1]).sqrt_() + EPS;
            self.weights *= 1.0 - rate * DECAY;
            self.weights -= &self.first / scale * (rate / corrections[0]);
            let _ = self.average.lerp_(&self.weights, 1.0 - phase.average_at(self.step));
        });
    }

    /// The moving average of each variable, by `part/name`.
    pub(crate) fn averages(&self) -> BTreeMap<String, Tensor> {
        let view = |variable: &Variable| (variable.name.clone(), view(&self.average, variable));
        self.variables.iter().map(view).collect()
    }

    /// Replaces the weights with their moving average.
    pub(crate) fn settle(&mut self) {
        no_grad(|| self.weights.copy_(&self.average));
    }

    /// Saves the whole state. The file appears whole or not at all.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let parts =
            [("weights", &self.weights), ("first", &self.first), ("second", &self.second), ("average", &self.average)];
        let named = parts.map(|(name, tensor)| (name.to_string(), tensor.shallow_clone()));
        let about = HashMap::from([("step".to_string(), self.step.to_string())]);
        Ok(write_safetensors(path, &named, about)?)
    }

    /// Loads a saved state, if there is one.
    pub(crate) fn resume(&mut self, path: &Path) -> Result<()> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(file(path, error)),
        };
        let (_, about) = SafeTensors::read_metadata(&bytes).map_err(|error| file(path, error))?;
        let step = about.metadata().as_ref().and_then(|about| about.get("step")?.parse().ok());
        let saved = SafeTensors::deserialize(&bytes).map_err(|error| file(path, error))?;
        let targets = [
            ("weights", &mut self.weights),
            ("first", &mut self.first),
            ("second", &mut self.second),
            ("average", &mut self.average),
        ];
        for (name, target) in targets {
            let view = saved.tensor(name).map_err(|error| file(path, error))?;
            let size = target.size();
            if view.shape() != [size[0] as usize] {
                let cause = format!(
                    "{name}: expected {size:?} numbers, found {:?}\nhint: the recipe has changed; train into another folder",
                    view.shape()
                );
                return Err(file(path, cause));
            }
            no_grad(|| target.copy_(&Tensor::from_data_size(view.data(), &size, Kind::Float)));
        }
        self.step = step.ok_or_else(|| file(path, "no step number"))?;
        Ok(())
    }

    /// All gradients in the order and alignment of the weights.
    fn flat(&self, gradients: &[Tensor]) -> Tensor {
        let flat = self.weights.zeros_like();
        for (variable, gradient) in self.variables.iter().zip(gradients) {
            view(&flat, variable).copy_(gradient);
        }
        flat
    }
}

fn view(flat: &Tensor, variable: &Variable) -> Tensor {
    flat.narrow(0, variable.start, variable.tensor.numel() as i64).view(variable.tensor.size().as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentrace_nn::tch::Device;
    use latentrace_nn::{Init, Weights};

    fn bowl() -> (Optimizer, Tensor) {
        let (weights, variables) = Weights::trainable("test", 3, Device::Cpu);
        let x = weights.tensor("x", &[3], Init::Normal(1.0)).unwrap();
        (Optimizer::new(&[("test", &variables)]), x)
    }

    fn phase() -> PhaseRecipe {
        PhaseRecipe { steps: 400, batch: 1, learning_rate: 0.05, warm_up: 1, average: 0.9 }
    }

    fn loss(x: &Tensor) -> Tensor {
        (x - Tensor::from_slice(&[1.0f32, -2.0, 0.5])).square().sum(Kind::Float)
    }

    #[test]
    fn finds_the_bottom_of_a_bowl() {
        let (mut optimizer, x) = bowl();
        for _ in 0..400 {
            optimizer.descend(&loss(&x), &phase());
        }
        // In each step, weight decay reduces each number by about rate * DECAY of itself; the step itself is about
        // rate.
        assert!(loss(&x).double_value(&[]) < 1e-3, "{x}");
        let average = &optimizer.averages()["test/x"];
        assert!((average - &x).abs().max().double_value(&[]) < 1e-2);
    }

    #[test]
    fn a_resumed_run_is_the_same_run() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let (mut whole, x) = bowl();
        for step in 0..20 {
            if step == 10 {
                whole.save(&path).unwrap();
            }
            whole.descend(&loss(&x), &phase());
        }
        let (mut resumed, y) = bowl();
        resumed.resume(&path).unwrap();
        assert_eq!(resumed.step, 10);
        for _ in 10..20 {
            resumed.descend(&loss(&y), &phase());
        }
        assert!(x.equal(&y) && resumed.averages()["test/x"].equal(&whole.averages()["test/x"]));
    }
}
