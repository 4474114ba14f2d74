//! Where in a run a tensor belongs.

/// Where in a run a tensor belongs. Tensors from before the first network call belong to the first call, tensors from
/// after the last call to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// The network call, counted from 0.
    pub call: usize,
    /// The sampler's step, counted from 0. Some samplers call the network several times in a step.
    pub step: usize,
    /// Which call of its step this is, counted from 0.
    pub evaluation: usize,
    /// The timestep that the network is given.
    pub t: f64,
    /// The noise level, in `x = x0 + sigma * noise`.
    pub sigma: f64,
    /// The image that the first row is about.
    pub image: usize,
    /// What the rows of a tensor stand for.
    pub rows: Rows,
    /// Height and width of the picture whose pixels, row by row, are one axis of the module's tensors, as in attention
    /// over a picture. `None` where there is no such axis, as in the text encoder.
    pub grid: Option<[i64; 2]>,
    /// Whether the call is a repetition, made to find where NaN or infinity came from.
    pub again: bool,
}

/// What the first axis of the tensors that pass stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// A row for each image: the sampler's values, pixels.
    #[default]
    Images,
    /// A row for each image, of one branch of guidance: the text of a prompt.
    Branch(Branch),
    /// The unconditional row of every image, then the conditional row of every image: the UNet under guidance.
    Branches,
}

/// One of the two network outputs that guidance is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Branch {
    /// Without the prompt, or with the negative prompt.
    Unconditional,
    /// With the prompt.
    Conditional,
}

/// One row of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place on the first axis.
    pub index: i64,
    /// The branch of guidance, where the row belongs to one.
    pub branch: Option<Branch>,
    /// The image.
    pub image: usize,
}

impl Moment {
    /// What each of `count` rows is. With [`Rows::Branches`] a single row is shared by both branches, as the time
    /// embedding is.
    pub fn rows(&self, count: i64) -> Vec<Row> {
        let row = |index, branch, offset: i64| Row { index, branch, image: self.image + offset as usize };
        match self.rows {
            Rows::Branches if count > 1 => {
                let half = count / 2;
                let branch = |index| if index < half { Branch::Unconditional } else { Branch::Conditional };
                (0..count).map(|index| row(index, Some(branch(index)), index % half)).collect()
            }
            Rows::Branch(branch) => (0..count).map(|index| row(index, Some(branch), index)).collect(),
            _ => (0..count).map(|index| row(index, None, index)).collect(),
        }
    }
}

impl Branch {
    /// Its word in selectors and records.
    pub fn name(self) -> &'static str {
        match self {
            Branch::Unconditional => "uncond",
            Branch::Conditional => "cond",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_images_of_branches() {
        let at = |rows, image| Moment { rows, image, ..Moment::default() };
        let seen = |moment: Moment, count| {
            let rows = moment.rows(count).into_iter();
            rows.map(|row| (row.index, row.branch.map(Branch::name), row.image)).collect::<Vec<_>>()
        };
        let guided = [(0, Some("uncond"), 3), (1, Some("uncond"), 4), (2, Some("cond"), 3), (3, Some("cond"), 4)];
        assert_eq!(seen(at(Rows::Branches, 3), 4), guided);
        assert_eq!(seen(at(Rows::Branches, 0), 1), [(0, None, 0)]);
        assert_eq!(seen(at(Rows::Branch(Branch::Conditional), 0), 1), [(0, Some("cond"), 0)]);
        assert_eq!(seen(at(Rows::Images, 1), 2), [(0, None, 1), (1, None, 2)]);
    }
}
