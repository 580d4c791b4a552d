//! Numbers of bytes as people write them.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Bytes from text: a number and a unit. B, kB, MB, GB, TB count in thousands; KiB, MiB, GiB, TiB (and K, M, G, T) in
/// 1024s; no unit: bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let expected = || format!("`{text}` is not a size; expected a number and a unit, such as 4GiB or 500MB");
    let number: f64 = number.parse().map_err(|_| expected())?;
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(expected()),
    };
    Ok((number * unit as f64) as u64)
}

/// The same where a setting may also be a number.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => parse_size(&text).map_err(serde::de::Error::custom),
        other => {
            other.as_u64().ok_or_else(|| serde::de::Error::custom("expected bytes, or text such as 4GiB"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4GiB"), Ok(4 << 30));
        assert_eq!(parse_size("1.5 gib"), Ok(3 << 29));
        assert_eq!(parse_size("500MB"), Ok(500_000_000));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert_eq!(parse_size("123"), Ok(123));
        for bad in ["", "GiB", "4 apples", "-1G", "1..2G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
