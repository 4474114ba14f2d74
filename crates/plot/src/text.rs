//! Text in the bundled font: width, line breaks and pixels.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};
use image::RgbImage;

use crate::drawing::{Point, Text};

/// From the baseline to the top of the tallest letter, in font sizes. Accents on capitals are higher.
pub(crate) const ASCENT: f64 = 0.76;
/// From the baseline to the bottom of the deepest letter, in font sizes.
#[cfg(test)]
pub(crate) const DESCENT: f64 = 0.24;
/// From one baseline to the next, in font sizes.
pub(crate) const LEADING: f64 = 1.25;

/// The two bundled fonts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weight {
    Regular,
    Bold,
}

/// The width of a line of text with a font size of `size` pixels.
pub(crate) fn width(words: &str, size: f64, weight: Weight) -> f64 {
    pen(words, size, weight).last().map_or(0.0, |step| step.after)
}

/// The lines of a text, at most `limit` wide (or one letter). Line feeds break lines, and words that are too long are
/// cut.
pub(crate) fn wrap(words: &str, size: f64, weight: Weight, limit: f64) -> Vec<String> {
    let fits = |line: &str| width(line, size, weight) <= limit;
    let mut lines = Vec::new();
    for paragraph in words.trim_end().lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
            if fits(&longer) {
                line = longer;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for letter in word.chars() {
                if !line.is_empty() && !fits(&format!("{line}{letter}")) {
                    lines.push(std::mem::take(&mut line));
                }
                line.push(letter);
            }
        }
        lines.push(line);
    }
    lines
}

/// The text, shortened at the end with an ellipsis if it does not fit.
pub(crate) fn shorten(words: &str, size: f64, weight: Weight, limit: f64) -> String {
    if width(words, size, weight) <= limit {
        return words.to_owned();
    }
    let room = limit - width("…", size, weight);
    let kept = pen(words, size, weight).take_while(|step| step.after <= room).count();
    let start: String = words.chars().take(kept).collect();
    format!("{}…", start.trim_end())
}

/// Texts, one of which is wider than `limit`, without the words that all of them begin or end with: what differs stays. An ellipsis
/// stands for two words or more.
pub(crate) fn apart(texts: &[&str], size: f64, weight: Weight, limit: f64) -> Vec<String> {
    let whole = || texts.iter().map(|text| text.to_string()).collect();
    if texts.len() < 2 || texts.iter().all(|text| width(text, size, weight) <= limit) {
        return whole();
    }
    let words: Vec<Vec<&str>> = texts.iter().map(|text| text.split(' ').collect()).collect();
    let least = words.iter().map(Vec::len).min().unwrap_or(0);
    let same = |count: usize, at: &dyn Fn(&[&str]) -> Vec<String>| {
        (0..count).take_while(|place| words.windows(2).all(|pair| at(&pair[0])[*place] == at(&pair[1])[*place])).count()
    };
    let forwards = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
    let backwards = |words: &[&str]| words.iter().rev().map(|word| word.to_string()).collect();
    let before = same(least, &forwards);
    let after = same(least - before, &backwards);
    let cut = |count: usize| if count < 2 { 0 } else { count };
    let (before, after) = (cut(before), cut(after));
    let of = |words: &Vec<&str>| {
        let kept = words[before..words.len() - after].join(" ");
        format!("{}{kept}{}", if before > 0 { "… " } else { "" }, if after > 0 { " …" } else { "" })
    };
    words.iter().map(of).collect()
}

/// The text, shortened in the middle with an ellipsis if it does not fit: for names that differ at the end.
pub(crate) fn shorten_middle(words: &str, size: f64, weight: Weight, limit: f64) -> String {
    if width(words, size, weight) <= limit {
        return words.to_owned();
    }
    let letters: Vec<char> = words.chars().collect();
    let keeping = |count: usize| {
        let (start, end) = (&letters[..count / 2], &letters[letters.len() - count.div_ceil(2)..]);
        format!("{}…{}", start.iter().collect::<String>(), end.iter().collect::<String>())
    };
    let counts = (0..letters.len()).rev();
    counts.map(keeping).find(|kept| width(kept, size, weight) <= limit).unwrap_or_default()
}

/// Draws a text into a picture that has `ratio` pixels for each unit of the text's coordinates.
pub(crate) fn draw(image: &mut RgbImage, text: &Text, ratio: f64) {
    let font = face(text.weight);
    let scale = pixels(font, text.size * ratio);
    for step in pen(&text.words, text.size * ratio, text.weight) {
        // Rasterised near the origin and then moved by whole pixels, so that turned text is as sharp as straight text.
        let along = step.before - text.lead() * ratio;
        let (x, y) = match text.upwards {
            false => (text.at.0 * ratio + along, text.at.1 * ratio),
            true => (text.at.0 * ratio, text.at.1 * ratio - along),
        };
        let (left, top) = (x.floor(), y.floor());
        let shift = match text.upwards {
            false => (x - left, y - top),
            true => (1.0 - (y - top), x - left),
        };
        let glyph = step.glyph.with_scale_and_position(scale, point(shift.0 as f32, shift.1 as f32));
        let Some(outline) = font.outline_glyph(glyph) else { continue };
        let corner = outline.px_bounds().min;
        outline.draw(|column, row, coverage| {
            let (across, down) = (f64::from(corner.x) + f64::from(column), f64::from(corner.y) + f64::from(row));
            let at = match text.upwards {
                false => (left + across, top + down),
                true => (left + down, top - across),
            };
            blend(image, at, text.colour, coverage);
        });
    }
}

fn blend(image: &mut RgbImage, at: Point, colour: [u8; 3], coverage: f32) {
    if at.0 < 0.0 || at.1 < 0.0 || at.0 >= image.width().into() || at.1 >= image.height().into() {
        return;
    }
    let coverage = coverage.clamp(0.0, 1.0);
    let pixel = image.get_pixel_mut(at.0 as u32, at.1 as u32);
    for (under, over) in pixel.0.iter_mut().zip(colour) {
        *under = (f32::from(*under) * (1.0 - coverage) + f32::from(over) * coverage).round() as u8;
    }
}

/// A glyph, and the position of the pen before and after it.
struct Step {
    glyph: GlyphId,
    before: f64,
    after: f64,
}

fn pen(words: &str, size: f64, weight: Weight) -> impl Iterator<Item = Step> {
    let font = face(weight);
    let scaled = font.as_scaled(pixels(font, size));
    let mut place = 0.0;
    let mut last = None;
    words.chars().map(move |letter| {
        let glyph = scaled.glyph_id(letter);
        let before = place + last.map_or(0.0, |last| f64::from(scaled.kern(last, glyph)));
        place = before + f64::from(scaled.h_advance(glyph));
        last = Some(glyph);
        Step { glyph, before, after: place }
    })
}

/// ab_glyph's scale is the full height of the font; ours is one em.
fn pixels(font: &FontRef, size: f64) -> PxScale {
    PxScale::from(size as f32 * font.height_unscaled() / font.units_per_em().expect("the bundled font has an em"))
}

fn face(weight: Weight) -> &'static FontRef<'static> {
    static REGULAR: LazyLock<FontRef> = LazyLock::new(|| parse(include_bytes!("../fonts/DejaVuSans.ttf")));
    static BOLD: LazyLock<FontRef> = LazyLock::new(|| parse(include_bytes!("../fonts/DejaVuSans-Bold.ttf")));
    match weight {
        Weight::Regular => &REGULAR,
        Weight::Bold => &BOLD,
    }
}

fn parse(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the bundled font is whole")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn texts_are_shortened_together_and_what_differs_stays() {
        let prompt = |colour: &str| format!("prompt a large {colour} circle on the left, white background, seed 3");
        let [red, blue] = [prompt("red"), prompt("dark blue")];
        let of = |limit: f64| apart(&[&red, &blue], 12.0, Weight::Regular, limit);
        assert_eq!(of(100.0), ["… red …", "… dark blue …"]);
        assert_eq!(of(1000.0), [red.as_str(), blue.as_str()], "they fit");
        let few = apart(&["seed 1 of the first long run", "seed 2 of the last long run"], 12.0, Weight::Regular, 10.0);
        assert_eq!(few, ["seed 1 of the first …", "seed 2 of the last …"], "one word in common stays");
        assert_eq!(apart(&["same same", "same same"], 12.0, Weight::Regular, 1.0), ["… ", "… "]);
        assert_eq!(apart(&["alone"], 12.0, Weight::Regular, 1.0), ["alone"]);
    }

    #[test]
    fn the_font_has_the_letters_that_figures_use() {
        for weight in [Weight::Regular, Weight::Bold] {
            for letter in "AzÄéß αβσεΔΩ ж ×−±≤≥≈∞∑√ ⁰¹²³⁴⁵⁶⁷⁸⁹⁻ →←↑↓ …–—“”".chars()
            {
                assert_ne!(face(weight).glyph_id(letter), GlyphId(0), "{letter:?} in {weight:?}");
            }
        }
    }

    #[test]
    fn an_em_is_an_em() {
        let advance = f64::from(face(Weight::Regular).h_advance_unscaled(face(Weight::Regular).glyph_id('n')));
        assert!((width("n", 2048.0, Weight::Regular) - advance).abs() < 0.5); // 2048 units to the em
    }

    #[test]
    fn wrapped_lines_fit_and_lose_no_letter() {
        let words = "a very long prompt, with supercalifragilisticexpialidocious words\nand a second paragraph 赤い円";
        for limit in [30.0, 64.0, 100.0, 400.0] {
            let lines = wrap(words, 13.0, Weight::Regular, limit);
            assert!(lines.iter().all(|line| width(line, 13.0, Weight::Regular) <= limit), "{lines:?} in {limit}");
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(words));
        }
        assert_eq!(wrap("one two", 13.0, Weight::Regular, 1e6), ["one two"]);
        assert!(wrap("", 13.0, Weight::Regular, 100.0).is_empty());
    }

    #[test]
    fn shortened_text_fits() {
        let words = "a name that is far too long for its legend";
        for limit in [20.0, 50.0, 120.0] {
            let short = shorten(words, 12.0, Weight::Bold, limit);
            assert!(width(&short, 12.0, Weight::Bold) <= limit && short.ends_with('…'), "{short}");
            let short = shorten_middle(words, 12.0, Weight::Bold, limit);
            assert!(width(&short, 12.0, Weight::Bold) <= limit && short.contains('…'), "{short}");
            assert!(limit < 50.0 || short.starts_with("a ") && short.ends_with("end"), "{short}");
        }
        assert_eq!(shorten_middle(words, 12.0, Weight::Bold, 1.0), "");
        assert_eq!(shorten(words, 12.0, Weight::Bold, 1e6), words);
    }

    #[test]
    fn ink_stays_in_its_box_straight_and_turned() {
        for upwards in [false, true] {
            let mut text = Text::new("Agypt jQ 0.5", (60.3, 60.7), 15.0);
            text.upwards = upwards;
            let mut image = RgbImage::from_pixel(200, 200, Rgb([255; 3]));
            draw(&mut image, &text, 1.0);
            let bounds = text.bounds();
            let mut ink = 0;
            for (x, y, pixel) in image.enumerate_pixels().filter(|(.., pixel)| pixel.0[0] < 200) {
                ink += 1;
                let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
                let inside =
                    x > bounds.left - 1.0 && x < bounds.right + 1.0 && y > bounds.top - 1.0 && y < bounds.bottom + 1.0;
                assert!(inside, "{x}, {y} {pixel:?} outside {bounds:?}");
            }
            assert!(ink > 150, "{ink} dark pixels");
        }
    }
}
