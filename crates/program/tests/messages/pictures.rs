//! The commands that make pictures and read them: generate, vary and show.

use crate::session::Session;
use latentrace::plot::{RgbImage, save_png};

const GENERATE: &str = "generate 'a cat' --model tiny --output out";

#[test]
fn generate() {
    let mut session = Session::new();
    session.section("help and output");
    session.help("generate");
    session.run("generate 'a cat' --model tiny --steps 3 --images 2 --seed 7 --guidance 3 --output runs");
    session.run_each(
        GENERATE,
        &[
            "--steps 3 --capture 'unet.**.attn2.probs @step[1:] | tokens(cat)' --edit 'unet.mid_block.out => scale(0.5)'",
            "--steps 3 --capture 'unet.**.out' --budget 20kB",
            "--steps 3 --capture 'unet.**.attn2.probs | head_mean' --edit 'unet.mid_block.out @step[1] => zero' --dry-run",
        ],
    );
    session.run(&format!("generate '{}dog' --model tiny --steps 1 --output out", "a ".repeat(75)));
    like(&mut session);
    arguments(&mut session);
    rules(&mut session);
    checkpoints(&mut session);
    session.compare("generate");
}

fn like(session: &mut Session) {
    session.section("--like");
    session.photo("photo.png");
    session.run_each("generate --like runs/a-cat-7/image.png --output out", &["", "--seed 9", "--strength 0.5"]);
    session.run_all(&[
        "generate --output out",
        "generate 'a cat' --image photo.png",
        "generate --like nothing.png",
        "generate --like photo.png",
        "generate --like runs/a-cat-7/previews.png",
        "generate --like runs/a-cat-7-to-8.png",
    ]);
    session.prepare("fork runs/a-cat-7 --at 1 --guidance 2 --output runs/fork");
    session.run("generate --like runs/fork/image.png");
    session.section("--like, where the checkpoint is another one");
    session.copy("tiny", "kept");
    session.remove("tiny");
    session.other_model("tiny");
    session.run("generate --like runs/a-cat-7/image.png --output out");
    session.remove("tiny");
    session.run("generate --like runs/a-cat-7/image.png --output out");
    session.copy("kept", "tiny");
}

fn arguments(session: &mut Session) {
    session.section("options that cannot be read or fulfilled");
    session.write("file", "x");
    session.write("unipc.json", r#"{"_class_name": "UniPCMultistepSchedule"}"#);
    session.run("generate 'a cat' --model tiny --output file/out");
    session.run_each(
        GENERATE,
        &[
            "--stpes 3",
            "--steps 0",
            "--steps 1001",
            "--steps many",
            "--height 70",
            "--guidance nan",
            "--guidance high",
            "--guidance '{ weight = 8, sigma = [20, 30] }'",
            "--seed 18446744073709551616",
            "--seed 18446744073709551615 --images 2",
            "--images 0",
            "--sampler plsm",
            "--sampler nowhere.json",
            "--sampler unipc.json",
            "--set steps=3",
            "--set scheduler.use_karas_sigmas=true",
            "--set scheduler.use_karras_sigmas=7",
            "--sampler edm_sde",
            "--dtype f64",
            "--budget '3 apples'",
        ],
    );
}

fn rules(session: &mut Session) {
    session.section("rules that fit nothing, cannot be read or cannot fire");
    let edits = |rules: &[&str]| rules.iter().map(|rule| format!("{GENERATE} --edit '{rule}'")).collect::<Vec<_>>();
    let captures =
        |rules: &[&str]| rules.iter().map(|rule| format!("{GENERATE} --capture '{rule}'")).collect::<Vec<_>>();
    let captures = captures(&[
        "unet.mid_blok.out",
        "unet.mid_block.out | head_mean",
        "unet.mid_block.out | half",
        "unet.**.attn2.probs | tokens(dog)",
        "unet.**.attn2.probs | topk(4) | down(2)",
        "unet.mid_block.out @step[60:70]",
        "unet.mid_block.out @sigma[20:30]",
        "vae.encoder.**",
        "",
    ]);
    let edits = edits(&[
        "unet.mid_block.out",
        "unet.mid_block.out => halve",
        "unet.conv_in => skip",
        "unet.mid_block.out => replace(nowhere)",
        "unet.mid_block.out => replace(runs/a-cat-7)",
        "text_encoder.** @step[2:3] => zero",
        "unet.**.attn2.scores => mask(dog)",
        "unet.**.attn2.scores => mask(#77)",
        "unet.**.attn2.scores @branch{uncond} => mask(cat)",
        "unet.mid_block.out => mask(cat)",
    ]);
    captures.iter().chain(&edits).for_each(|line| session.run(line));
    session.section("numbers that are not finite");
    session.run(&format!("{GENERATE} --steps 3 --edit 'unet.mid_block.out @step[1] => scale(1e39)'"));
}

/// Every error of a checkpoint is the same for all commands that open one.
fn checkpoints(session: &mut Session) {
    session.section("checkpoints that are missing or damaged");
    std::fs::create_dir(session.at("empty")).unwrap();
    let on_model = |model: &str| format!("generate 'a cat' --steps 1 --output out --model {model}");
    ["nowhere", "empty", "file"].iter().for_each(|model| session.run(&on_model(model)));
    let damaged = |session: &mut Session, what: &str, damage: &dyn Fn(&Session)| {
        session.section(what);
        session.copy("tiny", "damaged");
        damage(session);
        session.run(&on_model("damaged"));
        session.remove("damaged");
    };
    const WEIGHTS: &str = "damaged/unet/diffusion_pytorch_model.safetensors";
    damaged(session, "weights are cut off", &|session| session.truncate(WEIGHTS, |bytes| bytes - 1));
    damaged(session, "weights are missing", &|session| session.remove(WEIGHTS));
    let edits = [
        ("unet/config.json", "\"in_channels\": 4", "\"in_channels\": 8"),
        ("unet/config.json", "\"act_fn\": \"silu\"", "\"act_fn\": \"mish\""),
        ("unet/config.json", "{", ""),
        ("vae/config.json", "\"layers_per_block\": 1", "\"layers_per_block\": 2"),
        ("text_encoder/config.json", "\"intermediate_size\": 48", "\"intermediate_size\": 64"),
        ("model_index.json", "PNDMScheduler", "PNDNScheduler"),
        ("scheduler/scheduler_config.json", "{", ""),
        ("scheduler/scheduler_config.json", "\"scaled_linear\"", "\"scaled_liner\""),
        ("tokenizer/vocab.json", "{", ""),
    ];
    for (file, from, to) in edits {
        let what = format!("{file}: {from} is now {}", if to.is_empty() { "missing" } else { to });
        damaged(session, &what, &|session| session.edit(&format!("damaged/{file}"), from, to));
    }
    for file in ["unet/config.json", "tokenizer/merges.txt"] {
        damaged(session, &format!("{file} is missing"), &|session| session.remove(&format!("damaged/{file}")));
    }
}

#[test]
fn vary() {
    let mut session = Session::new();
    session.photo("My photo.png");
    session.photo("photo.png");
    session.photo("cut.png");
    session.truncate("cut.png", |bytes| bytes / 2);
    session.write("words.png", "no picture");
    let vary = "vary photo.png 'a cat' --model tiny --output out";
    session.section("help and output");
    session.help("vary");
    session.run("vary 'My photo.png' 'a cat' --model tiny --steps 4 --images 2 --strength 0.5 --output runs");
    session.run_each(vary, &["--steps 4 --images 1 --fit stretch --capture unet.mid_block.out --dry-run"]);
    session.section("--like of a variation");
    session.run("generate --like runs/my-photo-a-cat-193/image.png --strength 1 --output out");
    session.section("errors");
    session.run_each(vary, &["--strength 0", "--strength 0.001", "--fit zoom"]);
    session.run_all(&[
        "vary photo.png",
        "vary nothing.png 'a cat' --model tiny",
        "vary tiny 'a cat' --model tiny",
        "vary words.png 'a cat' --model tiny",
        "vary cut.png 'a cat' --model tiny",
    ]);
    masks(&mut session, vary);
    session.compare("vary");
}

fn masks(session: &mut Session, vary: &str) {
    session.section("--mask");
    session.mask("mask.png", |x, _| x < 40);
    session.mask("white.png", |_, _| true);
    session.mask("black.png", |_, _| false);
    session.mask("dot.png", |x, y| (48..50).contains(&x) && (39..41).contains(&y));
    let square = RgbImage::from_fn(64, 64, |x, _| [if x < 30 { 255 } else { 0 }; 3].into());
    save_png(&session.at("square.png"), &square, &[]).unwrap();
    session.transparent("clear.png");
    session.prepare("model synth tiny-inpaint narrow");
    session.run(&format!("{vary} --steps 4 --images 1 --mask mask.png --strength 1 --seed 7"));
    session.run("generate --like out/photo-a-cat-7/image.png --mask white.png --output again");
    session.run("show out/photo-a-cat-7/image.png");
    session.run_each(
        &format!("{vary} --images 1 --steps 4 --dry-run"),
        &["--mask mask.png", "--mask white.png", "--mask clear.png", "--mask square.png"],
    );
    session.section("masks that cannot be used, and an inpainting model without one");
    session.run_each(
        vary,
        &[
            "--mask black.png",
            "--mask dot.png",
            "--mask nothing.png",
            "--mask tiny",
            "--mask words.png",
            "--mask cut.png",
        ],
    );
    session.run_all(&[
        "generate 'a cat' --model tiny --mask mask.png",
        "generate 'a cat' --model narrow --output out",
        "vary photo.png 'a cat' --model narrow --output out",
        "vary photo.png 'a cat' --model tiny --mask mask.png --strength 1 --sampler ipndm --output out",
        "model inspect narrow",
    ]);
}

#[test]
fn show() {
    let mut session = Session::new();
    session.record("cat", &[], &["unet.mid_block.out @step[1] => scale(0.5)"]);
    session.prepare("fork runs/cat --at 1 --guidance 2 --output runs/fork");
    session.photo("photo.png");
    session.section("help and output");
    session.help("show");
    session.run_all(&[
        "show runs/cat/image.png",
        "show runs/cat/image.png --json",
        "show runs/cat/previews.png",
        "show runs/fork/image.png",
    ]);
    session.section("errors");
    session.copy("runs/cat", "cut");
    session.truncate("cut/image.png", |bytes| bytes / 2);
    session.truncate("cut/previews.png", |_| 20);
    session.run_all(&[
        "show",
        "show nothing.png",
        "show runs/cat",
        "show photo.png",
        "show cut/image.png",
        "show cut/previews.png",
    ]);
    session.compare("show");
}
