//! Which columns make a row's point.

use super::{Encoder, Params};
use crate::kit::error::{Error, Result};
use crate::source::{Column, Kind};

const KEY: &str = "features.columns";

/// The columns to read for the features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Vector columns: the order of [`RawRows::vectors`](crate::source::RawRows::vectors).
    pub vectors: Vec<String>,
    /// All other feature columns.
    pub table: Vec<String>,
    /// All feature columns in the order of their coordinates. The encoded one is a vector: of 0 numbers until
    /// [`Inputs::encoded_by`] says how many.
    pub order: Vec<(String, Kind)>,
    /// The column that an encoder turns into vectors, one of `vectors`, and what the dataset holds in it.
    pub encode: Option<(String, Kind)>,
}

impl Inputs {
    /// `taken` names the columns that have another role (label, id, strata, those of the row filter): they are never
    /// chosen by default, but may be named. Looks at the schema only, so it fails before any data is read.
    pub fn choose(params: &Params, columns: &[Column], taken: &[&str]) -> Result<Inputs> {
        let mut named = params.columns.clone();
        named.extend(params.encode.iter().filter(|c| !params.columns.contains(c)).cloned());
        let chosen =
            if named.is_empty() { default_columns(columns, taken)? } else { named_columns(&named, columns)? };
        let mut inputs = Inputs::default();
        for column in chosen {
            let mut kind = column.kind.clone();
            if params.encode.as_ref() == Some(&column.name) {
                inputs.encode = Some((column.name.clone(), kind));
                kind = Kind::Vector { dims: 0 };
            }
            let list =
                if matches!(kind, Kind::Vector { .. }) { &mut inputs.vectors } else { &mut inputs.table };
            list.push(column.name.clone());
            inputs.order.push((column.name.clone(), kind));
        }
        Ok(inputs)
    }

    /// The same columns with the encoder that encodes one of them; it and the column must come together, and fit.
    pub fn encoded_by(mut self, encoder: Option<&Encoder>) -> Result<Inputs> {
        match (&self.encode, encoder) {
            (None, None) => {}
            (Some((column, _)), None) => {
                return Err(Error::config(
                    "features.encode",
                    format!("column `{column}` is to be encoded, and there is no encoder"),
                    "name the folder of a model, or an .onnx file, with --encoder",
                ));
            }
            (None, Some(encoder)) => {
                return Err(Error::config(
                    "run.encoder",
                    format!("there is nothing to encode with {}", encoder.name()),
                    "name the column with --encode",
                ));
            }
            (Some((column, kind)), Some(encoder)) => {
                encoder.check_kind(column, kind)?;
                for (_, kind) in self.order.iter_mut().filter(|(name, _)| name == column) {
                    *kind = Kind::Vector { dims: encoder.dims() };
                }
            }
        }
        Ok(self)
    }

    /// Whether this column is the one that is encoded.
    pub fn encodes(&self, name: &str) -> bool {
        self.encode.as_ref().is_some_and(|(column, _)| column == name)
    }

    /// The vector columns that the dataset has as such.
    pub fn stored_vectors(&self) -> impl Iterator<Item = &String> {
        self.vectors.iter().filter(|name| self.encoded_text() != Some(name))
    }

    /// The text column that is encoded; it is read with the table.
    pub fn encoded_text(&self) -> Option<&String> {
        self.encode.as_ref().filter(|(_, kind)| !matches!(kind, Kind::Vector { .. })).map(|(name, _)| name)
    }
}

fn named_columns<'a>(names: &[String], columns: &'a [Column]) -> Result<Vec<&'a Column>> {
    let mut chosen: Vec<&Column> = Vec::new();
    for name in names {
        let column = columns.iter().find(|c| c.name == *name).ok_or_else(|| {
            let all = list(columns.iter());
            Error::config(KEY, format!("there is no column `{name}`"), format!("the dataset has {all}"))
        })?;
        if column.kind == Kind::Other {
            return Err(Error::config(
                KEY,
                format!("column `{name}` is of a type that cannot be a feature"),
                "features are vectors (lists of f16, f32 or f64), numbers, dates, booleans or text",
            ));
        }
        if chosen.iter().any(|c| c.name == *name) {
            return Err(Error::config(KEY, format!("column `{name}` is named twice"), "name it once"));
        }
        chosen.push(column);
    }
    Ok(chosen)
}

/// The one vector column; without any, all numeric columns.
fn default_columns<'a>(columns: &'a [Column], taken: &[&str]) -> Result<Vec<&'a Column>> {
    let free = || columns.iter().filter(|c| !taken.contains(&c.name.as_str()));
    let vectors: Vec<_> = free().filter(|c| matches!(c.kind, Kind::Vector { .. })).collect();
    if vectors.len() > 1 {
        return Err(Error::config(
            KEY,
            format!("there are {} vector columns: {}", vectors.len(), list(vectors.iter().copied())),
            "choose one or more of them with --features",
        ));
    }
    if !vectors.is_empty() {
        return Ok(vectors);
    }
    let numeric: Vec<_> = free().filter(|c| matches!(c.kind, Kind::Integer | Kind::Float)).collect();
    if numeric.is_empty() {
        return Err(Error::config(
            KEY,
            "there is no vector column and no numeric column without another role",
            format!("choose features with --features; the dataset has {}", list(columns.iter())),
        ));
    }
    Ok(numeric)
}

/// "`a`, `b`": at most 20 names.
fn list<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    let names: Vec<String> = columns.map(|c| format!("`{}`", c.name)).collect();
    match names.len() {
        0 => "no columns".into(),
        1..=20 => names.join(", "),
        n => format!("{}, and {} more", names[..20].join(", "), n - 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(of: &[(&str, Kind)]) -> Vec<Column> {
        of.iter().map(|(name, kind)| Column { name: name.to_string(), kind: kind.clone() }).collect()
    }

    fn choose(named: &[&str], of: &[(&str, Kind)], taken: &[&str]) -> Result<Vec<String>> {
        let params = Params { columns: named.iter().map(|s| s.to_string()).collect(), ..Params::default() };
        Ok(Inputs::choose(&params, &columns(of), taken)?.order.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn defaults_and_errors() {
        let v = Kind::Vector { dims: 3 };
        assert_eq!(choose(&[], &[("a", Kind::Float), ("e", v.clone())], &[]).unwrap(), ["e"]);
        let table = [("y", Kind::Integer), ("a", Kind::Float), ("b", Kind::Integer), ("t", Kind::Text)];
        assert_eq!(choose(&[], &table, &["y"]).unwrap(), ["a", "b"]);
        assert_eq!(choose(&["t", "y"], &table, &["y"]).unwrap(), ["t", "y"]);
        let several = choose(&[], &[("e", v.clone()), ("f", v.clone())], &[]).unwrap_err().to_string();
        assert!(several.contains("`e`, `f`"), "{several}");
        assert_eq!(choose(&[], &[("e", v.clone()), ("f", v.clone())], &["f"]).unwrap(), ["e"]);
        for bad in [
            choose(&[], &[("t", Kind::Text), ("y", Kind::Integer)], &["y"]),
            choose(&["x"], &table, &[]),
            choose(&["a", "a"], &table, &[]),
            choose(&["o"], &[("o", Kind::Other)], &[]),
        ] {
            assert_eq!(bad.unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn kinds_are_kept_apart() {
        let of = columns(&[("a", Kind::Float), ("e", Kind::Vector { dims: 2 }), ("t", Kind::Text)]);
        let params = Params { columns: vec!["t".into(), "e".into(), "a".into()], ..Params::default() };
        let inputs = Inputs::choose(&params, &of, &[]).unwrap();
        assert_eq!(
            (inputs.vectors, inputs.table),
            (vec!["e".to_string()], vec!["t".to_string(), "a".into()])
        );
    }
}
