//! Signing in with e-mail address and password, for servers that refuse access tokens for OAuth apps.
//!
//! The session's cookie is enough. Teable also changes it for a token of ten minutes, but that costs a request every ten minutes
//! for each of which the same session must still be good.

use std::time::Duration;

use http::{HeaderMap, Method, header};
use jiff::{SignedDuration, fmt::rfc2822};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::time::Instant;

use super::{Teable, says};
use crate::registry::{
    Credentials,
    admin_api::words,
    error::{Error, Kind},
    json::body,
    transport::{Authorization, Request, Response},
};

const COOKIE: &str = "auth_session";

/// A session is not used for longer: the server's default is a week, and whoever revokes one should not wait that long.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

impl Teable {
    /// The cookie of a session, of another one than `stale`. One sign-in at a time: whoever waits for it uses what it brings.
    pub(super) async fn ticket(&self, stale: Option<&SecretString>) -> Result<SecretString, Error> {
        let session = self.api.session();
        let mut refusal = session.sign_in.lock().await;
        let known = session.learned().ticket.clone().filter(|(ticket, until)| {
            let other = stale.is_none_or(|stale| stale.expose_secret() != ticket.expose_secret());
            other && *until > Instant::now()
        });
        if let Some((ticket, _)) = known {
            return Ok(ticket);
        }
        if let Some(error) = refusal.of(&self.credentials) {
            session.credentials().refused();
            return Err(error);
        }
        // Before the try: to be slowed down on our own side is no refusal to remember.
        session.pace().await?;
        let outcome = self.sign_in().await.and_then(|(ticket, life)| {
            let again = stale.is_some_and(|stale| stale.expose_secret() == ticket.expose_secret());
            if again { Err(unaccepted()) } else { Ok((ticket, life)) }
        });
        match outcome {
            Ok((ticket, life)) => {
                refusal.forget();
                session.keep_ticket(&self.credentials, ticket.clone(), Instant::now() + life);
                Ok(ticket)
            }
            Err(error) => {
                if error.kind != Kind::Unavailable {
                    refusal.note(&self.credentials, &error);
                }
                Err(error)
            }
        }
    }

    /// A new session was refused like the one before: another one would help no more.
    pub(super) async fn distrust(&self, ticket: &SecretString) {
        let session = self.api.session();
        session.sign_in.lock().await.note(&self.credentials, &unaccepted());
        if let Some((kept, until)) = &mut session.learned().ticket
            && kept.expose_secret() == ticket.expose_secret()
        {
            // Not forgotten: what the server says of it may repeat it, and must not be quoted then.
            *until = Instant::now();
        }
    }

    async fn sign_in(&self) -> Result<(SecretString, Duration), Error> {
        let Credentials::Password { user, password } = &self.credentials else {
            return Err(Error::new(Kind::Unsupported, "an access token needs no sign-in"));
        };
        let form = json!({"email": user, "password": password.expose_secret()});
        let request = Request {
            method: Method::POST,
            url: self.api.url(&["api", "auth", "signin"]),
            authorization: Authorization::None,
            body: body(form.as_object().unwrap_or(&serde_json::Map::new())),
        };
        let reply = self.api.session().send_prepared("sign-in", request).await.map_err(|error| match error.kind {
            // A session more than we know of does no harm.
            Kind::Ambiguous => Error::new(Kind::Unavailable, format!("signing in to Teable: {error}")),
            Kind::Throttled(_) => Error::new(
                error.kind,
                "Teable answered 429 to the sign-in: too many requests, or it has locked the account after failed sign-ins; nobody tries meanwhile",
            ),
            _ => error,
        })?;
        if reply.status.is_success() {
            return cookie(&reply.headers).ok_or_else(|| {
                self.api.unreadable(Kind::Protocol, "the sign-in", &format!("it has set no cookie {COOKIE}"))
            });
        }
        Err(self.sign_in_refused(&reply, password))
    }

    fn sign_in_refused(&self, reply: &Response, password: &SecretString) -> Error {
        self.api.session().credentials().refused();
        let detail = words(reply, &["code", "message"], &[password.expose_secret()]);
        let why = match reply.status.as_u16() {
            400 if says(reply, "code", "invalid_captcha") => {
                "this server demands a captcha at the sign-in, which no operator can solve: use a server without one, or \
                 authentication: Bearer if it accepts access tokens for OAuth apps"
            }
            400 if says(reply, "code", "invalid_credentials") => {
                "e-mail address or password is wrong; check the registry's credentialsSecretRef. Until that changes it is tried \
                 less and less often, so that the account is not locked"
            }
            400..=403 | 422 => "check the registry's credentialsSecretRef",
            _ => return self.api.refusal(reply, "the sign-in", &detail),
        };
        let status = reply.status.as_u16();
        let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
        Error::new(Kind::Unauthorized, format!("Teable refused the sign-in with {status}{detail}: {why}"))
    }
}

fn unaccepted() -> Error {
    let why = "Teable signs us in, but answers 401 to requests in that session: ask whoever runs the server, or what is before it";
    Error::new(Kind::Unauthorized, why)
}

/// The session's cookie, and how long it may be used (RFC 6265 section 4.1.2).
pub(super) fn cookie(headers: &HeaderMap) -> Option<(SecretString, Duration)> {
    let lines = headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut found = lines.filter_map(|line| {
        let mut parts = line.split(';').map(str::trim);
        let pair = parts.next().filter(|pair| {
            pair.split_once('=').is_some_and(|(name, value)| name == COOKIE && !value.is_empty())
        })?;
        let life = life(parts, headers).unwrap_or(LONGEST_LIFE).min(LONGEST_LIFE);
        (!life.is_zero()).then(|| (SecretString::from(pair), life))
    });
    found.next()
}

/// What `Max-Age` says, else `Expires`: by the server's own clock, which may be another than ours.
fn life<'a>(attributes: impl Iterator<Item = &'a str>, headers: &HeaderMap) -> Option<Duration> {
    let (mut max_age, mut expires) = (None, None);
    for (name, value) in attributes.filter_map(|attribute| attribute.split_once('=')) {
        if name.eq_ignore_ascii_case("max-age") {
            max_age = value.parse::<i64>().ok();
        } else if name.eq_ignore_ascii_case("expires") {
            expires = rfc2822::parse(value).ok();
        }
    }
    let by_date = || {
        let now = rfc2822::parse(headers.get(header::DATE)?.to_str().ok()?).ok()?;
        Some(expires?.duration_since(&now))
    };
    let life = max_age.map(SignedDuration::from_secs).or_else(by_date)?;
    Some(Duration::try_from(life).unwrap_or_default())
}
