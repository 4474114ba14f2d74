//! The line numbers of an index: whether a line is missing, out of order or there twice.

use std::ops::Range;

/// The numbers of the lines that were read so far.
pub(crate) struct Numbering {
    /// The number that the next line should have.
    next: u64,
    /// How many lines since the last numbered one could not be read. These may be the missing ones.
    unreadable: u64,
    missing: Vec<Range<u64>>,
    has_gaps: bool,
}

/// What a line's number says.
#[derive(Debug, PartialEq)]
pub(crate) enum Place {
    /// The line follows the one before it, or has no number.
    Next,
    /// The line can be read but is not in its place; says why.
    Wrong(String),
    /// The line was read before.
    Twice(String),
}

impl Numbering {
    pub(crate) fn new() -> Numbering {
        Numbering { next: 1, unreadable: 0, missing: Vec::new(), has_gaps: false }
    }

    /// Whether lines are missing, besides those that could not be read.
    pub(crate) fn has_gaps(&self) -> bool {
        self.has_gaps
    }

    /// A line that could not be read.
    pub(crate) fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// A line that was read, with its number.
    pub(crate) fn read(&mut self, number: Option<u64>) -> Place {
        let Some(number) = number else { return Place::Next };
        if number < self.next {
            return match self.missing.iter().any(|range| range.contains(&number)) {
                true => Place::Wrong(format!("it is line {number}, and stands behind line {}", self.next - 1)),
                false => Place::Twice(format!("line {number} is there twice")),
            };
        }
        let gap = self.next..number;
        let explained = std::mem::take(&mut self.unreadable);
        self.next = number.saturating_add(1);
        if gap.is_empty() {
            return Place::Next;
        }
        self.missing.push(gap.clone());
        if gap.end - gap.start <= explained {
            return Place::Next;
        }
        self.has_gaps = true;
        Place::Wrong(match gap.end - gap.start {
            1 => format!("it is line {number} of the original, and line {} is missing", gap.start),
            _ => format!("it is line {number} of the original, and lines {} to {} are missing", gap.start, gap.end - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result for each line; 0 stands for a line that cannot be read.
    fn said(numbers: &[u64]) -> Vec<Place> {
        let mut numbering = Numbering::new();
        let mut all = Vec::new();
        for &number in numbers {
            match number {
                0 => numbering.unreadable(),
                number => all.push(numbering.read(Some(number))),
            }
        }
        all
    }

    #[test]
    fn what_is_missing_moved_or_doubled_is_named() {
        let wrong = |text: &str| Place::Wrong(text.into());
        assert_eq!(said(&[1, 2, 3]), [Place::Next, Place::Next, Place::Next]);
        assert_eq!(said(&[2]), [wrong("it is line 2 of the original, and line 1 is missing")]);
        assert_eq!(said(&[1, 5])[1], wrong("it is line 5 of the original, and lines 2 to 4 are missing"));
        assert_eq!(said(&[1, 2, 2])[2], Place::Twice("line 2 is there twice".into()));
        assert_eq!(
            said(&[1, 3, 2, 4])[1..],
            [
                wrong("it is line 3 of the original, and line 2 is missing"),
                wrong("it is line 2, and stands behind line 3"),
                Place::Next
            ]
        );
        assert_eq!(said(&[1, 0, 3])[1], Place::Next, "the line that cannot be read is the one that is missing");
        assert_eq!(said(&[1, 0, 4])[1], wrong("it is line 4 of the original, and lines 2 to 3 are missing"));
        assert_eq!(said(&[u64::MAX, u64::MAX - 1]).len(), 2, "no number is too large");
        assert_eq!(Numbering::new().read(None), Place::Next);
    }
}
