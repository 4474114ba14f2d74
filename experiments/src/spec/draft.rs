//! A spec that is written in Rust.

use super::Spec;
use super::lines::Lines;
use super::written::Written;
use crate::figures::Figure;
use crate::measure::Measure;
use anyhow::Result;
use latentrace_trace::Rule;
use toml::{Table, Value};

/// A spec in the making: the fields of a spec file, as calls. Fields and their values are those of a file; what is wrong is
/// told by [`Draft::check`].
#[derive(Debug)]
pub struct Draft(Written);

impl Draft {
    pub(super) fn new(name: &str) -> Draft {
        Draft(Written { name: name.into(), ..Written::default() })
    }

    /// A field that every cell has, or a word for its texts.
    pub fn fix(mut self, field: &str, value: impl Into<Value>) -> Draft {
        self.0.fixed.insert(field.into(), value.into());
        self
    }

    /// A field or word that varies; the last one varies fastest.
    pub fn vary<V: Into<Value>>(mut self, field: &str, values: impl IntoIterator<Item = V>) -> Draft {
        self.0.vary.insert(field.into(), list(values));
        self
    }

    /// Fields that vary together, each with its values.
    pub fn zip<V: Into<Value>>(
        mut self,
        fields: impl IntoIterator<Item = (&'static str, impl IntoIterator<Item = V>)>,
    ) -> Draft {
        self.0.zip.push(fields.into_iter().map(|(field, values)| (field.to_owned(), list(values))).collect());
        self
    }

    /// Cells to leave out: those that have all these values.
    pub fn exclude(mut self, pattern: impl IntoIterator<Item = (&'static str, Value)>) -> Draft {
        self.0.exclude.push(pattern.into_iter().map(|(field, value)| (field.to_owned(), value)).collect::<Table>());
        self
    }

    /// What the fine solution that cells are compared with has other than they.
    pub fn reference(mut self, field: &str, value: impl Into<Value>) -> Draft {
        self.0.reference.insert(field.into(), value.into());
        self
    }

    /// What is kept of every run besides the sampler's values.
    pub fn capture(mut self, rule: &Rule) -> Draft {
        self.0.capture.push(rule.to_string());
        self
    }

    /// What is measured of every picture.
    pub fn measure(mut self, measure: Measure) -> Draft {
        self.0.measure.push(measure.name().into());
        self
    }

    /// What is drawn at the end. The default is the grid and the curves.
    pub fn figures(mut self, figures: &[Figure]) -> Draft {
        self.0.figures = Some(figures.iter().map(|figure| figure.name().into()).collect());
        self
    }

    /// Checks everything that can be checked without the models.
    ///
    /// # Errors
    /// A field is not known, or has a wrong value.
    pub fn check(mut self) -> Result<Spec> {
        self.0.resolve("".as_ref());
        let file = format!("spec {}", self.0.name);
        Spec::checked(self.0, file.into(), (Lines::default(), &[]))
    }
}

fn list<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Value {
    Value::Array(values.into_iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_its_file_would_be() {
        let text = "name='x'\nmeasure=['contrast']\nfigures=['grid','schedulers']\ncapture=['unet.mid_block.out']\n[fixed]\nprompt='a {size} circle'\n[vary]\nsize=['small','large']\nguidance=[1.0,4.0]\n[[zip]]\nsteps=[2,3]\nseed=[7,8]\n[[exclude]]\nsize='large'\nsteps=3\n[reference]\nsteps=50";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, text).unwrap();
        let written = Spec::open(&path, &[]).unwrap();
        let draft = Spec::draft("x")
            .fix("prompt", "a {size} circle")
            .vary("size", ["small", "large"])
            .vary("guidance", [1.0, 4.0])
            .zip([("steps", [2, 3]), ("seed", [7, 8])])
            .exclude([("size", "large".into()), ("steps", 3.into())])
            .reference("steps", 50)
            .capture(&"unet.mid_block.out".parse().unwrap())
            .measure(Measure::Contrast)
            .figures(&[Figure::Grid, Figure::Schedulers])
            .check()
            .unwrap();
        let cells = |spec: &Spec| {
            let found = spec.expand().unwrap();
            let of = |point: &super::super::Point| (point.label(&found.axes), point.cell.clone());
            (found.points.iter().map(of).collect::<Vec<_>>(), found.references)
        };
        assert_eq!(cells(&draft), cells(&written));
        assert_eq!(cells(&draft).0.len(), 6);
        assert_eq!(
            (&draft.figures, &draft.measure, draft.kept()),
            (&written.figures, &written.measure, written.kept())
        );
        let error = format!("{:#}", Spec::draft("x").fix("stpes", 3).check().err().unwrap());
        assert!(error.contains("spec x: fixed.stpes") && error.contains("did you mean steps?"), "{error}");
    }
}
