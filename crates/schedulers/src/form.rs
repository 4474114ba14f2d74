//! Linear forms: sums of `coefficient × value`, with `f64` coefficients.

use std::collections::BTreeMap;
use std::ops::{Add, Mul, Sub};

/// A linear combination of values; the empty form is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Form(BTreeMap<Val, f64>);

/// A value of a plan: the index of the op that computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Val(pub u32);

impl Form {
    /// Every value with its coefficient, oldest value first; no coefficient is zero.
    pub fn terms(&self) -> impl Iterator<Item = (Val, f64)> + '_ {
        self.0.iter().map(|(&val, &coefficient)| (val, coefficient))
    }

    /// The coefficient of a value; zero if the form does not contain it.
    pub fn coefficient(&self, of: Val) -> f64 {
        self.0.get(&of).copied().unwrap_or(0.0)
    }

    /// Whether every coefficient is a finite number.
    pub fn is_finite(&self) -> bool {
        self.0.values().all(|coefficient| coefficient.is_finite())
    }
}

impl FromIterator<(Val, f64)> for Form {
    fn from_iter<I: IntoIterator<Item = (Val, f64)>>(terms: I) -> Form {
        let mut sum = BTreeMap::new();
        terms.into_iter().for_each(|(val, coefficient)| *sum.entry(val).or_default() += coefficient);
        sum.retain(|_, coefficient: &mut f64| *coefficient != 0.0);
        Form(sum)
    }
}

impl From<Val> for Form {
    fn from(val: Val) -> Form {
        Form(BTreeMap::from([(val, 1.0)]))
    }
}

impl<F: Into<Form>> Add<F> for Form {
    type Output = Form;
    fn add(mut self, other: F) -> Form {
        for (val, coefficient) in other.into().terms() {
            *self.0.entry(val).or_default() += coefficient;
        }
        self.0.retain(|_, coefficient| *coefficient != 0.0);
        self
    }
}

impl<F: Into<Form>> Sub<F> for Form {
    type Output = Form;
    fn sub(self, other: F) -> Form {
        self + other.into() * -1.0
    }
}

impl Mul<f64> for Form {
    type Output = Form;
    fn mul(mut self, scale: f64) -> Form {
        self.0.values_mut().for_each(|coefficient| *coefficient *= scale);
        self.0.retain(|_, coefficient| *coefficient != 0.0);
        self
    }
}

impl Mul<f64> for Val {
    type Output = Form;
    fn mul(self, scale: f64) -> Form {
        Form::from(self) * scale
    }
}

impl<F: Into<Form>> Add<F> for Val {
    type Output = Form;
    fn add(self, other: F) -> Form {
        Form::from(self) + other
    }
}

impl<F: Into<Form>> Sub<F> for Val {
    type Output = Form;
    fn sub(self, other: F) -> Form {
        Form::from(self) - other
    }
}
