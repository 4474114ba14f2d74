//! The pictures to train on.

use latentrace_nn::tch::{Device, Kind, Tensor};
use latentrace_shapes::{Jitter, Scene, Stream};

/// Scenes that may be trained on. Their pictures are drawn when they are needed, which takes a fraction of a training step:
/// as bytes, those of 128x128 pixels would take more memory than everything else. The steps of a GPU are shorter than the
/// drawing: there all are drawn before ([`TrainingSet::kept`]).
pub struct TrainingSet {
    /// The scene of each picture.
    pub scenes: Vec<Scene>,
    jitters: Vec<Jitter>,
    side: usize,
    /// The bytes of every picture.
    kept: Option<Vec<Vec<u8>>>,
}

impl TrainingSet {
    /// The first `count` scenes of a seed, with pictures of `side` x `side` pixels. A scene and its picture depend on the
    /// seed and its index alone.
    pub fn new(seed: u64, count: usize, side: usize) -> TrainingSet {
        let (scenes, jitters) = (0..count as u64).map(|index| one(seed, index)).unzip();
        TrainingSet { scenes, jitters, side, kept: None }
    }

    /// The same pictures, all drawn now on all cores, and kept.
    #[must_use]
    pub fn kept(mut self) -> TrainingSet {
        let numbers: Vec<usize> = (0..self.scenes.len()).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pictures: Vec<Option<Vec<Vec<u8>>>> = std::thread::scope(|scope| {
            let draw = |some: &[usize]| some.iter().map(|&number| self.draw(number)).collect();
            let chunks = numbers.chunks(numbers.len().div_ceil(cores).max(1));
            let threads: Vec<_> = chunks.map(|some| scope.spawn(move || draw(some))).collect();
            threads.into_iter().map(|thread| thread.join().ok()).collect()
        });
        let whole: Option<Vec<Vec<Vec<u8>>>> = pictures.into_iter().collect();
        self.kept = whole.map(|chunks| chunks.concat());
        self
    }

    /// The bytes of a picture, row by row, three a pixel.
    fn draw(&self, number: usize) -> Vec<u8> {
        self.scenes[number].draw(self.side, &mut self.jitters[number].clone()).pixels
    }

    /// The pictures with these indices, `[batch, 3, side, side]` in -1..1.
    pub fn batch(&self, numbers: &[usize], device: Device) -> Tensor {
        let bytes: Vec<u8> = match &self.kept {
            Some(kept) => numbers.iter().flat_map(|&number| &kept[number]).copied().collect(),
            None => numbers.iter().flat_map(|&number| self.draw(number)).collect(),
        };
        let side = self.side as i64;
        let pixels = Tensor::from_slice(&bytes).view([numbers.len() as i64, side, side, 3]).to_device(device);
        pixels.permute([0, 3, 1, 2]).contiguous().to_kind(Kind::Float) / 127.5 - 1.0
    }

    /// Random pictures, `[count, 3, side, side]` in -1..1.
    pub(crate) fn drawn(&self, stream: &mut Stream, count: usize) -> Tensor {
        let scenes = self.scenes.len() as f64;
        let numbers: Vec<usize> = (0..count).map(|_| (stream.unit() * scenes) as usize).collect();
        self.batch(&numbers, Device::Cpu)
    }

    /// A square piece of a random picture for each of `count`, `[count, 3, side, side]` in -1..1.
    pub(crate) fn crops(&self, stream: &mut Stream, count: usize, side: usize) -> Tensor {
        let below = |stream: &mut Stream, count: usize| (stream.unit() * count as f64) as usize;
        let (numbers, places): (Vec<usize>, Vec<[i64; 2]>) = (0..count)
            .map(|_| {
                let number = below(stream, self.scenes.len());
                (number, [(); 2].map(|()| below(stream, self.side - side + 1) as i64))
            })
            .unzip();
        let crop = |(picture, [top, left]): (Tensor, [i64; 2])| {
            picture.unsqueeze(0).narrow(2, top, side as i64).narrow(3, left, side as i64)
        };
        let crops: Vec<Tensor> =
            self.batch(&numbers, Device::Cpu).unbind(0).into_iter().zip(places).map(crop).collect();
        Tensor::cat(&crops, 0)
    }

    /// Height and width of the pictures.
    pub fn side(&self) -> usize {
        self.side
    }
}

/// The scene and jitter of an index: the first scene of its stream that may be trained on.
fn one(seed: u64, index: u64) -> (Scene, Jitter) {
    let mut stream = Stream::numbered(seed, index);
    loop {
        let scene = Scene::random(&mut stream);
        if scene.trained_on() {
            return (scene, Jitter::from(stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_depend_on_their_number_alone_and_show_nothing_held_out() {
        let (few, many) = (TrainingSet::new(5, 3, 64), TrainingSet::new(5, 400, 64));
        assert_eq!(few.scenes, many.scenes[..3]);
        assert!(many.scenes.iter().all(|scene| !scene.held_out() && !scene.unseen_pair()));
        let batch = few.batch(&[2], Device::Cpu);
        assert!(batch.equal(&many.batch(&[2], Device::Cpu)));
        assert!(batch.equal(&TrainingSet::new(5, 7, 64).kept().batch(&[2], Device::Cpu)));
        assert_eq!(batch.size(), [1, 3, 64, 64]);
        // The corner is background.
        let corner = (batch.double_value(&[0, 0, 0, 0]) + 1.0) * 127.5;
        assert!((corner - f64::from(few.scenes[2].background.rgb()[0])).abs() < 1e-3);
    }
}
