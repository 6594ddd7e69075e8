//! Looks for secrets where none may be.

use k8s_openapi::ByteString;

/// A shorter one would be found by chance.
const SHORTEST: usize = 8;

/// How much of what surrounds a leak is shown.
const CONTEXT: usize = 60;

/// Asserts that none of `secrets` is anywhere in `haystack`: as it is, percent-encoded, or in base64, also as a part of
/// something longer that was encoded.
///
/// # Panics
///
/// With `place` and what surrounds the secret, but not the secret itself.
pub fn assert_no_secret(haystack: &str, secrets: &[impl AsRef<str>], place: &str) {
    for (index, secret) in secrets.iter().map(AsRef::as_ref).enumerate() {
        assert!(secret.len() >= SHORTEST, "secret {index} is too short to look for");
        for (form, needle) in forms(secret) {
            if let Some(at) = haystack.find(&needle) {
                let before = tail(&haystack[..at]);
                panic!("{place} holds secret {index}, {form}, after …{before}");
            }
        }
    }
}

/// Every form in which a secret shows up somewhere.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let encoded = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let escaped = serde_json::Value::from(secret).to_string();
    let mut forms = vec![
        ("as it is", secret.to_owned()),
        ("percent-encoded", encoded),
        ("as JSON", escaped.trim_matches('"').to_owned()),
    ];
    forms.extend((0..3).map(|offset| ("in base64", base64_within(secret, offset))));
    forms
}

/// What base64 makes of `secret` when `offset` bytes (modulo 3) come before it and anything after it.
fn base64_within(secret: &str, offset: usize) -> String {
    let padded = [&vec![0; offset], secret.as_bytes()].concat();
    let (length, encoded) = (padded.len(), base64(padded));
    // The characters at both ends also hold bits of the neighbours.
    encoded[(offset * 8).div_ceil(6)..length * 8 / 6].to_owned()
}

/// Kubernetes' own form of bytes in JSON is base64.
fn base64(bytes: Vec<u8>) -> String {
    match serde_json::to_value(ByteString(bytes)) {
        Ok(serde_json::Value::String(text)) => text,
        other => unreachable!("{other:?}"),
    }
}

fn tail(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(CONTEXT);
    text.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "CANARY-s3cr+t/\"é";

    fn finds(haystack: &str) -> bool {
        std::panic::catch_unwind(|| assert_no_secret(haystack, &[SECRET], "the log")).is_err()
    }

    #[test]
    fn finds_a_secret_in_every_form() {
        let encoded: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
        assert!(finds(&format!("token={SECRET}&x")), "as it is");
        assert!(finds(&serde_json::json!({ "error": SECRET }).to_string()), "as JSON");
        assert!(finds(&format!("token={encoded}&x")), "percent-encoded");
        for user in ["a", "ab", "abc", "abcd"] {
            for end in ["", "x", "xy", "xyz"] {
                let header = base64(format!("{user}:{SECRET}{end}").into_bytes());
                assert!(
                    finds(&format!("authorization: Basic {header}")),
                    "in base64 behind {user} before {end}"
                );
            }
        }
    }

    #[test]
    fn is_content_with_anything_else() {
        assert!(!finds("token=CANARY-s3cret&x"));
    }

    #[test]
    #[should_panic(expected = "the log holds secret 0, as it is, after …client_secret: ")]
    fn does_not_repeat_the_secret() {
        assert_no_secret("client_secret: CANARY-1234, more", &["CANARY-1234"], "the log");
    }

    #[test]
    #[should_panic(expected = "secret 0 is too short to look for")]
    fn refuses_a_secret_that_is_none() {
        assert_no_secret("anything", &[""], "the log");
    }
}
