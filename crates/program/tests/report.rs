//! The report, as a reader has it: opened from a file in headless Chromium, pressed, dragged and typed at.
//!
//! `tools/browser` installs Chromium. Without one the test that needs it says so and does nothing else.

use assert_cmd::Command;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

fn latentrace(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::cargo_bin("latentrace").unwrap().args(arguments).assert()
}

fn chromium() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&paths).flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file())
}

/// An experiment with all that a report can show; its prompt is markup to whoever takes it for that.
fn experiment(folder: &Path) -> PathBuf {
    let spec = folder.join("spec.toml");
    // The word red three times, quotes, a line break, text from right to left, and markup.
    let text = r#"
        name = "markup"
        capture = ["unet.**.attn2.probs | head_mean"]
        measure = ["saturation", "contrast"]
        figures = ["grid", "curves"]
        [fixed]
        prompt = "a red circle, a red \"red\" square\nשלום <b>bold</b></script><img src=x onerror='harmed = 1'>"
        steps = 6
        [vary]
        guidance = [1, 6]
        seed = [1, 2]
    "#;
    std::fs::write(&spec, text).unwrap();
    let out = folder.join("out");
    latentrace(&["run", spec.to_str().unwrap(), "--output", out.to_str().unwrap()]).success();
    out
}

/// The data of a page.
fn data(html: &str) -> Value {
    let data = html.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
    serde_json::from_str(data).unwrap()
}

/// The full pictures of the first and the last cell, as the driver names them: the cells' own files, and scripts as
/// `latentrace report --full` writes them.
fn full_pictures(out: &Path, html: &str) -> Value {
    let experiment = std::fs::read_to_string(out.join("experiment.json")).unwrap();
    let experiment: Value = serde_json::from_str(&experiment).unwrap();
    let (cells, shown) = (experiment["cells"].as_array().unwrap(), &data(html)["cells"]);
    std::fs::create_dir(out.join("driven-pictures")).unwrap();
    let full = |index: usize| {
        let image = format!("{}/image.png", cells[index]["folder"].as_str().unwrap());
        assert!(out.join(&image).is_file());
        let name = format!("{:04}-picture.js", index + 1);
        let call = format!("latentrace(\"{name}\", {});\n", shown[index]["picture"]);
        std::fs::write(out.join("driven-pictures").join(&name), call).unwrap();
        serde_json::json!({ "image": image, "script": format!("driven-pictures/{name}") })
    };
    Value::Array(vec![full(0), full(cells.len() - 1)])
}

/// What the page says after it was used, and what the browser complained of.
fn used(out: &Path, browser: &Path) -> (Vec<Value>, String) {
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    let (before, after) = html.rsplit_once("</body>").unwrap();
    let driven = out.join("driven.html");
    let full = format!("<script>const FULL = {};</script>", full_pictures(out, &html));
    // A module has names of its own, and sees those of the page.
    let driver = format!("<script type=\"module\">{}</script>", include_str!("report.js"));
    std::fs::write(&driven, format!("{before}{full}{driver}</body>{after}")).unwrap();
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"])
        .args(["--window-size=1400,1200", "--virtual-time-budget=10000000", "--dump-dom"])
        .args(["--disable-background-networking"])
        .arg(format!("--user-data-dir={}", out.join("profile").display()))
        .arg(format!("file://{}", driven.display()))
        .timeout(std::time::Duration::from_secs(240))
        .output()
        .unwrap();
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let seen = page.split("<pre id=\"seen\">").nth(1).unwrap_or_else(|| panic!("the page was not used: {said}"));
    let seen = seen.split("</pre>").next().unwrap().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let console: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
    (serde_json::from_str(&seen).unwrap(), console.join("\n"))
}

#[test]
fn a_report_is_used_in_a_browser_without_a_complaint() {
    let folder = tempfile::tempdir().unwrap();
    let out = experiment(folder.path());
    let hint = "note: --full: the page itself has every full picture";
    latentrace(&["report", out.to_str().unwrap(), "--full"]).success().stderr(predicates::str::contains(hint));
    assert!(!out.join("report-pictures").exists(), "small pictures are in the page");
    let size = std::fs::metadata(out.join("report.html")).unwrap().len();
    assert!(size < 2_000_000, "{size} bytes for four small pictures");
    let Some(browser) = chromium() else {
        // Past the test harness, which shows what a test prints only when it fails.
        writeln!(std::io::stderr(), "skipped: no Chromium on this machine; tools/browser installs one").unwrap();
        return;
    };
    let (seen, console) = used(&out, &browser);
    let failed: Vec<String> =
        seen.iter().filter(|check| check["holds"] != true).map(|check| check.to_string()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(seen.len(), 108, "every part of the page was used");
    assert_eq!(console, "");
}

#[test]
fn recorded_runs_and_several_experiments_are_put_beside_each_other_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let generate = |guidance: &str| {
        let arguments = ["generate", "a red circle", "--steps", "3", "--images", "2", "--guidance", guidance];
        latentrace(&[&arguments[..], &["--output", &at("made")]].concat()).success();
    };
    generate("1");
    generate("4");
    let page = at("page.html");
    latentrace(&["report", &at("made"), "--output", &page, "--frames", "16"]).success();
    let html = std::fs::read_to_string(&page).unwrap();
    let data = data(&html);
    let names: Vec<&Value> = data["axes"].as_array().unwrap().iter().map(|axis| &axis["name"]).collect();
    assert_eq!(names, ["seed", "guidance"]);
    assert_eq!(data["cells"].as_array().unwrap().len(), 4);
    assert_eq!(data["cells"][0]["calls"].as_array().unwrap().len(), 3, "three calls, decoded anew");
    // The same runs twice differ in nothing but their number.
    latentrace(&["report", &at("made"), &at("made"), "--output", &page, "--frames", "0"]).success();
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains(r#"{"labels":["run 1","run 2"],"name":"run","values":["1","2"]}"#));
}

#[test]
fn what_cannot_be_reported_is_named_and_leaves_no_page() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(at("empty")).unwrap();
    let error = |runs: &str| {
        let assert = latentrace(&["report", runs]).failure();
        String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
    };
    std::fs::write(at("page-pictures"), "").unwrap();
    let full = latentrace(&["report", &at("nothing"), "--output", &at("page.html"), "--full"]).failure();
    let said = String::from_utf8_lossy(&full.get_output().stderr).into_owned();
    assert!(said.contains("page-pictures is a file, not a folder"), "{said}");
    assert!(error(&at("nothing")).contains("nothing: no such folder"));
    assert!(error(&at("empty")).contains("empty: no complete run in it"));
    assert!(std::fs::read_dir(at("empty")).unwrap().next().is_none());
}
