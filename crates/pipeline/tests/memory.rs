//! Pictures are decoded one at a time on a CPU, and too little memory is an error after which the model can be used as before.

use latentrace_pipeline::nn::tch::{self, Kind, Tensor};
use latentrace_pipeline::nn::{Moment, Pass, Probe, Tap, seeded};
use latentrace_pipeline::{Device, Error, Model, Options, Request};
use std::path::Path;

fn tiny() -> Model {
    tch::set_num_threads(1); // more threads than one only wait for each other on networks this small
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks/sd1");
    Model::open(&folder, Options { device: Device::Cpu, ..Options::default() }).unwrap()
}

#[test]
fn a_picture_does_not_depend_on_what_is_decoded_with_it() {
    let model = tiny();
    let latents = seeded(7, || Tensor::randn([5, 4, 8, 6], (Kind::Float, tch::Device::Cpu)));
    let together = model.decode_all(&latents);
    assert_eq!(together.len(), 5);
    for (image, picture) in (0..).zip(together) {
        let alone = model.decode(&latents.narrow(0, image, 1), &mut Pass::silent()).unwrap();
        assert_eq!(picture.unwrap(), alone, "in every byte");
    }
}

/// Latents of which copies would take 256 TiB, twice what a processor can address; they themselves take a few bytes.
fn giant(images: i64) -> Tensor {
    let side = 1 << 22;
    Tensor::zeros([1, 4, 1, 1], (Kind::Float, tch::Device::Cpu)).expand([images, 4, side, side], false)
}

/// Asks for such a tensor at a tap of the UNet.
struct Greedy;

impl Probe for Greedy {
    fn wants(&self, tap: &Tap, moment: &Moment) -> bool {
        tap.name() == "unet.mid_block.out" && moment.call == 1
    }
    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        giant(1) + tensor.sum(Kind::Float)
    }
}

#[test]
fn too_little_memory_is_an_error_that_says_how_much_was_asked_for() {
    let model = tiny();
    let request = Request { steps: 3, ..model.request("a cat", 5) };
    let before = model.run(&request, &mut Pass::silent()).unwrap();
    let of_run = model.run(&request, &mut Pass::watched(&mut Greedy)).err();
    let of_decoding = model.decode(&giant(1), &mut Pass::silent()).err();
    let of_each = model.decode_all(&giant(2)).into_iter().map(Result::err);
    for error in [of_run, of_decoding].into_iter().chain(of_each) {
        let error = error.expect("more than can be addressed");
        assert!(matches!(&error, Error::Memory(shortage) if shortage.asked == Some(1 << 48)), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("out of memory: 262144.0 GiB asked for, ") && text.contains("\nhint: "), "{text}");
    }
    let after = model.run(&request, &mut Pass::silent()).unwrap();
    assert_eq!(after.picture, before.picture, "the model is as it was");
}
