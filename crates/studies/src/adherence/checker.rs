//! The checker's own errors: it reads drawn pictures whose scenes are known.

use super::{Match, Seen};
use latentrace_shapes::{Adherence, Canvas, Detail, Edges, Jitter, Scene, Stream};

/// A damage of drawn pictures, as those of a model may be damaged.
pub struct Damage {
    /// Its name.
    pub name: &'static str,
    blurs: usize,
    noise: f64,
}

/// None; and blurred by the mean of 3x3 pixels once or twice, with noise on every value.
pub const DAMAGES: &[Damage] = &[
    Damage { name: "drawn", blurs: 0, noise: 0.0 },
    Damage { name: "drawn, blurred, noise of 8 levels", blurs: 1, noise: 8.0 },
    Damage { name: "drawn, blurred twice, noise of 16 levels", blurs: 2, noise: 16.0 },
];

/// Draws the scenes in `side` x `side` pixels with a damage, and checks them with their captions: what is not right is an
/// error of the checker.
pub fn drawn(scenes: &[Scene], side: usize, damage: &Damage) -> Match {
    let (mut adherence, mut edges) = (Adherence::default(), Edges::default());
    for (number, scene) in (0..).zip(scenes) {
        let mut stream = Stream::numbered(number, side as u64);
        let picture = scene.draw(side, &mut Jitter::from(stream.clone()));
        let blurred = (0..damage.blurs).fold(picture, |picture, _| picture.blurred());
        let picture: Canvas = blurred.noisy(damage.noise, &mut stream);
        if let Ok(seen) = Seen::of(&picture, &scene.caption(Detail::FULL)) {
            adherence += seen.adherence;
            edges += seen.edges;
        }
    }
    Match { set: damage.name.into(), sampled: None, adherence, edges }
}
