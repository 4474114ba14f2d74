//! How often a model of shapes shows what captions ask for that it was not trained on, how often the checker itself is
//! wrong, and how much a model varies what a caption leaves open.

mod checker;
mod variety;

use anyhow::{Context, Result, ensure};
pub use checker::{DAMAGES, drawn};
use latentrace_pipeline::nn::Pass;
use latentrace_pipeline::{Model, Outcome, Request};
use latentrace_runs::{Event, Observer, lost::Captions};
use latentrace_shapes::{Adherence, Canvas, Detail, Edges, Scene, SeenScene, Stream, adherence, edges, look, parse};
pub use variety::{Attribute, Variety};

/// Pictures of captions that the model was not trained on, at several numbers of steps and weights of guidance.
pub struct Study {
    /// How many held-out captions, with every attribute.
    pub captions: usize,
    /// How many captions of scenes with a pair of shape and colour that no training shows.
    pub unseen: usize,
    /// How many captions that leave an attribute open, for each attribute.
    pub open: usize,
    /// The guidance weights of the held-out captions.
    pub guidance: Vec<f64>,
    /// The numbers of sampling steps.
    pub steps: Vec<usize>,
    /// The seed of the captions, and of the first picture of each set.
    pub seed: u64,
}

/// The guidance weight at which captions of unseen pairs are measured.
pub const UNSEEN_GUIDANCE: f64 = 5.0;
/// The guidance weight at which captions that leave something open are measured: a large one leaves little open.
pub const OPEN_GUIDANCE: f64 = 3.0;

/// One result of a study.
#[derive(Clone, Debug)]
pub enum Finding {
    /// How well pictures match full captions.
    Match(Match),
    /// How much pictures differ where a caption leaves an attribute open.
    Variety(Variety),
}

/// How well the pictures of a set of captions match them.
#[derive(Clone, Debug)]
pub struct Match {
    /// The set: `held out`, `unseen pairs`, or how drawn pictures were damaged.
    pub set: String,
    /// Sampling steps and guidance weight; `None` for drawn pictures.
    pub sampled: Option<(usize, f64)>,
    /// How much of what the captions ask for is seen.
    pub adherence: Adherence,
    /// How steep the edges are.
    pub edges: Edges,
}

impl Study {
    /// The number of network calls of all pictures.
    ///
    /// # Errors
    /// The model's scheduler cannot sample one of the numbers of steps.
    pub fn calls(&self, model: &Model) -> Result<usize> {
        let pictures = self.captions * self.guidance.len() + self.unseen + 2 * self.open * Attribute::ALL.len();
        let of = |&steps: &usize| Ok(model.check(&Request { steps, ..model.request("", 0) })?.calls() * pictures);
        self.steps.iter().map(of).sum()
    }

    /// Makes the pictures and checks them. `found` is called with each result. Captions and seeds are the same for all
    /// weights and numbers of steps.
    ///
    /// # Errors
    /// A seed is above 2^64 - 1, or a picture cannot be made.
    pub fn measure(&self, model: &Model, observer: &dyn Observer, mut found: impl FnMut(&Finding)) -> Result<()> {
        let more = self.captions.max(self.unseen).max(2 * self.open) as u64;
        ensure!(self.seed.checked_add(more).is_some(), "seed: {} and {more} more go beyond {}", self.seed, u64::MAX);
        let (held_out, unseen) = (held_out(self.seed, self.captions), unseen_pairs(self.seed, self.unseen));
        for damage in DAMAGES.iter().filter(|_| !held_out.is_empty()) {
            found(&Finding::Match(drawn(&held_out, model.request("", 0).size.height as usize, damage)));
        }
        let mut easel = Easel { model, observer, lost: Captions::default() };
        for &steps in &self.steps {
            for &guidance in &self.guidance {
                found(&easel.matches("held out", &held_out, self.seed, (steps, guidance))?);
            }
            if !unseen.is_empty() {
                found(&easel.matches("unseen pairs", &unseen, self.seed, (steps, UNSEEN_GUIDANCE))?);
            }
            for attribute in Attribute::ALL.into_iter().filter(|_| self.open > 0) {
                found(&easel.variety(attribute, self.open, self.seed, steps)?);
            }
        }
        Ok(())
    }
}

/// Makes pictures and checks them.
struct Easel<'a> {
    model: &'a Model,
    observer: &'a dyn Observer,
    lost: Captions,
}

impl Easel<'_> {
    fn seen(&mut self, caption: &str, seed: u64, (steps, guidance): (usize, f64)) -> Result<Seen> {
        let request = Request { steps, guidance: guidance.into(), ..self.model.request(caption, seed) };
        let (outcome, seen) = judged(self.model, &request)?;
        self.lost.warn(outcome.first_tokens()[0], self.observer);
        (0..outcome.plan.calls()).for_each(|_| self.observer.tell(Event::Call));
        Ok(seen)
    }

    fn matches(&mut self, set: &str, scenes: &[Scene], seed: u64, sampled: (usize, f64)) -> Result<Finding> {
        let (mut adherence, mut edges) = (Adherence::default(), Edges::default());
        for (number, scene) in (0..).zip(scenes) {
            let seen = self.seen(&scene.caption(Detail::FULL), seed + number, sampled)?;
            adherence += seen.adherence;
            edges += seen.edges;
        }
        Ok(Finding::Match(Match { set: set.into(), sampled: Some(sampled), adherence, edges }))
    }

    fn variety(&mut self, attribute: Attribute, count: usize, seed: u64, steps: usize) -> Result<Finding> {
        let mut variety = Variety::new(attribute, steps, OPEN_GUIDANCE);
        for (number, scene) in (0..).zip(variety::scenes(seed, count)) {
            let caption = scene.caption(attribute.left_open());
            let mut pair = Vec::new();
            for other in [0, 1] {
                pair.push(self.seen(&caption, seed + 2 * number + other, (steps, OPEN_GUIDANCE))?.scene);
            }
            variety.add(&scene, [&pair[0], &pair[1]]);
        }
        Ok(Finding::Variety(variety))
    }
}

/// What the checker sees in a picture.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The scene.
    pub scene: SeenScene,
    /// How much of what the prompt asks for is in it.
    pub adherence: Adherence,
    /// How steep its edges are.
    pub edges: Edges,
}

impl Seen {
    /// Checks a picture with its caption.
    ///
    /// # Errors
    /// No scene can meet the caption.
    pub fn of(picture: &Canvas, caption: &str) -> Result<Seen> {
        let asked = parse(caption).context("a caption of this world")?;
        let scene = look(picture);
        Ok(Seen { adherence: adherence(&asked, &scene), edges: edges(picture, &scene), scene })
    }
}

/// Makes the picture of a request, whose prompt is a caption of the world, and checks it.
///
/// # Errors
/// The picture cannot be made, or no scene can meet the prompt.
pub fn judged(model: &Model, request: &Request) -> Result<(Outcome, Seen)> {
    let outcome = model.run(request, &mut Pass::silent())?;
    let (width, height, pixels) = (outcome.picture.width, outcome.picture.height, outcome.picture.pixels.clone());
    let seen = Seen::of(&Canvas { width, height, pixels }, &request.prompt)?;
    Ok((outcome, seen))
}

/// Random held-out scenes. Their pairs of shape and colour are in a training set, but they are not.
pub fn held_out(seed: u64, count: usize) -> Vec<Scene> {
    scenes(seed, |scene| scene.held_out() && !scene.unseen_pair()).take(count).collect()
}

/// Random scenes with a pair of shape and colour that is in no training set.
pub fn unseen_pairs(seed: u64, count: usize) -> Vec<Scene> {
    scenes(seed, Scene::unseen_pair).take(count).collect()
}

fn scenes(seed: u64, wanted: impl Fn(&Scene) -> bool) -> impl Iterator<Item = Scene> {
    let all = (0..).map(move |index| Scene::random(&mut Stream::numbered(seed ^ 0x6865_6c64, index)));
    all.filter(move |scene| wanted(scene))
}
