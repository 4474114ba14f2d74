//! Several images of one plan, run in one batch.

use crate::condition::{Conditions, EncodedText};
use crate::error::{Error, Result};
use crate::network::Shared;
use crate::sharing::Batch;
use crate::{Common, Lineage, Lines, Mode, Model, Named, Negative, Outcome, Prepared, Request, Setting, Start, Work};
use latentrace_nn::tch::no_grad;
use latentrace_nn::{Branch, Pass};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// The result of images that were run in one batch.
pub struct Together {
    /// The outcome of each request, in order.
    pub outcomes: Vec<Outcome>,
    /// How many rows the network computed. A row is one sample with one text. [`evaluations`](crate::evaluations)
    /// returns the number before a run.
    pub evaluations: usize,
    /// The work for each image. A row that belongs to several is the work of the first of them.
    pub work: Vec<Work>,
}

impl Model {
    /// Runs images of one plan and size, and of texts of one length, in one batch. What images share is computed once: texts, pictures to start
    /// from, and the rows of a call that have the same sample and text. At a guidance weight of 0 or 1 only one of the
    /// two outputs is computed. The pictures are those of [`Model::run`], up to rounding: the batch size changes the
    /// order of sums.
    ///
    /// Only the sampler's taps are passed, since a row inside the networks may belong to several images. The row of
    /// each image passes by itself, with the image's index in [`Moment::image`](latentrace_nn::Moment::image).
    ///
    /// # Errors
    /// The requests differ in plan or size, one of them cannot be run, or a tensor is not finite.
    pub fn run_together(&self, images: &[(&Request, &Start)], pass: &mut Pass) -> Result<Together> {
        let prepare = |(request, start): &(&Request, &Start)| self.prepare((*request).clone(), (*start).clone());
        let prepared: Vec<Prepared> = images.iter().map(prepare).collect::<Result<_>>()?;
        self.make_together(&prepared.iter().collect::<Vec<_>>(), pass)
    }

    /// [`Model::run_together`] for prepared requests.
    ///
    /// # Errors
    /// The requests differ in plan or size, or a tensor is not finite.
    pub fn make_together(&self, images: &[&Prepared], pass: &mut Pass) -> Result<Together> {
        let setting = Setting { mode: Mode::Batched, ..Setting::default() };
        let lines: Vec<Lines> = images.iter().map(|image| Lines::of(image, &setting)).collect();
        let runs: Vec<Named> = lines.iter().map(|lines| Named { name: "", lines }).collect();
        self.make_together_with(images, &runs, &mut Common::of(std::iter::empty()), pass)
    }

    /// [`Model::make_together`] for images that have something in common with other batches. `runs` has the lineages of
    /// each, for [`Mode::Batched`].
    ///
    /// # Errors
    /// As [`Model::make_together`].
    pub fn make_together_with(
        &self,
        images: &[&Prepared],
        runs: &[Named],
        common: &mut Common,
        pass: &mut Pass,
    ) -> Result<Together> {
        let Some(first) = images.first() else {
            return Ok(Together { outcomes: Vec::new(), evaluations: 0, work: Vec::new() });
        };
        if let Some(other) = images.iter().find(|other| !is_alike(first, other)) {
            let of =
                |Prepared { request: Request { steps, size, .. }, .. }: &Prepared| format!("{steps} steps at {size:?}");
            let found = format!("{} beside {}", of(other), of(first));
            return Err(Error::Range {
                field: "batch",
                expected:
                    "images of one plan, size and kind of start, and of texts of one length that are encoded here"
                        .into(),
                found,
            });
        }
        let _held = self.hold_threads(first.request.size, images.len());
        no_grad(|| {
            let (conditions, places) = self.different_conditions(images, runs)?;
            let work = vec![Work::default(); images.len()];
            let batch = Batch { runs, conditions: &places, common, work };
            let mut network = Shared { denoiser: self.denoiser(), conditions, batch };
            let latents = self.execute(images, &mut network, pass)?;
            let outcomes = self.decode_all(&latents).into_iter().zip(images).enumerate();
            let outcomes = outcomes.map(|(place, (picture, image))| {
                Ok(Outcome {
                    latents: latents.narrow(0, place as i64, 1),
                    picture: picture?,
                    tokens: image.tokens.clone(),
                    plan: image.plan.clone(),
                })
            });
            let outcomes = outcomes.collect::<Result<_>>()?;
            let work = network.batch.work;
            Ok(Together { outcomes, evaluations: work.iter().map(|work| work.evaluations).sum(), work })
        })
    }

    /// Every different condition of images, and for each image the indices of its conditions among them: with the negative prompt, and
    /// with the prompt. A text is encoded once.
    fn different_conditions(&self, images: &[&Prepared], runs: &[Named]) -> Result<(Conditions, Vec<[usize; 2]>)> {
        let (mut texts, mut places, mut all) = (HashMap::new(), HashMap::new(), Vec::new());
        let mut places_of_images = Vec::new();
        for (image, run) in images.iter().zip(runs) {
            let mut of_image = [0; 2];
            for branch in [Branch::Unconditional, Branch::Conditional] {
                // Without a negative prompt no row is computed for it, and the condition of the prompt is in its place.
                let of = if image.negative == Negative::Absent { Branch::Conditional } else { branch };
                of_image[branch as usize] = match places.entry(run.lines.condition(of)) {
                    Entry::Occupied(place) => *place.get(),
                    Entry::Vacant(place) => {
                        let text = self.text_of(of, image, run.lines, &mut texts)?;
                        all.push(Conditions::of(text, image.ids_of(of)));
                        *place.insert(all.len() - 1)
                    }
                };
            }
            places_of_images.push(of_image);
        }
        Ok((Conditions::stacked(&all), places_of_images))
    }

    /// The text of a branch of an image. `known` has those that are encoded.
    fn text_of(
        &self,
        branch: Branch,
        image: &Prepared,
        lines: &Lines,
        known: &mut HashMap<Lineage, EncodedText>,
    ) -> Result<EncodedText> {
        let index = match (branch, image.negative) {
            (Branch::Unconditional, Negative::Zeros) => {
                return Ok(self.text_of(Branch::Conditional, image, lines, known)?.zeros());
            }
            (Branch::Unconditional, Negative::Text | Negative::Absent) => 1,
            (Branch::Conditional, _) => 0,
        };
        if let Some(text) = lines.text(branch).and_then(|text| known.get(&text)) {
            return Ok(text.clone());
        }
        let text = self.encode_tokens(&image.tokens[index], &image.encodings[index], &mut Pass::silent())?;
        if let Some(lineage) = lines.text(branch) {
            known.insert(lineage, text.clone());
        }
        Ok(text)
    }
}

/// Whether two images can be run in one batch.
fn is_alike(first: &Prepared, other: &Prepared) -> bool {
    let same_plan = Arc::ptr_eq(&first.plan, &other.plan) || first.plan == other.plan;
    let same_start = std::mem::discriminant(&first.start) == std::mem::discriminant(&other.start);
    let lengths = |image: &Prepared| image.tokens[0].iter().map(|tokens| tokens.ids.len()).collect::<Vec<_>>();
    let same_length = lengths(other) == lengths(first);
    // Images that start from other tensors are not known to be equal by their seeds.
    let is_known = matches!(first.start, Start::Noise | Start::Picture { .. } | Start::Masked { .. });
    let is_alone = std::ptr::eq(first, other);
    let encoded = [first, other].iter().all(|image| image.request.features.is_none());
    other.request.size == first.request.size
        && same_start
        && same_length
        && same_plan
        && encoded
        && (is_known || is_alone)
}
