//! How many CPU threads a model's networks run on, as libtorch itself says while they run.

use latentrace_nn::tch::{self, Tensor};
use latentrace_nn::{Moment, Pass, Probe, Tap, all_threads};
use latentrace_pipeline::{Device, Model, Options, Request, Size, Start, Threads};
use std::collections::BTreeSet;
use std::path::Path;

/// Sees libtorch's number of threads at every tensor of the UNet, of the text encoder and of the decoder.
#[derive(Default)]
struct Seen(BTreeSet<i32>);

impl Probe for Seen {
    fn wants(&self, _: &Tap, _: &Moment) -> bool {
        true
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.0.insert(tch::get_num_threads());
        tensor
    }
}

/// The numbers of threads while a run is made.
fn seen(model: &Model, request: &Request) -> Vec<i32> {
    let mut seen = Seen::default();
    model.run(request, &mut Pass::watched(&mut seen)).unwrap();
    seen.0.into_iter().collect()
}

// One test, because libtorch's number of threads is one for the process until a thread computes.
#[test]
fn a_model_runs_on_the_threads_that_it_says_and_leaves_libtorchs_number_alone() {
    tch::set_num_threads(2); // whatever the machine and its environment say
    assert_eq!(all_threads(), 2);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/networks/sd1");
    let mut model = Model::open(&folder, Options { device: Device::Cpu, ..Options::default() }).unwrap();
    let request = Request { steps: 1, ..model.request("a cat", 7) };
    let large = Size { height: 4096, width: 4096 };
    for (threads, small, of_large) in [
        (Threads::BySize, 1, 2),
        (Threads::AsSet, 2, 2),
        (Threads::Recorded(1), 1, 1),
        (Threads::Recorded(2), 2, 2),
        (Threads::Recorded(64), 2, 2), // of a machine with more
        (Threads::Recorded(0), 1, 1),  // of a record that was written by hand
    ] {
        model.threads = threads;
        assert_eq!(model.threads_for(request.size, 1), small, "{threads:?}");
        assert_eq!(model.threads_for(large, 1), of_large, "{threads:?}");
        if threads != Threads::Recorded(2) && threads != Threads::Recorded(64) {
            assert_eq!(seen(&model, &request), [small as i32], "{threads:?}"); // one run on two threads is enough
        }
        assert_eq!(tch::get_num_threads(), 2, "{threads:?}");
    }
    // A batch of many small images is as much work as one large image.
    model.threads = Threads::BySize;
    let many = (1..=1 << 14).find(|images| model.threads_for(request.size, *images) == 2).unwrap();
    assert!(many > 1);
    let images = vec![(&request, &Start::Noise); 2];
    let mut watch = Seen::default();
    model.run_together(&images, &mut Pass::watched(&mut watch)).unwrap();
    let expected = model.threads_for(request.size, images.len()) as i32;
    assert_eq!(watch.0.into_iter().collect::<Vec<_>>(), [expected]);
}
