//! The environment of OpenMP, put right before libtorch is loaded.
//!
//! libtorch computes on threads of libgomp, which by default spin for milliseconds at the end of every operation, waiting for the
//! next. On cores that other programs want too, a spinning thread takes the time that the thread it waits for would need:
//! everything slows down many times. A bounded spin costs nothing that can be measured on an idle machine. libgomp
//! reads its environment once, when it is loaded, which is before `main`. So the program starts itself again with
//! another environment if it must, and does so at the earliest moment: functions of `.preinit_array` are called before any
//! library initializes itself. That takes 10 ms; in `main` it would take the 0.4 s in which libtorch
//! initializes itself twice.

use crate::printer;
use latentrace::files::counted;
use latentrace::nn::{MOST_THREADS, all_threads, threads_in};
use std::ffi::{CStr, CString};

/// How often a waiting thread looks before it sleeps. What it gains beside busy cores is in `docs/bench/README.md`.
pub const SPIN: &str = "1000";

/// Where a value of `OMP_NUM_THREADS` is kept that is no number of threads. libgomp would tell of it in its own way, or
/// believe it.
const UNUSABLE: &str = "LATENTRACE_OMP_NUM_THREADS";

/// Warns of a value of `OMP_NUM_THREADS` that is no number of threads.
pub fn warn() {
    let value = std::env::var(UNUSABLE).ok().filter(|value| !value.is_empty());
    if let Some(value) = value {
        printer::warn(format_args!(
            "OMP_NUM_THREADS={value}: not a number of threads from 1 to {MOST_THREADS}, so it is left out: large networks run on {}, small ones on one",
            counted(all_threads(), "thread")
        ));
    }
}

/// How OpenMP's threads wait, in words.
pub fn waiting() -> String {
    let set = |name: &str| std::env::var(name).ok();
    match (set("GOMP_SPINCOUNT"), set("OMP_WAIT_POLICY")) {
        (Some(count), _) => format!("a thread looks {count} times for work, then sleeps (GOMP_SPINCOUNT)"),
        (None, Some(policy)) => format!("a thread waits as OMP_WAIT_POLICY={policy} says"),
        (None, None) if all_threads() == 1 => "there is one thread: it waits for no other".into(),
        (None, None) => {
            format!("a thread spins for milliseconds, so runs are slow on busy cores\nhint: set GOMP_SPINCOUNT={SPIN}")
        }
    }
}

/// The environment to start again with, if another one is needed. Starting with that one needs no other.
fn needed(given: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    let value = |name: &str| given.iter().find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let mut lines: Vec<Vec<u8>> = given.iter().map(|line| line.to_vec()).collect();
    let threads = value("OMP_NUM_THREADS");
    let count = threads.and_then(|value| threads_in(str::from_utf8(value).ok()?));
    if let (Some(value), None) = (threads, count) {
        lines
            .retain(|line| !line.starts_with(b"OMP_NUM_THREADS=") && !line.starts_with(b"LATENTRACE_OMP_NUM_THREADS="));
        lines.push([UNUSABLE.as_bytes(), b"=", value].concat());
    }
    let waits = value("GOMP_SPINCOUNT").is_some() || value("OMP_WAIT_POLICY").is_some();
    // A single thread waits for no other.
    if !waits && count != Some(1) {
        lines.push(format!("GOMP_SPINCOUNT={SPIN}").into());
    }
    (lines != given).then_some(lines)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod before_main {
    #![allow(unsafe_code)] // each says why it is safe
    use super::*;
    use libc::{c_char, c_int};

    /// Called by the dynamic loader, with the arguments and the environment of `main`.
    // Safety: the section has functions of this type, and the loader calls each once, on the only thread.
    #[used]
    #[unsafe(link_section = ".preinit_array")]
    static FIRST: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = start_again;

    extern "C" fn start_again(_: c_int, arguments: *const *const c_char, environment: *const *const c_char) {
        // Safety: the loader gives both arrays as the kernel made them.
        let lines = unsafe { listed(environment) };
        let Some(lines) = needed(&lines) else { return };
        let lines: Vec<CString> = lines.into_iter().filter_map(|line| CString::new(line).ok()).collect();
        let mut environment: Vec<*const c_char> = lines.iter().map(|line| line.as_ptr()).collect();
        environment.push(std::ptr::null());
        let Some(program) = this_program() else { return };
        // Safety: the path and each line end with a zero, and both arrays with a null. If it returns, nothing has changed.
        unsafe { libc::execve(program.as_ptr(), arguments, environment.as_ptr()) };
    }

    /// The strings of an array that ends with a null.
    ///
    /// # Safety
    /// The array is one of C strings that live as long as the process, and ends with a null.
    unsafe fn listed(array: *const *const c_char) -> Vec<&'static [u8]> {
        // Safety: all places before the null are of C strings.
        let at = |place| unsafe { (*array.add(place)).as_ref().map(|string| CStr::from_ptr(string).to_bytes()) };
        (0..).map_while(at).collect()
    }

    /// The path of this program. The name /proc/self/exe would do, but then the process would be called `exe`.
    fn this_program() -> Option<CString> {
        let mut path = vec![0u8; libc::PATH_MAX as usize];
        // Safety: at most so many bytes are written as there are.
        let length = unsafe { libc::readlink(c"/proc/self/exe".as_ptr(), path.as_mut_ptr().cast(), path.len()) };
        path.truncate(usize::try_from(length).ok()?);
        CString::new(path).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(given: &[&str]) -> Option<Vec<String>> {
        let bytes: Vec<&[u8]> = given.iter().map(|line| line.as_bytes()).collect();
        let lines = needed(&bytes)?;
        let again: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        assert_eq!(needed(&again), None, "the program would start again and again");
        Some(lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect())
    }

    #[test]
    fn tests_and_benches_wait_as_the_program_does() {
        let config = include_str!("../../../.cargo/config.toml");
        assert!(config.contains(&format!("GOMP_SPINCOUNT = \"{SPIN}\"\n")));
    }

    #[test]
    fn what_is_set_stays_and_what_is_needed_is_added() {
        let spin = format!("GOMP_SPINCOUNT={SPIN}");
        assert_eq!(from(&["A=b"]), Some(vec!["A=b".into(), spin.clone()]));
        assert_eq!(from(&["OMP_NUM_THREADS=4"]), Some(vec!["OMP_NUM_THREADS=4".into(), spin.clone()]));
        for set in ["OMP_NUM_THREADS=1", "GOMP_SPINCOUNT=7", "OMP_WAIT_POLICY=active", "OMP_WAIT_POLICY=passive"] {
            assert_eq!(from(&["A=b", set]), None, "{set}");
        }
    }

    #[test]
    fn a_number_of_threads_that_is_none_is_kept_under_another_name() {
        for value in ["abc", "0", "-3", "999999", ""] {
            let (line, kept) = (format!("OMP_NUM_THREADS={value}"), format!("LATENTRACE_OMP_NUM_THREADS={value}"));
            let spin = format!("GOMP_SPINCOUNT={SPIN}");
            assert_eq!(from(&["A=b", &line]), Some(vec!["A=b".into(), kept.clone(), spin]));
            assert_eq!(from(&[&line, "OMP_WAIT_POLICY=active"]), Some(vec!["OMP_WAIT_POLICY=active".into(), kept]));
        }
    }
}
