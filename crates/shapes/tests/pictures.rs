//! Checks that pictures show what their scenes say.

use latentrace_shapes::{Canvas, Colour, Jitter, Scene, Shape, Stream, Thing};
use std::collections::BTreeSet;

fn scenes(seed: u64, count: u64) -> impl Iterator<Item = (Scene, Canvas)> {
    (0..count).map(move |index| {
        let mut stream = Stream::numbered(seed, index);
        let scene = Scene::random(&mut stream);
        let picture = scene.draw(64, &mut Jitter::from(stream));
        (scene, picture)
    })
}

/// FNV-1a of the bytes.
fn hash(picture: &Canvas) -> u64 {
    picture
        .pixels
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[test]
fn palette_colours_are_well_apart() {
    for (place, a) in Colour::ALL.into_iter().enumerate() {
        for b in Colour::ALL.into_iter().skip(place + 1) {
            let square: i32 = a.rgb().into_iter().zip(b.rgb()).map(|(a, b)| (i32::from(a) - i32::from(b)).pow(2)).sum();
            assert!(square > 90 * 90, "{a} and {b} are {:.1} apart", f64::from(square).sqrt());
        }
    }
}

#[test]
fn random_scenes_are_valid_and_as_often_double_as_promised() {
    let scenes: Vec<Scene> = (0..20_000).map(|index| Scene::random(&mut Stream::numbered(1, index))).collect();
    assert!(scenes.iter().all(Scene::valid));
    let double = scenes.iter().filter(|scene| scene.things.len() == 2).count() as f64 / 20_000.0;
    assert!((0.28..0.32).contains(&double), "two things in {double} of the scenes");
}

#[test]
fn about_a_tenth_is_held_out() {
    for things in [1, 2] {
        let scenes = (0..40_000).map(|index| Scene::random(&mut Stream::numbered(2, index)));
        let such: Vec<Scene> = scenes.filter(|scene| scene.things.len() == things).collect();
        let share = such.iter().filter(|scene| scene.held_out()).count() as f64 / such.len() as f64;
        assert!((0.08..0.12).contains(&share), "{share} of the scenes of {things}");
    }
}

/// These must not change: if they do, every training set and every held-out scene changes.
#[test]
fn a_seed_means_the_same_pictures_forever() {
    let mut all = 0_u64;
    let mut held_out = 0;
    for (scene, picture) in scenes(3, 200) {
        all = all.rotate_left(1) ^ hash(&picture);
        held_out += usize::from(scene.held_out());
    }
    assert_eq!((all, held_out), (144_248_661_107_084_853, 22));
}

#[test]
fn unseen_pairs_have_each_shape_once_and_are_never_trained_on() {
    let shapes: BTreeSet<Shape> = Thing::UNSEEN.iter().map(|(shape, _)| *shape).collect();
    let colours: BTreeSet<Colour> = Thing::UNSEEN.iter().map(|(_, colour)| *colour).collect();
    assert_eq!((shapes.len(), colours.len()), (4, 4));
    let scenes: Vec<Scene> = (0..20_000).map(|index| Scene::random(&mut Stream::numbered(5, index))).collect();
    let trained: Vec<&Scene> = scenes.iter().filter(|scene| scene.trained_on()).collect();
    let things = trained.iter().flat_map(|scene| &scene.things);
    let pairs: BTreeSet<(Shape, Colour)> = things.map(|thing| (thing.shape, thing.colour)).collect();
    assert_eq!(pairs.len(), 32 - 4, "every other pair is trained on");
    assert!(Thing::UNSEEN.iter().all(|pair| !pairs.contains(pair)));
    // 9 of 10 are not held out; a thing has an unseen pair once in 8, as 4 of 32 equally likely pairs are.
    let share = trained.len() as f64 / scenes.len() as f64;
    let expected = 0.9 * (0.7 * 0.875 + 0.3 * 0.875 * 0.875);
    assert!((share - expected).abs() < 0.02, "{share}, expected about {expected}"); // two things differ in colour
}

#[test]
fn a_picture_of_another_size_shows_the_same() {
    for index in 0..50 {
        let stream = Stream::numbered(6, index);
        let scene = Scene::random(&mut stream.clone());
        let [small, large] = [64, 128].map(|side| scene.draw(side, &mut Jitter::from(stream.clone())));
        // A pixel of the small picture is the mean of 2x2 of the large one, with 16 samples instead of 64.
        let worst = (0..64 * 64).map(|place| {
            let (x, y) = (place % 64, place / 64);
            let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(right, down)| large.pixel(2 * x + right, 2 * y + down));
            let mean = |c: usize| four.iter().map(|pixel| f64::from(pixel[c])).sum::<f64>() / 4.0;
            (0..3).map(|c| (mean(c) - f64::from(small.pixel(x, y)[c])).abs()).fold(0.0, f64::max)
        });
        // An edge can take or leave a row of 4 of the 16 samples, a quarter of the largest difference of two colours.
        let worst = worst.fold(0.0, f64::max);
        assert!(worst <= 0.25 * 225.0 + 1.0, "{scene:?}: {worst}");
    }
}

#[test]
fn things_never_touch() {
    for (scene, picture) in scenes(4, 2000) {
        assert_eq!(pieces(&picture, scene.background.rgb()), scene.things.len(), "{scene:?}");
    }
}

/// Connected pieces, corners included, of the pixels that are not exactly the background.
fn pieces(picture: &Canvas, background: [u8; 3]) -> usize {
    let (width, height) = (picture.width, picture.height);
    let mut open: Vec<bool> =
        (0..width * height).map(|place| picture.pixel(place % width, place / width) != background).collect();
    let mut count = 0;
    for start in 0..open.len() {
        let mut found = if std::mem::take(&mut open[start]) {
            vec![start]
        } else {
            continue;
        };
        count += 1;
        while let Some(place) = found.pop() {
            let (x, y) = (place % width, place / width);
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    if std::mem::take(&mut open[row * width + column]) {
                        found.push(row * width + column);
                    }
                }
            }
        }
    }
    count
}
