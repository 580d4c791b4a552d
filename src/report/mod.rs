//! The report: everything a plan says, on one HTML page that needs nothing else.
//!
//! The page is `page.html` with `style.css` and `charts.js` put in, and one object of data ([`data`]) as JSON. The answer is
//! written into the page as text, everything else is drawn by the script from the data; user strings reach the page as text
//! only, never as markup. A content security policy forbids every request, so nothing of the data can leave the page. Equal
//! input gives equal bytes: nothing of `run.json` is shown.

use serde::{Deserialize, Serialize};

use crate::kit::error::Result;
use crate::kit::text::{self, clean};
use crate::pipeline::check::{Answer, Diagnosis, Finding};
use crate::plan::Plan;

pub mod composition;
pub mod words;
pub mod data;

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

/// Does the plan still fit the data? What `check` found, as far as the page shows it: fields of its JSON output, by the same
/// names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    pub answer: Answer,
    pub plan_id: String,
    /// Rows whose distribution was compared with the plan's.
    #[serde(default)]
    pub compared: u64,
    /// The causes, the most telling first.
    #[serde(default)]
    pub diagnosis: Vec<Diagnosis>,
    #[serde(default)]
    pub findings: Vec<Finding>,
    #[serde(default)]
    pub modalities: Vec<ThenAndNow>,
}

/// The share of a modality in the plan and among the rows that were compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThenAndNow {
    pub modality: u32,
    pub then: f64,
    pub now: f64,
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
    for c in clean(text).chars() {
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

/// JSON that means the same and cannot end or open anything in HTML, nor act on a terminal: these characters occur in its
/// strings only.
fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in text::json(json).chars() {
        match c {
            '<' | '>' | '&' => out += &format!("\\u{:04x}", c as u32),
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
        assert!(!inert.contains(['<', '>', '&', '\u{2028}', '\u{202e}']), "{inert}");
        assert_eq!(serde_json::from_str::<String>(&inert).unwrap(), text);
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }

    fn v1() -> Plan {
        Plan::open(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/plans/v1.1")).unwrap()
    }

    #[test]
    fn equal_plans_give_equal_pages() {
        let page = || {
            let (plan, drift) = (v1(), Drift { plan_id: "</script>".into(), ..Drift::default() });
            let command = Some("batchwright plan '<x>'".into());
            render(&Input { plan: &plan, drift: Some(drift), command }).unwrap()
        };
        let text = page();
        assert_eq!(text, page());
        assert!(text.starts_with(BEGIN) && text.contains("<h1>5 modalities</h1>"));
        assert_eq!(text.matches("</script>").count(), 2, "that of the data and that of the script");
        let data = text.split("id=\"data\">").nth(1).unwrap().split("</script>").next().unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["command"], "batchwright plan '<x>'");
        assert_eq!(data["modality"]["rows"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn planned_batches_keep_to_their_shares_and_random_ones_do_not() {
        let plan = v1();
        let rows: Vec<u64> = plan.modalities().unwrap().iter().map(|m| m.rows).collect();
        let c = composition::compare(&plan, &rows).unwrap();
        assert_eq!((c.size, c.dealt), (u64::from(plan.manifest().batch_size), 1000 / c.size));
        for (h, &expected) in c.strata_expected.iter().enumerate() {
            let (min, max) = (c.strata_min[h] as f64, c.strata_max[h] as f64);
            assert!(
                max - expected < 1.0 && expected - min < 1.0,
                "stratum {h}: {min} to {max}, not {expected}"
            );
        }
        for m in &c.modality {
            assert!(m.min <= m.max && m.low < m.high && (m.low as f64) < m.expected, "{m:?}");
        }
        // By the definition of x, see scores.rs.
        assert!(c.x.0 < 0.2 && (c.x.1 - 1.0).abs() < 0.1, "{:?}", c.x);
        assert!(c.missing.0 == 0.0 && c.missing.1 > 0.0, "{:?}", c.missing);
        let (steps, more) = composition::updates(&plan).unwrap();
        let sum: f64 = steps.iter().filter(|s| s.update == 0).map(|s| s.coefficient).sum();
        assert!(!more && (sum - 1.0).abs() < 1e-3, "{steps:?}");
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
