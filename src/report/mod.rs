//! The report: everything a plan says, on one HTML page that needs nothing else.
//!
//! The page is `page.html` with `style.css` and `charts.js` put in, and one object of data ([`data`]) as JSON. The answer is
//! written into the page as text, everything else is drawn by the script from the data; user strings reach the page as text
//! only, never as markup. A content security policy forbids every request, so nothing of the data can leave the page. Equal
//! input gives equal bytes: nothing of `run.json` is shown.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::plan::Plan;

pub mod composition;
pub mod data;
pub mod words;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("charts.js");

/// How a page of this module begins: such a file may be replaced by a newer one.
pub const BEGIN: &str = "<!doctype html>\n<!-- batchwright report -->\n";

/// What is reported.
pub struct Input<'a> {
    pub plan: &'a Plan,
    /// What a comparison with newer data found; None: it was not compared.
    pub drift: Option<Drift>,
    /// The command that makes the plan again.
    pub command: Option<String>,
}

/// Does the plan still fit the data?
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drift {
    /// "holds", "drifted" or "cannot tell".
    pub verdict: String,
    /// One sentence.
    pub summary: String,
    pub findings: Vec<Finding>,
    pub shares: Vec<Share>,
}

/// One comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    pub name: String,
    /// As of [`Drift`].
    pub verdict: String,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub interval: Option<(f64, f64)>,
    pub formula: String,
    pub message: String,
}

/// The share of a modality, in the plan and now, with the interval that chance explains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Share {
    pub modality: u32,
    pub planned: f64,
    pub now: f64,
    pub interval: (f64, f64),
}

/// The page, below 5 MB whatever the plan's size. Reads the small tables, and the rows of at most 2 048 batches and 10 000
/// shown rows: O(1) in the rows of the plan, about a second.
pub fn render(input: &Input) -> Result<String> {
    let data = data::collect(input)?;
    let title = format!("{} - batchwright report", data.answer().headline);
    let json = serde_json::to_string(&data).expect("plain values");
    let parts: [(&str, String); 5] = [
        ("{{title}}", escape(&title)),
        ("{{style}}", STYLE.into()),
        ("{{answer}}", answer(data.answer())),
        ("{{data}}", inert(&json)),
        ("{{script}}", SCRIPT.into()),
    ];
    // Every part once, in order: what was put in is never searched.
    let mut page = String::from(BEGIN);
    let mut rest = PAGE;
    for (mark, text) in &parts {
        let (before, after) = rest.split_once(mark).expect("page.html has every mark once, in this order");
        page += before;
        page += text;
        rest = after;
    }
    Ok(page + rest)
}

/// The answer as text: it is read where scripts are not allowed, too.
fn answer(answer: &words::Answer) -> String {
    let list = |sentences: &[String]| {
        sentences.iter().map(|s| format!("<li>{}</li>", escape(s))).collect::<Vec<_>>().join("\n")
    };
    format!(
        "<h1>{}</h1>\n<p class=\"sure\">{}</p>\n<div id=\"interval\"></div>\n<div class=\"reasons\">\n<section>\n\
         <h2>Why</h2>\n<ul>\n{}\n</ul>\n</section>\n<section>\n<h2>What the plan does with it</h2>\n<ul>\n{}\n</ul>\n\
         </section>\n</div>",
        escape(&answer.headline),
        escape(&answer.sure),
        list(&answer.why),
        list(&answer.plan),
    )
}

/// Text as HTML text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// JSON that means the same and cannot end or open anything in HTML: these characters occur in its strings only.
fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
    }
    out
}

/// Five significant digits.
fn short(x: f64) -> f64 {
    if x.is_finite() { format!("{x:.4e}").parse().expect("a number was printed") } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_text_stays_text() {
        let text = "</script><script>alert(1)</script><!-- \u{2028} & \"quotes\" 'and' \u{202e}RTL 🦀";
        let json = serde_json::to_string(text).unwrap();
        let inert = inert(&json);
        assert!(!inert.contains(['<', '>', '&', '\u{2028}']), "{inert}");
        assert_eq!(serde_json::from_str::<String>(&inert).unwrap(), text);
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }

    #[test]
    fn five_digits() {
        assert_eq!(
            [0.0, 1.0, 123456.7, 0.000123456789, -1e-300].map(short),
            [0.0, 1.0, 123460.0, 0.00012346, -1e-300]
        );
        assert!(short(f64::INFINITY).is_nan() && short(f64::NAN).is_nan());
        assert_eq!(serde_json::to_string(&short(f64::NAN)).unwrap(), "null");
    }
}
