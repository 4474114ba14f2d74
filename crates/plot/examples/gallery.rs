//! Draws a sample of everything into a folder: `cargo run -p latentrace-plot --example gallery -- FOLDER`.

use std::error::Error;
use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use latentrace_plot::{Axis, Cell, Chart, Grid, Panels, Series, save_png, strip, write};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: gallery FOLDER")?;
    charts(&folder)?;
    grids(&folder)
}

fn charts(folder: &Path) -> Result<(), Box<dyn Error>> {
    write(folder, "noise-levels", &noise_levels())?;
    write(folder, "guidance", &guidance())?;
    write(folder, "loss", &loss())?;
    write(folder, "many", &many())?;
    write(folder, "empty", &Chart { title: "Nothing was recorded".into(), ..loss_frame() })?;
    let narrow = Chart { notes: vec![], ..guidance() };
    let charts =
        vec![narrow.clone(), Chart { title: "Same, log".into(), y: Axis::log("rms"), ..narrow.clone() }, narrow];
    write(folder, "panels-shared", &Panels { title: "Three readings of one sweep".into(), charts, columns: 2 })?;
    let charts = vec![noise_levels(), loss(), tiny_values()];
    write(folder, "panels", &Panels { title: "Different charts side by side".into(), charts, columns: 3 })?;
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
        x: Axis::linear("step"),
        y: Axis::log("σ"),
        series: vec![
            Series::new("Karras, ρ = 7", karras(7.0)),
            Series::new("Karras, ρ = 3", karras(3.0)),
            Series::new("linear in σ", karras(1.0)),
            Series::new("diffusers' reading <b>&", karras(5.0)).dashed(),
        ],
        notes: vec!["The last level of each schedule is zero, which a log axis cannot show".into()],
    }
}

fn guidance() -> Chart {
    let weights = [-1.0f64, 0.0, 0.25, 1.0, 3.0, 7.5, 15.0];
    let line = |slope: f64| weights.iter().map(|w| (*w, 0.4 + slope * w.abs().sqrt())).collect::<Vec<_>>();
    Chart {
        title: "How far guidance moves the image".into(),
        x: Axis::linear("guidance w"),
        y: Axis::linear("rms distance from w = 1"),
        series: vec![
            Series::new("pndm", line(0.11)),
            Series::new("ddim", line(0.13)),
            Series::new("euler", line(0.05)).dashed(),
        ],
        notes: vec!["nine seeds a point; the negative prompt is empty".into(), "model: shapes".into()],
    }
}

fn loss_frame() -> Chart {
    Chart { x: Axis::linear("training step"), y: Axis::log("loss"), ..Chart::default() }
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
        x: Axis::linear("t").reversed(),
        y: Axis::linear("value"),
        series: (0..30).map(|i| Series::new(format!("down_blocks.{i}.attentions.0"), curve(i))).collect(),
        notes: vec![],
    }
}

fn tiny_values() -> Chart {
    let points = (1..6).map(|i| (10f64.powi(-2 * i), 3e-6 * f64::from(i))).collect();
    Chart {
        title: "Small numbers".into(),
        x: Axis::log("tolerance"),
        y: Axis::linear("error"),
        series: vec![Series::new("error", points)],
        notes: vec![],
    }
}

fn grids(folder: &Path) -> Result<(), Box<dyn Error>> {
    let cell = |i: u32| Cell::new(picture(64, i), format!("w = {}, seed {}", i % 4, 193 + i / 4));
    let mut cells: Vec<_> = (0..11).map(cell).collect();
    cells[6] = Cell::missing("w = 2, seed 194");
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
    let cells = (0..3).map(|i| Cell::new(picture(512, i), if i == 1 { "short" } else { long })).collect();
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
