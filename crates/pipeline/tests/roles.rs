//! Every tap of a model has the role that its name says, and each of the sampler's values has its own role.

use latentrace_pipeline::nn::{Attends, ModuleValue, Part, Role, SamplerValue, Tap};
use latentrace_pipeline::{Checkpoint, Choice, Options, SamplerTaps, TextShape, outline};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The taps of a checkpoint.
fn taps(folder: &str) -> Vec<Tap> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(folder);
    outline(&Checkpoint::open(&folder, &Choice::default()).unwrap(), Options::default(), None, TextShape::default())
        .unwrap()
        .into_iter()
        .map(|outlined| outlined.tap)
        .collect()
}

const MODELS: [&str; 3] = ["models/shapes", "golden/networks/sd1", "golden/networks/sd2"];

#[test]
fn the_role_of_every_tap_follows_from_its_name() {
    for model in MODELS {
        for tap in taps(model) {
            assert_eq!(tap.role(), Role::of_name(tap.name()), "{model}: {}", tap.name());
            assert_eq!(tap.role().to_string().parse(), Ok(tap.role()));
            assert_eq!(tap.role().part().is_none(), tap.name().starts_with("sampler."), "{}", tap.name());
        }
    }
}

#[test]
fn each_value_of_the_sampler_passes_one_tap_with_its_own_name() {
    let made = SamplerTaps::new();
    assert_eq!(made.all().map(|tap| tap.role()), SamplerValue::ALL.map(Role::Sampler), "in the order of a call");
    for model in MODELS {
        let taps = taps(model);
        for value in SamplerValue::ALL {
            let of: Vec<&str> = taps.iter().filter(|tap| tap.role() == Role::Sampler(value)).map(Tap::name).collect();
            // None of these is an inpainting model, which alone takes the picture without its masked part.
            let expected = [value.name()].into_iter().filter(|_| value != SamplerValue::Masked);
            assert_eq!(of, expected.collect::<Vec<_>>(), "{model}");
        }
    }
}

/// How many taps of the UNet have each role, counted from the configuration: a resnet is one residual module, a
/// transformer five (itself, its block, two attentions, a feed-forward), and the middle block one.
#[test]
fn the_roles_of_a_unet_are_counted_from_its_configuration() {
    for model in MODELS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(model);
        let config = std::fs::read_to_string(folder.join("unet/config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let layers = config["layers_per_block"].as_u64().unwrap() as usize;
        let blocks =
            |key: &str| config[key].as_array().unwrap().iter().map(|block| block.as_str().unwrap()).collect::<Vec<_>>();
        let (down, up) = (blocks("down_block_types"), blocks("up_block_types"));
        let attending = |blocks: &[&str]| blocks.iter().filter(|block| block.starts_with("CrossAttn")).count();
        let resnets = down.len() * layers + 2 + up.len() * (layers + 1);
        let transformers = attending(&down) * layers + 1 + attending(&up) * (layers + 1);
        let mut found: BTreeMap<ModuleValue, BTreeSet<String>> = BTreeMap::new();
        for tap in taps(model).iter().filter(|tap| tap.role().part() == Some(Part::Unet)) {
            found.entry(tap.role().module().unwrap()).or_default().insert(tap.name().to_string());
        }
        let count = |value| found.get(&value).map_or(0, BTreeSet::len);
        assert_eq!(count(ModuleValue::Residual), resnets + 5 * transformers + 1, "{model}");
        for value in [ModuleValue::Query, ModuleValue::Key, ModuleValue::Value] {
            assert_eq!(count(value), 2 * transformers, "{model}: {value:?}");
        }
        for attends in [Attends::Itself, Attends::Text] {
            assert_eq!(count(ModuleValue::Scores(attends)), transformers, "{model}");
            assert_eq!(count(ModuleValue::Probs(attends)), transformers, "{model}");
        }
    }
}
