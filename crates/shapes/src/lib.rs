//! A small known world of pictures, so that a text-to-image model trained on it can be *measured*.
//!
//! A [`Scene`] is one or two flat things before a plain background. It [draws](Scene::draw) itself as a 64x64
//! [`Canvas`] and [says](Scene::caption) itself in words. The way back needs neither: [`look`] reads a [`SeenScene`] from
//! pixels alone, [`parse`] reads an [`AskedScene`] from the words alone, and [`adherence`] counts attribute by attribute
//! how much of what was asked is seen. A generated picture is thus judged by its prompt and its pixels only.
//!
//! One decision: all randomness comes from [`Stream`], a few lines of integer arithmetic, and drawing uses no
//! function whose last digit depends on the platform. A seed means the same picture everywhere, in every version.
//!
//! ```
//! use latentrace_shapes::{Detail, Jitter, Scene, Stream, adherence, look, parse};
//!
//! let scene = Scene::random(&mut Stream::new(8));
//! let caption = scene.caption(Detail::FULL);
//! let picture = scene.draw(&mut Jitter::new(1));
//!
//! let asked = parse(&caption).expect("a caption of this world");
//! let score = adherence(&asked, &look(&picture));
//! println!("{caption}\n{score}");
//! assert_eq!(score.whole.rate(), Some(1.0));
//! ```

mod adherence;
mod caption;
mod draw;
mod look;
mod scene;
mod stream;

pub use adherence::{Adherence, Tally, adherence};
pub use caption::{AskedScene, AskedThing, Detail, parse};
pub use draw::{Canvas, Jitter};
pub use look::{SeenScene, SeenThing, look};
pub use scene::{Colour, Position, Scene, Shape, Size, Thing};
pub use stream::Stream;
