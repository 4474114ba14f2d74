//! Memory that there is not enough of.

use crate::memory::give_back_freed_memory;
use std::any::Any;
use std::cell::Cell;
use std::fmt::{self, Display, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

/// A tensor that could not be made for want of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Where the tensor was to be.
    pub of: MemoryOf,
    /// The bytes that it needs, where libtorch says it.
    pub asked: Option<u64>,
    /// The bytes that there are in all, where that is known.
    pub total: Option<u64>,
    /// The bytes that are free, where that is known.
    pub free: Option<u64>,
}

/// What memory is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOf {
    /// The machine.
    Machine,
    /// The process, which the system has set a limit (`ulimit -v`).
    Process,
    /// A GPU.
    Gpu,
}

impl Display for Shortage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let size = |bytes: u64| match bytes as f64 / f64::from(1 << 20) {
            mib if mib < 1024.0 => format!("{mib:.1} MiB"),
            mib => format!("{:.1} GiB", mib / 1024.0),
        };
        let asked = self.asked.map_or_else(|| "more memory than there is".into(), size);
        let owner = match self.of {
            MemoryOf::Machine => "the machine has",
            MemoryOf::Process => "this process may have",
            MemoryOf::Gpu => "the GPU has",
        };
        write!(f, "out of memory: {asked} asked for")?;
        match (self.total, self.free) {
            (Some(total), Some(free)) => write!(f, ", {owner} {}, of which {} are free", size(total), size(free)),
            (Some(total), None) => write!(f, ", {owner} {}", size(total)),
            _ => Ok(()),
        }
    }
}

/// What libtorch, and the libraries that it calls, say where memory is missing.
const WORDS: [&str; 7] = [
    "can't allocate memory",            // libtorch on a CPU
    "not enough memory",                // the same, on Windows
    "out of memory",                    // libtorch on CUDA, and CUDA
    "std::bad_alloc",                   // C++
    "STATUS_ALLOC_FAILED",              // cuBLAS and cuDNN
    "HOST_ALLOCATION_FAILED",           // cuDNN
    "could not create a memory object", // oneDNN
];

/// What oneDNN says where it has no memory for its code. For an operation that it does not have it speaks of a primitive's descriptor.
const PRIMITIVE: &str = "could not create a primitive";
const DESCRIPTOR: &str = "could not create a primitive descriptor";

impl Shortage {
    /// The shortage that a message of libtorch speaks of, if it does.
    pub fn of(message: &str) -> Option<Shortage> {
        let no_code = message.contains(PRIMITIVE) && !message.contains(DESCRIPTOR);
        (no_code || WORDS.iter().any(|words| message.contains(words))).then(|| {
            let is_gpu = ["CUDA", "CUBLAS", "CUDNN"].iter().any(|word| message.contains(word));
            let asked = after(message, &["you tried to allocate ", "Tried to allocate "]);
            match is_gpu {
                true => Shortage {
                    of: MemoryOf::Gpu,
                    asked,
                    total: after(message, &["total capacity of "]),
                    free: after(message, &["of which "]),
                },
                false => of_cpu(asked),
            }
        })
    }
}

/// The bytes that follow one of these words: `123 bytes`, `1.50 GiB`.
fn after(message: &str, words: &[&str]) -> Option<u64> {
    let rest = words.iter().find_map(|word| Some(message.split_once(word)?.1))?;
    let mut parts = rest.split([' ', '.', ',', ';']).peekable();
    let mut number = parts.next()?.to_string();
    if parts.peek().is_some_and(|part| part.chars().all(|digit| digit.is_ascii_digit()) && !part.is_empty()) {
        number = format!("{number}.{}", parts.next()?);
    }
    let unit = match parts.next()?.trim_end() {
        "bytes" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * f64::from(1u32 << unit)) as u64)
}

/// A shortage on the CPU, with what the system says of its memory.
fn of_cpu(asked: Option<u64>) -> Shortage {
    let about = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |text: &str, key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
    };
    let (total, free) = (kib(&about, "MemTotal"), kib(&about, "MemAvailable"));
    match limit().filter(|limit| total.is_none_or(|total| *limit < total)) {
        Some(limit) => {
            let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let free = kib(&own, "VmSize").map(|used| limit.saturating_sub(used));
            Shortage { of: MemoryOf::Process, asked, total: Some(limit), free }
        }
        None => Shortage { of: MemoryOf::Machine, asked, total, free },
    }
}

/// How many bytes of addresses the process may have, if that is limited.
fn limit() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        #[allow(unsafe_code)] // Safety: it writes to the struct that it is given.
        let failed = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
        (failed == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Does work that makes tensors. Most of tch's functions panic where libtorch fails: such a panic is returned as the [`Shortage`] that it
/// speaks of, and is not printed. Every other panic goes on.
///
/// What `work` changes may be left half-done, so the caller drops it.
///
/// # Errors
/// A tensor could not be made for want of memory.
pub fn if_it_fits<T>(work: impl FnOnce() -> T) -> Result<T, Shortage> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !CATCHING.get() || shortage_in(panic.payload()).is_none() {
                before(panic);
            }
        }));
    });
    let outer = CATCHING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    done.map_err(|panic| {
        let shortage = shortage_in(&*panic).unwrap_or_else(|| resume_unwind(panic));
        give_back_freed_memory();
        shortage
    })
}

/// The shortage that a panic speaks of.
fn shortage_in(panic: &(dyn Any + Send)) -> Option<Shortage> {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    Shortage::of(message.or_else(|| panic.downcast_ref::<&str>().copied())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn messages_of_libtorch_are_read() {
        let gpu = "CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has a total capacity of 79.50 GiB of which 512.00 MiB is free. Including non-PyTorch memory, this process has 78 GiB memory in use.";
        let found = Shortage::of(gpu).unwrap();
        assert_eq!((found.of, found.asked, found.free), (MemoryOf::Gpu, Some(41 << 29), Some(512 << 20)));
        assert_eq!(
            found.to_string(),
            "out of memory: 20.5 GiB asked for, the GPU has 79.5 GiB, of which 512.0 MiB are free"
        );
        for message in
            ["CUDA error: out of memory", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"]
        {
            let found = Shortage::of(message).unwrap();
            assert_eq!((found.of, found.asked), (MemoryOf::Gpu, None), "{message}");
            assert_eq!(found.to_string(), "out of memory: more memory than there is asked for");
        }
        let cpu = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)";
        let found = Shortage::of(cpu).unwrap();
        assert_eq!((found.of, found.asked), (MemoryOf::Machine, Some(1 << 42)));
        assert!(found.to_string().starts_with("out of memory: 4096.0 GiB asked for"), "{found}");
        assert!(Shortage::of("std::bad_alloc").is_some() && Shortage::of("could not create a primitive").is_some());
        for other in [
            "",
            DESCRIPTOR,
            "The size of tensor a (3) must match",
            "memory format option is only supported by strided tensors",
        ] {
            assert_eq!(Shortage::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_tensor_that_fits_no_machine_is_an_error_and_other_panics_go_on() {
        let side = 1 << 25; // 4 PiB of f32, more than a processor can address
        let found = if_it_fits(|| Tensor::zeros([side, side], (Kind::Float, Device::Cpu)));
        assert_eq!(found.unwrap_err().asked, Some(1 << 52));
        assert_eq!(if_it_fits(|| 3), Ok(3));
        let other = catch_unwind(|| if_it_fits(|| Tensor::zeros([2], (Kind::Float, Device::Cpu)).view([3])));
        assert!(other.is_err(), "an error of shapes is none of memory");
    }
}
