//! Examples of every command, for the end of its help and of its man page.

/// What an example does, and its command line.
type Example = (&'static str, &'static str);

/// The examples of a command, by the words that call it; the program itself has none.
pub fn examples(command: &str) -> Option<&'static [Example; 3]> {
    EXAMPLES.iter().find(|(name, _)| *name == command).map(|(_, examples)| examples)
}

/// The examples of all commands.
const EXAMPLES: &[(&str, [Example; 3])] = &[
    (
        "",
        [
            ("Make a picture", r#"latentrace generate "a large red circle on the left, white background""#),
            ("See what an experiment would take, and run nothing", "latentrace run sweep-guidance --dry-run"),
            ("List the samplers", "latentrace schedule --list"),
        ],
    ),
    (
        "generate",
        [
            ("Make nine pictures", r#"latentrace generate "a small blue square at the top" --images 9"#),
            (
                "Keep attention maps of every tenth step",
                r#"latentrace generate "a red circle" --capture "unet.**.attn2.probs @step[0:50:10] | head_mean""#,
            ),
            (
                "Make a picture again, with another guidance",
                "latentrace generate --like runs/generate/a-small-blue-square-at-the-top-193 --guidance 2",
            ),
        ],
    ),
    (
        "vary",
        [
            (
                "Make nine variations that keep more of the picture",
                r#"latentrace vary picture.png "a large red circle on the left" --strength 0.6"#,
            ),
            (
                "Make only the white part of a mask anew",
                r#"latentrace vary picture.png "a red circle" --mask mask.png --strength 1"#,
            ),
            (
                "Vary a photo with Stable Diffusion",
                r#"latentrace vary photo.jpg "a watercolour" --model stable-diffusion-v1-5/stable-diffusion-v1-5"#,
            ),
        ],
    ),
    (
        "show",
        [
            ("Print how a run's picture was made", "latentrace show runs/generate/a-small-blue-square-at-the-top-193"),
            ("The same of a picture that was moved", "latentrace show picture.png"),
            ("Print the settings for another program", "latentrace show picture.png --json"),
        ],
    ),
    (
        "experiments",
        [
            ("List the experiments", "latentrace experiments"),
            ("See what one of them would take, and run nothing", "latentrace run sweep-negative --dry-run"),
            ("Run it", "latentrace run sweep-negative"),
        ],
    ),
    (
        "experiments list",
        [
            ("List the experiments", "latentrace experiments list"),
            ("Run one of them", "latentrace run trajectory"),
            ("Run it with another prompt", r#"latentrace run trajectory --set prompt="a red circle""#),
        ],
    ),
    (
        "run",
        [
            ("See what an experiment would take, and run nothing", "latentrace run sweep-guidance --dry-run"),
            (
                "Run it with another prompt and three seeds",
                r#"latentrace run sweep-guidance --set prompt="a red circle" --set "seed=[1, 2, 3]""#,
            ),
            ("Run a spec in batches, which is faster", "latentrace run trajectory --batched --output runs/paths"),
        ],
    ),
    (
        "submit",
        [
            ("Run four processes on this machine", "latentrace submit sweep-guidance --workers 4"),
            (
                "Submit an array job to Slurm",
                "latentrace submit sweep-guidance --slurm --partition gpu --gres gpu:1 --time 02:00:00",
            ),
            ("See what HyperQueue would get, and submit nothing", "latentrace submit sweep-guidance --hq --dry-run"),
        ],
    ),
    (
        "status",
        [
            ("Say how far a sweep is", "latentrace status runs/sweep-guidance"),
            ("Print every cell that is running or has failed", "latentrace status runs/sweep-guidance --most 10000"),
            ("Print the status for another program", "latentrace status runs/sweep-guidance --json"),
        ],
    ),
    (
        "store",
        [
            ("Check all files of a sweep", "latentrace store verify runs/sweep-guidance"),
            ("Merge the folders of two machines", "latentrace store merge runs/one runs/two --into runs/both"),
            ("Remove the notes of cells that failed", "latentrace store prune runs/sweep-guidance"),
        ],
    ),
    (
        "store merge",
        [
            ("Merge the folders of two machines", "latentrace store merge runs/one runs/two --into runs/both"),
            ("Check the result", "latentrace store verify runs/both"),
            ("Draw figures and tables of the result", "latentrace run sweep-guidance --output runs/both --gather"),
        ],
    ),
    (
        "store verify",
        [
            ("Check all files of a sweep", "latentrace store verify runs/sweep-guidance"),
            ("Make damaged cells again", "latentrace run sweep-guidance --retry"),
            ("Say how far the sweep is", "latentrace status runs/sweep-guidance"),
        ],
    ),
    (
        "store prune",
        [
            ("Remove the notes of cells that failed", "latentrace store prune runs/sweep-guidance"),
            (
                "Say which cells are in none of two specs",
                "latentrace store prune runs/both --keep sweep-guidance sweep-negative --dry-run",
            ),
            ("Remove them", "latentrace store prune runs/both --keep sweep-guidance sweep-negative"),
        ],
    ),
    (
        "article",
        [
            ("See what the experiments would take, and run nothing", "latentrace article --dry-run"),
            ("Run two of the parts", "latentrace article --only guidance,negative --output runs/guidance"),
            (
                "Run all parts on one checkpoint",
                "latentrace article --model stable-diffusion-v1-5/stable-diffusion-v1-5",
            ),
        ],
    ),
    (
        "report",
        [
            ("Show an experiment", "latentrace report runs/sweep-guidance"),
            ("Show all pictures of two folders", "latentrace report runs/generate runs/vary --output runs/all.html"),
            ("Decode fewer pictures for the slider", "latentrace report runs/generate --frames 50"),
        ],
    ),
    (
        "model",
        [
            ("See what a model of the hub has", "latentrace model inspect CompVis/stable-diffusion-v1-4"),
            ("Turn a single file into a folder", "latentrace model convert dreamshaper.safetensors dreamshaper"),
            ("Make a tiny checkpoint to try things with", "latentrace model synth tiny models/tiny"),
        ],
    ),
    (
        "model list",
        [
            ("List the models in the cache", "latentrace model list"),
            ("See what one of them has", "latentrace model inspect CompVis/stable-diffusion-v1-4 --offline"),
            (
                "Use one of them without a connection",
                r#"latentrace generate "an astronaut" --model CompVis/stable-diffusion-v1-4 --offline"#,
            ),
        ],
    ),
    (
        "model inspect",
        [
            ("Inspect a folder", "latentrace model inspect models/dreamshaper"),
            ("Inspect a single file", "latentrace model inspect dreamshaper.safetensors"),
            (
                "Inspect the half-precision files of a model of the hub",
                "latentrace model inspect CompVis/stable-diffusion-v1-4 --variant fp16",
            ),
        ],
    ),
    (
        "model verify",
        [
            (
                "Compare with the checksums of published checkpoints",
                "latentrace model verify CompVis/stable-diffusion-v1-4",
            ),
            ("Keep the checksums", "latentrace model verify models/dreamshaper --write-lock dreamshaper.lock"),
            ("Compare with them later", "latentrace model verify models/dreamshaper --lock dreamshaper.lock"),
        ],
    ),
    (
        "model diff",
        [
            ("Compare a checkpoint with its origin", "latentrace model diff dreamshaper CompVis/stable-diffusion-v1-4"),
            ("Show all tensors", "latentrace model diff runs/train-shapes runs/mine --rows 0"),
            ("Compare two files", "latentrace model diff before.safetensors after.safetensors"),
        ],
    ),
    (
        "model convert",
        [
            ("Turn a single file into a folder", "latentrace model convert dreamshaper.safetensors dreamshaper"),
            ("Turn a folder into a single file", "latentrace model convert dreamshaper one.safetensors"),
            ("Halve the size", "latentrace model convert dreamshaper half.safetensors --to-dtype f16"),
        ],
    ),
    (
        "model synth",
        [
            ("Make a tiny checkpoint", "latentrace model synth tiny models/tiny"),
            ("Make one of the size of Stable Diffusion 1.5", "latentrace model synth sd15 models/random --dtype f16"),
            ("Make a narrow Stable Diffusion 2.1", "latentrace model synth sd21 models/narrow --width 0.25 --seed 7"),
        ],
    ),
    (
        "taps",
        [
            ("List every tensor of the bundled model", "latentrace taps"),
            ("List those of cross-attention", r#"latentrace taps --select "unet.**.attn2.*""#),
            ("List those of another model and size", "latentrace taps --model dreamshaper --height 768 --json"),
        ],
    ),
    (
        "tokens",
        [
            ("Show the tokens of a prompt", r#"latentrace tokens "a small blue square on the left""#),
            ("Read weights of words", r#"latentrace tokens "a (red:1.3) circle" --weights"#),
            (
                "Show the tokens of another model's text encoder",
                r#"latentrace tokens "an astronaut" --model CompVis/stable-diffusion-v1-4"#,
            ),
        ],
    ),
    (
        "schedule",
        [
            ("List the samplers", "latentrace schedule --list"),
            ("Set three samplers side by side", "latentrace schedule euler --steps 10 --compare heun dpm++2m"),
            (
                "Draw a sampler with Karras sigmas",
                "latentrace schedule dpm++2m --set use_karras_sigmas=true --plot runs/schedule",
            ),
        ],
    ),
    (
        "scheduler-atlas",
        [
            ("Measure, and write the page again", "latentrace scheduler-atlas"),
            (
                "Write the page elsewhere",
                "latentrace scheduler-atlas --output runs/atlas --readings runs/atlas/readings.md",
            ),
            ("See what one of the samplers does", "latentrace schedule unipc --explain"),
        ],
    ),
    (
        "stability",
        [
            ("Measure, and write the page again", "latentrace stability"),
            (
                "Measure two samplers, and write elsewhere",
                "latentrace stability --samplers euler,heun --output runs/limits --table runs/limits/limits.csv",
            ),
            ("Write the page again, from its tables", "latentrace stability --page"),
        ],
    ),
    (
        "trace",
        [
            ("Summarize and draw a run", "latentrace trace runs/generate/a-small-blue-square-at-the-top-193"),
            ("Only summarize it", "latentrace trace runs/generate/a-small-blue-square-at-the-top-193 --no-figures"),
            ("Draw the paths of two runs", "latentrace trace runs/red runs/blue --output runs/paths"),
        ],
    ),
    (
        "verify",
        [
            ("Verify a run", "latentrace verify runs/generate/a-small-blue-square-at-the-top-193"),
            ("Allow a larger difference", "latentrace verify runs/red --tolerance 1e-3"),
            ("Print the result for another program", "latentrace verify runs/red --json"),
        ],
    ),
    (
        "resume",
        [
            ("Go on with a run", "latentrace resume runs/generate/a-small-blue-square-at-the-top-193"),
            ("Its checkpoint was moved", "latentrace resume runs/red --model models/dreamshaper"),
            ("Verify the run afterwards", "latentrace verify runs/red"),
        ],
    ),
    (
        "fork",
        [
            (
                "Change the prompt at step 25",
                r#"latentrace fork runs/red --at 25 --prompt "a large green triangle, white background""#,
            ),
            ("Lower the guidance", "latentrace fork runs/red --at 10 --guidance 2 --output runs/lower"),
            (
                "Weaken the middle of the UNet",
                r#"latentrace fork runs/red --at 25 --edit "unet.mid_block.out => scale(0.5)""#,
            ),
        ],
    ),
    (
        "compare",
        [
            ("Find the first tensor that differs", "latentrace compare runs/red runs/blue"),
            ("Fail if anything differs", "latentrace compare runs/red runs/again --check --tolerance 0"),
            ("Draw the differences", "latentrace compare runs/red runs/blue --output runs/differences"),
        ],
    ),
    (
        "causal",
        [
            ("Put tensors of a blue run into a red one", "latentrace causal runs/red --from runs/blue"),
            ("Only the middle of the UNet", "latentrace causal runs/red --from runs/blue --sites unet.mid_block.out"),
            ("Smaller blocks of steps", "latentrace causal runs/red --from runs/blue --blocks 10 --output runs/causal"),
        ],
    ),
    (
        "adherence",
        [
            ("Measure the bundled model", "latentrace adherence --csv runs/adherence.csv"),
            ("Measure few captions", "latentrace adherence --captions 50 --unseen 0 --open 0"),
            (
                "Measure a checkpoint of a training",
                "latentrace adherence --model runs/train-shapes --guidance 3,5 --steps 20",
            ),
        ],
    ),
    (
        "latent-vs-pixel",
        [
            ("Train each for half an hour, and compare", "latentrace latent-vs-pixel"),
            ("Train each for a minute", "latentrace latent-vs-pixel --seconds-of-training 60 --captions 20"),
            ("Use larger steps", "latentrace latent-vs-pixel --batch 32 --output runs/large-steps"),
        ],
    ),
    (
        "train",
        [
            ("Train the bundled model again", "latentrace train shapes"),
            ("Train by a recipe of your own", "latentrace train shapes --recipe mine.toml --output runs/mine"),
            ("Save the state every five minutes", "latentrace train shapes --save-every 300"),
        ],
    ),
    (
        "doctor",
        [
            ("Say what was found", "latentrace doctor"),
            ("Open another model", "latentrace doctor --model CompVis/stable-diffusion-v1-4"),
            ("Open it as on a GPU", "latentrace doctor --device cuda --dtype f16"),
        ],
    ),
    (
        "completions",
        [
            ("bash", "latentrace completions bash > ~/.local/share/bash-completion/completions/latentrace"),
            ("zsh, in a folder of fpath", "latentrace completions zsh > ~/.zfunc/_latentrace"),
            ("fish", "latentrace completions fish > ~/.config/fish/completions/latentrace.fish"),
        ],
    ),
    (
        "man",
        [
            ("Read the page of the program", "latentrace man | man -l -"),
            ("Write all pages", "latentrace man --output man"),
            ("Write them where man finds them", "latentrace man --output ~/.local/share/man/man1"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::{command, parse, paths};
    use std::collections::BTreeSet;

    /// The words that the program gets of a line; what comes after `>` or `|` is for the shell.
    fn words(line: &str) -> Vec<String> {
        let words = shlex::split(line).unwrap_or_else(|| panic!("{line}: an open quote"));
        words.into_iter().take_while(|word| word != ">" && word != "|").collect()
    }

    #[test]
    fn every_command_has_three_examples_and_no_other_has_any() {
        let named: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).collect();
        let commands: Vec<String> = paths(&command());
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "a command is there twice");
        for command in &commands {
            let examples = examples(command).unwrap_or_else(|| panic!("{command}: no examples"));
            assert_eq!(examples.iter().collect::<BTreeSet<_>>().len(), 3, "{command}: an example is there twice");
        }
        assert_eq!(named.len(), commands.len(), "examples of a command that is not there");
    }

    #[test]
    fn every_example_can_be_parsed() {
        for (name, examples) in EXAMPLES {
            for (what, line) in examples {
                let words = words(line);
                assert_eq!(words[0], "latentrace", "{name}: {line}");
                assert!(!what.ends_with('.'), "{name}: {what}");
                if let Err(error) = parse(&words) {
                    panic!("{name}: {line}: {error}");
                }
            }
        }
    }

    #[test]
    fn no_example_names_a_file_of_the_repository() {
        for (name, examples) in EXAMPLES {
            for (_, line) in examples {
                let is_of_it = |word: &String| ["data/", "docs/", "experiments/"].iter().any(|at| word.starts_with(at));
                assert!(!words(line).iter().any(is_of_it), "{name}: {line}: an installed program has no such file");
            }
        }
    }

    #[test]
    fn the_first_example_is_of_the_command_itself() {
        for (name, [(_, line), ..]) in EXAMPLES {
            let begin = format!("latentrace {name}");
            assert!(words(line).join(" ").starts_with(begin.trim_end()), "{name}: {line}");
        }
    }

    #[test]
    fn an_example_with_an_option_that_is_not_there_is_not_parsed() {
        assert!(parse(words("latentrace generate 'a circle' --imges 9")).is_err());
        assert_eq!(words("latentrace man | man -l -"), ["latentrace", "man"]);
    }
}
