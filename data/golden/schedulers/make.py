"""Writes tables.json and replays.json: what the schedulers of diffusers do, as numbers.

A scheduler without clipping is linear, so running it on basis vectors reads its coefficients off: axis 0 is the starting
noise, axes 1..E the network's outputs in call order, then come the noise draws, and the last axis is the image that an
image-to-image run starts from. Each network input, and the final sample, IS its row of coefficients.
Clipping is not linear; replays.json holds short runs on random tensors instead.

Run with diffusers 0.42.1, torch 2.11 and scipy: `python make.py`. The same versions write the same bytes.
"""

import json
import pathlib

import diffusers
import torch
from diffusers.schedulers import scheduling_ddpm

HERE = pathlib.Path(__file__).parent
STABLE_DIFFUSION = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SPACINGS = ["leading", "linspace", "trailing"]
PREDICTIONS = {
    "DDPMScheduler": ["epsilon", "v_prediction", "sample"],
    "PNDMScheduler": ["epsilon", "v_prediction"],
    "LMSDiscreteScheduler": ["epsilon", "v_prediction", "sample"],
}
# These two are arguments in diffusers, and options of ours.
ARGUMENTS = ["order", "timesteps"]


def start(config, steps, strength):
    """The scheduler, and the index and times of its calls, as the text-to-image and image-to-image pipelines set them."""
    arguments = {key: value for key, value in config.items() if key not in [*ARGUMENTS, "_class_name"]}
    scheduler = getattr(diffusers, config["_class_name"])(**arguments)
    if "timesteps" in config:
        scheduler.set_timesteps(timesteps=config["timesteps"])
    else:
        scheduler.set_timesteps(steps)
    begin = 0 if strength is None else max(steps - min(int(steps * strength), steps), 0)
    if strength is not None and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return scheduler, scheduler.timesteps[begin:]


def first_sample(scheduler, times, noise, image):
    if image is None:
        return noise * scheduler.init_noise_sigma
    return scheduler.add_noise(image, noise, times[:1]).double()


def table(name, config, steps, strength=None, keep=None):
    """One case: the rows `keep` (all of them by default)."""
    scheduler, times = start(config, steps, strength)
    calls = len(times)
    width = 2 * calls + 2
    draws = 0

    def unit(axis):
        vector = torch.zeros(1, width, 1, 1, dtype=torch.float64)
        vector[0, axis] = 1
        return vector

    def draw(*_, **__):
        nonlocal draws
        draws += 1
        return unit(calls + draws)

    scheduling_ddpm.randn_tensor = draw
    x = first_sample(scheduler, times, unit(0), None if strength is None else unit(width - 1))
    rows = []
    order = {"order": config["order"]} if "order" in config else {}
    for call, t in enumerate(times):
        rows.append(scheduler.scale_model_input(x, t))
        x = scheduler.step(unit(1 + call), t, x, **order).prev_sample
    rows.append(x)
    keep = range(len(rows)) if keep is None else [row % len(rows) for row in keep]
    case = dict(name=name, config=config, steps=steps, calls=calls, draws=draws)
    if strength is not None:
        case["strength"] = strength
    case["times"] = [digits(float(t)) for t in times] if keep != [len(rows) - 1] else []
    case["rows"] = [[row, *sparse(rows[row].flatten())] for row in keep]
    return case


def sparse(row):
    assert torch.isfinite(row).all()
    axes = row.nonzero().flatten().tolist()
    return axes, [digits(row[axis].item()) for axis in axes]


def digits(number):
    """Nine significant digits: a single-precision number is told from its neighbours by them."""
    short = float(f"{number:.9g}")
    return int(short) if short.is_integer() and abs(short) < 1e9 else short


def grid():
    for kind, predictions in PREDICTIONS.items():
        base = dict(_class_name=kind, **STABLE_DIFFUSION)
        if kind == "DDPMScheduler":
            base["clip_sample"] = False
        variants = [{}]
        if kind == "PNDMScheduler":
            variants = [dict(skip_prk_steps=True), dict(skip_prk_steps=False)]
        # The grid.
        for variant in variants:
            for prediction in predictions:
                for spacing in SPACINGS:
                    for steps in [1, 2, 3, 4, 7, 10, 20]:
                        if variant.get("skip_prk_steps") is False and steps < 4:
                            continue
                        config = dict(base, **variant, prediction_type=prediction, timestep_spacing=spacing, steps_offset=1)
                        yield "grid", config, steps, None, None if steps <= 3 else [-2, -1]
        # Long runs, one row.
        for variant in variants:
            offset = 0 if kind == "DDPMScheduler" else 1
            yield "long", dict(base, **variant, steps_offset=offset), 50, None, [-1]
        yield "long", dict(base, **variants[0]), 1000, None, [-1]
        # Every beta schedule, under the class's own defaults otherwise.
        schedules = ["linear", "scaled_linear", "squaredcos_cap_v2"]
        if kind == "DDPMScheduler":
            schedules += ["sigmoid", "laplace"]
        own = {key: value for key, value in base.items() if not key.startswith("beta_")}
        for schedule in schedules:
            yield "betas", dict(own, beta_schedule=schedule), 5, None, None
        trained = [0.001 + 0.03 * (k / 99) ** 2 for k in range(100)]
        for spacing in SPACINGS:
            config = dict(own, trained_betas=trained, num_train_timesteps=100, timestep_spacing=spacing)
            yield "betas", config, 6, None, [-1]
        # From an image.
        for variant in variants:
            for prediction in predictions:
                for steps, strength in [(5, 0.8), (10, 0.5), (20, 0.75), (20, 1.0)]:
                    config = dict(base, **variant, prediction_type=prediction, steps_offset=1)
                    yield "image", config, steps, strength, [-2, -1]

    base = dict(_class_name="DDPMScheduler", clip_sample=False, **STABLE_DIFFUSION)
    for variance in ["fixed_small", "fixed_small_log", "fixed_large"]:
        for offset in [0, 1]:
            for spacing in SPACINGS:
                config = dict(base, variance_type=variance, steps_offset=offset, timestep_spacing=spacing)
                yield "variance", config, 5, None, None
    for prediction in ["v_prediction", "sample"]:
        for spacing in SPACINGS:
            for variance in ["fixed_small", "fixed_large"]:
                config = dict(base, rescale_betas_zero_snr=True, prediction_type=prediction, timestep_spacing=spacing, variance_type=variance)
                yield "zero snr", config, 4, None, None
    yield "zero snr", dict(base, rescale_betas_zero_snr=True), 4, None, None
    for times in [[999, 700, 400, 399, 3], [500], [999, 0]]:
        yield "timesteps", dict(base, timesteps=times), len(times), None, None

    base = dict(_class_name="PNDMScheduler", **STABLE_DIFFUSION)
    for skip in [True, False]:
        for offset in [0, 1]:
            for steps in [5, 13]:
                config = dict(base, skip_prk_steps=skip, set_alpha_to_one=True, steps_offset=offset)
                yield "end", config, steps, None, [-2, -1]

    base = dict(_class_name="LMSDiscreteScheduler", **STABLE_DIFFUSION)
    for sigmas in ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"]:
        for spacing in SPACINGS:
            for steps in [1, 3, 10]:
                yield "sigmas", dict(base, timestep_spacing=spacing, **{sigmas: True}), steps, None, None if steps <= 3 else [-2, -1]
    for order in [1, 2, 3, 4]:
        for prediction in PREDICTIONS["LMSDiscreteScheduler"]:
            yield "order", dict(base, order=order, prediction_type=prediction), 8, None, [-1]


def replay(name, config, steps, seed):
    """One run on random tensors: everything drawn, every output, every clean estimate, and the end."""
    scheduler, times = start(config, steps, None)
    generator = torch.Generator().manual_seed(seed)
    drawn = []

    def draw(*_, **__):
        drawn.append(torch.randn(1, 4, 3, 4, generator=generator, dtype=torch.float64))
        return drawn[-1]

    scheduling_ddpm.randn_tensor = draw
    x = first_sample(scheduler, times, draw(), None)
    outputs, denoised = [], []
    for t in times:
        outputs.append(torch.randn(x.shape, generator=generator, dtype=torch.float64) * 1.5)
        out = scheduler.step(outputs[-1], t, x, return_dict=True)
        x = out.prev_sample
        denoised.append(out.pred_original_sample)

    def flat(tensors):
        return [[digits(number) for number in tensor.flatten().tolist()] for tensor in tensors]

    return dict(name=name, config=config, steps=steps, draws=flat(drawn), outputs=flat(outputs), denoised=flat(denoised), result=flat([x])[0])


def replays():
    base = dict(_class_name="DDPMScheduler", **STABLE_DIFFUSION)
    yield "clip", dict(base, clip_sample=True), 5
    yield "clip range", dict(base, clip_sample=True, clip_sample_range=2.5, prediction_type="v_prediction", steps_offset=1), 4
    yield "threshold", dict(base, thresholding=True, dynamic_thresholding_ratio=0.83, sample_max_value=3.0), 5
    yield "threshold sample", dict(base, thresholding=True, dynamic_thresholding_ratio=0.7, prediction_type="sample"), 4
    yield "defaults", dict(_class_name="DDPMScheduler"), 4


def write(name, content):
    path = HERE / name
    lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in content)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{name}: {len(content)} cases, {path.stat().st_size} bytes, diffusers {diffusers.__version__}")


if __name__ == "__main__":
    torch.manual_seed(0)
    cases = []
    for group, config, steps, strength, keep in grid():
        name = " ".join([group, config["_class_name"], *(f"{k}={v}" for k, v in config.items() if k not in [*STABLE_DIFFUSION, "_class_name", "trained_betas", "clip_sample"]), f"steps={steps}"])
        cases.append(table(name, config, steps, strength, keep))
    write("tables.json", cases)
    write("replays.json", [replay(name, config, steps, seed) for seed, (name, config, steps) in enumerate(replays())])
