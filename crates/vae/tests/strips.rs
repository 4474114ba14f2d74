//! Encoding and decoding strip by strip: the same numbers up to rounding, whoever watches.

use latentrace_nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace_nn::{Kernels, Layout, Moment, Pass, Probe, Tap, Weights, seeded, with_strips_of};
use latentrace_vae::{Vae, VaeConfig};

/// Three resolutions with a change of the number of channels, so that there are shortcuts.
fn config() -> VaeConfig {
    VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 4,
        block_out_channels: vec![8, 16, 32],
        layers_per_block: 1,
        norm_num_groups: 4,
        scaling_factor: 1.0,
        statistics: None,
        force_upcast: false,
        mid_block_add_attention: true,
        use_quant_conv: true,
        use_post_quant_conv: true,
    }
}

fn vae(kind: Kind, layout: Layout) -> Vae {
    let weights = Weights::random("vae", 5, kind, Device::Cpu).with_kernels(Kernels { layout, ..Kernels::PLAIN });
    Vae::load(&weights, &config()).unwrap()
}

/// Two pictures, whose mean is far from zero in places, and two latents.
fn inputs(kind: Kind) -> [Tensor; 2] {
    let draw = |shape: [i64; 4]| seeded(3, || Tensor::randn(shape, (Kind::Float, Device::Cpu))).to_kind(kind);
    let slope = Tensor::linspace(-2.0, 2.0, 44, (Kind::Float, Device::Cpu)).to_kind(kind).view([1, 1, 44, 1]);
    [draw([2, 3, 44, 36]) * 0.3 + slope, draw([2, 4, 11, 9])]
}

/// The encoder's and the decoder's output.
fn both(vae: &Vae, [picture, latents]: &[Tensor; 2], pass: &mut Pass) -> [Tensor; 2] {
    no_grad(|| [vae.moments(pass, picture), vae.decode(pass, latents)])
}

fn apart(one: &Tensor, other: &Tensor) -> f64 {
    let size = other.abs().max().double_value(&[]);
    (one.to_kind(Kind::Double) - other.to_kind(Kind::Double)).abs().max().double_value(&[]) / size
}

/// Sizes of strips: some rows at the finest resolution; one row everywhere.
const BYTES: [i64; 2] = [8 * 36 * 4 * 5, 1];

#[test]
fn strips_are_the_whole_up_to_rounding() {
    // About 30 layers, each with the rounding of its format: 1e-16, 6e-8, 4e-3.
    for (kind, tolerance) in [(Kind::Double, 1e-13), (Kind::Float, 1e-5), (Kind::BFloat16, 3e-2)] {
        let inputs = inputs(kind);
        for layout in [Layout::Planar, Layout::ChannelsLast] {
            let vae = vae(kind, layout);
            let whole = both(&vae, &inputs, &mut Pass::silent());
            for bytes in BYTES {
                let strips = with_strips_of(bytes, || both(&vae, &inputs, &mut Pass::silent()));
                for (strips, whole) in strips.iter().zip(&whole) {
                    assert_eq!((strips.size(), strips.kind()), (whole.size(), kind));
                    let apart = apart(strips, whole);
                    assert!(apart < tolerance, "{kind:?} {layout:?} {bytes}: {apart:.1e}");
                }
            }
            assert_ne!(whole[1].abs().max().double_value(&[]), 0.0);
        }
    }
}

/// Keeps copies of the tensors that pass some taps, and the tensors themselves.
struct Watch<W>(W, Vec<(String, Tensor, Tensor)>);

impl<W: Fn(&str) -> bool> Probe for Watch<W> {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        (self.0)(tap.name())
    }
    fn visit(&mut self, tap: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        self.1.push((tap.name().into(), tensor.copy(), tensor.shallow_clone()));
        tensor
    }
}

#[test]
fn watching_strips_changes_no_bit_and_what_was_seen_stays_as_it_was() {
    for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, 5e-2)] {
        let inputs = inputs(kind);
        for layout in [Layout::Planar, Layout::ChannelsLast] {
            let vae = vae(kind, layout);
            let mut whole = Watch(|_: &str| true, Vec::new());
            let _ = both(&vae, &inputs, &mut Pass::watched(&mut whole));
            let silent = with_strips_of(BYTES[0], || both(&vae, &inputs, &mut Pass::silent()));
            // All taps; and each kind by itself, since the others then take the way without a probe.
            let kinds = ["", "norm1", "conv1", "norm2", "conv2", "conv_shortcut", "out", "conv_norm_out"];
            for end in kinds {
                let mut watch = Watch(|name: &str| name.ends_with(end), Vec::new());
                let watched = with_strips_of(BYTES[0], || both(&vae, &inputs, &mut Pass::watched(&mut watch)));
                for (silent, watched) in silent.iter().zip(&watched) {
                    assert!(silent.equal(watched), "{kind:?} {layout:?} {end}");
                }
                assert!(!watch.1.is_empty());
                let expected = whole.1.iter().filter(|(name, ..)| name.ends_with(end));
                assert_eq!(watch.1.len(), expected.clone().count());
                for ((name, copy, tensor), (known, expected, _)) in watch.1.iter().zip(expected) {
                    assert_eq!(name, known, "the same taps in the same order");
                    assert!(copy.equal(tensor), "{name}: written to after it was seen");
                    assert!(apart(copy, expected) < tolerance, "{name}: {:.1e}", apart(copy, expected));
                }
            }
        }
    }
}

/// Replaces the tensor of a tap by zeros.
struct Zero(&'static str);

impl Probe for Zero {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name().ends_with(self.0)
    }
    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        tensor.zeros_like()
    }
    fn leave_out(&mut self, _: &Tap, _: Moment, _: Tensor, without: &dyn Fn() -> Tensor) -> Tensor {
        without()
    }
}

#[test]
fn an_edit_acts_on_strips_as_on_the_whole() {
    // In f64: with zeros for a norm's output, the variance in the next norm is a small difference of large numbers.
    let (vae, inputs) = (vae(Kind::Double, Layout::ChannelsLast), inputs(Kind::Double));
    for end in ["norm1", "conv1", "norm2", "conv2", "conv_shortcut", "conv_norm_out", "up_blocks.1.resnets.0.out"] {
        let edited = |bytes| {
            let run = || both(&vae, &inputs, &mut Pass::watched(&mut Zero(end)));
            if bytes == 0 { run() } else { with_strips_of(bytes, run) }
        };
        let plain = both(&vae, &inputs, &mut Pass::silent());
        let (whole, strips) = (edited(0), edited(BYTES[0]));
        assert!(apart(&strips[1], &whole[1]) < 1e-9, "{end}: {:.1e}", apart(&strips[1], &whole[1]));
        assert!(apart(&plain[1], &whole[1]) > 1e-3, "{end}: the edit does something");
    }
}
