//! Attention to the words of the prompt: maps, shares and entropy (Tang et al. 2022, DAAM).

use super::{grid, picture, title};
use anyhow::Result;
use latentrace_files::{Field, Table, fields};
use latentrace_measures::{TokenMaps, entropy, mass, token_entropy};
use latentrace_pipeline::nn::tch::Kind;
use latentrace_pipeline::nn::{Attends, Branch, ModuleValue};
use latentrace_plot::{Chart, ChartAxis, Colours, HeatMap, Series, Tile, ValueScale, colourise, overlay, write};
use latentrace_runs::{Description, Observer};
use latentrace_trace::{Entry, Reduction, Rule, Trace};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Draws the attention to the words of the prompt, if the record has it: maps over the picture, summed over layers,
/// heads and calls (Tang et al. 2022, DAAM), and the share and the entropy of attention by call. Returns the files.
///
/// # Errors
/// The record cannot be read, or a file cannot be written.
pub fn words(folder: &Path, trace: &Trace, description: &Description, observer: &dyn Observer) -> Result<Vec<PathBuf>> {
    let Some(found) = Attention::of(trace, description)? else { return Ok(Vec::new()) };
    if found.without_grid > 0 {
        let count = found.without_grid;
        observer.note(&format!(
            "{count} tensors of attention are not in the maps of words: they were reduced by an earlier version, which did not record their grids"
        ));
    }
    let words: Vec<Word> = found.words();
    let mut made = vec![folder.join("words.csv")];
    table(&words).write(&made[0])?;
    let picture = picture(trace);
    let mut cells: Vec<Tile> = picture.iter().map(|picture| Tile::new(picture.clone(), "the picture")).collect();
    let (height, width) = description.grid();
    for Word { name, map, .. } in &words {
        // Each word has its own range of colours; word-mass has the total attention.
        let range = |(low, high): (f64, f64), &x: &f64| (low.min(x), high.max(x));
        let limits = map.iter().flatten().fold((f64::INFINITY, f64::NEG_INFINITY), range);
        let image = match &picture {
            Some(picture) => overlay(picture, map, limits, Colours::Sequential, 0.7),
            None => colourise(map, (128 * width as u32 / height.max(1) as u32, 128), limits, Colours::Sequential),
        };
        cells.push(Tile::new(image, name.clone()).with_scale(limits, Colours::Sequential));
    }
    let columns = cells.len().min(8);
    if columns > 0 {
        let heading = format!("attention to each word: {}", title(description));
        made.push(grid(folder, "words.png", &heading, cells, columns)?);
    }
    made.extend(write(folder, "word-mass", &found.shares(description))?);
    made.extend(write(folder, "word-entropy", &found.entropies())?);
    Ok(made)
}

/// The words of the prompt with their attention maps, row by row. Empty if the record has no attention.
///
/// # Errors
/// The record cannot be read.
pub fn word_maps(trace: &Trace, description: &Description) -> Result<Vec<(String, Vec<Vec<f64>>)>> {
    let words = Attention::of(trace, description)?.map(|found| found.words()).unwrap_or_default();
    Ok(words.into_iter().map(|word| (word.name, word.map)).collect())
}

/// The recorded attention of the conditional branch to text.
struct Attention {
    /// The meaning of the columns of the probabilities: words with all their tokens, and `<start>`, `<end>`,
    /// `<padding>`.
    groups: Vec<Group>,
    calls: Vec<Call>,
    maps: TokenMaps,
    /// The number of tensors whose grid is not known.
    without_grid: usize,
}

/// The columns of one word, or of one kind of special token.
struct Group {
    name: String,
    /// The position of the first on the token axis.
    place: i64,
    columns: Vec<usize>,
    is_word: bool,
}

/// Sums over the layers of a call.
struct Call {
    number: usize,
    layers: f64,
    /// The attention to each column, summed over layers.
    mass: Vec<f64>,
    entropy: f64,
}

/// A word of the prompt with its attention map.
struct Word {
    place: i64,
    name: String,
    map: Vec<Vec<f64>>,
}

/// A recorded tensor of probabilities.
struct Kept<'a> {
    entry: &'a Entry,
    /// The positions of its columns on the token axis.
    places: Vec<i64>,
    /// The height and width of the picture that its pixels were flattened from.
    grid: Option<[usize; 2]>,
    /// Whether it is averaged over heads.
    averaged: bool,
}

impl Attention {
    /// Reads the recorded probabilities. A tensor counts once, even if several rules kept it. If rules kept different
    /// words, the rule with most words counts. If one tensor is averaged over heads, all are, so that every layer has
    /// the same weight.
    fn of(trace: &Trace, description: &Description) -> Result<Option<Attention>> {
        let is_of_prompt = |entry: &&Entry| {
            entry.role().module() == Some(ModuleValue::Probs(Attends::Text))
                && entry.branch != Some(Branch::Unconditional)
                && entry.stored.is_some()
        };
        let kept = trace.entries().iter().filter(is_of_prompt).filter_map(|entry| Kept::of(entry, description));
        let kept = once(kept.collect());
        let Some(first) = kept.first() else { return Ok(None) };
        let averaged = kept.iter().any(|kept| kept.averaged);
        let (height, width) = description.grid();
        let mut found = Attention {
            groups: groups(&first.places, description),
            calls: Vec::new(),
            maps: TokenMaps::new(height, width),
            without_grid: 0,
        };
        for Kept { entry, grid, .. } in &kept {
            let probs = trace.tensor(entry)?; // [1, heads or 1, pixels, tokens]
            let probs = if averaged { probs.mean_dim(1, true, None::<Kind>) } else { probs };
            let added = grid.is_some_and(|[rows, columns]| found.maps.add(&probs.squeeze_dim(0), (rows, columns)));
            found.without_grid += usize::from(!added);
            found.add(entry.call, mass(&probs), token_entropy(&probs));
        }
        Ok(Some(found))
    }

    fn add(&mut self, number: usize, mass: Vec<f64>, entropy: f64) {
        match self.calls.iter_mut().find(|call| call.number == number) {
            Some(call) => {
                call.mass.iter_mut().zip(mass).for_each(|(sum, share)| *sum += share);
                call.entropy += entropy;
                call.layers += 1.0;
            }
            None => self.calls.push(Call { number, layers: 1.0, mass, entropy }),
        }
    }

    /// The words of the prompt with their maps.
    fn words(&self) -> Vec<Word> {
        let word = |Group { name, place, columns, .. }: &Group| {
            let map = self.maps.map(columns)?.outer_iter().map(|row| row.to_vec()).collect();
            Some(Word { place: *place, name: name.clone(), map })
        };
        self.groups.iter().filter(|group| group.is_word).filter_map(word).collect()
    }

    /// The share of attention by call: a row for each word, and one for all padding.
    fn shares(&self, description: &Description) -> HeatMap {
        let share =
            |call: &Call, columns: &[usize]| columns.iter().map(|&column| call.mass[column]).sum::<f64>() / call.layers;
        let row = |group: &Group| self.calls.iter().map(|call| share(call, &group.columns)).collect();
        HeatMap {
            title: format!("attention to each word: {}", title(description)),
            rows: self.groups.iter().map(|group| group.name.clone()).collect(),
            columns: self.calls.iter().map(|call| call.number.to_string()).collect(),
            values: self.groups.iter().map(row).collect(),
            x_label: "network call".into(),
            value_label: "share of attention".into(),
            scale: ValueScale::Log,
            ..HeatMap::default()
        }
    }

    fn entropies(&self) -> Chart {
        let line = |name: &str, of: &dyn Fn(&Call) -> f64| {
            Series::new(name, self.calls.iter().map(|call| (call.number as f64, of(call))).collect())
        };
        let of_mean = |call: &Call| entropy(&call.mass.iter().map(|sum| sum / call.layers).collect::<Vec<_>>());
        Chart {
            title: "how spread attention is over the tokens".into(),
            x: ChartAxis::whole("network call"),
            y: ChartAxis::linear("entropy in nats"),
            series: vec![
                line("of each pixel, mean", &|call| call.entropy / call.layers),
                line("of the mean over pixels", &of_mean),
            ],
            ..Chart::default()
        }
    }
}

impl<'a> Kept<'a> {
    /// `None` if the reductions leave no columns of words.
    fn of(entry: &'a Entry, description: &Description) -> Option<Kept<'a>> {
        let &[_, _, pixels, count] = entry.shape.as_slice() else { return None };
        let text = if entry.kept.is_empty() { "x".to_string() } else { format!("x | {}", entry.kept) };
        let rule = Rule::parse(&text).ok()?;
        let reductions = rule.reductions();
        let chosen = reductions.iter().find_map(|reduction| match reduction {
            Reduction::Tokens(words) => Some(description.words().all_places(words, Some(Branch::Conditional))),
            _ => None,
        });
        let places = chosen.unwrap_or_else(|| (0..count as i64).collect());
        let is_whole = !reductions.iter().any(|reduction| matches!(reduction, Reduction::Down(_)));
        let (height, width) = description.grid();
        Some(Kept {
            entry,
            grid: entry.grid.or_else(|| if is_whole { halved([height, width], pixels) } else { None }),
            averaged: reductions.contains(&Reduction::HeadMean),
            places,
        })
        .filter(|kept| kept.places.len() == count)
    }

    fn pixels(&self) -> usize {
        self.entry.shape[2]
    }
}

/// Removes duplicates of tensors that several rules kept. The result has the columns of the rule with most columns; of
/// duplicates, the one with all heads or with more pixels remains.
fn once(kept: Vec<Kept>) -> Vec<Kept> {
    let most = kept.iter().fold(
        Vec::new(),
        |most: Vec<i64>, kept| {
            if kept.places.len() > most.len() { kept.places.clone() } else { most }
        },
    );
    let mut found: Vec<Kept> = Vec::new();
    let mut places: HashMap<(usize, &str, usize), usize> = HashMap::new();
    for kept in kept.into_iter().filter(|kept| kept.places == most) {
        let key = (kept.entry.call, kept.entry.tap.as_str(), kept.entry.image);
        match places.get(&key).map(|&place| &mut found[place]) {
            Some(known) => {
                if (!kept.averaged, kept.pixels()) > (!known.averaged, known.pixels()) {
                    *known = kept;
                }
            }
            None => {
                places.insert(key, found.len());
                found.push(kept);
            }
        }
    }
    found
}

/// The grid with a number of pixels, among those that a network makes by halving the latents and rounding up. For
/// records without grids.
fn halved(latents: [usize; 2], pixels: usize) -> Option<[usize; 2]> {
    let halve = |grid: &[usize; 2]| Some(grid.map(|side| side.div_ceil(2))).filter(|_| *grid != [1, 1]);
    std::iter::successors(Some(latents), halve).find(|[height, width]| height * width == pixels)
}

/// The groups of columns at some positions of the token axis. With two text encoders a place may be of a word of each.
fn groups(places: &[i64], description: &Description) -> Vec<Group> {
    let words = description.words().conditional.words();
    let end = description.prompt.tokens.len() as i64 + 1;
    let mut groups: Vec<Group> = Vec::new();
    for (column, &place) in places.iter().enumerate() {
        let of_words = words.iter().filter(|(_, tokens)| tokens.contains(&place));
        let mut at: Vec<(&str, i64, bool)> = of_words.map(|(word, tokens)| (word.as_str(), tokens[0], true)).collect();
        if at.is_empty() {
            at.push(match place {
                0 => ("<start>", 0, false),
                place if place == end => ("<end>", end, false),
                _ => ("<padding>", end + 1, false),
            });
        }
        for (name, first, is_word) in at {
            match groups.iter_mut().find(|group| group.place == first && group.name == name) {
                Some(group) => group.columns.push(column),
                None => groups.push(Group { name: name.into(), place: first, columns: vec![column], is_word }),
            }
        }
    }
    groups
}

/// The maps, a row for each of their pixels.
fn table(words: &[Word]) -> Table {
    let mut table = Table::new(["token", "word", "row", "column", "attention"]);
    for Word { place, name, map } in words {
        for (row, values) in map.iter().enumerate() {
            for (column, &value) in values.iter().enumerate() {
                table.row(fields![*place, Field::quoted(name), row, column, value]);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_pixels_are_rows() {
        let word = |place, name: &str, map| Word { place, name: name.into(), map };
        let words = [word(2, "red", vec![vec![0.5, 0.25]]), word(3, "\"cat\",", vec![vec![1.0], vec![0.0]])];
        let expected = "token,word,row,column,attention\n2,\"red\",0,0,0.5\n2,\"red\",0,1,0.25\n\
                        3,\"\"\"cat\"\",\",0,0,1\n3,\"\"\"cat\"\",\",1,0,0\n";
        assert_eq!(table(&words).to_string(), expected);
    }
}
