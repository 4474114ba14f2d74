//! Checks that pictures show what their scenes say.

use latentrace_shapes::{Canvas, Colour, Jitter, Scene, Stream};

fn scenes(seed: u64, count: u64) -> impl Iterator<Item = (Scene, Canvas)> {
    (0..count).map(move |index| {
        let mut stream = Stream::numbered(seed, index);
        let scene = Scene::random(&mut stream);
        let picture = scene.draw(&mut Jitter::from(stream));
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
