//! The folder of a submitted job in a store: which cells each task makes, and the scripts that make them.

use anyhow::{Context, Result};
use latentrace::files::{create_folder, replace_unsynced};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a job runs, as absolute paths: it may start in any folder.
pub struct Job {
    /// The name of the experiment.
    pub name: String,
    /// The program and its arguments, but for the part of the cells.
    pub command: Vec<String>,
    /// The folder that it is called in.
    pub directory: PathBuf,
    /// The folder of its files.
    pub folder: PathBuf,
    /// The keys of the cells of each task.
    pub tasks: Vec<Vec<String>>,
    /// How many threads a cell needs.
    pub threads: usize,
}

impl Job {
    /// Makes a folder for the next job of a store. Of two jobs that are submitted at once each gets its own.
    ///
    /// # Errors
    /// The store's folder cannot be read or written.
    pub fn new_folder(root: &Path) -> Result<PathBuf> {
        let jobs = root.join("jobs");
        create_folder(&jobs)?;
        let mut number = Job::next(root)?;
        loop {
            let folder = jobs.join(number.to_string());
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok(folder),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1, // another process was first
                Err(error) => return Err(error).with_context(|| folder.display().to_string()),
            }
        }
    }

    /// The folder that the next job of a store would have. It is not made.
    ///
    /// # Errors
    /// The store's folder cannot be read.
    pub fn next_folder(root: &Path) -> Result<PathBuf> {
        Ok(root.join("jobs").join(Job::next(root)?.to_string()))
    }

    /// One more than the highest number of a job in a store.
    fn next(root: &Path) -> Result<u64> {
        let jobs = root.join("jobs");
        let entries = match std::fs::read_dir(&jobs) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| jobs.display().to_string()),
        };
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let last = names.filter_map(|name| name.to_string_lossy().parse::<u32>().ok()).max().unwrap_or(0);
        Ok(u64::from(last) + 1)
    }

    /// The file with a line of keys for each task.
    pub fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// The script of a task.
    pub fn script(&self) -> PathBuf {
        self.folder.join("task.sh")
    }

    /// The script that draws figures and tables at the end.
    pub fn gather(&self) -> PathBuf {
        self.folder.join("gather.sh")
    }

    /// The text of the script of a task. The engine says which task it is: HyperQueue by the line itself, Slurm by its number.
    pub fn script_text(&self, header: &str) -> String {
        format!(
            "#!/bin/bash\n{header}set -euo pipefail\ncd {}\nline=${{HQ_ENTRY:-$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" {})}}\n\
             read -ra keys <<<\"$line\"\nexec {} --retry --only \"${{keys[@]}}\"\n",
            quoted(&self.directory.to_string_lossy()),
            quoted(&self.keys().to_string_lossy()),
            joined(&self.command)
        )
    }

    /// The text of the script that gathers.
    pub fn gather_text(&self, header: &str) -> String {
        let directory = quoted(&self.directory.to_string_lossy());
        format!("#!/bin/bash\n{header}set -euo pipefail\ncd {directory}\nexec {} --gather\n", joined(&self.command))
    }

    /// Writes the keys and both scripts.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, header: &str, gather_header: &str) -> Result<()> {
        create_folder(&self.folder)?;
        let lines: String = self.tasks.iter().map(|keys| keys.join(" ") + "\n").collect();
        replace_unsynced(&self.keys(), lines.as_bytes())?;
        replace_unsynced(&self.script(), self.script_text(header).as_bytes())?;
        replace_unsynced(&self.gather(), self.gather_text(gather_header).as_bytes())?;
        Ok(())
    }
}

/// Words as a line of a shell.
pub fn joined(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,@%+".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Cells in tasks of so many each.
pub fn tasks(keys: Vec<String>, each: usize) -> Vec<Vec<String>> {
    keys.chunks(each.max(1)).map(<[String]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_shell_reads_every_word_back() {
        for word in ["plain", "", "a b", "it's", "$HOME `id` \"x\" \\ *", "-x=1", "two\nlines", "é😀"] {
            let output = Command::new("bash").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn jobs_that_are_submitted_at_once_get_folders_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let new = || Job::new_folder(folder.path()).unwrap();
        let made: Vec<PathBuf> =
            std::thread::scope(|scope| [(); 8].map(|()| scope.spawn(new)).map(|thread| thread.join().unwrap()).into());
        let distinct: std::collections::BTreeSet<&PathBuf> = made.iter().collect();
        assert!(distinct.len() == 8 && made.iter().all(|folder| folder.is_dir()), "{made:?}");
        std::fs::write(folder.path().join("jobs/20"), "").unwrap();
        assert_eq!(new(), folder.path().join("jobs/21"));
        assert_eq!(Job::next_folder(folder.path()).unwrap(), folder.path().join("jobs/22"));
    }

    #[test]
    fn every_task_gets_its_line_from_both_engines() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<String> = (0..5).map(|key| format!("{key:016x}")).collect();
        let job = Job {
            name: "it's".into(),
            command: ["printf".into(), "<%s>".into(), "a b".into()].into(),
            directory: folder.path().into(),
            folder: Job::new_folder(folder.path()).unwrap(),
            tasks: tasks(keys.clone(), 2),
            threads: 1,
        };
        job.write("#SBATCH --x\n", "").unwrap();
        assert_eq!(Job::next_folder(folder.path()).unwrap(), folder.path().join("jobs/2"));
        let run = |name: &str, value: &str| {
            let output = Command::new("bash").arg(job.script()).env(name, value).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let expected = format!("<a b><--retry><--only><{}><{}>", keys[2], keys[3]);
        assert_eq!(run("SLURM_ARRAY_TASK_ID", "1"), expected);
        assert_eq!(run("HQ_ENTRY", &format!("{} {}", keys[2], keys[3])), expected);
        assert_eq!(run("SLURM_ARRAY_TASK_ID", "2"), format!("<a b><--retry><--only><{}>", keys[4]));
        let gathered = Command::new("bash").arg(job.gather()).output().unwrap();
        assert_eq!(gathered.stdout, b"<a b><--gather>");
    }
}
