"""Writes known.json: the noise that StableDiffusionInpaintPipeline of diffusers gives a known picture after each step.

A case runs a scheduler as that pipeline does: from noise if `strength` is 1, otherwise from an index of the list of times. After each
call of `step` but the last, `add_noise` is called with the next time. It is linear, so a picture and a noise of one element each give
its two coefficients: `known` has [picture, noise] for every call but the first, at the scale of diffusers' own latents.

Run with diffusers 0.42.1, torch 2.11, numpy 2 and scipy: `python known.py`.
"""

import json
from pathlib import Path

import diffusers
import torch

import make

HERE = Path(__file__).parent
STEPS = 9
TRAINED = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
}
CASES = [
    ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    ("PNDMScheduler", {"skip_prk_steps": False, "set_alpha_to_one": False}),
    ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "linspace"}),
    ("DDPMScheduler", {"clip_sample": False}),
    ("LMSDiscreteScheduler", {}),
    ("LMSDiscreteScheduler", {"timestep_spacing": "leading"}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {"use_karras_sigmas": True}),
    ("KDPM2DiscreteScheduler", {}),
    ("KDPM2AncestralDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True}),
    ("DPMSolverSinglestepScheduler", {}),
    ("DPMSolverSDEScheduler", {}),
    ("DEISMultistepScheduler", {}),
    ("UniPCMultistepScheduler", {}),
    ("SASolverScheduler", {}),
    ("LCMScheduler", {"original_inference_steps": 50}),
    ("TCDScheduler", {"original_inference_steps": 50}),
]


class Still:
    """Noise of zeros for DPMSolverSDE, whose own needs a package."""

    def __init__(self, *_arguments, **_named):
        pass

    def __call__(self, *_sigmas):
        return torch.zeros(1)


def known(kind, config, strength):
    scheduler = getattr(make.module(kind), kind).from_config({**TRAINED, **config})
    scheduler.set_timesteps(STEPS)
    if kind == "DPMSolverSDEScheduler":
        scheduler.noise_sampler = Still()
    start = max(STEPS - min(int(STEPS * strength), STEPS), 0) * scheduler.order
    times = scheduler.timesteps[start:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    found = []
    sample = torch.ones(1, 1, 1, 1)
    for index, time in enumerate(times):
        scheduler.scale_model_input(sample, time)
        sample = scheduler.step(torch.zeros(1, 1, 1, 1), time, sample, return_dict=False)[0]
        if index + 1 < len(times):
            one, none = torch.ones(1), torch.zeros(1)
            following = torch.tensor([times[index + 1]])
            found.append([scheduler.add_noise(*pair, following).item() for pair in ((one, none), (none, one))])
    return [time.item() for time in times], found


def main():
    cases = []
    for kind, config in CASES:
        for strength in (1.0, 0.6):
            times, found = known(kind, config, strength)
            assert found, kind
            cases.append({
                "class": kind, "config": {**TRAINED, **config}, "steps": STEPS, "strength": strength, "timesteps": times, "known": found,
            })
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "known.json").write_text(f'{{"diffusers": "{diffusers.__version__}", "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
