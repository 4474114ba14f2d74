//! Does parts of a run when it is asked to, and says how long each took, so that another program can measure in turn with
//! this one: `turns CHECKPOINT DTYPE DEVICE [KERNELS]`, then a request a line on stdin and an answer a line on stdout, in seconds.
//!
//! ```text
//! text               a prompt to text features
//! unet N             one UNet call of two rows, the mean of N
//! rows N             one UNet call of N rows
//! host N             the same as `unet` without waiting for a device: the time of the host for a call that is not replayed
//! decode             latents to a picture
//! image STEPS        a picture at guidance 7.5, nobody watching
//! record STEPS RULE  the same, recorded into a temporary folder, with a capture rule or `-` for the sampler's values alone
//! sweep STEPS        nine guidance scales in one batch
//! evaluations STEPS  not a time: how many rows the UNet computes for that
//! output IN OUT      reads `sample` and `context` from a safetensors file, writes the UNet's `output` at t = 500
//! ```
//!
//! `tools/gpu.py` and `tools/bench_peers.py` use it. The model is opened before the first answer, which is the time that took.

#![allow(clippy::print_stdout)] // what it prints is what it is for
use latentrace::nn::tch::{Device as Place, Kind, Tensor, no_grad};
use latentrace::nn::{Moment, Pass, Probe, Tap, keep_freed_memory, seeded};
use latentrace::pipeline::{Device, Dtype, KernelChoice, Model, Options, Request, Start, evaluations};
use latentrace::trace::{Capture, Layout, Recorder, Rule, Words, Writer};
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

const PROMPT: &str = "a large red circle on the left, white background";
/// The scales of `experiments/specs/sweep-guidance.toml`.
const SCALES: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0];

type Answer = Result<f64, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, dtype, device, kernels @ ..] = arguments.as_slice() else {
        return Err("expected CHECKPOINT DTYPE DEVICE [KERNELS]".into());
    };
    let dtype = serde_json::from_value::<Dtype>(dtype.as_str().into())?;
    let device = serde_json::from_value::<Device>(device.as_str().into())?;
    let kernels = kernels.first().map(|text| text.parse().map(KernelChoice::Exactly)).transpose()?.unwrap_or_default();
    let began = Instant::now();
    let options = Options { dtype, device, kernels, ..Options::default() };
    let turns = Turns { model: Model::open(Path::new(folder), options)? };
    say(Ok(began.elapsed().as_secs_f64()))?;
    for line in std::io::stdin().lock().lines() {
        say(turns.answer(&line?))?;
    }
    Ok(())
}

fn say(answer: Answer) -> std::io::Result<()> {
    match answer {
        Ok(seconds) => println!("{seconds:.6}"),
        Err(error) => println!("error: {}", error.to_string().replace('\n', "; ")),
    }
    std::io::stdout().flush()
}

struct Turns {
    model: Model,
}

/// Looks at the UNet's first tensor.
struct Look;

impl Probe for Look {
    fn wants(&self, tap: &Tap, _: &Moment) -> bool {
        tap.name() == "unet.conv_in"
    }

    fn visit(&mut self, _: &Tap, _: Moment, tensor: Tensor) -> Tensor {
        tensor
    }
}

impl Turns {
    fn answer(&self, line: &str) -> Answer {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words.as_slice() {
            ["text"] => self.text(),
            ["unet", count] => self.unet(2, count.parse()?),
            ["rows", rows] => self.unet(rows.parse()?, 1),
            ["host", count] => self.host(count.parse()?),
            ["decode"] => self.decode(),
            ["image", steps] => self.image(steps.parse()?),
            ["record", steps, rule] => self.record(steps.parse()?, rule),
            ["sweep", steps] => self.sweep(steps.parse()?),
            ["evaluations", steps] => self.evaluations(steps.parse()?),
            ["output", input, output] => self.output(Path::new(input), Path::new(output)),
            _ => Err(format!("{line}: no such request").into()),
        }
    }

    /// Normal numbers where the networks run.
    fn normal(&self, shape: &[i64]) -> Tensor {
        let drawn = seeded(1, || Tensor::randn(shape, (Kind::Float, Place::Cpu)));
        drawn.to_device(self.model.device).to_kind(self.model.unet.kind())
    }

    fn time(&self, t: f32) -> Tensor {
        Tensor::from_slice(&[t]).to_device(self.model.device)
    }

    fn text(&self) -> Answer {
        let began = Instant::now();
        let (_, features) = self.model.encode(PROMPT, &mut Pass::silent())?;
        wait(Some(&features));
        Ok(began.elapsed().as_secs_f64())
    }

    fn unet(&self, rows: i64, count: u32) -> Answer {
        let [side, _] = self.model.checkpoint.unet.config.sample_size;
        let sample = self.normal(&[rows, 4, side, side]);
        let context = self.normal(&[rows, 77, self.model.checkpoint.unet.config.cross_attention_dim]);
        let time = self.time(500.0);
        let seconds = timed(|| {
            let mut last = None;
            for _ in 0..count {
                last = Some(no_grad(|| self.model.unet.forward(&mut Pass::silent(), &sample, &time, &context)));
            }
            wait(last.as_ref())
        });
        Ok(seconds / f64::from(count.max(1)))
    }

    /// A probe looks at one tensor, so that no call is replayed.
    fn host(&self, count: u32) -> Answer {
        let [side, _] = self.model.checkpoint.unet.config.sample_size;
        let sample = self.normal(&[2, 4, side, side]);
        let context = self.normal(&[2, 77, self.model.checkpoint.unet.config.cross_attention_dim]);
        let time = self.time(500.0);
        let mut last = None;
        let seconds = timed(|| {
            for _ in 0..count {
                let mut look = Look;
                let mut pass = Pass::watched(&mut look);
                last = Some(no_grad(|| self.model.unet.forward(&mut pass, &sample, &time, &context)));
            }
        });
        wait(last.as_ref());
        Ok(seconds / f64::from(count.max(1)))
    }

    fn decode(&self) -> Answer {
        let [side, _] = self.model.checkpoint.unet.config.sample_size;
        let latents = self.normal(&[1, 4, side, side]);
        Ok(timed(|| _ = self.model.decode(&latents, &mut Pass::silent())))
    }

    fn request(&self, steps: usize, guidance: f64) -> Request {
        Request { steps, guidance: guidance.into(), ..self.model.request(PROMPT, 193) }
    }

    fn image(&self, steps: usize) -> Answer {
        let began = Instant::now();
        self.model.run(&self.request(steps, 7.5), &mut Pass::silent())?;
        Ok(began.elapsed().as_secs_f64())
    }

    fn record(&self, steps: usize, rule: &str) -> Answer {
        let folder = tempfile::tempdir()?;
        let rules = if rule == "-" { Vec::new() } else { vec![Rule::parse(rule)?] };
        let request = self.request(steps, 7.5);
        let began = Instant::now();
        let writer = Writer::create(&folder.path().join("trace"), &serde_json::json!({}), Layout::LIVE)?;
        let capture = Capture { rules, budget: None };
        let mut recorder = Recorder::new(&capture, &self.model.taps, Words::default(), steps, writer)?;
        self.model.run(&request, &mut Pass::watched(&mut recorder))?;
        recorder.end(None)?;
        Ok(began.elapsed().as_secs_f64())
    }

    fn sweep(&self, steps: usize) -> Answer {
        let requests = SCALES.map(|scale| self.request(steps, scale));
        let images: Vec<(&Request, &Start)> = requests.iter().map(|request| (request, &Start::Noise)).collect();
        let began = Instant::now();
        self.model.run_together(&images, &mut Pass::silent())?;
        Ok(began.elapsed().as_secs_f64())
    }

    fn evaluations(&self, steps: usize) -> Answer {
        let prepare = |scale| self.model.prepare(self.request(steps, scale), Start::Noise);
        let images = SCALES.iter().map(|scale| prepare(*scale)).collect::<Result<Vec<_>, _>>()?;
        Ok(evaluations(&images.iter().collect::<Vec<_>>()) as f64)
    }

    fn output(&self, input: &Path, output: &Path) -> Answer {
        let tensors = Tensor::read_safetensors(input)?;
        let find = |name: &str| {
            let tensor = tensors.iter().find(|(found, _)| found == name).map(|(_, tensor)| tensor);
            let tensor = tensor.ok_or_else(|| format!("{}: no {name} in it", input.display()))?;
            Ok::<_, String>(tensor.to_device(self.model.device).to_kind(self.model.unet.kind()))
        };
        let (sample, context, time) = (find("sample")?, find("context")?, self.time(500.0));
        let began = Instant::now();
        let found = no_grad(|| self.model.unet.forward(&mut Pass::silent(), &sample, &time, &context));
        let found = found.to_kind(Kind::Float).to_device(Place::Cpu);
        Tensor::write_safetensors(&[("output", &found)], output)?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Waits for the device: one number of the tensor is fetched.
fn wait(tensor: Option<&Tensor>) {
    if let Some(tensor) = tensor {
        let _ = no_grad(|| tensor.flatten(0, -1).get(0).to_kind(Kind::Float).double_value(&[]));
    }
}

fn timed(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}
