//! Attention on the CPU by our own kernels, where they are faster than libtorch's.
//!
//! The kernels differ in the processor's instructions that they use ([`Engine`]), which are looked for at run time. All
//! go the same way (`attention.rs`): for a block of queries, the keys go by in blocks; scores of one block at a time are
//! in memory, and each query's greatest score so far is kept, from which its exponentials are taken.

#![allow(unsafe_code)] // Hands the memory of tensors to the kernels; each use says why it is safe.
#![allow(clippy::needless_range_loop)] // Loops over arrays of registers are unrolled if the index alone drives them.
#![allow(clippy::wrong_self_convention)] // Registers are written `to_f32(&self, address)`, and are not moved for it.

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod lanes;
mod pool;
mod portable;
mod steps;
#[cfg(test)]
mod tests;

use attention::{Call, Place, attend};
use kernel::Kernel;
pub use pool::{Items, share};
use tch::{Device, Kind, Tensor};

/// A set of a CPU's instructions, and the attention kernel that uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Any processor's. Slower than libtorch.
    Portable,
    /// AVX2 and FMA, with products of f32.
    Avx2,
    /// AVX-512, with products of f32.
    Avx512,
    /// AVX-512 with AVX512_BF16, and products of bf16.
    Avx512Bf16,
    /// The same, with AMX's tiles for the products.
    Amx,
}

/// A number format of the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    Bf16,
}

impl Format {
    fn of(kind: Kind) -> Option<Format> {
        match kind {
            Kind::Float => Some(Format::F32),
            Kind::BFloat16 => Some(Format::Bf16),
            _ => None,
        }
    }

    fn bytes(self) -> isize {
        match self {
            Format::F32 => 4,
            Format::Bf16 => 2,
        }
    }
}

/// Features up to which our kernels are faster than libtorch's: they win at 160, and lose at the 512 of a VAE.
const MOST_FEATURES: usize = 256;

impl Engine {
    /// All, from the fastest.
    pub const ALL: [Engine; 5] = [Engine::Amx, Engine::Avx512Bf16, Engine::Avx512, Engine::Avx2, Engine::Portable];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Portable => "portable",
            Engine::Avx2 => "avx2",
            Engine::Avx512 => "avx512",
            Engine::Avx512Bf16 => "avx512-bf16",
            Engine::Amx => "amx",
        }
    }

    /// The engine of a name.
    pub fn named(name: &str) -> Option<Engine> {
        Engine::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Whether this CPU has it for a number format.
    pub fn computes(self, kind: Kind) -> bool {
        Format::of(kind).is_some_and(|format| self.kernel(format).is_some())
    }

    /// The kernel for tensors of a format. `None` if the processor lacks the instructions, or if products would be of
    /// another format than the tensors and less exact.
    fn kernel(self, format: Format) -> Option<&'static dyn Kernel> {
        match self {
            Engine::Portable => Some(&portable::Portable),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => Some(&avx2::Avx2),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512 if has_avx512() => Some(&avx512::Avx512),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512Bf16 if has_avx512_bf16() && format == Format::Bf16 => Some(&avx512::Avx512Bf16),
            #[cfg(target_arch = "x86_64")]
            Engine::Amx if has_avx512_bf16() && format == Format::Bf16 && amx::is_available() => Some(&amx::Amx),
            _ => None,
        }
    }

    /// Attention by this engine on as many threads as libtorch has, where it is faster than libtorch's own; otherwise, and
    /// where it cannot, `None`.
    pub(crate) fn attention_if_faster(self, q: &Tensor, k: &Tensor, v: &Tensor) -> Option<Tensor> {
        let [_, _, pixels, tokens, features] = Sizes::of(q, k, v)?.0.map(|size| size as usize);
        let queries = self.kernel(Format::of(q.kind())?)?.layout(tokens, features).queries;
        // A block costs the same with fewer queries. What belongs to queries of more features leaves the first cache.
        let pays = 2 * pixels >= queries * pixels.div_ceil(queries) && features <= MOST_FEATURES;
        if !pays {
            return None;
        }
        self.attention(q, k, v, tch::get_num_threads().max(1) as usize)
    }

    /// Attention by this engine, with scale `1 / sqrt(features)`: from `q` `[batch, heads, pixels, features]` to `k` and
    /// `v` `[batch, heads, tokens, features]`. `None` if the engine cannot: another device or format, another order of
    /// axes, gradients.
    ///
    /// Returns `[batch, heads, pixels, features]`, in memory `[batch, pixels, heads, features]`.
    pub(crate) fn attention(self, q: &Tensor, k: &Tensor, v: &Tensor, threads: usize) -> Option<Tensor> {
        let kernel = self.kernel(Format::of(q.kind())?)?;
        let sizes = Sizes::of(q, k, v)?;
        let [batch, heads, pixels, _, features] = sizes.0;
        let out = Tensor::empty([batch, pixels, heads, features], (q.kind(), Device::Cpu)).transpose(1, 2);
        let call = sizes.call([q, k, v, &out])?;
        // Safety: the engine is available, and the tensors live until the call returns.
        unsafe { attend(&call, kernel, threads) };
        Some(out)
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512_bf16() -> bool {
    has_avx512() && is_x86_feature_detected!("avx512bf16")
}

/// `[batch, heads, pixels, tokens, features]`, none zero.
struct Sizes([i64; 5]);

impl Sizes {
    /// The sizes, if these are tensors that can be read where they are.
    fn of(q: &Tensor, k: &Tensor, v: &Tensor) -> Option<Sizes> {
        let ([batch, heads, pixels, features], [_, _, tokens, _]) =
            (<[i64; 4]>::try_from(q.size()).ok()?, <[i64; 4]>::try_from(k.size()).ok()?);
        let of_keys = [batch, heads, tokens, features];
        let fits = k.size() == of_keys
            && v.size() == of_keys
            && [batch, heads, pixels, tokens, features].iter().all(|&n| n > 0);
        let readable = |x: &Tensor| {
            x.device() == Device::Cpu && x.kind() == q.kind() && !x.data_ptr().is_null() && !x.requires_grad()
        };
        (fits && [q, k, v].into_iter().all(readable)).then_some(Sizes([batch, heads, pixels, tokens, features]))
    }

    /// The call for tensors of these sizes.
    fn call(&self, [q, k, v, out]: [&Tensor; 4]) -> Option<Call> {
        let format = Format::of(q.kind())?;
        let place = |x: &Tensor| {
            let [batch, head, row, feature] = <[i64; 4]>::try_from(x.stride()).ok()?;
            let strides = [batch, head, row].map(|stride| stride as isize * format.bytes());
            (feature == 1 || x.size()[3] == 1).then_some(Place { start: x.data_ptr().cast(), strides })
        };
        let [batch, heads, pixels, tokens, features] = self.0.map(|size| size as usize);
        let (q, k, v, out) = (place(q)?, place(k)?, place(v)?, place(out)?);
        Some(Call { batch, heads, pixels, tokens, features, format, q, k, v, out })
    }
}
