"""Small pictures in every format that is read, and what Pillow reads of them (`python make.py`, with Pillow 13).

Each file has the pixels of `base.png` where its format loses nothing; else `NAME.EXTENSION.png` beside it has those that
Pillow reads, the right way up and without transparency, as diffusers' `load_image` has them.
"""

from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).parent
WIDTH, HEIGHT = 37, 26


def base() -> Image.Image:
    """Smooth, so that JPEG keeps it, and different in every corner."""
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            picture.putpixel((x, y), (40 + 5 * x, 220 - 6 * y, 30 + 2 * x + 3 * y))
    return picture


def plain(path: Path) -> Image.Image:
    """What `load_image` makes of a file: its first frame, the right way up, in RGB."""
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def main() -> None:
    picture = base()
    other = ImageOps.mirror(picture)
    palette = picture.quantize(32)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter

    def keep(name: str, image: Image.Image, **options) -> None:
        image.save(HERE / name, **options)

    keep("base.png", picture)
    for name, options in [
        ("base.bmp", {}),
        ("base.webp", {"lossless": True}),
        ("frames.webp", {"lossless": True, "save_all": True, "append_images": [other]}),
        ("base.tiff", {}),
        ("deflate.tiff", {"compression": "tiff_deflate"}),
        ("lzw.tiff", {"compression": "tiff_lzw"}),
    ]:
        keep(name, picture, **options)
    rgba = picture.copy()
    rgba.putalpha(Image.linear_gradient("L").resize((WIDTH, HEIGHT)))
    keep("alpha.png", rgba)
    keep("alpha.webp", rgba, lossless=True, exact=True)

    keep("palette.png", palette, transparency=3)
    keep("palette.bmp", palette)
    keep("palette.gif", palette)
    keep("frames.gif", palette, save_all=True, append_images=[other.quantize(32)], duration=90)
    keep("clear.gif", palette, transparency=3)
    keep("alpha.tiff", rgba)
    grey = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    keep("grey16.png", grey.convert("I").point(lambda level: level * 257).convert("I;16"))
    keep("turned.png", picture, exif=exif)
    keep("turned.tiff", picture, exif=exif)
    keep("turned.webp", picture, lossless=True, exif=exif)

    for name, image, options in [
        ("base.jpg", picture, {}),
        ("full.jpg", picture, {"subsampling": 0}),
        ("progressive.jpg", picture, {"progressive": True}),
        ("restart.jpg", picture, {"restart_marker_blocks": 2}),
        ("turned.jpg", picture, {"exif": exif}),
        ("grey.jpg", grey, {}),
        ("cmyk.jpg", picture.convert("CMYK"), {}),
    ]:
        keep(name, image, quality=95, **options)
    # The same numbers with the flag of Adobe's marker that says they are YCCK.
    cmyk = (HERE / "cmyk.jpg").read_bytes()
    flag = cmyk.index(b"Adobe") + 11
    (HERE / "ycck.jpg").write_bytes(cmyk[:flag] + b"\2" + cmyk[flag + 1 :])
    keep("lossy.webp", picture, quality=95)

    for path in sorted(HERE.iterdir()):
        if path.suffix == ".py" or path.name.endswith(".png.png") or path.stem.count("."):
            continue
        # Pillow takes 16 bits of grey for 8 and cuts them off; they mean the same grey.
        read = grey.convert("RGB") if path.name == "grey16.png" else plain(path)
        expected = path.with_name(path.name + ".png")
        expected.unlink(missing_ok=True)
        if read.size != picture.size or read.tobytes() != picture.tobytes():
            read.save(expected)


if __name__ == "__main__":
    main()
