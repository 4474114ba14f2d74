//! Colour bars.

use crate::colours::Shades;
use crate::drawing::{BLACK, Drawing, Rect, Text};
use crate::layout::{self, LABEL, TICK};
use crate::scale::Tick;
use crate::text::{self, LEADING, Weight};

/// The width of a bar, and of the gap beside it.
pub(crate) const BAR: f64 = 14.0;

/// The highest bar beside curves. It is a key, and not an axis.
const HIGHEST: f64 = 280.0;

/// Draws a bar with its ticks and label at the right of a room. Returns the room that is left.
pub(crate) fn beside(drawing: &mut Drawing, label: &str, shades: &Shades, room: Rect) -> Rect {
    let height = (room.height() - 16.0).min(HIGHEST);
    let top = room.top + 8.0;
    let found = fitting_ticks(shades, height);
    let words = layout::lines(label, LABEL, Weight::Regular, height, 2);
    let label_width = words.len() as f64 * LABEL * LEADING;
    let right = room.right - label_width - numbers(&found) - 14.0;
    let bar = Rect { left: right - BAR, top, right, bottom: top + height };
    gradient(drawing, bar, shades);
    ticks(drawing, bar, &found);
    let corners = [(bar.left, bar.bottom), (bar.left, bar.top), (bar.right, bar.top), (bar.right, bar.bottom)];
    drawing.line(&[&corners[..], &corners[..1]].concat(), 1.0, BLACK);
    layout::label_upwards(drawing, &words, (room.right - label_width, bar.centre().1));
    Rect { right: bar.left - BAR, ..room }
}

/// Fills a bar with the colours of a scale, the lowest at the bottom.
pub(crate) fn gradient(drawing: &mut Drawing, bar: Rect, shades: &Shades) {
    let count = (bar.height() / 2.0).clamp(16.0, 256.0) as usize;
    for index in 0..count {
        let at = |index: usize| bar.bottom - bar.height() * index as f64 / count as f64;
        let colour = shades.at((index as f64 + 0.5) / count as f64);
        drawing.area(&Rect { top: at(index + 1), bottom: at(index), ..bar }.corners(), colour);
    }
}

/// Draws the ticks of a scale to the right of a bar.
pub(crate) fn ticks(drawing: &mut Drawing, bar: Rect, ticks: &[Tick]) {
    for tick in ticks {
        let y = bar.bottom - tick.at * bar.height();
        let long = if tick.label.is_empty() { 2.0 } else { 4.0 };
        drawing.line(&[(bar.right, y), (bar.right + long, y)], 1.0, BLACK);
        drawing.texts.push(Text::new(&tick.label, (bar.right + 8.0, y + TICK * 0.36), TICK));
    }
}

/// The width of the widest label.
pub(crate) fn numbers(ticks: &[Tick]) -> f64 {
    ticks.iter().map(|tick| text::width(&tick.label, TICK, Weight::Regular)).fold(0.0, f64::max)
}

/// The most ticks whose labels fit beside a bar of this height.
pub(crate) fn fitting_ticks(shades: &Shades, height: f64) -> Vec<Tick> {
    let apart = |ticks: &[Tick]| {
        let labelled = ticks.iter().filter(|tick| !tick.label.is_empty());
        let mut places: Vec<f64> = labelled.map(|tick| tick.at * (height - 2.0 * tip(height))).collect();
        places.sort_by(f64::total_cmp);
        places.windows(2).all(|pair| pair[1] - pair[0] >= TICK * LEADING)
    };
    let most = (height / 34.0).clamp(5.0, 14.0) as usize;
    let mut tries = (2..=most).rev().map(|most| shades.scale.ticks(most));
    tries.find(|ticks| apart(ticks)).unwrap_or_default()
}

/// The height of the pointed end of a bar of this height.
pub(crate) fn tip(bar: f64) -> f64 {
    if bar > 80.0 { 9.0 } else { 0.0 }
}
