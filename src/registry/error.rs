//! What can go wrong at a registry, named by what happens next.

use std::{fmt, time::Duration};

use thiserror::Error;

/// A failed call. Its text is safe for status, events and logs: it never holds a body or a credential.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{summary}")]
pub struct Error {
    /// What happens next.
    pub kind: Kind,
    /// What happened, to what, and what to do, for people.
    pub summary: String,
}

/// What happens after a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The registry refuses what is declared: nothing to do until the spec or the registry changes.
    Rejected,
    /// The registry does not accept our credentials.
    Unauthorized,
    /// Something else holds the place.
    Conflict,
    /// Too many requests: not before this time has passed.
    Throttled(Duration),
    /// The registry is at an address that is not sent to.
    AddressNotAllowed,
    /// No answer, or none that says anything; the call may be repeated.
    Unavailable,
    /// A registration may or may not have happened.
    Ambiguous,
    /// The registry cannot do this.
    Unsupported,
    /// The client exists, but the registry no longer accepts the token that manages it.
    ManagementLost,
    /// The answer breaks the protocol.
    Protocol,
}

/// When a failed call is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// With growing delays.
    Backoff,
    /// At this time, not sooner.
    After(Duration),
    /// Now and then: somebody has to mend something that the operator does not see.
    Slowly,
    /// When the object or its registry changes.
    OnChange,
}

impl Kind {
    /// When to try again.
    pub fn retry(self) -> Retry {
        match self {
            Self::Unavailable | Self::Ambiguous => Retry::Backoff,
            Self::Throttled(after) => Retry::After(after),
            Self::Unauthorized | Self::AddressNotAllowed | Self::Protocol | Self::ManagementLost => {
                Retry::Slowly
            }
            Self::Rejected | Self::Conflict | Self::Unsupported => Retry::OnChange,
        }
    }

    /// The condition reason, event reason and metric label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Rejected => "Rejected",
            Self::Unauthorized => "Unauthorized",
            Self::Conflict => "Conflict",
            Self::Throttled(_) => "Throttled",
            Self::AddressNotAllowed => "AddressNotAllowed",
            Self::Unavailable => "RegistryUnavailable",
            Self::Ambiguous => "OutcomeUnknown",
            Self::Unsupported => "Unsupported",
            Self::ManagementLost => "ManagementLost",
            Self::Protocol => "RegistryProtocolError",
        }
    }
}

impl Error {
    /// An error with its safe text.
    pub fn new(kind: Kind, summary: impl fmt::Display) -> Self {
        Self { kind, summary: summary.to_string() }
    }
}

/// At most this much of a registry's own words is repeated.
const QUOTED: usize = 200;

/// A registry's own words, made safe to repeat: printable, bounded, and without what we know to be secret.
pub fn quote(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret, "[redacted]");
    }
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(QUOTED).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_are_bounded_printable_and_without_secrets() {
        let cases = [
            ("redirect is bad", "redirect is bad", "plain words stay"),
            ("token s3cr3t is old", "token [redacted] is old", "a known secret goes"),
            ("a\nb\u{1b}[31m", "a b [31m", "no line breaks or terminal escapes"),
        ];
        for (text, expected, reason) in cases {
            assert_eq!(quote(text, &["s3cr3t", ""]), expected, "{reason}");
        }
        assert_eq!(quote(&"x".repeat(5000), &[]).len(), QUOTED, "bounded");
    }
}
