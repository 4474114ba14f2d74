"""The programs written in Python that tools/bench_peers.py measures, each in a process of its own:

    python workers.py PEER FORMAT DEVICE CHECKPOINT THREADS CACHE

The model is opened before the first answer. Then a request a line on stdin and an answer a line on stdout, in seconds, as in
examples/turns.rs; `error: WHY` if it cannot be done:

    ready          as text; answered when the first UNet call could begin
    text           a prompt of 77 tokens to text features
    unet N         one UNet call of two rows, the mean of N
    decode         latents to pixels
    image STEPS    a picture at guidance 7.5
    sweep STEPS    nine guidance scales, one picture after the other
    convolution    (peer `ceiling`) operations a second: the best of NCHW and channels-last
    matmul         (peer `ceiling`) operations a second
    operations_unet, operations_decode    (peer `ceiling`) not a time: how many there are in a call
    version        not a time: what was measured, in words

The peer `openvino-files` only writes the converted networks and takes no requests.
"""

import contextlib
import json
import os
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

PROMPT = "a large red circle on the left, white background"
SCALES = [0.25, 0.5, 1, 2, 4, 6, 8, 10, 20]
REQUESTS = ["ready", "text", "unet", "decode", "image", "sweep", "convolution", "matmul", "operations_unet", "operations_decode", "version"]


def timed(work, after=lambda: None):
    after()
    began = time.perf_counter()
    work()
    after()
    return time.perf_counter() - began


class Worker:
    """A peer of which `text`, `unet`, `decode` and so on can be asked."""

    def __init__(self, given):
        self.given = given

    def answer(self, request):
        name, *numbers = request.split()
        if name not in REQUESTS:
            raise ValueError(f"{request}: no such request")
        return getattr(self, name)(*map(int, numbers))

    def ready(self):
        return self.text()


class Torch(Worker):
    """What the peers that use torch have in common."""

    def __init__(self, given):
        super().__init__(given)
        import torch

        self.torch = torch
        torch.set_num_threads(given.threads)
        torch.set_grad_enabled(False)
        # As ours: f32 is f32, not TF32.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[given.format]
        self.at = {"device": given.device, "dtype": self.dtype}

    def timed(self, work):
        return timed(work, self.torch.cuda.synchronize if self.given.device == "cuda" else lambda: None)

    def normal(self, *shape):
        return self.torch.randn(shape, **self.at)


class Diffusers(Torch):
    """StableDiffusionPipeline, as from_pretrained gives it, or channels-last, or its UNet and decoder compiled by inductor too."""

    def __init__(self, given, layout="nchw"):
        super().__init__(given)
        import torch
        from diffusers import StableDiffusionPipeline

        self.layout = layout
        self.pipe = StableDiffusionPipeline.from_pretrained(given.checkpoint, dtype=self.dtype, safety_checker=None)
        self.pipe.to(given.device)
        self.pipe.set_progress_bar_config(disable=True)
        config = self.pipe.unet.config
        side, width = config.sample_size, config.cross_attention_dim
        self.sample, self.context, self.latents = self.normal(2, 4, side, side), self.normal(2, 77, width), self.normal(1, 4, side, side)
        self.time = torch.tensor(500, device=given.device)
        self.ids = self.tokens()
        if layout != "nchw":
            self.to_channels_last()
        if layout == "compiled":
            self.compile()

    def tokens(self):
        found = self.pipe.tokenizer(PROMPT, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return found.input_ids.to(self.given.device)

    def to_channels_last(self):
        self.pipe.unet.to(memory_format=self.torch.channels_last)
        self.pipe.vae.to(memory_format=self.torch.channels_last)

    def compile(self):
        mode = "max-autotune" if self.given.device == "cuda" else "default"
        compiled = lambda work: self.torch.compile(work, mode=mode, dynamic=False, fullgraph=True)
        self.pipe.unet.forward = compiled(self.pipe.unet.forward)
        self.pipe.vae.decoder.forward = compiled(self.pipe.vae.decoder.forward)

    def text(self):
        return self.timed(lambda: self.pipe.text_encoder(self.ids))

    def unet(self, count):
        # With the arguments of the pipeline's own call, or each kind would be compiled.
        more = {"timestep_cond": None, "cross_attention_kwargs": None, "added_cond_kwargs": None, "return_dict": False}

        def calls():
            for _ in range(count):
                self.pipe.unet(self.sample, self.time, encoder_hidden_states=self.context, **more)

        return self.timed(calls) / count

    def decode(self):
        def pixels():
            decoded = self.pipe.vae.decode(self.latents / self.pipe.vae.config.scaling_factor, return_dict=False)[0]
            self.pipe.image_processor.postprocess(decoded, output_type="np")

        return self.timed(pixels)

    def image(self, steps):
        return self.timed(lambda: self.picture(steps, 7.5))

    def sweep(self, steps):
        return self.timed(lambda: [self.picture(steps, scale) for scale in SCALES])

    def picture(self, steps, guidance):
        generator = self.torch.Generator("cpu").manual_seed(193)
        self.pipe(PROMPT, num_inference_steps=steps, guidance_scale=guidance, generator=generator)

    def version(self):
        return f"diffusers {version('diffusers')}, torch {version('torch')}, transformers {version('transformers')}"


class OpenVino(Worker):
    """The networks of diffusers, converted once to static shapes and kept in the cache folder."""

    PARTS = ("text", "unet", "decode")

    def __init__(self, given):
        super().__init__(given)
        import numpy
        import openvino

        self.openvino = openvino
        self.numpy = numpy
        folder = openvino_folder(given)
        core = openvino.Core()
        # Stated, since f32 is computed in bf16 where the processor has it, and f16 weights could be kept.
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(given.threads),
            "INFERENCE_PRECISION_HINT": given.format,
        }
        self.models = {part: core.compile_model(core.read_model(folder / f"{part}.xml"), "CPU", options) for part in self.PARTS}
        self.requests = {part: model.create_infer_request() for part, model in self.models.items()}
        self.inputs = {part: [self.fill(port) for port in model.inputs] for part, model in self.models.items()}

    def fill(self, port):
        shape = list(port.shape)
        if port.element_type.is_integral():
            return self.numpy.ones(shape, port.element_type.to_dtype())
        return self.numpy.random.default_rng(1).standard_normal(shape, self.numpy.float32)

    def run(self, part, count=1):
        request, inputs = self.requests[part], self.inputs[part]
        return timed(lambda: [request.infer(inputs, share_inputs=True) for _ in range(count)]) / count

    def text(self):
        return self.run("text")

    def unet(self, count):
        return self.run("unet", count)

    def decode(self):
        return self.run("decode")

    def image(self, steps):
        return 2 * self.text() + steps * self.unet(steps) + self.decode()

    def version(self):
        found = self.models["unet"].get_property("INFERENCE_PRECISION_HINT")
        return f"openvino {version('openvino')}, precision {found.get_type_name()}"


def openvino_folder(given):
    return given.cache / "openvino" / given.checkpoint.name


def write_openvino(given):
    folder = openvino_folder(given)
    if not (folder / "complete").exists():
        convert_to_openvino(given.checkpoint, folder)
    sys.exit()


def convert_to_openvino(checkpoint, folder):
    """Writes the three networks in f32. One is in memory at a time."""
    import openvino
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.set_grad_enabled(False)
    config = json.loads((checkpoint / "unet" / "config.json").read_text())
    side, width = config["sample_size"], config["cross_attention_dim"]
    normal = torch.randn

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = CLIPTextModel.from_pretrained(checkpoint / "text_encoder").eval()

        def forward(self, ids):
            return self.inner(ids, return_dict=False)[0]

    class Unet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = UNet2DConditionModel.from_pretrained(checkpoint / "unet").eval()

        def forward(self, sample, time, context):
            return self.inner(sample, time, context, return_dict=False)[0]

    class Decode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = AutoencoderKL.from_pretrained(checkpoint / "vae").eval()

        def forward(self, latents):
            return self.inner.decode(latents / self.inner.config.scaling_factor, return_dict=False)[0]

    parts = {
        "text": (Text, (torch.ones([1, 77], dtype=torch.int64),)),
        "unet": (Unet, (normal(2, 4, side, side), torch.tensor([500.0]), normal(2, 77, width))),
        "decode": (Decode, (normal(1, 4, side, side),)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (module, example) in parts.items():
        shapes = [list(tensor.shape) for tensor in example]
        model = openvino.convert_model(module(), example_input=example, input=shapes)
        openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
        del model
    (folder / "complete").touch()


class StableDiffusionCpp(Worker):
    """stable-diffusion.cpp, which makes whole pictures: the parts are told apart by the moments of its own messages.

    It computes the two halves of guidance one after the other, in each step. A request for steps also decodes, and the next request
    for a decoded picture is answered with that.
    """

    MARKS = {
        "text": re.compile(r"get_learned_condition completed"),
        "sampled": re.compile(r"sampling completed|generating \d+ latent images completed"),
        "decoded": re.compile(r"latent \d+ decoded|decode_first_stage completed"),
    }

    def __init__(self, given):
        super().__init__(given)
        import ctypes

        import stable_diffusion_cpp as library

        self.marks, self.steps, self.decoded, self.waiting = {}, [], None, False

        @library.sd_log_callback
        def log(_level, text, _data):
            self.hear(text.decode("utf-8", errors="replace"))

        self.log = log  # or it would be collected
        self.model = library.StableDiffusion(
            model_path=str(single_file(given)), wtype={"f32": "f32", "bf16": "f16", "f16": "f16"}[given.format],
            n_threads=given.threads, vae_decode_only=True, diffusion_conv_direct=True, vae_conv_direct=True)
        library.sd_set_log_callback(log, ctypes.c_void_p(0))
        if not self.model.model:
            raise ValueError("stable-diffusion.cpp does not take this checkpoint; its log says why")

    def hear(self, text):
        """A message of the library."""
        sys.stderr.write(text)
        for name, pattern in self.MARKS.items():
            if pattern.search(text):
                self.marks[name] = time.perf_counter()
                if name == "text" and self.waiting:
                    self.given.say(0.0)

    def ready(self):
        """Answers in the middle of a small picture."""
        self.waiting = True
        self.make(1, 64)
        self.waiting = False

    def make(self, steps, side=512):
        """Makes a picture, and returns when it began."""
        self.marks, self.steps = {}, []
        began = time.perf_counter()
        self.model.generate_image(
            prompt=PROMPT, negative_prompt="", width=side, height=side, cfg_scale=7.5, sample_steps=steps, seed=193,
            sample_method="euler", progress_callback=lambda step, *_: self.steps.append((step, time.perf_counter())))
        return began

    def text(self):
        began = self.make(1, 64)
        return (self.marks["text"] - began) / 2

    def unet(self, count):
        began = self.make(count)
        moments = [self.marks["text"], *sorted(moment for step, moment in self.steps if step > 0)]
        self.decoded = self.marks["decoded"] - self.marks["sampled"]
        return (moments[count] - moments[0]) / count

    def decode(self):
        if self.decoded is None:
            self.unet(1)
        kept, self.decoded = self.decoded, None
        return kept

    def image(self, steps):
        return timed(lambda: self.make(steps))

    def version(self):
        return f"stable-diffusion-cpp-python {version('stable-diffusion-cpp-python')}"


def single_file(given):
    return given.cache / f"{given.checkpoint.name}.safetensors"


class Ceiling(Torch):
    """The best that torch gets of this machine in one operation: 320 to 320 channels 3x3 at 64x64, and a matrix of 4096."""

    def __init__(self, given):
        super().__init__(given)
        side, size = (64, 4096) if not given.quick else (16, 512)
        self.side, self.size = side, size
        self.picture = self.normal(2, 320, side, side)
        self.weight = self.normal(320, 320, 3, 3) * 0.02
        self.matrix = self.normal(size, size)

    def rate(self, operations, work):
        return operations / min(self.timed(work) for _ in range(3))

    def convolution(self):
        operations = 2 * 2 * self.side**2 * 320 * 320 * 9
        convolve = self.torch.nn.functional.conv2d
        last = self.torch.channels_last
        pairs = [(self.picture, self.weight), (self.picture.contiguous(memory_format=last), self.weight.contiguous(memory_format=last))]
        return max(self.rate(operations, lambda: convolve(*pair, padding=1)) for pair in pairs)

    def operations_unet(self):
        from diffusers import UNet2DConditionModel

        config = UNet2DConditionModel.load_config(self.given.checkpoint / "unet")
        side, width = config["sample_size"], config["cross_attention_dim"]
        shapes = [(2, 4, side, side), (), (2, 77, width)]
        return self.operations(lambda: UNet2DConditionModel.from_config(config), shapes)

    def operations_decode(self):
        from diffusers import AutoencoderKL

        config = AutoencoderKL.load_config(self.given.checkpoint / "vae")
        side = json.loads((self.given.checkpoint / "unet" / "config.json").read_text())["sample_size"]
        return self.operations(lambda: AutoencoderKL.from_config(config).decode, [(1, 4, side, side)])

    def operations(self, network, shapes):
        """Of matrix products and convolutions, counted by torch without computing them."""
        from torch.utils.flop_counter import FlopCounterMode

        with self.torch.device("meta"):
            network = network()
            given = [self.torch.empty(shape) for shape in shapes]
        with FlopCounterMode(display=False) as counter:
            network(*given)
        return counter.get_total_flops()

    def matmul(self):
        return self.rate(2 * self.size**3, lambda: self.matrix @ self.matrix)

    def version(self):
        return f"torch {version('torch')}"


PEERS = {
    "diffusers": Diffusers,
    "channels-last": lambda given: Diffusers(given, "channels-last"),
    "compile": lambda given: Diffusers(given, "compiled"),
    "openvino": OpenVino,
    "openvino-files": write_openvino,
    "sdcpp": StableDiffusionCpp,
    "ceiling": Ceiling,
}


class Given:
    def __init__(self, peer, format, device, checkpoint, threads, cache):
        self.peer, self.format, self.device, self.threads = peer, format, device, int(threads)
        self.checkpoint, self.cache = Path(checkpoint), Path(cache)
        self.say = None  # prints an answer
        self.quick = os.environ.get("BENCH_QUICK") == "1"


@contextlib.contextmanager
def only_answers():
    """A stream for the answers; what libraries print goes to stderr."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        yield answers


def main():
    with only_answers() as answers:
        say = lambda answer: print(str(answer).replace("\n", " "), file=answers)
        why = lambda error: f"error: {type(error).__name__}: {error}"
        try:
            began = time.perf_counter()
            given = Given(*sys.argv[1:])
            given.say = say
            worker = PEERS[given.peer](given)
            say(time.perf_counter() - began)
        except Exception as error:
            say(why(error))
            raise
        for line in sys.stdin:
            try:
                answer = worker.answer(line.strip())
                if answer is not None:
                    say(answer)
            except Exception as error:
                say(why(error))


if __name__ == "__main__":
    main()
