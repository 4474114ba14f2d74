//! CUDA graphs: a computation is recorded once and then launched as a whole, without the host's part in each kernel.

#![allow(unsafe_code)] // Calls the methods of at::cuda::CUDAGraph; each call says why it is safe.

use super::Library;
use super::library::Pool;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tch::Tensor;

/// A computation of one tensor from others, recorded on the device.
pub(crate) struct Graph {
    graph: Object,
    inputs: Vec<Tensor>,
    output: Tensor,
}

impl Graph {
    /// Records `compute` for inputs of these shapes. It must have run before, so that every kernel is loaded. `None` if
    /// it cannot be recorded.
    pub(crate) fn record(inputs: &[&Tensor], compute: impl FnOnce(&[Tensor]) -> Tensor) -> Option<Graph> {
        let library = Library::open()?;
        let stream = library.another_stream()?;
        let inputs: Vec<Tensor> = inputs.iter().map(|tensor| tensor.copy()).collect();
        let graph = Object::new(library);
        tch::Cuda::synchronize(0); // the recording's stream does not wait for the others
        let output = library.on_stream(stream, || {
            graph.begin();
            // A panic of libtorch must not leave the stream in the middle of a recording.
            let output = catch_unwind(AssertUnwindSafe(|| compute(&inputs)));
            graph.end();
            output.ok()
        })?;
        Some(Graph { graph, inputs, output })
    }

    /// The output for inputs of the recorded shapes.
    pub(crate) fn run(&mut self, inputs: &[&Tensor]) -> Tensor {
        for (own, given) in self.inputs.iter_mut().zip(inputs) {
            own.copy_(given);
        }
        self.graph.replay();
        self.output.copy() // the next run overwrites it
    }
}

/// An `at::cuda::CUDAGraph`.
struct Object {
    library: &'static Library,
    memory: Box<Memory>,
}

/// More memory than the object has members, in libtorch 2.11 fewer than 300 bytes.
#[repr(C, align(64))]
struct Memory([u8; 4096]);

impl Object {
    fn new(library: &'static Library) -> Object {
        let mut memory = Box::new(Memory([0; 4096]));
        // Safety: the constructor fills memory that is large enough, and that does not move.
        unsafe { (library.graph_new)(std::ptr::from_mut(&mut *memory).cast(), false) };
        Object { library, memory }
    }

    fn pointer(&self) -> *mut c_void {
        std::ptr::from_ref(&*self.memory).cast_mut().cast()
    }

    fn begin(&self) {
        /// cudaStreamCaptureModeThreadLocal: what other threads do at the same time does not disturb.
        const THREAD_LOCAL: i32 = 1;
        // Safety: a constructed object, on a stream that is not the default one.
        unsafe { (self.library.capture_begin)(self.pointer(), Pool::default(), THREAD_LOCAL) }
    }

    fn end(&self) {
        // Safety: after `begin`, on the same stream.
        unsafe { (self.library.capture_end)(self.pointer()) }
    }

    fn replay(&self) {
        // Safety: after `end`.
        unsafe { (self.library.replay)(self.pointer()) }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // Safety: a constructed object, dropped once.
        unsafe { (self.library.graph_delete)(self.pointer()) }
    }
}
