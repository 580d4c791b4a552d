//! The answer in words: how many modalities, how sure, why, and what the plan does with it. Says nothing that
//! docs/algorithms.md does not allow.

use crate::kit::text::percent;
use serde::Serialize;
use serde_json::Value;

use crate::format::Manifest;
use crate::format::manifest::{GainKind, Repeats, SizeSchedule, SplitRows, Splits};
use crate::modalities::{EstimatorSpec, clear};
use crate::plan::locality::Reading;

/// What a person wants to know first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    /// False: the data shows no clear number of modalities.
    pub clear: bool,
    /// False: the number was given, or is that of a column's values.
    pub counted: bool,
    /// "12 modalities", "No clear number of modalities".
    pub headline: String,
    /// One line: the interval and the confidence.
    pub sure: String,
    /// One sentence an entry.
    pub why: Vec<String>,
    /// What the plan does with it, one sentence an entry.
    pub plan: Vec<String>,
}

/// `shares`: of the modalities.
pub fn answer(m: &Manifest, shares: &[f64]) -> Answer {
    let given = !m.config["modalities"]["count"].is_null();
    let counted = !given && EstimatorSpec::named(&m.estimator.name).is_none_or(EstimatorSpec::counts);
    let is_clear = !counted || clear(shares);
    let of_communities = communities(m.modalities, m.estimator.interval, &|key| m.estimator.params.get(key));
    let number = plural(m.modalities.into(), if of_communities.is_some() { "community" } else { "modality" });
    let (low, high) = m.estimator.interval;
    Answer {
        clear: is_clear,
        counted,
        headline: if is_clear { number.clone() } else { "No clear number of modalities".into() },
        sure: match (counted, is_clear) {
            (false, _) if m.estimator.name == "column" => "the values of a column".into(),
            (false, _) => "a given number".into(),
            (true, true) if low < high => {
                format!("likely {low} to {high}, confidence {}", percent(m.estimator.confidence))
            }
            (true, true) => format!("confidence {}", percent(m.estimator.confidence)),
            (true, false) if m.modalities == 1 => "the sample shows one connected cloud of rows".into(),
            (true, false) => format!("{number} found, but one of them holds nearly all rows"),
        },
        why: of_communities.into_iter().flatten().chain(why(m, shares, is_clear, counted)).collect(),
        plan: does(m, is_clear).into_iter().chain(m.splits.as_ref().map(split)).collect(),
    }
}

/// What the plan does with splits, in one sentence.
fn split(told: &Splits) -> String {
    if told.by.ends_with("folds") {
        let rows = |s: &SplitRows| s.rows;
        let least = told.splits.iter().map(rows).min().unwrap_or(0);
        return format!(
            "Rows are in {} of {} rows and more; all are in the batches, but in those without a fold.",
            plural(told.splits.len() as u64, if told.by == "folds" { "fold" } else { "block" }),
            count(least)
        );
    }
    let named: Vec<String> = told.splits.iter().map(|s| format!("{} {}", s.name, count(s.rows))).collect();
    format!("Rows are split: {}; batches are of the first.", named.join(", "))
}

/// A setting or choice of a fit by its name.
pub type Param<'a, 'b> = &'b dyn Fn(&str) -> Option<&'a Value>;

/// What is said of communities, one sentence an entry; None: these are modes, or a number that was given. `param`: of the
/// estimator.
pub fn communities<'a>(m: u32, (low, high): (u32, u32), param: Param<'a, '_>) -> Option<[String; 2]> {
    let number = |key: &str| param(key)?.as_f64();
    number("gamma")?;
    let (rho, chance) = (number("rho")?, number("chance")?);
    let range = if low < high { format!(" ({low} to {high})") } else { String::new() };
    let found = format!(
        "{}{range}: halves of the sample find them again by {}, a cloud without groups by {}.",
        plural(m.into(), "community"),
        percent(rho),
        percent(chance)
    );
    let clear = param("modes_clear").and_then(Value::as_bool).unwrap_or(false);
    let why = match (number("modes"), number("modes_score"), number("score")) {
        (Some(modes), Some(theirs), Some(score)) if clear && modes > 1.0 => {
            format!(
                "They tell more than the {modes} modes of the density (score {score:.2} against {theirs:.2})"
            )
        }
        _ => "There are no valleys of density between them".into(),
    };
    Some([found, format!("{why}: the number is a resolution, not a count.")])
}

fn why(m: &Manifest, shares: &[f64], clear: bool, counted: bool) -> Vec<String> {
    let params = &m.estimator.params;
    let number = |key: &str| params.get(key).and_then(Value::as_f64);
    let groups = if number("gamma").is_some() { "communities" } else { "modes" };
    let mut why = Vec::new();
    if !counted {
        why.push(match m.estimator.name.as_str() {
            "column" => {
                let column = m.config["modalities"]["column"].as_str().unwrap_or_default();
                format!("Every value of the column {column} is one modality; nothing was counted.")
            }
            _ => "k-means put the rows into the number of groups that was asked for; whether the data has that many modes \
                  was not examined."
                .into(),
        });
        return why;
    }
    // Others do not ask for more than halves of one-mode data agree on.
    let halved = ["consensus", "rim", "hdbscan"].contains(&m.estimator.name.as_str());
    let largest = shares.iter().copied().fold(0.0, f64::max);
    match (clear, m.modalities) {
        // Said already.
        (true, _) if groups == "communities" => {}
        (true, _) => {
            if let Some(rho) = number("rho").or(number("rep")) {
                why.push(format!(
                    "Two halves of the sample, each looked at alone, agree on {} of the information in their labels.",
                    percent(rho)
                ));
            }
        }
        (false, 1) if !halved => why.push(format!("The estimator {} finds one modality.", m.estimator.name)),
        (false, 1) => why.push(
            "Halves of the sample, each looked at alone, agree on no division of the rows into dense regions beyond what \
             data with a single mode would show."
                .into(),
        ),
        (false, _) => why.push(format!("One of them holds {} of the rows.", percent(largest))),
    }
    if let Some(blocks) = params.get("blocks").and_then(Value::as_array).filter(|_| clear || m.modalities > 1)
    {
        let counts: Vec<u64> = blocks.iter().filter_map(Value::as_u64).collect();
        let same = counts.windows(2).all(|pair| pair[0] == pair[1]);
        let rows = number("n_s").map_or(String::new(), |n| format!(" of {} rows", count(n as u64)));
        match (counts.as_slice(), same) {
            ([], _) => {}
            ([first, ..], true) if counts.len() > 1 => {
                why.push(format!("All {} looks at the sample{rows} count {first}.", counts.len()));
            }
            ([first], _) => why.push(format!("One block{rows} counts {first}.")),
            _ => {
                let list: Vec<String> = counts.iter().map(u64::to_string).collect();
                why.push(format!("The blocks{rows} count {}.", list.join(", ")));
            }
        }
    }
    if let Some(levels) = number("levels").filter(|n| *n >= 1.0 && clear) {
        why.push(match levels as u64 {
            1 => "One setting explains it best; no other comes within 10 % of it.".into(),
            n if groups == "communities" => {
                format!("{n} resolutions are within 10 % of the best; the coarsest, which claims least, is taken.")
            }
            n => format!("{n} settings are within 10 % of the best; the labelling that agrees most with the others is taken."),
        });
    }
    let resolution = m.config["modalities"]["resolution"].as_u64().unwrap_or(0).min(m.rows);
    why.push(if clear {
        format!("The count is relative to blocks of {} rows: more rows tell finer {groups} apart.", count(resolution))
    } else {
        format!(
            "This is about blocks of {} rows, and no fault of the data: embeddings of text often have no clear modes.",
            count(resolution)
        )
    });
    why
}

/// What is said of stratified batches, where batches are made of neighbours.
pub const NOT_APPLICABLE: &str = "not applicable to batches of neighbouring rows";

/// "4 chunks of 64 neighbouring rows a batch: ..."; `base`: rows of the smallest batch, `distance`: see `run_distance`.
pub fn chunks(chunk: u64, base: u64, distance: f64) -> String {
    format!(
        "{} of {} neighbouring rows in a batch of {}; two rows of a stratum are at {} times the squared distance of any two",
        plural(base / chunk.max(1), "chunk"),
        count(chunk),
        count(base),
        ratio(distance)
    )
}

/// Two digits, of small ones four.
fn ratio(x: f64) -> String {
    if x < 0.1 { format!("{x:.4}") } else { format!("{x:.2}") }
}

/// "4 rows of each of 12 labels in a batch of 48; ..."; `epoch`: its rows, of so many planned.
pub fn labels(rows: u64, base: u64, epoch: u64, planned: u64) -> String {
    format!(
        "{} of each of {} in a batch of {}; an epoch shows {} of {} rows, all of a label in turn",
        plural(rows, "row"),
        plural(base / rows.max(1), "label"),
        count(base),
        count(epoch),
        count(planned)
    )
}

/// Rows that come into a batch together, and the rows of the smallest batch.
fn chunk_of(m: &Manifest) -> (u64, u64) {
    let base = m.candidates.iter().map(|c| u64::from(c.batch_size)).min().unwrap_or(1);
    let rows = |key: &str| m.config["batches"][key].as_u64();
    (rows("rows_per_label").or(rows("chunk")).unwrap_or(1), base)
}

/// The same as [`chunks`] of a plan; None: batches are dealt row by row.
pub fn chunks_of(m: &Manifest) -> Option<String> {
    let (chunk, base) = chunk_of(m);
    m.run_distance.map(|distance| chunks(chunk, base, distance))
}

/// When which batch size holds.
pub fn schedule(s: &SizeSchedule) -> String {
    let sizes = s.sizes.iter().map(|(from, size)| format!("{} from {from}", count((*size).into())));
    let sizes: Vec<String> = sizes.collect();
    let steps = s.steps.iter().sum::<u64>();
    format!("{} of {}: {}", sizes.join(", "), plural(s.train_epochs.into(), "epoch"), plural(steps, "batch"))
}

/// What was done about duplicates; `sizes`: the candidates.
pub fn repeats(r: &Repeats, sizes: &[u64]) -> String {
    let shared = format!("{} shared by {}", plural(r.keys, "value"), plural(r.rows, "row"));
    let least = count(sizes.iter().min().copied().unwrap_or(0));
    match (r.keys, r.batch.max(r.union)) {
        (0, _) => "no two rows share a value".into(),
        (_, 1) => format!("{shared}: no two of a value in a batch"),
        (_, most) => {
            format!("{shared}: up to {} of a value in a batch of {least}, {most} in larger ones", r.batch)
        }
    }
}

/// Splits or folds, one line each, what was set aside, and what groups there are.
pub fn splits(told: &Splits) -> Vec<(String, String)> {
    let all: u64 = told.splits.iter().map(|s| s.rows).sum();
    let one = |s: &SplitRows| {
        let mut text =
            format!("{} {}, {}", s.name, plural(s.rows, "row"), percent(s.rows as f64 / all.max(1) as f64));
        if let Some(wanted) = s.wanted.filter(|&w| w != s.rows) {
            text += &format!(" ({} wanted)", count(wanted));
        }
        if let Some((stratum, off)) = s.worst {
            text += &format!("; stratum {stratum} is {off:+.1} rows off, the others less");
        }
        match s.leaks {
            Some((0, 0)) | None => {}
            Some((leaked, 0)) => {
                text += &format!("; {} in a group of an earlier split", plural(leaked, "row"))
            }
            Some((_, aside)) => {
                text += &format!("; {} set aside, for a later split has their groups", plural(aside, "row"))
            }
        }
        text
    };
    let names = |i: usize| if i == 0 { "splits".to_string() } else { String::new() };
    let mut lines: Vec<(String, String)> =
        told.splits.iter().enumerate().map(|(i, s)| (names(i), one(s))).collect();
    const SHOWN: usize = 10;
    if lines.len() > SHOWN {
        let more = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push((String::new(), format!("and {more} more, in plan.json")));
    }
    if told.aside > 0 {
        lines.push((String::new(), format!("{} in none", plural(told.aside, "row"))));
    }
    if let Some(g) = &told.groups {
        let large = match g.large.len() {
            0 => String::new(),
            n => format!("; {n} of them larger than the smallest split"),
        };
        let text = format!(
            "{} of {}, the largest of {}{large}",
            plural(g.groups, "group"),
            plural(g.rows, "row"),
            count(g.largest)
        );
        lines.push(("  groups".into(), text));
    }
    lines
}

/// What a plan in chunks does.
fn does_in_chunks(m: &Manifest, distance: f64) -> Vec<String> {
    let (chunk, base) = chunk_of(m);
    if let Some(left_out) = m.left_out {
        let by = m.config["strata"]["by"].as_str().unwrap_or_default();
        return vec![
            format!(
                "Every batch of {} rows has {} of each of {} values of {by}; the rows of a value come equally often, within one, over any \
                 number of epochs.",
                count(base),
                plural(chunk, "row"),
                count(base / chunk.max(1))
            ),
            format!(
                "{} with fewer rows, or null, are in no batch ({}).",
                plural(left_out.labels, "value"),
                plural(left_out.rows, "row")
            ),
        ];
    }
    vec![
        if chunk == base {
            format!("Every batch of {} rows is one chunk of neighbouring rows.", count(base))
        } else {
            format!(
                "Every batch of {} rows is made of {} of {} neighbouring rows, from all over the data; each of {} is in it within {} \
                 rows of its share.",
                count(base),
                plural(base / chunk.max(1), "chunk"),
                count(chunk),
                plural(m.strata.into(), "stratum"),
                count(chunk)
            )
        },
        format!(
            "Two rows of a stratum are at {} times the squared distance of any two rows; those of a chunk about so, if it has no more than a \
             fourth of the rows of a stratum.",
            ratio(distance)
        ),
    ]
}

fn does(m: &Manifest, clear: bool) -> Vec<String> {
    if let Some(distance) = m.run_distance {
        return does_in_chunks(m, distance);
    }
    let by = m.config["strata"]["by"].as_str().unwrap_or("modality");
    let skewed = m.config["batches"]["allocation"].as_str().is_some_and(|a| a != "proportional");
    let local = m.config["locality"]["kind"].as_str() == Some("local");
    let share = match (skewed, local) {
        (true, _) => "the share that it was given",
        (_, true) => "its share of the row groups that are read together",
        _ => "its share",
    };
    let mut does = Vec::new();
    let strata = plural(m.strata.into(), "stratum");
    let what = match m.strata == m.modalities {
        true => format!("the {}", plural(m.modalities.into(), "modality")),
        false => format!("{strata}, parts of the modalities,"),
    };
    does.push(match by {
        "modality" if clear => format!(
            "Every batch of {} rows holds each of {what} within one row of {share}.",
            count(m.batch_size.into())
        ),
        "modality" => format!(
            "{strata} of neighbouring rows carry the stratification instead: every batch of {} rows holds each within one \
             row of {share}.",
            count(m.batch_size.into())
        ),
        by => format!(
            "Every batch of {} rows holds each of {strata} (by {by}) within one row of {share}.",
            count(m.batch_size.into())
        ),
    });
    if m.modalities > 1 {
        does.push(format!(
            "{} of the rows have their modality in every batch{} ({:.2} rows a modality).",
            percent(m.coverage),
            if local { " where it has its share of what is read together" } else { "" },
            m.samples_per_modality
        ));
    }
    does.push(match &m.gain {
        Some(g) if g.kind == GainKind::Label => format!(
            "Early in training the gradient's variance is predicted to be {:.2} times that of random batches.",
            g.value
        ),
        Some(g) => format!(
            "Early in training the gradient's variance is at best {:.2} times that of random batches: an optimistic guess, \
             since the plan was made without a label.",
            g.value
        ),
        None => "The effect on the gradient's variance was not predicted.".into(),
    });
    does
}

/// The same as [`reading`] in one sentence.
pub fn read(r: &Reading) -> String {
    format!(
        "Row groups are read one after another, in {} and {}: drift {:.3} (0: as the global order, 1: as random batches), and \
         a stratum misses its share of a batch by at most {:.1} rows.",
        plural(r.streams, "stream"),
        plural(r.evenness.rounds, "round"),
        r.evenness.drift,
        r.evenness.worst
    )
}

/// How batches in the local order are read, a name and a text a line.
pub fn reading(r: &Reading) -> Vec<(String, String)> {
    let e = &r.evenness;
    let line = |name: &str, text: String| (name.to_string(), text);
    let worlds: Vec<String> = r.world_sizes.iter().map(u64::to_string).collect();
    let slices = match e.worst_slice {
        0.0 => String::new(),
        worst => format!(", of the part of a rank or micro step by {worst:.1}"),
    };
    vec![
        line(
            "reading",
            format!(
                "{} of {} of about {}; a unit is read {:.2} times an epoch; {}",
                plural(r.streams, "stream"),
                plural(r.window, "unit"),
                plural(r.unit_rows, "row"),
                e.reads,
                plural(e.rounds, "round"),
            ),
        ),
        line(
            "  evenness",
            format!(
                "drift {:.3} (0: as the global order, 1: as random batches); a stratum misses its share of a batch by at most \
                 {:.1} rows{slices} (epoch 0)",
                e.drift, e.worst
            ),
        ),
        line(
            "  memory",
            format!(
                "{} bytes a row decoded, a round opens {} MiB, one of {} holds about {} MiB",
                count(r.row_bytes),
                count(r.round_bytes.div_ceil(1 << 20)),
                plural(r.world_size, "rank"),
                count(r.rank_bytes.div_ceil(1 << 20)),
            ),
        ),
        line("  world sizes", format!("{} fit", worlds.join(", "))),
    ]
}

/// 1,234,567
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// "1 row", "2 rows", "3 strata"
pub fn plural(n: u64, one: &str) -> String {
    match (n, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{} {stem}ies", count(n)),
        _ if one == "stratum" => format!("{} strata", count(n)),
        _ if one.ends_with("tch") => format!("{} {one}es", count(n)),
        _ => format!("{} {one}s", count(n)),
    }
}
