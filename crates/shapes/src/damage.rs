//! Damages of pictures, to see what the checker still reads.

use crate::draw::Canvas;
use crate::stream::Stream;

impl Canvas {
    /// The mean of each pixel and its eight neighbours, with repeated edges.
    pub fn blurred(&self) -> Canvas {
        let (width, height) = (self.width, self.height);
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            let mut sum = [0_u32; 3];
            for (right, down) in (0..3).flat_map(|down| (0..3).map(move |right| (right, down))) {
                let near = self.pixel((x + right).clamp(1, width) - 1, (y + down).clamp(1, height) - 1);
                for (sum, value) in sum.iter_mut().zip(near) {
                    *sum += u32::from(value);
                }
            }
            pixels.extend(sum.map(|sum| ((sum + 4) / 9) as u8));
        }
        Canvas { width, height, pixels }
    }

    /// Adds Gaussian noise with this standard deviation, in levels of 0 to 255, to every value (Box and Muller 1958).
    pub fn noisy(&self, deviation: f64, stream: &mut Stream) -> Canvas {
        let mut normal = || (-2.0 * (1.0 - stream.unit()).ln()).sqrt() * (std::f64::consts::TAU * stream.unit()).cos();
        let pixels = self.pixels.iter().map(|&value| (f64::from(value) + deviation * normal()).round());
        Canvas { pixels: pixels.map(|value| value.clamp(0.0, 255.0) as u8).collect(), ..*self }
    }
}
