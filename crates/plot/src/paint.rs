//! Paints a drawing as SVG or as pixels, with the two backends of plotters.
//!
//! Both backends round coordinates to whole numbers. So a drawing is painted larger: twelve times for SVG, whose view
//! box scales it back, and three times for pixels, which are then averaged; this also smooths the edges.

use image::{Rgb, RgbImage, imageops};
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle};

use crate::drawing::{Anchor, Colour, Drawing, Mark, Point, Text};
use crate::text::{self, Weight};

/// The drawing as an SVG document.
pub(crate) fn svg(drawing: &Drawing) -> String {
    const UNIT: u32 = 12;
    let (width, height) = (drawing.width * UNIT, drawing.height * UNIT);
    let mut document = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut document, (width, height));
        sound(backend.draw_rect((0, 0), (width as i32, height as i32), &plotters::style::WHITE.filled(), true));
        let mut painter = Painter { backend, unit: UNIT.into(), joined: true };
        drawing.marks.iter().for_each(|mark| painter.mark(mark));
        drawing.texts.iter().for_each(|text| painter.text(text));
        sound(painter.backend.present());
    }
    let painted = format!("width=\"{width}\" height=\"{height}\"");
    let shown =
        format!("width=\"{}\" height=\"{}\" role=\"img\" stroke-linejoin=\"round\"", drawing.width, drawing.height);
    // Smoothed edges of rectangles that touch would leave a seam between them.
    let document = document.replacen(&painted, &shown, 1).replace("<rect ", "<rect shape-rendering=\"crispEdges\" ");
    match (drawing.title.is_empty(), document.find('\n')) {
        (false, Some(end)) => {
            let (head, body) = document.split_at(end);
            format!("{head}\n<title>{}</title>{body}", escaped(&drawing.title))
        }
        _ => document,
    }
}

/// The drawing as pixels, `ratio` to one unit of the drawing.
pub(crate) fn pixels(drawing: &Drawing, ratio: u32) -> RgbImage {
    const FINER: u32 = 3;
    let (width, height) = (drawing.width * ratio, drawing.height * ratio);
    let mut buffer = vec![0xff; (width * FINER) as usize * (height * FINER) as usize * 3];
    {
        let backend = BitMapBackend::with_buffer(&mut buffer, (width * FINER, height * FINER));
        let mut painter = Painter { backend, unit: f64::from(ratio * FINER), joined: false };
        drawing.marks.iter().for_each(|mark| painter.mark(mark));
    }
    let large = RgbImage::from_raw(width * FINER, height * FINER, buffer).expect("the buffer has the picture's size");
    let mut image = imageops::thumbnail(&large, width, height); // the mean of each 3 x 3
    for text in &drawing.texts {
        text::draw(&mut image, text, ratio.into());
    }
    image
}

/// White pixels to draw on.
pub(crate) fn blank(width: u32, height: u32) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([0xff; 3]))
}

struct Painter<Backend> {
    backend: Backend,
    unit: f64,
    /// Whether a line is one shape. For pixels each segment is a shape, because plotters leaves holes at sharp turns.
    joined: bool,
}

impl<Backend: DrawingBackend> Painter<Backend> {
    fn mark(&mut self, mark: &Mark) {
        match mark {
            Mark::Line { points, width, colour } if self.joined => {
                let mut path: Vec<_> = points.iter().map(|point| self.place(*point)).collect();
                path.dedup();
                sound(self.backend.draw_path(path, &self.style(*colour, *width)));
            }
            Mark::Line { points, width, colour } => self.segments(points, *width, *colour),
            Mark::Area { points, colour } if self.joined && is_rectangle(points) => {
                let (from, to) = (self.place(points[0]), self.place(points[2]));
                let (left, right) = (from.0.min(to.0), from.0.max(to.0));
                let (top, bottom) = (from.1.min(to.1), from.1.max(to.1));
                sound(self.backend.draw_rect((left, top), (right, bottom), &self.style(*colour, 0.0), true));
            }
            Mark::Area { points, colour } => {
                let path: Vec<_> = points.iter().map(|point| self.place(*point)).collect();
                sound(self.backend.fill_polygon(path, &self.style(*colour, 0.0)));
            }
            Mark::Disc { centre, radius, colour } => {
                let radius = (radius * self.unit).round() as u32;
                sound(self.backend.draw_circle(self.place(*centre), radius, &self.style(*colour, 0.0), true));
            }
        }
    }

    fn segments(&mut self, points: &[Point], width: f64, colour: Colour) {
        let style = self.style(colour, 0.0);
        let half = width / 2.0;
        for pair in points.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            if length > 0.0 {
                let (dx, dy) = ((y0 - y1) / length * half, (x1 - x0) / length * half);
                let corners = [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)];
                sound(self.backend.fill_polygon(corners.map(|corner| self.place(corner)), &style));
            }
        }
        let radius = (half * self.unit).round() as u32;
        let inner = points.get(1..points.len().saturating_sub(1)).unwrap_or_default();
        for joint in inner.iter().filter(|_| width > 1.0) {
            sound(self.backend.draw_circle(self.place(*joint), radius, &style, true));
        }
    }

    fn text(&mut self, text: &Text) {
        // The SVG backend divides the font size by 1.24, and takes the top of the text as 0.76 em above the baseline.
        let size = text.size * self.unit;
        let rise = 0.76 * text.size;
        let (x, y) = text.at;
        let at = if text.upwards { (x - rise, y) } else { (x, y - rise) };
        let horizontal = match text.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let turn = if text.upwards { FontTransform::Rotate270 } else { FontTransform::None };
        let weight = match text.weight {
            Weight::Regular => plotters::style::FontStyle::Normal,
            Weight::Bold => plotters::style::FontStyle::Bold,
        };
        let font = ("DejaVu Sans, Verdana, sans-serif", size * 1.24).into_font().style(weight).transform(turn);
        let [red, green, blue] = text.colour;
        let colour = RGBColor(red, green, blue);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, VPos::Top));
        sound(self.backend.draw_text(&text.words, &style, self.place(at)));
    }

    fn place(&self, (x, y): Point) -> (i32, i32) {
        ((x * self.unit).round() as i32, (y * self.unit).round() as i32)
    }

    fn style(&self, [red, green, blue]: Colour, width: f64) -> ShapeStyle {
        RGBColor(red, green, blue).filled().stroke_width((width * self.unit).round() as u32)
    }
}

/// Whether four points are the corners of a rectangle, one after another.
fn is_rectangle(points: &[Point]) -> bool {
    let [a, b, c, d] = points else { return false };
    let (across, down) =
        ((a.1, c.1) == (b.1, d.1) && (b.0, d.0) == (c.0, a.0), (a.0, c.0) == (b.0, d.0) && (b.1, d.1) == (c.1, a.1));
    across || down
}

/// Text between tags.
fn escaped(text: &str) -> String {
    let plain: String = text.chars().filter(|letter| !letter.is_control()).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Painting into memory cannot fail; plotters does not know that.
fn sound<T, Failure: std::fmt::Debug>(result: Result<T, Failure>) -> T {
    result.expect("painting into memory cannot fail")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drawing::BLACK;

    #[test]
    fn a_line_covers_its_width_and_nothing_else() {
        let mut drawing = Drawing::new(240, 180);
        drawing.line(&[(20.0, 50.0), (220.0, 50.0)], 2.0, [0; 3]);
        let image = pixels(&drawing, 1);
        let dark = image.pixels().map(|pixel| 255.0 - f64::from(pixel.0[0])).sum::<f64>() / 255.0;
        assert!((dark - 400.0).abs() < 80.0, "{dark} pixels of ink for 200 x 2");
        assert!(image.enumerate_pixels().all(|(_, y, pixel)| (48..52).contains(&y) || pixel.0[0] == 255));
    }

    #[test]
    fn the_document_has_the_asked_size_and_escapes_its_words() {
        let mut drawing = Drawing::new(300, 200);
        drawing.texts.push(Text::new("<b>&\u{1}\"'", (10.0, 20.0), 12.0));
        drawing.line(&[(0.0, 0.0), (1.0, 1.0)], 1.0, BLACK);
        drawing.title = "a < b".into();
        let document = svg(&drawing);
        assert!(document.contains(">\n<title>a &lt; b</title>\n<") && document.contains("role=\"img\""), "{document}");
        assert!(document.starts_with("<svg width=\"300\" height=\"200\""), "{document}");
        assert!(document.contains("viewBox=\"0 0 3600 2400\""));
        assert!(document.contains("&lt;b&gt;&amp; &quot;&apos;"));
        assert!(document.contains("font-size=\"144\"") && document.trim_end().ends_with("</svg>"));
    }
}
