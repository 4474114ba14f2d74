//! What libtorch's CUDA library exports in C and what is called of its C++, found by name when it is open.

#![allow(unsafe_code)] // Functions found by their names; their types are those of libtorch 2.11's headers.

use super::{Cuda, cuda};
use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// The functions, with the types that `aoti_torch/c/shim.h`, `stable/c/shim.h` and `ATen/cuda/CUDAGraph.h` of libtorch
/// 2.11 declare. What returns a number returns 0 if it succeeds. What is `C-unwind` is C++ that may throw.
pub(crate) struct Library {
    current_stream: unsafe extern "C" fn(i32, *mut *mut c_void) -> i32,
    set_stream: unsafe extern "C" fn(*mut c_void, i32) -> i32,
    stream_of_pool: unsafe extern "C" fn(bool, i32, *mut *mut c_void) -> i32,
    /// `at::cuda::CUDAGraph::CUDAGraph(bool keep_graph)`
    pub(super) graph_new: unsafe extern "C-unwind" fn(*mut c_void, bool),
    /// `at::cuda::CUDAGraph::~CUDAGraph()`
    pub(super) graph_delete: unsafe extern "C-unwind" fn(*mut c_void),
    /// `at::cuda::CUDAGraph::capture_begin(MempoolId_t, cudaStreamCaptureMode)`
    pub(super) capture_begin: unsafe extern "C-unwind" fn(*mut c_void, Pool, i32),
    /// `at::cuda::CUDAGraph::capture_end()`
    pub(super) capture_end: unsafe extern "C-unwind" fn(*mut c_void),
    /// `at::cuda::CUDAGraph::replay()`
    pub(super) replay: unsafe extern "C-unwind" fn(*mut c_void),
}

/// `c10::MempoolId_t`, a pair of numbers. Two zeros ask for a new pool.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Pool(u64, u64);

/// The only device that Latentrace uses.
const DEVICE: i32 = 0;

impl Library {
    /// The functions of the library that this process has open. `None` if it has none open, or one that lacks a
    /// function.
    pub(crate) fn open() -> Option<&'static Library> {
        static FOUND: OnceLock<Option<Library>> = OnceLock::new();
        FOUND.get_or_init(Library::find).as_ref()
    }

    fn find() -> Option<Library> {
        let Cuda::Open(_) = cuda() else { return None };
        // Safety: each type is that of the function of this name.
        unsafe {
            Some(Library {
                current_stream: function(c"aoti_torch_get_current_cuda_stream")?,
                set_stream: function(c"torch_set_current_cuda_stream")?,
                stream_of_pool: function(c"torch_get_cuda_stream_from_pool")?,
                graph_new: function(c"_ZN2at4cuda9CUDAGraphC1Eb")?,
                graph_delete: function(c"_ZN2at4cuda9CUDAGraphD1Ev")?,
                capture_begin: function(c"_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode")?,
                capture_end: function(c"_ZN2at4cuda9CUDAGraph11capture_endEv")?,
                replay: function(c"_ZN2at4cuda9CUDAGraph6replayEv")?,
            })
        }
    }

    /// Opens the compiler of kernels (NVRTC) that libtorch brings, so that it is found by its name.
    pub(super) fn open_compiler(&self) {
        let Cuda::Open(path) = cuda() else { return };
        let beside = path.with_file_name("libcaffe2_nvrtc.so"); // links to the compiler, wherever that is
        let Ok(name) = CString::new(beside.as_os_str().as_bytes()) else { return };
        // Safety: a library without initialisers of its own. If it is not there, the compiler may still be found.
        unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    }

    /// The stream that libtorch's operations go to in this thread.
    pub(super) fn current_stream(&self) -> *mut c_void {
        let mut stream = std::ptr::null_mut();
        // Safety: the stream is written before it is read. Without a current stream it is the default one, null.
        unsafe { (self.current_stream)(DEVICE, &mut stream) };
        stream
    }

    /// A stream beside the default one. `None` if libtorch refuses.
    pub(super) fn another_stream(&self) -> Option<*mut c_void> {
        let mut stream = std::ptr::null_mut();
        // Safety: the stream belongs to libtorch's pool and lives as long as the process.
        let failed = unsafe { (self.stream_of_pool)(false, DEVICE, &mut stream) };
        (failed == 0 && !stream.is_null()).then_some(stream)
    }

    /// Does `work` while libtorch's operations go to a stream.
    pub(super) fn on_stream<T>(&self, stream: *mut c_void, work: impl FnOnce() -> T) -> T {
        /// Puts the stream back, also when `work` panics.
        struct Back<'a>(&'a Library, *mut c_void);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                // Safety: the stream was current before.
                unsafe { (self.0.set_stream)(self.1, DEVICE) };
            }
        }
        let _back = Back(self, self.current_stream());
        // Safety: a stream of libtorch.
        unsafe { (self.set_stream)(stream, DEVICE) };
        work()
    }
}

/// The function of a name in the libraries that are open.
///
/// # Safety
/// `F` is the type of that function.
unsafe fn function<F: Copy>(name: &CStr) -> Option<F> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // Safety: a look-up by name; a function's address has the size of a pointer.
    unsafe {
        let address = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        (!address.is_null()).then(|| std::mem::transmute_copy(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_its_name_or_is_none() {
        // Safety: the type of `getpid`.
        let own: Option<unsafe extern "C" fn() -> i32> = unsafe { function(c"getpid") };
        // Safety: as above.
        assert_eq!(unsafe { own.unwrap()() }, std::process::id() as i32);
        // Safety: there is no such function.
        assert!(unsafe { function::<unsafe extern "C" fn()>(c"no_such_function_anywhere") }.is_none());
    }
}
