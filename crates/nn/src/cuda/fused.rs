//! The kernels of `fused.cu`: what libtorch computes in several passes over memory, in one or two.

#![allow(unsafe_code)] // Launches kernels on the memory of tensors; each launch says why it is safe.

use super::Library;
use crate::kernels::{Grouping, Pending, channels_last};
use cudarc::driver::{result, sys};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};
use std::ffi::{CString, c_void};
use std::sync::OnceLock;
use tch::{Device, Kind, Tensor};

const SOURCE: &str = include_str!("fused.cu");

/// Numbers that a thread reads at once: 16 bytes.
const VECTOR: i64 = 8;
/// Vectors of a row that a thread of `layer_norm` holds in its registers, at most.
const HELD: i64 = 8;
/// Threads of a block, at most in `group_moments` and `group_apply`.
const THREADS: i64 = 512;
/// Blocks of a launch over all pixels: a few for each of a large GPU's multiprocessors.
const BLOCKS: i64 = 512;
/// Parts of all images whose moments are computed apart. Each block adds up those of its image, so they are fewer.
const PARTS: i64 = 256;

/// The kernels for one number format.
pub(crate) struct Fused {
    library: &'static Library,
    group_moments: sys::CUfunction,
    group_apply: sys::CUfunction,
    layer_norm: sys::CUfunction,
    gated_gelu: sys::CUfunction,
    biased_sum: sys::CUfunction,
    doubled: sys::CUfunction,
}

// Safety: handles of functions of a module that is never unloaded; the driver's calls can be made from any thread.
unsafe impl Send for Fused {}
unsafe impl Sync for Fused {}

impl Fused {
    /// The kernels for tensors of a format on a device. `None` if there are none: another device than CUDA, another
    /// format than f16 and bf16, or no compiler (NVRTC) beside libtorch.
    pub(crate) fn of(kind: Kind, device: Device) -> Option<&'static Fused> {
        static HALF: OnceLock<Option<Fused>> = OnceLock::new();
        static BFLOAT: OnceLock<Option<Fused>> = OnceLock::new();
        let (Device::Cuda(ordinal), kernels) = (
            device,
            match kind {
                Kind::Half => &HALF,
                Kind::BFloat16 => &BFLOAT,
                _ => return None,
            },
        ) else {
            return None;
        };
        kernels.get_or_init(|| Fused::compile(kind, ordinal).ok()).as_ref()
    }

    /// Compiles the kernels for a device of this process.
    ///
    /// # Errors
    /// What the compiler or the driver says.
    pub(crate) fn compile(kind: Kind, ordinal: usize) -> Result<Fused, String> {
        let library = Library::open().ok_or("libtorch's CUDA library is not open, or not of version 2.11")?;
        library.open_compiler();
        // Safety: only looks whether the libraries can be opened.
        if !unsafe { sys::is_culib_present() && cudarc::nvrtc::sys::is_culib_present() } {
            return Err("libcuda or libnvrtc is not there".into());
        }
        // The first tensor makes the device's context current in this thread.
        drop(Tensor::zeros([1], (kind, Device::Cuda(ordinal))));
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let ptx = program(kind, &capability(ordinal).map_err(|error| said(&error))?)?;
        let image = ptx.as_bytes().ok_or("the compiler gave no program")?;
        // Safety: the image is NVRTC's, with its terminating zero; the module is never unloaded.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.map_err(|error| said(&error))?;
        let function = |name: &str| {
            let name = CString::new(name).map_err(|error| error.to_string())?;
            // Safety: the module was just loaded.
            unsafe { result::module::get_function(module, name) }.map_err(|error| error.to_string())
        };
        Ok(Fused {
            library,
            group_moments: function("group_moments")?,
            group_apply: function("group_apply")?,
            layer_norm: function("layer_norm")?,
            gated_gelu: function("gated_gelu")?,
            biased_sum: function("biased_sum")?,
            doubled: function("doubled")?,
        })
    }

    /// Group normalisation of a channels-last tensor, see [`crate::GroupNorm`]. `None` if the number of channels does
    /// not fit the kernels.
    pub(crate) fn group_norm(&self, of: &Pending, how: &Grouping) -> Option<Tensor> {
        let [batch, channels, height, width] = of.x.size()[..] else { return None };
        let threads = threads(channels).filter(|_| channels % how.groups == 0)?;
        let pixels = height * width;
        let rows = threads / (channels / VECTOR);
        let (part, chunk) = (share(pixels, batch, rows, PARTS), share(pixels, batch, rows, BLOCKS));
        let parts = (pixels + part - 1) / part;
        let x = channels_last(&of.x);
        let y = x.empty_like();
        let partial = Tensor::empty([batch, how.groups, parts, 2], (Kind::Float, x.device()));
        let (bias, (time, stride)) = (address(of.bias), strided(of.time.as_ref()));
        let sizes = [pixels, channels, how.groups].map(|size| size as i32);
        let (parts_, part_, chunk_, stride) = (parts as i32, part as i32, chunk as i32, stride as i32);
        let (source, moments, target) = (x.data_ptr(), partial.data_ptr(), y.data_ptr());
        let mut arguments = Arguments::new();
        arguments.add(&source).add(&bias).add(&time).add(&stride).add(&moments);
        sizes.iter().for_each(|size| _ = arguments.add(size));
        arguments.add(&part_);
        let pair = 2 * size_of::<f32>() as i64;
        // Safety: sizes and addresses are those of tensors of this format that live until the launch is enqueued; memory
        // that is freed after it is reused only by later work of the same stream.
        unsafe {
            self.launch(self.group_moments, [parts, batch], threads, rows * channels * pair, arguments);
        }
        let (weight, shift) = (how.weight.data_ptr(), how.shift.data_ptr());
        let (epsilon, silu) = (how.epsilon as f32, i32::from(how.silu));
        let mut arguments = Arguments::new();
        arguments.add(&source).add(&bias).add(&time).add(&stride).add(&moments).add(&weight).add(&shift).add(&target);
        sizes.iter().for_each(|size| _ = arguments.add(size));
        arguments.add(&parts_).add(&chunk_).add(&epsilon).add(&silu);
        let chunks = (pixels + chunk - 1) / chunk;
        // Safety: as above.
        unsafe { self.launch(self.group_apply, [chunks, batch], threads, how.groups * pair, arguments) };
        Some(y)
    }

    /// Layer normalisation over the last axis of `x`, or of `x + added`, which is returned first. `None` if the width
    /// does not fit the kernel.
    pub(crate) fn layer_norm(
        &self,
        x: &Tensor,
        added: Option<&Tensor>,
        [weight, shift]: [&Tensor; 2],
        epsilon: f64,
    ) -> Option<(Tensor, Tensor)> {
        let width = *x.size().last()?;
        const THREADS: i64 = 128;
        let lanes = lanes(width)?;
        let (x, added) = (x.contiguous(), added.map(Tensor::contiguous));
        let rows = x.numel() as i64 / width;
        let sum = if added.is_some() { x.empty_like() } else { x.shallow_clone() };
        let y = x.empty_like();
        let addresses = [x.data_ptr(), address(added.as_ref()), sum.data_ptr()];
        let parameters = [weight.data_ptr(), shift.data_ptr(), y.data_ptr()];
        let (sizes, epsilon) = ([rows, width, lanes].map(|size| size as i32), epsilon as f32);
        let mut arguments = Arguments::new();
        addresses.iter().chain(&parameters).for_each(|address| _ = arguments.add(address));
        sizes.iter().for_each(|size| _ = arguments.add(size));
        arguments.add(&epsilon);
        let blocks = (rows * lanes + THREADS - 1) / THREADS;
        // Safety: as in `group_norm`.
        unsafe { self.launch(self.layer_norm, [blocks, 1], THREADS, 0, arguments) };
        Some((sum, y))
    }

    /// `a * gelu(b)` of `[.., 2 width]`, the halves of the last axis. `None` if the width does not fit the kernel.
    pub(crate) fn gated_gelu(&self, x: &Tensor) -> Option<Tensor> {
        let mut size = x.size();
        let last = size.last_mut()?;
        *last /= 2;
        let width = *last;
        if width % VECTOR != 0 {
            return None;
        }
        let x = x.contiguous();
        let y = Tensor::empty(&size, (x.kind(), x.device()));
        let (source, target) = (x.data_ptr(), y.data_ptr());
        let (count, wide) = (y.numel() as i64 / VECTOR, width as i32);
        let mut arguments = Arguments::new();
        arguments.add(&source).add(&target).add(&count).add(&wide);
        // Safety: as in `group_norm`.
        unsafe { self.each(self.gated_gelu, count, arguments) };
        Some(y)
    }

    /// `a + b`, each with its bias, of two channels-last tensors. `None` if the number of channels does not fit.
    pub(crate) fn sum(&self, a: &Pending, b: &Pending) -> Option<Tensor> {
        let channels = a.x.size()[1];
        if channels % VECTOR != 0 {
            return None;
        }
        let (left, right) = (channels_last(&a.x), channels_last(&b.x));
        let y = left.empty_like();
        let addresses = [left.data_ptr(), address(a.bias), right.data_ptr(), address(b.bias), y.data_ptr()];
        let (count, width) = (y.numel() as i64 / VECTOR, channels as i32);
        let mut arguments = Arguments::new();
        addresses.iter().for_each(|address| _ = arguments.add(address));
        arguments.add(&count).add(&width);
        // Safety: as in `group_norm`.
        unsafe { self.each(self.biased_sum, count, arguments) };
        Some(y)
    }

    /// Each pixel of a channels-last tensor four times, `[batch, channels, 2 height, 2 width]`. `None` if the number of
    /// channels does not fit.
    pub(crate) fn doubled(&self, x: &Tensor) -> Option<Tensor> {
        let [batch, channels, height, width] = x.size()[..] else { return None };
        if channels % VECTOR != 0 {
            return None;
        }
        let x = channels_last(x);
        let y = Tensor::empty([batch, 2 * height, 2 * width, channels], (x.kind(), x.device()));
        let (source, target, count) = (x.data_ptr(), y.data_ptr(), y.numel() as i64 / VECTOR);
        let sizes = [height, width, channels].map(|size| size as i32);
        let mut arguments = Arguments::new();
        arguments.add(&source).add(&target).add(&count);
        sizes.iter().for_each(|size| _ = arguments.add(size));
        // Safety: as in `group_norm`.
        unsafe { self.each(self.doubled, count, arguments) };
        Some(y.permute([0, 3, 1, 2]))
    }

    /// A launch of one thread for each of `count` vectors.
    unsafe fn each(&self, kernel: sys::CUfunction, count: i64, arguments: Arguments) {
        const WIDTH: i64 = 256;
        // Safety: the caller's.
        unsafe { self.launch(kernel, [(count + WIDTH - 1) / WIDTH, 1], WIDTH, 0, arguments) }
    }

    /// Enqueues a kernel on the stream that libtorch uses.
    ///
    /// # Panics
    /// The driver refuses the launch, as libtorch's own operations do then.
    unsafe fn launch(
        &self,
        kernel: sys::CUfunction,
        [across, down]: [i64; 2],
        threads: i64,
        shared: i64,
        mut arguments: Arguments,
    ) {
        let grid = (across as u32, down as u32, 1);
        let stream = self.library.current_stream().cast();
        // Safety: the caller's; the arguments are those of the kernel, in its order.
        let launched = unsafe {
            result::launch_kernel(kernel, grid, (threads as u32, 1, 1), shared as u32, stream, &mut arguments.0)
        };
        launched.unwrap_or_else(|error| panic!("a kernel of grid {grid:?} cannot be launched: {error}"));
    }
}

/// The addresses of a kernel's arguments.
struct Arguments<'a>(Vec<*mut c_void>, std::marker::PhantomData<&'a ()>);

impl<'a> Arguments<'a> {
    fn new() -> Arguments<'a> {
        Arguments(Vec::with_capacity(16), std::marker::PhantomData)
    }

    fn add<T>(&mut self, value: &'a T) -> &mut Arguments<'a> {
        self.0.push(std::ptr::from_ref(value).cast_mut().cast());
        self
    }
}

/// Where a tensor is, or null.
fn address(tensor: Option<&Tensor>) -> *mut c_void {
    tensor.map_or(std::ptr::null_mut(), Tensor::data_ptr)
}

/// Where a tensor `[batch or 1, channels]` is, and how far apart the rows of two images are.
fn strided(tensor: Option<&Tensor>) -> (*mut c_void, i64) {
    let stride = tensor.map_or(0, |tensor| if tensor.size()[0] == 1 { 0 } else { tensor.size()[1] });
    (address(tensor), stride)
}

/// Threads of a block: whole warps, and whole rows of `channels` numbers. `None` if no such number is small enough.
fn threads(channels: i64) -> Option<i64> {
    let vectors = channels / VECTOR;
    let fits = channels > 0 && channels % VECTOR == 0;
    (1..=THREADS / vectors.max(1)).rev().map(|rows| rows * vectors).find(|threads| fits && threads % 32 == 0)
}

/// Lanes of a warp for a row of `layer_norm`: as few as can hold it, so that none idles. `None` if no number can.
fn lanes(width: i64) -> Option<i64> {
    let vectors = width / VECTOR;
    [1, 2, 4, 8, 16, 32].into_iter().find(|lanes| width % VECTOR == 0 && vectors > 0 && vectors <= lanes * HELD)
}

/// Pixels of a block: so many that all images together give about `blocks` blocks, in whole passes of its rows.
fn share(pixels: i64, batch: i64, rows: i64, blocks: i64) -> i64 {
    let each = (pixels * batch + blocks - 1) / blocks;
    ((each + rows - 1) / rows * rows).max(rows)
}

/// The device's compute capability, as the compiler spells it: `compute_90`.
fn capability(ordinal: usize) -> Result<String, result::DriverError> {
    use sys::CUdevice_attribute_enum::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(ordinal as i32)?;
    // Safety: the device was just named by the driver.
    let of = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    Ok(format!("compute_{}{}", of(MAJOR)?, of(MINOR)?))
}

fn program(kind: Kind, architecture: &str) -> Result<Ptx, String> {
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    if kind == Kind::BFloat16 {
        options.push("--define-macro=BF16".into());
    }
    let name = Some("fused.cu".into());
    compile_ptx_with_opts(SOURCE, CompileOptions { options, name, ..CompileOptions::default() })
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_warps_of_whole_rows() {
        // The widths of Stable Diffusion's UNet (with those of concatenated skip connections) and VAE.
        for channels in [128, 256, 320, 512, 640, 960, 1280, 1920, 2560] {
            let threads = threads(channels).unwrap();
            assert!(threads % 32 == 0 && threads % (channels / VECTOR) == 0 && threads <= THREADS, "{channels}");
            let rows = threads / (channels / VECTOR);
            assert!(rows * channels * 8 <= 48 << 10, "{channels}: shared memory that every GPU has");
            for (pixels, batch) in [(4096, 2), (64, 2), (4096, 18), (1, 1), (262_144, 1)] {
                for blocks in [PARTS, BLOCKS] {
                    let share = share(pixels, batch, rows, blocks);
                    assert!(share % rows == 0 && share > 0);
                    assert!((pixels + share - 1) / share * batch <= blocks + batch, "{channels}, {pixels}, {batch}");
                }
            }
        }
        // 40, 80 and 160 vectors in fives, CLIP's 96 in sixes.
        assert_eq!([320, 640, 1280, 768, 8, 2048].map(lanes), [8, 16, 32, 16, 1, 32].map(Some));
        assert_eq!([4, 0, 2056, 12].map(lanes), [None; 4]);
        assert_eq!(threads(4), None);
        assert_eq!(threads(0), None);
        assert_eq!(threads(8 * 1024), None);
    }
}
