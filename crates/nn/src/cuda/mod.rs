//! libtorch's CUDA library, opened at run time if it is in the folder of the libtorch in use.
//!
//! Nothing links `libtorch_cuda.so`, so one program runs on machines with and without CUDA. libtorch looks for CUDA
//! once, when it is first needed. Whatever may be the first to need it ([`seeded`](crate::seeded), the choice of a
//! device) calls [`cuda`] before.

#![allow(unsafe_code)] // dlopen, dladdr and five settings of libtorch that have no C interface; each says why it is safe

mod driver;
mod fused;
mod graph;
mod library;

pub(crate) use fused::Fused;
pub(crate) use graph::Graph;
use library::Library;

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tch::Device;

/// Whether libtorch's CUDA library is open.
#[derive(Debug)]
pub enum Cuda {
    /// There is no such library beside the libtorch in use.
    Absent,
    /// It is there and cannot be opened.
    Broken {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        cause: String,
    },
    /// It is open.
    Open(PathBuf),
}

/// Opens `libtorch_cuda.so` if there is one, and returns the result. Only the first call of a process does the work.
///
/// Afterwards convolutions and matrix products of f32 are computed in f32. By default libtorch runs convolutions in
/// TF32, whose ten bits of mantissa differ from a CPU's f32 by 1e-3.
pub fn cuda() -> &'static Cuda {
    static FOUND: OnceLock<Cuda> = OnceLock::new();
    FOUND.get_or_init(|| {
        let Some(path) = libtorch_cpu().and_then(|library| beside(&library)) else { return Cuda::Absent };
        match open(&path) {
            Ok(()) => {
                full_f32();
                Cuda::Open(path)
            }
            Err(cause) => Cuda::Broken { path, cause },
        }
    })
}

impl Cuda {
    /// How many CUDA devices can be used; 0 without the CUDA library.
    pub fn devices(&self) -> i64 {
        match self {
            Cuda::Open(_) => tch::Cuda::device_count(),
            Cuda::Absent | Cuda::Broken { .. } => 0,
        }
    }
}

/// The first CUDA device, if one can be used.
pub fn first_cuda() -> Option<Device> {
    (cuda().devices() > 0).then_some(Device::Cuda(0))
}

/// The libtorch_cpu that this process has loaded: the file that contains one of its functions.
fn libtorch_cpu() -> Option<PathBuf> {
    let function = global_context as *const c_void;
    // Safety: the function is linked, and `found` is written before it is read.
    let name = unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(function, &mut found) == 0 || found.dli_fname.is_null() {
            return None;
        }
        CStr::from_ptr(found.dli_fname).to_bytes().to_vec()
    };
    Some(PathBuf::from(OsStr::from_bytes(&name)))
}

/// The CUDA library in the folder of a libtorch_cpu, or in the folder of the file that it links to (`tools/setup` makes
/// such links).
fn beside(libtorch_cpu: &Path) -> Option<PathBuf> {
    let real = libtorch_cpu.canonicalize().ok();
    let files = [Some(libtorch_cpu.to_path_buf()), real].into_iter().flatten();
    files.map(|file| file.with_file_name("libtorch_cuda.so")).find(|path| path.is_file())
}

fn open(library: &Path) -> Result<(), String> {
    let name = CString::new(library.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // Safety: a dlopen of a library whose initialisers register CUDA kernels with libtorch; `dlerror` returns a string
    // or null.
    unsafe {
        if !libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            return Ok(());
        }
        let cause = libc::dlerror();
        Err(if cause.is_null() {
            "no cause given".into()
        } else {
            CStr::from_ptr(cause).to_string_lossy().into_owned()
        })
    }
}

/// Lets every operation on a CUDA device compute its sums in the same order each time, from now on. It is slower; a training
/// asks for it. Products of matrices also need the environment variable `CUBLAS_WORKSPACE_CONFIG=:4096:8` (cuBLAS's own
/// documentation, "Results reproducibility"); libtorch warns of what still has no fixed order.
pub fn fixed_order_on_cuda() {
    // Safety: three setters of at::Context, which is a static object; declared as in ATen/Context.h of libtorch 2.11.
    unsafe {
        let context = global_context();
        set_deterministic_cudnn(context, true);
        set_deterministic_algorithms(context, true, true);
        set_deterministic_fill(context, false); // that finds reads of memory that nothing wrote, and costs a kernel each
    }
}

/// Turns TF32 off for convolutions and matrix products.
fn full_f32() {
    // Safety: two setters of at::Context, which is a static object; declared as in ATen/Context.h of libtorch 2.11.
    unsafe {
        let context = global_context();
        set_allow_tf32_cudnn(context, false);
        set_allow_tf32_cublas(context, false);
    }
}

// Safety: the names and types of at::globalContext and of five methods of at::Context in ATen/Context.h of libtorch
// 2.11.
unsafe extern "C" {
    #[link_name = "_ZN2at13globalContextEv"]
    fn global_context() -> *mut c_void;
    #[link_name = "_ZN2at7Context17setAllowTF32CuDNNEb"]
    fn set_allow_tf32_cudnn(context: *mut c_void, allowed: bool);
    #[link_name = "_ZN2at7Context18setAllowTF32CuBLASEb"]
    fn set_allow_tf32_cublas(context: *mut c_void, allowed: bool);
    #[link_name = "_ZN2at7Context21setDeterministicCuDNNEb"]
    fn set_deterministic_cudnn(context: *mut c_void, on: bool);
    #[link_name = "_ZN2at7Context26setDeterministicAlgorithmsEbb"]
    fn set_deterministic_algorithms(context: *mut c_void, on: bool, warn_only: bool);
    #[link_name = "_ZN2at7Context39setDeterministicFillUninitializedMemoryEb"]
    fn set_deterministic_fill(context: *mut c_void, on: bool);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libtorch_in_use_is_found_and_its_settings_can_be_set() {
        let library = libtorch_cpu().unwrap();
        assert!(library.file_name().unwrap().to_string_lossy().starts_with("libtorch_cpu"), "{}", library.display());
        full_f32();
    }

    #[test]
    fn the_cuda_half_is_looked_for_beside_the_library_and_beside_what_it_is_a_link_to() {
        let folder = tempfile::tempdir().unwrap();
        let (own, real) = (folder.path().join("own"), folder.path().join("real"));
        for path in [&own, &real] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(real.join("libtorch_cpu.so"), b"").unwrap();
        std::os::unix::fs::symlink(real.join("libtorch_cpu.so"), own.join("libtorch_cpu.so")).unwrap();
        assert_eq!(beside(&own.join("libtorch_cpu.so")), None);
        std::fs::write(real.join("libtorch_cuda.so"), b"").unwrap();
        let found = beside(&own.join("libtorch_cpu.so")).unwrap();
        assert_eq!(found, real.canonicalize().unwrap().join("libtorch_cuda.so"));
        assert!(open(&found).unwrap_err().contains("libtorch_cuda.so"), "the loader says which file is no library");
        std::fs::write(own.join("libtorch_cuda.so"), b"").unwrap();
        assert_eq!(beside(&own.join("libtorch_cpu.so")), Some(own.join("libtorch_cuda.so")));
    }
}
