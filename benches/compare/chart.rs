//! Horizontal bars in groups, as SVG.

use std::fmt::Write as _;

/// One bar.
pub(crate) struct Bar {
    pub(crate) label: &'static str,
    pub(crate) value: f64,
    /// A thin line goes on to here.
    pub(crate) to: Option<f64>,
    pub(crate) colour: &'static str,
    pub(crate) faint: bool,
}

/// The picture.
pub(crate) fn chart(title: &str, groups: &[(&str, Vec<Bar>)]) -> String {
    let most = groups
        .iter()
        .flat_map(|(_, bars)| bars)
        .filter(|bar| !bar.faint)
        .map(|bar| bar.to.unwrap_or(bar.value))
        .fold(1.0, f64::max);
    let (mut body, mut y) = (String::new(), 56.0);
    for (name, bars) in groups {
        let _ok = writeln!(
            body,
            "<text x=\"16\" y=\"{y}\" font-weight=\"bold\">{name}</text>"
        );
        y += 8.0;
        for bar in bars {
            draw(&mut body, bar, y, most);
            y += 20.0;
        }
        y += 24.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#1f2933\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"15\">{title}</text>\n{body}</svg>\n"
    )
}

fn draw(body: &mut String, bar: &Bar, y: f64, most: f64) {
    let length = |value: f64| (value / most * BAR).clamp(1.0, BAR);
    let (base, end) = (y + 13.0, length(bar.to.unwrap_or(bar.value)));
    let _ok = writeln!(
        body,
        "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>",
        LEFT - 8.0,
        bar.label
    );
    let _ok = writeln!(
        body,
        "<rect x=\"{LEFT}\" y=\"{}\" width=\"{:.1}\" height=\"13\" fill=\"{}\" opacity=\"{}\"/>",
        y + 3.0,
        length(bar.value),
        bar.colour,
        if bar.faint { 0.35 } else { 1.0 },
    );
    let mut figure = format!("{:.0}", bar.value);
    if let Some(to) = bar.to {
        figure = format!("{:.1} / {to:.1}", bar.value);
        let _ok = writeln!(
            body,
            "<rect x=\"{LEFT}\" y=\"{}\" width=\"{end:.1}\" height=\"3\" fill=\"{}\"/>",
            y + 8.0,
            bar.colour,
        );
    }
    let _ok = writeln!(
        body,
        "<text x=\"{:.1}\" y=\"{base}\">{figure}</text>",
        LEFT + end + 6.0
    );
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 210.0;
const BAR: f64 = 540.0;
