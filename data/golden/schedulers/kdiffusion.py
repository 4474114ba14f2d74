"""Writes kdiffusion.json: coefficients of k-diffusion's samplers and its sigmas, in double precision.

A sampler is linear in its start, the denoised estimates and its draws, so running it on basis vectors reads its coefficients off:
axis 0 is the start, then come the denoised estimates in call order, then the draws.

Run with k-diffusion 0.1.1.post1 (`pip download --no-deps k-diffusion==0.1.1.post1`, unpacked into the folder that is named),
torch 2.11 and scipy: `python kdiffusion.py FOLDER`. Of its own needs, torchsde and torchdiffeq, nothing is used here.
"""

import importlib.util
import inspect
import json
import pathlib
import sys
import types

import torch

from make import Intervals

HERE = pathlib.Path(__file__).parent
SIGMAS = [14.6, 9.1, 5.5, 3.2, 1.75, 0.91, 0.45, 0.2, 0.08, 0.03]


def load(folder):
    """Its samplers alone, without what they import for training."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = []
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]
    package.utils = utils
    for name, module in [("k_diffusion", package), ("k_diffusion.utils", utils), ("torchsde", types.ModuleType("torchsde"))]:
        sys.modules[name] = module
    odeint = types.ModuleType("torchdiffeq")
    odeint.odeint = None
    sys.modules["torchdiffeq"] = odeint
    spec = importlib.util.spec_from_file_location("k_diffusion.sampling", pathlib.Path(folder) / "k_diffusion/sampling.py")
    sampling = importlib.util.module_from_spec(spec)
    sys.modules["k_diffusion.sampling"] = sampling
    spec.loader.exec_module(sampling)
    return sampling


def table(sampling, name, ours, sigmas, **options):
    """A sampler's last row and the sigmas that it calls the network at."""
    width, calls, draws, called = 200, 0, 0, []

    def unit(axis):
        vector = torch.zeros(1, width, dtype=torch.float64)
        vector[0, axis] = 1
        return vector

    def model(x, sigma, **_):
        nonlocal calls
        calls += 1
        called.append(float(sigma))
        return unit(calls)

    def draw(*_):
        nonlocal draws
        draws += 1
        return unit(100 + draws)

    sampler = getattr(sampling, f"sample_{name}")
    if "churn" in "".join(options):
        sampling.torch.randn_like = draw
    noise = dict(noise_sampler=Intervals(draw) if name == "dpmpp_sde" else lambda *_: draw()) if "noise_sampler" in inspect.signature(sampler).parameters else {}
    if name == "dpm_fast":
        n = options.pop("n")
        row = sampler(model, unit(0), sigmas[-1], sigmas[0], n, disable=True, **noise, **options)
        options["n"] = n
    else:
        row = sampler(model, unit(0), torch.tensor(sigmas, dtype=torch.float64), disable=True, **noise, **options)
    axes, coefficients = sparse_row(row)
    return dict(name=name, ours=ours, sigmas=sigmas, options=options, called=called, axes=axes, coefficients=coefficients)


def sparse_row(row):
    axes = row.flatten().nonzero().flatten().tolist()
    return axes, [row.flatten()[axis].item() for axis in axes]


def samplers(sampling):
    zero = [*SIGMAS, 0.0]
    churns = [dict(s_churn=20.0, s_noise=1.003), dict(s_churn=3.0, s_tmin=0.1, s_tmax=6.0)]
    for churn in [{}, *churns]:
        for name, ours in [("euler", "euler"), ("heun", "heun"), ("dpm_2", "dpm2")]:
            yield table(sampling, name, ours, zero, **churn)
    for fresh in [dict(eta=1.0), dict(eta=0.4), dict(eta=0.7, s_noise=0.9), dict(eta=0.0)]:
        for name, ours in [("euler_ancestral", "euler_a"), ("dpm_2_ancestral", "dpm2_a"), ("dpmpp_2s_ancestral", "dpm++2s_a"), ("dpmpp_sde", "dpm++sde")]:
            yield table(sampling, name, ours, zero, **fresh)
        for solver in ["midpoint", "heun"]:
            yield table(sampling, "dpmpp_2m_sde", "dpm++2m_sde", zero, solver_type=solver, **fresh)
        for n in [1, 2, 3, 4, 5, 6, 9, 11]:
            yield table(sampling, "dpm_fast", "dpm_fast", SIGMAS, n=n, **fresh)
    for r in [0.3, 0.8]:
        yield table(sampling, "dpmpp_sde", "dpm++sde", zero, r=r, eta=0.6)
    yield table(sampling, "dpmpp_2m", "dpm++2m", zero)


def sigmas(sampling):
    """Lists of sigmas, with the options that make ours."""
    ends = dict(sigma_min=0.05, sigma_max=12.0)
    for n in [2, 5, 20]:
        for rho in [3.0, 5.0, 7.0, 11.0]:
            yield sampling.get_sigmas_karras(n, **ends, rho=rho), dict(ends, use_karras_sigmas=True, rho=rho)
        yield sampling.get_sigmas_exponential(n, **ends), dict(ends, use_exponential_sigmas=True)
        for rho in [0.5, 1.0, 2.0]:
            yield sampling.get_sigmas_polyexponential(n, **ends, rho=rho), dict(ends, use_polyexponential_sigmas=True, rho=rho)
        yield sampling.get_sigmas_vp(n), dict(use_vp_sigmas=True)
        yield sampling.get_sigmas_vp(n, beta_d=10.0, beta_min=0.2, eps_s=0.01), dict(use_vp_sigmas=True, vp_beta_d=10.0, vp_beta_min=0.2, vp_eps_s=0.01)


def main(folder):
    torch.set_default_dtype(torch.float64)
    sampling = load(folder)
    cases = [*samplers(sampling), *(dict(levels=levels.tolist(), options=options) for levels, options in sigmas(sampling))]
    lines = ",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in cases)
    (HERE / "kdiffusion.json").write_text(f"[\n{lines}\n]\n")
    print(f"kdiffusion.json: {len(cases)} cases")


if __name__ == "__main__":
    main(sys.argv[1])
