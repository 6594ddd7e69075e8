//! Gets an access token as an application with its Secret would.

use super::http;
use serde::Deserialize;

/// What a token endpoint said, except for the token.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Token {
    /// Mostly `Bearer`.
    pub token_type: String,
    /// Seconds, or 0 if it did not say.
    #[serde(default)]
    pub expires_in: u64,
}

#[derive(Deserialize)]
struct Discovery {
    token_endpoint: String,
}

/// Finds the issuer's token endpoint and asks there for a token by `client_credentials` with `client_secret_basic`.
///
/// # Errors
///
/// What went wrong, with the server's answer.
pub async fn grant(issuer_url: &str, client_id: &str, client_secret: &str) -> Result<Token, String> {
    let discovery: Discovery = parse(&discover(issuer_url).await?)?;
    // RFC 6749 §2.3.1: both are form-urlencoded before they become user and password.
    let request = http::client()
        .post(discovery.token_endpoint)
        .basic_auth(form_urlencoded(client_id), Some(form_urlencoded(client_secret)))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials");
    parse(&http::text(request).await?)
}

/// RFC 8414's document, or else OpenID Connect's, of an issuer without a path.
async fn discover(issuer_url: &str) -> Result<String, String> {
    let issuer = issuer_url.trim_end_matches('/');
    match http::get(&format!("{issuer}/.well-known/oauth-authorization-server")).await {
        Ok(document) => Ok(document),
        Err(_) => http::get(&format!("{issuer}/.well-known/openid-configuration")).await,
    }
}

fn form_urlencoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::super::{OidcProvider, Peer};
    use super::*;
    use serde_json::json;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_registered_client_gets_a_token_and_another_does_not() {
        let provider = OidcProvider::start().await;
        let client = provider.register(&json!({
            "grant_types": ["client_credentials"], "redirect_uris": [], "response_types": [], "scope": "bookings.read",
        }))
        .await;
        let (id, secret) = (client["client_id"].as_str().unwrap(), client["client_secret"].as_str().unwrap());

        let token = grant(provider.url(), id, secret).await.unwrap();
        assert_eq!(token.token_type, "Bearer");
        assert!(token.expires_in > 0);

        let refusal = grant(provider.url(), id, "wrong").await.unwrap_err();
        assert!(refusal.contains("invalid_client"), "{refusal}");
    }
}
