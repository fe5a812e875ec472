//! Plot of PSNR over bit rate as an SVG picture.

use std::fmt::Write as _;

use super::points::{CurvePoint, Curves};

/// Size of the page, SVG units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 470.0;
/// Margins around the axes, SVG units: left, top, right, bottom.
const MARGIN: [f64; 4] = [58.0, 40.0, 130.0, 48.0];
/// Colors that remain distinct with color blindness (Okabe and Ito 2008).
const COLORS: [&str; 6] = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Result of the paper at 256 pixels, on its own clips: kbit/s, dB.
const PAPER: (f64, f64) = (12.1, 30.85);

/// Mapping from values to positions on the page.
struct Axes {
    /// Range of the rate, decimal logarithms of kbit/s.
    rate: [f64; 2],
    /// Range of the PSNR, dB.
    psnr: [f64; 2],
}

impl Axes {
    fn around(points: &[(f64, f64)]) -> Self {
        let over = |values: &mut dyn Iterator<Item = f64>| {
            values.fold([f64::INFINITY, f64::NEG_INFINITY], |[lo, hi], v| [lo.min(v), hi.max(v)])
        };
        let rate = over(&mut points.iter().map(|(kbit_s, _)| kbit_s.max(1e-3).log10()));
        let psnr = over(&mut points.iter().map(|(_, db)| *db));
        Self {
            rate: [rate[0] - 0.1, rate[1] + 0.1],
            psnr: [(psnr[0] - 1.0).floor(), (psnr[1] + 1.0).ceil()],
        }
    }

    fn at(&self, (kbit_s, db): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, [lo, hi]: [f64; 2]| (value - lo) / (hi - lo);
        let (x, y) = (share(kbit_s.max(1e-3).log10(), self.rate), share(db, self.psnr));
        (
            MARGIN[0] + x * (WIDTH - MARGIN[0] - MARGIN[2]),
            HEIGHT - MARGIN[3] - y * (HEIGHT - MARGIN[1] - MARGIN[3]),
        )
    }
}

/// Draws the curves at one picture size.
pub(super) fn plot(curves: &Curves, side: u32) -> String {
    let points: Vec<&CurvePoint> = curves.points.iter().filter(|p| p.side == side).collect();
    let mut places: Vec<_> = points.iter().map(|p| (p.kbit_s, p.psnr_db)).collect();
    places.push(PAPER);
    let axes = Axes::around(&places);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let [from, to] = curves.frames;
    let title = format!("{}, frames {from} to {to}, {side} px", escaped(&curves.clip));
    text(&mut svg, (MARGIN[0], 24.0), "start", &title);
    grid(&mut svg, &axes);

    let mut names: Vec<&str> = Vec::new();
    for point in &points {
        if !names.contains(&point.codec.as_str()) {
            names.push(&point.codec);
        }
    }
    for (name, color) in names.iter().zip(COLORS.iter().cycle()) {
        let line: Vec<_> = points
            .iter()
            .filter(|point| point.codec == *name)
            .map(|point| axes.at((point.kbit_s, point.psnr_db)))
            .collect();
        let path: Vec<_> = line.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for place in &line {
            dot(&mut svg, *place, color);
        }
        if let Some((x, y)) = line.last() {
            text(&mut svg, (x + 8.0, y + 4.0), "start", &escaped(name));
        }
    }
    let paper = axes.at(PAPER);
    dot(&mut svg, paper, "black");
    text(&mut svg, (paper.0 + 8.0, paper.1 + 4.0), "start", "the paper, on its own clips");
    svg.push_str("</svg>\n");
    svg
}

/// Draws lines at round values of both axes, with their labels.
fn grid(svg: &mut String, axes: &Axes) {
    let mut rule = |from: (f64, f64), to: (f64, f64)| {
        let _ = writeln!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
            from.0, from.1, to.0, to.1
        );
    };
    let rates = rates_between(axes.rate);
    let step = if axes.psnr[1] - axes.psnr[0] > 16.0 { 4 } else { 2 };
    let (low, high) = (axes.psnr[0] as i32, axes.psnr[1] as i32);
    let levels: Vec<i32> = (low..=high).filter(|db| db % step == 0).collect();
    let ends = |log: f64| 10_f64.powf(log);
    for rate in &rates {
        rule(axes.at((*rate, axes.psnr[0])), axes.at((*rate, axes.psnr[1])));
    }
    for db in &levels {
        let db = f64::from(*db);
        rule(axes.at((ends(axes.rate[0]), db)), axes.at((ends(axes.rate[1]), db)));
    }
    for rate in &rates {
        let (x, y) = axes.at((*rate, axes.psnr[0]));
        text(svg, (x, y + 18.0), "middle", &rate.to_string());
    }
    for db in &levels {
        let (x, y) = axes.at((ends(axes.rate[0]), f64::from(*db)));
        text(svg, (x - 8.0, y + 4.0), "end", &db.to_string());
    }
    let middle = f64::midpoint(MARGIN[0], WIDTH - MARGIN[2]);
    text(svg, (middle, HEIGHT - 10.0), "middle", "kbit/s");
    // Above the topmost label.
    text(svg, (MARGIN[0] - 8.0, MARGIN[1] - 12.0), "end", "dB");
}

/// Returns the numbers 1, 2 and 5 times a power of ten within a range of decimal logarithms.
fn rates_between([from, to]: [f64; 2]) -> Vec<f64> {
    (from.floor() as i32..=to.ceil() as i32)
        .flat_map(|power| [1, 2, 5].map(|digit| format!("{digit}e{power}").parse::<f64>()))
        .filter_map(Result::ok)
        .filter(|rate| (from..=to).contains(&rate.log10()))
        .collect()
}

fn dot(svg: &mut String, (x, y): (f64, f64), color: &str) {
    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\"/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(codec: &str, kbit_s: f64, psnr_db: f64) -> CurvePoint {
        let (codec, setting) = (codec.to_owned(), "crf 1".to_owned());
        CurvePoint { codec, setting, side: 256, kbit_s, psnr_db, ssim: 0.9 }
    }

    #[test]
    fn higher_psnr_is_up_and_higher_rate_is_right() {
        let axes = Axes::around(&[(1.0, 30.0), (100.0, 40.0)]);
        let (near, far) = (axes.at((1.0, 30.0)), axes.at((100.0, 40.0)));
        assert!(far.0 > near.0 && far.1 < near.1, "{near:?} {far:?}");
        let middle = axes.at((10.0, 35.0));
        assert!(
            (middle.0 - f64::midpoint(near.0, far.0)).abs() < 1e-9,
            "the rate axis is logarithmic"
        );
    }

    #[test]
    fn a_plot_names_every_codec_and_stays_inside_its_margins() {
        let curves = Curves {
            clip: "a <b> & c".to_owned(),
            frames: [0, 10],
            fps: 25,
            points: vec![
                point("ours", 0.5, 33.0),
                point("x265", 20.0, 28.0),
                point("x265", 90.0, 34.0),
            ],
            missing: Vec::new(),
        };
        let svg = plot(&curves, 256);
        assert!(svg.contains(">ours<") && svg.contains(">x265<") && svg.contains("&lt;b> &amp; c"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        for number in svg.split("cx=\"").skip(1) {
            let x: f64 = number.split('"').next().unwrap().parse().unwrap();
            assert!((MARGIN[0]..=WIDTH - MARGIN[2]).contains(&x), "{x}");
        }
        assert_eq!(rates_between([-0.4, 1.1]), [0.5, 1.0, 2.0, 5.0, 10.0]);
    }
}
