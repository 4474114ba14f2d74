//! The sizes, crops and scores that the UNet of SDXL is told of a picture ("micro-conditioning", Podell et al. 2023, section 2.2).

use crate::error::{Error, Result};
use crate::{Model, Size, Start};
use latentrace_checkpoints::Ids;
use latentrace_nn::tch::{Kind, Tensor};
use latentrace_schedulers::Reading;

/// What the UNet is told of a picture, under the names of diffusers' arguments. Sizes are height and width in pixels. `None` is the
/// default of diffusers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MicroConditions {
    /// The size of the picture before it was scaled. Defaults to the size of the run.
    pub original_size: Option<[i64; 2]>,
    /// The top and left of the crop, `crops_coords_top_left`. Defaults to 0, 0: a picture that nothing was cut from.
    pub crop: Option<[i64; 2]>,
    /// The size after scaling. Defaults to the size of the run. The refiner does not take it.
    pub target_size: Option<[i64; 2]>,
    /// `original_size` for the negative prompt. For its default see [`MicroConditions::ids`].
    pub negative_original_size: Option<[i64; 2]>,
    /// `crop` for the negative prompt. For its default see [`MicroConditions::ids`].
    pub negative_crop: Option<[i64; 2]>,
    /// `target_size` for the negative prompt. For its default see [`MicroConditions::ids`].
    pub negative_target_size: Option<[i64; 2]>,
    /// The aesthetic score, which the refiner takes in place of a target. Defaults to 6.
    pub aesthetic_score: Option<f64>,
    /// The aesthetic score for the negative prompt. Defaults to 2.5.
    pub negative_aesthetic_score: Option<f64>,
}

/// The scores that diffusers gives by default, for the prompt and for the negative prompt.
const SCORES: [f64; 2] = [6.0, 2.5];

/// The largest side that a size may have. SDXL was trained on sizes of pictures of the web.
const LARGEST: i64 = 65536;

impl MicroConditions {
    /// The numbers that the UNet takes with the prompt, and with the negative prompt.
    ///
    /// What is not given for the negative prompt is that of the prompt. [`Reading::Diffusers`] has three exceptions, as diffusers
    /// 0.42.1 has them:
    /// - without a picture to start from, what is given for the negative prompt has no effect, unless both of its sizes are given; and
    ///   then its crop defaults to 0, 0;
    /// - with a picture to start from, the crop of the prompt is used for both;
    /// - for the refiner the crop of the negative prompt defaults to 0, 0.
    pub fn ids(&self, ids: Ids, size: Size, is_from_picture: bool, reading: Reading) -> [Vec<f64>; 2] {
        let run = [size.height, size.width];
        let (original, crop) = (self.original_size.unwrap_or(run), self.crop.unwrap_or([0, 0]));
        let target = self.target_size.unwrap_or(run);
        let negative_original = self.negative_original_size.unwrap_or(original);
        let negative_target = self.negative_target_size.unwrap_or(target);
        let negative_crop = self.negative_crop.unwrap_or(crop);
        let negative_crop_or_none = self.negative_crop.unwrap_or([0, 0]);
        match (ids, reading) {
            (Ids::Target, reading) => {
                let prompt = numbers([original, crop, target]);
                let both = self.negative_original_size.is_some() && self.negative_target_size.is_some();
                let negative = match (reading, is_from_picture) {
                    (Reading::Exact, _) => numbers([negative_original, negative_crop, negative_target]),
                    (Reading::Diffusers, true) => numbers([negative_original, crop, negative_target]),
                    (Reading::Diffusers, false) if both => {
                        numbers([negative_original, negative_crop_or_none, negative_target])
                    }
                    (Reading::Diffusers, false) => prompt.clone(),
                };
                [prompt, negative]
            }
            (Ids::Score, reading) => {
                let negative_crop = match reading {
                    Reading::Diffusers => negative_crop_or_none,
                    Reading::Exact => negative_crop,
                };
                let with = |sizes: [[i64; 2]; 2], score: f64| [numbers(sizes), vec![score]].concat();
                let [score, negative_score] = SCORES;
                [
                    with([original, crop], self.aesthetic_score.unwrap_or(score)),
                    with([negative_original, negative_crop], self.negative_aesthetic_score.unwrap_or(negative_score)),
                ]
            }
        }
    }

    /// Each pair that is given, with its name and whether it is a size or a corner.
    fn pairs(&self) -> impl Iterator<Item = (&'static str, Pair, [i64; 2])> {
        let pairs = [
            ("original_size", Pair::Size, self.original_size),
            ("crop", Pair::Corner, self.crop),
            ("target_size", Pair::Size, self.target_size),
            ("negative_original_size", Pair::Size, self.negative_original_size),
            ("negative_crop", Pair::Corner, self.negative_crop),
            ("negative_target_size", Pair::Size, self.negative_target_size),
        ];
        pairs.into_iter().filter_map(|(name, pair, value)| Some((name, pair, value?)))
    }

    /// Each score that is given, with its name.
    fn scores(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let scores =
            [("aesthetic_score", self.aesthetic_score), ("negative_aesthetic_score", self.negative_aesthetic_score)];
        scores.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// Checks that the numbers are possible, and that a UNet that takes `ids` takes each of them.
    ///
    /// # Errors
    /// A number is out of range, or has no place among what the UNet takes.
    pub(crate) fn check(&self, ids: Option<Ids>) -> Result<()> {
        let fail = |field, expected: String, found: String| Err(Error::Range { field, expected, found });
        for (name, pair, value) in self.pairs() {
            let found = || format!("{}, {}", value[0], value[1]);
            let is_target = matches!(name, "target_size" | "negative_target_size");
            match ids {
                None => return fail(name, "nothing: the UNet takes no sizes; SDXL does".into(), found()),
                Some(Ids::Score) if is_target => {
                    return fail(name, "nothing: the UNet takes an aesthetic_score in its place".into(), found());
                }
                Some(_) => {}
            }
            let least = if pair == Pair::Size { 1 } else { 0 };
            if !value.iter().all(|side| (least..=LARGEST).contains(side)) {
                return fail(name, format!("two whole numbers from {least} to {LARGEST}"), found());
            }
        }
        for (name, score) in self.scores() {
            match ids {
                Some(Ids::Score) if score.is_finite() => {}
                Some(Ids::Score) => return fail(name, "a finite number".into(), score.to_string()),
                Some(Ids::Target) => {
                    let expected = "nothing: the UNet takes a target_size in its place; the refiner takes a score";
                    return fail(name, expected.into(), score.to_string());
                }
                None => {
                    let expected = "nothing: the UNet takes no score; the refiner of SDXL does";
                    return fail(name, expected.into(), score.to_string());
                }
            }
        }
        Ok(())
    }
}

/// Two numbers of a picture.
#[derive(Clone, Copy, PartialEq)]
enum Pair {
    /// Height and width.
    Size,
    /// Top and left.
    Corner,
}

/// Pairs one after the other.
fn numbers<const N: usize>(pairs: [[i64; 2]; N]) -> Vec<f64> {
    pairs.into_iter().flatten().map(|number| number as f64).collect()
}

impl Model {
    /// The numbers that the UNet takes of a picture, with the prompt and with the negative prompt; `None` if it takes none.
    ///
    /// diffusers has them in the number format of the UNet, in which bfloat16 rounds 1021 to 1020. So does [`Reading::Diffusers`]; the
    /// exact reading keeps them in f32.
    ///
    /// # Errors
    /// The number format does not hold one of them.
    pub(crate) fn ids(
        &self,
        micro: &MicroConditions,
        size: Size,
        start: &Start,
        reading: Reading,
    ) -> Result<Option<[Vec<f64>; 2]>> {
        let Some(ids) = self.checkpoint.ids() else { return Ok(None) };
        let both = micro.ids(ids, size, start.is_from_picture(), reading);
        let kind = match reading {
            Reading::Diffusers => self.unet.kind(),
            Reading::Exact => Kind::Float,
        };
        let held = both.each_ref().map(|numbers| rounded(numbers, kind));
        let pairs = both.iter().flatten().zip(held.iter().flatten());
        match pairs.filter(|(_, held)| !held.is_finite()).map(|(number, _)| number).next() {
            None => Ok(Some(held)),
            Some(number) => Err(Error::Range {
                field: "time_ids",
                expected: format!("sizes, crops and scores that {kind:?} holds, as diffusers gives them to the UNet"),
                found: number.to_string(),
            }),
        }
    }
}

/// Numbers as a number format holds them.
fn rounded(numbers: &[f64], kind: Kind) -> Vec<f64> {
    let held = Tensor::from_slice(numbers).to_kind(kind).to_kind(Kind::Double);
    (0..numbers.len() as i64).map(|index| held.double_value(&[index])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { height: 512, width: 768 };

    /// The numbers for the prompt and for the negative prompt, of conditions that all differ.
    fn all() -> MicroConditions {
        MicroConditions {
            original_size: Some([1, 2]),
            crop: Some([3, 4]),
            target_size: Some([5, 6]),
            negative_original_size: Some([11, 12]),
            negative_crop: Some([13, 14]),
            negative_target_size: Some([15, 16]),
            aesthetic_score: Some(7.0),
            negative_aesthetic_score: Some(8.0),
        }
    }

    #[test]
    fn by_default_the_numbers_are_those_of_the_run() {
        let none = MicroConditions::default();
        for reading in [Reading::Exact, Reading::Diffusers] {
            for is_from_picture in [false, true] {
                let six = none.ids(Ids::Target, SIZE, is_from_picture, reading);
                assert_eq!(six, [[512., 768., 0., 0., 512., 768.]; 2]);
                let five = none.ids(Ids::Score, SIZE, is_from_picture, reading);
                assert_eq!(five, [[512., 768., 0., 0., 6.], [512., 768., 0., 0., 2.5]]);
            }
        }
    }

    #[test]
    fn the_exact_reading_uses_everything_that_is_given() {
        for is_from_picture in [false, true] {
            let six = all().ids(Ids::Target, SIZE, is_from_picture, Reading::Exact);
            assert_eq!(six, [[1., 2., 3., 4., 5., 6.], [11., 12., 13., 14., 15., 16.]]);
            let five = all().ids(Ids::Score, SIZE, is_from_picture, Reading::Exact);
            assert_eq!(five, [[1., 2., 3., 4., 7.], [11., 12., 13., 14., 8.]]);
            let positive = MicroConditions {
                negative_original_size: None,
                negative_crop: None,
                negative_target_size: None,
                ..all()
            };
            let [prompt, negative] = positive.ids(Ids::Target, SIZE, is_from_picture, Reading::Exact);
            assert_eq!(prompt, negative);
        }
    }

    /// The faults of diffusers 0.42.1, one by one.
    #[test]
    fn the_reading_of_diffusers_has_its_exceptions() {
        let ids = |micro: MicroConditions, ids, is_from_picture| {
            let [_, negative] = micro.ids(ids, SIZE, is_from_picture, Reading::Diffusers);
            negative
        };
        let one_size = MicroConditions { negative_target_size: None, ..all() };
        let no_crop = MicroConditions { negative_crop: None, ..all() };
        assert_eq!(ids(all(), Ids::Target, false), [11., 12., 13., 14., 15., 16.]);
        assert_eq!(ids(no_crop, Ids::Target, false), [11., 12., 0., 0., 15., 16.]);
        assert_eq!(ids(one_size, Ids::Target, false), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(ids(all(), Ids::Target, true), [11., 12., 3., 4., 15., 16.]);
        assert_eq!(ids(one_size, Ids::Target, true), [11., 12., 3., 4., 5., 6.]);
        for is_from_picture in [false, true] {
            assert_eq!(ids(all(), Ids::Score, is_from_picture), [11., 12., 13., 14., 8.]);
            assert_eq!(ids(no_crop, Ids::Score, is_from_picture), [11., 12., 0., 0., 8.]);
        }
    }

    #[test]
    fn what_the_unet_does_not_take_is_an_error() {
        let error = |micro: MicroConditions, ids| micro.check(ids).unwrap_err().to_string();
        let none = MicroConditions::default();
        for ids in [None, Some(Ids::Target), Some(Ids::Score)] {
            none.check(ids).unwrap();
        }
        let crop = MicroConditions { crop: Some([0, 8]), ..none };
        crop.check(Some(Ids::Score)).unwrap();
        assert_eq!(error(crop, None), "crop: expected nothing: the UNet takes no sizes; SDXL does, found 0, 8");
        let target = MicroConditions { target_size: Some([8, 8]), ..none };
        target.check(Some(Ids::Target)).unwrap();
        assert!(error(target, Some(Ids::Score)).contains("an aesthetic_score in its place"));
        let score = MicroConditions { aesthetic_score: Some(f64::NAN), ..none };
        assert!(error(score, Some(Ids::Score)).contains("a finite number"));
        assert!(error(score, Some(Ids::Target)).contains("a target_size in its place"));
        assert!(error(score, None).contains("takes no score"));
        for bad in [[0, 8], [8, -1], [8, 65537]] {
            let size = MicroConditions { original_size: Some(bad), ..none };
            assert!(error(size, Some(Ids::Target)).contains("two whole numbers from 1 to 65536"), "{bad:?}");
        }
        let corner = MicroConditions { negative_crop: Some([-1, 0]), ..none };
        assert!(error(corner, Some(Ids::Target)).contains("from 0 to 65536"));
    }

    #[test]
    fn numbers_are_rounded_to_a_number_format() {
        assert_eq!(rounded(&[1021., 1023., 776., 2.5], Kind::BFloat16), [1020., 1024., 776., 2.5]);
        assert_eq!(rounded(&[1021., 65536.], Kind::Float), [1021., 65536.]);
    }
}
