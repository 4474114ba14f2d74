//! Checks that a training gives the same bytes however often it is stopped, and that no state is taken for another's.

use latentrace_nn::tch::{Device, Tensor};
use latentrace_train::{Error, Pace, Phase, Recipe, Result, Training, TrainingProgress, Watcher};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ends the training at some steps, once each, before their state is saved.
#[derive(Default)]
struct Stops {
    at: Vec<(Phase, u64)>,
    seen: Vec<(Phase, u64)>,
    checkpoints: usize,
}

impl Watcher for Stops {
    fn loss(&mut self, progress: &TrainingProgress) -> Result<()> {
        let here = (progress.phase, progress.step);
        self.seen.push(here);
        match self.at.iter().position(|stop| *stop == here) {
            Some(place) => {
                self.at.remove(place);
                Err(Error::Thread) // any error
            }
            None => Ok(()),
        }
    }

    fn checkpoint(&mut self, _: u64, folder: &Path) -> Result<()> {
        assert!(folder.join("unet/diffusion_pytorch_model.safetensors").is_file());
        self.checkpoints += 1;
        Ok(())
    }
}

fn tiny() -> Recipe {
    Recipe::read(Path::new("tests/tiny.toml")).unwrap()
}

/// Trains in a folder, again after every stop. Returns what was seen, and every file of the checkpoint.
fn train(recipe: &Recipe, folder: &Path, at: &[(Phase, u64)]) -> (Stops, BTreeMap<PathBuf, Vec<u8>>) {
    let pace = Pace { report: 1, save: Duration::ZERO, checkpoint: 5 };
    let (state, output) = (folder.join("state"), folder.join("model"));
    let training = Training { recipe, start: None, folder: &state, device: Device::Cpu, pace };
    let mut stops = Stops { at: at.to_vec(), ..Stops::default() };
    for _ in 0..at.len() {
        assert!(training.run(&output, &mut stops).is_err());
        assert!(!output.exists());
    }
    training.run(&output, &mut stops).unwrap();
    (stops, files(&output))
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.strip_prefix(folder.parent().unwrap()).unwrap().into(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn three_stops_change_no_byte_and_a_longer_training_goes_on() {
    let (straight, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recipe = tiny();
    let (seen, whole) = train(&recipe, straight.path(), &[]);
    assert_eq!((seen.seen.len(), seen.checkpoints), (9 + 12 + 5, 2));
    let stops = [(Phase::Autoencoder, 4), (Phase::Denoiser, 1), (Phase::Denoiser, 11), (Phase::Decoder, 2)];
    let (seen, resumed) = train(&recipe, stopped.path(), &stops);
    // A step whose state was not saved is made again.
    assert_eq!(seen.seen.len(), 9 + 12 + 5 + 4);
    assert_eq!(seen.seen.iter().filter(|step| **step == (Phase::Denoiser, 11)).count(), 2);
    assert!(whole.len() > 10 && whole == resumed, "the same files");

    // More steps: from where the learning rate began to fall, in step 8.
    let mut longer = recipe.clone();
    longer.denoiser.training.steps = 16;
    let fresh = tempfile::tempdir().unwrap();
    let (_, expected) = train(&longer, fresh.path(), &[]);
    let (seen, found) = train(&longer, stopped.path(), &[]);
    assert_eq!(seen.seen.len(), 16 - 8);
    assert!(expected == found && expected != whole);
}

#[test]
fn a_state_of_another_recipe_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny();
    let stop = [(Phase::Denoiser, 3)];
    let pace = Pace { report: 1, save: Duration::ZERO, checkpoint: 5 };
    let (state, output) = (folder.path().join("state"), folder.path().join("model"));
    let run = |recipe: &Recipe, at: &[(Phase, u64)]| {
        let training = Training { recipe, start: None, folder: &state, device: Device::Cpu, pace };
        training.run(&output, &mut Stops { at: at.to_vec(), ..Stops::default() })
    };
    assert!(run(&recipe, &stop).is_err());
    let before = files(&state);
    let mut other = recipe.clone();
    other.denoiser.training.learning_rate = 2e-3;
    let refused = run(&other, &[]).unwrap_err().to_string();
    assert!(refused.contains("denoiser.safetensors: the state of another recipe"), "{refused}");
    assert!(refused.contains("denoiser.training.learning_rate is 0.001 there and 0.002 here\nhint: "), "{refused}");
    assert!(before == files(&state), "nothing was changed");

    // Half a file, as from another program: named, and not taken for an empty one.
    let path = state.join("denoiser.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let refused = run(&recipe, &[]).unwrap_err().to_string();
    assert!(refused.contains("denoiser.safetensors: ") && refused.contains("hint: remove it"), "{refused}");
    std::fs::write(&path, &bytes).unwrap();
    run(&recipe, &[]).unwrap();
}

/// With a learning rate of nearly 0, the weights that it begins with are those that it ends with.
#[test]
fn a_training_that_begins_with_a_checkpoint_has_its_vae_and_goes_on_from_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let whole = tiny();
    train(&whole, folder.path(), &[]);
    let start = folder.path().join("model");
    let mut recipe = Recipe { start: Some("named by the program".into()), decoder: None, ..whole.clone() };
    recipe.denoiser.training.learning_rate = 1e-30;
    let (state, output) = (folder.path().join("on/state"), folder.path().join("on/model"));
    let pace = Pace { report: 1, save: Duration::ZERO, checkpoint: 5 };
    let run = |recipe: &Recipe| {
        let mut seen = Stops::default();
        let training = Training { recipe, start: Some(&start), folder: &state, device: Device::Cpu, pace };
        training.run(&output, &mut seen).map(|()| seen)
    };
    let seen = run(&recipe).unwrap();
    assert!(seen.seen.iter().all(|(phase, _)| *phase == Phase::Denoiser), "{:?}", seen.seen);
    for file in ["vae/diffusion_pytorch_model", "unet/diffusion_pytorch_model", "text_encoder/model"] {
        let [given, made] = [&start, &output].map(|folder| {
            let read = Tensor::read_safetensors(folder.join(file).with_extension("safetensors")).unwrap();
            read.into_iter().collect::<BTreeMap<_, _>>()
        });
        assert!(given.len() > 5 && given.len() == made.len());
        for ((name, given), (same, made)) in given.iter().zip(&made) {
            assert!(name == same && given.equal(made), "{file}: {name}");
        }
    }

    // Networks of other sizes cannot begin with it.
    let mut wider = recipe.clone();
    wider.denoiser.channels = vec![16, 32];
    std::fs::remove_dir_all(&state).unwrap();
    let refused = run(&wider).err().unwrap().to_string();
    assert!(refused.contains("has no weight unet/") && refused.contains("\nhint: "), "{refused}");
}
