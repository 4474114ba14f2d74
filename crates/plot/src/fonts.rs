//! Which face draws a letter: the bundled one, or else a font of the machine. A letter that neither has is spelt.
//!
//! The machine's fonts are looked for when a letter is missing from the bundled font for the first time, and of each
//! font that is not needed only the list of letters is read.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use fontdb::{Database, FaceInfo, Source, Stretch, Style};

use crate::face::{Face, is_ignorable};

/// The two bundled fonts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Weight {
    Regular,
    Bold,
}

/// The fonts for text of one weight.
pub(crate) struct Fonts {
    /// The font that draws every letter it has.
    pub bundled: &'static Face,
    weight: Weight,
    machine: OnceLock<Vec<Candidate>>,
    chosen: Mutex<HashMap<String, Option<&'static Face>>>,
}

/// A face of the machine, read as far as it was needed.
struct Candidate {
    database: &'static Database,
    id: fontdb::ID,
    letters: OnceLock<Vec<RangeInclusive<u32>>>,
    face: OnceLock<Option<&'static Face>>,
}

impl Weight {
    /// The weight as fonts have it, from 1 to 1000.
    fn number(self) -> u16 {
        match self {
            Weight::Regular => 400,
            Weight::Bold => 700,
        }
    }

    fn bundled(self) -> &'static Face {
        static REGULAR: LazyLock<Face> = LazyLock::new(|| whole(include_bytes!("../fonts/DejaVuSans.ttf")));
        static BOLD: LazyLock<Face> = LazyLock::new(|| whole(include_bytes!("../fonts/DejaVuSans-Bold.ttf")));
        match self {
            Weight::Regular => &REGULAR,
            Weight::Bold => &BOLD,
        }
    }
}

fn whole(bytes: &'static [u8]) -> Face {
    Face::parse(bytes, 0, 400.0).expect("the bundled font is whole")
}

impl Fonts {
    fn new(weight: Weight) -> Fonts {
        Fonts { bundled: weight.bundled(), weight, machine: OnceLock::new(), chosen: Mutex::default() }
    }

    /// The bundled font, and the fonts of a database in the place of this machine's.
    #[cfg(test)]
    pub fn having(weight: Weight, database: &'static Database) -> Fonts {
        Fonts { machine: Candidate::all(database, weight).into(), ..Fonts::new(weight) }
    }

    /// The bundled font, and the fonts of this machine.
    pub fn of_machine(weight: Weight) -> &'static Fonts {
        static REGULAR: LazyLock<Fonts> = LazyLock::new(|| Fonts::new(Weight::Regular));
        static BOLD: LazyLock<Fonts> = LazyLock::new(|| Fonts::new(Weight::Bold));
        match weight {
            Weight::Regular => &REGULAR,
            Weight::Bold => &BOLD,
        }
    }

    /// The face that draws a cluster (a letter with its marks, joiners and selectors); `None` if it has to be spelt.
    /// It depends on nothing but the cluster and the fonts.
    pub fn face(&self, cluster: &str) -> Option<&'static Face> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        match chosen.get(cluster) {
            Some(face) => *face,
            None => *chosen.entry(cluster.to_owned()).or_insert(self.find(cluster)),
        }
    }

    fn find(&self, cluster: &str) -> Option<&'static Face> {
        if self.bundled.draws(cluster) {
            return Some(self.bundled);
        }
        // What a font has for a letter of private use is not what the writer meant.
        let first = cluster.chars().find(|letter| !is_ignorable(*letter)).filter(|letter| !is_private(*letter))?;
        let machine = self.machine.get_or_init(|| Candidate::all(machine(), self.weight));
        let having = machine.iter().filter(|candidate| candidate.has(first));
        having.filter_map(|candidate| candidate.face(self.weight)).find(|face| face.draws(cluster))
    }
}

fn machine() -> &'static Database {
    static FOUND: LazyLock<Database> = LazyLock::new(|| {
        let mut found = Database::new();
        found.load_system_fonts();
        found
    });
    &FOUND
}

impl Candidate {
    /// The faces of a database, the most suitable first.
    fn all(database: &'static Database, weight: Weight) -> Vec<Candidate> {
        let mut faces: Vec<&FaceInfo> = database.faces().filter(|face| !has_only_stand_ins(face)).collect();
        faces.sort_by_cached_key(|face| rank(face, weight));
        let candidate =
            |face: &FaceInfo| Candidate { database, id: face.id, letters: OnceLock::new(), face: OnceLock::new() };
        faces.into_iter().map(candidate).collect()
    }

    fn has(&self, letter: char) -> bool {
        let letters = self.letters.get_or_init(|| self.database.with_face_data(self.id, letters).unwrap_or_default());
        let after = letters.partition_point(|range| *range.end() < u32::from(letter));
        letters.get(after).is_some_and(|range| range.contains(&u32::from(letter)))
    }

    /// The face, read when it is needed first; `None` if it cannot be read.
    fn face(&self, weight: Weight) -> Option<&'static Face> {
        let read = |data: &[u8], index: u32| {
            // Chosen faces are few, and each stays in use as long as the process runs.
            let bytes: &'static [u8] = Box::leak(Box::from(data));
            let face = Face::parse(bytes, index, f32::from(weight.number()))?;
            Some(&*Box::leak(Box::new(face)))
        };
        *self.face.get_or_init(|| self.database.with_face_data(self.id, read).flatten())
    }
}

/// The letters that a face has a glyph for, as ranges that rise.
fn letters(data: &[u8], index: u32) -> Vec<RangeInclusive<u32>> {
    let mut letters = Vec::new();
    let tables = ttf_parser::Face::parse(data, index).ok();
    for table in tables.and_then(|face| face.tables().cmap).into_iter().flat_map(|cmap| cmap.subtables) {
        if table.is_unicode() {
            table.codepoints(|letter| letters.push(letter));
        }
    }
    letters.sort_unstable();
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for letter in letters {
        match ranges.last_mut() {
            Some(last) if letter <= last.end().saturating_add(1) => *last = *last.start()..=letter,
            _ => ranges.push(letter..=letter),
        }
    }
    ranges
}

/// Whether a font has a glyph for every letter of Unicode that stands for what is missing.
fn has_only_stand_ins(face: &FaceInfo) -> bool {
    let name = face.post_script_name.to_lowercase().replace([' ', '-'], "");
    ["lastresort", "adobeblank", "adobenotdef"].iter().any(|known| name.contains(known))
}

/// How far a face is from the look of the bundled font. Faces that are equally far are in the order of their files, so
/// that two runs on one machine choose alike; of a collection the first face is its maker's choice.
fn rank(face: &FaceInfo, weight: Weight) -> (bool, u16, bool, bool, u8, String, u32) {
    let family = face.families.first().map_or("", |(name, _)| name.as_str()).to_lowercase();
    let look = match family.as_str() {
        "dejavu sans" => 0,
        name if name.contains("unifont") => 4, // drawn in large pixels
        name if name.contains("sans") => 1,
        name if name.contains("serif") => 3,
        _ => 2,
    };
    let file = match &face.source {
        Source::File(path) | Source::SharedFile(path, _) => path.to_string_lossy().into_owned(),
        Source::Binary(_) => String::new(),
    };
    let upright = face.style == Style::Normal;
    let normal = face.stretch == Stretch::Normal;
    (!upright, face.weight.0.abs_diff(weight.number()), !normal, face.monospaced, look, file, face.index)
}

fn is_private(letter: char) -> bool {
    matches!(u32::from(letter), 0xE000..=0xF8FF | 0xF0000..)
}
