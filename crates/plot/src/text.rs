//! Text: width, line breaks and pixels.

use image::RgbImage;
use unicode_segmentation::UnicodeSegmentation;

use crate::drawing::{Point, Text};
pub(crate) use crate::fonts::Weight;
use crate::glyphs::{Line, Placed};

/// From the baseline to the top of the tallest letter, in font sizes. Accents on capitals are higher.
pub(crate) const ASCENT: f64 = 0.76;
/// From the baseline to the bottom of the deepest letter, in font sizes.
#[cfg(test)]
pub(crate) const DESCENT: f64 = 0.24;
/// From one baseline to the next, in font sizes.
pub(crate) const LEADING: f64 = 1.25;

/// The width of a line of text with a font size of `size` pixels.
pub(crate) fn width(words: &str, size: f64, weight: Weight) -> f64 {
    Line::of(words, size, weight).width
}

/// The lines of a text, at most `limit` wide (or one letter). Line feeds break lines, and words that are too long are
/// cut. Chinese and Japanese have no spaces, so there a line can end after most letters.
pub(crate) fn wrap(words: &str, size: f64, weight: Weight, limit: f64) -> Vec<String> {
    let fits = |line: &str| width(line, size, weight) <= limit;
    let mut lines = Vec::new();
    for paragraph in words.trim_end().lines() {
        let mut line = String::new();
        let words = paragraph.split_whitespace().map(unbroken);
        for (place, part) in words.flat_map(|parts| parts.into_iter().enumerate()) {
            let space = if line.is_empty() || place > 0 { "" } else { " " };
            let longer = format!("{line}{space}{part}");
            if fits(&longer) {
                line = longer;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for letter in part.graphemes(true) {
                if !line.is_empty() && !fits(&format!("{line}{letter}")) {
                    lines.push(std::mem::take(&mut line));
                }
                line.push_str(letter);
            }
        }
        lines.push(line);
    }
    lines
}

/// The parts of a word that a line does not break: the whole word, except where it has Chinese or Japanese letters.
fn unbroken(word: &str) -> Vec<&str> {
    const NEVER_FIRST: &str = ")]},.:;!?%…’”»、。，．：；！？）］｝」』】〉》〕・ー々ゝゞヽヾ゛゜ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ";
    const NEVER_LAST: &str = "([{‘“«（［｛「『【〈《〔";
    let starts: Vec<usize> = word.grapheme_indices(true).map(|(start, _)| start).collect();
    let breaks = |start: &usize| {
        let (before, after) = word.split_at(*start);
        let (Some(last), Some(first)) = (before.graphemes(true).next_back(), after.chars().next()) else {
            return false;
        };
        let last = last.chars().next().unwrap_or(first);
        (breaks_anywhere(last) || breaks_anywhere(first)) && !NEVER_LAST.contains(last) && !NEVER_FIRST.contains(first)
    };
    let ends = starts.into_iter().filter(breaks).chain([word.len()]);
    ends.scan(0, |start, end| Some(&word[std::mem::replace(start, end)..end])).collect()
}

/// Whether a letter is of a script without spaces between words whose lines can end after any letter.
fn breaks_anywhere(letter: char) -> bool {
    let number = u32::from(letter);
    matches!(number, 0x2E80..=0xA4CF | 0xF900..=0xFAFF | 0xFE30..=0xFE4F | 0xFF00..=0xFFEF | 0x20000..=0x3FFFF)
}

/// The text, shortened at the end with an ellipsis if it does not fit.
pub(crate) fn shorten(words: &str, size: f64, weight: Weight, limit: f64) -> String {
    if width(words, size, weight) <= limit {
        return words.to_owned();
    }
    let room = limit - width("…", size, weight);
    let ends = words.grapheme_indices(true).map(|(start, letter)| start + letter.len());
    let kept = ends.take_while(|end| width(&words[..*end], size, weight) <= room).last().unwrap_or(0);
    format!("{}…", words[..kept].trim_end())
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
    let letters: Vec<&str> = words.graphemes(true).collect();
    let keeping = |count: usize| {
        let (start, end) = (&letters[..count / 2], &letters[letters.len() - count.div_ceil(2)..]);
        format!("{}…{}", start.concat(), end.concat())
    };
    let counts = (0..letters.len()).rev();
    counts.map(keeping).find(|kept| width(kept, size, weight) <= limit).unwrap_or_default()
}

/// Draws a text into a picture that has `ratio` pixels for each unit of the text's coordinates.
pub(crate) fn draw(image: &mut RgbImage, text: &Text, ratio: f64) {
    let lead = text.lead() * ratio;
    for Placed { face, glyph, size, at } in Line::of(&text.words, text.size * ratio, text.weight).glyphs {
        // Rasterised near the origin and then moved by whole pixels, so that turned text is as sharp as straight text.
        let along = at.0 - lead;
        let (x, y) = match text.upwards {
            false => (text.at.0 * ratio + along, text.at.1 * ratio - at.1),
            true => (text.at.0 * ratio - at.1, text.at.1 * ratio - along),
        };
        let (left, top) = (x.floor(), y.floor());
        let shift = match text.upwards {
            false => (x - left, y - top),
            true => (1.0 - (y - top), x - left),
        };
        let Some(outline) = face.outline(glyph, size, shift) else { continue };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fonts::Fonts;
    use crate::glyphs::tests::{SCRIPTS, set_fonts};
    use ab_glyph::{Font, FontRef};
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
                assert!(Fonts::of_machine(weight).bundled.has(letter), "{letter:?} in {weight:?}");
            }
        }
    }

    #[test]
    fn an_em_is_an_em() {
        let font = FontRef::try_from_slice(include_bytes!("../fonts/DejaVuSans.ttf")).unwrap();
        let advance = f64::from(font.h_advance_unscaled(font.glyph_id('n')));
        assert!((width("n", 2048.0, Weight::Regular) - advance).abs() < 0.5); // 2048 units to the em
    }

    #[test]
    fn wrapped_lines_fit_and_lose_no_letter() {
        let words = "a very long prompt, with supercalifragilisticexpialidocious words\nand a second paragraph 赤い円";
        // The widest letter is one that is spelt.
        for limit in [50.0, 64.0, 100.0, 400.0] {
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

    #[test]
    fn latin_text_is_as_wide_as_its_letters_one_by_one() {
        let words = "Attention to “AVATAR”, seed 3: σ → 0.5 × 10⁻³, Ünïcödé жук";
        let font = FontRef::try_from_slice(include_bytes!("../fonts/DejaVuSans.ttf")).unwrap();
        let em = font.units_per_em().unwrap();
        let glyphs: Vec<_> = words.chars().map(|letter| font.glyph_id(letter)).collect();
        let kerning: f32 = glyphs.windows(2).map(|pair| font.kern_unscaled(pair[0], pair[1])).sum();
        let advances: f32 = glyphs.iter().map(|glyph| font.h_advance_unscaled(*glyph)).sum();
        let expected = f64::from((kerning + advances) / em * 13.0);
        assert!(kerning < 0.0, "the font kerns AV");
        set_fonts(&[SCRIPTS]);
        assert!((width(words, 13.0, Weight::Regular) - expected).abs() < 1e-3);
    }

    #[test]
    fn chinese_and_japanese_lines_end_after_a_letter_but_not_before_a_full_stop() {
        let parts = |word| unbroken(word).join("|");
        assert_eq!(parts("supercalifragilistic-50%"), "supercalifragilistic-50%");
        assert_eq!(parts("赤い円。「左」が"), "赤|い|円。|「左」|が");
        assert_eq!(parts("“赤い円”,"), "“赤|い|円”,");
        assert_eq!(parts("seed赤3"), "seed|赤|3");
        assert_eq!(parts("한국어"), "한국어", "Korean has spaces");
        assert_eq!(parts("が\u{3099}ぎ"), "が\u{3099}|ぎ", "a mark stays with its letter");
        assert_eq!(parts(""), "");
        let spelt = width("赤", 13.0, Weight::Regular);
        assert_eq!(wrap("ab 赤い円。", 13.0, Weight::Regular, spelt * 2.5), ["ab 赤い", "円。"]);
    }

    #[test]
    fn what_is_shortened_fits_and_splits_no_cluster() {
        set_fonts(&[SCRIPTS]);
        for words in [
            "שָׁלוֹם שָׁלוֹם שָׁלוֹם שָׁלוֹם",
            "مرحبا بالعالم مرحبا بالعالم",
            "赤い円赤い円赤い円",
            "❤\u{fe0f}e\u{301}❤\u{fe0f}e\u{301}❤\u{fe0f}e\u{301}❤\u{fe0f}❤\u{fe0f}",
        ] {
            let whole = width(words, 12.0, Weight::Regular);
            for limit in [0.4, 0.7, 0.9].map(|share| share * whole) {
                for short in
                    [shorten(words, 12.0, Weight::Regular, limit), shorten_middle(words, 12.0, Weight::Regular, limit)]
                {
                    assert!(width(&short, 12.0, Weight::Regular) <= limit, "{short} in {limit}");
                    let kept: String = short.split('…').collect();
                    let clusters: Vec<&str> = words.graphemes(true).collect();
                    assert!(kept.graphemes(true).all(|kept| clusters.contains(&kept)), "{short}");
                }
            }
            for limit in [60.0, 100.0] {
                let lines = wrap(words, 12.0, Weight::Regular, limit);
                assert!(lines.iter().all(|line| width(line, 12.0, Weight::Regular) <= limit), "{lines:?} in {limit}");
            }
        }
    }

    #[test]
    fn text_of_any_script_is_drawn_where_its_width_says() {
        set_fonts(&[SCRIPTS]);
        for upwards in [false, true] {
            for words in ["שלום (a)", "مرحبا", "赤い円", "❤ 😀"] {
                let mut text = Text::new(words, (60.0, 160.0), 15.0);
                text.upwards = upwards;
                let mut image = RgbImage::from_pixel(240, 200, Rgb([255; 3]));
                draw(&mut image, &text, 1.0);
                let along = |x: u32, y: u32| if upwards { 160.0 - f64::from(y) } else { f64::from(x) - 60.0 };
                let dark = image.enumerate_pixels().filter(|(.., pixel)| pixel.0[0] < 128);
                let (least, most) = dark
                    .map(|(x, y, _)| along(x, y))
                    .fold((f64::MAX, f64::MIN), |(least, most), at| (least.min(at), most.max(at)));
                let width = text.width();
                assert!(
                    least > -2.0 && least < 5.0 && most < width + 2.0 && most > width - 5.0,
                    "{words} {least} {most} {width}"
                );
            }
        }
    }
}
