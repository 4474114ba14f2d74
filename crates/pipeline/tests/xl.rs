//! Models of SDXL, which can be opened and not yet run.

use latentrace_checkpoints::{Checkpoint, Choice};
use latentrace_pipeline::{Model, Options, TextShape, outline};
use std::path::Path;

#[test]
fn a_model_of_sdxl_cannot_be_run_yet() {
    for name in ["sdxl", "sdxl-turbo", "sdxl-refiner"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks").join(name);
        let checkpoint = Checkpoint::open(&folder, &Choice::default()).unwrap();
        let listed = outline(&checkpoint, Options::default(), None, TextShape::default()).map(drop).unwrap_err();
        let loaded = Model::load(checkpoint, Options::default()).map(drop).unwrap_err();
        for error in [listed.to_string(), loaded.to_string()] {
            let expected = format!("{}: SDXL cannot be run yet: ", folder.display());
            assert!(error.starts_with(&expected) && error.contains("\nhint: "), "{error}");
        }
    }
}
