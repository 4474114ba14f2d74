//! The page.

use super::part::{PICTURES, Part, SCALES, SEED, STEPS, fields_of};
use super::text::Embedded;
use super::{Article, python};
use anyhow::Result;
use latentrace_experiments::{Axis, Results, Row};
use latentrace_pipeline::Model;
use latentrace_pipeline::nn::set_threads;
use latentrace_runs::{Cell, Program};
use std::fmt::Write;

/// The whole page.
pub struct Page {
    /// The title.
    pub title: String,
    /// What the pictures were made with.
    pub about: Vec<String>,
    /// What the reader must know of the choice of checkpoints.
    pub notes: Vec<String>,
    /// The parts.
    pub sections: Vec<Section>,
}

/// One part on the page.
pub struct Section {
    title: &'static str,
    about: String,
    command: String,
    python: String,
    /// The results, as HTML.
    body: String,
}

/// The name of a checkpoint for a reader.
pub fn named(cell: &Cell) -> String {
    cell.model.as_ref().map_or_else(|| "the bundled model of shapes".into(), |model| model.display().to_string())
}

/// What the article is, and what the pictures were made with.
///
/// # Errors
/// A file of a checkpoint cannot be read.
pub fn about_models(article: &Article, model: &Model) -> Result<Vec<String>> {
    let Program { latentrace, device, libtorch, .. } = Program::this(model.device, set_threads());
    let mut lines = vec![
        "The article walks through text-to-image diffusion with Python's diffusers: its parts by hand, and experiments with them. Each section has the command and the lines of Python that make the same pictures, up to rounding and to what the section says of differences.".into(),
        format!("Made by Latentrace {latentrace} with libtorch {libtorch} on {device}."),
    ];
    let mut cells = vec![("Checkpoint", &article.base)];
    if article.base != article.base_of_variations {
        cells.push(("Checkpoint of the variations", &article.base_of_variations));
    }
    for (name, cell) in cells {
        let blake3 = latentrace_runs::hash(&cell.place()?, &cell.choice())?;
        let mut fields = fields_of(cell)?;
        fields.remove("model");
        let settings = fields.iter().map(|(field, value)| format!("{field} = {value}")).collect::<Vec<_>>().join(", ");
        let loaded = match settings.as_str() {
            "" => String::new(),
            settings => format!(" Loaded with {settings}, which the lines of Python leave out."),
        };
        lines.push(format!("{name}: {}, blake3 {blake3}.{loaded}", named(cell)));
    }
    Ok(lines)
}

/// The title of a page about a checkpoint.
pub fn title(cell: &Cell) -> String {
    format!("The experiments of the source article on {}", named(cell))
}

impl Section {
    /// The beginning of a part: what the article does, the command, and the lines of Python.
    pub fn of(part: Part, article: &Article) -> Section {
        let Article { base, base_of_variations, subject, image, .. } = article;
        let base = if part == Part::Variations { base_of_variations } else { base };
        let model = base.model.as_ref().map(|model| model.display().to_string());
        let of_python = model.clone().unwrap_or_else(|| "data/models/shapes".into());
        Section {
            title: part.title(),
            about: about(part),
            command: command(part, &subject.prompt, model.as_deref()),
            python: python::lines(part, &of_python, subject, image),
            body: String::new(),
        }
    }

    /// Adds the tokens and embeddings of a prompt.
    pub fn text(&mut self, found: &Embedded) {
        let Embedded { tokens, length, shape, moments: [mean, deviation], from_empty } = found;
        let cells = |cell: &dyn Fn(&(i64, String)) -> String| tokens.iter().map(cell).collect::<Vec<String>>();
        let head = |name: &str, row: Vec<String>| {
            let row: String = row.iter().map(|text| format!("<td>{}</td>", escaped(text))).collect();
            format!("<tr><th>{name}</th>{row}</tr>")
        };
        let _ = write!(
            self.body,
            "<div class=\"wide\"><table>{}{}</table></div><p>{length} tokens with the padding; embeddings of shape {shape:?}, mean {mean:.3}, standard deviation {deviation:.3}. They differ from those of the empty prompt by {:.0} % of their size: guidance is the step from one to the other.</p>",
            head("piece", cells(&|(_, piece)| piece.clone())),
            head("id", cells(&|(id, _)| id.to_string())),
            100.0 * from_empty,
        );
    }

    /// Adds the grid of a sweep, and where each picture is.
    pub fn grid(&mut self, name: &str, Results { axes, rows, .. }: &Results) {
        let fields: Vec<&str> = axes.iter().map(|Axis { name, .. }| name.as_str()).collect();
        self.figure(&format!("{name}/grid.png"), &format!("By {}", fields.join(" and ")));
        let link = |Row { label, run, .. }: &Row| {
            let folder = run.path().file_name().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
            format!("<a href=\"{}\">{}</a>", escaped(&format!("{name}/cells/{folder}/image.png")), escaped(label))
        };
        let links: Vec<String> = rows.iter().map(link).collect();
        let _ = write!(self.body, "<p>Each picture at its own size: {}.</p>", links.join(", "));
    }

    /// Adds a figure, by its path from the page.
    pub fn figure(&mut self, path: &str, caption: &str) {
        let (path, caption) = (escaped(path), escaped(caption));
        let _ = write!(
            self.body,
            "<figure><a href=\"{path}\"><img src=\"{path}\" alt=\"{caption}\"></a><figcaption>{caption}</figcaption></figure>"
        );
    }

    /// Adds a remark.
    pub fn remark(&mut self, text: &str) {
        let _ = write!(self.body, "<p class=\"note\">{}</p>", escaped(text));
    }

    /// Adds a table with three columns.
    pub fn table(&mut self, head: [&str; 3], rows: Vec<[String; 3]>) {
        let row = |tag: &str, cells: [&str; 3]| {
            let cells: String = cells.iter().map(|text| format!("<{tag}>{}</{tag}>", escaped(text))).collect();
            format!("<tr>{cells}</tr>")
        };
        let rows: String = rows.iter().map(|cells| row("td", cells.each_ref().map(String::as_str))).collect();
        let _ = write!(self.body, "<div class=\"wide\"><table>{}{rows}</table></div>", row("th", head));
    }
}

/// What the article does in a part, and what to look for.
fn about(part: Part) -> String {
    let [loop_steps, steps] = STEPS;
    let [by_hand, varied] = SCALES;
    match part {
        Part::Text => "A prompt is cut into tokens, padded to the text encoder's length, and encoded. The same is done with an empty prompt, and both results are stacked: the UNet computes both in one call.".into(),
        Part::Loop => format!(
            "{loop_steps} steps at guidance {by_hand}, seed {SEED}, with the latents decoded after every eighth call and after the last. The article constructs its scheduler by PNDMScheduler(), with the defaults of the class: linear betas from 0.0001 to 0.02, and three Runge-Kutta steps of four calls each at the start. Stable Diffusion was trained with other betas, scaled_linear from 0.00085 to 0.012. So at every time the loop assumes another noise level than the UNet was trained with there, and the UNet removes too little or too much noise. The second row is the same loop with the scheduler of the checkpoint."
        ),
        Part::Guidance => format!(
            "One prompt, one seed, {steps} steps, nine guidance scales w in u + w (c - u). 0 ignores the prompt, 1 is the prediction with the prompt, and larger scales go beyond it. diffusers skips guidance where w is at most 1, so its first three pictures are one; here each scale is applied as it is. The default of diffusers is 7.5."
        ),
        Part::Negative => format!(
            "{PICTURES} pictures of one prompt, {steps} steps, the seeds from {SEED} on. The negative prompt takes the place of the empty one: guidance leads away from it."
        ),
        Part::Variations => format!(
            "{PICTURES} variations of a picture at guidance {varied}, with a negative prompt. The picture is encoded, noised to a share of the steps, 0.8 as diffusers does by default, and denoised again (SDEdit, Meng et al. 2021). What is large stays, what is small is made anew."
        ),
    }
}

/// The command that does a part again.
fn command(part: Part, prompt: &str, model: Option<&str>) -> String {
    let here = "# in the folder of this page\n";
    let run = |name: &str| format!("latentrace run {name}.toml --output {name}\n");
    match part {
        Part::Text => {
            let model = model.map(|model| format!(" \\\n    --model {}", quoted(model))).unwrap_or_default();
            format!("latentrace tokens {}{model}\n", quoted(prompt))
        }
        Part::Loop => format!("{here}{}{}", run("loop-as-written"), run("loop-own-scheduler")),
        _ => format!("{here}{}", run(part.name())),
    }
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    match text.chars().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #8886; --box: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
p { max-width: 44rem; overflow-wrap: anywhere; } .note { border-left: 4px solid #c80; padding-left: .8rem; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
pre { background: var(--box); padding: .7rem; overflow-x: auto; font-size: .8rem; margin: 0; }
figure { margin: 1.2rem 0; } img { max-width: 100%; height: auto; background: #fff; } figcaption { font-size: .9rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { border: 1px solid var(--line); padding: .25rem .6rem; text-align: left; }";

impl Page {
    /// The page as HTML. Its pictures are files in the folder of the page.
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        let about: String = self.about.iter().map(|line| format!("<p>{}</p>\n", escaped(line))).collect();
        let notes: String =
            self.notes.iter().map(|note| format!("<p class=\"note\">{}</p>\n", escaped(note))).collect();
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n{about}{notes}"
        );
        for (number, Section { title, about, command, python, body }) in self.sections.iter().enumerate() {
            let (about, command, python) = (escaped(about), escaped(command), escaped(python));
            let _ = write!(
                page,
                "<section>\n<h2>{}. {title}</h2>\n<p>{about}</p>\n<h3>Latentrace</h3><pre>{command}</pre>\n<h3>diffusers</h3><pre>{python}</pre>\n{body}\n</section>\n",
                number + 1
            );
        }
        page + "</body>\n</html>\n"
    }
}

/// A text as it stands in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
