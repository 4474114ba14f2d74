//! How much memory decoding and encoding take, measured on this process: the only test in its file, so that nothing else allocates.

#![cfg(target_os = "linux")]

use latentrace_nn::tch::{Device, Kind, Tensor, no_grad};
use latentrace_nn::{Kernels, Layout, Pass, Weights, seeded, with_strips_of};
use latentrace_vae::{Vae, VaeConfig};

/// The most bytes that the process held while `work` was done, beyond those before.
fn most_beyond(work: impl FnOnce()) -> Option<f64> {
    let read = |key: &str| -> Option<f64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(1024.0 * line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<f64>().ok()?)
    };
    std::fs::write("/proc/self/clear_refs", "5").ok()?; // the most that was held begins anew
    let before = read("VmRSS")?;
    work();
    Some(read("VmHWM")? - before)
}

#[test]
fn a_large_picture_takes_little_more_than_the_largest_layers_input_and_output() {
    let config = VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 4,
        block_out_channels: vec![32, 64],
        layers_per_block: 1,
        norm_num_groups: 8,
        scaling_factor: 1.0,
        statistics: None,
        force_upcast: false,
        mid_block_add_attention: false,
        use_quant_conv: false,
        use_post_quant_conv: false,
    };
    const MB: f64 = 1e6;
    let side = 768;
    let finest = (side * side * 4) as f64 * 32.0; // the finest pictures have 32 channels: 75 MB
    for layout in [Layout::Planar, Layout::ChannelsLast] {
        let weights = Weights::random("vae", 5, Kind::Float, Device::Cpu);
        let vae = Vae::load(&weights.with_kernels(Kernels { layout, ..Kernels::PLAIN }), &config).unwrap();
        let draw = |shape: [i64; 4]| seeded(3, || Tensor::randn(shape, (Kind::Float, Device::Cpu)));
        let (latents, picture) = (draw([1, 4, side / 2, side / 2]), draw([1, 3, side, side]));
        let decode = || no_grad(|| drop(vae.decode(&mut Pass::silent(), &latents)));
        let encode = || no_grad(|| drop(vae.moments(&mut Pass::silent(), &picture)));
        let whole =
            [with_strips_of(i64::MAX, || most_beyond(decode)), with_strips_of(i64::MAX, || most_beyond(encode))];
        let strips = [most_beyond(decode), most_beyond(encode)];
        // Decoding, the first block of the finest resolution reads 64 channels and writes 32; encoding, all have 32. Besides, there are
        // strips of 17 MB: two that a layer reads, two that it writes, as many copies of libtorch's, and holes between them.
        for (what, (whole, strips), pictures) in
            [("decode", (whole[0], strips[0]), 3.0), ("encode", (whole[1], strips[1]), 2.0)]
        {
            let (Some(whole), Some(strips)) = (whole, strips) else { continue }; // this system does not say
            let most = pictures * finest + 220.0 * MB;
            assert!(strips < most, "{layout:?} {what}: {:.0} MB, at most {:.0} expected", strips / MB, most / MB);
            // How much memory libtorch's convolutions take besides depends on the processor: 0.78 was seen, where others have 0.7.
            assert!(strips < 0.85 * whole, "{layout:?} {what}: {:.0} MB, at once {:.0}", strips / MB, whole / MB);
        }
    }
}
