//! The executor on lineages: it does with names what [`Execution`](crate::execute::Execution) does with tensors, in the same order.

use super::name::Parts;
use super::{At, Call, Lineage, Lines, Mode, Setting};
use crate::condition::EncodedText;
use crate::execute::call_of;
use crate::{Features, Known, Mask, Negative, Picture, Prepared, Request, Start, UnetInput};
use latentrace_nn::{Branch, Conditioning, SamplerValue};
use latentrace_schedulers::{Form, Level, Limit, Noised, Op, Val};
use latentrace_text::{Encoding, End, HiddenState, Tokens};

/// A run that is executed on lineages.
pub(super) struct Symbolic<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) setting: &'a Setting,
}

/// [`Known`] of lineages.
#[derive(Clone, Copy)]
enum KnownLine {
    Replaces { mask: Lineage, image: Lineage, noise: Lineage },
    Given { mask: Lineage, masked: Lineage, image: Option<Lineage> },
}

impl Symbolic<'_> {
    /// The lineages of the whole run.
    pub(super) fn lines(&self) -> Lines {
        let texts = self.texts();
        let conditions = self.conditions(texts);
        let is_seen = |at| self.setting.seen.contains(&at);
        let Setting { mode, bytes, .. } = *self.setting;
        Lines { texts, conditions, texts_seen: is_seen(At::Texts), mode, calls: self.calls(conditions), bytes }
    }

    /// The network calls of the plan.
    fn calls(&self, conditions: [Lineage; 2]) -> Vec<Call> {
        let plan = &self.prepared.plan;
        let given = self.known();
        let mut known = given.map(|known| self.known_tapped(known));
        let (mut values, mut calls, mut drawn): (Vec<Lineage>, Vec<Call>, usize) = (Vec::new(), Vec::new(), 0);
        for (index, op) in plan.ops().iter().enumerate() {
            let val = Val(index as u32);
            let value = match op {
                Op::Noise => {
                    let is_start =
                        (calls.len(), drawn) == (0, 0) && !matches!(self.prepared.start, Start::Sample { .. });
                    let of = if is_start { SamplerValue::Start } else { SamplerValue::Noise };
                    let noise = self.tapped(of, call_of(plan, val, calls.len()), self.draw(drawn));
                    drawn += 1;
                    if let (true, Some(KnownLine::Replaces { noise: of_start, .. })) = (is_start, &mut known) {
                        *of_start = noise;
                    }
                    noise
                }
                Op::Given => {
                    let given = self.given(given);
                    match (&self.prepared.start, &mut known) {
                        (Start::Sample { .. }, _) => given,
                        (_, known) => {
                            let image = self.tapped(SamplerValue::Image, 0, given);
                            if let Some(KnownLine::Replaces { image: of_picture, .. }) = known {
                                *of_picture = image;
                            }
                            image
                        }
                    }
                }
                Op::Eval { input, .. } => {
                    let call = calls.len();
                    let step = plan.steps()[call];
                    let input = beside(known, sum(input, &values));
                    let rows = self.call(call, step.level, input, conditions);
                    calls.push(rows);
                    self.guided(call, step.level, values[step.sample.0 as usize], rows)
                }
                Op::Sum(form) => sum(form, &values),
                Op::Clip { of, limit } => clip(values[of.0 as usize], *limit),
            };
            let value = self.seen(known, val, value, calls.len());
            values.push(value);
        }
        calls
    }

    /// The rows of a call.
    fn call(&self, call: usize, level: Level, input: Lineage, [negative, prompt]: [Lineage; 2]) -> Call {
        let weight = self.prepared.request.guidance.at(level.sigma);
        let network = self.network(level).value(input);
        let seen = self.setting.seen.contains(&At::Call(call));
        match self.setting.mode {
            Mode::Alone => {
                // Who looks inside may make the network use other kernels.
                let network = network.count(usize::from(seen));
                if self.prepared.negative == Negative::Absent {
                    let one = self.acted(At::Call(call), network.value(prompt).lineage());
                    return Call { unconditional: None, conditional: Some(one), seen };
                }
                let both = self.acted(At::Call(call), network.value(negative).value(prompt).lineage());
                let row = |branch: Branch| Some(Parts::of(branch.name()).value(both).lineage());
                Call { unconditional: row(Branch::Unconditional), conditional: row(Branch::Conditional), seen }
            }
            Mode::Batched => {
                let row = |text| self.acted(At::Call(call), network.clone().value(text).lineage());
                let is_absent = self.prepared.negative == Negative::Absent;
                let unconditional = (weight != 1.0 && !is_absent).then(|| row(negative));
                Call { unconditional, conditional: (weight != 0.0).then(|| row(prompt)), seen }
            }
        }
    }

    /// The UNet at a noise level.
    fn network(&self, level: Level) -> Parts {
        let networks = &self.setting.networks;
        let parts = Parts::of("unet").text(&networks.unet).number(f64::from(level.t as f32));
        let scaled = networks.varying.iter().map(|(change, scale)| (change, scale.at(level.sigma)));
        let acting: Vec<(&String, f64)> = scaled.filter(|(_, scale)| *scale != 0.0).collect();
        acting.iter().fold(parts.count(acting.len()), |parts, (change, scale)| parts.text(change).number(*scale))
    }

    /// The guided output of a call for a sample.
    fn guided(&self, call: usize, level: Level, sample: Lineage, rows: Call) -> Lineage {
        let through_taps = |of: Conditioning, value: Lineage| {
            let noise = self.tapped(SamplerValue::Epsilon(of), call, value);
            // An edit of the predicted noise is computed from the sample too.
            let value = match noise == value {
                true => value,
                false => {
                    let prediction = self.prepared.request.scheduler.prediction().to_string();
                    Parts::of("noise").value(noise).value(sample).number(level.sigma).text(&prediction).lineage()
                }
            };
            self.tapped(SamplerValue::Output(of), call, value)
        };
        let unconditional = rows.unconditional.map(|row| through_taps(Conditioning::Unconditional, row));
        let conditional = rows.conditional.map(|row| through_taps(Conditioning::Conditional, row));
        let weight = self.prepared.request.guidance.at(level.sigma);
        let guided = match (unconditional, conditional) {
            (Some(u), Some(c)) => Parts::of("guided").value(u).value(c).number(weight).lineage(),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => Parts::of("nothing").lineage(),
        };
        through_taps(Conditioning::Guided, guided)
    }

    /// A value, if it is the sample or the clean estimate of a step: with its known part replaced, and through its tap.
    fn seen(&self, known: Option<KnownLine>, val: Val, value: Lineage, calls: usize) -> Lineage {
        let steps = self.prepared.plan.steps();
        if let Some(step) = steps.get(calls).filter(|step| step.sample == val) {
            let value = match known.filter(|_| calls > 0) {
                Some(known) => keep(known, value, step.known),
                None => value,
            };
            return self.tapped(SamplerValue::Sample, calls, value);
        }
        match calls > 0 && steps[calls - 1].denoised == val {
            true => self.tapped(SamplerValue::Denoised, calls - 1, value),
            false => value,
        }
    }

    /// A value of the sampler after its tap.
    fn tapped(&self, of: SamplerValue, call: usize, value: Lineage) -> Lineage {
        self.acted(At::Value(of, call), value)
    }

    /// A value after what is done to it, or on the way to it, at a place.
    fn acted(&self, at: At, value: Lineage) -> Lineage {
        let acts = self.setting.acts.iter().filter(|act| act.at == at);
        acts.fold(value, |value, act| {
            // A rule may do something else at every call, and with every text.
            let Request { prompt, negative, prompt_2, negative_2, .. } = &self.prepared.request;
            let call = match at {
                At::Call(call) | At::Value(_, call) => call,
                At::Texts | At::Pictures => 0,
            };
            let place = match at {
                At::Value(of, _) => of.name(),
                At::Texts => "texts",
                At::Pictures => "pictures",
                At::Call(_) => "call",
            };
            let parts = Parts::of("edited").text(&act.rule).text(place).count(call).text(prompt).text(negative);
            let second = [prompt_2, negative_2].into_iter().enumerate();
            let second = second.filter_map(|(index, text)| Some((index, text.as_ref()?)));
            second.fold(parts, |parts, (index, text)| parts.count(index).text(text)).value(value).lineage()
        })
    }

    /// The negative prompt and the prompt, where the text encoders run on them.
    fn texts(&self) -> [Option<Lineage>; 2] {
        if self.prepared.request.features.is_some() {
            return [None; 2];
        }
        let encoded = |index: usize, branch: Branch| {
            let text = self.encoded(&self.prepared.tokens[index], &self.prepared.encodings[index]);
            match self.acted(At::Texts, text) {
                same if same == text => text,
                edited => Parts::of(branch.name()).value(edited).lineage(), // a rule may select one of the two
            }
        };
        let is_encoded = self.prepared.negative == Negative::Text;
        [is_encoded.then(|| encoded(1, Branch::Unconditional)), Some(encoded(0, Branch::Conditional))]
    }

    /// What the UNet takes with the negative prompt and with the prompt.
    fn conditions(&self, [negative, prompt]: [Option<Lineage>; 2]) -> [Lineage; 2] {
        let Prepared { request, negative: stands, .. } = self.prepared;
        let given = |text: Option<&EncodedText>| {
            let Some(EncodedText { features, pooled }) = text else { return Parts::of("nothing").lineage() };
            let parts = Parts::of("features").text(&self.setting.networks.unet).tensor(features);
            pooled.iter().fold(parts, |parts, pooled| parts.tensor(pooled)).lineage()
        };
        let given_of = |of: fn(&Features) -> &EncodedText| given(request.features.as_ref().map(of));
        let prompt = prompt.unwrap_or_else(|| given_of(|features| &features.prompt));
        let prompt_with_ids = self.with_ids(Branch::Conditional, prompt);
        let negative = match (stands, negative) {
            (Negative::Absent, _) => return [prompt_with_ids; 2],
            // The zeros have the shape of the prompt, and of nothing else of it.
            (Negative::Zeros, _) => {
                let tokens = self.prepared.tokens[0].iter();
                tokens.fold(Parts::of("zeros"), |parts, tokens| parts.count(tokens.ids.len())).lineage()
            }
            (Negative::Text, Some(text)) => text,
            (Negative::Text, None) => given_of(|features| &features.negative),
        };
        [self.with_ids(Branch::Unconditional, negative), prompt_with_ids]
    }

    /// A text with the numbers that the UNet takes beside it.
    fn with_ids(&self, branch: Branch, text: Lineage) -> Lineage {
        match self.prepared.ids_of(branch) {
            None => text,
            Some(ids) => ids.iter().fold(Parts::of("told").value(text), |parts, id| parts.number(*id)).lineage(),
        }
    }

    /// A text as the text encoders return it, of which each has its tokens.
    fn encoded(&self, tokens: &[Tokens], encodings: &[Encoding]) -> Lineage {
        let text_encoders = Parts::of("text").text(&self.setting.networks.text_encoder);
        let parts = text_encoders.count(encodings.first().map_or(0, |encoding| encoding.skipped));
        let of_encoder = |parts: Parts, Tokens { ids, weights, .. }: &Tokens| {
            let parts = ids.iter().fold(parts.count(ids.len()), |parts, id| parts.count(*id as usize));
            weights.iter().fold(parts.count(weights.len()), |parts, weight| parts.number(*weight))
        };
        let parts = tokens.iter().fold(parts, of_encoder);
        // The end of a text decides the pooled text.
        let ends = encodings.iter().filter(|encoding| encoding.state == HiddenState::LastButOne);
        let of_end = |parts: Parts, encoding: &Encoding| match encoding.end {
            End::Largest => parts.text("largest"),
            End::Of(id) => parts.count(id as usize),
        };
        ends.fold(parts, of_end).lineage()
    }

    /// The normal noise of a seed. Draws are counted from 0.
    fn noise(&self, draw: usize) -> Lineage {
        let Request { seed, size, .. } = &self.prepared.request;
        let parts = Parts::of("draw").count(*seed as usize).count(draw);
        parts.count(size.height as usize).count(size.width as usize).lineage()
    }

    /// The normal noise of a draw of the plan. The encoder's draws are before and after the first.
    fn draw(&self, drawn: usize) -> Lineage {
        let encodings = self.prepared.start.encodings(self.prepared.input);
        let between = encodings.masked && drawn > 0;
        self.noise(usize::from(encodings.image) + usize::from(between) + drawn)
    }

    /// The latents of a picture, or of its part outside a mask, with the encoder's draw.
    fn latents(&self, picture: &Picture, mask: Option<&Mask>, draw: usize) -> Lineage {
        let Picture { width, height, pixels } = picture;
        let parts = Parts::of("latents").text(&self.setting.networks.vae).count(*width).count(*height).bytes(pixels);
        let parts = parts.value(self.noise(draw));
        let latents = match mask {
            Some(mask) => parts.value(mask_of(mask)).lineage(),
            None => parts.lineage(),
        };
        self.acted(At::Pictures, latents)
    }

    /// The value of [`Op::Given`].
    fn given(&self, known: Option<KnownLine>) -> Lineage {
        match (&self.prepared.start, known) {
            (Start::Picture { picture, .. }, _) => self.latents(picture, None, 0),
            (Start::Latents { latents, .. }, _) => Parts::of("given").tensor(latents).lineage(),
            (Start::Sample { sample, .. }, _) => Parts::of("sample").tensor(sample).lineage(),
            (_, Some(KnownLine::Replaces { image, .. } | KnownLine::Given { image: Some(image), .. })) => image,
            _ => Parts::of("nothing").lineage(),
        }
    }

    /// What the run knows of its picture, if it has a mask.
    fn known(&self) -> Option<KnownLine> {
        let encodings = self.prepared.start.encodings(self.prepared.input);
        let tensor = |tensor| Parts::of("known").tensor(tensor).lineage();
        if let Start::Masked { picture, mask, .. } = &self.prepared.start {
            let image = encodings.image.then(|| self.latents(picture, None, 0));
            return Some(match (self.prepared.input, image) {
                (UnetInput::Sample, Some(image)) => {
                    KnownLine::Replaces { mask: mask_of(mask), image, noise: self.draw(0) }
                }
                (_, image) => {
                    let masked = self.latents(picture, Some(mask), usize::from(encodings.image) + 1);
                    KnownLine::Given { mask: mask_of(mask), masked, image }
                }
            });
        }
        Some(match self.prepared.start.known()? {
            Known::Replaces { mask, image, noise } => {
                KnownLine::Replaces { mask: tensor(mask), image: tensor(image), noise: tensor(noise) }
            }
            Known::Given { mask, masked, image } => {
                KnownLine::Given { mask: tensor(mask), masked: tensor(masked), image: image.as_ref().map(tensor) }
            }
        })
    }

    /// What the run knows of its picture, after the taps before its first call.
    fn known_tapped(&self, known: KnownLine) -> KnownLine {
        let tapped = |of, value| self.tapped(of, 0, value);
        let has_given = self.prepared.plan.ops().contains(&Op::Given);
        let is_sample = matches!(self.prepared.start, Start::Sample { .. });
        match known {
            KnownLine::Replaces { mask, image, noise } => KnownLine::Replaces {
                mask: tapped(SamplerValue::Mask, mask),
                image: if has_given && !is_sample { image } else { tapped(SamplerValue::Image, image) },
                noise: if is_sample { tapped(SamplerValue::Start, noise) } else { noise },
            },
            KnownLine::Given { mask, masked, image } => KnownLine::Given {
                mask: tapped(SamplerValue::Mask, mask),
                masked: tapped(SamplerValue::Masked, masked),
                image,
            },
        }
    }
}

fn mask_of(Mask { width, height, anew }: &Mask) -> Lineage {
    let bytes: Vec<u8> = anew.iter().map(|anew| u8::from(*anew)).collect();
    Parts::of("mask").count(*width).count(*height).bytes(&bytes).lineage()
}

/// The input of a network call.
fn beside(known: Option<KnownLine>, input: Lineage) -> Lineage {
    match known {
        Some(KnownLine::Given { mask, masked, .. }) => {
            Parts::of("beside").value(input).value(mask).value(masked).lineage()
        }
        Some(KnownLine::Replaces { .. }) | None => input,
    }
}

/// A sample with its known part replaced.
fn keep(known: KnownLine, sample: Lineage, noised: Noised) -> Lineage {
    match known {
        KnownLine::Replaces { mask, image, noise } => {
            let parts = Parts::of("keep").value(sample).value(mask).value(image).value(noise);
            parts.number(noised.picture).number(noised.noise).lineage()
        }
        KnownLine::Given { .. } => sample,
    }
}

/// A sum in the order of its terms. A value times 1 is the value.
fn sum(form: &Form, values: &[Lineage]) -> Lineage {
    let terms: Vec<(Lineage, f64)> = form.terms().map(|(val, factor)| (values[val.0 as usize], factor)).collect();
    match terms.as_slice() {
        [(value, 1.0)] => *value,
        terms => {
            let parts = Parts::of("sum").count(terms.len());
            terms.iter().fold(parts, |parts, (value, factor)| parts.value(*value).number(*factor)).lineage()
        }
    }
}

fn clip(of: Lineage, limit: Limit) -> Lineage {
    let parts = match limit {
        Limit::Clamp { range } => Parts::of("clamp").number(range),
        Limit::Dynamic { ratio, max } => Parts::of("dynamic").number(ratio).number(max),
    };
    parts.value(of).lineage()
}
