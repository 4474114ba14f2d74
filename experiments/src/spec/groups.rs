//! What varies: fields with their values, each by itself or several together.

use super::{Spec, values};
use anyhow::{Result, anyhow};
use latentrace_files::counted;
use toml::{Table, Value};

/// Fields that vary together, with the values of each.
pub(super) struct Group {
    /// The fields; never none, each with as many values as the others.
    pub(super) fields: Vec<(String, Vec<Value>)>,
    /// Where the file says so: `vary` or `zip.0`.
    pub(super) path: String,
}

impl Group {
    /// How many values each field has.
    pub(super) fn len(&self) -> usize {
        self.fields.first().map_or(0, |(_, values)| values.len())
    }
}

impl Spec {
    /// The groups of what varies: the fields of `vary`, then those of each `zip`.
    ///
    /// # Errors
    /// A field has no values, one of them twice, or another number of values than the fields that it varies with.
    pub(super) fn grouped(&self, vary: &Table, zips: &[Table]) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        for (key, value) in vary {
            let values = self.values("vary", key, value)?;
            if let Some(twice) = values::twice(&values) {
                let hint = "hint: a value that varies is given once; a seed that varies makes several pictures of it";
                return Err(self.at(&format!("vary.{key}"), anyhow!("{twice} is given twice\n{hint}")));
            }
            groups.push(Group { fields: vec![(key.clone(), values)], path: "vary".into() });
        }
        for (index, zip) in zips.iter().enumerate() {
            groups.push(self.zipped(index, zip)?);
        }
        Ok(groups)
    }

    /// The values of a field that varies.
    fn values(&self, path: &str, key: &str, value: &Value) -> Result<Vec<Value>> {
        values::values(value).map_err(|error| self.at(&format!("{path}.{key}"), error))
    }

    /// The fields of a zip.
    fn zipped(&self, index: usize, zip: &Table) -> Result<Group> {
        let path = format!("zip.{index}");
        let of = |(key, value): (&String, &Value)| Ok((key.clone(), self.values(&path, key, value)?));
        let fields: Vec<(String, Vec<Value>)> = zip.iter().map(of).collect::<Result<_>>()?;
        let Some((first, values)) = fields.first() else {
            return Err(self.at(&path, anyhow!("no field varies\nhint: a zip has fields with lists of equal length")));
        };
        if let Some((other, found)) = fields.iter().find(|(_, found)| found.len() != values.len()) {
            let error = anyhow!("{}, and {first} has {}", counted(found.len(), "value"), values.len());
            return Err(self.at(&format!("{path}.{other}"), error));
        }
        Ok(Group { fields, path })
    }

    /// Checks that a group has more than one value.
    ///
    /// # Errors
    /// It has one.
    pub(super) fn check_varies(&self, group: &Group) -> Result<()> {
        match group.fields.first().map(|(field, values)| (field, values.as_slice())) {
            Some((field, [value])) => {
                let hint = format!("hint: give it under [fixed], as {field} = {value}");
                let error = anyhow!("{value} is its only value, so nothing varies\n{hint}");
                Err(self.at(&format!("{}.{field}", group.path), error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{spec, spec_with};

    #[test]
    fn a_field_with_one_value_does_not_vary() {
        let wrong = |text: &str| format!("{:#}", spec(text).err().expect(text));
        let error = wrong("name='x'\n[vary]\nseed=[1,2]\nguidance=[4.5]");
        assert!(error.contains(":4: vary.guidance: 4.5 is its only value, so nothing varies\nhint: "), "{error}");
        assert!(error.ends_with("give it under [fixed], as guidance = 4.5"), "{error}");
        let error = wrong("name='x'\n[vary]\nseed={ range = [5, 5] }");
        assert!(error.contains(":3: vary.seed: 5 is its only value"), "{error}");
        let error = wrong("name='x'\n[[zip]]\nsampler=['lms']\nsteps=[3]");
        assert!(error.contains(":3: zip.0.sampler: \"lms\" is its only value"), "{error}");
        let typo = wrong("name='x'\n[vary]\nstpes=[5]");
        assert!(typo.contains("did you mean steps?"), "{typo}");
        let error = wrong("name='x'\n[vary]\nscheduler.rho=[5]");
        assert!(error.contains(":3: vary.scheduler.rho: ") && error.ends_with("as scheduler.rho = 5"), "{error}");
        // On the command line, a list of one value is that value.
        let set = spec_with("name='x'\n[vary]\nseed=[1,2]\nguidance=[1,4]", &["seed=[7]"]).unwrap();
        let cells = set.expand().unwrap().points;
        assert_eq!(cells.iter().map(|point| point.cell.seed).collect::<Vec<_>>(), [7, 7]);
    }

    #[test]
    fn what_cannot_be_an_axis_says_where_it_stands() {
        for (text, says) in [
            ("name='x'\n[vary]\nseed=[]", ":3: vary.seed: an empty list"),
            ("name='x'\n[vary]\nseed=3", ":3: vary.seed: expected a list"),
            ("name='x'\n[vary]\nguidance=[1,4,1.0]", ":3: vary.guidance: 1.0 is given twice"),
            ("name='x'\n[vary]\nguidance={range=[0.1,0.1000001,1e-7]}", ":3: vary.guidance: range: 0.1 and 0.1000001"),
            ("name='x'\n[[zip]]\nseed=[1,2]\nsteps=[1,2,3]", ":4: zip.0.steps: 3 values, and seed has 2"),
            ("name='x'\n[[zip]]", ":2: zip.0: no field varies"),
        ] {
            let error = format!("{:#}", spec(text).err().expect(text));
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
