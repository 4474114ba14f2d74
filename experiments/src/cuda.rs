//! libtorch's CUDA half, opened at start where there is one.

use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Opens `libtorch_cuda.so` if it is found, so that one program serves machines with and without CUDA. Says what it
/// found; a library that does not open is not an error, for the CPU still works.
pub fn open() -> Cuda {
    let Some(path) = library() else { return Cuda::Absent };
    let Ok(name) = CString::new(path.as_os_str().as_encoded_bytes()) else { return Cuda::Absent };
    #[allow(unsafe_code)] // Safety: a plain dlopen of a library whose initialisers register CUDA kernels with libtorch.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() { Cuda::Broken(path) } else { Cuda::Open(path) }
}

/// What became of libtorch's CUDA half.
pub enum Cuda {
    /// There is none here.
    Absent,
    /// It is there and does not open.
    Broken(PathBuf),
    /// It is open.
    Open(PathBuf),
}

/// Beside libtorch, or where the set-up noted that it lies.
fn library() -> Option<PathBuf> {
    let torch = crate::models::home()?.join(".libtorch");
    let noted = std::fs::read_to_string(torch.join("cuda-lib")).ok();
    let folders = [Some(torch.join("lib")), noted.map(|line| Path::new(line.trim()).to_path_buf())];
    folders.into_iter().flatten().map(|folder| folder.join("libtorch_cuda.so")).find(|path| path.is_file())
}
