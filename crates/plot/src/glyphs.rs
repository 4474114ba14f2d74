//! A line of text as glyphs with their places.
//!
//! Letters of the bundled font are set one after the other, with kerning. Letters of other fonts are shaped: they join,
//! and marks go to their places. A letter that no font has is spelt as its code point, small: U+1F534.
//!
//! What reads from right to left is laid out so, in a line that as a whole reads from left to right, because the words
//! around a foreign text are English. In SVG it is the same.

use std::ops::Range;

use ab_glyph::{GlyphId, ScaleFont};
use harfrust::{Direction, Script};
use unicode_bidi::{Level, ParagraphBidiInfo};
use unicode_segmentation::UnicodeSegmentation;

use crate::drawing::Point;
use crate::face::{Face, Shaped, is_ignorable, script};
use crate::fonts::{Fonts, Weight};

/// The size of a letter that is spelt, and the gap on both sides of it, in font sizes.
const SPELT: f64 = 0.7;
const GAP: f64 = 0.1;

/// Glyphs from left to right, and the width of all.
#[derive(Default)]
pub(crate) struct Line {
    pub glyphs: Vec<Placed>,
    pub width: f64,
}

/// A glyph, and its place from the start of the line: to the right, and up from the baseline.
pub(crate) struct Placed {
    pub face: &'static Face,
    pub glyph: GlyphId,
    pub size: f64,
    pub at: Point,
}

/// A part of a line that becomes glyphs in one way.
struct Run {
    place: Range<usize>,
    manner: Manner,
}

/// How letters become glyphs.
#[derive(Clone, Copy)]
enum Manner {
    /// One after the other, from the bundled font.
    Set,
    /// Together, by the rules of a face for a script.
    Shaped(&'static Face, Option<Script>),
    /// As one code point, which is in their place in the text.
    Spelt,
}

impl Line {
    /// Lays out a line of text with a font size of `size` pixels.
    pub fn of(words: &str, size: f64, weight: Weight) -> Line {
        let fonts = fonts(weight);
        let mut line = Line::default();
        line.set(words, size, fonts);
        if line.glyphs.iter().all(|placed| placed.glyph != GlyphId(0)) {
            return line; // nearly every line
        }
        line = Line::default();
        let (words, clusters) = clusters(words, fonts);
        let (runs, levels) = runs(&words, clusters, fonts);
        for index in ParagraphBidiInfo::reorder_visual(&levels) {
            let Run { place, manner } = &runs[index];
            line.add(&words[place.clone()], *manner, levels[index], size, fonts);
        }
        line
    }

    fn add(&mut self, words: &str, manner: Manner, level: Level, size: f64, fonts: &Fonts) {
        let direction = if level.is_rtl() { Direction::RightToLeft } else { Direction::LeftToRight };
        match manner {
            Manner::Set => self.set(words, size, fonts),
            Manner::Spelt => self.spell(words, size, fonts),
            Manner::Shaped(face, _) => match face.shape(words, direction) {
                Some(glyphs) => glyphs.iter().for_each(|shaped| self.place(face, shaped, size)),
                // Each cluster has glyphs by itself, but together a rule of the font leads to none.
                None => words.chars().for_each(|letter| self.spell(&code_point(letter), size, fonts)),
            },
        }
    }

    fn set(&mut self, words: &str, size: f64, fonts: &Fonts) {
        let face = fonts.bundled;
        let scaled = face.at(size);
        let mut last = None;
        for letter in words.chars() {
            let glyph = scaled.glyph_id(letter);
            let before = self.width + last.map_or(0.0, |last| f64::from(scaled.kern(last, glyph)));
            self.width = before + f64::from(scaled.h_advance(glyph));
            self.glyphs.push(Placed { face, glyph, size, at: (before, 0.0) });
            last = Some(glyph);
        }
    }

    fn place(&mut self, face: &'static Face, shaped: &Shaped, size: f64) {
        let at = (self.width + shaped.offset.0 * size, shaped.offset.1 * size);
        self.glyphs.push(Placed { face, glyph: shaped.glyph, size, at });
        self.width += shaped.advance * size;
    }

    fn spell(&mut self, code_point: &str, size: f64, fonts: &Fonts) {
        self.width += GAP * size;
        self.set(code_point, SPELT * size, fonts);
        self.width += GAP * size;
    }
}

/// The text as it is shown, with code points in the place of letters that no font has, and its clusters: letters with
/// their marks, joiners and selectors. A cluster of which nothing is seen is left out.
fn clusters(words: &str, fonts: &Fonts) -> (String, Vec<Run>) {
    let (mut shown, mut clusters) = (String::new(), Vec::new());
    for cluster in words.replace(is_break, " ").graphemes(true) {
        let mut push = |text: &str, manner: Option<Manner>| {
            let start = shown.len();
            shown.push_str(text);
            clusters.extend(manner.map(|manner| Run { place: start..shown.len(), manner }));
        };
        if cluster.chars().all(is_ignorable) {
            push(cluster, None); // it can be a mark of direction
        } else if cluster.chars().all(|letter| fonts.bundled.has(letter)) {
            push(cluster, Some(Manner::Set));
        } else if let Some(face) = fonts.face(cluster) {
            push(cluster, Some(Manner::Shaped(face, script(cluster))));
        } else {
            for letter in cluster.chars().filter(|letter| !is_ignorable(*letter)) {
                match fonts.bundled.has(letter) {
                    true => push(letter.encode_utf8(&mut [0; 4]), Some(Manner::Set)),
                    false => push(&code_point(letter), Some(Manner::Spelt)),
                }
            }
        }
    }
    (shown, clusters)
}

/// The clusters put together to runs, in the order of the text, and the level of each: odd from right to left.
fn runs(words: &str, clusters: Vec<Run>, fonts: &Fonts) -> (Vec<Run>, Vec<Level>) {
    let levels = ParagraphBidiInfo::new(words, Some(Level::ltr())).levels;
    let mut runs: Vec<Run> = Vec::new();
    for Run { place, manner } in clusters {
        let level = levels[place.start];
        let manner = match manner {
            Manner::Set if level.is_rtl() => Manner::Shaped(fonts.bundled, None), // brackets are mirrored
            manner => manner,
        };
        let last = runs.last_mut().filter(|last| last.place.end == place.start && levels[last.place.start] == level);
        match last.and_then(|last| Some((last.manner.with(manner)?, last))) {
            Some((both, last)) => (last.manner, last.place.end) = (both, place.end),
            None => runs.push(Run { place, manner }),
        }
    }
    let levels = runs.iter().map(|run| levels[run.place.start]).collect();
    (runs, levels)
}

impl Manner {
    /// How letters of both manners become glyphs in one run; `None` if they cannot.
    fn with(self, next: Manner) -> Option<Manner> {
        match (self, next) {
            (Manner::Set, Manner::Set) => Some(Manner::Set),
            (Manner::Shaped(face, script), Manner::Shaped(next, other)) => {
                let agree = std::ptr::eq(face, next) && (script == other || script.is_none() || other.is_none());
                agree.then_some(Manner::Shaped(face, script.or(other)))
            }
            _ => None,
        }
    }
}

fn code_point(letter: char) -> String {
    format!("U+{:04X}", u32::from(letter))
}

/// Whether a character ends a line or has no form. It is shown as a space, as in
/// [`Text::new`](crate::drawing::Text::new).
fn is_break(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

/// The fonts that text is set in.
#[cfg(not(test))]
fn fonts(weight: Weight) -> &'static Fonts {
    Fonts::of_machine(weight)
}

#[cfg(test)]
pub(crate) use tests::fonts;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    /// Letters, marks and rules of DejaVu Sans for Hebrew and Arabic, and two pictures: ❤ and 😀.
    pub(crate) const SCRIPTS: &[u8] = include_bytes!("../fonts/tests/scripts.ttf");
    /// A font with a glyph for 赤 and for 🔴 that has no outline, like one of coloured bitmaps.
    const INKLESS: &[u8] = include_bytes!("../fonts/tests/inkless.ttf");
    /// A variable font with a box for 赤: 0.5 em wide at its default weight of 100, and 1 em at 900.
    const VARIABLE: &[u8] = include_bytes!("../fonts/tests/variable.ttf");

    thread_local! {
        static FONTS: Cell<[&'static Fonts; 2]> = Cell::new(having(&[]));
    }

    fn having(files: &[&[u8]]) -> [&'static Fonts; 2] {
        let mut database = fontdb::Database::new();
        files.iter().for_each(|file| database.load_font_data(file.to_vec()));
        assert_eq!(database.len(), files.len(), "every file is a font");
        let database = Box::leak(Box::new(database));
        [Weight::Regular, Weight::Bold].map(|weight| &*Box::leak(Box::new(Fonts::having(weight, database))))
    }

    /// Replaces the machine's fonts for this test. Without it there are none.
    pub(crate) fn set_fonts(files: &[&[u8]]) {
        FONTS.set(having(files));
    }

    pub(crate) fn fonts(weight: Weight) -> &'static Fonts {
        FONTS.get()[weight as usize]
    }

    /// Texts with letters that the bundled font lacks.
    const FOREIGN: [&str; 9] = [
        "赤い円, 紅色的圓",
        "빨간 원",
        "דג אדום",
        "دائرة حمراء",
        "लाल वृत्त",
        "วงกลมสีแดง",
        "🔴 👩\u{200d}🚀 ❤\u{fe0f} 🇯🇵 1\u{fe0f}\u{20e3}",
        "\u{200d}\u{fe0f}\u{301}\u{e000}\u{10ffff}\u{378}",
        "tab\tfeed\n\u{2028}end\u{3000}\u{202f}.",
    ];

    fn line(words: &str) -> Line {
        Line::of(words, 100.0, Weight::Regular)
    }

    fn ids(words: &str) -> Vec<u16> {
        line(words).glyphs.iter().map(|placed| placed.glyph.0).collect()
    }

    fn is_bundled(placed: &Placed) -> bool {
        std::ptr::eq(placed.face, fonts(Weight::Regular).bundled)
    }

    #[test]
    fn no_letter_is_a_box_with_any_fonts() {
        for words in FOREIGN {
            for weight in [Weight::Regular, Weight::Bold] {
                for files in [&[][..], &[SCRIPTS], &[INKLESS], &[INKLESS, SCRIPTS]] {
                    set_fonts(files);
                    let line = Line::of(words, 12.0, weight);
                    assert!(line.glyphs.iter().all(|placed| placed.glyph.0 != 0), "{words}");
                    assert!(line.width > 0.0);
                }
                // Whatever fonts this machine has.
                FONTS.set([Weight::Regular, Weight::Bold].map(Fonts::of_machine));
                let line = Line::of(words, 12.0, weight);
                assert!(line.glyphs.iter().all(|placed| placed.glyph.0 != 0), "{words}");
            }
        }
    }

    #[test]
    fn without_fonts_of_the_machine_letters_are_spelt_small_in_the_order_of_the_text() {
        assert_eq!(ids("赤🔴"), ids("U+8D64U+1F534"));
        assert_eq!(ids("דג"), ids("U+05D3U+05D2"), "code points read from left to right");
        assert_eq!(ids("👩\u{200d}🚀"), ids("U+1F469U+1F680"));
        assert_eq!(ids("1\u{fe0f}\u{20e3}"), ids("1U+20E3"), "only what is missing is spelt");
        assert_eq!(ids("\u{e000}"), ids("U+E000"));
        let spelt = line("赤");
        assert!(spelt.glyphs.iter().all(|placed| placed.size == 70.0 && is_bundled(placed)));
        let expected = Line::of("U+8D64", 70.0, Weight::Regular).width + 20.0;
        assert!((spelt.width - expected).abs() < 1e-3, "{} and {expected}", spelt.width);
    }

    #[test]
    fn a_font_of_the_machine_draws_what_it_has_an_outline_for_and_no_more() {
        set_fonts(&[INKLESS, SCRIPTS]);
        let smile = line("a😀b");
        assert_eq!(smile.glyphs.iter().map(is_bundled).collect::<Vec<_>>(), [true, false, true]);
        assert!(smile.glyphs.windows(2).all(|pair| pair[0].at.0 < pair[1].at.0));
        assert_eq!(ids("赤🔴"), ids("U+8D64U+1F534"), "a glyph without an outline is not drawn");
        assert_eq!(ids("a"), [fonts(Weight::Regular).bundled.at(1.0).glyph_id('a').0], "the bundled font comes first");
    }

    #[test]
    fn a_variable_font_is_drawn_in_the_weight_of_the_text() {
        set_fonts(&[VARIABLE]);
        for (weight, expected) in [(Weight::Regular, 68.75), (Weight::Bold, 87.5)] {
            let line = Line::of("赤", 100.0, weight);
            let [Placed { face, glyph, size, at }] = line.glyphs[..] else { panic!("{} glyphs", line.glyphs.len()) };
            let inked = f64::from(face.outline(glyph, size, at).unwrap().px_bounds().width());
            assert!((line.width - expected).abs() < 0.5 && (inked - expected).abs() < 1.5, "{} {inked}", line.width);
        }
    }

    #[test]
    fn marks_joiners_and_selectors_are_not_letters_of_their_own() {
        set_fonts(&[SCRIPTS]);
        assert_eq!(ids("e\u{301}"), ids("é"));
        assert_eq!(line("❤\u{fe0f}").width, line("❤").width);
        for words in ["\u{200d}", "\u{fe0f}", "\u{200f}\u{2067}\u{2069}", "\u{feff}"] {
            assert_eq!((line(words).glyphs.len(), line(words).width), (0, 0.0), "{words:?}");
        }
        let [a, space, b] = ["a", " ", "b"].map(|words| ids(words)[0]);
        assert_eq!(ids("a\u{202f}\u{3000}\tb"), [a, space, space, space, b], "spaces of any width are not spelt");
        let (with, without) = (line("שָ"), line("ש"));
        assert_eq!(with.width, without.width, "a mark takes no room");
        let [base, mark] = [false, true]
            .map(|mark| with.glyphs.iter().find(|placed| (placed.glyph != without.glyphs[0].glyph) == mark).unwrap());
        assert!(base.at.0 <= mark.at.0 && mark.at.0 < with.width, "it is under its letter");
    }

    #[test]
    fn hebrew_runs_from_right_to_left_and_the_line_from_left_to_right() {
        set_fonts(&[SCRIPTS]);
        let [a, b] = ["a", "b"].map(ids);
        let word: Vec<u16> = "שלום".chars().rev().flat_map(|letter| ids(&letter.to_string())).collect();
        assert_eq!(ids("שלום"), word);
        let space = ids(" ");
        assert_eq!(ids("a שלום b"), [a, space.clone(), word.clone(), space.clone(), b].concat());
        let other: Vec<u16> = "דג".chars().rev().flat_map(|letter| ids(&letter.to_string())).collect();
        assert_eq!(
            ids("שלום דג"),
            [other.clone(), space.clone(), word.clone()].concat(),
            "the first word is at the right"
        );
        assert_eq!(
            ids("שלום 12 דג"),
            [other, space.clone(), ids("12"), space, word].concat(),
            "digits keep their order"
        );
        let places = line("a שלום b").glyphs;
        assert!(places.windows(2).all(|pair| pair[0].at.0 < pair[1].at.0), "glyphs are from left to right");
    }

    #[test]
    fn brackets_between_hebrew_letters_are_mirrored() {
        set_fonts(&[SCRIPTS]);
        let letter = ids("ש");
        assert_eq!(ids("ש(ש)ש"), [letter.clone(), ids("("), letter.clone(), ids(")"), letter].concat());
        let turned = ids("ש(ש");
        assert_eq!(turned[1], ids(")")[0], "an opening bracket opens to the left");
    }

    #[test]
    fn arabic_letters_join() {
        set_fonts(&[SCRIPTS]);
        let isolated = ids("ب")[0];
        let joined = ids("ببب");
        assert_eq!(joined.len(), 3);
        assert!(joined.iter().all(|glyph| *glyph != isolated) && joined[0] != joined[1] && joined[1] != joined[2]);
        assert_eq!(ids("لا").len(), 1, "lam and alef are one glyph");
        assert!(line("ببب").width < 3.0 * line("ب").width, "joined letters are narrower");
        assert_eq!(ids("ب ب"), [isolated, ids(" ")[0], isolated], "a space parts them");
    }

    #[test]
    fn a_font_without_rules_for_a_script_does_not_draw_it() {
        let mut bare = SCRIPTS.to_vec();
        let table = bare.windows(4).position(|tag| tag == b"GSUB").unwrap();
        bare[table..table + 4].copy_from_slice(b"GSUA");
        set_fonts(&[&bare]);
        assert_eq!(ids("بب"), ids("U+0628U+0628"), "letters that do not join would be wrong");
        assert_eq!(line("ש").glyphs.iter().map(is_bundled).collect::<Vec<_>>(), [false], "Hebrew needs no rules");
    }
}
