//! Files that are replaced while a process uses them.

use latentrace_runs::{Cell, Job, Kept, hash, open};
use latentrace_trace::{Layout, Trace};
use std::path::{Path, PathBuf};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden").join(path)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => _ = std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap(),
        }
    }
}

#[test]
fn a_run_whose_checkpoint_was_replaced_is_an_error_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("model");
    copy(&golden("networks/sd1"), &place);
    let lora = folder.path().join("style.safetensors");
    std::fs::copy(golden("lora/kohya.safetensors"), &lora).unwrap();
    let text = format!(r#"{{"prompt": "a cat", "steps": 2, "model": {place:?}, "loras": ["{}:0.5"]}}"#, lora.display());
    let cell: Cell = serde_json::from_str(&text).unwrap();
    let model = open(&cell, &()).unwrap();
    let record = |job: Job, name: &str| job.record(&folder.path().join(name), Layout::WHOLE, &());
    let first = record(Job::new(&model, &cell, &Kept::default()).unwrap(), "first").unwrap();
    let known = hash(&place, &cell.choice()).unwrap();
    assert_eq!(first.description.model.blake3, known);
    // A LoRA and a weight file, each replaced after the run was described and before it is made.
    for (file, other) in [
        (lora.clone(), golden("lora/old.safetensors")),
        (place.join("vae/diffusion_pytorch_model.safetensors"), place.join("unet/diffusion_pytorch_model.safetensors")),
    ] {
        let kept = std::fs::read(&file).unwrap();
        let job = Job::new(&model, &cell, &Kept::default()).unwrap();
        let replaced = folder.path().join("replaced");
        std::fs::copy(&other, &replaced).unwrap();
        std::fs::rename(&replaced, &file).unwrap();
        assert_ne!(hash(&place, &cell.choice()).unwrap(), known, "the hash is of the present files");
        let error = record(job, "second").err().expect("changed files").to_string();
        assert!(error.contains("were changed while they were in use"), "{error}");
        assert!(Trace::open(&folder.path().join("second")).unwrap().end().is_some_and(|end| end.error.is_some()));
        std::fs::remove_dir_all(folder.path().join("second")).unwrap();
        std::fs::write(&replaced, kept).unwrap();
        std::fs::rename(&replaced, &file).unwrap();
        assert_eq!(hash(&place, &cell.choice()).unwrap(), known, "the same content has the same hash again");
    }
    record(Job::new(&model, &cell, &Kept::default()).unwrap(), "third").unwrap();
}
