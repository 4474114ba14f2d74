//! HyperQueue: a task for each line of keys.

use super::asked::Asked;
use super::job::{Job, joined, quoted};
use crate::printer::line;
use anyhow::{Context, Result, anyhow, ensure};
use std::io::ErrorKind;
use std::process::{Command, Stdio};

/// What HyperQueue is asked for, for each task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The longest time that it may take.
    seconds: Option<u64>,
    /// How many GPUs of NVIDIA.
    gpus: Option<u32>,
    /// Memory in MiB, the unit of HyperQueue from its version 0.17 on.
    mebibytes: Option<u64>,
}

impl Request {
    /// What is asked for in the words of Slurm.
    ///
    /// # Errors
    /// HyperQueue has nothing like an option or its value: the error names both.
    pub fn of(asked: &Asked) -> Result<Request> {
        let hint = "leave it out: a task of HyperQueue can have --time, --gres gpu:N and --memory";
        asked.check_only(&["--time", "--gres", "--memory"], "HyperQueue", hint)?;
        let seconds = read("--time", asked.time.as_deref(), seconds, "minutes, 02:00:00 or 1-12:00:00")?;
        let gpus = read("--gres", asked.gres.as_deref(), gpus, "gpu:1, or another number of GPUs of any type")?;
        let mebibytes = read("--memory", asked.memory.as_deref(), mebibytes, "8G, or MiB without a letter")?;
        Ok(Request { seconds, gpus, mebibytes })
    }

    /// The options of `hq submit`.
    fn options(self) -> Vec<String> {
        let time = self.seconds.map(|seconds| ["--time-limit".into(), format!("{seconds}s")]);
        let resource = |what: String| ["--resource".into(), what];
        let gpus = self.gpus.map(|count| resource(format!("gpus/nvidia={count}")));
        let memory = self.mebibytes.map(|size| resource(format!("mem={size}")));
        [time, gpus, memory].into_iter().flatten().flatten().collect()
    }
}

/// Reads the value of an option, if it was given.
fn read<T>(option: &str, value: Option<&str>, parse: fn(&str) -> Option<T>, example: &str) -> Result<Option<T>> {
    let parsed = |value| {
        parse(value).with_context(|| format!("{option} {value}: HyperQueue has nothing like it\nhint: {example}"))
    };
    value.map(parsed).transpose()
}

/// The seconds of a time as Slurm reads it: minutes, `minutes:seconds`, `hours:minutes:seconds`, or days and a hyphen before
/// `hours`, `hours:minutes` or `hours:minutes:seconds`.
fn seconds(time: &str) -> Option<u64> {
    let (days, rest) = match time.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, time),
    };
    let parts: Vec<u64> = rest.split(':').map(number).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = match (days, parts.as_slice()) {
        (_, &[hours, minutes, seconds]) => [hours, minutes, seconds],
        (Some(_), &[hours, minutes]) => [hours, minutes, 0],
        (Some(_), &[hours]) => [hours, 0, 0],
        (None, &[minutes, seconds]) => [0, minutes, seconds],
        (None, &[minutes]) => [0, minutes, 0],
        _ => return None,
    };
    let all = ((days.unwrap_or(0) * 24 + hours) * 60 + minutes) * 60 + seconds;
    (all > 0).then_some(all)
}

/// The number of GPUs in a resource of Slurm, `gpu` or `gpu:2`.
fn gpus(gres: &str) -> Option<u32> {
    let count = match gres.strip_prefix("gpu")? {
        "" => 1,
        rest => number(rest.strip_prefix(':')?)?,
    };
    u32::try_from(count).ok().filter(|count| *count > 0)
}

/// The MiB of a size as Slurm reads it: a whole number, and a letter for its unit.
fn mebibytes(size: &str) -> Option<u64> {
    let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let count = number(digits)?;
    let found = match &size[digits.len()..] {
        "K" | "k" => count.div_ceil(1024),
        "" | "M" | "m" => count,
        "G" | "g" => count << 10,
        "T" | "t" => count << 20,
        _ => return None,
    };
    (found > 0).then_some(found)
}

/// A number of digits alone, small enough to be multiplied.
fn number(digits: &str) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse::<u32>().ok().filter(|_| is_plain).map(u64::from)
}

/// The command that submits the tasks.
pub fn submit_command(job: &Job, request: Request) -> Vec<String> {
    let path = |path: std::path::PathBuf| path.display().to_string();
    let logs = format!("{}/%{{TASK_ID}}.log", job.folder.display());
    let mut words =
        ["hq", "submit", "--name", &job.name, "--cpus", &job.threads.to_string()].map(String::from).to_vec();
    words.extend(request.options());
    words.extend(["--stdout", &logs, "--stderr", &logs, "--each-line"].map(String::from));
    words.extend([path(job.keys()), "bash".into(), path(job.script())]);
    words
}

/// Submits the tasks if `hq` is there, and prints the commands that remain.
///
/// # Errors
/// `hq` refuses the job.
pub fn submit(job: &Job, request: Request) -> Result<()> {
    let command = submit_command(job, request);
    let gather = |id: &str| format!("hq job wait {id} && bash {}", quoted(&job.gather().to_string_lossy()));
    match Command::new(&command[0]).args(&command[1..]).stderr(Stdio::inherit()).output() {
        Ok(output) => {
            let printed = String::from_utf8_lossy(&output.stdout);
            line!("{}", printed.trim_end());
            ensure!(output.status.success(), "{}: {}", joined(&command), output.status);
            match id_of(&printed) {
                Some(id) => line!("then: {}", gather(&id)),
                None => line!("then, with the id of the job in place of ID: {}", gather("ID")),
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            line!(
                "hq is not on PATH here. Where it is, call, with the id that the first command prints in place of ID:"
            );
            line!("{}", joined(&command));
            line!("{}", gather("ID"));
            Ok(())
        }
        Err(error) => Err(anyhow!("hq: {error}")),
    }
}

/// The id in what `hq submit` prints, such as `Job submitted successfully, job ID: 7`, or in `7` alone.
fn id_of(printed: &str) -> Option<String> {
    let plain = printed.trim();
    let after = plain.rsplit_once("job ID:").map_or(plain, |(_, after)| after.trim_start());
    let id: String = after.chars().take_while(char::is_ascii_digit).collect();
    (!id.is_empty()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_in_the_words_of_slurm_is_said_in_those_of_hyperqueue() {
        let job = Job {
            name: "latentrace-x".into(),
            command: Vec::new(),
            directory: "/home/me".into(),
            folder: "/s/jobs/1".into(),
            tasks: Vec::new(),
            threads: 2,
        };
        let words = |time: &str, gres: &str, memory: &str| {
            let given = |value: &str| (!value.is_empty()).then(|| value.to_string());
            let asked = Asked { time: given(time), gres: given(gres), memory: given(memory), ..Asked::default() };
            let command = submit_command(&job, Request::of(&asked).unwrap()).join(" ");
            let (begin, end) = command.split_once(" --stdout /s/jobs/1/%{TASK_ID}.log ").unwrap();
            let rest = "--stderr /s/jobs/1/%{TASK_ID}.log --each-line /s/jobs/1/keys bash /s/jobs/1/task.sh";
            assert_eq!(end, rest);
            begin.strip_prefix("hq submit --name latentrace-x --cpus 2").unwrap().to_string()
        };
        assert_eq!(words("", "", ""), "");
        assert_eq!(
            words("02:00:00", "gpu:2", "8G"),
            " --time-limit 7200s --resource gpus/nvidia=2 --resource mem=8192"
        );
        assert_eq!(words("90", "gpu", "1500"), " --time-limit 5400s --resource gpus/nvidia=1 --resource mem=1500");
    }

    #[test]
    fn times_and_sizes_are_read_as_slurm_reads_them() {
        let times = [("1:30", 90), ("1-0", 86_400), ("1-12:30", 131_400), ("0-00:00:05", 5), ("100:00:00", 360_000)];
        times.iter().for_each(|(time, expected)| assert_eq!(seconds(time), Some(*expected), "{time}"));
        let wrong = ["", "0", "1h", "-1", "+1", "1-", "1:2:3:4", "UNLIMITED", "99999999999"];
        wrong.iter().for_each(|time| assert_eq!(seconds(time), None, "{time}"));
        let sizes = [("500", 500), ("1K", 1), ("3M", 3), ("2g", 2048), ("1T", 1_048_576)];
        sizes.iter().for_each(|(size, expected)| assert_eq!(mebibytes(size), Some(*expected), "{size}"));
        ["", "0", "G", "1.5G", "8GB", "8 G"].iter().for_each(|size| assert_eq!(mebibytes(size), None, "{size}"));
    }

    #[test]
    fn what_hyperqueue_does_not_have_is_refused_by_its_name() {
        let given = |value: &str| Some(value.to_string());
        for (asked, said) in [
            (Asked { partition: given("gpu"), ..Asked::default() }, "--partition gpu: not an option of HyperQueue"),
            (Asked { at_once: Some(3), ..Asked::default() }, "--at-once 3: not an option of HyperQueue"),
            (Asked { array_size: Some(3), ..Asked::default() }, "--array-size 3: not an option of HyperQueue"),
            (Asked { sbatch: vec!["--x".into()], ..Asked::default() }, "--sbatch --x: not an option of HyperQueue"),
            (
                Asked { gres: given("gpu:a100:2"), ..Asked::default() },
                "--gres gpu:a100:2: HyperQueue has nothing like it",
            ),
            (Asked { gres: given("gpu:0"), ..Asked::default() }, "--gres gpu:0: "),
            (Asked { gres: given("license:1"), ..Asked::default() }, "--gres license:1: "),
            (Asked { time: given("2h"), ..Asked::default() }, "--time 2h: HyperQueue has nothing like it"),
            (Asked { memory: given("0"), ..Asked::default() }, "--memory 0: "),
        ] {
            let error = format!("{:#}", Request::of(&asked).unwrap_err());
            assert!(error.starts_with(said) && error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn the_id_of_a_job_is_read_from_what_hq_prints() {
        for (printed, id) in [
            ("Job submitted successfully, job ID: 12\n", Some("12")),
            ("Job submitted \u{1b}[32msuccessfully\u{1b}[0m, job ID: 3", Some("3")),
            ("7\n", Some("7")),
            ("submitted", None),
            ("", None),
        ] {
            assert_eq!(id_of(printed).as_deref(), id, "{printed}");
        }
    }
}
