//! A plan as text, and back: `{}` rounds numbers, `{:#}` keeps every bit and lists the values of each step.

use crate::{Error, Form, Level, Limit, Noised, Op, Plan, Step, Val};
use std::fmt;
use std::str::FromStr;

/// One op per line, then the result. With `#` coefficients have all their digits and a line for each network call follows, so that
/// [`Plan::from_str`] can read the text.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = f.alternate();
        let write_form = |f: &mut fmt::Formatter<'_>, form: &Form| match whole {
            true => writeln!(f, "{form:#}"),
            false => writeln!(f, "{form}"),
        };
        for (index, op) in self.ops.iter().enumerate() {
            write!(f, "{:<4} ", Val(index as u32).to_string())?;
            match op {
                Op::Given => writeln!(f, "image")?,
                Op::Noise => writeln!(f, "noise")?,
                Op::Eval { input, t } => {
                    write!(f, "network at {} of ", if whole { *t } else { (t * 1000.0).round() / 1000.0 })?;
                    write_form(f, input)?;
                }
                Op::Sum(form) => write_form(f, form)?,
                Op::Clip { of, limit: Limit::Clamp { range } } => writeln!(f, "{of} within ±{range}")?,
                Op::Clip { of, limit: Limit::Dynamic { ratio, max } } => {
                    writeln!(f, "{of} within its {ratio} quantile, at most {max}")?;
                }
            }
        }
        write!(f, "result {}", self.result)?;
        for step in self.steps.iter().filter(|_| whole) {
            let Step { index, evaluation, level: Level { t, sigma }, sample, output, denoised, next, known } = step;
            write!(f, "\nstep {index} call {evaluation} at {t} sigma {sigma:?}")?;
            write!(f, " sample {sample} output {output} denoised {denoised} next {next}")?;
            if *known != Noised::to(*sigma) {
                write!(f, " known {:?} {:?}", known.picture, known.noise)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms().next().is_none() {
            return f.write_str("0");
        }
        for (index, (val, coefficient)) in self.terms().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            match coefficient.abs() {
                _ if f.alternate() => write!(f, "{gap}{coefficient:+?}·{val}")?,
                1e-4..1e6 => write!(f, "{gap}{coefficient:+.5}·{val}")?,
                _ => write!(f, "{gap}{coefficient:+.3e}·{val}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Reads the text of `{:#}`. Every value must be computed before it is used, and every network call must have its step.
impl FromStr for Plan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Plan, Error> {
        let (mut ops, mut steps, mut result) = (Vec::new(), Vec::new(), None);
        let mut end = 0;
        for (number, line) in (1..).zip(text.lines()) {
            end = number;
            let words: Vec<&str> = line.split_whitespace().collect();
            let line = Line { number, made: ops.len() };
            match words[..] {
                ["result", word] if result.is_none() => result = Some(line.val(word)?),
                ["step", ..] if result.is_some() => {
                    let call =
                        calls(&ops).nth(steps.len()).ok_or_else(|| line.wrong("no more steps than calls", "a step"))?;
                    steps.push(line.step(&words, call)?);
                }
                [name, ref words @ ..] if result.is_none() => {
                    if name != Val(ops.len() as u32).to_string() {
                        return Err(line.wrong("the next value, or result", name));
                    }
                    ops.push(line.op(words)?);
                }
                _ => return Err(line.wrong("a value, then the result, then the steps", &words.join(" "))),
            }
        }
        let end = Line { number: end, made: ops.len() };
        let result = result.ok_or_else(|| end.wrong("result", "the end"))?;
        let plan = Plan { ops, steps, result };
        match plan.steps.len() == plan.calls() {
            true => Ok(plan),
            false => Err(end.wrong("a step for each network call", &format!("{} steps", plan.steps.len()))),
        }
    }
}

/// The values that are outputs of network calls.
fn calls(ops: &[Op]) -> impl Iterator<Item = Val> + '_ {
    (0..).map(Val).zip(ops).filter(|(_, op)| matches!(op, Op::Eval { .. })).map(|(val, _)| val)
}

/// A line being read, and how many values are computed before it.
#[derive(Clone, Copy)]
struct Line {
    number: usize,
    made: usize,
}

impl Line {
    fn op(self, words: &[&str]) -> Result<Op, Error> {
        Ok(match *words {
            ["image"] => Op::Given,
            ["noise"] => Op::Noise,
            ["network", "at", t, "of", ref terms @ ..] => Op::Eval { input: self.form(terms)?, t: self.number(t)? },
            [of, "within", range] => {
                let range = self.number_in(range.trim_start_matches('±'), f64::MIN_POSITIVE, f64::MAX)?;
                Op::Clip { of: self.val(of)?, limit: Limit::Clamp { range } }
            }
            [of, "within", "its", ratio, "quantile,", "at", "most", max] => {
                let limit = Limit::Dynamic {
                    ratio: self.number_in(ratio, 0.0, 1.0)?,
                    max: self.number_in(max, 1.0, f64::MAX)?,
                };
                Op::Clip { of: self.val(of)?, limit }
            }
            ref terms => Op::Sum(self.form(terms)?),
        })
    }

    fn form(self, terms: &[&str]) -> Result<Form, Error> {
        let term = |word: &&str| {
            let (coefficient, val) = word.split_once('·').ok_or_else(|| self.wrong("coefficient·value", word))?;
            Ok((self.val(val)?, self.number(coefficient)?))
        };
        match terms {
            [] => Err(self.wrong("what the value is", "nothing")),
            ["0"] => Ok(Form::default()),
            _ => terms.iter().map(term).collect(),
        }
    }

    /// The step of a network call.
    fn step(self, words: &[&str], call: Val) -> Result<Step, Error> {
        let [_, index, "call", evaluation, "at", t, "sigma", sigma, rest @ ..] = words else {
            return Err(self.wrong("step N call N at TIME sigma NUMBER", &words.join(" ")));
        };
        let ["sample", sample, "output", output, "denoised", denoised, "next", next, known @ ..] = rest else {
            return Err(self.wrong("sample, output, denoised and next, each with its value", &rest.join(" ")));
        };
        let count = |word: &str| word.parse().map_err(|_| self.wrong("a whole number", word));
        let level = Level { t: self.number(t)?, sigma: self.number(sigma)? };
        let known = match known {
            [] => Noised::to(level.sigma),
            ["known", picture, noise] => Noised { picture: self.number(picture)?, noise: self.number(noise)? },
            other => return Err(self.wrong("known with two numbers, or the end", &other.join(" "))),
        };
        let step = Step {
            index: count(index)?,
            evaluation: count(evaluation)?,
            level,
            sample: self.val(sample)?,
            output: self.val(output)?,
            denoised: self.val(denoised)?,
            next: self.val(next)?,
            known,
        };
        match step.output == call {
            true => Ok(step),
            false => Err(self.wrong("the next network call's value as output", output)),
        }
    }

    /// A value that is computed above this line.
    fn val(self, word: &str) -> Result<Val, Error> {
        let index = word.strip_prefix('v').and_then(|index| index.parse().ok());
        let made = index.filter(|index| (*index as usize) < self.made);
        made.map(Val).ok_or_else(|| self.wrong("a value made above", word))
    }

    fn number(self, word: &str) -> Result<f64, Error> {
        let number = word.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| self.wrong("a finite number", word))
    }

    fn number_in(self, word: &str, least: f64, most: f64) -> Result<f64, Error> {
        let number = self.number(word)?;
        let is_within = (least..=most).contains(&number);
        if is_within {
            Ok(number)
        } else {
            Err(self.wrong("a limit above 0, a ratio up to 1, a largest from 1 on", word))
        }
    }

    fn wrong(self, expected: &'static str, found: &str) -> Error {
        Error::Text { line: self.number, expected, found: found.chars().take(60).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Reading};

    #[test]
    fn the_error_of_a_text_names_its_line() {
        let plan = Config::from_json_as("{}", "euler").unwrap().plan(1, Reading::Exact).unwrap();
        let text = format!("{plan:#}");
        let check = |from: &str, to: &str, want: &str| {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text, "{from} is in {text}");
            assert_eq!(wrong.parse::<Plan>().unwrap_err().to_string(), format!("plan text: {want}"));
        };
        check("v1 ", "v7 ", "line 2: expected the next value, or result, found v7");
        check("·v0", "·v1", "line 2: expected a value made above, found v1");
        check("+", "+NaN", "line 2: expected a finite number, found +NaN157.41045725150062");
        check("·", "*", "line 2: expected coefficient·value, found +157.41045725150062*v0");
        check("step 0", "step -1", "line 8: expected a whole number, found -1");
        check("output v2", "output v3", "line 8: expected the next network call's value as output, found v3");
        check(
            "denoised v3",
            "denoised",
            "line 8: expected sample, output, denoised and next, each with its value, found sample v1 output v2 denoised next v4",
        );
        let (ops, _) = text.split_once("\nstep").unwrap();
        let told = |text: &str| text.parse::<Plan>().unwrap_err().to_string();
        assert_eq!(told(ops), "plan text: line 7: expected a step for each network call, found 0 steps");
        assert_eq!(
            told(&format!("{text}\n{}", text.lines().last().unwrap())),
            "plan text: line 9: expected no more steps than calls, found a step"
        );
        let held = text.replacen("+1.0·v4", "v4 within ±-1", 1);
        assert_eq!(
            told(&held),
            "plan text: line 6: expected a limit above 0, a ratio up to 1, a largest from 1 on, found -1"
        );
        assert_eq!(told(""), "plan text: line 0: expected result, found the end");
    }
}
