//! Terms that set a modality apart in the text columns of the fit sample: words that are frequent in its rows and rare in all.
//!
//! A term is a run of letters, digits, marks and `_`, in lower case, of 2 to 40 characters with at least one letter. Scripts that
//! are written without spaces (Han, Kana, Thai, Lao, Khmer, Burmese) have overlapping pairs of characters instead. Mark-up tags,
//! URLs, mail addresses and hexadecimal numbers are left out. There is no stemming and no list of stop words: a term counts if
//! at least 5 rows and 10 % of the modality's have it and if it is 1.5 times as frequent there as in all rows, which stop words
//! are not. Terms stand by f/n ln(1 + A/f_all), f of the modality's n rows and f_all of all A having the term (tf-idf over
//! modalities: Spaerck Jones 1972; of classes: Grootendorst 2022), ties by f, then by bytes; none is a part of an earlier one.
//!
//! Of a cell the first 1 024 bytes are looked at. O(bytes) time; memory O(terms of the sample's rows).

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use rayon::prelude::*;

use crate::kit::ids::NONE;

/// Terms of a modality.
pub const TERMS: usize = 3;
/// Bytes of a cell.
const BYTES: usize = 1024;
/// Characters of a term.
const CHARACTERS: Range<usize> = 2..41;
/// Rows that have a term, their share of the modality's, and how much more frequent it is there.
const ROWS: u32 = 5;
const SHARE: f64 = 0.1;
const LIFT: f64 = 1.5;
/// Terms that are counted at a time; beyond twice as many the rarest are dropped.
const VOCABULARY: usize = 1 << 20;
/// Rows that a thread takes apart at a time.
const TOGETHER: usize = 1024;

/// The terms of every modality that has some, most telling first. `sample`: a table whose text columns are looked at;
/// `modality`: of each of its rows ([`NONE`] to pass over one).
pub fn terms(sample: &RecordBatch, modality: &[u32]) -> BTreeMap<u32, Vec<String>> {
    let is_text = |column: &&_| matches!(Array::data_type(column), DataType::Utf8);
    let columns: Vec<&StringArray> =
        sample.columns().iter().filter(is_text).map(|column| column.as_string::<i32>()).collect();
    let mut vocabulary = Vocabulary::default();
    // (modality, term), once a row.
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    let mut rows: BTreeMap<u32, u32> = BTreeMap::new();
    for (part, modality) in modality.chunks(TOGETHER * rayon::current_num_threads()).enumerate() {
        let first = part * TOGETHER * rayon::current_num_threads();
        let of = |(i, &m): (usize, &u32)| if m == NONE { Vec::new() } else { of_row(&columns, first + i) };
        let found: Vec<Vec<String>> = modality.par_iter().enumerate().map(of).collect();
        for (&m, terms) in modality.iter().zip(found).filter(|(m, _)| **m != NONE) {
            *rows.entry(m).or_default() += 1;
            pairs.extend(terms.into_iter().map(|term| (m, vocabulary.add(term))));
            vocabulary.shrink();
        }
    }
    if rows.len() < 2 {
        return BTreeMap::new();
    }
    pairs.retain(|&(_, term)| vocabulary.rows[term as usize] >= ROWS);
    pairs.par_sort_unstable();
    let all: u32 = rows.values().sum();
    let texts = vocabulary.texts();
    let telling = |of_modality: &[(u32, u32)]| {
        let m = of_modality[0].0;
        let n = f64::from(rows[&m]);
        let mut terms: Vec<(f64, u32, &str)> = Vec::new();
        for run in of_modality.chunk_by(|a, b| a.1 == b.1) {
            let (f, f_all) = (run.len() as u32, vocabulary.rows[run[0].1 as usize]);
            let (share, overall) = (f64::from(f) / n, f64::from(f_all) / f64::from(all));
            if let Some(&text) = texts.get(&run[0].1)
                && f >= ROWS
                && share >= SHARE
                && share >= LIFT * overall
            {
                terms.push((share * libm::log(1.0 + 1.0 / overall), f, text));
            }
        }
        terms.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(b.2)));
        let mut kept: Vec<String> = Vec::new();
        for (_, _, text) in terms {
            if kept.len() < TERMS && !kept.iter().any(|earlier| earlier.contains(text)) {
                kept.push(text.to_string());
            }
        }
        (m, kept)
    };
    let of_modalities = pairs.chunk_by(|a, b| a.0 == b.0);
    of_modalities.map(telling).filter(|(_, terms)| !terms.is_empty()).collect()
}

/// Terms by number, and how many rows have each.
#[derive(Default)]
struct Vocabulary {
    of_text: HashMap<String, u32>,
    /// By number; those of dropped terms stay.
    rows: Vec<u32>,
}

impl Vocabulary {
    fn add(&mut self, text: String) -> u32 {
        let next = self.rows.len() as u32;
        let number = *self.of_text.entry(text).or_insert(next);
        if number == next {
            self.rows.push(0);
        }
        self.rows[number as usize] += 1;
        number
    }

    /// Drops the rarest of too many terms, ties by bytes.
    fn shrink(&mut self) {
        if self.of_text.len() < 2 * VOCABULARY {
            return;
        }
        let mut terms: Vec<(String, u32)> = self.of_text.drain().collect();
        let rows = |term: &(String, u32)| self.rows[term.1 as usize];
        terms.sort_unstable_by(|a, b| rows(b).cmp(&rows(a)).then_with(|| a.0.cmp(&b.0)));
        terms.truncate(VOCABULARY);
        self.of_text = terms.into_iter().collect();
    }

    fn texts(&self) -> HashMap<u32, &str> {
        self.of_text.iter().map(|(text, &number)| (number, text.as_str())).collect()
    }
}

/// The different terms of a row, ascending.
fn of_row(columns: &[&StringArray], row: usize) -> Vec<String> {
    let mut terms = Vec::new();
    for column in columns.iter().filter(|column| !column.is_null(row)) {
        let text = column.value(row);
        of_text(&text[..text.floor_char_boundary(BYTES)], &mut terms);
    }
    terms.sort_unstable();
    terms.dedup();
    terms
}

fn of_text(text: &str, terms: &mut Vec<String>) {
    for piece in untagged(text).split_whitespace().filter(|piece| !is_address(piece)) {
        for run in piece.split(|c| !is_part(c)).filter(|run| !run.is_empty()) {
            // Where one kind of script ends and the other begins.
            let (mut from, mut at) = (0, run.char_indices().peekable());
            while let Some((_, c)) = at.next() {
                let next = at.peek().copied();
                if next.is_none_or(|(_, d)| is_unspaced(d) != is_unspaced(c)) {
                    let to = next.map_or(run.len(), |(to, _)| to);
                    of_run(&run[from..to], is_unspaced(c), terms);
                    from = to;
                }
            }
        }
    }
}

fn of_run(run: &str, unspaced: bool, terms: &mut Vec<String>) {
    if unspaced {
        let characters: Vec<char> = run.chars().collect();
        let pairs = characters.windows(2).filter(|pair| pair.iter().any(|c| c.is_alphabetic()));
        terms.extend(pairs.map(String::from_iter));
        return;
    }
    let word = run.to_lowercase();
    let hex = |digits: &str| digits.chars().all(|c| c.is_ascii_hexdigit());
    let is_hex = word.strip_prefix("0x").is_some_and(hex)
        || hex(&word) && (word.len() >= 8 || word.chars().any(|c| c.is_ascii_digit()));
    let letter = word.chars().any(char::is_alphabetic);
    if letter && !is_hex && CHARACTERS.contains(&word.chars().count()) {
        terms.push(word);
    }
}

/// The text with a space in the place of every mark-up tag.
fn untagged(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        let opens = tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c));
        let end = tag.find('>').filter(|_| opens);
        out.push_str(before);
        out.push(' ');
        rest = &tag[end.unwrap_or(0) + 1..];
    }
    out + rest
}

/// Whether it is a URL or a mail address.
fn is_address(piece: &str) -> bool {
    let domain = piece.split_once('@').map(|(_, domain)| domain);
    piece.contains("://") || piece.starts_with("www.") || domain.is_some_and(|domain| domain.contains('.'))
}

/// Letters, digits, `_` and marks, which no letter is whole without.
fn is_part(c: char) -> bool {
    let mark = matches!(c,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{487}' | '\u{591}'..='\u{5bd}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}'
        | '\u{e31}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}' | '\u{eb1}'..='\u{ebc}' | '\u{ec8}'..='\u{ecd}' | '\u{102b}'..='\u{103e}'
        | '\u{17b4}'..='\u{17d3}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}')
        // Nukta and virama of the scripts of India.
        || ('\u{900}'..='\u{d7f}').contains(&c) && matches!(c as u32 & 0x7f, 0x3c | 0x4d);
    c.is_alphanumeric() || c == '_' || mark
}

/// Whether the character is of a script that is written without spaces.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{ff66}'..='\u{ff9f}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' | '\u{e00}'..='\u{eff}'
        | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{Field, Schema};

    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        of_text(text, &mut terms);
        terms
    }

    #[test]
    fn texts_are_taken_apart() {
        assert_eq!(
            split("The QUICK-brown fox_1, naïve: 42 a x2"),
            ["the", "quick", "brown", "fox_1", "naïve", "x2"]
        );
        assert_eq!(
            split("see https://a.example/path or www.b.example, mail c@d.example now"),
            ["see", "or", "mail", "now"]
        );
        assert_eq!(split("<b class=\"x\">bold</b> 1 < 2 <!-- gone --> kept"), ["bold", "kept"]);
        assert_eq!(split("3f2a 0xdead deadbeef face decade 0x1g"), ["face", "decade", "0x1g"]);
        assert_eq!(split("机器学习 ml模型"), ["机器", "器学", "学习", "ml", "模型"]);
        assert_eq!(split("ไทย"), ["ไท", "ทย"]);
        assert_eq!(split("e\u{301}te\u{301} हिन्दी"), ["e\u{301}te\u{301}", "हिन्दी"]);
        assert_eq!(split(&"x".repeat(41)), [""; 0]);
        assert_eq!(split(&"x".repeat(40)).len(), 1);
    }

    fn table(columns: Vec<Vec<Option<String>>>) -> RecordBatch {
        let fields: Vec<Field> =
            (0..columns.len()).map(|i| Field::new(format!("c{i}"), DataType::Utf8, true)).collect();
        let cells = columns.into_iter().map(|c| Arc::new(StringArray::from(c)) as _).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), cells).unwrap()
    }

    /// The statement of the module, over all terms there are.
    fn naive(texts: &[Vec<String>], modality: &[u32], m: u32) -> Vec<String> {
        let set = |i: usize| texts[i].iter().collect::<std::collections::BTreeSet<_>>();
        let own: Vec<usize> = (0..modality.len()).filter(|&i| modality[i] == m).collect();
        let all: Vec<usize> = (0..modality.len()).filter(|&i| modality[i] != NONE).collect();
        let mut scored: Vec<(f64, usize, String)> = Vec::new();
        for term in all.iter().flat_map(|&i| set(i)).collect::<std::collections::BTreeSet<_>>() {
            let count = |rows: &[usize]| rows.iter().filter(|&&i| set(i).contains(term)).count();
            let (f, f_all) = (count(&own), count(&all));
            let (share, overall) = (f as f64 / own.len() as f64, f_all as f64 / all.len() as f64);
            if f >= 5 && share >= 0.1 && share >= 1.5 * overall {
                scored.push((share * (1.0 + 1.0 / overall).ln(), f, term.clone()));
            }
        }
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
        let mut kept: Vec<String> = Vec::new();
        for (_, _, term) in scored {
            if kept.len() < 3 && !kept.iter().any(|k| k.contains(&term)) {
                kept.push(term);
            }
        }
        kept
    }

    #[test]
    fn terms_are_frequent_there_and_rare_elsewhere() {
        use crate::kit::rng::{key, mix64};
        let words = ["the", "of", "library", "python", "python3", "kernel", "game", "font", "perl", "audio"];
        let modality: Vec<u32> =
            (0..900).map(|i| if i % 97 == 0 { NONE } else { (mix64(i) % 3) as u32 }).collect();
        let text = |i: usize| {
            let likely = |w: usize| match w {
                0 | 1 => 80,
                w if w % 3 == modality[i] as usize % 3 => 45,
                _ => 6,
            };
            let has = |w: &usize| key(7, &[i as u64, *w as u64]) % 100 < likely(*w);
            (0..words.len()).filter(has).map(|w| words[w]).collect::<Vec<_>>().join(" ")
        };
        let texts: Vec<String> = (0..900).map(text).collect();
        let cells = texts.iter().map(|t| (!t.is_empty()).then(|| t.clone())).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| terms(&table(vec![Clone::clone(&cells)]), &modality))
        };
        let found = run(1);
        assert_eq!(found, run(3));
        let apart: Vec<Vec<String>> = texts.iter().map(|t| split(t)).collect();
        for m in 0..3 {
            let expected = naive(&apart, &modality, m);
            assert!(!expected.is_empty() && !expected.contains(&"the".to_string()), "{expected:?}");
            assert_eq!(found[&m], expected);
        }
    }

    #[test]
    fn one_modality_and_rare_terms_have_none() {
        let cells = |n: usize, word: &str| vec![(0..n).map(|_| Some(word.to_string())).collect()];
        assert!(terms(&table(cells(50, "word")), &[0; 50]).is_empty());
        // Four rows are too few, nulls are no text.
        let some = |few: usize| vec![(0..60).map(|i| (i < few).then(|| "word".to_string())).collect()];
        let modality: Vec<u32> = (0..60).map(|i| u32::from(i >= 30)).collect();
        assert!(terms(&table(some(4)), &modality).is_empty());
        assert_eq!(terms(&table(some(5)), &modality), [(0, vec!["word".to_string()])].into());
    }

    #[test]
    fn cells_are_cut_at_a_character() {
        let long = "é".repeat(30) + " " + &"ab ".repeat(400);
        let column = StringArray::from(vec![long]);
        assert_eq!(of_row(&[&column], 0), ["ab", &"é".repeat(30)]);
        let cut = StringArray::from(vec!["a".repeat(1023) + "é"]);
        assert_eq!(of_row(&[&cut], 0), [""; 0]);
    }
}
