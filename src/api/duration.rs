//! Durations as users write them (Gateway API, GEP-2257).

use std::time;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a duration looks like to the API server.
pub(super) const PATTERN: &str = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A length of time such as `90s`, `10m` or `1h30m`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Duration(#[schemars(regex(pattern = PATTERN))] String);

impl Duration {
    /// A text as a length of time.
    ///
    /// # Errors
    /// If it breaks GEP-2257; the message is for whoever wrote it.
    pub fn parse(text: &str) -> Result<time::Duration, String> {
        let parsed = Self(text.to_owned()).get();
        parsed.ok_or_else(|| format!("`{text}` is not a duration; write it like 90s, 10m or 1h30m"))
    }

    /// The text as a length of time; `None` if it breaks GEP-2257, which the API server refuses beforehand.
    pub fn get(&self) -> Option<time::Duration> {
        let mut total = time::Duration::ZERO;
        let mut rest = self.0.as_str();
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| (1..=5).contains(n))?;
            let number: u64 = rest[..digits].parse().ok()?;
            let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
            total += match &rest[digits..unit] {
                "h" => time::Duration::from_secs(number * 3600),
                "m" => time::Duration::from_secs(number * 60),
                "s" => time::Duration::from_secs(number),
                "ms" => time::Duration::from_millis(number),
                _ => return None,
            };
            rest = &rest[unit..];
        }
        Some(total)
    }
}

impl std::str::FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map(|_| Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_as_gep_2257_says() {
        let cases = [
            ("10s", Some(10_000), "one part"),
            ("1h30m", Some(5_400_000), "parts add up"),
            ("500ms", Some(500), "milliseconds are not minutes"),
            ("1m500ms", Some(60_500), "minutes before milliseconds"),
            ("", None, "nothing is not zero"),
            ("10", None, "a number needs its unit"),
            ("s", None, "a unit needs its number"),
            ("100000s", None, "at most five digits a part"),
            ("1.5h", None, "no fractions"),
        ];
        for (text, milliseconds, reason) in cases {
            let read = Duration(text.into()).get();
            assert_eq!(read, milliseconds.map(time::Duration::from_millis), "{text:?}: {reason}");
        }
    }
}
