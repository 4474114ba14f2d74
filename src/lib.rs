//! A research bench for latent diffusion: what does a text-to-image run *do*?
//!
//! This crate only gathers the libraries under one name; the program is `latentrace`. In the order of use:
//! [`runs`] makes, records, verifies and forks one run; [`experiments`] sweeps many, draws them and writes a page of them.
//! They are built on [`pipeline`], which runs a checkpoint folder: [`text`] turns a prompt into tensors, [`unet`] removes
//! noise from latents, [`schedulers`] says how much at which step, and [`vae`] makes pixels of them; [`nn`] is what the
//! networks are made of. [`trace`] records tensors, [`measures`] computes what they mean, [`plot`] draws, [`shapes`] is a
//! small world of pictures to measure on, and [`files`] writes files completely or not at all.
//!
//! Networks and samplers have taps, named places that their tensors pass, and a [`nn::Probe`] sees or changes what passes:
//!
//! ```no_run
//! use latentrace::nn::tch::{Kind, Tensor};
//! use latentrace::nn::{Moment, Pass, Probe, Tap};
//! use latentrace::pipeline::{Model, Options};
//!
//! /// Writes the size of every clean estimate.
//! struct Estimates;
//!
//! impl Probe for Estimates {
//!     fn wants(&self, tap: &Tap, _: &Moment) -> bool {
//!         tap.name() == "sampler.denoised"
//!     }
//!     fn visit(&mut self, _: &Tap, moment: Moment, tensor: Tensor) -> Tensor {
//!         println!("{:6.1} {:.3}", moment.t, tensor.square().mean(Kind::Float).double_value(&[]).sqrt());
//!         tensor
//!     }
//! }
//!
//! let model = Model::open("data/models/shapes".as_ref(), Options::default())?;
//! let request = model.request("a large red circle on the left, white background", 193);
//! let outcome = model.run(&request, &mut Pass::watched(&mut Estimates))?;
//! println!("{} by {} pixels", outcome.picture.width, outcome.picture.height);
//! # Ok::<(), latentrace::pipeline::Error>(())
//! ```
//!
//! # Threads
//! A model runs on one CPU thread if it is small and on all if it is large; [`pipeline::Threads`] says otherwise. How threads wait
//! for each other is decided when libgomp is loaded, before `main`, so a library cannot set it. By default they spin, and a
//! run of a large model beside another busy program is many times slower than alone. Start your program with
//! `GOMP_SPINCOUNT=1000` in its environment, as `latentrace` starts itself; in `.cargo/config.toml` that is
//! `[env] GOMP_SPINCOUNT = "1000"`, for what cargo starts.

pub use latentrace_checkpoints as checkpoints;
pub use latentrace_experiments as experiments;
pub use latentrace_files as files;
pub use latentrace_measures as measures;
pub use latentrace_nn as nn;
pub use latentrace_pipeline as pipeline;
pub use latentrace_plot as plot;
pub use latentrace_runs as runs;
pub use latentrace_schedulers as schedulers;
pub use latentrace_shapes as shapes;
pub use latentrace_text as text;
pub use latentrace_trace as trace;
pub use latentrace_unet as unet;
pub use latentrace_vae as vae;
