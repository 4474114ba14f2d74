//! Notes on settings that can be run, and may not do what was meant.

use latentrace_pipeline::checkpoints::Checkpoint;
use latentrace_pipeline::nn::Branch;
use latentrace_pipeline::nn::tch::Kind;
use latentrace_pipeline::schedulers::Reading;
use latentrace_pipeline::{EmptyNegative, Guidance, Model, Negative, Prepared, Request, Size};

/// The note on a negative prompt that changes nothing.
pub const NEGATIVE_UNUSED: &str =
    "the negative prompt changes nothing at a guidance of 1, where the output is that for the prompt alone";

/// The steps that SDXL-Turbo was distilled to (Sauer et al. 2023, Adversarial Diffusion Distillation).
const STEPS_OF_TURBO: usize = 4;

/// The notes on a run.
pub(crate) fn of(model: &Model, prepared: &Prepared) -> Vec<String> {
    let Prepared { request, .. } = prepared;
    let checkpoint = &model.checkpoint;
    let notes = [
        negative_prompt(request),
        second_negative(prepared),
        beside_features(request),
        of_distilled(checkpoint, request),
        steps_of_distilled(checkpoint, request),
        small(checkpoint, request.size),
        negative_micro_conditions(model, prepared),
        vae(model),
    ];
    notes.into_iter().flatten().collect()
}

/// A negative prompt without effect.
fn negative_prompt(request: &Request) -> Option<String> {
    let is_given = !request.negative.is_empty() || request.negative_2.as_ref().is_some_and(|text| !text.is_empty());
    (is_given && request.guidance == Guidance::from(1.0)).then(|| NEGATIVE_UNUSED.into())
}

/// A negative prompt of the second encoder that diffusers does not look at.
fn second_negative(Prepared { request, negative, .. }: &Prepared) -> Option<String> {
    let is_given = request.negative_2.as_ref().is_some_and(|text| !text.is_empty());
    (is_given && *negative == Negative::Zeros).then(|| {
        "negative_2 alone changes nothing: diffusers takes zeros where there is no first negative prompt\nhint: give negative too, or empty_negative text, or the exact reading".into()
    })
}

/// Second texts beside features, which stand in the place of all texts.
fn beside_features(request: &Request) -> Option<String> {
    let given = [
        ("prompt_2", request.prompt_2.is_some()),
        ("negative_2", request.negative_2.is_some()),
        ("empty_negative", request.empty_negative != EmptyNegative::Model),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
    (request.features.is_some() && !given.is_empty()).then(|| {
        format!("beside features, which stand in the place of all texts, {} changes nothing", given.join(" and "))
    })
}

/// A guidance weight that a distilled model was not trained for.
fn of_distilled(checkpoint: &Checkpoint, request: &Request) -> Option<String> {
    let Guidance::Constant(weight) = request.guidance else { return None };
    let place = checkpoint.place().display();
    match weight {
        _ if !checkpoint.is_distilled() => None,
        0.0 => Some(format!(
            "{place}: a guidance of 0 is the output for the negative prompt alone\nhint: the guidance_scale=0.0 of diffusers, no guidance, is a guidance of 1 here, the default of this model"
        )),
        weight if weight > 1.0 => Some(format!(
            "{place}: a distilled model, which runs without guidance (a weight of 1): at {weight} it is outside what it was trained for, and takes twice the time"
        )),
        _ => None,
    }
}

/// More steps than a distilled model was trained for.
fn steps_of_distilled(checkpoint: &Checkpoint, request: &Request) -> Option<String> {
    (checkpoint.is_distilled() && request.steps > STEPS_OF_TURBO).then(|| {
        let (place, steps) = (checkpoint.place().display(), request.steps);
        format!("{place}: a distilled model, which was trained for 1 to {STEPS_OF_TURBO} steps, and makes {steps}")
    })
}

/// A picture with much fewer pixels than a model of SDXL's kind was trained for. Its training pictures had all shapes, and about one
/// number of pixels.
fn small(checkpoint: &Checkpoint, size: Size) -> Option<String> {
    let trained = Size::of(checkpoint);
    let pixels = |size: Size| size.height * size.width;
    let is_small = 4 * pixels(size) < 3 * pixels(trained);
    (checkpoint.unet.config.added.is_some() && is_small).then(|| {
        format!(
            "{}: trained for pictures of {} by {} pixels: of {} by {} it makes poor ones",
            checkpoint.place().display(),
            trained.height,
            trained.width,
            size.height,
            size.width
        )
    })
}

/// Sizes, crops or scores for the negative prompt that have no effect.
fn negative_micro_conditions(model: &Model, prepared: &Prepared) -> Option<String> {
    let Prepared { request, start, negative, .. } = prepared;
    let micro = &request.micro;
    let is_given = micro.negative_original_size.is_some()
        || micro.negative_crop.is_some()
        || micro.negative_target_size.is_some()
        || micro.negative_aesthetic_score.is_some();
    if !is_given {
        return None;
    }
    if *negative == Negative::Absent {
        return Some(
            "what the UNet is told for the negative prompt changes nothing at a guidance of 1, where it is not called for it".into(),
        );
    }
    let told = prepared.ids_of(Branch::Unconditional)?;
    let [_, asked] = micro.ids(model.checkpoint.ids()?, request.size, start.is_from_picture(), Reading::Exact);
    // In 16 bits the numbers are also rounded, which is no other choice.
    let is_same = told.iter().zip(&asked).all(|(told, asked)| (told - asked).abs() <= 0.01 * asked.abs());
    (!is_same).then(|| {
        let listed = |ids: &[f64]| ids.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "with the negative prompt the UNet is told {}, as by diffusers, and not {}\nhint: the exact reading uses all that is given",
            listed(told),
            listed(&asked)
        )
    })
}

/// A VAE in a number format that its config says is too small.
fn vae(model: &Model) -> Option<String> {
    let config = &model.checkpoint.vae.config;
    let is_too_small = model.vae.kind() == Kind::Half && config.force_upcast;
    (model.checkpoint.unet.config.added.is_some() && is_too_small).then(|| {
        "the VAE runs in f16, which is too small for its numbers (force_upcast): the picture may not be finite\nhint: without vae_dtype it runs in f32".into()
    })
}
