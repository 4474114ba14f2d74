"""Writes tables/, failures.json, configs.json, betas.json, pipelines.json and replays.json: what the schedulers of diffusers do, as numbers.

A scheduler without clipping is linear, so running it on basis vectors reads its coefficients off: axis 0 is the starting
noise, axes 1..E the network's outputs in call order, then come the noise draws, and the last axis is the image that an
image-to-image run starts from. Each network input, and the final sample, IS its row of coefficients.
Cases that diffusers cannot run, or runs into NaN or infinity, are in failures.json instead.
Clipping is not linear; replays.json holds short runs on random tensors instead.

Run with diffusers 0.42.1, torch 2.11, numpy 2 and scipy: `python make.py`. The same versions write the same bytes on processors with
AVX2 or AVX-512. Without them torch rounds differently in `linspace`, and numpy in the logarithm.
"""

import collections
import importlib
import inspect
import itertools
import json
import math
import pathlib
import sys
import types
import warnings

import diffusers
import torch

import cases

# DPMSolverSDE asks for this package, of which nothing is left once its noise is ours.
sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))

HERE = pathlib.Path(__file__).parent
MODULES = {
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddim",
    "DDIMInverseScheduler": "ddim_inverse",
    "PNDMScheduler": "pndm",
    "LMSDiscreteScheduler": "lms_discrete",
    "EulerDiscreteScheduler": "euler_discrete",
    "EulerAncestralDiscreteScheduler": "euler_ancestral_discrete",
    "HeunDiscreteScheduler": "heun_discrete",
    "KDPM2DiscreteScheduler": "k_dpm_2_discrete",
    "KDPM2AncestralDiscreteScheduler": "k_dpm_2_ancestral_discrete",
    "DPMSolverMultistepScheduler": "dpmsolver_multistep",
    "DPMSolverSinglestepScheduler": "dpmsolver_singlestep",
    "DPMSolverSDEScheduler": "dpmsolver_sde",
    "DEISMultistepScheduler": "deis_multistep",
    "UniPCMultistepScheduler": "unipc_multistep",
    "SASolverScheduler": "sasolver",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "IPNDMScheduler": "ipndm",
}
# These are arguments of methods in diffusers, and options of ours.
SCHEDULE_ARGUMENTS = ["timesteps", "sigmas"]
STEP_ARGUMENTS = ["order", "eta", "s_churn", "s_tmin", "s_tmax", "s_noise"]


def module(kind):
    return importlib.import_module(f"diffusers.schedulers.scheduling_{MODULES[kind]}")


def known(kind):
    """The options of a class."""
    return inspect.signature(getattr(module(kind), kind).__init__).parameters


def pick(config, keys):
    return {key: config[key] for key in keys if key in config}


class Intervals:
    """Stands in for the Brownian tree of DPMSolverSDE.

    A step asks for the noise of its first part and then for that of the whole, which contains the first part: what the two
    share has to be the same draw. Everything else is independent.
    """

    def __init__(self, draw):
        self.draw = draw
        self.part = None

    def __call__(self, sigma, end):
        if self.part is None:
            self.part = (end.double(), self.draw())
            return self.part[1]
        (middle, first), self.part = self.part, None
        before, after = (middle - sigma).abs(), (end - middle).abs()
        return (before.sqrt() * first + after.sqrt() * self.draw()) / (before + after).sqrt()


def start(config, steps, strength, draw):
    """The scheduler, and the times of its calls, as the text-to-image and image-to-image pipelines set them."""
    kind = config["_class_name"]
    home = module(kind)
    home.randn_tensor = draw
    home.BrownianTreeNoiseSampler = lambda *_: Intervals(draw)
    ours = ["_class_name", "_double", *SCHEDULE_ARGUMENTS, *STEP_ARGUMENTS]
    if kind == "IPNDMScheduler":
        # It has next to no options: a file's others are left out, as from_config leaves them.
        ours += [option for option in config if option not in known(kind)]
    scheduler = getattr(home, kind)(**{key: value for key, value in config.items() if key not in ours})
    scheduler.set_timesteps(**(pick(config, SCHEDULE_ARGUMENTS) or dict(num_inference_steps=steps)))
    if "_double" in config:
        scheduler.sigmas = scheduler.sigmas.double()
    begin = 0 if strength is None else max(steps - min(int(steps * strength), steps), 0)
    begin *= scheduler.order
    if strength is not None and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return scheduler, scheduler.timesteps[begin:]


def first_sample(scheduler, times, noise, image):
    if image is None:
        return noise * scheduler.init_noise_sigma
    return scheduler.add_noise(image, noise, times[:1]).double()


class NotFinite(Exception):
    pass


def table(name, config, steps, strength=None, keep=None):
    """One case: the rows `keep` (all of them by default)."""
    calls = draws = 0

    def unit(axis):
        vector = torch.zeros(1, 2 * calls + 2, 1, 1, dtype=torch.float64)
        vector[0, axis] = 1
        return vector

    def draw(*_, **__):
        nonlocal draws
        draws += 1
        return unit(calls + draws)

    scheduler, times = start(config, steps, strength, draw)
    calls = len(times)
    x = first_sample(scheduler, times, unit(0), None if strength is None else unit(-1))
    rows = []
    for call, t in enumerate(times):
        rows.append(scheduler.scale_model_input(x, t))
        x = scheduler.step(unit(1 + call), t, x, **pick(config, STEP_ARGUMENTS)).prev_sample
    rows.append(x)
    for row in rows:
        # An infinite coefficient makes NaN of a basis vector's zeros: infinity counts first.
        if row.isinf().any():
            raise NotFinite("infinity")
        if row.isnan().any():
            raise NotFinite("NaN")
    keep = range(len(rows)) if keep is None else [row % len(rows) for row in keep]
    case = dict(name=name, config=config, steps=steps, calls=calls, draws=draws)
    if strength is not None:
        case["strength"] = strength
    case["times"] = [digits(float(t)) for t in times] if keep != [len(rows) - 1] else []
    case["rows"] = [[row, *sparse(rows[row].flatten())] for row in keep]
    return case


def sparse(row):
    axes = row.nonzero().flatten().tolist()
    return axes, [digits(row[axis].item()) for axis in axes]


def digits(number):
    """Nine significant digits: a single-precision number is told from its neighbours by them."""
    short = float(f"{number:.9g}")
    return int(short) if short.is_integer() and abs(short) < 1e9 else short


def replay(name, config, steps, seed):
    """One run on random tensors: everything drawn, every output, every clean estimate, and the end."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []

    def draw(*_, **__):
        drawn.append(torch.randn(1, 4, 3, 4, generator=generator, dtype=torch.float64))
        return drawn[-1]

    scheduler, times = start(config, steps, None, draw)
    x = first_sample(scheduler, times, draw(), None)
    outputs, denoised = [], []
    for t in times:
        outputs.append(torch.randn(x.shape, generator=generator, dtype=torch.float64) * 1.5)
        scheduler.scale_model_input(x, t)
        out = scheduler.step(outputs[-1], t, x, **pick(config, STEP_ARGUMENTS))
        x = out.prev_sample
        denoised += [out[key] for key in ["pred_original_sample", "denoised"] if key in out]

    def flat(tensors):
        return [[digits(number) for number in tensor.flatten().tolist()] for tensor in tensors]

    return dict(name=name, config=config, steps=steps, draws=flat(drawn), outputs=flat(outputs), denoised=flat(denoised), result=flat([x])[0])


def name_of(group, config, steps):
    silent = [*cases.STABLE_DIFFUSION, "_class_name", "trained_betas", "clip_sample"]
    return " ".join([group, config["_class_name"], *(f"{key}={value}" for key, value in config.items() if key not in silent), f"steps={steps}"])


def failure(name, config, steps, strength, error):
    case = dict(name=name, config=config, steps=steps)
    if strength is not None:
        case["strength"] = strength
    first = f"{error}".split("\n")[0][:160]
    case["failure"] = first if isinstance(error, NotFinite) else f"{type(error).__name__}: {first}"
    return case


def betas():
    """Checksums of betas in single precision, bit by bit, over many lengths."""
    ends = [(0.00085, 0.012), (0.0001, 0.02), (0.0015, 0.0195)]
    lengths = [*range(2, 130), 250, 333, 500, 512, 777, 1000, 1001, 1024, 1337, 2000, 4000, 10000, 40000, 100000]
    # Not the sigmoid's: torch's own exponential is a unit in the last place off here and there.
    for schedule in ["linear", "scaled_linear", "squaredcos_cap_v2"]:
        for start, end in ends if "linear" in schedule else ends[:1]:
            for length in lengths if "linear" in schedule else [2, 20, 333, 1000, 4000]:
                share = min(1, 1000 / length)  # as much noise at the end of a long schedule
                config = dict(_class_name="DDPMScheduler", beta_schedule=schedule, beta_start=start * share, beta_end=end * share, num_train_timesteps=length)
                bits = module("DDPMScheduler").DDPMScheduler(**{key: value for key, value in config.items() if key != "_class_name"}).betas.view(torch.int32).tolist()
                yield dict(config=config, checksum=str(sum(place * bit for place, bit in enumerate(bits, 1))))


def piped():
    """Schedulers as StableDiffusionPipeline sets them up, and as from_config makes others of them."""
    for file, kind in itertools.product(cases.FILES, cases.PIPED):
        parts = dict.fromkeys(["vae", "text_encoder", "tokenizer", "unet", "safety_checker", "feature_extractor"])
        for other, options in itertools.product([None, *cases.PIPED], [{}, dict(use_karras_sigmas=True), dict(clip_sample=True, steps_offset=0)]):
            options = {key: value for key, value in options.items() if key in known(other or kind)}
            first = getattr(diffusers, kind).from_config(file)
            pipeline = diffusers.StableDiffusionPipeline(**parts, scheduler=first, requires_safety_checker=False)
            if other or options:
                pipeline.scheduler = getattr(diffusers, other or kind).from_config(pipeline.scheduler.config, **options)
            scheduler = pipeline.scheduler
            values = {key: scheduler.config[key] for key in known(other or kind) if key in scheduler.config}
            values |= pipeline.prepare_extra_step_kwargs(None, 0.0)
            values.pop("generator", None)
            values = {key: "-Infinity" if value == -math.inf else value for key, value in values.items()}
            yield dict(file=file, kind=kind, other=other, options=options, values=values)


def saved():
    """The text of each class's config as diffusers saves it, with every default written out and infinities as Python has them."""
    return [getattr(module(kind), kind)().to_json_string() for kind in MODULES]


def write(name, content):
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(item, separators=(",", ":"), allow_nan=False) for item in content)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{name}: {len(content)} cases, {path.stat().st_size} bytes, diffusers {diffusers.__version__}")


def main():
    # One thread: sums in a fixed order.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    diffusers.utils.logging.set_verbosity_error()
    tables, failures, replays = collections.defaultdict(list), [], []
    for group, config, steps, strength, keep in cases.grid(known):
        name = name_of(group, config, steps)
        try:
            tables[config["_class_name"]].append(table(name, config, steps, strength, keep))
        except Exception as error:
            failures.append(failure(name, config, steps, strength, error))
    for seed, (name, config, steps) in enumerate(cases.replays(known)):
        try:
            replays.append(replay(name, config, steps, seed))
        except Exception as error:
            failures.append(failure(name, config, steps, None, error))
    for kind in MODULES:
        write(f"tables/{kind}.json", tables[kind])
    write("failures.json", failures)
    write("configs.json", saved())
    write("betas.json", list(betas()))
    write("pipelines.json", list(piped()))
    write("replays.json", replays)


if __name__ == "__main__":
    main()
