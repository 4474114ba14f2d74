//! The memory that libtorch's tensors are made in on a CPU.

/// Has the C library keep freed memory for the next tensors, up to 2 GiB at a time, instead of giving it back to the system. Large
/// tensors then do not cost a page fault for every 4 KiB each time that they are made, which is a tenth of the time of
/// Stable Diffusion's UNet. It holds for the whole process; a program calls it before it loads a model. Does nothing where
/// the C library is not glibc.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const GIB: libc::c_int = 1 << 30; // the largest power of two that fits
        const MIB: libc::c_int = 1 << 20;
        #[allow(unsafe_code)] // Safety: settings of the allocator, which it takes at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, GIB); // smaller blocks are not mappings of their own
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 * MIB);
        }
    }
}

/// Gives freed memory back to the system, for what is made next may be of other sizes, and has the C library do so from now on:
/// where memory is short, what [`keep_freed_memory`] gains is not worth what it keeps. Does nothing where the C library is not
/// glibc.
pub(crate) fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MIB: libc::c_int = 1 << 20;
        #[allow(unsafe_code)]
        // Safety: settings of the allocator, which it takes at any time; it touches only what is free.
        unsafe {
            // A larger tensor is a mapping of its own, whose addresses are given back with it.
            libc::mallopt(libc::M_MMAP_THRESHOLD, MIB);
            libc::mallopt(libc::M_TRIM_THRESHOLD, MIB);
            libc::mallopt(libc::M_TOP_PAD, MIB);
            libc::malloc_trim(0);
        }
    }
}
