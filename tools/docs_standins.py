"""What commands of the documentation need that a checkout does not have, and which commands are not run, with reasons.

`./just docs` reads this file. An entry that no page needs is an error, so that none outlives its command. A command is
written as in the page, without its comment and on one line.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """A file or folder of a user. `make` is run in the working folder, once, if a command of the page names `path`.

    `$ALL` is empty without --all.
    """

    path: str
    reason: str
    make: str


@dataclass(frozen=True)
class Model:
    """A model in the cache of the hub. `make` writes its files into the folder `$TO`."""

    id: str
    reason: str
    make: str


@dataclass(frozen=True)
class Slow:
    """A command that only `./just docs --all` runs. Without --all, `instead` makes what later commands read."""

    command: str
    reason: str
    instead: str = ""


@dataclass(frozen=True)
class Never:
    """A command that is never run. `instead` makes what later commands read."""

    command: str
    reason: str
    instead: str = ""


# Of the tensors of Stable Diffusion 1.x, but narrow, and with pictures of 64 by 64 pixels: 50 steps take seconds.
TINY_SD = """
latentrace model synth tiny "$TO"
sed -i 's/"sample_size": 64/"sample_size": 8/' "$TO/unet/config.json"
"""

# Of the tensors of SDXL, but narrow and shallow, and with pictures of 128 by 128 pixels.
TINY_SDXL = """
latentrace model synth tiny-sdxl%s "$TO"
sed -i 's/"sample_size": 128/"sample_size": 16/' "$TO/unet/config.json"
"""

STAND_INS = [
    Model(
        "stabilityai/stable-diffusion-xl-base-1.0",
        "7 GB on the hub; random weights of a narrow UNet instead",
        TINY_SDXL % "" + """
latentrace model synth tiny-sdxl --dtype f16 half-xl
for file in text_encoder/model text_encoder_2/model unet/diffusion_pytorch_model vae/diffusion_pytorch_model; do
    mv half-xl/$file.safetensors "$TO/$file.fp16.safetensors"
done
""",
    ),
    Model(
        "stabilityai/sdxl-turbo",
        "7 GB on the hub; random weights of a narrow UNet instead",
        TINY_SDXL % "-turbo",
    ),
    Model(
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        "6 GB on the hub; random weights of a narrow UNet instead",
        TINY_SDXL % "-refiner",
    ),
    Model(
        "CompVis/stable-diffusion-v1-4",
        "4 GB on the hub; random weights of a narrow UNet instead, in both number formats that the page names",
        TINY_SD + """
latentrace model synth tiny --dtype f16 half
for file in text_encoder/model unet/diffusion_pytorch_model vae/diffusion_pytorch_model; do
    mv half/$file.safetensors "$TO/$file.fp16.safetensors"
done
""",
    ),
    Model(
        "openai/clip-vit-large-patch14",
        "on the hub; the tokenizer of the random weights instead",
        'latentrace model synth tiny clip && mv clip/tokenizer "$TO"',
    ),
    File(
        "dreamshaper.safetensors",
        "a user's single file; random weights instead, which differ from those of the hub's model. A single file has "
        "no configuration, so only weights of full size (2 GB) can be loaded; they are written with --all only",
        """
if [ "$ALL" ]; then kind="sd14 --dtype f16"; else kind=tiny; fi
latentrace model synth $kind --seed 1 made
latentrace model convert made dreamshaper.safetensors
rm -r made
""",
    ),
    File(
        "path/to/stable-diffusion-v1-4",
        "a user's checkpoint; random weights of a narrow UNet instead",
        "export TO=path/to/stable-diffusion-v1-4 && mkdir -p path/to" + TINY_SD,
    ),
    File(
        "CHECKPOINT",
        "a placeholder; random weights of a narrow UNet instead",
        "export TO=CHECKPOINT" + TINY_SD,
    ),
    File(
        "sweep.toml",
        "a user's spec; two pictures of two steps",
        """
cat >sweep.toml <<'END'
name = "sweep"
[fixed]
prompt = "a red circle"
steps = 2
[vary]
guidance = [1, 4]
END
""",
    ),
    File("runs/part-a", "a sweep on another machine", "latentrace run sweep.toml --output runs/part-a"),
    File("runs/part-b", "a sweep on another machine", "latentrace run sweep.toml --output runs/part-b"),
]

NOT_RUN = [
    Never("./just test", "runs every test, and CI has run it before"),
    Never(
        'python tools/dump_diffusers.py CHECKPOINT "a red circle" --select "unet.**.out" --output theirs.trace',
        "needs diffusers; the tests of parity run it. The record of the command before it stands for its record",
        "cp -r ours/*/trace theirs.trace",
    ),
    Slow(
        "./just sweep-guidance",
        "nine pictures of 50 steps; in its place nine of two steps, so that their report is written",
        "./just sweep-guidance --set steps=2 --output runs/sweep-guidance",
    ),
    Slow(
        "./just latentrace submit sweep-guidance --workers 2",
        "nine pictures of 50 steps; in its place nine of two steps, so that there is a folder to look at",
        "./just sweep-guidance --set steps=2 --output runs/sweep-guidance",
    ),
    Never(
        "latentrace submit sweep.toml --output /shared/sweep --slurm --time 02:00:00 --partition gpu --gres gpu:1",
        "needs Slurm and a folder that its nodes share",
    ),
    Never(
        "rsync -a cluster:/shared/sweep/ runs/sweep/",
        "needs another machine; in its place the sweep is made here",
        "latentrace run sweep.toml --output runs/sweep",
    ),
    Slow(
        './just generate "a photo of an astronaut" --model dreamshaper.safetensors '
        "--tokenizer openai/clip-vit-large-patch14",
        "a picture of 512 by 512 pixels by a network of full size takes many minutes on a CPU",
    ),
    Slow(
        './just sweep-guidance --set prompt="a small blue square at the top" --set "seed=[1, 2, 3]" --output runs/blue',
        "27 pictures of 50 steps",
    ),
    Slow("./just latentrace run experiments/specs/trajectory.toml", "three pictures of 50 steps with film strips"),
    Slow(
        './just latentrace vary data/pictures/init.png "a large red circle on the left, yellow background" '
        "--strength 0.6",
        "nine pictures of 30 steps",
    ),
    Slow(
        './just latentrace vary data/pictures/init.png "a large red circle on the left, yellow background" '
        "--mask data/pictures/mask.png --strength 1",
        "nine pictures of 50 steps",
    ),
]
