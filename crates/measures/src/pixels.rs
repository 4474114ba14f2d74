//! Measures of the pixels of a finished picture: its bytes, as red, green and blue of each pixel.

/// The mean chroma `max(R, G, B) - min(R, G, B)`, from 0 for greys to 1 for pure hues.
///
/// It is the saturation that Hanbury recommends (Constructing cylindrical coordinate colour spaces, Pattern Recognition
/// Letters 29, 2008): those of HSV and HSL divide by the maximum and by the distance from white or black, so they call
/// a nearly black pixel of random hue saturated. NaN if there is no pixel.
pub fn saturation(bytes: &[u8]) -> f64 {
    let chroma = |pixel: &[u8]| f64::from(pixel.iter().max().unwrap_or(&0) - pixel.iter().min().unwrap_or(&0)) / 255.0;
    mean(bytes.chunks_exact(3).map(chroma))
}

/// The standard deviation of the luma `0.299 R + 0.587 G + 0.114 B` (ITU-R BT.601) over the pixels, from 0 for one grey
/// to 0.5 for half black, half white: root-mean-square contrast (E. Peli, Contrast in complex images, JOSA A 7, 1990).
pub fn contrast(bytes: &[u8]) -> f64 {
    let luma = |pixel: &[u8]| {
        (0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])) / 255.0
    };
    let centre = mean(bytes.chunks_exact(3).map(luma));
    mean(bytes.chunks_exact(3).map(|pixel| (luma(pixel) - centre).powi(2))).sqrt()
}

/// The share of the pixels whose red, green or blue is 0 or 255.
pub fn clipped_pixels(bytes: &[u8]) -> f64 {
    let at_end = |pixel: &[u8]| f64::from(u8::from(pixel.iter().any(|part| matches!(part, 0 | 255))));
    mean(bytes.chunks_exact(3).map(at_end))
}

/// The root mean square difference of two pictures, from 0 for equal pictures to 1 for black and white. NaN if they
/// differ in size or have no pixel.
pub fn pixel_distance(a: &[u8], b: &[u8]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    mean(a.iter().zip(b).map(|(a, b)| ((f64::from(*a) - f64::from(*b)) / 255.0).powi(2))).sqrt()
}

/// The entropy `-sum p log2 p`, in bits, of the distinct values of a list; at most `log2 n` for `n` values. NaN if the
/// list is empty.
pub fn bits<T: PartialEq>(sights: &[T]) -> f64 {
    let mut known: Vec<(&T, f64)> = Vec::new();
    for sight in sights {
        match known.iter_mut().find(|(other, _)| *other == sight) {
            Some((_, times)) => *times += 1.0,
            None => known.push((sight, 1.0)),
        }
    }
    let times: Vec<f64> = known.into_iter().map(|(_, times)| times).collect();
    crate::entropy(&times) / std::f64::consts::LN_2
}

fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = numbers.fold((0.0, 0.0), |(count, sum), number| (count + 1.0, sum + number));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREY: [u8; 3] = [102, 102, 102];
    const RED: [u8; 3] = [255, 0, 0];
    const BLACK: [u8; 3] = [0; 3];
    const WHITE: [u8; 3] = [255; 3];

    #[test]
    fn pictures_made_by_hand() {
        assert_eq!(saturation(&GREY), 0.0);
        assert_eq!(saturation(&[RED, GREY].concat()), 0.5);
        assert_eq!(saturation(&[1, 0, 0]), 1.0 / 255.0); // fully saturated in HSV
        assert_eq!(contrast(&[GREY, GREY].concat()), 0.0);
        assert!((contrast(&[BLACK, WHITE].concat()) - 0.5).abs() < 1e-15);
        assert!((contrast(&[BLACK, RED].concat()) - 0.1495).abs() < 1e-15);
        assert_eq!(clipped_pixels(&[GREY, RED, [1, 254, 9], BLACK].concat()), 0.5);
        assert_eq!(pixel_distance(&BLACK, &WHITE), 1.0);
        assert_eq!(pixel_distance(&RED, &BLACK), (1f64 / 3.0).sqrt());
        assert_eq!(pixel_distance(&RED, &RED), 0.0);
    }

    #[test]
    fn entropy_counts_what_is_seen() {
        assert_eq!(bits(&["a", "a", "a"]), 0.0);
        assert!((bits(&["a", "b", "a", "b"]) - 1.0).abs() < 1e-15);
        assert!((bits(&["a", "b", "c", "a"]) - 1.5).abs() < 1e-15);
        assert!((bits(&[1, 2, 3, 4, 5, 6, 7, 8]) - 3.0).abs() < 1e-15);
    }

    #[test]
    fn what_has_no_answer_is_nan() {
        let none: [&str; 0] = [];
        assert!(bits(&none).is_nan() && pixel_distance(&RED, &[RED, RED].concat()).is_nan());
        assert!([saturation, contrast, clipped_pixels].iter().all(|measure| measure(&[]).is_nan()));
    }
}
