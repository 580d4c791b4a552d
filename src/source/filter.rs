//! `--where`: an SQL condition over the columns that are not vectors, evaluated by polars on one part at a time.
//!
//! The condition must judge each row by itself. What looks at other rows (sums, windows, sorting) is refused, because a
//! part is not the dataset. As in SQL, a row is in where the condition is true, not where it is false or null.
//!
//! Parsing and evaluation go as deep as the condition is nested, so its size is limited and both have a stack of their own.
//! Where polars panics, the condition is at fault as far as the user can tell.

use super::Selection;
use super::dataset::Dataset;
use crate::kit::error::{Error, Result};
use crate::parts::Local;

/// The setting that holds the condition.
const KEY: &str = "source.where";

/// The longest condition, in bytes and in operators (keywords, signs and brackets outside of texts).
#[cfg(any(feature = "polars", test))]
const MOST_BYTES: usize = 64 << 10;
#[cfg(any(feature = "polars", test))]
const MOST_OPERATORS: usize = 500;

/// Refuses a condition that is too long to be meant.
#[cfg(any(feature = "polars", test))]
fn check_size(condition: &str) -> Result<()> {
    let help = "compute it beforehand, store it in a column and name that; many values fit one `x IN (..)`";
    let refuse = |reason| Err(Error::config(KEY, reason, help));
    if condition.len() > MOST_BYTES {
        return refuse(format!("is {} bytes long, at most {MOST_BYTES} are read", condition.len()));
    }
    let operators = operators(condition);
    if operators > MOST_OPERATORS {
        return refuse(format!("has {operators} operators and brackets, at most {MOST_OPERATORS} are read"));
    }
    Ok(())
}

#[cfg(any(feature = "polars", test))]
fn operators(condition: &str) -> usize {
    const WORDS: [&str; 14] = [
        "and", "or", "not", "xor", "in", "is", "like", "ilike", "between", "case", "when", "cast", "regexp",
        "rlike",
    ];
    let signs = unquoted(condition).flat_map(str::chars).filter(|c| "=<>!+-*/%|&^~([:".contains(*c)).count();
    signs + words(condition).filter(|word| WORDS.iter().any(|w| w.eq_ignore_ascii_case(word))).count()
}

/// The condition without what is quoted: every other piece between quotes.
#[cfg(any(feature = "polars", test))]
fn unquoted(condition: &str) -> impl Iterator<Item = &str> {
    condition.split('\'').step_by(2).flat_map(|piece| piece.split('"').step_by(2))
}

#[cfg(any(feature = "polars", test))]
fn words(condition: &str) -> impl Iterator<Item = &str> {
    unquoted(condition).flat_map(|piece| piece.split(|c: char| !c.is_alphanumeric() && c != '_'))
}

/// What is wrong with a condition that asks a query, and what to do.
#[cfg(any(feature = "polars", test))]
fn subquery(condition: &str) -> Option<(String, &'static str)> {
    let help = "compute its answer beforehand and write it into the condition";
    words(condition).any(|w| w.eq_ignore_ascii_case("select")).then(|| ("has a subquery".into(), help))
}

/// What polars says of a condition, without the plan of its query, and what to do about it.
#[cfg(any(feature = "polars", test))]
fn explained(condition: &str, said: &str) -> (String, &'static str) {
    let reason = said.split("\n\nResolved plan").next().unwrap_or(said).trim();
    if let Some(found) = subquery(condition) {
        return found;
    }
    let help = if reason.contains("date/datetime/time") {
        "write the other side as a date: date '2024-05-01', or timestamp '2024-05-01 12:00:00'"
    } else {
        "compare columns with values of their own type: texts in single quotes, numbers without"
    };
    (reason.lines().next().unwrap_or("cannot be evaluated").into(), help)
}

#[cfg(not(feature = "polars"))]
impl Dataset {
    /// This build cannot evaluate SQL: always an error.
    pub fn select(&self, _condition: &str, _engine: &Local) -> Result<Selection> {
        Err(without_polars())
    }

    /// Always an error, as [`Dataset::select`].
    pub fn filter_columns(&self, _condition: &str) -> Result<Vec<String>> {
        Err(without_polars())
    }
}

#[cfg(not(feature = "polars"))]
fn without_polars() -> Error {
    Error::config(KEY, "this build cannot evaluate SQL", "build with `--features polars`, or leave it out")
}

#[cfg(feature = "polars")]
impl Dataset {
    /// The rows for which `condition` is true. Reads only the columns it names, by parts. Errors name `source.where`.
    pub fn select(&self, condition: &str, engine: &Local) -> Result<Selection> {
        use crate::parts::parts;
        let expression = with_polars::parse(condition)?;
        let is_text_key = |c: &&super::Column| c.origin == super::Origin::Key && c.kind == super::Kind::Text;
        let named = self.filter_columns(condition)?;
        let keys = named
            .iter()
            .filter_map(|name| self.columns().iter().find(|c| c.name == *name))
            .filter(is_text_key);
        let note: String = keys.map(|c| format!("; `{}` is a {}", c.name, c.stored)).collect();
        let columns = super::columns::Columns::new(self, vec![], named)?;
        let pass = with_polars::Condition { expression, condition, note, rows: self.rows() };
        engine.run("where", &columns, &pass, &parts(self.rows(), super::values::TABLE_WIDTH))
    }

    /// The columns that `condition` names, sorted. Errors name `source.where`.
    pub fn filter_columns(&self, condition: &str) -> Result<Vec<String>> {
        let names = with_polars::columns(&with_polars::parse(condition)?);
        for name in &names {
            let column = self.column(name, KEY).map_err(|error| {
                // In SQL, double quotes are those of names.
                if matches!(error, Error::Input { .. }) || !condition.contains(&format!("\"{name}\"")) {
                    return error;
                }
                let help = format!("texts stand in single quotes: '{name}'; {}", error.help());
                Error::config(KEY, format!("there is no column `{name}`"), help)
            })?;
            if !column.kind.is_plain() {
                let help = "use columns of numbers, texts, booleans or dates";
                return Err(Error::config(
                    KEY,
                    format!("column `{name}` is of type {}, which a condition cannot use", column.stored),
                    help,
                ));
            }
        }
        Ok(names)
    }
}

#[cfg(feature = "polars")]
mod with_polars {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Date32Type, Float64Type, Int64Type};
    use arrow_array::{Array, ArrayRef};
    use arrow_schema::{DataType, TimeUnit as ArrowUnit};
    use polars::prelude::*;

    use super::super::{RawRows, Selection};
    use super::{KEY, check_size, explained, subquery};
    use crate::kit::error::{Error, Result};
    use crate::kit::guard::guarded;
    use crate::parts::Pass;

    /// Names of the columns of an expression, each once, sorted.
    pub fn columns(expression: &Expr) -> Vec<String> {
        let mut names: Vec<String> =
            expression.clone().meta().root_names().into_iter().map(|name| name.to_string()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Of the thread that parses or evaluates.
    const STACK: usize = 64 << 20;

    /// The result of `work`, done on a thread with room for deep recursion; its panic as an error.
    fn with_room<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let failed = |reason: String| {
            let help = "write it more simply, or compute it beforehand and store it in a column";
            Err(Error::config(KEY, format!("cannot be evaluated: {reason}"), help))
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            match thread.spawn_scoped(scope, || guarded(work)).map(|thread| thread.join()) {
                Ok(Ok(Ok(done))) => done,
                Ok(Ok(Err(panic))) => failed(panic),
                Ok(Err(_)) => failed("no reason is known".into()),
                Err(e) => failed(format!("no thread can be started ({e})")),
            }
        })
    }

    pub fn parse(condition: &str) -> Result<Expr> {
        check_size(condition)?;
        with_room(|| parsed(condition))
    }

    fn parsed(condition: &str) -> Result<Expr> {
        let expression = polars::sql::sql_expr(condition).map_err(|e| {
            let help = "write it like SQL's WHERE, for example: split = 'train' AND year >= 2020";
            let other = || (explained(condition, &e.to_string()).0, help);
            let (reason, help) = subquery(condition).unwrap_or_else(other);
            Error::config(KEY, format!("`{condition}` is not an SQL condition: {reason}"), help)
        })?;
        refuse_other_rows(&expression, condition)?;
        Ok(expression)
    }

    fn refuse_other_rows(expression: &Expr, condition: &str) -> Result<()> {
        let of_other_rows = |e: &Expr| match e {
            Expr::Len | Expr::Over { .. } => true,
            // The list of `x IN (1, 2)` is an aggregate too, but of constants.
            Expr::Agg(_)
            | Expr::Sort { .. }
            | Expr::SortBy { .. }
            | Expr::Slice { .. }
            | Expr::Filter { .. }
            | Expr::Gather { .. }
            | Expr::Explode { .. } => !columns(e).is_empty(),
            _ => false,
        };
        if expression.into_iter().any(of_other_rows) {
            let help = "compute it beforehand and store it in a column";
            let (reason, help) =
                subquery(condition).unwrap_or_else(|| ("looks at more than one row at a time".into(), help));
            return Err(Error::config(KEY, format!("`{condition}` {reason}"), help));
        }
        Ok(())
    }

    pub struct Condition<'a> {
        pub expression: Expr,
        pub condition: &'a str,
        /// About keys of folders that are texts, for messages.
        pub note: String,
        pub rows: u64,
    }

    impl Condition<'_> {
        fn error(&self, reason: impl std::fmt::Display) -> Error {
            let (reason, help) = explained(self.condition, &reason.to_string());
            Error::config(KEY, format!("`{}` {reason}{}", self.condition, self.note), help)
        }
    }

    impl Pass for Condition<'_> {
        type Item = RawRows;
        /// Words of the bitmap; parts begin at a multiple of 64 rows.
        type Partial = Vec<u64>;
        type Output = Selection;

        fn partial(&self, item: &RawRows) -> Result<Vec<u64>> {
            with_room(|| self.judge(item))
        }

        fn merge(&self, mut left: Vec<u64>, right: Vec<u64>) -> Vec<u64> {
            left.extend(right);
            left
        }

        fn finish(&self, all: Option<Vec<u64>>) -> Result<Selection> {
            Ok(Selection::from_words(self.rows, all.unwrap_or_default()))
        }
    }

    impl Condition<'_> {
        /// Words of the bitmap.
        fn judge(&self, item: &RawRows) -> Result<Vec<u64>> {
            let rows = item.rows.len();
            let mut series = vec![row_number(rows)];
            if let Some(table) = &item.table {
                let fields = table.schema();
                for (field, array) in fields.fields().iter().zip(table.columns()) {
                    let column = column(field.name(), array);
                    series.push(column.map_err(|what| self.error(format!("uses {what}")))?);
                }
            }
            let frame = DataFrame::new(rows, series).map_err(|e| self.error(e))?;
            let result = frame.lazy().select([self.expression.clone().alias(RESULT)]).collect();
            let result = result.map_err(|e| self.error(format!("cannot be evaluated: {e}")))?;
            let result = result.column(RESULT).map_err(|e| self.error(e))?;
            let truth = result
                .bool()
                .map_err(|_| self.error(format!("gives {} and not true or false", result.dtype())))?;
            let mut words = vec![0; rows.div_ceil(64)];
            if truth.len() != rows && truth.len() != 1 {
                return Err(self.error("does not give one answer a row"));
            }
            for i in 0..rows {
                // A condition without columns has one answer for all rows.
                let place = if truth.len() == 1 { 0 } else { i };
                words[i / 64] |= u64::from(truth.get(place) == Some(true)) << (i % 64);
            }
            Ok(words)
        }
    }

    /// Names that no user's column has: of the answer, and of the column that gives the frame its height.
    const RESULT: &str = "batchwright: result";
    const NUMBER: &str = "batchwright: row";

    fn row_number(rows: usize) -> Column {
        Column::new(NUMBER.into(), (0..rows as u64).collect::<Vec<_>>())
    }

    /// Of the types that [`Columns`](super::super::Columns) reads.
    fn column(name: &str, array: &ArrayRef) -> std::result::Result<Column, String> {
        use arrow_array::types::UInt64Type;
        let told = name;
        let name: PlSmallStr = name.into();
        Ok(match array.data_type() {
            // Signed, so that differences may be negative.
            DataType::UInt64 => {
                let signed = |x: u64| {
                    i64::try_from(x)
                        .map_err(|_| format!("`{told}`, which has {x}: beyond 64 bits with a sign"))
                };
                let cells = array.as_primitive::<UInt64Type>().iter().map(|x| x.map(signed).transpose());
                Column::new(name, cells.collect::<std::result::Result<Vec<Option<i64>>, String>>()?)
            }
            DataType::Decimal128(..) | DataType::Decimal256(..) => {
                let numbers = super::super::numbers(array).expect("a decimal is a number");
                Column::new(name, numbers.iter().collect::<Vec<_>>())
            }
            DataType::Int64 => {
                Column::new(name, array.as_primitive::<Int64Type>().iter().collect::<Vec<_>>())
            }
            DataType::Float64 => {
                Column::new(name, array.as_primitive::<Float64Type>().iter().collect::<Vec<_>>())
            }
            DataType::Boolean => Column::new(name, array.as_boolean().iter().collect::<Vec<_>>()),
            DataType::Date32 => {
                let days: Vec<Option<i32>> = array.as_primitive::<Date32Type>().iter().collect();
                Int32Chunked::from_iter_options(name, days.into_iter()).into_date().into_column()
            }
            DataType::Timestamp(unit, _) => {
                // Polars has no seconds.
                let (factor, unit) = match unit {
                    ArrowUnit::Second => (1000, TimeUnit::Milliseconds),
                    ArrowUnit::Millisecond => (1, TimeUnit::Milliseconds),
                    ArrowUnit::Microsecond => (1, TimeUnit::Microseconds),
                    ArrowUnit::Nanosecond => (1, TimeUnit::Nanoseconds),
                };
                let ticks = arrow_cast::cast(array, &DataType::Int64).expect("a timestamp is an i64");
                let far = || format!("`{told}`, which has a time that milliseconds cannot hold");
                let scaled = |t: i64| t.checked_mul(factor).ok_or_else(far);
                let ticks = ticks.as_primitive::<Int64Type>().iter().map(|t| t.map(scaled).transpose());
                let ticks = ticks.collect::<std::result::Result<Vec<Option<i64>>, String>>()?;
                Int64Chunked::from_iter_options(name, ticks.into_iter())
                    .into_datetime(unit, None)
                    .into_column()
            }
            _ => Column::new(name, array.as_string::<i32>().iter().collect::<Vec<_>>()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_has_a_size() {
        assert_eq!(operators("a = 1 AND b <> 'x = y and z' OR \"c = d\" IN (1, 2)"), 1 + 1 + 2 + 1 + 1 + 1);
        let many = vec!["a = 1"; 251].join(" or ");
        assert!(check_size(&many).unwrap_err().to_string().contains("501 operators"));
        assert!(check_size(&vec!["a = 1"; 250].join(" or ")).is_ok());
        assert!(check_size(&"(".repeat(501)).is_err() && check_size(&"not ".repeat(501)).is_err());
        assert!(check_size(&format!("a in ({}1)", "1, ".repeat(20_000))).is_ok());
        assert!(check_size(&" ".repeat(65_537)).unwrap_err().to_string().contains("65537 bytes"));
    }

    #[test]
    fn conditions_are_explained() {
        let (reason, help) = explained(
            "day > '2020-05-01'",
            "cannot be evaluated: cannot compare 'date/datetime/time' to a string value\n\nResolved plan until failure:\n\n\tDF",
        );
        assert!(!reason.contains("plan") && help.contains("date '"), "{reason} {help}");
        assert_eq!(explained("year in (select 2000)", "").0, "has a subquery");
        assert!(explained("selected = 3", "x").1.contains("single quotes"));
    }
}
