//! A small world of pictures of known content, so that a text-to-image model that is trained on it can be *measured*.
//!
//! A [`Scene`] is one or two flat things on a plain background. [`Scene::draw`] makes its picture, a [`Canvas`], of
//! any size, and [`Scene::caption`] its caption. In the other direction, [`look`] reads a [`SeenScene`] from pixels alone,
//! [`parse`] reads an [`AskedScene`] from a caption alone, and [`adherence`] counts for each attribute how much of what
//! was asked for is seen. So a generated picture is judged by its prompt and its pixels only.
//!
//! One decision: all randomness comes from [`Stream`], a few lines of integer arithmetic, and drawing uses no function
//! whose last digit depends on the platform. So a seed gives the same picture everywhere, in every version.
//!
//! ```
//! use latentrace_shapes::{Detail, Jitter, Scene, Stream, adherence, look, parse};
//!
//! let scene = Scene::random(&mut Stream::new(8));
//! let caption = scene.caption(Detail::FULL);
//! let picture = scene.draw(64, &mut Jitter::new(1));
//!
//! let asked = parse(&caption).expect("a caption of this world");
//! let score = adherence(&asked, &look(&picture));
//! println!("{caption}\n{score}");
//! assert_eq!(score.whole.rate(), Some(1.0));
//! ```

mod adherence;
mod caption;
mod damage;
mod draw;
mod edges;
mod look;
mod scene;
mod stream;

pub use adherence::{Adherence, Tally, adherence};
pub use caption::{AskedScene, AskedThing, Detail, parse};
pub use draw::{Canvas, Jitter};
pub use edges::{Edges, edges};
pub use look::{SeenScene, SeenThing, look};
pub use scene::{Colour, Position, Scene, Shape, Size, Thing};
pub use stream::Stream;
