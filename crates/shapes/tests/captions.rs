//! Checks that captions name the right attributes, and are parsed back exactly.

use latentrace_shapes::{AskedScene, AskedThing, Colour, Detail, Position, Scene, Shape, Size, Stream, Thing, parse};
use proptest::prelude::*;

fn detail() -> impl Strategy<Value = Detail> {
    any::<[bool; 5]>().prop_map(|[size, colour, shape, position, background]| Detail {
        size,
        colour,
        shape,
        position,
        background,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_caption_is_read_back_exactly(seed: u64, detail in detail()) {
        let scene = Scene::random(&mut Stream::new(seed));
        let caption = scene.caption(detail);
        prop_assert_eq!(parse(&caption), Some(scene.asked(detail)), "{}", caption);
        prop_assert!(caption.split(' ').count() < 30, "{}", caption);
        prop_assert_eq!(caption.to_lowercase(), caption);
    }

    #[test]
    fn no_text_is_too_odd_to_read(text in ".*") {
        let _ = parse(&text);
    }
}

fn scene() -> Scene {
    Scene {
        background: Colour::White,
        things: vec![
            Thing { shape: Shape::Circle, colour: Colour::Orange, size: Size::Small, position: Position::Left },
            Thing { shape: Shape::Square, colour: Colour::Blue, size: Size::Large, position: Position::Right },
        ],
    }
}

#[test]
fn captions_read_as_promised() {
    let full = "a small orange circle on the left and a large blue square on the right, white background";
    assert_eq!(scene().caption(Detail::FULL), full);
    assert_eq!(scene().caption(Detail::EMPTY), "");
    let colour = Detail { colour: true, ..Detail::EMPTY };
    assert_eq!(scene().caption(colour), "an orange thing and a blue thing");
    let background = Detail { background: true, ..Detail::EMPTY };
    assert_eq!(scene().caption(background), "a thing and a thing, white background");
}

#[test]
fn free_wording_is_understood_and_the_rest_passed_over() {
    let red = AskedThing { colour: Some(Colour::Red), ..AskedThing::default() };
    let asked = |things: &[AskedThing], background| Some(AskedScene { things: things.to_vec(), background });
    assert_eq!(parse("A photo of something RED!"), asked(&[red], None));
    assert_eq!(parse("on a black background: a red thing"), asked(&[red], Some(Colour::Black)));
    assert_eq!(parse("an astronaut riding a horse"), asked(&[], None));
    assert_eq!(parse("a green background"), asked(&[], Some(Colour::Green)));
}

#[test]
fn what_cannot_be_met_is_not_read() {
    assert_eq!(parse("a red blue circle"), None);
    assert_eq!(parse("a circle and a square and a cross"), None);
    assert_eq!(parse("a circle, white background, black background"), None);
}

#[test]
fn details_come_as_often_as_promised() {
    let mut stream = Stream::new(5);
    let details: Vec<Detail> = (0..20_000).map(|_| Detail::random(&mut stream)).collect();
    let share = |wanted: Detail| details.iter().filter(|&&detail| detail == wanted).count() as f64 / 20_000.0;
    // A random subset is itself full, or empty, once in 32.
    assert!((share(Detail::FULL) - 0.5125).abs() < 0.01);
    assert!((share(Detail::EMPTY) - 0.1125).abs() < 0.01);
}
