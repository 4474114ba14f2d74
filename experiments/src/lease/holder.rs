//! A process that holds leases, told apart from every other one on any machine.

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A process: a process id is used again after a restart, and means another process in another container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The name of its machine, for people.
    pub host: String,
    /// The id of the process.
    pub pid: u32,
    /// The start of the machine (its boot id), and the namespace in which the id of the process counts. Empty if not known.
    #[serde(default)]
    system: String,
    /// When the process began, in ticks since the start of the machine.
    #[serde(default)]
    began: u64,
    /// Chosen at random, for machines that are copies of each other.
    #[serde(default)]
    token: u64,
}

/// What this process can tell of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs here, or is stopped here and can go on.
    Running,
    /// It ran here, and has ended.
    Ended,
    /// It runs on another machine or in another container, or is hidden.
    Unknown,
}

impl Holder {
    /// This process.
    pub fn this() -> &'static Holder {
        static THIS: LazyLock<Holder> = LazyLock::new(|| {
            let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
            let space = std::fs::read_link("/proc/self/ns/pid").ok();
            let system = boot.zip(space).map(|(boot, space)| format!("{} {}", boot.trim(), space.display()));
            let pid = std::process::id();
            Holder {
                host,
                pid,
                system: system.unwrap_or_default(),
                began: began(pid).unwrap_or_default(),
                token: random(),
            }
        });
        &THIS
    }

    /// A word that no other process has, fit for the name of a file.
    pub(super) fn distinct(&self) -> String {
        format!("{}-{}-{}-{:016x}", self.pid, self.began, self.mark(), self.token)
    }

    /// Whether the process still runs whose [`Holder::distinct`] begins a text.
    pub(super) fn life_of(distinct: &str) -> Life {
        let this = Holder::this();
        let mut parts = distinct.split('-');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let (pid, began) = (number().and_then(|pid| u32::try_from(pid).ok()), number());
        match (pid, began, parts.next()) {
            (Some(pid), Some(began), Some(mark)) if mark == this.mark() => Holder { pid, began, ..this.clone() }.life(),
            _ => Life::Unknown,
        }
    }

    /// A short name of the machine and the container.
    fn mark(&self) -> String {
        blake3::hash(self.system.as_bytes()).to_hex()[..16].into()
    }

    /// Whether it still runs.
    pub(super) fn life(&self) -> Life {
        let this = Holder::this();
        if self.system.is_empty() || self.system != this.system {
            return Life::Unknown;
        }
        match began(self.pid) {
            Some(began) if began == self.began => Life::Running,
            Some(_) => Life::Ended, // another process has its id
            None if is_hidden(self.pid) => Life::Unknown,
            None => Life::Ended,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => f.write_str("a process"), // which has not written yet who it is
            pid => write!(f, "process {pid} on {}", self.host),
        }
    }
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// When a process of this machine began; nothing if there is none, or only what its parent has not yet asked for.
fn began(pid: u32) -> Option<u64> {
    let about = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = about.rsplit_once(") ")?.1.split(' ').collect(); // the name of the program may have blanks
    let is_left_over = matches!(fields.first(), Some(&("Z" | "X")));
    fields.get(19).filter(|_| !is_left_over)?.parse().ok()
}

/// Whether there may be a process about which nothing can be read: `/proc` may show only the processes of one's own.
fn is_hidden(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let is_gone = |pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
    let is_left_over = |pid: Pid| std::fs::exists(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or(false);
    pid.is_some_and(|pid| !is_gone(pid) && !is_left_over(pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_running_until_it_ends() {
        assert_eq!(Holder::this().life(), Life::Running);
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id();
        let holder = Holder { pid, began: began(pid).unwrap(), ..Holder::this().clone() };
        assert_eq!(holder.life(), Life::Running);
        child.kill().unwrap();
        while began(pid).is_some() {} // it has ended, and nobody has asked how
        assert_eq!(holder.life(), Life::Ended);
        child.wait().unwrap();
        assert_eq!(holder.life(), Life::Ended);
    }

    #[test]
    fn a_name_of_a_process_says_whether_it_runs() {
        let this = Holder::this();
        assert_eq!(Holder::life_of(&format!("{}-7", this.distinct())), Life::Running);
        let other = Holder { began: this.began + 1, ..this.clone() };
        assert_eq!(Holder::life_of(&other.distinct()), Life::Ended);
        let elsewhere = Holder { system: "another start of it".into(), ..this.clone() };
        assert_eq!(Holder::life_of(&elsewhere.distinct()), Life::Unknown);
        assert_eq!(Holder::life_of("x"), Life::Unknown);
    }

    #[test]
    fn an_id_that_another_process_has_now_is_not_it() {
        let this = Holder::this().clone();
        assert_eq!(Holder { began: this.began + 1, ..this }.life(), Life::Ended);
    }

    #[test]
    fn of_another_machine_or_container_nothing_is_known() {
        let this = Holder::this().clone();
        for system in ["", "another start of it"] {
            assert_eq!(Holder { system: system.into(), ..this.clone() }.life(), Life::Unknown, "{system}");
        }
    }

    #[test]
    fn the_text_in_a_lease_is_read_again() {
        let this = Holder::this();
        let text = serde_json::to_string(this).unwrap();
        assert_eq!(&serde_json::from_str::<Holder>(&text).unwrap(), this);
        assert!(this.to_string().starts_with(&format!("process {} on ", std::process::id())));
    }
}
