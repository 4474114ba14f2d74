//! Where each word of the prompt is looked for, and how much.

use super::{grid, picture, title};
use crate::description::Description;
use anyhow::Result;
use latentrace_measures::{TokenMaps, entropy, mass, token_entropy};
use latentrace_pipeline::nn::{Branch, replace};
use latentrace_plot::{Axis, Cell, Chart, Colours, HeatMap, Series, ValueScale, colourise, overlay, write};
use latentrace_trace::{Entry, Reduction, Rule, Trace};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Draws attention to the words of the prompt, where a record kept it: over the picture, summed over layers, heads and
/// calls (Tang et al. 2022, DAAM); and its share and spread by call.
pub fn words(folder: &Path, trace: &Trace, description: &Description) -> Result<Vec<PathBuf>> {
    let Some(found) = Attention::of(trace, description)? else { return Ok(Vec::new()) };
    let words: Vec<Word> = found.words();
    let mut made = vec![folder.join("words.csv")];
    replace(&made[0], csv(&words).as_bytes())?;
    let picture = picture(trace);
    let mut cells: Vec<Cell> = picture.iter().map(|picture| Cell::new(picture.clone(), "the picture")).collect();
    let (height, width) = description.grid();
    for Word { name, map, .. } in &words {
        // Each word by its own range: how much it is looked at in all is in word-mass.
        let range = |(low, high): (f64, f64), &x: &f64| (low.min(x), high.max(x));
        let limits = map.iter().flatten().fold((f64::INFINITY, f64::NEG_INFINITY), range);
        let image = match &picture {
            Some(picture) => overlay(picture, map, limits, Colours::Sequential, 0.7),
            None => colourise(map, (128 * width as u32 / height.max(1) as u32, 128), limits, Colours::Sequential),
        };
        cells.push(Cell::new(image, name.clone()));
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

/// The words of the prompt with the maps of where each is looked for, where a record kept attention.
pub fn word_maps(trace: &Trace, description: &Description) -> Result<Vec<(String, Vec<Vec<f64>>)>> {
    let words = Attention::of(trace, description)?.map(|found| found.words()).unwrap_or_default();
    Ok(words.into_iter().map(|word| (word.name, word.map)).collect())
}

/// What a record holds of the conditional branch's attention to text.
struct Attention {
    /// What each column of the probabilities is: a token, or `<start>`, `<end>`, `<padding>`.
    columns: Vec<String>,
    calls: Vec<Call>,
    maps: TokenMaps,
}

/// Sums over the layers of a call.
struct Call {
    number: usize,
    layers: f64,
    /// The share of each column.
    mass: Vec<f64>,
    entropy: f64,
}

/// A word of the prompt and where it is looked for.
struct Word {
    column: usize,
    name: String,
    map: Vec<Vec<f64>>,
}

impl Attention {
    /// Reads every recorded tensor of probabilities; where several rules kept different words, those of the first.
    fn of(trace: &Trace, description: &Description) -> Result<Option<Attention>> {
        let (height, width) = description.grid();
        let mut found: Option<Attention> = None;
        for entry in trace.entries().iter().filter(|entry| entry.tap.ends_with(".attn2.probs")) {
            if entry.branch == Some(Branch::Unconditional) || entry.stored.is_none() {
                continue;
            }
            let probs = trace.tensor(entry)?; // [1, heads or 1, pixels, tokens]
            let Some(columns) = columns(entry, description) else { continue };
            let maps = || TokenMaps::new(height, width);
            let found =
                found.get_or_insert_with(|| Attention { columns: columns.clone(), calls: Vec::new(), maps: maps() });
            if found.columns != columns {
                continue;
            }
            let pixels = entry.shape[2];
            let rows = ((pixels as f64 * height as f64 / width as f64).sqrt().round() as usize).max(1);
            // A grid that does not fit, as of a picture reduced to odd sides, has no place on the map; its share counts.
            let _ = found.maps.add(&probs.squeeze_dim(0), (rows, pixels / rows));
            found.add(entry.call, mass(&probs), token_entropy(&probs));
        }
        Ok(found)
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

    /// The prompt's own words with their maps.
    fn words(&self) -> Vec<Word> {
        let own = self.columns.iter().enumerate().filter(|(_, name)| !is_special(name));
        let word = |(column, name): (usize, &String)| {
            let map = self.maps.map(&[column])?.outer_iter().map(|row| row.to_vec()).collect();
            Some(Word { column, name: name.clone(), map })
        };
        own.filter_map(word).collect()
    }

    /// A row for each token, and one for all of the padding.
    fn shares(&self, description: &Description) -> HeatMap {
        let mut rows: Vec<(String, Vec<usize>)> = Vec::new();
        for (column, name) in self.columns.iter().enumerate() {
            match rows.iter_mut().find(|(known, _)| is_special(name) && known == name) {
                Some((_, columns)) => columns.push(column),
                None => rows.push((name.clone(), vec![column])),
            }
        }
        let share =
            |call: &Call, columns: &[usize]| columns.iter().map(|&column| call.mass[column]).sum::<f64>() / call.layers;
        HeatMap {
            title: format!("attention to each word: {}", title(description)),
            rows: rows.iter().map(|(name, _)| name.clone()).collect(),
            columns: self.calls.iter().map(|call| call.number.to_string()).collect(),
            values: rows
                .iter()
                .map(|(_, columns)| self.calls.iter().map(|call| share(call, columns)).collect())
                .collect(),
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
            x: Axis::linear("network call"),
            y: Axis::linear("entropy in nats"),
            series: vec![
                line("of each pixel, mean", &|call| call.entropy / call.layers),
                line("of the mean over pixels", &of_mean),
            ],
            ..Chart::default()
        }
    }
}

fn is_special(name: &str) -> bool {
    ["<start>", "<end>", "<padding>"].contains(&name)
}

/// What the columns of recorded probabilities are; `None` where the reduction leaves no columns of words.
fn columns(entry: &Entry, description: &Description) -> Option<Vec<String>> {
    let &[_, _, _, count] = entry.shape.as_slice() else { return None };
    let rule =
        Rule::parse(&if entry.kept.is_empty() { "x".to_string() } else { format!("x | {}", entry.kept) }).ok()?;
    let tokens = &description.prompt.tokens;
    let name = |place: usize| match place {
        0 => "<start>".to_string(),
        _ if place <= tokens.len() => tokens[place - 1].clone(),
        _ if place == tokens.len() + 1 => "<end>".to_string(),
        _ => "<padding>".to_string(),
    };
    let chosen = rule.reductions.iter().find_map(|reduction| match reduction {
        Reduction::Tokens(words) => Some(description.words().all_places(words, Some(Branch::Conditional))),
        _ => None,
    });
    let names: Vec<String> = match chosen {
        Some(places) => places.into_iter().map(|place| name(place as usize)).collect(),
        None => (0..count).map(name).collect(),
    };
    (names.len() == count).then_some(names)
}

fn csv(words: &[Word]) -> String {
    let mut csv = String::from("token,word,row,column,attention\n");
    for Word { column, name, map } in words {
        for (row, values) in map.iter().enumerate() {
            for (at, value) in values.iter().enumerate() {
                let quoted = name.replace('"', "\"\"");
                let _ = writeln!(csv, "{column},\"{quoted}\",{row},{at},{value}"); // writing to a String does not fail
            }
        }
    }
    csv
}
