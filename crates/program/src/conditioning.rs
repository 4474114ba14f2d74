//! The options of what SDXL takes besides a prompt.

use crate::headings;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use latentrace::pipeline::EmptyNegative;
use latentrace::runs::Cell;

/// What SDXL takes besides a prompt and a negative prompt.
#[derive(Args, Clone, Debug, Default)]
pub struct ConditioningArguments {
    /// The prompt of the second text encoder [default: that of the first]
    #[arg(long, value_name = "PROMPT", allow_hyphen_values = true, help_heading = headings::SDXL, hide_short_help = true)]
    prompt_2: Option<String>,
    /// The negative prompt of the second text encoder [default: that of the first]
    #[arg(long, value_name = "PROMPT", allow_hyphen_values = true, help_heading = headings::SDXL, hide_short_help = true)]
    negative_2: Option<String>,
    /// What no negative prompt means [default: model]
    #[arg(long, value_enum, help_heading = headings::SDXL, hide_short_help = true)]
    empty_negative: Option<EmptyName>,
    /// Height and width that the UNet is told the picture had: 1024,1024 [default: the run's]
    #[arg(long, value_name = "H,W", value_parser = parse_pair, help_heading = headings::SDXL, hide_short_help = true)]
    original_size: Option<[i64; 2]>,
    /// Top and left of the crop that the UNet is told of [default: 0,0]
    #[arg(long, value_name = "TOP,LEFT", value_parser = parse_pair, help_heading = headings::SDXL, hide_short_help = true)]
    crop: Option<[i64; 2]>,
    /// Height and width that the UNet is told the picture is to have [default: the run's]
    #[arg(long, value_name = "H,W", value_parser = parse_pair, help_heading = headings::SDXL, hide_short_help = true)]
    target_size: Option<[i64; 2]>,
    /// --original-size for the negative prompt [default: that of the prompt]
    #[arg(long, value_name = "H,W", value_parser = parse_pair, help_heading = headings::SDXL, hide_short_help = true)]
    negative_original_size: Option<[i64; 2]>,
    /// --crop for the negative prompt [default: that of the prompt]
    #[arg(long, value_name = "TOP,LEFT", value_parser = parse_pair, help_heading = headings::SDXL, hide_short_help = true)]
    negative_crop: Option<[i64; 2]>,
    /// --target-size for the negative prompt [default: that of the prompt]
    #[arg(long, value_name = "H,W", value_parser = parse_pair, help_heading = headings::SDXL, hide_short_help = true)]
    negative_target_size: Option<[i64; 2]>,
    /// Aesthetic score that the refiner is told [default: 6]
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, help_heading = headings::SDXL)]
    #[arg(hide_short_help = true)]
    aesthetic_score: Option<f64>,
    /// --aesthetic-score for the negative prompt [default: 2.5]
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true, help_heading = headings::SDXL)]
    #[arg(hide_short_help = true)]
    negative_aesthetic_score: Option<f64>,
}

/// [`EmptyNegative`] by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum EmptyName {
    /// What the checkpoint says: zeros for SDXL, the empty text for others
    Model,
    /// Zeros in place of the features and of the pooled text
    Zeros,
    /// The empty text, encoded
    Text,
}

impl From<EmptyName> for EmptyNegative {
    fn from(name: EmptyName) -> EmptyNegative {
        match name {
            EmptyName::Model => EmptyNegative::Model,
            EmptyName::Zeros => EmptyNegative::Zeros,
            EmptyName::Text => EmptyNegative::Text,
        }
    }
}

/// Reads `1024,768`.
fn parse_pair(text: &str) -> Result<[i64; 2]> {
    let expected = || format!("expected two whole numbers such as 1024,768, found {text}");
    let (first, second) = text.split_once(',').with_context(expected)?;
    let number = |text: &str| text.trim().parse::<i64>().ok().with_context(expected);
    Ok([number(first)?, number(second)?])
}

impl ConditioningArguments {
    /// Another cell, but for what was given.
    pub fn over(&self, base: Cell) -> Cell {
        let given = self.clone();
        Cell {
            prompt_2: given.prompt_2.or(base.prompt_2),
            negative_2: given.negative_2.or(base.negative_2),
            empty_negative: given.empty_negative.map_or(base.empty_negative, EmptyName::into),
            original_size: given.original_size.or(base.original_size),
            crop: given.crop.or(base.crop),
            target_size: given.target_size.or(base.target_size),
            negative_original_size: given.negative_original_size.or(base.negative_original_size),
            negative_crop: given.negative_crop.or(base.negative_crop),
            negative_target_size: given.negative_target_size.or(base.negative_target_size),
            aesthetic_score: given.aesthetic_score.or(base.aesthetic_score),
            negative_aesthetic_score: given.negative_aesthetic_score.or(base.negative_aesthetic_score),
            ..base
        }
    }

    /// A note where a new prompt was given, and the second text encoder keeps one of its own.
    pub fn kept_prompt(&self, new: Option<&String>, cell: &Cell) -> Option<String> {
        let kept = cell.prompt_2.as_ref().filter(|_| new.is_some() && self.prompt_2.is_none())?;
        Some(format!("the second text encoder keeps its own prompt, “{kept}”\nhint: --prompt-2 gives it another"))
    }

    /// Whether it was given what no negative prompt means.
    pub fn says_empty_negative(&self) -> bool {
        self.empty_negative.is_some()
    }

    /// The options that were given, in words for the name of a folder: `prompt_2 a dog`.
    pub fn words(&self) -> Vec<String> {
        let pair = |pair: &Option<[i64; 2]>| pair.map(|[first, second]| format!("{first} {second}"));
        let score = |score: &Option<f64>| score.map(|score| score.to_string());
        let empty = self.empty_negative.map(|name| format!("{name:?}").to_lowercase());
        let given = [
            ("second", self.prompt_2.clone()),
            ("second not", self.negative_2.clone()),
            ("empty", empty),
            ("original", pair(&self.original_size)),
            ("crop", pair(&self.crop)),
            ("target", pair(&self.target_size)),
            ("negative original", pair(&self.negative_original_size)),
            ("negative crop", pair(&self.negative_crop)),
            ("negative target", pair(&self.negative_target_size)),
            ("score", score(&self.aesthetic_score)),
            ("negative score", score(&self.negative_aesthetic_score)),
        ];
        given.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_whole_numbers() {
        assert_eq!(parse_pair("1024,768").unwrap(), [1024, 768]);
        assert_eq!(parse_pair("0, -1").unwrap(), [0, -1]);
        for bad in ["", "1024", "1024x768", "1,2,3", "1.5,2"] {
            let error = parse_pair(bad).unwrap_err().to_string();
            assert_eq!(error, format!("expected two whole numbers such as 1024,768, found {bad}"));
        }
    }
}
