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
    let text = r#"
        name = "markup"
        capture = ["unet.**.attn2.probs | head_mean"]
        measure = ["saturation"]
        figures = ["grid", "curves"]
        [fixed]
        prompt = "a red circle <b>bold</b></script><img src=x onerror='harmed = 1'>"
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

/// What the page says after it was used, and what the browser complained of.
fn used(page: &Path, folder: &Path, browser: &Path) -> (Vec<Value>, String) {
    let html = std::fs::read_to_string(page).unwrap();
    let (before, after) = html.rsplit_once("</body>").unwrap();
    let driven = folder.join("driven.html");
    let driver = include_str!("report.js");
    std::fs::write(&driven, format!("{before}<script>{driver}</script></body>{after}")).unwrap();
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"])
        .args(["--window-size=1400,1200", "--virtual-time-budget=10000000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", driven.display()))
        .timeout(std::time::Duration::from_secs(120))
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
    latentrace(&["report", out.to_str().unwrap()]).success();
    let page = out.join("report.html");
    let size = std::fs::metadata(&page).unwrap().len();
    assert!(size < 2_000_000, "{size} bytes for four small pictures");
    let Some(browser) = chromium() else {
        // Past the test harness, which shows what a test prints only when it fails.
        writeln!(std::io::stderr(), "skipped: no Chromium on this machine; tools/browser installs one").unwrap();
        return;
    };
    let (seen, console) = used(&page, folder.path(), &browser);
    let failed: Vec<String> =
        seen.iter().filter(|check| check["holds"] != true).map(|check| check.to_string()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(seen.len(), 35, "every part of the page was used");
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
    let data = html.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let names: Vec<&Value> = data["axes"].as_array().unwrap().iter().map(|axis| &axis["name"]).collect();
    assert_eq!(names, ["seed", "guidance"]);
    assert_eq!(data["cells"].as_array().unwrap().len(), 4);
    assert_eq!(data["cells"][0]["frames"].as_array().unwrap().len(), 4, "PNDM's four calls, decoded anew");
    // The same runs twice differ in nothing but their number.
    latentrace(&["report", &at("made"), &at("made"), "--output", &page, "--frames", "0"]).success();
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains(r#"{"name":"run","values":["1","2"]}"#));
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
    assert!(error(&at("nothing")).contains("nothing: no such folder"));
    assert!(error(&at("empty")).contains("empty: no complete run in it"));
    assert!(std::fs::read_dir(at("empty")).unwrap().next().is_none());
}
