//! Draws a contact sheet of random scenes: `cargo run --release -p latentrace-shapes --example sheet -- sheet.png`

use std::error::Error;

use image::{RgbImage, imageops};
use latentrace_shapes::{Jitter, Scene, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("where to? hint: give the path of a .png")?;
    let (columns, rows, side, gap) = (12, 8, 128_u32, 6);
    let mut sheet = RgbImage::from_pixel(columns * (side + gap) + gap, rows * (side + gap) + gap, image::Rgb([128; 3]));
    for index in 0..columns * rows {
        let mut stream = Stream::numbered(0, u64::from(index));
        let scene = Scene::random(&mut stream);
        let picture = scene.draw(side as usize, &mut Jitter::from(stream));
        let tile = RgbImage::from_raw(side, side, picture.pixels).ok_or("a picture of another size")?;
        let (x, y) = (gap + index % columns * (side + gap), gap + index / columns * (side + gap));
        imageops::replace(&mut sheet, &tile, i64::from(x), i64::from(y));
    }
    sheet.save(path)?;
    Ok(())
}
