"""The grid: which schedulers, options and lengths make.py runs.

A case is (group, config, steps, strength, keep): `strength` None is text to image, and `keep` names the rows that go into
the table (None: all of them; the last row alone says almost everything, since every earlier step is in it).
"""

import itertools
import random

STABLE_DIFFUSION = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SPACINGS = ["leading", "linspace", "trailing"]
# DPMSolverSinglestep has no such option; LCM and TCD have it and never look at it.
OWN_SPACINGS = {"DDIMInverseScheduler": ["leading", "trailing"], "DPMSolverSinglestepScheduler": [], "LCMScheduler": [], "TCDScheduler": []}
TWO = ["epsilon", "v_prediction"]
THREE = ["epsilon", "v_prediction", "sample"]
PREDICTIONS = {
    "DDPMScheduler": THREE,
    "DDIMScheduler": THREE,
    "DDIMInverseScheduler": THREE,
    "PNDMScheduler": TWO,
    "LMSDiscreteScheduler": THREE,
    "EulerDiscreteScheduler": THREE,
    "EulerAncestralDiscreteScheduler": TWO,
    "HeunDiscreteScheduler": THREE,
    "KDPM2DiscreteScheduler": TWO,
    "KDPM2AncestralDiscreteScheduler": TWO,
    "DPMSolverMultistepScheduler": THREE,
    "DPMSolverSinglestepScheduler": THREE,
    "DPMSolverSDEScheduler": TWO,
    "DEISMultistepScheduler": THREE,
    "UniPCMultistepScheduler": THREE,
    "SASolverScheduler": THREE,
    "LCMScheduler": THREE,
    "TCDScheduler": THREE,
}
SECOND_ORDER = ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"]
# Their times are integers, whatever the noise levels are.
WHOLE_TIMES = ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler"]
LEVELS = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"]
# From "Align Your Steps", for Stable Diffusion 1.5: as times, and as noise levels.
ALIGNED_TIMES = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
ALIGNED_SIGMAS = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0]
TIMED = ["DDPMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "LCMScheduler", "TCDScheduler"]


def options(**choices):
    """Every combination of the choices."""
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


def base_of(kind, known):
    clip = {"clip_sample": False} if "clip_sample" in known(kind) else {}
    return dict(_class_name=kind, **STABLE_DIFFUSION) | clip


def grid(known):
    """Every case; known(class name) are the options that the class takes."""
    for kind in PREDICTIONS:
        yield from common(kind, known(kind), base_of(kind, known))
        yield from noise_levels(kind, known(kind), base_of(kind, known))
    yield from in_double(known)
    yield from mixed(known)
    for special in [ddpm, ddim, pndm, lms, euler, dpm_multistep, dpm_singlestep, deis, unipc, sasolver, consistency, edges, ipndm]:
        yield from special(lambda kind: base_of(kind, known))


def in_double(known):
    """Cases whose coefficients lose figures in single precision, once more with the same sigmas in double precision.

    Exponential integrators subtract exponentials of log sigma; in single precision SASolver's coefficients lose three or four
    figures, and every such solver's do where two levels are close.
    """
    exponential = ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler"]
    for kind in exponential:
        base = dict(base_of(kind, known), _double=True)
        yield "double", base, 999, None, [-1]
        # The multistep solver casts its samples, and divides their differences by that of two close levels.
        if kind == "DPMSolverSinglestepScheduler":
            yield "double", dict(base, timesteps=[999, 700, 400, 399, 3]), 5, None, None
    base = dict(base_of("SASolverScheduler", known), _double=True)
    for orders in options(predictor_order=[1, 2, 3, 4], corrector_order=[1, 2, 3, 4], algorithm_type=["data_prediction", "noise_prediction"]):
        for steps in [6, 17]:
            yield "double", dict(base, **orders), steps, None, [-1]
    for steps, strength in [(10, 0.5), (20, 0.75)]:
        yield "double", dict(base, use_karras_sigmas=True), steps, strength, [-2, -1]


def common(kind, known, base):
    """What is asked of every class."""
    spacings = OWN_SPACINGS.get(kind, SPACINGS)
    spaced = [dict(timestep_spacing=spacing) for spacing in spacings] or [{}]
    offset = dict(steps_offset=1) if spacings else {}
    # PNDM is two methods in one.
    variants = options(skip_prk_steps=[True, False]) if kind == "PNDMScheduler" else [{}]
    for variant in variants:
        for prediction in PREDICTIONS[kind]:
            for spacing in spaced:
                for steps in [1, 2, 3, 4, 7, 10, 20]:
                    config = dict(base, **variant, prediction_type=prediction, **spacing, **offset)
                    yield "grid", config, steps, None, None if steps <= 3 else [-2, -1]
    # Long runs.
    for variant in variants:
        yield "long", dict(base, **variant, **(dict(steps_offset=0) if kind == "DDPMScheduler" else offset)), 50, None, [-1]
    for steps in [499, 500, 999, 1000] if kind in SECOND_ORDER else [999, 1000]:
        yield "long", dict(base, **variants[0]), steps, None, [-1]
    # Every beta schedule, under the class's own defaults otherwise.
    schedules = ["linear", "scaled_linear", "squaredcos_cap_v2"]
    schedules += {"DDPMScheduler": ["sigmoid", "laplace"], "HeunDiscreteScheduler": ["exp"]}.get(kind, [])
    own = {key: value for key, value in base.items() if not key.startswith("beta_")}
    for schedule in schedules:
        yield "betas", dict(own, beta_schedule=schedule), 5, None, None
    trained = [0.001 + 0.03 * (k / 99) ** 2 for k in range(100)]
    for spacing in spaced:
        yield "betas", dict(own, trained_betas=trained, num_train_timesteps=100, **spacing), 6, None, [-1]
    if "lambda_min_clipped" in known:
        for spacing in spaced:
            for steps in [5, 10]:
                yield "clipped", dict(own, beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1, **spacing), steps, None, [-2, -1]
    # DDPM has a list of its own below.
    if "rescale_betas_zero_snr" in known and kind != "DDPMScheduler":
        for prediction in [prediction for prediction in THREE if prediction in PREDICTIONS[kind]]:
            for spacing in spaced:
                yield "zero snr", dict(base, rescale_betas_zero_snr=True, prediction_type=prediction, **spacing), 4, None, None
    # From an image.
    if kind != "DDIMInverseScheduler":
        if "use_karras_sigmas" in known:
            variants = [{}, dict(use_karras_sigmas=True)]
        for variant in variants:
            for prediction in PREDICTIONS[kind]:
                for steps, strength in [(5, 0.8), (10, 0.5), (20, 0.75), (20, 1.0)]:
                    yield "image", dict(base, **variant, prediction_type=prediction, **offset), steps, strength, [-2, -1]


def noise_levels(kind, known, base):
    """Schedules by noise level, and given ones."""
    spaced = [dict(timestep_spacing=spacing) for spacing in OWN_SPACINGS.get(kind, SPACINGS)] or [{}]
    for levels in [levels for levels in LEVELS if levels in known]:
        for spacing in spaced:
            for steps in [1, 3, 10]:
                yield "sigmas", dict(base, **spacing, **{levels: True}), steps, None, None if steps <= 3 else [-2, -1]
        # Times fall together under this schedule, and diffusers looks its place up by time.
        for steps in [5, 10]:
            yield "sigmas", dict(base, beta_schedule="squaredcos_cap_v2", **{levels: True}), steps, None, [-1]
        yield "image", dict(base, beta_schedule="squaredcos_cap_v2", **{levels: True}), 10, 0.5, [-1]
    # The same under Stable Diffusion's schedule, between 31 steps and 32.
    if kind in WHOLE_TIMES:
        for steps in [31, 32]:
            yield "sigmas", dict(base, use_beta_sigmas=True), steps, None, [-1]
    if kind in TIMED:
        for times in [[999, 700, 400, 399, 3], [500], [999, 0], ALIGNED_TIMES]:
            yield "timesteps", dict(base, timesteps=times), len(times), None, None if len(times) < 9 else [-2, -1]
        yield "timesteps", dict(base, timesteps=ALIGNED_TIMES), len(ALIGNED_TIMES), 0.6, [-2, -1]


def ddpm(base_of):
    base = base_of("DDPMScheduler")
    for variance in ["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"]:
        for offset in [0, 1]:
            for spacing in SPACINGS:
                config = dict(base, variance_type=variance, steps_offset=offset, timestep_spacing=spacing)
                yield "variance", config, 5, None, None
    for prediction in THREE:
        for spacing in SPACINGS:
            for variance in ["fixed_small", "fixed_large"]:
                config = dict(base, rescale_betas_zero_snr=True, prediction_type=prediction, timestep_spacing=spacing, variance_type=variance)
                yield "zero snr", config, 4, None, None
    yield "zero snr", dict(base, rescale_betas_zero_snr=True), 4, None, None


def ddim(base_of):
    for choice in options(eta=[0, 0.3, 1], set_alpha_to_one=[True, False], timestep_spacing=SPACINGS, steps_offset=[0, 1]):
        if choice["timestep_spacing"] == "leading" or choice["steps_offset"] == 0:
            for steps in [5, 10]:
                yield "variant", dict(base_of("DDIMScheduler"), **choice), steps, None, [-2, -1]
    for prediction in ["v_prediction", "sample"]:
        yield "variant", dict(base_of("DDIMScheduler"), eta=0.5, prediction_type=prediction), 5, None, [-2, -1]
    yield "variant", dict(base_of("DDIMScheduler"), eta=0.5), 10, 0.6, [-2, -1]
    for choice in options(set_alpha_to_one=[True, False], timestep_spacing=["leading", "trailing"], steps_offset=[0, 1]):
        for steps in [5, 10]:
            yield "variant", dict(base_of("DDIMInverseScheduler"), **choice), steps, None, [-2, -1]


def pndm(base_of):
    for skip in [True, False]:
        for offset in [0, 1]:
            for steps in [5, 13]:
                config = dict(base_of("PNDMScheduler"), skip_prk_steps=skip, set_alpha_to_one=True, steps_offset=offset)
                yield "end", config, steps, None, [-2, -1]


def lms(base_of):
    for order in [1, 2, 3, 4]:
        for prediction in THREE:
            yield "order", dict(base_of("LMSDiscreteScheduler"), order=order, prediction_type=prediction), 8, None, [-1]


def euler(base_of):
    base = base_of("EulerDiscreteScheduler")
    continuous = dict(timestep_type="continuous", prediction_type="v_prediction")
    for variant in [dict(interpolation_type="log_linear"), dict(final_sigmas_type="sigma_min"), continuous, dict(continuous, rescale_betas_zero_snr=True)]:
        for spacing in SPACINGS:
            for steps in [1, 3, 10]:
                yield "variant", dict(base, **variant, timestep_spacing=spacing, steps_offset=1), steps, None, None if steps <= 3 else [-2, -1]
    for levels in LEVELS[:3]:
        for variant in [dict(interpolation_type="log_linear"), dict(final_sigmas_type="sigma_min"), continuous]:
            yield "variant", dict(base, **variant, **{levels: True}), 5, None, [-2, -1]
    for limits in [dict(sigma_min=0.1, sigma_max=10.0), dict(sigma_max=20.0)]:
        for levels in LEVELS[:3]:
            yield "variant", dict(base, **limits, **{levels: True}), 5, None, [-2, -1]
    churns = [dict(s_churn=1.0), dict(s_churn=40.0), dict(s_churn=2.0, s_noise=1.007), dict(s_churn=3.0, s_tmin=0.3, s_tmax=8.0), dict(s_churn=10.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)]
    for churn in churns:
        for prediction in THREE:
            for steps in [4, 10]:
                yield "churn", dict(base, **churn, prediction_type=prediction), steps, None, [-2, -1]
        yield "churn", dict(base, **churn, use_karras_sigmas=True), 10, 0.7, [-2, -1]
    # Log-linear interpolation makes a list longer than that of its times, of which churn takes its share.
    for churn in [{}, *churns]:
        for variant in [dict(timestep_spacing="trailing"), dict(timesteps=[900, 500, 260, 40]), continuous, dict(continuous, final_sigmas_type="sigma_min")]:
            yield "log linear", dict(base, interpolation_type="log_linear", **churn, **variant), 4, None, [-2, -1]
        yield "log linear", dict(base, interpolation_type="log_linear", **churn), 10, 0.7, [-2, -1]
    for sigmas in [ALIGNED_SIGMAS, [10, 5, 1, 0], [2.5, 0], [80, 3, 0.01, 0]]:
        for variant in [{}, dict(timestep_spacing="leading"), continuous]:
            yield "sigmas given", dict(base, sigmas=sigmas, **variant), len(sigmas) - 1, None, None if len(sigmas) < 9 else [-2, -1]
    yield "sigmas given", dict(base, sigmas=ALIGNED_SIGMAS), len(ALIGNED_SIGMAS) - 1, 0.6, [-2, -1]


def mixed(known):
    """Options mixed at random, on schedules of other lengths and ends."""
    chance = random.Random(12)
    for number in range(600):
        kind = chance.choice(list(PREDICTIONS))
        options = known(kind)
        config = dict(base_of(kind, known), num_train_timesteps=chance.choice([250, 500, 777, 1000, 1337, 2000]))
        if chance.random() < 0.4:
            config |= dict(beta_start=round(chance.uniform(1e-4, 1e-3), 6), beta_end=round(chance.uniform(8e-3, 2e-2), 5), beta_schedule=chance.choice(["linear", "scaled_linear"]))
        config["prediction_type"] = chance.choice(PREDICTIONS[kind])
        if spacings := OWN_SPACINGS.get(kind, SPACINGS):
            config |= dict(timestep_spacing=chance.choice(spacings), steps_offset=chance.choice([0, 1, 1]))
        steps = chance.choice([2, 3, 4, 6, 8, 11, 15, 20])
        levels = [name for name in LEVELS if name in options]
        if levels and chance.random() < 0.5:
            config[chance.choice(levels)] = True
        elif kind in TIMED and chance.random() < 0.2:
            config["timesteps"] = sorted(chance.sample(range(config["num_train_timesteps"]), steps), reverse=True)
        choices = dict(
            final_sigmas_type=["zero", "sigma_min"], lower_order_final=[True, False], solver_order=[1, 2, 3], predict_x0=[True, False],
            set_alpha_to_one=[True, False], original_inference_steps=[50, 100], euler_at_final=[True, False],
        )
        config |= {name: chance.choice(values) for name, values in choices.items() if name in options and chance.random() < 0.5}
        if kind in ["DDIMScheduler", "TCDScheduler"]:
            config["eta"] = chance.choice([0.0, 0.3, 0.5, 1.0])
        if kind == "EulerDiscreteScheduler" and chance.random() < 0.4:
            config |= dict(s_churn=chance.choice([2, 20, 60]), s_noise=1.003)
        strength = chance.choice([None, None, None, 0.5, 0.8])
        yield "mixed", config, steps, strength, [-1]


def corners(base, variants, spacings, predictions=THREE):
    """The grid on a solver's variants, epsilon only, and each variant's own way with the other predictions."""
    for variant in variants:
        for spacing in [dict(timestep_spacing=spacing) for spacing in spacings] or [{}]:
            for steps in [1, 2, 3, 4, 7, 10, 20]:
                yield "grid", dict(base, **variant, **spacing), steps, None, [-1]
        for prediction in predictions[1:]:
            yield "variant", dict(base, **variant, prediction_type=prediction), 5, None, [-2, -1]
        yield "image", dict(base, **variant), 10, 0.5, [-1]


def dpm_multistep(base_of):
    base = base_of("DPMSolverMultistepScheduler")
    ends = ["zero", "sigma_min"]
    algorithms = dict(algorithm_type=["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"], solver_order=[1, 2, 3])
    for steps in [5, 10, 17]:
        for choice in options(**algorithms, solver_type=["midpoint", "heun"], final_sigmas_type=ends, lower_order_final=[True, False]):
            yield "variant", dict(base, **choice), steps, None, [-1]
        for choice in options(**algorithms, final_sigmas_type=ends):
            yield "variant", dict(base, **choice, euler_at_final=True), steps, None, [-1]
    # Noise prediction has no last step to a noise level of zero.
    yield from corners(base, [choice | ({} if "++" in choice["algorithm_type"] else dict(final_sigmas_type="sigma_min")) for choice in options(**algorithms)], SPACINGS)
    for levels in LEVELS:
        for steps in [5, 10]:
            yield "sigmas", dict(base, final_sigmas_type="sigma_min", **{levels: True}), steps, None, [-2, -1]
    # The ends of Lu's: a schedule stretched to zero signal ends below the sigmas before it where it has many times.
    for length in [100, 500, 1000, 2000, 4000]:
        for schedule in [dict(STABLE_DIFFUSION), dict(beta_schedule="squaredcos_cap_v2"), dict(STABLE_DIFFUSION, rescale_betas_zero_snr=True)]:
            yield "lu", dict(base, **dict(schedule, num_train_timesteps=length, use_lu_lambdas=True, prediction_type="v_prediction")), 8, None, [-2, -1]
    # As many steps as make numpy count one stride too many, where sigmas are laid by themselves.
    for levels in LEVELS:
        yield "overrun", dict(base, timestep_spacing="trailing", **{levels: True}), 61, None, [-1]
    for times in [[999, 0], ALIGNED_TIMES]:
        for solver in ["midpoint", "heun"]:
            yield "timesteps", dict(base, timesteps=times, final_sigmas_type="sigma_min", solver_type=solver), len(times), None, [-1]
    for spacing in ["leading", "trailing"]:
        yield "long", dict(base, timestep_spacing=spacing), 999, None, [-1]


def dpm_singlestep(base_of):
    base = base_of("DPMSolverSinglestepScheduler")
    algorithms = dict(algorithm_type=["dpmsolver", "dpmsolver++", "sde-dpmsolver++"], solver_order=[1, 2, 3])
    for steps in [5, 6, 10]:
        for choice in options(**algorithms, solver_type=["midpoint", "heun"], final_sigmas_type=["zero", "sigma_min"], lower_order_final=[True, False]):
            yield "variant", dict(base, **choice), steps, None, [-1]
    yield from corners(base, [choice | ({} if "++" in choice["algorithm_type"] else dict(final_sigmas_type="sigma_min")) for choice in options(**algorithms)], [])


def deis(base_of):
    base = base_of("DEISMultistepScheduler")
    for choice in options(solver_order=[1, 2, 3], lower_order_final=[True, False]):
        for steps in [5, 10, 17]:
            yield "variant", dict(base, **choice), steps, None, [-1]
    yield from corners(base, options(solver_order=[1, 3]), SPACINGS)
    for spacing in ["leading", "trailing"]:
        yield "long", dict(base, timestep_spacing=spacing), 999, None, [-1]


def unipc(base_of):
    base = base_of("UniPCMultistepScheduler")
    ends = ["zero", "sigma_min"]
    for steps in [5, 10, 17]:
        for choice in options(solver_type=["bh1", "bh2"], solver_order=[1, 2, 3], predict_x0=[True, False], final_sigmas_type=ends, lower_order_final=[True, False]):
            yield "variant", dict(base, **choice), steps, None, [-1]
    for disabled in [[0], [1], [0, 1, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]:
        for choice in options(solver_order=[2, 3], predict_x0=[True, False]):
            yield "variant", dict(base, disable_corrector=disabled, final_sigmas_type="sigma_min", **choice), 10, None, [-2, -1]
    yield from corners(base, options(solver_order=[1, 2, 3], predict_x0=[True, False], final_sigmas_type=["sigma_min"]), SPACINGS, THREE)
    for levels in LEVELS[:3]:
        yield "sigmas", dict(base, final_sigmas_type="sigma_min", **{levels: True}), 5, None, [-2, -1]
    for spacing in ["leading", "trailing"]:
        yield "long", dict(base, timestep_spacing=spacing), 999, None, [-1]
    for levels in LEVELS[:3]:
        yield "ends", dict(base, sigma_min=0.1, sigma_max=10.0, **{levels: True}), 7, None, [-2, -1]


def sasolver(base_of):
    base = base_of("SASolverScheduler")
    algorithms = ["data_prediction", "noise_prediction"]
    for steps in [6, 17]:
        for choice in options(predictor_order=[1, 2, 3, 4], corrector_order=[1, 2, 3, 4], algorithm_type=algorithms):
            yield "variant", dict(base, **choice), steps, None, [-1]
        for order in [2, 4]:
            for algorithm in algorithms:
                yield "variant", dict(base, predictor_order=order, corrector_order=order, algorithm_type=algorithm, lower_order_final=False), steps, None, [-1]
    orders = [dict(predictor_order=predictor, corrector_order=corrector) for predictor, corrector in [(1, 1), (2, 2), (3, 3), (4, 4), (1, 4), (4, 1)]]
    yield from corners(base, [dict(order, algorithm_type=algorithm) for order in orders for algorithm in algorithms], SPACINGS, THREE)
    for spacing in ["leading", "trailing"]:
        yield "long", dict(base, timestep_spacing=spacing), 999, None, [-1]


def consistency(base_of):
    for steps in [4, 8]:
        for eta in [0, 0.3, 1]:
            for prediction in THREE:
                yield "variant", dict(base_of("TCDScheduler"), eta=eta, prediction_type=prediction), steps, None, [-2, -1]
        for kind in ["LCMScheduler", "TCDScheduler"]:
            for original in [50, 100, 30]:
                yield "variant", dict(base_of(kind), original_inference_steps=original), steps, None, [-2, -1]
        for scaling in [0.001, 1.0, 10.0]:
            yield "variant", dict(base_of("LCMScheduler"), timestep_scaling=scaling), steps, None, [-2, -1]
    yield "variant", dict(base_of("TCDScheduler"), eta=1), 10, 0.5, [-2, -1]
    for kind in ["LCMScheduler", "TCDScheduler"]:
        yield "long", dict(base_of(kind), original_inference_steps=1000), 1000, None, [-1]


def edges(base_of):
    """What diffusers refuses, or should: bad options, more steps than times, times past the end or out of order."""
    for kind, predictions in PREDICTIONS.items():
        if "sample" not in predictions:
            yield "edge", dict(base_of(kind), prediction_type="sample"), 5, None, None
        yield "edge", dict(base_of(kind), prediction_type="noise"), 5, None, None
        yield "edge", dict(base_of(kind), beta_schedule="cosine"), 5, None, None
        yield "edge", dict(base_of(kind), num_train_timesteps=100), 101, None, [-1]
        if OWN_SPACINGS.get(kind, SPACINGS):
            yield "edge", dict(base_of(kind), num_train_timesteps=100, timestep_spacing="leading", steps_offset=1), 100, None, [-1]
            yield "edge", dict(base_of(kind), timestep_spacing="quadratic"), 5, None, None
            # Rounding makes 62 times of these 61 steps, the last of them -1.
            yield "edge", dict(base_of(kind), timestep_spacing="trailing"), 61, None, [-1]
    yield "edge", dict(base_of("DDIMInverseScheduler"), timestep_spacing="linspace"), 3, None, None
    for kind in TIMED:
        for times in [[400, 700, 100], [500, 500, 100], [1000, 500]]:
            yield "edge", dict(base_of(kind), timesteps=times), len(times), None, [-1]
    for kind in ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]:
        yield "edge", dict(base_of(kind), timesteps=[900, 500], use_karras_sigmas=True), 2, None, [-1]
    yield "edge", dict(base_of("EulerDiscreteScheduler"), use_karras_sigmas=True, use_beta_sigmas=True), 3, None, None


def ipndm(base_of):
    """It reads the number of training times and `trained_betas`, which are its levels, from noise down; nothing else.

    The schedule and the spacings are here to be left out. prediction_type is for our reader: diffusers takes every output for a velocity.
    """
    base = dict(base_of("IPNDMScheduler"), prediction_type="v_prediction")
    for steps in [2, 3, 4, 7, 10, 20]:
        yield "grid", base, steps, None, None if steps <= 10 else [-2, -1]
    for steps in [50, 999, 1000]:
        yield "long", base, steps, None, [-2, -1]
    for unread in [dict(beta_schedule="squaredcos_cap_v2"), dict(beta_schedule="sigmoid", timestep_spacing="trailing"), dict(timestep_spacing="ays", steps_offset=1), dict(num_train_timesteps=100)]:
        for steps in [5, 61]:
            yield "unread", dict(base, **unread), steps, None, [-2, -1]
    own = dict(_class_name="IPNDMScheduler", prediction_type="v_prediction")
    yield "unread", own, 5, None, None
    for levels in [[0.9, 0.6, 0.3, 0.1], [0.9, 0.1], [0.999, 0.97, 0.9, 0.8, 0.65, 0.45, 0.3, 0.2, 0.1, 0.01], [0.99 - 0.03 * k for k in range(32)]]:
        given = dict(own, trained_betas=levels, num_train_timesteps=len(levels))
        yield "betas", given, len(levels) - 1, None, None if len(levels) <= 10 else [-2, -1]
    for steps, strength in [(5, 0.8), (10, 0.5), (20, 1.0)]:
        yield "image", base, steps, strength, [-2, -1]
    # One step makes zeros of everything; more steps than training times; levels that are not as many as the steps, or rise.
    yield "edge", base, 1, None, None
    yield "edge", dict(base, num_train_timesteps=100), 101, None, [-1]
    for levels, steps in [([0.9, 0.6, 0.3, 0.1], 10), ([0.1, 0.5, 0.9], 2), ([0.5, 0.5, 0.1], 2)]:
        yield "edge", dict(own, trained_betas=levels, num_train_timesteps=len(levels)), steps, None, None


# Files of checkpoints, the classes that a pipeline runs them by, and the others that are made of those.
FILES = [
    dict(_class_name="PNDMScheduler", **STABLE_DIFFUSION, skip_prk_steps=True),
    dict(_class_name="PNDMScheduler", **STABLE_DIFFUSION, skip_prk_steps=True, steps_offset=0, clip_sample=True, timestep_spacing="trailing"),
    dict(_class_name="DDIMScheduler", **STABLE_DIFFUSION, steps_offset=1, clip_sample=False, set_alpha_to_one=False),
    dict(_class_name="DDIMScheduler", **STABLE_DIFFUSION, _use_default_values=["clip_sample", "steps_offset"], clip_sample=True, steps_offset=0),
    dict(_class_name="EulerDiscreteScheduler", **STABLE_DIFFUSION, steps_offset=2, interpolation_type="linear", use_karras_sigmas=False),
]
PIPED = ["PNDMScheduler", "DDIMScheduler", "DDPMScheduler", "TCDScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]


CLIPS = {"clip": dict(clip_sample=True), "clip range": dict(clip_sample=True, clip_sample_range=2.5)}
THRESHOLDS = {"threshold": dict(thresholding=True, dynamic_thresholding_ratio=0.83, sample_max_value=3.0)}


def replays(known):
    """Runs with clipping; the seeds are their places in this list."""
    base = dict(_class_name="DDPMScheduler", **STABLE_DIFFUSION)
    yield "clip", dict(base, clip_sample=True), 5
    yield "clip range", dict(base, clip_sample=True, clip_sample_range=2.5, prediction_type="v_prediction", steps_offset=1), 4
    yield "threshold", dict(base, thresholding=True, dynamic_thresholding_ratio=0.83, sample_max_value=3.0), 5
    yield "threshold sample", dict(base, thresholding=True, dynamic_thresholding_ratio=0.7, prediction_type="sample"), 4
    yield "defaults", dict(_class_name="DDPMScheduler"), 4
    for kind in ["DDIMScheduler", "DDIMInverseScheduler", "HeunDiscreteScheduler", "LCMScheduler", "TCDScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "SASolverScheduler"]:
        for name, clipping in [*CLIPS.items(), *THRESHOLDS.items()]:
            if all(option in known(kind) for option in clipping):
                for prediction, steps in [("epsilon", 5), ("v_prediction", 4)]:
                    yield f"{name} {kind} {prediction}", dict(base_of(kind, known), **{"prediction_type": prediction, **clipping}), steps
    base = dict(_class_name="DDIMScheduler", clip_sample=True, eta=0.5, **STABLE_DIFFUSION)
    yield "clip eta DDIMScheduler", base, 5
    yield "defaults DDIMScheduler", dict(_class_name="DDIMScheduler"), 4
    noise = dict(prediction_type="sample", final_sigmas_type="sigma_min", **THRESHOLDS["threshold"])
    for kind in ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"]:
        for algorithm in ["dpmsolver", "sde-dpmsolver", "sde-dpmsolver++"]:
            if (kind, algorithm) != ("DPMSolverSinglestepScheduler", "sde-dpmsolver"):
                yield f"threshold {kind} {algorithm}", dict(base_of(kind, known), algorithm_type=algorithm, **noise), 5
    yield "threshold UniPCMultistepScheduler noise", dict(base_of("UniPCMultistepScheduler", known), predict_x0=False, **noise), 5
    del noise["final_sigmas_type"]
    yield "threshold SASolverScheduler noise", dict(base_of("SASolverScheduler", known), algorithm_type="noise_prediction", **noise), 5
