//! The NVIDIA driver of the machine.

use super::Cuda;

/// The oldest driver, by its first number, that CUDA 13.0 runs on.
const OLDEST: u32 = 580;

/// The version of the kernel module of a driver, such as `580.65.06`. `None` if there is no driver.
fn version() -> Option<String> {
    version_in(&std::fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// The version in the words of the module: the first word that is made of numbers and dots.
fn version_in(text: &str) -> Option<String> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_version = |word: &&str| word.contains('.') && word.split('.').all(is_number);
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_string)
}

impl Cuda {
    /// Why no CUDA device can be used although the machine has a driver. `None` if one can be used, if there is no driver, and if
    /// `CUDA_VISIBLE_DEVICES` hides all devices.
    pub fn unusable(&self) -> Option<String> {
        match self {
            Cuda::Open(_) if self.devices() == 0 && !are_hidden() => Some(why(&version()?)),
            _ => None,
        }
    }
}

fn are_hidden() -> bool {
    std::env::var("CUDA_VISIBLE_DEVICES").is_ok_and(|visible| ["", "-1"].contains(&visible.trim()))
}

fn why(version: &str) -> String {
    match version.split('.').next().and_then(|first| first.parse::<u32>().ok()) {
        Some(first) if first < OLDEST => {
            format!("the NVIDIA driver is {version}, and libtorch for CUDA 13.0 needs {OLDEST} or newer")
        }
        _ => format!("the NVIDIA driver {version} is here, but no device answers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_driver_is_named_with_what_is_needed() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\nGCC version:  gcc 12.3.0\n";
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n";
        assert_eq!(version_in(closed).as_deref(), Some("535.183.01"));
        assert_eq!(version_in(open).as_deref(), Some("580.65.06"));
        for text in ["", "\n", "NVRM version: unknown", "1. .2 ."] {
            assert_eq!(version_in(text), None, "{text:?}");
        }
        assert_eq!(why("535.183.01"), "the NVIDIA driver is 535.183.01, and libtorch for CUDA 13.0 needs 580 or newer");
        assert_eq!(why("580.65.06"), "the NVIDIA driver 580.65.06 is here, but no device answers");
        assert_eq!(Cuda::Absent.unusable(), None);
    }
}
