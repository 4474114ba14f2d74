//! How many transformer blocks each layer has: `transformer_layers_per_block`.

use latentrace_nn::{Config, Result};
use serde_json::Value;

/// The number of transformer blocks of every layer that attends to the text. Blocks of the network that do not attend have numbers
/// too, without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depths {
    /// Of each layer of each down block, finest first.
    pub down: Vec<Vec<i64>>,
    /// Of the middle block.
    pub middle: i64,
    /// Of each layer of each up block, coarsest first.
    pub up: Vec<Vec<i64>>,
}

const KEY: &str = "transformer_layers_per_block";
const UP_KEY: &str = "reverse_transformer_layers_per_block";

impl Depths {
    /// The same depth everywhere, as Stable Diffusion 1.x and 2.x have it; `layers` has the resnets of each down block, and an up
    /// block has one more.
    pub fn all(depth: i64, layers: &[i64]) -> Depths {
        let of = |layers: i64| vec![depth; layers as usize];
        Depths {
            down: layers.iter().copied().map(of).collect(),
            middle: depth,
            up: layers.iter().rev().map(|layers| of(layers + 1)).collect(),
        }
    }

    /// Reads a number for all blocks, a number for each, or for each a list with a number for each layer. The middle has the last of
    /// the down blocks; the up blocks have those of the down blocks, or the list of their own, coarsest first.
    ///
    /// # Errors
    /// A list has another length than there are blocks or layers, or there are no numbers for the layers of up blocks.
    pub(crate) fn read(config: &Config, layers: &[i64]) -> Result<Depths> {
        let blocks = layers.len();
        let given = match config.value(KEY) {
            Some(Value::Array(list)) if list.len() == blocks => list.clone(),
            Some(Value::Array(_)) => return Err(wrong(config, KEY, blocks)),
            _ => vec![Value::from(config.size(KEY, Some(1))?); blocks],
        };
        let down =
            given.iter().zip(layers).map(|(value, layers)| of_layers(value, *layers)).collect::<Option<Vec<_>>>();
        let down = down.ok_or_else(|| wrong(config, KEY, blocks))?;
        let middle = down.last().and_then(|last| last.first()).copied();
        let middle = middle.ok_or_else(|| wrong(config, KEY, blocks))?;
        let of_up = match config.value(UP_KEY) {
            Some(Value::Array(list)) if list.len() == blocks => list.clone(),
            Some(_) => return Err(wrong(config, UP_KEY, blocks)),
            None if given.iter().any(Value::is_array) => {
                let needed = format!("a list for up blocks too, because {KEY} has numbers for each layer");
                return Err(config.unsupported(UP_KEY, &needed));
            }
            None => given.into_iter().rev().collect(),
        };
        let up = of_up.iter().zip(layers.iter().rev()).map(|(value, layers)| of_layers(value, layers + 1));
        let up = up.collect::<Option<_>>().ok_or_else(|| wrong(config, UP_KEY, blocks))?;
        Ok(Depths { down, middle, up })
    }
}

/// The depth of each layer of a block: one number for all, or a list.
fn of_layers(value: &Value, layers: i64) -> Option<Vec<i64>> {
    let depth = |value: &Value| value.as_i64().filter(|depth| *depth > 0);
    match value {
        Value::Array(list) if list.len() as i64 == layers => list.iter().map(depth).collect(),
        Value::Array(_) => None,
        other => Some(vec![depth(other)?; layers as usize]),
    }
}

fn wrong(config: &Config, key: &str, blocks: usize) -> latentrace_nn::Error {
    config.unsupported(
        key,
        &format!("a number above 0, or a list of {blocks}, one a block: a number, or one for each layer"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, layers: &[i64]) -> Result<Depths> {
        Depths::read(&Config::parse("unet/config.json", json).unwrap(), layers)
    }

    #[test]
    fn one_number_is_that_of_every_layer() {
        let layers = [2, 2, 1];
        assert_eq!(read("{}", &layers).unwrap(), Depths::all(1, &layers));
        assert_eq!(read(r#"{"transformer_layers_per_block": 4}"#, &layers).unwrap(), Depths::all(4, &layers));
        let all = Depths::all(4, &layers);
        assert_eq!(
            (all.down, all.middle, all.up),
            (vec![vec![4; 2], vec![4; 2], vec![4]], 4, vec![vec![4; 2], vec![4; 3], vec![4; 3]])
        );
    }

    #[test]
    fn the_middle_has_the_last_and_up_blocks_have_the_reverse() {
        let found = read(r#"{"transformer_layers_per_block": [1, 2, 10]}"#, &[2, 2, 2]).unwrap(); // SDXL
        assert_eq!(found.down, [[1, 1], [2, 2], [10, 10]]);
        assert_eq!((found.middle, found.up), (10, vec![vec![10; 3], vec![2; 3], vec![1; 3]]));
    }

    #[test]
    fn layers_may_have_depths_of_their_own() {
        let nested = r#"{"transformer_layers_per_block": [[1, 2], [3, 4]],
                         "reverse_transformer_layers_per_block": [[5, 6, 7], 8]}"#;
        let found = read(nested, &[2, 2]).unwrap();
        assert_eq!((found.down, found.middle), (vec![vec![1, 2], vec![3, 4]], 3));
        assert_eq!(found.up, [[5, 6, 7], [8, 8, 8]]);
    }

    #[test]
    fn what_fits_no_block_names_the_key() {
        for (json, says) in [
            (r#"{"transformer_layers_per_block": [1, 2]}"#, "transformer_layers_per_block"),
            (r#"{"transformer_layers_per_block": [1, 2, 0]}"#, "transformer_layers_per_block"),
            (r#"{"transformer_layers_per_block": [1, 2, [1]]}"#, "transformer_layers_per_block"),
            (r#"{"transformer_layers_per_block": [1, 2, [1, 1]]}"#, "reverse_transformer_layers_per_block"),
            (r#"{"reverse_transformer_layers_per_block": [1, 2]}"#, "reverse_transformer_layers_per_block"),
            (r#"{"reverse_transformer_layers_per_block": 2}"#, "reverse_transformer_layers_per_block"),
        ] {
            let error = read(json, &[2, 2, 2]).unwrap_err().to_string();
            assert!(error.contains(&format!("{says}:")) || error.contains(&format!("{says} ")), "{json}: {error}");
        }
    }
}
