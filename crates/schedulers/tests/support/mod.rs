//! Helpers of several test programs.

#![allow(dead_code)] // each of them some of it

use proptest::sample::Index;

/// The largest difference between two rows of numbers.
pub fn gap(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// A change of one byte: its place, the new byte, and whether to replace, insert or remove.
pub type Edit = (Index, u8, u8);

/// A text with some of its bytes changed.
pub fn mutated(text: &str, edits: Vec<Edit>) -> String {
    let mut text = text.as_bytes().to_vec();
    for (place, byte, kind) in edits {
        let place = place.index(text.len());
        match kind % 3 {
            0 => text[place] = byte,
            1 => text.insert(place, byte),
            _ => {
                text.remove(place);
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
