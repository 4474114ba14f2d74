//! Checks that the checker reads good pictures right, and notices wrong ones.

use latentrace_shapes::{
    Adherence, AskedScene, AskedThing, Canvas, Colour, Detail, Edges, Jitter, Position, Scene, SeenScene, SeenThing,
    Shape, Size, Stream, Tally, Thing, adherence, edges, look, parse,
};

const COUNT: u64 = 2000;

/// The adherence of random pictures to the full captions of their scenes.
fn measure(seed: u64, damage: impl Fn(Canvas, &mut Stream) -> Canvas) -> Adherence {
    let mut sum = Adherence::default();
    for index in 0..COUNT {
        let mut stream = Stream::numbered(seed, index);
        let scene = Scene::random(&mut stream);
        let picture = damage(scene.draw(64, &mut Jitter::from(stream.clone())), &mut stream);
        let asked = parse(&scene.caption(Detail::FULL)).expect("a caption of this world");
        sum += adherence(&asked, &look(&picture));
    }
    sum
}

fn assert_rates(score: &Adherence, least: f64) {
    for (name, tally) in score.attributes() {
        assert!(tally.rate().expect("everything is asked") >= least, "{name}\n{score}");
    }
    assert!(score.extra as f64 <= (1.0 - least) * COUNT as f64, "{score}");
}

#[test]
fn a_true_picture_is_read_right() {
    assert_rates(&measure(11, |picture, _| picture), 0.995);
}

#[test]
fn a_blurred_and_noisy_picture_is_read_right() {
    assert_rates(&measure(12, |picture, stream| picture.blurred().noisy(8.0, stream)), 0.98);
}

/// Imitates a generated picture: soft in patches, with wrong colours.
#[test]
fn a_twice_blurred_and_tinted_picture_is_read_right() {
    let damage = |picture: Canvas, stream: &mut Stream| {
        let tint: [f64; 3] = std::array::from_fn(|_| 15.0 * stream.signed());
        let mut picture = picture.blurred().blurred().noisy(4.0, stream);
        for (place, value) in picture.pixels.iter_mut().enumerate() {
            *value = (f64::from(*value) + tint[place % 3]).round().clamp(0.0, 255.0) as u8;
        }
        picture
    };
    assert_rates(&measure(13, damage), 0.98);
}

#[test]
fn captions_of_other_pictures_score_by_chance() {
    let mut sum = Adherence::default();
    for index in 0..COUNT {
        let mut stream = Stream::numbered(14, index);
        let picture = Scene::random(&mut stream).draw(64, &mut Jitter::from(stream));
        let other = Scene::random(&mut Stream::numbered(15, index));
        sum += adherence(&other.asked(Detail::FULL), &look(&picture));
    }
    assert!(sum.colour.rate().expect("asked") < 0.35, "{sum}");
    assert!(sum.background.rate().expect("asked") < 0.2, "{sum}");
    assert!(sum.shape.rate().expect("asked") < 0.45, "{sum}");
    assert!(sum.whole.rate().expect("asked") < 0.02, "{sum}");
}

#[test]
fn an_empty_picture_holds_nothing() {
    let pixels = Colour::Purple.rgb().repeat(64 * 64);
    let seen = look(&Canvas { width: 64, height: 64, pixels });
    assert_eq!(seen, SeenScene { background: Colour::Purple, paper: [150.0, 50.0, 190.0], things: vec![] });
}

#[test]
fn noise_alone_is_read_without_a_panic() {
    let mut stream = Stream::new(16);
    for (width, height) in [(1, 1), (3, 7), (64, 64), (128, 128), (96, 40)] {
        let pixels = (0..width * height * 3).map(|_| (stream.bits() >> 56) as u8).collect();
        look(&Canvas { width, height, pixels });
    }
}

#[test]
fn a_larger_picture_is_read_alike() {
    for index in 0..100 {
        let mut stream = Stream::numbered(17, index);
        let scene = Scene::random(&mut stream);
        let small = scene.draw(64, &mut Jitter::from(stream));
        let pixels = (0..128 * 128).flat_map(|place| small.pixel(place % 128 / 2, place / 128 / 2)).collect();
        let seen = look(&Canvas { width: 128, height: 128, pixels });
        let things: Vec<Thing> = seen.things.iter().map(|seen| seen.thing).collect();
        assert_eq!((seen.background, things), (scene.background, scene.things));
    }
}

/// A drawing is as steep as drawings are. Blurred edges are as steep as the blur lets them be: over two pixels a straight
/// edge changes by 2 of 3 under the mean of three, and by 2 + 3 of 9 when that is repeated (1, 2, 3, 2, 1 ninths).
#[test]
fn steepness_is_that_of_the_blur() {
    for side in [64, 128] {
        let mut sums = [Edges::default(); 3];
        for index in 0..30 {
            let mut stream = Stream::numbered(18, index);
            let scene = Scene::random(&mut stream);
            let drawn = scene.draw(side, &mut Jitter::from(stream));
            let soft = drawn.blurred();
            for (sum, picture) in sums.iter_mut().zip([&drawn, &soft, &soft.blurred()]) {
                *sum += edges(picture, &look(picture));
            }
        }
        let found = sums.map(|sum| sum.steepness().expect("edges"));
        // Corners and slanted edges are blurred by rows and columns alike, and the seen silhouette is not quite the drawn one.
        let expected = [1.0, 2.0 / 3.0, 5.0 / 9.0];
        let apart = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max);
        assert!(apart < 0.07, "{side}: {found:?}");
    }
    assert_eq!(Edges::default().steepness(), None);
}

/// The same blur of a square whose sides lie between pixels, where the ratio is known exactly.
#[test]
fn a_straight_edge_has_the_steepness_of_its_blur() {
    let thing = Thing { shape: Shape::Square, colour: Colour::Black, size: Size::Large, position: Position::Centre };
    let pixel = |place: usize| {
        let inside = |at: usize| (20..44).contains(&at);
        if inside(place % 64) && inside(place / 64) { Colour::Black.rgb() } else { Colour::White.rgb() }
    };
    let drawn = Canvas { width: 64, height: 64, pixels: (0..64 * 64).flat_map(pixel).collect() };
    let steepness = |picture: &Canvas| edges(picture, &look(picture)).steepness().expect("edges");
    assert_eq!(look(&drawn).things[0].thing, thing);
    assert!((steepness(&drawn) - 1.0).abs() < 1e-9, "{}", steepness(&drawn));
    // At each end of a side, one of the 24 rows is a third less steep again, and bytes are rounded.
    let soft = steepness(&drawn.blurred());
    assert!((soft - 2.0 / 3.0 * (1.0 - 2.0 / 24.0 / 3.0)).abs() < 0.01, "{soft}");
}

const RED_CIRCLE: Thing =
    Thing { shape: Shape::Circle, colour: Colour::Red, size: Size::Small, position: Position::Left };
const BLUE_CROSS: Thing =
    Thing { shape: Shape::Cross, colour: Colour::Blue, size: Size::Small, position: Position::Right };

fn seen(things: &[Thing]) -> SeenScene {
    let seen =
        |&thing: &Thing| SeenThing { thing, iou: 1.0, margin: 0.1, centre: (0.0, 0.0), radius: 8.0, ink: [0.0; 3] };
    SeenScene { background: Colour::White, paper: [245.0; 3], things: things.iter().map(seen).collect() }
}

fn score(caption: &str, things: &[Thing]) -> Adherence {
    adherence(&parse(caption).expect("a caption of this world"), &seen(things))
}

fn tally(right: usize, asked: usize) -> Tally {
    Tally { right, asked }
}

#[test]
fn things_are_paired_for_the_best() {
    let both = score("a blue cross and a red circle", &[RED_CIRCLE, BLUE_CROSS]);
    assert_eq!((both.colour, both.shape, both.whole), (tally(2, 2), tally(2, 2), tally(1, 1)));
    let swapped = score("a red cross and a blue circle", &[RED_CIRCLE, BLUE_CROSS]);
    assert_eq!(swapped.colour.right + swapped.shape.right, 2);
    assert_eq!(swapped.whole, tally(0, 1));
}

#[test]
fn what_is_missing_counts_as_wrong_and_what_is_extra_apart() {
    let missing = score("a red circle and a blue cross, black background", &[BLUE_CROSS]);
    assert_eq!((missing.colour, missing.missing, missing.extra), (tally(1, 2), 1, 0));
    assert_eq!(missing.background, tally(0, 1));
    let extra = score("a red circle", &[BLUE_CROSS, RED_CIRCLE]);
    assert_eq!((extra.colour, extra.missing, extra.extra, extra.whole), (tally(1, 1), 0, 1, tally(0, 1)));
    assert_eq!(extra.size, tally(0, 0));
}

#[test]
fn nothing_asked_is_nothing_counted() {
    assert_eq!(adherence(&AskedScene::default(), &seen(&[RED_CIRCLE])), Adherence::default());
    let background = score("white background", &[RED_CIRCLE]);
    assert_eq!((background.background, background.extra, background.whole), (tally(1, 1), 0, tally(1, 1)));
    let anything = AskedScene { things: vec![AskedThing::default()], background: None };
    assert_eq!(adherence(&anything, &seen(&[])).missing, 1);
}

/// Values from the table of Newcombe, Statistics in Medicine 17, 1998 (method 3, without continuity correction).
#[test]
fn wilson_intervals_are_those_of_the_literature() {
    for (right, asked, low, high) in
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    {
        let found = tally(right, asked).interval();
        assert!((found.0 - low).abs() < 6e-5 && (found.1 - high).abs() < 6e-5, "{right} of {asked}: {found:?}");
    }
}
