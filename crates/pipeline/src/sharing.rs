//! Which rows the network must compute for several images, some of which have equal samples.

use crate::{Mask, Picture, Prepared, Request, Start};
use latentrace_text::Tokens;
use std::collections::HashMap;
use std::hash::Hash;

/// An image of a batch: the part of it that decides which rows it needs.
#[derive(Clone, Debug)]
pub(crate) struct Arm<'a> {
    pub(crate) request: &'a Request,
    /// The indices of the negative prompt and of the prompt in the list of texts.
    pub(crate) texts: [usize; 2],
}

/// A number for each image; images with the same number have the same sample. Samples are the same at first if seed and
/// start are, and as long as text and guidance weight are.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    classes: Vec<usize>,
}

/// The rows that a call needs.
#[derive(Debug, PartialEq)]
pub(crate) struct Needed {
    /// The rows that the network computes, without duplicates.
    pub(crate) rows: Vec<NeededRow>,
    /// For each image, the indices of its rows.
    pub(crate) images: Vec<Halves>,
}

/// One row: the sample of an image with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NeededRow {
    pub(crate) image: usize,
    pub(crate) text: usize,
}

/// The indices of the rows that are an image's outputs. A guidance weight of 1 needs no unconditional row, and a weight
/// of 0 no conditional one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Halves {
    pub(crate) unconditional: Option<usize>,
    pub(crate) conditional: Option<usize>,
}

impl Sharing {
    /// Images whose samples are the same at first if their keys are equal.
    pub(crate) fn new<K: Eq + Hash>(starts: impl IntoIterator<Item = K>) -> Sharing {
        Sharing { classes: number(starts) }
    }

    /// The rows of the next call, at a noise level. After the call, images with the same sample and the same guidance
    /// still have the same sample.
    pub(crate) fn call(&mut self, arms: &[Arm], sigma: f64) -> Needed {
        let mut rows = Vec::new();
        let mut places = HashMap::new();
        let first: Vec<usize> = (0..arms.len())
            .map(|image| self.classes.iter().position(|class| *class == self.classes[image]).unwrap_or(image))
            .collect();
        let mut row = |image: usize, text: usize| {
            let row = NeededRow { image: first[image], text };
            *places.entry(row).or_insert_with(|| {
                rows.push(row);
                rows.len() - 1
            })
        };
        let mut images = Vec::new();
        let mut guided = Vec::new();
        for (image, arm) in arms.iter().enumerate() {
            let weight = arm.request.guidance.at(sigma);
            let [negative, prompt] = arm.texts;
            let halves = Halves {
                unconditional: (weight != 1.0).then(|| row(image, negative)),
                conditional: (weight != 0.0).then(|| row(image, prompt)),
            };
            images.push(halves);
            guided.push((self.classes[image], halves.unconditional, halves.conditional, weight.to_bits()));
        }
        self.classes = number(guided);
        Needed { rows, images }
    }
}

/// A number for each item; equal items have equal numbers.
fn number<K: Eq + Hash>(items: impl IntoIterator<Item = K>) -> Vec<usize> {
    let mut known = HashMap::new();
    items
        .into_iter()
        .map(|item| {
            let next = known.len();
            *known.entry(item).or_insert(next)
        })
        .collect()
}

/// The key of an image's first sample: images of one plan with equal keys have equal first samples.
pub(crate) fn start_key(image: &Prepared) -> (u64, Option<&Picture>, Option<&Mask>) {
    let (picture, mask) = match &image.start {
        Start::Picture { picture, .. } => (Some(&**picture), None),
        Start::Masked { picture, mask, .. } => (Some(&**picture), Some(&**mask)),
        // Only the first of a batch may start from tensors, see `is_alike` in `together.rs`.
        Start::Noise | Start::Latents { .. } | Start::Known { .. } | Start::Sample { .. } => (None, None),
    };
    (image.request.seed, picture, mask)
}

/// A text that is encoded.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) tokens: &'a Tokens,
    pub(crate) clip_skip: usize,
}

/// Every different text, and for each image the indices of its negative prompt and its prompt among them.
pub(crate) fn texts<'a>(images: &[&'a Prepared]) -> (Vec<Text<'a>>, Vec<[usize; 2]>) {
    let halves = |image: &&'a Prepared| {
        let Prepared { request: Request { prompt, negative, text, .. }, tokens: [of_prompt, of_negative], .. } = *image;
        [(negative.as_str(), text, of_negative), (prompt.as_str(), text, of_prompt)]
    };
    let all: Vec<_> = images.iter().flat_map(halves).collect();
    let places = number(all.iter().map(|(text, options, _)| (*text, **options)));
    let mut texts: Vec<Text> = Vec::new();
    for ((_, options, tokens), place) in all.iter().zip(&places) {
        if *place == texts.len() {
            texts.push(Text { tokens, clip_skip: options.clip_skip });
        }
    }
    (texts, places.chunks(2).map(|pair| [pair[0], pair[1]]).collect())
}

/// How many rows the network computes for images of one plan that are run in one batch. A row is one sample with one
/// text.
pub fn evaluations(images: &[&Prepared]) -> usize {
    let Some(Prepared { plan, .. }) = images.first() else { return 0 };
    let (_, places) = texts(images);
    let arms: Vec<Arm> =
        images.iter().zip(places).map(|(image, texts)| Arm { request: &image.request, texts }).collect();
    let mut sharing = Sharing::new(images.iter().map(|image| start_key(image)));
    plan.steps().iter().map(|step| sharing.call(&arms, step.level.sigma).rows.len()).sum()
}
