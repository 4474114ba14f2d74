//! Draws a sample of everything into a folder: `cargo run -p latentrace-plot --example gallery -- FOLDER`.

use std::error::Error;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use latentrace_plot::{
    Chart, ChartAxis, Colours, Grid, HeatMap, Panels, Series, Tile, ValueScale, colourise, overlay, save_png, strip,
    write,
};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: gallery FOLDER")?;
    charts(&folder)?;
    heat_maps(&folder)?;
    overlays(&folder)?;
    scripts(&folder)?;
    grids(&folder)
}

fn charts(folder: &Path) -> Result<(), Box<dyn Error>> {
    write(folder, "noise-levels", &noise_levels())?;
    write(folder, "guidance", &guidance())?;
    write(folder, "loss", &loss())?;
    write(folder, "many", &many())?;
    write(folder, "paths", &paths())?;
    write(folder, "empty", &Chart { title: "Nothing was recorded".into(), ..loss_frame() })?;
    let narrow = Chart { notes: vec![], ..guidance() };
    let charts =
        vec![narrow.clone(), Chart { title: "Same, log".into(), y: ChartAxis::log("rms"), ..narrow.clone() }, narrow];
    write(
        folder,
        "panels-shared",
        &Panels { title: "Three readings of one sweep".into(), charts, columns: 2, ..Panels::default() },
    )?;
    let charts = vec![noise_levels(), loss(), tiny_values()];
    write(
        folder,
        "panels",
        &Panels { title: "Different charts side by side".into(), charts, columns: 3, ..Panels::default() },
    )?;
    Ok(())
}

fn noise_levels() -> Chart {
    let karras = |rho: f64| {
        let (high, low) = (14.6f64.powf(1.0 / rho), 0.03f64.powf(1.0 / rho));
        let level = move |i: u32| (high + f64::from(i) / 29.0 * (low - high)).powf(rho);
        (0..30).map(|i| (f64::from(i), level(i))).chain([(30.0, 0.0)]).collect::<Vec<_>>()
    };
    Chart {
        title: "Noise levels of four schedules, 30 steps".into(),
        x: ChartAxis::linear("step"),
        y: ChartAxis::log("σ"),
        series: vec![
            Series::new("Karras, ρ = 7", karras(7.0)),
            Series::new("Karras, ρ = 3", karras(3.0)),
            Series::new("linear in σ", karras(1.0)),
            Series::new("diffusers' reading <b>&", karras(5.0)).dashed(),
        ],
        notes: vec!["The last level of each schedule is zero, which a log axis cannot show".into()],
        ..Chart::default()
    }
}

fn guidance() -> Chart {
    let weights = [-1.0f64, 0.0, 0.25, 1.0, 3.0, 7.5, 15.0];
    let line = |slope: f64| weights.iter().map(|w| (*w, 0.4 + slope * w.abs().sqrt())).collect::<Vec<_>>();
    Chart {
        title: "How far guidance moves the image".into(),
        x: ChartAxis::linear("guidance w"),
        y: ChartAxis::linear("rms distance from w = 1"),
        series: vec![
            Series::new("pndm", line(0.11)),
            Series::new("ddim", line(0.13)),
            Series::new("euler", line(0.05)).dashed(),
        ],
        notes: vec!["nine seeds a point; the negative prompt is empty".into(), "model: shapes".into()],
        ..Chart::default()
    }
}

fn loss_frame() -> Chart {
    Chart { x: ChartAxis::linear("training step"), y: ChartAxis::log("loss"), ..Chart::default() }
}

fn loss() -> Chart {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / f64::from(1u32 << 31)
    };
    let mut curve = |floor: f64| {
        let loss = |i: u32, noise: f64| (floor + 1.0 / (1.0 + f64::from(i) / 300.0)) * (0.7 + 0.6 * noise);
        (0..20_000)
            .map(|i| (f64::from(i), if (9000..9900).contains(&i) { f64::NAN } else { loss(i, random()) }))
            .collect()
    };
    let series = vec![Series::new("train", curve(0.02)), Series::new("held out", curve(0.05))];
    Chart { title: "Loss, every step".into(), series, ..loss_frame() }
}

fn many() -> Chart {
    let curve = |i: u32| {
        (0..200).map(|x| (f64::from(x), (f64::from(x) / 20.0 + f64::from(i) / 4.0).sin() + f64::from(i))).collect()
    };
    Chart {
        title: "Thirty curves, each with a name of its own".into(),
        x: ChartAxis::linear("t").reversed(),
        y: ChartAxis::linear("value"),
        series: (0..30).map(|i| Series::new(format!("down_blocks.{i}.attentions.0"), curve(i))).collect(),
        ..Chart::default()
    }
}

fn tiny_values() -> Chart {
    let points = (1..6).map(|i| (10f64.powi(-2 * i), 3e-6 * f64::from(i))).collect();
    Chart {
        title: "Small numbers".into(),
        x: ChartAxis::log("tolerance"),
        y: ChartAxis::linear("error"),
        series: vec![Series::new("error", points)],
        ..Chart::default()
    }
}

fn paths() -> Chart {
    let path = |turn: f64, steps: u32| -> Vec<(f64, f64)> {
        let at =
            |t: f64| (40.0 * (1.0 - t) + 12.0 * t * (turn * t).cos(), 9.0 * (1.0 - t) + 25.0 * t * (turn * t).sin());
        (0..=steps).map(|step| at(f64::from(step) / f64::from(steps))).collect()
    };
    Chart {
        title: "Four runs from one noise, in the plane of their first two components".into(),
        x: ChartAxis::linear("first component"),
        y: ChartAxis::linear("second component"),
        series: vec![
            Series::new("a red circle", path(1.0, 20)).marked(),
            Series::new("a blue circle", path(2.5, 20)).marked(),
            Series::new("a blue square", path(4.0, 50)).marked(),
            Series::new("the same, w = 1", path(-1.5, 8)).marked().dashed(),
        ],
        equal: true,
        ..Chart::default()
    }
}

fn heat_maps(folder: &Path) -> Result<(), Box<dyn Error>> {
    write(folder, "heat-layers", &layers(16))?;
    write(folder, "heat-many-layers", &layers(200))?;
    write(folder, "heat-words", &words())?;
    write(folder, "heat-signed", &signed())?;
    write(folder, "heat-small", &HeatMap { low: Some(-1.0), high: Some(1.0), notes: vec![], ..signed() })?;
    write(folder, "heat-empty", &HeatMap { title: "Nothing was recorded".into(), ..HeatMap::default() })?;
    save_png(&folder.join("heat-narrow.png"), &layers(30).png(470, 330), &[])?;
    save_png(&folder.join("heat-least.png"), &layers(30).png(240, 180), &[])?;
    save_png(&folder.join("heat-signed-narrow.png"), &signed().png(320, 260), &[])?;
    Ok(())
}

fn layers(count: u32) -> HeatMap {
    let name = |i: u32| {
        let (block, attention) = (i / 4 % 4, i / 2 % 2);
        format!("down_blocks.{block}.attentions.{attention}.transformer_blocks.{}.attn{}.out", i / 16, 1 + i % 2)
    };
    let value = |row: u32, step: u32| match (row, step) {
        (3, 10..15) => f64::NAN,
        (5, 20) => f64::INFINITY,
        (7, 0..3) => 0.0,
        _ => 10f64.powf(-3.0 + 2.5 * f64::from(row) / f64::from(count) - (f64::from(step) / 9.0 - 3.0).powi(2) / 8.0),
    };
    HeatMap {
        title: "How far two prompts drive each layer apart".into(),
        rows: (0..count).map(name).collect(),
        columns: (0..50).map(|step| step.to_string()).collect(),
        values: (0..count).map(|row| (0..50).map(|step| value(row, step)).collect()).collect(),
        x_label: "step".into(),
        value_label: "relative rms difference".into(),
        scale: ValueScale::Log,
        notes: vec!["\"a red circle\" and \"a blue circle\", seed 193, 50 steps of pndm".into()],
        ..HeatMap::default()
    }
}

fn words() -> HeatMap {
    let words =
        ["<|startoftext|>", "an", "oil", "painting", "of", "a", "lighthouse", "in", "a", "storm", "<|endoftext|>"];
    let value = |row: u32, column: u32| f64::from((row * 7 + column * 5) % 11) / 11.0;
    HeatMap {
        title: "Attention per word and head".into(),
        rows: (0..8).map(|head| head.to_string()).collect(),
        columns: words.map(String::from).to_vec(),
        values: (0..8).map(|row| (0..11).map(|column| value(row, column)).collect()).collect(),
        x_label: "token".into(),
        y_label: "head".into(),
        value_label: "mean probability".into(),
        low: Some(0.0),
        ..HeatMap::default()
    }
}

fn signed() -> HeatMap {
    let value = |row: u32, column: u32| match (row, column) {
        (2, 3) => f64::NEG_INFINITY,
        (4, 1) => f64::INFINITY,
        (1, 6) => f64::NAN,
        _ => (f64::from(row) - 2.5) * (f64::from(column) - 3.0) / 3.0,
    };
    HeatMap {
        title: "Change of the score against w = 7.5".into(),
        rows: ["ddpm", "ddim", "euler", "heun", "pndm", "unipc"].map(String::from).to_vec(),
        columns: [1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0].map(|w| format!("w = {w}")).to_vec(),
        values: (0..6).map(|row| (0..7).map(|column| value(row, column)).collect()).collect(),
        y_label: "scheduler".into(),
        value_label: "Δ CLIP score in points, mean over nine seeds".into(),
        colours: Colours::Diverging,
        notes: vec!["blue: worse, red: better".into()],
        ..HeatMap::default()
    }
}

fn overlays(folder: &Path) -> Result<(), Box<dyn Error>> {
    let bump = |cx: f64, cy: f64| -> Vec<Vec<f64>> {
        let at = |x: i32, y: i32| (-((f64::from(x) - cx).powi(2) + (f64::from(y) - cy).powi(2)) / 12.0).exp();
        (0..16).map(|y| (0..16).map(|x| at(x, y)).collect()).collect()
    };
    let (map, image) = (bump(6.0, 8.0), picture(256, 3));
    let mut gaps = map.clone();
    gaps[4][3..9].fill(f64::NAN);
    let signed: Vec<Vec<f64>> = map.iter().map(|row| row.iter().map(|value| value - 0.3).collect()).collect();
    let over = |strength| overlay(&image, &map, (0.0, 1.0), Colours::Sequential, strength);
    let cells = vec![
        Tile::new(image.clone(), "the picture"),
        Tile::new(over(0.3), "circle, 0.3"),
        Tile::new(over(0.7), "circle, 0.7").with_scale((0.0, 1.0), Colours::Sequential),
        Tile::new(over(1.0), "circle, 1"),
        Tile::new(overlay(&image, &signed, (-0.7, 0.7), Colours::Diverging, 0.7), "signed, 0.7")
            .with_scale((-0.7, 0.7), Colours::Diverging),
        Tile::new(overlay(&image, &gaps, (0.0, 1.0), Colours::Sequential, 0.7), "with a gap"),
        Tile::new(colourise(&map, (256, 256), (0.0, 1.0), Colours::Sequential), "the map alone"),
        Tile::new(colourise(&gaps, (256, 256), (0.0, 1.0), Colours::Sequential), "the map with a gap"),
    ];
    let grid = Grid { title: Some("where a word looks".into()), columns: 4, cells, scale: 1, ..Grid::default() };
    save_png(&folder.join("overlay.png"), &grid.render(), &[])?;
    Ok(())
}

/// Letters that the bundled font lacks: drawn with the fonts of this machine, or spelt.
fn scripts(folder: &Path) -> Result<(), Box<dyn Error>> {
    let words = [
        "赤い円。青い四角「左」、白い背景の上に大きな黄色い三角形",
        "一个红色的圆圈在左边，一个蓝色的方块在右边",
        "왼쪽에 빨간 원",
        "דג אדום (קטן) בצד שמאל, 3 עיגולים",
        "دائرة حمراء على اليسار، ١٢ مربعا",
        "बाईं ओर एक लाल वृत्त",
        "วงกลมสีแดงทางซ้าย",
        "🔴 on the left, ❤️ 👩‍🚀 👍🏽 🇯🇵 1️⃣",
        "e\u{301}te\u{301}, a\u{300} la montagne",
    ];
    let cells = words.iter().map(|words| Tile::new(picture(256, 2), format!("prompt “{words}”, seed 3"))).collect();
    let grid = Grid { title: Some(words.concat()), columns: 3, cells, scale: 1, ..Grid::default() };
    save_png(&folder.join("scripts.png"), &grid.render(), &[])?;
    let names = words.map(|words| words.chars().take(24).collect());
    let row = |index: usize| (0..6).map(|column| (index * 7 + column * 5) as f64 % 11.0).collect();
    let map = HeatMap {
        title: words[0].into(),
        rows: names.to_vec(),
        columns: names[..6].to_vec(),
        values: (0..names.len()).map(row).collect(),
        value_label: words[3].into(),
        y_label: words[4].into(),
        ..HeatMap::default()
    };
    Ok(write(folder, "heat-scripts", &map).map(drop)?)
}

fn grids(folder: &Path) -> Result<(), Box<dyn Error>> {
    let cell = |i: u32| Tile::new(picture(64, i), format!("w = {}, seed {}", i % 4, 193 + i / 4));
    let mut cells: Vec<_> = (0..11).map(cell).collect();
    cells[6] = Tile::missing("w = 2, seed 194");
    let sweep = Grid {
        title: Some("a red circle on a blue ground, guidance against seed".into()),
        columns: 4,
        cells,
        row_labels: (0..3).map(|i| format!("seed {}", 193 + i)).collect(),
        column_labels: ["unconditional", "w = 1", "w = 2", "w = 7.5 (the usual value)"].map(String::from).to_vec(),
        scale: 3,
    };
    let text = [("prompt".to_owned(), "a red circle → ein roter Kreis".to_owned())];
    save_png(&folder.join("grid.png"), &sweep.render(), &text)?;
    let long = "an oil painting of a lighthouse in a storm, dramatic light, 赤い円, supercalifragilisticexpialidocious";
    let cells = (0..3).map(|i| Tile::new(picture(512, i), if i == 1 { "short" } else { long })).collect();
    save_png(&folder.join("grid-large.png"), &Grid { columns: 3, cells, scale: 1, ..Grid::default() }.render(), &[])?;
    let images: Vec<_> = (0..26).map(|i| picture(64, i)).collect();
    let captions: Vec<_> = (0..26).map(|i| format!("step {i}, σ = {:.3}", 14.6 / f64::from(i + 1))).collect();
    save_png(&folder.join("strip.png"), &strip(&images, &captions, 2), &[])?;
    save_png(&folder.join("strip-small.png"), &strip(&images[..8], &captions, 1), &[])?;
    Ok(())
}

fn picture(size: u32, seed: u32) -> RgbImage {
    let (cx, cy) = (size * (30 + seed * 7 % 40) / 100, size * (30 + seed * 13 % 40) / 100);
    RgbImage::from_fn(size, size, |x, y| {
        let inside = (x.abs_diff(cx)).pow(2) + (y.abs_diff(cy)).pow(2) < (size / 4).pow(2);
        Rgb(if inside { [210, 60, 50] } else { [60, 90, (120 + seed * 10 % 100) as u8] })
    })
}
