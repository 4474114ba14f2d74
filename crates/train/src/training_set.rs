//! The pictures to train on.

use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_shapes::{Canvas, Jitter, Scene, Stream};

/// Scenes that are not held out, with their pictures.
pub struct TrainingSet {
    /// The scene of each picture.
    pub scenes: Vec<Scene>,
    pixels: Tensor, // [pictures, 3, 64, 64] bytes
}

impl TrainingSet {
    /// Draws `count` pictures from a seed, on all cores.
    pub fn draw(seed: u64, count: usize) -> TrainingSet {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = count.div_ceil(cores).max(1);
        let chunks: Vec<Vec<(Scene, Canvas)>> = std::thread::scope(|scope| {
            let starts = (0..count).step_by(share);
            let draw = |from: usize| (from..(from + share).min(count)).map(|index| one(seed, index as u64)).collect();
            let threads: Vec<_> = starts.map(|from| scope.spawn(move || draw(from))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
        });
        let (scenes, pictures): (Vec<_>, Vec<_>) = chunks.into_iter().flatten().unzip();
        let side = Canvas::SIDE as i64;
        let bytes = pictures.iter().flat_map(|picture| picture.pixels.iter().copied()).collect::<Vec<u8>>();
        let pixels = Tensor::from_slice(&bytes).view([scenes.len() as i64, side, side, 3]);
        TrainingSet { scenes, pixels: pixels.permute([0, 3, 1, 2]).contiguous() }
    }

    /// The pictures with these indices, `[batch, 3, 64, 64]` in -1..1.
    pub fn batch(&self, numbers: &Tensor, device: Device) -> Tensor {
        self.pixels.index_select(0, numbers).to_device(device).to_kind(Kind::Float) / 127.5 - 1.0
    }
}

/// The scene and picture of an index: the first scene of its stream that is not held out.
fn one(seed: u64, index: u64) -> (Scene, Canvas) {
    let mut stream = Stream::numbered(seed, index);
    loop {
        let scene = Scene::random(&mut stream);
        if !scene.held_out() {
            let picture = scene.draw(&mut Jitter::from(stream));
            return (scene, picture);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_depend_on_their_number_alone_and_show_nothing_held_out() {
        let (few, many) = (TrainingSet::draw(5, 3), TrainingSet::draw(5, 40));
        assert_eq!(few.scenes, many.scenes[..3]);
        assert!(many.scenes.iter().all(|scene| !scene.held_out()));
        let numbers = Tensor::from_slice(&[2i64]);
        let batch = few.batch(&numbers, Device::Cpu);
        assert!(batch.equal(&many.batch(&numbers, Device::Cpu)));
        assert_eq!(batch.size(), [1, 3, 64, 64]);
        // The corner is background.
        let corner = (batch.double_value(&[0, 0, 0, 0]) + 1.0) * 127.5;
        assert!((corner - f64::from(few.scenes[2].background.rgb()[0])).abs() < 1e-3);
    }
}
