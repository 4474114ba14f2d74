//! One face of a font: its glyphs, their outlines, and text that needs shaping.

use ab_glyph::{Font, FontRef, GlyphId, OutlinedGlyph, PxScale, PxScaleFont, VariableFont, point};
use harfrust::{Buffer, Direction, Script, ShapeOptions, ShaperFont, Tag};

use crate::drawing::Point;

/// A face of a font whose bytes are kept as long as the process runs.
pub(crate) struct Face {
    outlines: FontRef<'static>,
    shaping: harfrust::Font,
    rules: Rules,
}

/// For which scripts a face can choose and place glyphs by their neighbours.
enum Rules {
    /// The scripts of its OpenType table `GSUB`.
    OpenType(Vec<[u8; 4]>),
    /// The AAT table `morx`. It does not name scripts: its rules are for the letters that the face has.
    Apple,
}

/// A glyph of shaped text, measured in font sizes.
pub(crate) struct Shaped {
    pub glyph: GlyphId,
    /// From this glyph's pen to the next one's.
    pub advance: f64,
    /// From the pen to the glyph: to the right, and up.
    pub offset: Point,
}

impl Face {
    /// A face of a font file, in a weight of 1 to 1000 if it is a variable font; `None` if it cannot be read.
    pub fn parse(bytes: &'static [u8], index: u32, weight: f32) -> Option<Face> {
        let mut outlines = FontRef::try_from_slice_and_index(bytes, index).ok()?;
        outlines.units_per_em().filter(|em| *em > 0.0 && outlines.height_unscaled() > 0.0)?;
        outlines.set_variation(b"wght", weight);
        let shaping = harfrust::Font::new(bytes, index)?;
        let shaping = shaping.instance_builder().variations([(Tag::new(b"wght"), weight)]).build();
        let tables = ttf_parser::Face::parse(bytes, index).ok()?;
        let has_morx = tables.raw_face().table(ttf_parser::Tag::from_bytes(b"morx")).is_some();
        let rules = match tables.tables().gsub {
            Some(gsub) => Rules::OpenType(gsub.scripts.into_iter().map(|script| script.tag.to_bytes()).collect()),
            None if has_morx => Rules::Apple,
            None => Rules::OpenType(Vec::new()),
        };
        Some(Face { outlines, shaping, rules })
    }

    /// Whether it has a glyph for a letter.
    pub fn has(&self, letter: char) -> bool {
        self.outlines.glyph_id(letter) != GlyphId(0)
    }

    /// The face at a font size in pixels.
    pub fn at(&self, size: f64) -> PxScaleFont<&FontRef<'static>> {
        // ab_glyph's scale is the full height of the font; ours is one em. `parse` refuses a font without an em.
        let em = self.outlines.units_per_em().unwrap_or(1.0);
        PxScaleFont { font: &self.outlines, scale: PxScale::from(size as f32 * self.outlines.height_unscaled() / em) }
    }

    /// The outline of a glyph at a font size, placed at a point; `None` if it has none, such as a space.
    pub fn outline(&self, glyph: GlyphId, size: f64, (x, y): Point) -> Option<OutlinedGlyph> {
        let glyph = glyph.with_scale_and_position(self.at(size).scale, point(x as f32, y as f32));
        self.outlines.outline_glyph(glyph)
    }

    /// Whether it can draw a cluster: a glyph for every letter, ink where ink is needed, and the rules of its script.
    pub fn draws(&self, cluster: &str) -> bool {
        let Some(glyphs) = self.shape(cluster, Direction::LeftToRight) else { return false };
        let is_blank = cluster.chars().all(|letter| letter.is_whitespace() || is_ignorable(letter));
        (is_blank || glyphs.iter().any(|shaped| self.has_ink(shaped.glyph))) && self.knows(script(cluster))
    }

    /// The glyphs of letters of one script, from left to right; `None` if a letter has no glyph.
    pub fn shape(&self, words: &str, direction: Direction) -> Option<Vec<Shaped>> {
        let mut buffer = buffer(words);
        buffer.set_direction(direction);
        harfrust::shape(&ShaperFont::new(&self.shaping), &mut buffer, ShapeOptions::new()).ok()?;
        let em = f64::from(self.shaping.units_per_em());
        let both = buffer.glyph_infos().iter().zip(buffer.glyph_positions());
        both.map(|(info, position)| {
            Some(Shaped {
                glyph: GlyphId(u16::try_from(info.glyph_id).ok().filter(|glyph| *glyph != 0)?),
                advance: f64::from(position.x_advance) / em,
                offset: (f64::from(position.x_offset) / em, f64::from(position.y_offset) / em),
            })
        })
        .collect()
    }

    /// Whether a glyph leaves a mark. A font of coloured bitmaps has glyphs without one.
    fn has_ink(&self, glyph: GlyphId) -> bool {
        const SIZE: f64 = 32.0;
        let mut ink = 0.0;
        if let Some(outline) = self.outline(glyph, SIZE, (0.0, 0.0)) {
            outline.draw(|_, _, coverage| ink += coverage);
        }
        ink > 0.5
    }

    /// Whether it has the rules that a script needs. Without them letters would be in the wrong order, or not joined.
    fn knows(&self, script: Option<Script>) -> bool {
        match &self.rules {
            _ if script.is_none_or(needs_no_rules) => true,
            Rules::Apple => true,
            Rules::OpenType(known) => {
                let (tags, _) = Script::tags_for_language(script, None);
                let own = tags.as_slice().iter().filter(|tag| **tag != Tag::new(b"DFLT"));
                own.map(|tag| tag.to_be_bytes()).any(|tag| known.contains(&tag))
            }
        }
    }
}

/// The script of a text: that of its first letter which has one. Digits, punctuation and emoji have none.
pub(crate) fn script(words: &str) -> Option<Script> {
    buffer(words).script()
}

fn buffer(words: &str) -> Buffer {
    let mut buffer = Buffer::new();
    buffer.push_str(words);
    buffer.guess_segment_properties();
    buffer
}

/// The scripts of which every letter has one form, at the place where it is written. Letters of any other script are
/// drawn only by a face with rules for it.
fn needs_no_rules(script: Script) -> bool {
    [
        Script::LATIN,
        Script::GREEK,
        Script::CYRILLIC,
        Script::ARMENIAN,
        Script::GEORGIAN,
        Script::HEBREW,
        Script::HAN,
        Script::HIRAGANA,
        Script::KATAKANA,
        Script::BOPOMOFO,
        Script::HANGUL,
        Script::YI,
        Script::THAI,
        Script::LAO,
        Script::ETHIOPIC,
        Script::CHEROKEE,
        Script::CANADIAN_SYLLABICS,
        Script::RUNIC,
        Script::OGHAM,
        Script::BRAILLE,
    ]
    .contains(&script)
}

/// Whether a letter is not seen even where a font lacks it: joiners, variation selectors, marks of direction
/// (Default_Ignorable_Code_Point in Unicode). The soft hyphen is not counted: the bundled font shows it.
pub(crate) fn is_ignorable(letter: char) -> bool {
    matches!(
        u32::from(letter),
        0x034F
            | 0x061C
            | 0x115F..=0x1160
            | 0x17B4..=0x17B5
            | 0x180B..=0x180F
            | 0x200B..=0x200F
            | 0x202A..=0x202E
            | 0x2060..=0x206F
            | 0x3164
            | 0xFE00..=0xFE0F
            | 0xFEFF
            | 0xFFA0
            | 0xFFF0..=0xFFF8
            | 0x1BCA0..=0x1BCA3
            | 0x1D173..=0x1D17A
            | 0xE0000..=0xE0FFF
    )
}
